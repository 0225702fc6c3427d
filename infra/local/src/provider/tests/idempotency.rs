//! Idempotency keys.

use super::super::{PlannedFailure, PlayedOutcome};
use super::{DAY, Desk, INTENTS, SESSIONS, charge, checkout, error, header};

#[test]
fn the_same_request_gets_the_first_answer_again() {
    let mut desk = Desk::new();
    let first = desk.post_with_key("key", SESSIONS, &checkout(&[]));
    let mut reordered = checkout(&[]);
    reordered.reverse();
    let again = desk.post_with_key("key", SESSIONS, &reordered);
    assert_eq!((first.status, &first.body), (again.status, &again.body));
    assert_eq!(
        (header(&first, "idempotent-replayed"), header(&again, "idempotent-replayed")),
        (None, Some("true"))
    );
    assert_ne!(header(&first, "request-id"), header(&again, "request-id"));
    assert_eq!(header(&again, "original-request"), header(&first, "request-id"));
    assert_eq!(desk.get(SESSIONS).body["data"].as_array().unwrap().len(), 1);
}

#[test]
fn a_key_is_forgotten_after_a_day() {
    let mut desk = Desk::new();
    let first = desk.post_with_key("key", SESSIONS, &checkout(&[])).body;
    desk.pass(DAY - 1);
    assert_eq!(desk.post_with_key("key", SESSIONS, &checkout(&[])).body, first);
    desk.pass(1);
    assert_ne!(desk.post_with_key("key", SESSIONS, &checkout(&[])).body["id"], first["id"]);
}

#[test]
fn another_form_or_path_under_a_key_is_refused() {
    let mut desk = Desk::new();
    let (customer, method) = desk.customer();
    let first = desk.post_with_key("key", SESSIONS, &checkout(&[])).body;
    let other_form = desk.post_with_key("key", SESSIONS, &checkout(&[("metadata[a]", Some("b"))]));
    let other_path = desk.post_with_key("key", INTENTS, &charge(&customer, &method, &[]));
    for answered in [other_form, other_path] {
        let kind = &answered.body["error"]["type"];
        assert_eq!((answered.status, kind.as_str()), (400, Some("idempotency_error")), "{}", answered.body);
    }
    assert_eq!(desk.post_with_key("key", SESSIONS, &checkout(&[])).body, first, "the first answer is kept");
}

#[test]
fn a_key_in_flight_conflicts_and_keeps_nothing() {
    let mut desk = Desk::new();
    desk.provider.begin_in_flight("key");
    let answered = desk.post_with_key("key", SESSIONS, &checkout(&[]));
    assert_eq!(error(&answered), (409, "idempotency_key_in_use", ""));
    desk.provider.end_in_flight("key");
    assert_eq!(desk.post_with_key("key", SESSIONS, &checkout(&[])).status, 200);
}

#[test]
fn a_key_has_at_most_255_characters() {
    let mut desk = Desk::new();
    assert_eq!(desk.post_with_key(&"k".repeat(255), SESSIONS, &checkout(&[])).status, 200);
    assert_eq!(desk.post_with_key(&"k".repeat(256), SESSIONS, &checkout(&[])).status, 400);
}

#[test]
fn a_decline_is_kept_and_validation_is_not() {
    let mut desk = Desk::new();
    let (customer, method) = desk.customer();
    desk.provider.decide("acme", PlayedOutcome::Declined);
    let unknown = charge(&customer, &method, &[("colour", Some("red"))]);
    assert_eq!(desk.post_with_key("key", INTENTS, &unknown).status, 400);
    let form = charge(&customer, &method, &[]);
    let declined = desk.post_with_key("key", INTENTS, &form);
    assert_eq!(error(&declined), (402, "card_declined", ""));
    desk.provider.decide("acme", PlayedOutcome::Succeeded);
    let again = desk.post_with_key("key", INTENTS, &form);
    assert_eq!((again.status, &again.body), (402, &declined.body));
    assert_eq!(desk.post_with_key("another", INTENTS, &form).status, 200);
}

