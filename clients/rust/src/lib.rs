//! A client of AI Credits for Rust backends.
//!
//! ```no_run
//! use ai_credits_client::{Client, Consumer, DebitOrder, Error};
//!
//! # async fn token() -> String { String::new() }
//! # async fn call_the_model() -> Result<(), Error> {
//! let credits = Client::new("https://credits.example", || std::env::var("CREDITS_TOKEN").unwrap_or_default())?;
//! let order = DebitOrder::of("text.generate", Consumer::action("assistant", "ada"))
//!     .model("standard")
//!     .unit("input_tokens", 1_200)
//!     .unit("output_tokens", 800);
//! match credits.workspace("acme").debit("message-4711", &order).await {
//!     Ok(debit) => println!("it cost {}", debit.body.credits),
//!     Err(Error::InsufficientCredits { prompt, top_up_url, .. }) => println!("{prompt} {top_up_url}"),
//!     Err(error) => return Err(error),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A POST under an idempotency key is carried out once, however many attempts it takes. The client retries it under the
//! same key if no response arrives, or if the status is 429, 500, 502, 503 or 504. Derive the key from the purpose of
//! the call, such as a message or a step of a run: then your own retry after a crash charges nothing twice either. Use
//! [`IdempotencyKey::random`] if nothing identifies the call.

use std::fmt;
use std::sync::Arc;

use reqwest::{Method, Url};
use serde_json::json;

mod bulk;
mod error;
mod holds;
mod key;
mod retry;
mod send;
mod types;

pub use bulk::{BulkJob, BulkReport, RecordError};
pub use error::{Error, FieldError, Problem};
pub use holds::{Capture, Hold, HoldOrder, HoldStatus};
pub use key::IdempotencyKey;
pub use retry::Retry;
pub use types::{
    Allowance, Answered, Balance, Consumer, Debit, DebitOrder, Plan, Price, Quote, Run, RunStatus,
    StartedRun, TopUp, Trigger, WorkspaceProfile,
};

/// A client of one deployment. Clones are cheap and share their connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Arc<dyn Fn() -> String + Send + Sync>,
    retry: Retry,
}

/// A client of one workspace.
#[derive(Debug, Clone)]
pub struct Workspace {
    client: Client,
    id: String,
}

impl Client {
    /// Creates a client of the deployment at a base address, which is the stack's output `ApiUrl`.
    ///
    /// The client calls `token` before each attempt, since tokens are short-lived. It must return a valid token.
    pub fn new(base: &str, token: impl Fn() -> String + Send + Sync + 'static) -> Result<Self, Error> {
        // It fails only if a provider is installed already, and that one works as well.
        drop(rustls::crypto::ring::default_provider().install_default());
        let base = Url::parse(base).ok().filter(|base| !base.cannot_be_a_base()).ok_or(Error::Base)?;
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let http = http.build().map_err(|error| Error::Unanswered(error.without_url()))?;
        Ok(Self { http, base, token: Arc::new(token), retry: Retry::default() })
    }

    /// Returns the client with other timeouts and attempts.
    #[must_use]
    pub fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// Returns a client of one workspace.
    #[must_use]
    pub fn workspace(&self, id: &str) -> Workspace {
        Workspace { client: self.clone(), id: id.to_owned() }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl Workspace {
    /// Creates or updates the workspace. The token must be for all workspaces.
    pub async fn put(&self, profile: &WorkspaceProfile) -> Result<(), Error> {
        self.client
            .send::<serde_json::Value>(Method::PUT, &self.path(&[]), None, Some(json!(profile)))
            .await?;
        Ok(())
    }

    /// Returns the balance.
    pub async fn balance(&self) -> Result<Balance, Error> {
        Ok(self.client.send(Method::GET, &self.path(&["balance"]), None, None).await?.body)
    }

    /// Draws credits for an AI call. If the balance does not cover it, draws nothing and returns
    /// [`Error::InsufficientCredits`].
    pub async fn debit(
        &self,
        key: impl Into<IdempotencyKey>,
        order: &DebitOrder,
    ) -> Result<Answered<Debit>, Error> {
        self.post(&["debits"], key.into(), json!(order)).await
    }

    /// Returns the price of a call, and whether the balance covers it now. Draws nothing.
    pub async fn quote(&self, order: &DebitOrder) -> Result<Quote, Error> {
        Ok(self.client.send(Method::POST, &self.path(&["quotes"]), None, Some(json!(order))).await?.body)
    }

    /// Starts a workflow run, which counts against the plan's monthly runs.
    pub async fn start_run(
        &self,
        key: impl Into<IdempotencyKey>,
        workflow_id: &str,
        trigger: Trigger,
    ) -> Result<Answered<StartedRun>, Error> {
        let order = json!({ "workflow_id": workflow_id, "trigger": trigger });
        self.post(&["runs"], key.into(), order).await
    }

    /// Marks a run succeeded. A debit that is refused for insufficient credits marks its run failed by itself.
    pub async fn complete_run(
        &self,
        key: impl Into<IdempotencyKey>,
        run_id: &str,
    ) -> Result<Answered<Run>, Error> {
        self.post(&["runs", run_id, "complete"], key.into(), json!({})).await
    }

    /// Returns a run.
    pub async fn run(&self, run_id: &str) -> Result<Run, Error> {
        Ok(self.client.send(Method::GET, &self.path(&["runs", run_id]), None, None).await?.body)
    }

    /// Opens a checkout for a pack of the catalogue. A person pays it at its `checkout_url`.
    pub async fn top_up(&self, key: impl Into<IdempotencyKey>, pack: &str) -> Result<Answered<TopUp>, Error> {
        self.post(&["top-ups"], key.into(), json!({ "pack": pack })).await
    }

    async fn post<T: serde::de::DeserializeOwned>(
        &self,
        path: &[&str],
        key: IdempotencyKey,
        body: serde_json::Value,
    ) -> Result<Answered<T>, Error> {
        self.client.send(Method::POST, &self.path(path), Some(&key), Some(body)).await
    }

    fn path<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        ["v1", "workspaces", &self.id].into_iter().chain(rest.iter().copied()).collect()
    }
}
