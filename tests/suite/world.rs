//! The local stack that each test starts, and the calls that tests make to it.

use std::fs::OpenOptions;
use std::io::Write as _;

use credits_local::database::TableLocation;
use credits_local::{Options, Stack};
use credits_payments::signature::{Secret, sign};
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::openapi::{self, Exchange};

/// The secret with which a stack verifies events by default.
pub const WEBHOOK_SECRET: &str = "whsec_local";

/// A running stack, with a token for all workspaces and all scopes.
pub struct World {
    pub stack: Stack,
    pub http: reqwest::Client,
    token: String,
}

/// The variable with the address of a DynamoDB that replaces the embedded one (`tests/deploy/elsewhere`).
const DYNAMODB: &str = "AI_CREDITS_DYNAMODB";

fn place() -> TableLocation {
    #[expect(clippy::disallowed_methods, reason = "tests have no `Settings`")]
    std::env::var(DYNAMODB).map_or(TableLocation::Embedded, TableLocation::Elsewhere)
}

/// The variable with the file for the permissions that the tests used. `tests/deploy/privileges.py` reads it.
const PERMISSIONS_USED: &str = "AI_CREDITS_PERMISSIONS_USED";

/// The variable with the file for the requests that the functions sent to Stripe's stand-in. `tests/stripe/judge.js`
/// compares them with Stripe's types.
const STRIPE_REQUESTS: &str = "AI_CREDITS_STRIPE_REQUESTS";

impl Drop for World {
    fn drop(&mut self) {
        append(PERMISSIONS_USED, || {
            self.stack.permissions_used().into_iter().map(|used| json!(used)).collect()
        });
        append(STRIPE_REQUESTS, || {
            self.stack.provider_requests().into_iter().map(|sent| json!(sent)).collect()
        });
    }
}

/// Appends items as JSON lines to the file that an environment variable names. Does nothing if the variable is not set.
fn append(variable: &str, items: impl FnOnce() -> Vec<Value>) {
    #[expect(clippy::disallowed_methods, reason = "tests have no `Settings`")]
    let Some(path) = std::env::var_os(variable) else { return };
    let lines = items().iter().map(|item| item.to_string() + "\n").collect::<String>();
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(lines.as_bytes())).expect("the file can be appended to");
}

/// A response of the API. `replayed` tells whether the header `Idempotent-Replayed` is `true`.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub replayed: bool,
}

impl Answer {
    /// Returns the fields that a 422 names. Panics on any other response.
    pub fn fields(&self) -> Vec<&str> {
        assert_eq!(
            (self.status, self.body["code"].as_str()),
            (422, Some("invalid_request")),
            "{}",
            self.body
        );
        let errors = self.body["errors"].as_array().unwrap().iter();
        errors.map(|error| error["field"].as_str().unwrap()).collect()
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(&Options::default()).await
    }

    pub async fn with(options: &Options) -> Self {
        let options = Options { place: place(), ..options.clone() };
        let stack = Stack::start(&options).await.expect("the stack starts");
        let mut world = Self { stack, http: reqwest::Client::new(), token: String::new() };
        world.token = world.token("*", "credits:spend credits:read credits:manage credits:refund").await;
        world
    }

    /// Starts a stack in which the workspace `acme` has bought `packs` packs of 1,000 credits.
    pub async fn with_packs(packs: usize) -> Self {
        let world = Self::new().await;
        world.put_workspace("acme").await;
        for pack in 0..packs {
            world.buy("acme", "pack_1k", &format!("pack-{pack}")).await;
        }
        world
    }

    pub async fn token(&self, workspace: &str, scope: &str) -> String {
        self.order_token(&json!({ "workspace": workspace, "scope": scope })).await
    }

    pub async fn token_for(&self, workspace: &str, scope: &str, ttl_seconds: i64) -> String {
        self.order_token(&json!({ "workspace": workspace, "scope": scope, "ttl_seconds": ttl_seconds })).await
    }

