//! The file that keeps the memory.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use credits_payments::signature::Secret;
use serde_json::json;

use super::super::{PayerOutcome, ProviderRequest, StripeStandIn};
use super::{Desk, INTENTS, SESSIONS, asked, charge, checkout, header, sources};

/// A temporary folder, deleted when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ai-credits-provider-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn open(&self, at: i64) -> Desk {
        let (sources, clock) = sources();
        clock.0.store(at, Ordering::SeqCst);
        let keys = (Secret::new("sk_test"), Secret::new("whsec"));
        Desk { provider: StripeStandIn::open(Some(&self.0), keys.0, keys.1, sources).unwrap(), clock }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Returns a file of the first format: a paid checkout, an open one, a charge, a decline, and their keys.
fn first_format() -> serde_json::Value {
    let session = |id: &str, payment: &str, customer: serde_json::Value, paid: bool| {
        json!({
            "id": id, "payment_intent": payment, "amount_minor": 1000, "currency": "usd", "product": "1000 AI credits",
            "client_reference_id": "top_1", "metadata": { "workspace_id": "acme", "top_up_id": "top_1" },
            "customer": customer, "paid": paid,
        })
    };
    let intent = |id: &str, succeeded: bool| {
        json!({
            "id": id, "amount_minor": 900, "currency": "usd", "customer": CUSTOMER,
            "metadata": { "workspace_id": "acme", "purchase_id": id }, "succeeded": succeeded, "created": AT,
        })
    };
    let form = json!({ "amount": "900", "currency": "usd" });
    json!({
        "sessions": {
            PAID: session(PAID, "pi_paid", json!(CUSTOMER), true),
            OPEN: session(OPEN, "pi_open", json!(null), false),
        },
        "keys": { "key": [form, "pi_1"], "declined": [form, "pi_2"] , "opened": [{ "mode": "payment" }, OPEN] },
        "intents": { "pi_1": intent("pi_1", true), "pi_2": intent("pi_2", false) },
        "customers": { CUSTOMER: "acme" },
        "outcomes": { "acme": "declined" },
    })
}

/// The second that the first twelve digits of the ids encode.
const AT: i64 = 1_772_000_000;
const PAID: &str = "cs_019c936e38007000800000000000000a";
const OPEN: &str = "cs_019c936e38007000800000000000000b";
const CUSTOMER: &str = "cus_019c936e38007000800000000000000c";
const CARD: &str = "pm_019c936e38007000800000000000000c";

#[test]
fn the_first_format_opens_with_customers_and_payments() {
    let folder = Folder::new("first");
    std::fs::write(folder.0.join("provider.json"), first_format().to_string()).unwrap();
    let mut desk = folder.open(AT + 60);
    assert_eq!(desk.methods(CUSTOMER), [CARD]);
    let paid = desk.get(&format!("{SESSIONS}/{PAID}?expand[]=payment_intent.latest_charge")).body;
    assert_eq!((&paid["status"], &paid["payment_status"]), (&json!("complete"), &json!("paid")));
    assert_eq!(paid["payment_intent"]["latest_charge"]["amount"], 1000);
    assert_eq!(paid["created"], AT);
    let mut made: Vec<_> = desk.provider.payments().into_iter().map(|made| made.payment_id).collect();
    made.sort();
    assert_eq!(made, ["pi_1", "pi_paid"]);
    let declined = desk.post(INTENTS, &charge(CUSTOMER, CARD, &[]));
    assert_eq!(declined.status, 402, "the outcome is still set");
    let delivery = desk.provider.play(OPEN, PayerOutcome::Succeeded).unwrap();
    assert_eq!(delivery.payment_id, "pi_open");
    assert!(
        desk.provider
            .play(PAID, PayerOutcome::Succeeded)
            .unwrap()
            .body
            .contains("checkout.session.completed")
    );
    assert!(desk.provider.refund("pi_1", None, super::super::StripeRefundStatus::Succeeded).is_ok());
}

#[test]
fn keys_of_the_first_format_repeat_their_answers() {
    let folder = Folder::new("keys");
    std::fs::write(folder.0.join("provider.json"), first_format().to_string()).unwrap();
    let mut desk = folder.open(AT + 60);
    let opened = desk.post_with_key("opened", SESSIONS, &vec![("mode".into(), "payment".into())]);
    assert_eq!((opened.status, &opened.body["id"]), (200, &json!(OPEN)));
    assert_eq!(
        (header(&opened, "idempotent-replayed"), opened.body["url"].is_string()),
        (Some("true"), true)
    );
}

#[test]
fn a_restart_forgets_nothing() {
    let folder = Folder::new("restart");
    let (first, id, customer) = {
        let mut desk = folder.open(super::START);
        let first = desk.post_with_key("key", SESSIONS, &checkout(&[]));
        let (customer, _) = desk.customer();
        let id = desk.open(&checkout(&[]));
        desk.provider.play(&id, PayerOutcome::Succeeded).unwrap();
        (first.body, id, customer)
    };
    let mut desk = folder.open(super::START + 60);
    assert_eq!(desk.event_types().last().unwrap(), "payment_intent.succeeded", "the file keeps the outbox");
    assert_eq!(desk.post_with_key("key", SESSIONS, &checkout(&[])).body, first);
    assert_eq!(desk.methods(&customer).len(), 1);
    assert_eq!(desk.provider.session(&id).unwrap().amount_minor, 1000);
    let body = b"";
    assert_eq!(desk.ask(&ProviderRequest { key: Some("key"), ..asked("GET", INTENTS, body) }).status, 200);
    desk.pass(super::DAY);
    assert_eq!(desk.event_types(), ["checkout.session.expired"], "the open session expires");
}
