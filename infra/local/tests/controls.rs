//! The HTTP controls of the stand-in payment provider.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use credits_local::{Options, Stack};
use reqwest::{Client, Method};
use serde_json::{Value, json};

/// A stack and a client for its controls.
struct Desk {
    stack: Stack,
    http: Client,
}

impl Desk {
    async fn new() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        Self { stack: Stack::start(&Options::default()).await.unwrap(), http: Client::new() }
    }

    /// Calls a control, and returns the status and the body.
    async fn control(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}/_local/{path}", self.stack.url())).json(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Sends a request to Stripe's API, as the application would.
    async fn stripe(&self, method: Method, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let url = format!("{}/_local/provider/v1/{path}", self.stack.url());
        let request = self.http.request(method, url).bearer_auth("sk_local");
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = request.header("stripe-version", "2026-10-28.endive").body(body);
        let response = request.send().await.unwrap();
        assert!(response.headers()["request-id"].to_str().unwrap().starts_with("req_"));
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn open(&self) -> String {
        let (status, session) = self.stripe(Method::POST, "checkout/sessions", &CHECKOUT).await;
        assert_eq!(status, 200, "{session}");
        session["id"].as_str().unwrap().to_owned()
    }
}

const CHECKOUT: [(&str, &str); 7] = [
    ("mode", "payment"),
    ("success_url", "https://hub.example/ok"),
    ("customer_creation", "always"),
    ("line_items[0][quantity]", "1"),
    ("line_items[0][price_data][currency]", "eur"),
    ("line_items[0][price_data][unit_amount]", "1000"),
    ("line_items[0][price_data][product_data][name]", "1000 AI credits"),
];

fn types(body: &Value) -> Vec<&str> {
    body["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_payment_is_settled_refunded_and_disputed() {
    let desk = Desk::new().await;
    let id = desk.open().await;
    let (_, paid) = desk
        .control(&format!("checkouts/{id}/pay"), &json!({ "outcome": "succeeded", "method": "sepa_debit" }))
        .await;
    assert_eq!(paid["status"], 200, "{paid}");
    let payment = paid["payment_id"].as_str().unwrap();
    let (_, settled) =
        desk.control(&format!("payments/{payment}/settle"), &json!({ "outcome": "succeeded" })).await;
    assert_eq!(types(&settled).last(), Some(&"checkout.session.async_payment_succeeded"), "{settled}");
    let order = json!({ "amount": 400, "status": "pending" });
    let (_, refund) = desk.control(&format!("payments/{payment}/refund"), &order).await;
    assert_eq!(types(&refund), ["refund.created", "charge.refunded", "refund.updated"]);
    let refund = format!("refunds/{}", refund["refund_id"].as_str().unwrap());
    let (_, failed) = desk.control(&refund, &json!({ "status": "failed" })).await;
    assert_eq!(types(&failed), ["refund.failed", "refund.updated", "charge.refund.updated"]);
    let (_, dispute) = desk.control(&format!("payments/{payment}/dispute"), &json!({})).await;
    assert_eq!(types(&dispute), ["charge.dispute.created", "charge.dispute.funds_withdrawn"]);
    let dispute = format!("disputes/{}", dispute["dispute_id"].as_str().unwrap());
    let (_, won) = desk.control(&dispute, &json!({ "status": "won" })).await;
    assert_eq!(types(&won), ["charge.dispute.funds_reinstated", "charge.dispute.closed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn controls_refuse_impossible_orders() {
    let desk = Desk::new().await;
    let id = desk.open().await;
    let pay = format!("checkouts/{id}/pay");
    assert_eq!(desk.control(&pay, &json!({ "outcome": "succeeded", "colour": "red" })).await.0, 400);
    let expired = desk.stripe(Method::POST, &format!("checkout/sessions/{id}/expire"), &[]).await;
    assert_eq!((expired.0, &expired.1["status"]), (200, &json!("expired")));
    assert_eq!(desk.control(&pay, &json!({ "outcome": "succeeded" })).await.0, 409);
    assert_eq!(desk.control("checkouts/cs_no/pay", &json!({ "outcome": "succeeded" })).await.0, 404);
    assert_eq!(desk.control("payments/pi_no/settle", &json!({ "outcome": "failed" })).await.0, 404);
    assert_eq!(desk.control("provider/failures", &json!({ "status": 200, "count": 1 })).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn planned_failures_occur_and_requests_are_listed() {
    let desk = Desk::new().await;
    let order = json!({ "path": "checkout/sessions", "status": 429, "count": 1 });
    assert_eq!(desk.control("provider/failures", &order).await.0, 200);
    let (status, limited) = desk.stripe(Method::POST, "checkout/sessions", &CHECKOUT).await;
    assert_eq!((status, &limited["error"]["code"]), (429, &json!("rate_limit")));
    desk.open().await;
    let url = format!("{}/_local/provider/requests", desk.stack.url());
    let listed: Vec<Value> = desk.http.get(url).send().await.unwrap().json().await.unwrap();
    let mut statuses: Vec<u64> = listed.iter().map(|request| request["status"].as_u64().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 429]);
    assert_eq!((&listed[0]["method"], &listed[0]["version"]), (&json!("POST"), &json!("2026-10-28.endive")));
    assert_eq!(listed.len(), desk.stack.provider_requests().len());
}
