//! Payments of checkouts.

use credits_payments::signature::Secret;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::{ChargeSettlement, MethodKind, PayerOutcome, Paying, PlayError, StripeStandIn};
use super::{DAY, Desk, SESSIONS, START, checkout, error};

fn played(desk: &mut Desk, id: &str, paying: &Paying) -> (String, Value) {
    let delivery = desk.provider.pay(id, paying).unwrap();
    super::event(&delivery, Timestamp::from_second(START).unwrap())
}

#[test]
fn an_open_session_has_a_page_and_no_payment() {
    let mut desk = Desk::new();
    let id = desk.open(&checkout(&[]));
    let session = desk.get(&format!("{SESSIONS}/{id}")).body;
    assert_eq!((&session["status"], &session["payment_status"]), (&json!("open"), &json!("unpaid")));
    assert_eq!((&session["payment_intent"], &session["customer"]), (&json!(null), &json!(null)));
    assert_eq!(session["url"], format!("https://pay.example/{id}"));
    assert_eq!(session["expires_at"], START + DAY);
}

#[test]
fn a_paid_card_checkout_publishes_payment_charge_and_session() {
    let mut desk = Desk::new();
    let id = desk.open(&checkout(&[]));
    let (kind, session) = played(&mut desk, &id, &Paying::by_card(PayerOutcome::Succeeded));
    assert_eq!(kind, "checkout.session.completed");
    assert_eq!((&session["status"], &session["payment_status"]), (&json!("complete"), &json!("paid")));
    assert_eq!(session["url"], json!(null));
    let events = desk.events();
    let types: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(types, ["customer.created", "charge.succeeded", "payment_intent.succeeded"]);
    let (charge, intent) = (&events[1].1, &events[2].1);
    assert_eq!(
        (&intent["id"], &intent["metadata"]),
        (&session["payment_intent"], &json!({ "workspace_id": "acme" }))
    );
    assert_eq!((&charge["payment_intent"], &intent["latest_charge"]), (&intent["id"], &charge["id"]));
    assert_eq!(intent["customer"], session["customer"]);
}

#[test]
fn a_paid_checkout_publishes_the_same_event_again() {
    let mut desk = Desk::new();
    let id = desk.open(&checkout(&[]));
    let first = desk.provider.play(&id, PayerOutcome::Succeeded).unwrap();
    desk.events();
    let again = desk.provider.play(&id, PayerOutcome::Declined).unwrap();
    assert_eq!((first.body, first.payment_id), (again.body, again.payment_id));
    assert!(desk.events().is_empty());
    assert_eq!(desk.provider.payments().len(), 1);
}

#[test]
fn a_declined_checkout_stays_open_with_the_same_payment() {
    let mut desk = Desk::new();
    let id = desk.open(&checkout(&[]));
    let (kind, intent) = played(&mut desk, &id, &Paying::by_card(PayerOutcome::Declined));
    assert_eq!(
        (kind.as_str(), &intent["status"]),
        ("payment_intent.payment_failed", &json!("requires_payment_method"))
    );
    assert_eq!(desk.event_types(), ["charge.failed"]);
    assert_eq!(desk.get(&format!("{SESSIONS}/{id}")).body["status"], "open");
    let (_, session) = played(&mut desk, &id, &Paying::by_card(PayerOutcome::Succeeded));
    assert_eq!(session["payment_intent"], intent["id"]);
}

#[test]
fn a_bank_debit_completes_unpaid_and_is_settled_later() {
    for (settlement, last, status) in [
        (ChargeSettlement::Succeeded, "checkout.session.async_payment_succeeded", "paid"),
        (ChargeSettlement::Failed, "checkout.session.async_payment_failed", "unpaid"),
    ] {
        let mut desk = Desk::new();
        let id = desk.open(&checkout(&[]));
        let paying = Paying { method: MethodKind::SepaDebit, ..Paying::by_card(PayerOutcome::Succeeded) };
        let (kind, session) = played(&mut desk, &id, &paying);
        assert_eq!((kind.as_str(), &session["status"]), ("checkout.session.completed", &json!("complete")));
        assert_eq!(session["payment_status"], "unpaid");
        assert!(desk.provider.payments().is_empty());
        desk.events();
        desk.provider.settle(session["payment_intent"].as_str().unwrap(), settlement).unwrap();
        let events = desk.events();
        let (kind, session) = events.last().unwrap();
        assert_eq!((events.len(), kind.as_str(), &session["payment_status"]), (3, last, &json!(status)));
    }
}

#[test]
fn a_card_may_be_processing_too() {
    let mut desk = Desk::new();
    let id = desk.open(&checkout(&[]));
    let (_, session) = played(&mut desk, &id, &Paying::by_card(PayerOutcome::Processing));
    assert_eq!(session["payment_status"], "unpaid");
}

