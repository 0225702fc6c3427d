//! A chat whose answers are paid with the credits of the asker's workspace. `examples/chat/run axum` starts it.
#![expect(clippy::disallowed_methods, reason = "an example has no settings module and reads the environment")]

use std::env;
use std::sync::Arc;

use ai_credits_client::{BoxError, Call, Client, Consumer, Error, HoldOrder, Used};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The most that an answer may have.
const MAX_OUTPUT_TOKENS: u64 = 1_000;

#[derive(Deserialize)]
struct Question {
    /// Your own session knows it, and the user. This example believes the browser.
    workspace: String,
    user: String,
    message: String,
}

struct Chat {
    credits: Client,
    http: reqwest::Client,
    model_url: String,
    model_key: String,
    model: String,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let chat = Chat {
        credits: Client::new(&env::var("CREDITS_URL")?, env::var("CREDITS_KEY")?)?,
        http: reqwest::Client::new(),
        model_url: format!("{}/chat/completions", env::var("OPENAI_BASE_URL")?),
        model_key: env::var("OPENAI_API_KEY")?,
        model: env::var("CHAT_MODEL").unwrap_or_else(|_| "gpt-6-astra".to_owned()),
    };
    let page = Html(include_str!("../../../examples/chat/index.html"));
    let app = Router::new()
        .route("/", get(move || async move { page }))
        .route("/chat", post(answer))
        .with_state(Arc::new(chat));
    let port = env::var("PORT").unwrap_or_else(|_| "0".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("The chat is at http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

async fn answer(State(chat): State<Arc<Chat>>, question: String) -> Response {
    let Ok(question) = serde_json::from_str::<Question>(&question) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    match chat.ask(&question).await {
        Ok(answer) => {
            let words = stream::unfold(Some(answer), |answer| async {
                let mut answer = answer?;
                match answer.next_words().await.transpose()? {
                    Ok(words) => Some((Ok(words), Some(answer))),
                    Err(error) => Some((Err(error), None)),
                }
            });
            Body::from_stream(words).into_response()
        }
        Err(error) => refusal(error),
    }
}

fn refusal(error: BoxError) -> Response {
    let (status, body) = match error.downcast::<Error>().map(|error| *error) {
        Ok(Error::InsufficientCredits(refusal)) => (
            StatusCode::PAYMENT_REQUIRED,
            json!({ "error": refusal.prompt, "top_up_url": refusal.top_up_url }),
        ),
        Ok(Error::Unavailable(_)) => {
            let error = "AI is not available at the moment. Try again soon.";
            (StatusCode::SERVICE_UNAVAILABLE, json!({ "error": error }))
        }
        _ => (StatusCode::BAD_GATEWAY, json!({ "error": "The model failed. You were not charged." })),
    };
    (status, body.to_string()).into_response()
}

impl Chat {
    /// Holds the credits for the longest answer, and then asks the model.
    async fn ask(&self, question: &Question) -> Result<Answer, BoxError> {
        let Question { workspace, user, message } = question;
        // A token has three bytes or so.
        let input_tokens = u64::try_from(message.len())?.div_ceil(3);
        let order = HoldOrder::of("text.generate", Consumer::action("chat", user))
            .model("standard") // The model of the rate card.
            .unit("input_tokens", input_tokens)
            .unit("output_tokens", MAX_OUTPUT_TOKENS);
        // If the model fails, the call is dropped without usage, which releases the credits.
        let call = self.credits.workspace(workspace).begin(&order).await?;
        let body = json!({
            "model": self.model, "messages": [{ "role": "user", "content": message }],
            "max_completion_tokens": MAX_OUTPUT_TOKENS, "stream": true, "stream_options": { "include_usage": true },
        });
        let request = self.http.post(&self.model_url).bearer_auth(&self.model_key).json(&body);
        let response = request.send().await?.error_for_status()?;
        Ok(Answer { call, response, input_tokens, shown_bytes: 0, unread: Vec::new() })
    }
}

/// A model's answer while it streams. If the reader leaves, it is dropped, which settles the call with what it has recorded.
struct Answer {
    call: Call,
    response: reqwest::Response,
    input_tokens: u64,
    shown_bytes: u64,
    unread: Vec<u8>,
}

impl Answer {
    /// Returns the next words; `None` at the end.
    async fn next_words(&mut self) -> Result<Option<String>, BoxError> {
        loop {
            while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                if let Some(words) = line.strip_prefix(b"data: ").and_then(|event| self.read(event)) {
                    return Ok(Some(words));
                }
            }
            match self.response.chunk().await? {
                Some(chunk) => self.unread.extend(chunk),
                None => return Ok(None),
            }
        }
    }

    /// Records the usage of an event, and returns its words.
    fn read(&mut self, event: &[u8]) -> Option<String> {
        let event: Value = serde_json::from_slice(event).ok()?;
        if let Some(usage) = event.get("usage").filter(|usage| usage.is_object()) {
            self.call.record(units_of(usage));
        }
        let words = event["choices"][0]["delta"]["content"].as_str()?.to_owned();
        self.shown_bytes = self.shown_bytes.saturating_add(u64::try_from(words.len()).ok()?);
        // The usage comes last. Until then, a token has four bytes or so.
        let output_tokens = self.shown_bytes.div_ceil(4);
        let shown = [("input_tokens", self.input_tokens), ("output_tokens", output_tokens)];
        self.call.record(Used::from(shown).estimated());
        Some(words)
    }
}

/// Returns the usage in units, which are exclusive: cached tokens are part of `prompt_tokens`, and those of reasoning
/// part of `completion_tokens`.
fn units_of(usage: &Value) -> [(&'static str, u64); 4] {
    let count = |path: &str| usage.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let cached = count("/prompt_tokens_details/cached_tokens");
    let reasoning = count("/completion_tokens_details/reasoning_tokens");
    [
        ("input_tokens", count("/prompt_tokens").saturating_sub(cached)),
        ("cached_input_tokens", cached),
        ("output_tokens", count("/completion_tokens").saturating_sub(reasoning)),
        ("reasoning_tokens", reasoning),
    ]
}
