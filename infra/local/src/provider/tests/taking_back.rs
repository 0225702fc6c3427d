//! Refunds and disputes.

use serde_json::json;

use super::super::{PayerOutcome, PlayError, StripeDisputeStatus, StripeRefundStatus};
use super::{Desk, INTENTS, REFUNDS, checkout, error, form};

/// Pays a checkout of 1000, and returns the payment's id.
fn paid(desk: &mut Desk) -> String {
    let id = desk.open(&checkout(&[]));
    let payment = desk.provider.play(&id, PayerOutcome::Succeeded).unwrap().payment_id;
    desk.events();
    payment
}

fn refunded(desk: &mut Desk, payment: &str) -> (u64, bool) {
    let charge =
        desk.get(&format!("{INTENTS}/{payment}?expand[]=latest_charge")).body["latest_charge"].clone();
    (charge["amount_refunded"].as_u64().unwrap(), charge["refunded"].as_bool().unwrap())
}

#[test]
fn refunds_add_up_to_the_charge_and_no_further() {
    let mut desk = Desk::new();
    let payment = paid(&mut desk);
    let ask =
        |amount: &'static str| form(&[("payment_intent", payment.as_str())], &[("amount", Some(amount))]);
    let first = desk.post(REFUNDS, &ask("300"));
    assert_eq!(
        (first.status, &first.body["status"], &first.body["amount"]),
        (200, &json!("succeeded"), &json!(300))
    );
    let events = desk.events();
    let types: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(types, ["refund.created", "charge.refunded", "refund.updated"]);
    assert_eq!(events[1].1["amount_refunded"], 300);
    let above = desk.post(REFUNDS, &ask("701"));
    let message = "Refund amount ($7.01) is greater than unrefunded amount on charge ($7.00)";
    assert_eq!(
        (error(&above), above.body["error"]["message"].as_str()),
        ((400, "", "amount"), Some(message))
    );
    let rest = desk.post(REFUNDS, &form(&[("payment_intent", payment.as_str())], &[]));
    assert_eq!(rest.body["amount"], 700);
    assert_eq!(desk.events()[1].1["amount_refunded"], 1000, "amount_refunded is cumulative");
    assert_eq!(refunded(&mut desk, &payment), (1000, true));
    assert_eq!(error(&desk.post(REFUNDS, &ask("1"))), (400, "charge_already_refunded", ""));
    let listed = desk.get(&format!("{REFUNDS}?payment_intent={payment}")).body;
    assert_eq!((&listed["data"][0]["id"], &listed["data"][1]["id"]), (&rest.body["id"], &first.body["id"]));
    assert_eq!(desk.get(&format!("{REFUNDS}/{}", first.body["id"].as_str().unwrap())).status, 200);
}

#[test]
fn a_refund_with_wrong_parameters_is_refused() {
    let mut desk = Desk::new();
    let payment = paid(&mut desk);
    let base = [("payment_intent", payment.as_str())];
    for (change, expected) in [
        (("amount", Some("0")), (400, "parameter_invalid_integer", "amount")),
        (("reason", Some("regret")), (400, "", "reason")),
        (("note", Some("x")), (400, "parameter_unknown", "note")),
        (("payment_intent", Some("pi_no")), (404, "resource_missing", "payment_intent")),
    ] {
        assert_eq!(error(&desk.post(REFUNDS, &form(&base, &[change]))), expected, "{change:?}");
    }
    let id = desk.open(&checkout(&[]));
    let declined = desk.provider.play(&id, PayerOutcome::Declined).unwrap().payment_id;
    assert_eq!(desk.post(REFUNDS, &form(&[("payment_intent", declined.as_str())], &[])).status, 400);
}

#[test]
fn a_pending_refund_succeeds_or_fails() {
    let mut desk = Desk::new();
    let payment = paid(&mut desk);
    let refund = desk.provider.refund(&payment, Some(400), StripeRefundStatus::Pending).unwrap();
    assert_eq!(desk.get(&format!("{REFUNDS}/{refund}")).body["pending_reason"], "processing");
    assert_eq!(refunded(&mut desk, &payment), (400, false));
    desk.events();
    desk.provider.end_refund(&refund, StripeRefundStatus::Succeeded).unwrap();
    assert_eq!(desk.event_types(), ["refund.updated", "charge.refund.updated"]);
    desk.provider.end_refund(&refund, StripeRefundStatus::Failed).unwrap();
    assert_eq!(desk.event_types(), ["refund.failed", "refund.updated", "charge.refund.updated"]);
    assert_eq!(refunded(&mut desk, &payment), (0, false), "a failed refund no longer counts");
    let again = desk.provider.end_refund(&refund, StripeRefundStatus::Failed);
    assert_eq!(again, Err(PlayError::State("the refund has ended")));
    let above = desk.provider.refund(&payment, Some(1001), StripeRefundStatus::Succeeded);
    assert_eq!(above, Err(PlayError::Range("amount")));
}

#[test]
fn a_dispute_withdraws_and_reinstates_the_money() {
    let mut desk = Desk::new();
    let payment = paid(&mut desk);
    let dispute = desk.provider.dispute(&payment, None, StripeDisputeStatus::NeedsResponse).unwrap();
    let events = desk.events();
    let types: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(types, ["charge.dispute.created", "charge.dispute.funds_withdrawn"]);
    assert_eq!((&events[0].1["amount"], &events[0].1["status"]), (&json!(1000), &json!("needs_response")));
    let ask = form(&[("payment_intent", payment.as_str())], &[]);
    assert_eq!(error(&desk.post(REFUNDS, &ask)), (400, "charge_disputed", ""));
    desk.provider.move_dispute(&dispute, StripeDisputeStatus::UnderReview).unwrap();
    assert_eq!(desk.event_types(), ["charge.dispute.updated"]);
    desk.provider.move_dispute(&dispute, StripeDisputeStatus::Won).unwrap();
    assert_eq!(desk.event_types(), ["charge.dispute.funds_reinstated", "charge.dispute.closed"]);
    assert_eq!(desk.post(REFUNDS, &ask).status, 200);
    assert!(desk.provider.move_dispute(&dispute, StripeDisputeStatus::Lost).is_err());
}

#[test]
fn an_inquiry_withdraws_nothing_until_it_escalates() {
    let mut desk = Desk::new();
    let payment = paid(&mut desk);
    let dispute =
        desk.provider.dispute(&payment, Some(100), StripeDisputeStatus::WarningNeedsResponse).unwrap();
    assert_eq!(desk.event_types(), ["charge.dispute.created"]);
    desk.provider.move_dispute(&dispute, StripeDisputeStatus::NeedsResponse).unwrap();
    assert_eq!(desk.event_types(), ["charge.dispute.funds_withdrawn", "charge.dispute.updated"]);
    desk.provider.move_dispute(&dispute, StripeDisputeStatus::Lost).unwrap();
    assert_eq!(desk.event_types(), ["charge.dispute.closed"]);
    let other =
        desk.provider.dispute(&payment, Some(100), StripeDisputeStatus::WarningNeedsResponse).unwrap();
    desk.events();
    desk.provider.move_dispute(&other, StripeDisputeStatus::WarningClosed).unwrap();
    assert_eq!(desk.event_types(), ["charge.dispute.closed"]);
    assert_eq!(
        desk.provider.dispute(&payment, None, StripeDisputeStatus::Won),
        Err(PlayError::State("a dispute begins as needs_response or warning_needs_response"))
    );
}
