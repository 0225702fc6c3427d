//! Customers and their methods.

use serde_json::json;

use super::super::{MethodKind, PayerOutcome, Paying};
use super::{Desk, INTENTS, SESSIONS, SETUP, charge, checkout, error, form};

#[test]
fn a_paid_checkout_makes_a_customer_with_its_card() {
    let mut desk = Desk::new();
    let id = desk.open(&checkout(&[("customer_email", Some("ada@acme.example"))]));
    desk.provider.play(&id, PayerOutcome::Succeeded).unwrap();
    let session =
        desk.get(&format!("{SESSIONS}/{id}?expand[]=customer&expand[]=payment_intent.latest_charge")).body;
    let customer = &session["customer"];
    assert_eq!((&customer["email"], &customer["metadata"]), (&json!("ada@acme.example"), &json!({})));
    let charge = &session["payment_intent"]["latest_charge"];
    assert_eq!((&charge["object"], &charge["paid"]), (&json!("charge"), &json!(true)));
    let (id, method) = (customer["id"].as_str().unwrap(), &session["payment_intent"]["payment_method"]);
    let shown = desk.get(&format!("/v1/customers/{id}/payment_methods/{}", method.as_str().unwrap())).body;
    assert_eq!((&shown["type"], &shown["customer"]), (&json!("card"), &json!(id)));
    let card = &shown["card"];
    assert_eq!((&card["brand"], &card["last4"]), (&json!("visa"), &json!("4242")));
    assert_eq!((&card["exp_month"], &card["exp_year"]), (&json!(12), &json!(2030)));
}

#[test]
fn a_setup_checkout_attaches_another_method() {
    let mut desk = Desk::new();
    let (customer, card) = desk.customer();
    let id = desk.open(&form(&SETUP, &[("customer", Some(&customer))]));
    let shown = desk.get(&format!("{SESSIONS}/{id}")).body;
    assert_eq!((&shown["status"], &shown["amount_total"]), (&json!("open"), &json!(null)));
    let paying = Paying { method: MethodKind::SepaDebit, ..Paying::by_card(PayerOutcome::Succeeded) };
    let delivery = desk.provider.pay(&id, &paying).unwrap();
    let (kind, session) = super::event(&delivery, jiff::Timestamp::from_second(super::START).unwrap());
    assert_eq!(kind, "checkout.session.completed");
    assert_eq!(
        (&session["mode"], &session["payment_status"]),
        (&json!("setup"), &json!("no_payment_required"))
    );
    assert_eq!(
        (&session["payment_intent"], session["setup_intent"].as_str()),
        (&json!(null), Some(&*delivery.payment_id))
    );
    assert_eq!(desk.event_types(), ["setup_intent.succeeded"]);
    let methods = desk.methods(&customer);
    assert_eq!((methods.len(), &methods[1]), (2, &card), "newest first");
    let listed = desk.get(&format!("/v1/customers/{customer}/payment_methods?type=sepa_debit&limit=1")).body;
    assert_eq!(listed["data"][0]["id"], json!(methods[0]));
    assert_eq!(listed["data"][0]["sepa_debit"]["last4"], "3000");
}

#[test]
fn a_declined_setup_attaches_nothing() {
    let mut desk = Desk::new();
    let id = desk.open(&form(&SETUP, &[("customer_creation", Some("always"))]));
    let delivery = desk.provider.play(&id, PayerOutcome::Declined).unwrap();
    assert!(delivery.body.contains("setup_intent.setup_failed"), "{}", delivery.body);
    assert_eq!(desk.get(&format!("{SESSIONS}/{id}")).body["status"], "open");
    desk.provider.play(&id, PayerOutcome::Succeeded).unwrap();
    let customer = desk.get(&format!("{SESSIONS}/{id}")).body["customer"].as_str().unwrap().to_owned();
    assert_eq!(desk.methods(&customer).len(), 1);
}

#[test]
fn a_detached_method_can_not_be_charged() {
    let mut desk = Desk::new();
    let (customer, method) = desk.customer();
    let detached = desk.post(&format!("/v1/payment_methods/{method}/detach"), &Vec::new());
    assert_eq!((detached.status, &detached.body["customer"]), (200, &json!(null)));
    assert!(desk.methods(&customer).is_empty());
    let path = format!("/v1/customers/{customer}/payment_methods/{method}");
    assert_eq!(error(&desk.get(&path)), (404, "resource_missing", "payment_method"));
    assert_eq!(desk.get(&format!("/v1/payment_methods/{method}")).status, 200);
    assert_eq!(error(&desk.post(INTENTS, &charge(&customer, &method, &[]))), (400, "", "payment_method"));
    assert_eq!(desk.post(&format!("/v1/payment_methods/{method}/detach"), &Vec::new()).status, 400);
}

#[test]
fn a_deleted_customer_is_refused_everywhere() {
    let mut desk = Desk::new();
    let (customer, method) = desk.customer();
    let path = format!("/v1/customers/{customer}");
    let deleted = json!({ "id": customer, "object": "customer", "deleted": true });
    assert_eq!(desk.delete(&path).body, deleted);
    let shown = desk.get(&path);
    assert_eq!((shown.status, shown.body), (200, deleted));
    assert_eq!(error(&desk.delete(&path)), (404, "resource_missing", "id"));
    assert_eq!(error(&desk.get(&format!("{path}/payment_methods"))), (404, "resource_missing", "customer"));
    let charged = desk.post(INTENTS, &charge(&customer, &method, &[]));
    assert_eq!(error(&charged), (400, "resource_missing", "customer"));
    let changes = [("customer_creation", None), ("customer", Some(customer.as_str()))];
    let opened = desk.post(SESSIONS, &checkout(&changes));
    assert_eq!(error(&opened), (400, "resource_missing", "customer"));
}