#[test]
fn an_execution_error_is_kept() {
    let mut desk = Desk::new();
    let form = charge("cus_no", "pm_no", &[]);
    assert_eq!(error(&desk.post_with_key("key", INTENTS, &form)), (400, "resource_missing", "customer"));
    let again = desk.post_with_key("key", INTENTS, &form);
    assert_eq!((again.status, header(&again, "idempotent-replayed")), (400, Some("true")));
}

#[test]
fn a_server_error_is_kept_whether_it_has_charged_or_not() {
    for (outcome, intents) in [(PlayedOutcome::ServerError, 0), (PlayedOutcome::ServerErrorCharged, 1)] {
        let mut desk = Desk::new();
        let (customer, method) = desk.customer();
        desk.provider.decide("acme", outcome);
        let form = charge(&customer, &method, &[]);
        let failed = desk.post_with_key("key", INTENTS, &form);
        assert_eq!((failed.status, &failed.body["error"]["type"]), (500, &"api_error".into()));
        desk.provider.decide("acme", PlayedOutcome::Succeeded);
        assert_eq!(desk.post_with_key("key", INTENTS, &form).body, failed.body);
        let made = desk.get(INTENTS).body["data"].as_array().unwrap().len() - 1;
        assert_eq!(made, intents, "{outcome:?}");
        assert_eq!(desk.provider.payments().len(), 1 + intents);
    }
}

#[test]
fn an_execution_refusal_is_kept_and_charges_nothing() {
    let mut desk = Desk::new();
    let (customer, method) = desk.customer();
    desk.provider.decide("acme", PlayedOutcome::Refused);
    let form = charge(&customer, &method, &[]);
    assert_eq!(desk.post_with_key("key", INTENTS, &form).status, 400);
    desk.provider.decide("acme", PlayedOutcome::Succeeded);
    assert_eq!(desk.post_with_key("key", INTENTS, &form).status, 400);
    assert_eq!(desk.provider.payments().len(), 1);
}

#[test]
fn planned_failures_are_kept_as_ordered() {
    let plan = |status, kept| PlannedFailure {
        path: Some("checkout".into()),
        status,
        count: 1,
        kept,
        executed: None,
        lost: None,
    };
    for (status, kept, after) in [
        (500, None, 500),
        (500, Some(false), 200),
        (503, None, 200),
        (503, Some(true), 503),
        (429, Some(true), 200),
        (409, None, 200),
    ] {
        let mut desk = Desk::new();
        desk.provider.plan_failure(&plan(status, kept));
        assert_eq!(desk.get(INTENTS).status, 200, "another path");
        assert_eq!(desk.post_with_key("key", SESSIONS, &checkout(&[])).status, status);
        assert_eq!(desk.post_with_key("key", SESSIONS, &checkout(&[])).status, after, "{status} {kept:?}");
    }
}

#[test]
fn a_planned_failure_can_follow_the_charge_and_is_kept() {
    let mut desk = Desk::new();
    let (customer, method) = desk.customer();
    let path = Some("payment_intents".into());
    desk.provider.plan_failure(&PlannedFailure {
        path,
        status: 500,
        count: 1,
        kept: None,
        executed: Some(true),
        lost: None,
    });
    let form = charge(&customer, &method, &[]);
    for _ in 0..2 {
        assert_eq!(desk.post_with_key("key", INTENTS, &form).status, 500);
        assert_eq!(desk.provider.payments().len(), 2);
    }
}

#[test]
fn an_outage_is_503_and_keeps_nothing() {
    let mut desk = Desk::new();
    desk.provider.down = true;
    assert_eq!(desk.post_with_key("key", SESSIONS, &checkout(&[])).status, 503);
    desk.provider.down = false;
    assert_eq!(desk.post_with_key("key", SESSIONS, &checkout(&[])).status, 200);
}
