//! Charges of stored methods.

use serde_json::{Value, json};

use super::super::{ChargeSettlement, MethodKind, PayerOutcome, Paying, PlayError, PlayedOutcome};
use super::{Desk, INTENTS, SESSIONS, charge, checkout, error};

#[test]
fn a_charge_succeeds_and_publishes_its_events() {
    let mut desk = Desk::new();
    let (customer, method) = desk.customer();
    let form = charge(&customer, &method, &[("expand[]", Some("latest_charge"))]);
    let answered = desk.post_with_key("key", INTENTS, &form);
    let intent = &answered.body;
    assert_eq!((answered.status, &intent["status"]), (200, &json!("succeeded")));
    assert_eq!((&intent["amount_received"], &intent["payment_method"]), (&json!(900), &json!(method)));
    let receipt = intent["latest_charge"]["receipt_url"].as_str().unwrap();
    assert!(receipt.starts_with("https://pay.stripe.com/receipts/"), "{receipt}");
    let deliveries = desk.provider.take_outbox();
    let event: Value = serde_json::from_str(&deliveries[1].body).unwrap();
    assert_eq!(
        (&event["type"], &event["request"]["idempotency_key"]),
        (&json!("payment_intent.succeeded"), &json!("key"))
    );
    assert_eq!(event["data"]["object"]["latest_charge"], intent["latest_charge"]["id"]);
    assert_eq!(desk.provider.payments().last().unwrap().purchase_id, "sub_1-2-0");
}

#[test]
fn a_declined_charge_is_402_with_its_intent() {
    let mut desk = Desk::new();
    let (customer, method) = desk.customer();
    desk.provider.decide("acme", PlayedOutcome::Declined);
    let answered = desk.post(INTENTS, &charge(&customer, &method, &[]));
    let error = &answered.body["error"];
    assert_eq!((answered.status, &error["type"]), (402, &json!("card_error")));
    assert_eq!(
        (&error["code"], &error["decline_code"]),
        (&json!("card_declined"), &json!("generic_decline"))
    );
    let intent = &error["payment_intent"];
    assert_eq!(
        (&intent["status"], &intent["amount_received"]),
        (&json!("requires_payment_method"), &json!(0))
    );
    assert_eq!(intent["last_payment_error"]["code"], "card_declined");
    let id = intent["id"].as_str().unwrap();
    assert_eq!(desk.get(&format!("{INTENTS}/{id}")).body, *intent);
    assert_eq!(desk.event_types(), ["charge.failed", "payment_intent.payment_failed"]);
}

#[test]
fn an_unauthenticated_charge_is_402_and_a_checkout_succeeds() {
    let mut desk = Desk::new();
    let (customer, method) = desk.customer();
    desk.provider.decide("acme", PlayedOutcome::AuthenticationRequired);
    let answered = desk.post(INTENTS, &charge(&customer, &method, &[]));
    assert_eq!(error(&answered), (402, "authentication_required", ""));
    let failed = &answered.body["error"];
    assert_eq!(failed["decline_code"], "authentication_required");
    assert_eq!(failed["payment_intent"]["status"], "requires_payment_method");
    assert_eq!(failed["payment_intent"]["last_payment_error"]["code"], "authentication_required");
    let changes = [("customer_creation", None), ("customer", Some(customer.as_str()))];
    let id = desk.open(&checkout(&changes));
    desk.provider.play(&id, PayerOutcome::Succeeded).unwrap();
    assert_eq!(desk.get(&format!("{SESSIONS}/{id}")).body["payment_status"], "paid");
}

/// Creates a customer with a bank account, and returns the ids of both.
fn debtor(desk: &mut Desk) -> (String, String) {
    let id = desk.open(&checkout(&[]));
    let paying = Paying { method: MethodKind::UsBankAccount, ..Paying::by_card(PayerOutcome::Succeeded) };
    desk.provider.pay(&id, &paying).unwrap();
    let session = desk.get(&format!("{SESSIONS}/{id}")).body;
    let customer = session["customer"].as_str().unwrap().to_owned();
    let method = desk.methods(&customer)[0].clone();
    desk.events();
    (customer, method)
}

#[test]
fn a_bank_debit_is_processing_and_settles_either_way() {
    for (settlement, status, last) in [
        (ChargeSettlement::Succeeded, "succeeded", ["charge.succeeded", "payment_intent.succeeded"]),
        (
            ChargeSettlement::Failed,
            "requires_payment_method",
            ["charge.failed", "payment_intent.payment_failed"],
        ),
    ] {
        let mut desk = Desk::new();
        let (customer, method) = debtor(&mut desk);
        let answered = desk.post(INTENTS, &charge(&customer, &method, &[]));
        assert_eq!((answered.status, &answered.body["status"]), (200, &json!("processing")));
        assert_eq!(answered.body["amount_received"], 0);
        assert_eq!(desk.event_types(), ["charge.pending", "payment_intent.processing"]);
        let id = answered.body["id"].as_str().unwrap();
        desk.provider.settle(id, settlement).unwrap();
        assert_eq!(desk.event_types(), last);
        assert_eq!(desk.get(&format!("{INTENTS}/{id}")).body["status"], status);
        let again = desk.provider.settle(id, settlement);
        assert_eq!(again, Err(PlayError::State("the payment is not processing")));
    }
    assert_eq!(
        Desk::new().provider.settle("pi_no", ChargeSettlement::Failed),
        Err(PlayError::Unknown("payment"))
    );
}

#[test]
fn a_declined_bank_debit_is_processing_first() {
    let mut desk = Desk::new();
    let (customer, method) = debtor(&mut desk);
    desk.provider.decide("acme", PlayedOutcome::Declined);
    let answered = desk.post(INTENTS, &charge(&customer, &method, &[]));
    assert_eq!((answered.status, &answered.body["status"]), (200, &json!("processing")));
    let types = desk.event_types();
    assert_eq!(types[1..], ["payment_intent.processing", "charge.failed", "payment_intent.payment_failed"]);
}

#[test]
fn intents_are_listed_newest_first_by_customer_and_time() {
    let mut desk = Desk::new();
    let (customer, method) = desk.customer();
    let (other, _) = desk.customer();
    desk.pass(60);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let made = desk.post(INTENTS, &charge(&customer, &method, &[])).body;
        ids.insert(0, made["id"].clone());
    }
    let since = super::START + 1;
    let path =
        format!("{INTENTS}?customer={customer}&created[gte]={since}&limit=2&expand[]=data.latest_charge");
    let page = desk.get(&path).body;
    assert_eq!(page["has_more"], true);
    let listed = |page: &Value| {
        page["data"].as_array().unwrap().iter().map(|intent| intent["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&page), ids[..2]);
    assert_eq!(page["data"][0]["latest_charge"]["object"], "charge");
    let last = ids[1].as_str().unwrap();
    let rest =
        desk.get(&format!("{INTENTS}?customer={customer}&created[gte]={since}&starting_after={last}")).body;
    assert_eq!((listed(&rest), &rest["has_more"]), (ids[2..].to_vec(), &json!(false)));
    assert_eq!(desk.get(&format!("{INTENTS}?customer={other}")).body["data"].as_array().unwrap().len(), 1);
}

#[test]
fn an_unconfirmed_intent_waits() {
    let mut desk = Desk::new();
    let (customer, method) = desk.customer();
    let changes = [("confirm", None), ("off_session", None), ("error_on_requires_action", None)];
    let made = desk.post(INTENTS, &charge(&customer, &method, &changes));
    assert_eq!((made.status, &made.body["status"]), (200, &json!("requires_confirmation")));
    assert!(desk.events().is_empty());
}
