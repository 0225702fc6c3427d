//! The pages of `cargo local`: the checkout, the payments and the index, and their forms.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use std::collections::BTreeSet;

use credits_local::{Options, Stack};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

/// A stack and a browser that does not follow redirects.
struct Browser {
    stack: Stack,
    http: Client,
}

impl Browser {
    async fn new() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { stack: Stack::start(&Options::default()).await.unwrap(), http }
    }

    async fn page(&self, path: &str) -> String {
        let response = self.http.get(format!("{}{path}", self.stack.url())).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response.text().await.unwrap()
    }

    /// Sends a form from a page of an origin.
    async fn send_from(&self, origin: Option<&str>, path: &str, fields: &[(&str, &str)]) -> Response {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.http.post(format!("{}{path}", self.stack.url())).body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request = match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        };
        request.send().await.unwrap()
    }

    /// Sends a form from the stack's own page. Returns the address of the redirect.
    async fn send(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let response = self.send_from(Some(&self.stack.url()), path, fields).await;
        assert_eq!(response.status(), 303, "{path}");
        response.headers()["location"].to_str().unwrap().to_owned()
    }

    /// Opens a checkout at the stand-in provider. Returns the path of its page.
    async fn checkout(&self, changed: &[(&str, &str)]) -> String {
        let form = CHECKOUT.iter().filter(|(name, _)| changed.iter().all(|(other, _)| other != name));
        let body =
            form_urlencoded::Serializer::new(String::new()).extend_pairs(form).extend_pairs(changed).finish();
        let request = self.http.post(format!("{}/_local/provider/v1/checkout/sessions", self.stack.url()));
        let request =
            request.bearer_auth("sk_local").header("stripe-version", "2026-10-28.endive").body(body);
        let session: Value = request.send().await.unwrap().json().await.unwrap();
        format!("/_local/checkouts/{}", session["id"].as_str().unwrap_or_else(|| panic!("{session}")))
    }

    /// Returns the ids of the payments on the page of payments.
    async fn payments(&self) -> BTreeSet<String> {
        let page = self.page("/_local/payments").await;
        page.split("<code class=\"quiet\">").skip(1).map(|id| id.split('<').next().unwrap().into()).collect()
    }

    async fn create_workspace(&self, id: &str) -> String {
        let fields =
            [("workspace", id), ("name", "Acme & Co"), ("plan", "team"), ("email", "a@acme.example")];
        self.send("/_local/forms/workspace", &fields).await
    }
}

