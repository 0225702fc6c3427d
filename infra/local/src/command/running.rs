//! A client of a stack that runs in another process.

use reqwest::Method;
use serde_json::{Value, json};

/// A running stack at a port of this machine.
pub(crate) struct Running {
    http: reqwest::Client,
    url: String,
    token: String,
}

/// Why a request to a running stack failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunningError {
    #[error("nothing answers at {url}: is `cargo local` running there?")]
    Silent { url: String, source: reqwest::Error },
    #[error("{path} answered {status}: {detail}")]
    Refused { path: String, status: u16, detail: String },
}

impl Running {
    /// Connects to the stack at a port, with a token that may read all workspaces.
    pub async fn at(port: u16) -> Result<Self, RunningError> {
        // The call fails if a provider is already installed, which is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        let url = format!("http://127.0.0.1:{port}");
        let mut running = Self { http: reqwest::Client::new(), url, token: String::new() };
        let order = json!({ "workspace": "*", "scope": "credits:read" });
        let answer = running.ask(Method::POST, "/_local/tokens", Some(&order)).await?;
        answer["token"].as_str().unwrap_or_default().clone_into(&mut running.token);
        Ok(running)
    }

    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, RunningError> {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let silent = |source| RunningError::Silent { url: self.url.clone(), source };
        let response = request.send().await.map_err(silent)?;
        let status = response.status();
        let answer: Value = response.json().await.map_err(silent)?;
        if status.is_success() {
            return Ok(answer);
        }
        let detail = answer["detail"].as_str().or(answer["message"].as_str()).unwrap_or_default().to_owned();
        Err(RunningError::Refused { path: path.to_owned(), status: status.as_u16(), detail })
    }
}
