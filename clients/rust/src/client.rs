//! The client of one deployment.

use std::fmt;
use std::sync::Arc;

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde_json::json;

use crate::api_key::ApiKey;
use crate::error::{BoxError, Error};
use crate::folds::Folds;
use crate::outage::{Outage, OutageHook};
use crate::request::ApiRequest;
use crate::retry::Retry;
use crate::schema::{Catalogue, WorkspaceDetails, WorkspaceProfile};
use crate::workspace::{Workspace, path};

/// A client of one deployment. Clones are cheap and share their connections.
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Deployment>);

/// A deployment, and how it is called.
#[derive(Clone)]
pub(crate) struct Deployment {
    pub(crate) http: reqwest::Client,
    /// The base URL without a slash at its end.
    pub(crate) base: String,
    pub(crate) key: ApiKey,
    pub(crate) retry: Retry,
    pub(crate) hook: OutageHook,
    pub(crate) folds: Arc<Folds>,
}

impl Client {
    /// Creates a client of the deployment at a base URL, which is the stack's output `ApiUrl`.
    ///
    /// It installs rustls' provider `ring`, unless your process has installed another one.
    pub fn new(base: &str, key: impl Into<ApiKey>) -> Result<Self, Error> {
        let url = Url::parse(base).map_err(|_| Error::Base)?;
        if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
            return Err(Error::Base);
        }
        // It fails only if a provider is installed already, and that one works as well.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("ai-credits-rust/", env!("CARGO_PKG_VERSION")))
            .default_headers(HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]));
        let http = http.build().map_err(|error| Error::Unanswered(error.into()))?;
        let base = url.as_str().trim_end_matches('/').to_owned();
        let (key, retry, hook, folds) = (key.into(), Retry::default(), OutageHook::default(), Arc::default());
        Ok(Self(Arc::new(Deployment { http, base, key, retry, hook, folds })))
    }

    /// Returns the client with other timeouts and pauses.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        Arc::make_mut(&mut self.0).retry = retry;
        self
    }

    /// Returns the client with a hook for each POST under a workspace that had no final response.
    ///
    /// The call fails with [`Error::Unavailable`] once the hook has returned, so no AI call follows. The hook may keep the
    /// order, and the application may repeat it later under the same key. An error of the hook is in
    /// [`Unavailable::hook`](crate::Unavailable::hook).
    #[must_use]
    pub fn on_outage<F, D>(mut self, hook: F) -> Self
    where
        F: Fn(Outage) -> D + Send + Sync + 'static,
        D: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        Arc::make_mut(&mut self.0).hook = OutageHook::new(hook);
        self
    }

    /// Returns a client of one workspace.
    #[must_use]
    pub fn workspace(&self, id: &str) -> Workspace {
        Workspace::new(self.clone(), id)
    }

    /// Creates a workspace, or changes its profile. The token must be for all workspaces.
    pub fn put_workspace(&self, id: &str, profile: &WorkspaceProfile) -> ApiRequest<WorkspaceDetails> {
        self.request(Method::PUT, &path(id)).body(json!(profile))
    }

    /// Returns the profile of a workspace.
    pub fn get_workspace(&self, id: &str) -> ApiRequest<WorkspaceDetails> {
        self.request(Method::GET, &path(id))
    }

    /// Returns the prices of everything.
    pub fn get_catalog(&self) -> ApiRequest<Catalogue> {
        self.request(Method::GET, "/v1/catalog")
    }

    /// Makes any call of the API, whose response you type. The path starts with `/v1/`, and its ids are escaped.
    ///
    /// ```no_run
    /// # async fn grant(credits: ai_credits_client::Client) -> Result<(), ai_credits_client::Error> {
    /// use ai_credits_client::Method;
    /// use serde_json::{Value, json};
    ///
    /// let order = json!({ "credits": "250", "kind": "prepaid", "reason": "goodwill" });
    /// let grant: Value = credits.request(Method::POST, "/v1/workspaces/acme/grants").body(order).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn request<T>(&self, method: Method, path: &str) -> ApiRequest<T> {
        ApiRequest::new(self.clone(), method, path.to_owned())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.0.base).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Client;
    use crate::Error;

    #[test]
    fn a_base_is_a_url_of_http_without_a_query() {
        for base in
            ["", "credits.example", "ftp://credits.example", "https://x.example?a", "https://x.example#a"]
        {
            assert!(matches!(Client::new(base, "key"), Err(Error::Base)), "{base}");
        }
        let credits = Client::new("https://credits.example/stage//", "secret").unwrap();
        assert_eq!(format!("{credits:?}"), r#"Client { base: "https://credits.example/stage", .. }"#);
    }
}
