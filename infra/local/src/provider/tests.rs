//! Tests of the stand-in provider.

mod charging;
mod customers;
mod idempotency;
mod opening;
mod paying;
mod recording;
mod refusals;
mod taking_back;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use credits_payments::signature::{Secret, verify};
use credits_store::{Clock, Randomness, Sources};
use jiff::Timestamp;
use serde_json::Value;

use super::{API_VERSION, Answered, Delivery, PayerOutcome, ProviderRequest, StripeStandIn};

const START: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

#[derive(Debug)]
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// A source of random bytes that counts, so that ids of the same second are ordered.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Randomness for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        let count = self.0.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        bytes.fill(0);
        let from = bytes.len().saturating_sub(count.len());
        let skip = count.len().saturating_sub(bytes.len());
        bytes[from..].copy_from_slice(&count[skip..]);
    }
}

/// A provider with a clock that the test moves.
struct Desk {
    provider: StripeStandIn,
    clock: Arc<TestClock>,
}

fn sources() -> (Sources, Arc<TestClock>) {
    let clock = Arc::new(TestClock(AtomicI64::new(START)));
    (Sources::new(Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(Counting::default())), clock)
}

/// A checkout that stores its card.
const CHECKOUT: [(&str, &str); 10] = [
    ("mode", "payment"),
    ("success_url", "https://hub.example/ok"),
    ("client_reference_id", "top_1"),
    ("customer_creation", "always"),
    ("metadata[workspace_id]", "acme"),
    ("payment_intent_data[metadata][workspace_id]", "acme"),
    ("payment_intent_data[setup_future_usage]", "off_session"),
    ("line_items[0][quantity]", "1"),
    ("line_items[0][price_data][currency]", "usd"),
    ("line_items[0][price_data][unit_amount]", "1000"),
];
const NAME: (&str, &str) = ("line_items[0][price_data][product_data][name]", "1000 AI credits");

/// A checkout that stores a method and charges nothing.
const SETUP: [(&str, &str); 4] = [
    ("mode", "setup"),
    ("success_url", "https://hub.example/ok"),
    ("currency", "usd"),
    ("metadata[workspace_id]", "acme"),
];

const SESSIONS: &str = "/v1/checkout/sessions";
const INTENTS: &str = "/v1/payment_intents";
const REFUNDS: &str = "/v1/refunds";

type Pairs = Vec<(String, String)>;

/// Changes a form: `Some` sets a parameter, `None` removes it.
fn form(base: &[(&str, &str)], changes: &[(&str, Option<&str>)]) -> Pairs {
    let is_changed = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
    let kept = base.iter().filter(|(name, _)| !is_changed(name)).map(|(name, value)| (*name, *value));
    let set = changes.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
    kept.chain(set).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn checkout(changes: &[(&str, Option<&str>)]) -> Pairs {
    let base: Vec<_> = CHECKOUT.into_iter().chain([NAME]).collect();
    form(&base, changes)
}

fn charge(customer: &str, method: &str, changes: &[(&str, Option<&str>)]) -> Pairs {
    let base = [
        ("amount", "900"),
        ("currency", "usd"),
        ("customer", customer),
        ("payment_method", method),
        ("off_session", "true"),
        ("confirm", "true"),
        ("error_on_requires_action", "true"),
        ("automatic_payment_methods[enabled]", "true"),
        ("automatic_payment_methods[allow_redirects]", "never"),
        ("metadata[purchase_id]", "sub_1-2-0"),
    ];
    form(&base, changes)
}

fn asked<'a>(method: &'a str, path: &'a str, body: &'a [u8]) -> ProviderRequest<'a> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let (authorization, version) = (Some("Bearer sk_test"), Some(API_VERSION));
    ProviderRequest { method, path, query, authorization, version, key: None, body }
}

fn encoded(form: &Pairs) -> Vec<u8> {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish().into_bytes()
}

impl Desk {
    fn new() -> Self {
        let (sources, clock) = sources();
        let provider =
            StripeStandIn::open(None, Secret::new("sk_test"), Secret::new("whsec"), sources).unwrap();
        Self { provider, clock }
    }

    fn pass(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::SeqCst);
    }

    fn ask(&mut self, asked: &ProviderRequest<'_>) -> Answered {
        self.provider.answer(asked, "https://pay.example")
    }

    fn get(&mut self, path: &str) -> Answered {
        self.ask(&asked("GET", path, b""))
    }

    fn delete(&mut self, path: &str) -> Answered {
        self.ask(&asked("DELETE", path, b""))
    }

    fn post(&mut self, path: &str, form: &Pairs) -> Answered {
        self.ask(&asked("POST", path, &encoded(form)))
    }

    fn post_with_key(&mut self, key: &str, path: &str, form: &Pairs) -> Answered {
        self.ask(&ProviderRequest { key: Some(key), ..asked("POST", path, &encoded(form)) })
    }

    /// Opens a session, and returns its id.
    fn open(&mut self, form: &Pairs) -> String {
        let answered = self.post(SESSIONS, form);
        assert_eq!(answered.status, 200, "{}", answered.body);
        answered.body["id"].as_str().unwrap().to_owned()
    }

    /// Pays a checkout by card, and returns the ids of the customer and the card.
    fn customer(&mut self) -> (String, String) {
        let id = self.open(&checkout(&[]));
        self.provider.play(&id, PayerOutcome::Succeeded).unwrap();
        self.provider.take_outbox();
        let customer = self.get(&format!("{SESSIONS}/{id}")).body["customer"].as_str().unwrap().to_owned();
        let method = self.methods(&customer)[0].clone();
        (customer, method)
    }

    /// Returns the ids of a customer's methods, newest first.
    fn methods(&mut self, customer: &str) -> Vec<String> {
        let list = self.get(&format!("/v1/customers/{customer}/payment_methods")).body;
        let data = list["data"].as_array().unwrap().iter();
        data.map(|method| method["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Takes the waiting events, and returns their types and objects.
    fn events(&mut self) -> Vec<(String, Value)> {
        let now = self.clock.now();
        self.provider.take_outbox().iter().map(|delivery| event(delivery, now)).collect()
    }

    fn event_types(&mut self) -> Vec<String> {
        self.events().into_iter().map(|(kind, _)| kind).collect()
    }
}

/// Checks the signature and the envelope of a delivery, and returns its type and object.
fn event(delivery: &Delivery, now: Timestamp) -> (String, Value) {
    verify(&delivery.signature, delivery.body.as_bytes(), &[Secret::new("whsec")], now).unwrap();
    let event: Value = serde_json::from_str(&delivery.body).unwrap();
    assert_eq!(event["api_version"], API_VERSION);
    assert_eq!((&event["object"], &event["livemode"]), (&"event".into(), &false.into()));
    (event["type"].as_str().unwrap().to_owned(), event["data"]["object"].clone())
}

/// Returns the status, the code and the parameter of an error.
fn error(answered: &Answered) -> (u16, &str, &str) {
    let error = &answered.body["error"];
    let text = |name: &str| error[name].as_str().unwrap_or_default();
    (answered.status, text("code"), text("param"))
}

fn header<'a>(answered: &'a Answered, name: &str) -> Option<&'a str> {
    let mut headers = answered.headers.iter();
    headers.find(|(named, _)| *named == name).map(|(_, value)| value.as_str())
}
