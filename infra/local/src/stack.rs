//! The local stack: creates every part and serves them.

use credits_store::error::Chain;
use credits_store::{Clock, Store};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use account::SettingsPage;
use axum::http::Method;
use credits_aws::{Settings, StartError, connection};
use credits_core::catalogue::Catalogue;
use credits_core::seller::Seller;
use credits_core::top_up_page::TopUpPage;
use credits_payments::event::Mode;
use credits_payments::signature::Secret;
use credits_runtime::catalogue;
use credits_runtime::return_url::ReturnOrigins;
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::bus::Bus;
use crate::clock::LocalClock;
use crate::conflicts::Conflicts;
use crate::database::{self, Home, Stream as TableStream, TableLocation};
use crate::functions::{self, Functions, Parts};
use crate::gateway::{Gateway, Request};
use crate::mailbox::Mailbox;
use crate::permissions::Permission;
use crate::provider::{PayerOutcome, RecordedRequest, StripeStandIn};
use crate::stack_error::StackError;
use crate::state::{OPERATOR_KEY, Shared, Worker};
use crate::stream::Stream;
use crate::template::{DEPLOYED, Template};
use crate::tokens::{Issuer, TokenOrder};
use crate::wire::Wire;
use crate::worker::deliver;
use crate::{claims, controls, folder};

/// The functions' API key for the stand-in provider. It differs from the operator's, so that their requests can be told
/// apart.
const PROVIDER_KEY: &str = "sk_local_functions";
/// The secret that signs events if `STRIPE_WEBHOOK_SECRET` is unset.
const WEBHOOK_SECRET: &str = "whsec_local";

/// How often the stack checks whether a schedule is due.
const TICK: std::time::Duration = std::time::Duration::from_secs(1);

/// The settings of a stack.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port of 127.0.0.1 to listen on; 0 picks a free one.
    pub port: u16,
    /// The folder for all data. If absent, data stays in memory.
    pub data: Option<PathBuf>,
    /// The secrets that sign events.
    pub webhook_secret: Secret,
    pub place: TableLocation,
    /// Whether the table has a stream. Without one the stack publishes no events and sends no mails.
    pub stream: TableStream,
    /// A catalogue, as JSON, in place of the deployed one.
    pub catalogue: Option<String>,
    /// A server with Stripe's API, such as Stripe's test mode, in place of the stand-in.
    pub provider: Option<OwnProvider>,
    /// The initial time of a stack without kept data. If absent, the machine's time.
    pub begins_at: Option<Timestamp>,
    /// Whether transactions on one item cancel each other, as in `DynamoDB`.
    pub conflicts: Conflicts,
    /// The settings page, with the origins of the apps that may embed it.
    pub page: SettingsPage,
}

/// A payment provider that replaces the stand-in.
#[derive(Debug, Clone)]
pub struct OwnProvider {
    /// The base address, such as `https://api.stripe.com`.
    pub base: String,
    /// The API key.
    pub key: Secret,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            data: None,
            webhook_secret: Secret::new(WEBHOOK_SECRET),
            place: TableLocation::Embedded,
            stream: TableStream::On,
            catalogue: None,
            provider: None,
            begins_at: None,
            conflicts: Conflicts::Off,
            page: SettingsPage::default(),
        }
    }
}

/// A running stack. Dropping it stops it.
#[derive(Debug)]
pub struct Stack {
    address: SocketAddr,
    server: JoinHandle<()>,
    ticker: JoinHandle<()>,
    shared: Arc<Shared>,
    /// Dropped with the stack, which stops the embedded database.
    home: Home,
}