const CHECKOUT: [(&str, &str); 8] = [
    ("mode", "payment"),
    ("success_url", "https://hub.example/ok?session={CHECKOUT_SESSION_ID}"),
    ("cancel_url", "https://hub.example/back"),
    ("customer_creation", "always"),
    ("line_items[0][quantity]", "1"),
    ("line_items[0][price_data][currency]", "eur"),
    ("line_items[0][price_data][unit_amount]", "1000"),
    ("line_items[0][price_data][product_data][name]", "<b>1000</b> AI credits"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_is_paid_once_by_several_tabs() {
    let browser = Browser::new().await;
    let path = browser.checkout(&[]).await;
    let page = browser.page(&path).await;
    for shown in ["Pay €10.00", "&lt;b&gt;1000", "https:&#x2f;&#x2f;hub.example&#x2f;back", "4242 4242"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    let pay = || browser.send(&path, &[("choice", "pay")]);
    let (first, second, third) = tokio::join!(pay(), pay(), pay());
    let id = path.rsplit('/').next().unwrap();
    let success = format!("https://hub.example/ok?session={id}");
    let answered: Vec<_> = [first, second, third].into_iter().filter(|it| *it != path).collect();
    assert_eq!(answered, [success]);
    assert!(browser.page(&path).await.contains("Already paid"));
    assert_eq!(browser.payments().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_is_declined_authenticated_and_taxed() {
    let browser = Browser::new().await;
    let path = browser.checkout(&[("automatic_tax[enabled]", "true")]).await;
    let page = browser.page(&path).await;
    assert!(page.contains("Tax (20 %)") && page.contains("Pay €12.00"), "{page}");
    let declined = browser.send(&path, &[("choice", "decline")]).await;
    assert!(browser.page(&declined).await.contains("Your card was declined"));
    let bank = browser.send(&path, &[("choice", "authenticate")]).await;
    assert!(browser.page(&bank).await.contains("Local Test Bank"));
    let rejected = browser.send(&path, &[("choice", "reject")]).await;
    assert!(browser.page(&rejected).await.contains("did not approve"));
    assert!(browser.payments().await.is_empty());
    browser.send(&path, &[("choice", "approve")]).await;
    assert!(browser.page(&path).await.contains("Already paid"));
    let refused = browser.send_from(Some(&browser.stack.url()), &path, &[("choice", "steal")]).await;
    assert_eq!(refused.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_other_sites_are_refused() {
    let browser = Browser::new().await;
    let path = browser.checkout(&[]).await;
    for origin in [None, Some("null"), Some("https://evil.example")] {
        let sent = [
            browser.send_from(origin, &path, &[("choice", "pay")]).await,
            browser.send_from(origin, "/_local/forms/clock", &[("by", "month")]).await,
            browser.send_from(origin, "/_local/forms/open", &[("workspace", "demo"), ("as", "owner")]).await,
        ];
        for response in sent {
            assert_eq!(response.status(), 403, "{origin:?}");
        }
    }
    assert!(browser.page(&path).await.contains("Pay €10.00"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_creates_and_opens_workspaces() {
    let browser = Browser::new().await;
    assert!(browser.page("/").await.contains("No workspace exists yet."));
    let created = browser.create_workspace("acme").await;
    let page = browser.page(created.split('#').next().unwrap()).await;
    assert!(page.contains("Acme &amp; Co") && page.contains("The workspace acme was created."), "{page}");
    assert!(browser.create_workspace("acme").await.contains("exists%20already"));
    assert!(browser.create_workspace("a b").await.contains("problem="));
    for (opener, status) in [("owner", 201), ("reader", 403)] {
        let fields = [("workspace", "acme"), ("as", opener)];
        let address = browser.send("/_local/forms/open", &fields).await;
        let token = address.strip_prefix("/settings/ai-credits#token=").unwrap();
        let off = json!({ "low_balance": { "enabled": false } });
        let call = (Method::PUT, "/v1/workspaces/acme/alerts");
        let (answered, body) = browser.stack.call(call, token, "-", Some(&off)).await.unwrap();
        assert_eq!(answered, status, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_shows_mails_events_and_moves_the_clock() {
    let browser = Browser::new().await;
    browser.create_workspace("acme").await;
    let token = browser.stack.token("*", "credits:manage").unwrap();
    let (call, pack) = ((Method::POST, "/v1/workspaces/acme/top-ups"), json!({ "pack": "pack_1k" }));
    let (status, top_up) = browser.stack.call(call, &token, "key", Some(&pack)).await.unwrap();
    assert_eq!(status, 201, "{top_up}");
    let path = format!("/_local/checkouts/{}", top_up["checkout_id"].as_str().unwrap());
    assert!(browser.page("/").await.contains(&path));
    let success = browser.send(&path, &[("choice", "pay")]).await;
    assert!(success.contains("/settings/ai-credits") && success.contains("paid"), "{success}");
    let page = browser.page("/").await;
    for shown in ["Receipt: 1000 AI credits", "PaymentReceived", "CreditsAdded", "<strong>1,000</strong>"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    let before = browser.stack.now();
    let moved = browser.send("/_local/forms/clock", &[("by", "day")]).await;
    assert!(moved.starts_with("/?done="), "{moved}");
    // The clock moves by whole milliseconds.
    assert!(browser.stack.now().duration_since(before).as_secs() >= 86_399);
    let payment = browser.payments().await.pop_first().unwrap();
    let fields = [("page", "payments"), ("play", &*format!("refund_half {payment}"))];
    let refunded = browser.send("/_local/forms/payment", &fields).await;
    assert!(refunded.starts_with("/_local/payments?done=Refund%20half"), "{refunded}");
    assert!(browser.page("/").await.contains("<strong>500</strong>"));
    browser.send("/_local/forms/outage", &[("page", "index"), ("step", "start")]).await;
    assert!(browser.page("/").await.contains("Stripe is unreachable"));
    let decide = [("page", "index"), ("workspace", "acme"), ("outcome", "declined")];
    browser.send("/_local/forms/charges", &decide).await;
    assert!(browser.page("/").await.contains("<code>acme</code> declined"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_load_nothing_from_elsewhere() {
    let browser = Browser::new().await;
    let checkout = browser.checkout(&[]).await;
    for path in ["/", "/_local/payments", &checkout] {
        let response = browser.http.get(format!("{}{path}", browser.stack.url())).send().await.unwrap();
        let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
    }
    assert!(browser.page("/_local/pages/local.css").await.contains("color-scheme"));
    assert!(browser.page("/_local/docs/local.md").await.starts_with("# The local stack"));
    for path in ["/_local/pages/none.css", "/_local/docs/..%2FCargo.toml", "/_local/checkouts/cs_none"] {
        let response = browser.http.get(format!("{}{path}", browser.stack.url())).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
}
