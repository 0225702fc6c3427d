//! A stack that runs, asked from another terminal.

use reqwest::Method;
use serde_json::{Value, json};

/// A stack at a port of this machine.
pub(crate) struct Running {
    http: reqwest::Client,
    url: String,
    token: String,
}

/// Why a running stack can't be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunningError {
    /// Nothing answers.
    #[error("nothing answers at {url}: is `cargo local` running there?")]
    Silent {
        /// Where.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It refused.
    #[error("{path} answered {status}: {detail}")]
    Refused {
        /// What was asked for.
        path: String,
        /// The status.
        status: u16,
        /// What it said.
        detail: String,
    },
}

impl Running {
    /// The stack at a port, with a token to look at everything.
    pub async fn at(port: u16) -> Result<Self, RunningError> {
        // It fails only where one is installed already, which will do.
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