    async fn order_token(&self, order: &Value) -> String {
        let answer = self.local(Method::POST, "/_local/tokens", Some(order)).await;
        answer["token"].as_str().expect("the response has a token").to_owned()
    }

    /// Calls a path under `/_local` and returns the response's JSON.
    pub async fn local(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let request = self.http.request(method, format!("{}{path}", self.stack.url()));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        request.send().await.expect("the stack responds").json().await.expect("the response is JSON")
    }

    /// Builds a request without token, key and body.
    pub fn bare(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.stack.url()))
    }

    /// Calls the API with the token for all workspaces.
    pub async fn call(&self, method: Method, path: &str, key: Option<&str>, body: Option<&Value>) -> Answer {
        let mut request = self.bare(method, path).bearer_auth(&self.token);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        answer(request).await
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = self.call(Method::GET, path, None, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    pub async fn put_workspace(&self, workspace: &str) -> Answer {
        let body = json!({ "name": "Acme", "plan": "free", "billing_email": "billing@acme.example" });
        self.call(Method::PUT, &format!("/v1/workspaces/{workspace}"), None, Some(&body)).await
    }

    pub async fn debit(&self, workspace: &str, key: &str, body: &Value) -> Answer {
        self.call(Method::POST, &format!("/v1/workspaces/{workspace}/debits"), Some(key), Some(body)).await
    }

    /// Debits an amount that the caller sets, without the rate card.
    pub async fn take(&self, workspace: &str, key: &str, credits: &str) -> Answer {
        self.debit(workspace, key, &taking(credits)).await
    }

    pub async fn open_top_up(&self, workspace: &str, pack: &str, key: &str) -> Answer {
        let path = format!("/v1/workspaces/{workspace}/top-ups");
        self.call(Method::POST, &path, Some(key), Some(&json!({ "pack": pack }))).await
    }

    pub async fn pay(&self, checkout_id: &str, outcome: &str) -> Value {
        let path = format!("/_local/checkouts/{checkout_id}/pay");
        self.local(Method::POST, &path, Some(&json!({ "outcome": outcome }))).await
    }

    /// Buys a pack and returns the top-up, with the `payment_id` of its payment.
    pub async fn buy(&self, workspace: &str, pack: &str, key: &str) -> Value {
        let top_up = self.open_top_up(workspace, pack, key).await;
        assert_eq!(top_up.status, 201, "{}", top_up.body);
        let paid = self.pay(top_up.body["checkout_id"].as_str().unwrap(), "succeeded").await;
        assert_eq!(paid["status"], 200, "{paid}");
        let mut body = top_up.body;
        body["payment_id"] = paid["payment_id"].clone();
        body
    }

    pub async fn balance(&self, workspace: &str) -> Value {
        self.get(&format!("/v1/workspaces/{workspace}/balance")).await
    }

    pub async fn available(&self, workspace: &str) -> String {
        self.balance(workspace).await["available"].as_str().unwrap().to_owned()
    }

    /// Reads every entry of the ledger, newest first.
    pub async fn entries(&self, workspace: &str) -> Vec<Value> {
        let mut entries = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/v1/workspaces/{workspace}/ledger?limit=1000{cursor}")).await;
            entries.extend(page["entries"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return entries,
            }
        }
    }

    /// Checks that the ledger sums to the balance, and returns the kinds of its entries, oldest first.
    pub async fn reconciled(&self, workspace: &str) -> Vec<String> {
        let (balance, entries) = (self.balance(workspace).await, self.entries(workspace).await);
        let sum = micros(entries.iter().map(|entry| &entry["credits"]));
        assert_eq!(sum, micros([&balance["available"], &balance["held"]]), "{balance}");
        entries.iter().rev().map(|entry| entry["kind"].as_str().unwrap().to_owned()).collect()
    }

    /// Sends an event to the webhook, signed as Stripe signs it.
    pub async fn tell(&self, kind: &str, object: &Value) -> Answer {
        self.tell_at(kind, object, Timestamp::now_for_tests()).await
    }

    /// Sends an event that is created and signed at an instant.
    pub async fn tell_at(&self, kind: &str, object: &Value, at: Timestamp) -> Answer {
        let created = at.as_second();
        let event = json!({ "id": "evt_1", "type": kind, "created": created, "data": { "object": object } })
            .to_string();
        let signature = sign(event.as_bytes(), &Secret::new(WEBHOOK_SECRET), at).unwrap();
        self.deliver(event.into_bytes(), Some(&signature)).await
    }

    pub async fn deliver(&self, body: Vec<u8>, signature: Option<&str>) -> Answer {
        let mut request = self.bare(Method::POST, "/v1/webhooks/stripe").body(body);
        if let Some(signature) = signature {
            request = request.header("stripe-signature", signature);
        }
        answer(request).await
    }

    /// Makes a call, and returns its result with the requests that the API's functions sent to DynamoDB meanwhile. Other
    /// functions work in the background, on what was written before, too.
    pub async fn requests_of<T>(&self, call: impl Future<Output = T>) -> (T, Vec<Value>) {
        self.requests_by(&["account", "debit", "topup_webhook"], call).await
    }

    /// Does something, and returns its result with the requests that `project` sent to DynamoDB meanwhile.
    pub async fn requests_of_project<T>(&self, work: impl Future<Output = T>) -> (T, Vec<Value>) {
        self.requests_by(&["project"], work).await
    }

    async fn requests_by<T>(&self, functions: &[&str], work: impl Future<Output = T>) -> (T, Vec<Value>) {
        self.local(Method::DELETE, "/_local/requests", None).await;
        let done = work.await;
        let requests = self.local(Method::GET, "/_local/requests", None).await;
        let is_by = |request: &&Value| functions.iter().any(|function| request["function"] == *function);
        (done, requests.as_array().unwrap().iter().filter(is_by).cloned().collect())
    }
}

/// The system clock, which only tests may read directly.
pub trait NowForTests {
    fn now_for_tests() -> Self;
}

impl NowForTests for Timestamp {
    #[expect(clippy::disallowed_methods, reason = "a test acts as Stripe, which has its own clock")]
    fn now_for_tests() -> Self {
        Self::now()
    }
}

/// Sends a request, and checks the response against `infra/openapi.json`.
pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let (client, request) = request.build_split();
    let request = request.expect("the request is valid");
    let (method, path) = (request.method().to_string(), request.url().path().to_owned());
    let asked = request.body().and_then(|body| serde_json::from_slice(body.as_bytes()?).ok());
    let response = client.execute(request).await.expect("the stack responds");
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let status = response.status();
    let content_type = header("content-type").unwrap_or_default();
    let replayed = header("idempotent-replayed").as_deref() == Some("true");
    let body: Value = response.json().await.unwrap_or_default();
    if status >= StatusCode::BAD_REQUEST && body.get("code").is_some() {
        assert_eq!(content_type, "application/problem+json");
        assert_eq!(body["status"], status.as_u16());
        for member in ["type", "title", "detail"] {
            assert!(body[member].is_string(), "{member} of {body}");
        }
    }
    let (media_type, answered) = (content_type.as_str(), &body);
    let (method, path, status) = (method.as_str(), path.as_str(), status.as_u16());
    openapi::check(&Exchange { method, path, asked, status, media_type, answered });
    Answer { status, body, replayed }
}

pub fn consumer() -> Value {
    json!({ "kind": "action", "feature": "assistant", "user_id": "ada" })
}

pub fn taking(credits: &str) -> Value {
    json!({ "operation": "text.generate", "credits": credits, "consumer": consumer() })
}

/// Returns the sum of decimal texts, in millionths of a credit.
pub fn micros<'a>(credits: impl IntoIterator<Item = &'a Value>) -> i128 {
    let micros = |text: &Value| {
        text.as_str().unwrap().parse::<credits_core::credits::Credits>().unwrap().micros().unwrap()
    };
    credits.into_iter().map(micros).sum()
}