#[test]
fn discount_and_tax_change_what_is_paid() {
    let mut desk = Desk::new();
    let id = desk.open(&checkout(&[]));
    let paying = Paying { discount_percent: 25, tax_percent: 19, ..Paying::by_card(PayerOutcome::Succeeded) };
    let (_, session) = played(&mut desk, &id, &paying);
    assert_eq!((&session["amount_subtotal"], &session["amount_total"]), (&json!(1000), &json!(892)));
    let totals = json!({ "amount_discount": 250, "amount_shipping": 0, "amount_tax": 142 });
    assert_eq!(session["total_details"], totals);
    assert_eq!(desk.events().last().unwrap().1["amount_received"], 892);
    let wrong = Paying { discount_percent: 101, ..paying };
    assert_eq!(desk.provider.pay(&id, &wrong).unwrap_err(), PlayError::Range("discount_percent"));
}

#[test]
fn a_full_discount_needs_no_payment() {
    let mut desk = Desk::new();
    let id = desk.open(&checkout(&[]));
    let paying =
        Paying { discount_percent: 100, tax_percent: 19, ..Paying::by_card(PayerOutcome::Succeeded) };
    let (_, session) = played(&mut desk, &id, &paying);
    assert_eq!(
        (&session["payment_status"], &session["amount_total"]),
        (&json!("no_payment_required"), &json!(0))
    );
    assert_eq!(session["payment_intent"], json!(null));
    assert_eq!(desk.event_types(), ["customer.created"]);
    assert!(desk.provider.payments().is_empty());
}

#[test]
fn a_session_can_be_expired_while_it_is_open() {
    let mut desk = Desk::new();
    let id = desk.open(&checkout(&[]));
    let path = format!("{SESSIONS}/{id}/expire");
    let expired = desk.post(&path, &Vec::new());
    assert_eq!(
        (expired.status, &expired.body["status"], &expired.body["url"]),
        (200, &json!("expired"), &json!(null))
    );
    assert_eq!(desk.event_types(), ["checkout.session.expired"]);
    let again = desk.post(&path, &Vec::new());
    let message = "Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a status \
                   of `expired`.";
    assert_eq!(
        (error(&again), again.body["error"]["message"].as_str()),
        ((400, "", "session"), Some(message))
    );
    assert_eq!(
        desk.provider.pay(&id, &Paying::by_card(PayerOutcome::Succeeded)).unwrap_err(),
        PlayError::State("the checkout has expired")
    );
    let paid = desk.open(&checkout(&[]));
    desk.provider.play(&paid, PayerOutcome::Succeeded).unwrap();
    assert_eq!(desk.post(&format!("{SESSIONS}/{paid}/expire"), &Vec::new()).status, 400);
}

#[test]
fn a_session_expires_by_itself_after_a_day() {
    let mut desk = Desk::new();
    let (id, paid) = (desk.open(&checkout(&[])), desk.open(&checkout(&[])));
    desk.provider.play(&paid, PayerOutcome::Succeeded).unwrap();
    desk.events();
    desk.pass(DAY - 1);
    assert!(desk.events().is_empty());
    desk.pass(1);
    let events = desk.events();
    assert_eq!(
        (events.len(), events[0].0.as_str(), &events[0].1["id"]),
        (1, "checkout.session.expired", &json!(id))
    );
    assert_eq!(desk.get(&format!("{SESSIONS}/{id}")).body["status"], "expired");
    assert!(desk.provider.play(&id, PayerOutcome::Succeeded).is_none());
    assert!(desk.provider.play(&paid, PayerOutcome::Succeeded).is_some());
    assert!(desk.provider.play("cs_no", PayerOutcome::Succeeded).is_none());
}

#[test]
fn an_event_in_delivery_during_a_kill_waits_again() {
    let folder = std::env::temp_dir().join(format!("ai-credits-outbox-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (sources, clock) = super::sources();
    let open = || {
        let secrets = (Secret::new("sk_test"), Secret::new("whsec"));
        StripeStandIn::open(Some(&folder), secrets.0, secrets.1, sources.clone()).unwrap()
    };
    let mut desk = Desk { provider: open(), clock };
    let id = desk.open(&checkout(&[]));
    let paid = desk.provider.play(&id, PayerOutcome::Succeeded).unwrap();
    let mut others = desk.provider.take_outbox();
    assert!(!others.is_empty());
    desk.provider.delivered(&others.remove(0).body);
    // The process is killed, and another one opens the folder.
    desk.provider = open();
    let again: Vec<String> = desk.provider.take_outbox().into_iter().map(|delivery| delivery.body).collect();
    let unended = others.iter().chain([&paid]);
    assert_eq!(again.len(), others.len() + 1);
    for delivery in unended {
        assert!(again.contains(&delivery.body));
        desk.provider.delivered(&delivery.body);
    }
    desk.provider = open();
    assert!(desk.provider.take_outbox().is_empty());
    std::fs::remove_dir_all(&folder).unwrap();
}