impl Stack {
    /// Starts every part. Returns once the stack serves.
    pub async fn start(options: &Options) -> Result<Self, StackError> {
        if let Some(folder) = &options.data {
            std::fs::create_dir_all(folder)?;
        }
        let clock = LocalClock::open(options.data.as_deref(), options.begins_at)?;
        let file = options.data.as_ref().map(|folder| folder.join("table.db"));
        let home = Home::open(&options.place, file.as_deref(), &clock.sources())?;
        let client = functions::client(&home.endpoint(), connection::loopback_client());
        database::create_table(&client, home.table(), options.stream).await?;
        let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(shared(options, (&home, clock), address)?);
        if options.data.is_some() {
            let table = (&shared.client, shared.table.as_str());
            claims::end_all(table, shared.gateway.functions.observer(), &shared.mailbox).await?;
        }
        let router = controls::router(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                let error = Chain(&error);
                tracing::error!(%error, "the stack's server ended");
            }
        });
        let ticker = tokio::spawn(tick(Arc::clone(&shared)));
        Ok(Self { address, server, ticker, shared, home })
    }

    /// Returns the base address, such as `http://127.0.0.1:8787`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the port of 127.0.0.1 that the stack listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Issues a token for a workspace, or for all with `*`, with these scopes.
    pub fn token(&self, workspace: &str, scope: &str) -> Result<String, StackError> {
        let (gateway, scope) = (&self.shared.gateway, scope.to_owned());
        let order = TokenOrder { workspace: workspace.to_owned(), scope, ttl_seconds: None };
        gateway.issuer.issue(&order, gateway.sources.now()).ok_or(StackError::Part("token"))
    }

    /// Calls the API as a client would. Returns the status and the body.
    pub async fn call(
        &self,
        (method, path): (Method, &str),
        token: &str,
        key: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), StackError> {
        let request = axum::http::Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body(body.map(|body| body.to_string().into_bytes()).unwrap_or_default());
        let (head, body) = request.map_err(|_| StackError::Part("request"))?.into_parts();
        let request = Request { method: head.method, uri: head.uri, headers: head.headers, body };
        let answer = self.shared.gateway.answer(request).await;
        Ok((answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or_default()))
    }

    /// Plays the payer of a checkout. Returns whether the webhook accepted the event.
    pub async fn pay(&self, checkout_id: &str) -> bool {
        let play =
            |mut provider: MutexGuard<'_, StripeStandIn>| provider.play(checkout_id, PayerOutcome::Succeeded);
        let played = play(self.shared.provider.lock().unwrap_or_else(PoisonError::into_inner));
        match played {
            Some(delivery) => deliver(&self.shared, delivery).await.status().is_success(),
            None => false,
        }
    }

    /// Returns the time of the stack's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Moves the clock ahead to an instant, and fires each schedule with due work on the way.
    pub async fn live_until(&self, instant: Timestamp) -> Result<(), StackError> {
        self.shared.worker.advance(&self.shared, instant).await
    }

    /// Invokes a function as its schedule would. An error is the line that its log would get.
    pub async fn fire(&self, function: &str, input: Value) -> Result<Value, String> {
        self.shared.gateway.functions.fire(function, input).await
    }

    /// Moves the clock to an instant without firing schedules, as if the stack had been down.
    pub fn sleep_until(&self, instant: Timestamp) -> Result<(), StackError> {
        self.shared.worker.skip_until(instant);
        self.shared.clock.move_to(instant)
    }

    /// Returns up to 1,000 records of the table's stream after a position, or from the beginning, in Lambda's form, and
    /// the position after them. Returns `None` after the last record.
    #[must_use]
    pub fn records(&self, place: Option<String>) -> Option<(Vec<Value>, String)> {
        self.shared.stream.from(place, &self.shared.clock)
    }

    /// Returns the name of the table.
    #[must_use]
    pub fn table(&self) -> &str {
        self.home.table()
    }

    /// Returns the AWS permissions that the functions' requests needed so far.
    #[must_use]
    pub fn permissions_used(&self) -> BTreeSet<Permission> {
        self.shared.wire.used()
    }

    /// Returns one example of each kind of request that the functions have sent to the payment provider.
    #[must_use]
    pub fn provider_requests(&self) -> Vec<RecordedRequest> {
        self.shared.provider.lock().unwrap_or_else(PoisonError::into_inner).requests()
    }

    /// Returns a database client whose requests are not counted.
    #[must_use]
    pub fn client(&self) -> aws_sdk_dynamodb::Client {
        self.shared.client.clone()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.server.abort();
        self.ticker.abort();
    }
}

/// Fires schedules as real time passes.
async fn tick(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(TICK).await;
        shared.worker.catch_up(&shared).await;
    }
}

fn shared(
    options: &Options,
    (home, clock): (&Home, Arc<LocalClock>),
    address: SocketAddr,
) -> Result<Shared, StackError> {
    let url = format!("http://{address}");
    let wire = Wire::new(Arc::clone(&clock), options.conflicts);
    let stand_in = || OwnProvider { base: format!("{url}/_local/provider"), key: Secret::new(PROVIDER_KEY) };
    let OwnProvider { base, key: provider_key } = options.provider.clone().unwrap_or_else(stand_in);
    let catalogue = match &options.catalogue {
        Some(json) => Catalogue::parse(json)?,
        None => catalogue::deployed()?,
    };
    let checkout_options = Settings.checkout_options().map_err(StartError::from)?;
    catalogue::check_tax(&catalogue, checkout_options).map_err(StartError::from)?;
    let store = |function: &'static str| {
        // The stack's own requests are not counted.
        let http = if function == "observer" {
            connection::loopback_client()
        } else {
            wire.client(function, connection::loopback_client())
        };
        Store::new(functions::client(&home.endpoint(), http), home.table(), clock.sources())
    };
    let aws_base = format!("{url}/_local");
    let payments = credits_payments::provider::Provider::new(&base);
    let parts = Parts {
        store: &store,
        bus: functions::bus_client(&aws_base),
        mail: functions::mail_client(&aws_base),
        catalogue: Arc::new(catalogue),
        provider: payments.map_err(|_| StackError::Part("provider's client"))?,
        provider_key,
        webhook_secret: options.webhook_secret.clone(),
        top_up_page: TopUpPage::on_origin(&url),
        return_origins: ReturnOrigins::new(Settings.return_origins()),
        checkout_options,
        provider_mode: Mode::Test,
        seller: Some(sample_seller()),
        page: options.page.clone(),
    };
    let template = Template::parse(DEPLOYED)?;
    let bus = Bus::new(template.rules()?, clock.sources());
    let mailbox = Mailbox::open(options.data.as_deref())?;
    let held = options.stream == TableStream::Held;
    let stream = Stream::open(home.embedded(), options.data.as_deref(), held)?;
    let (routes, worker) = (template.routes()?, Worker::new(template.schedules()?, clock.now()));
    let issuer = Issuer::new(issuer_key(options.data.as_deref())?);
    let gateway = Gateway::new(routes, Functions::start(parts)?, issuer, clock.sources());
    let (folder, secret) = (options.data.as_deref(), options.webhook_secret.clone());
    let api_keys = Secret::new(format!("{OPERATOR_KEY} {PROVIDER_KEY}"));
    let provider = StripeStandIn::open(folder, api_keys, secret, clock.sources())?;
    let (provider, client) =
        (Mutex::new(provider), functions::client(&home.endpoint(), connection::loopback_client()));
    Ok(Shared {
        gateway,
        provider,
        worker,
        bus,
        mailbox,
        stream,
        wire,
        clock,
        client,
        table: home.table().to_owned(),
        url,
    })
}

/// Returns the seller that receipts of the local stack name.
fn sample_seller() -> Seller {
    let tax_id = Some("DE123456789".to_owned());
    Seller::new("Example Inc.".to_owned(), "1 Main Street|10115 Berlin|Germany", tax_id)
}

/// Returns the issuer's key. A stack with a folder keeps it there, so that tokens remain valid after a restart.
fn issuer_key(folder: Option<&Path>) -> Result<[u8; 32], StackError> {
    let file = folder.map(|folder| folder.join("issuer.key"));
    let kept = file.as_ref().and_then(|file| std::fs::read(file).ok());
    if let Some(key) = kept.and_then(|kept| kept.try_into().ok()) {
        return Ok(key);
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|_| StackError::Part("issuer's key"))?;
    if let Some(file) = file {
        folder::keep(&file, key)?;
    }
    Ok(key)
}
