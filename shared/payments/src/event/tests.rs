use super::{CheckoutNews, EventError, Ignored, Mode, StripeEvent, read};
use credits_core::dispute::{Dispute, DisputeStatus};
use credits_core::payment::{AttemptStatus, News, Paid};
use credits_core::price::Price;
use credits_core::refund::{ChargeFigure, Refund, RefundStatus};

fn event(kind: &str, object: &str) -> Result<StripeEvent, EventError> {
    read(format!(r#"{{"id":"evt_1","type":"{kind}","data":{{"object":{object}}}}}"#).as_bytes(), Mode::Any)
}

const OURS: &str = r#""metadata":{"workspace_id":"acme","top_up_id":"top_1"}"#;

#[test]
fn a_session_that_is_not_paid_says_how_it_stands() {
    let session = format!(
        r#"{{"id":"cs_1","mode":"payment","payment_status":"unpaid","amount_total":900,"currency":"usd",{OURS}}}"#
    );
    for (kind, expected) in [
        ("completed", CheckoutNews::Processing),
        ("async_payment_failed", CheckoutNews::Failed),
        ("expired", CheckoutNews::Expired),
    ] {
        let read = event(&format!("checkout.session.{kind}"), &session).unwrap();
        let (checkout_id, purchase_id) = ("cs_1".into(), "top_1".into());
        assert_eq!(read, StripeEvent::Checkout { checkout_id, purchase_id, news: expected });
    }
}

#[test]
fn what_no_one_reads_is_ignored_with_the_reason() {
    let ignored = |body: &str, mode| match read(body.as_bytes(), mode).unwrap() {
        StripeEvent::Ignored(ignored) => ignored,
        other => panic!("{other:?}"),
    };
    let paid = r#"{"id":"pi_1","amount":900,"currency":"usd","metadata":{"order":"7"}}"#;
    let of = |more: &str, object: &str| {
        format!(r#"{{"type":"payment_intent.succeeded"{more},"data":{{"object":{object}}}}}"#)
    };
    assert_eq!(ignored(&of("", paid), Mode::Any), Ignored::NotOurs);
    assert_eq!(ignored(&of(r#","account":"acct_1""#, paid), Mode::Any), Ignored::OtherAccount);
    assert_eq!(ignored(&of(r#","livemode":true"#, paid), Mode::Test), Ignored::OtherMode);
    assert_eq!(ignored(&of(r#","livemode":false"#, paid), Mode::Live), Ignored::OtherMode);
    assert_eq!(ignored(r#"{"type":"customer.created","data":null}"#, Mode::Any), Ignored::UnknownType);
    assert_eq!(ignored(r#"{"type":"v2.core.event"}"#, Mode::Any), Ignored::UnknownType);
}

/// Another application may use amounts that this one refuses. Its events must not fail.
#[test]
fn a_bad_intent_of_another_application_is_ignored() {
    for kind in ["succeeded", "processing", "payment_failed"] {
        let read = event(&format!("payment_intent.{kind}"), r#"{"id":"pi_1","amount":550,"currency":"isk"}"#);
        assert_eq!(read.unwrap(), StripeEvent::Ignored(Ignored::NotOurs), "{kind}");
    }
}

#[test]
fn an_event_of_ours_without_effect_is_not_another_applications() {
    for (kind, object) in [
        ("charge.succeeded", format!(r#"{{"id":"ch_1","receipt_url":null,{OURS}}}"#)),
        ("checkout.session.completed", r#"{"mode":"setup","metadata":{"workspace_id":"acme"}}"#.to_owned()),
        ("checkout.session.expired", r#"{"id":"cs_1","metadata":{"workspace_id":"acme"}}"#.to_owned()),
    ] {
        assert_eq!(event(kind, &object).unwrap(), StripeEvent::Ignored(Ignored::NothingFollows), "{kind}");
    }
}

#[test]
fn all_events_of_a_payment_have_the_same_payment_id() {
    let name = |kind: &str, object: &str| match event(kind, object).unwrap() {
        StripeEvent::Payment { payment_id, .. } => payment_id,
        other => format!("{other:?}"),
    };
    let session = format!(
        r#"{{"id":"cs_1","payment_intent":"pi_1","payment_status":"paid","amount_total":900,"currency":"usd",{OURS}}}"#
    );
    assert_eq!(name("checkout.session.completed", &session), "pi_1");
    let intent = format!(r#"{{"id":"pi_1","amount":900,"currency":"usd",{OURS}}}"#);
    for kind in ["succeeded", "processing", "payment_failed"] {
        assert_eq!(name(&format!("payment_intent.{kind}"), &intent), "pi_1");
    }
    let charge = r#"{"id":"ch_1","payment_intent":{"id":"pi_1"},"amount_refunded":1}"#;
    assert_eq!(name("charge.refunded", charge), "pi_1");
    let dispute =
        r#"{"id":"dp_1","charge":"ch_1","payment_intent":"pi_1","amount":900,"status":"needs_response"}"#;
    assert_eq!(name("charge.dispute.created", dispute), "pi_1");
}

#[test]
fn price_is_the_subtotal_despite_tax_and_discounts() {
    let session = |status: &str, intent: &str, total: u64| {
        format!(
            r#"{{"id":"cs_1","payment_intent":{intent},"payment_status":"{status}","amount_subtotal":900,
            "amount_total":{total},"currency":"usd",{OURS}}}"#
        )
    };
    let paid = |object: &str| match event("checkout.session.completed", object).unwrap() {
        StripeEvent::Payment { payment_id, news: News::Paid(paid) } => {
            (payment_id, paid.asked_minor(), paid.amount_minor)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(paid(&session("paid", r#""pi_1""#, 1_071)), ("pi_1".into(), 900, 1_071));
    assert_eq!(paid(&session("no_payment_required", "null", 0)), ("cs_1".into(), 900, 0));
}

#[test]
fn dispute_status_follows_from_status_and_event_type() {
    let dispute = |kind: &str, status: &str| {
        let object = format!(
            r#"{{"id":"dp_1","payment_intent":"pi_1","amount":9,"currency":"jpy","status":"{status}",
                "balance_transactions":[{{"amount":-7,"currency":"usd"}},{{"amount":7,"currency":"usd"}}]}}"#
        );
        match event(&format!("charge.dispute.{kind}"), &object).unwrap() {
            StripeEvent::Payment { news: News::Disputed { dispute, .. }, .. } => dispute,
            other => panic!("{other:?}"),
        }
    };
    for (kind, status, expected) in [
        ("created", "warning_needs_response", DisputeStatus::Inquiry),
        ("updated", "needs_response", DisputeStatus::Open),
        ("funds_withdrawn", "warning_under_review", DisputeStatus::Open),
        ("closed", "lost", DisputeStatus::Lost),
        ("funds_reinstated", "lost", DisputeStatus::Won),
        ("closed", "charge_refunded", DisputeStatus::Won),
    ] {
        assert_eq!(dispute(kind, status).status, expected, "{kind} {status}");
    }
    let withheld = Some(Price { amount_minor: 7, currency: "usd".parse().unwrap() });
    let currency = "jpy".parse().ok();
    let expected = Dispute { amount_minor: 9, currency, withheld, status: DisputeStatus::Open, at: None };
    assert_eq!(dispute("updated", "under_review"), expected);
}

#[test]
fn refund_events_have_the_refund_status() {
    let refund = |kind: &str, status: &str| {
        let object = format!(
            r#"{{"id":"re_1","charge":"ch_1","payment_intent":"pi_1","amount":9,"status":{status},"created":5}}"#
        );
        match event(kind, &object).unwrap() {
            StripeEvent::Payment { payment_id, news: News::Refund { refund_id, refund, .. } } => {
                assert_eq!((payment_id.as_str(), refund_id.as_str()), ("pi_1", "re_1"));
                refund
            }
            other => panic!("{other:?}"),
        }
    };
    for (kind, status, expected) in [
        ("refund.created", r#""pending""#, RefundStatus::Pending),
        ("refund.created", r#""requires_action""#, RefundStatus::Pending),
        ("refund.updated", r#""succeeded""#, RefundStatus::Succeeded),
        ("refund.updated", r#""canceled""#, RefundStatus::Failed),
        ("refund.failed", r#""failed""#, RefundStatus::Failed),
        ("charge.refund.updated", "null", RefundStatus::Pending),
    ] {
        let made_at = jiff::Timestamp::from_second(5).ok();
        assert_eq!(refund(kind, status), Refund { amount_minor: 9, status: expected, made_at });
    }
}

#[test]
fn stored_method_is_read_from_both_events() {
    let intent =
        r#"{"id":"seti_1","customer":"cus_1","payment_method":"pm_1","metadata":{"workspace_id":"acme"}}"#;
    let StripeEvent::Method(stored) = event("setup_intent.succeeded", intent).unwrap() else { panic!() };
    assert_eq!((stored.customer.as_str(), stored.payment_method.as_deref()), ("cus_1", Some("pm_1")));
    let session = r#"{"id":"cs_1","mode":"setup","payment_status":"no_payment_required","customer":"cus_1",
        "metadata":{"workspace_id":"acme"}}"#;
    let StripeEvent::Method(stored) = event("checkout.session.completed", session).unwrap() else { panic!() };
    assert_eq!((stored.workspace_id.as_str(), stored.payment_method), ("acme", None));
}

#[test]
fn stripe_amounts_are_converted_to_iso_minor_units() {
    let news = |kind: &str, object: &str| match event(kind, object).unwrap() {
        StripeEvent::Payment { news, .. } => news,
        other => panic!("{other:?}"),
    };
    let paid = |news: News| match news {
        News::Paid(Paid { amount_minor, currency, .. }) => format!("{currency} {amount_minor}"),
        other => panic!("{other:?}"),
    };
    let session =
        format!(r#"{{"id":"cs_1","payment_status":"paid","amount_total":3700000,"currency":"ugx",{OURS}}}"#);
    assert_eq!(paid(news("checkout.session.completed", &session)), "UGX 37000");
    let intent = format!(r#"{{"id":"pi_1","amount":370,"amount_received":370,"currency":"mga",{OURS}}}"#);
    assert_eq!(paid(news("payment_intent.succeeded", &intent)), "MGA 37000");
    let refund = r#"{"id":"ch_1","amount_refunded":500,"currency":"isk"}"#;
    assert_eq!(news("charge.refunded", refund), News::Figure(ChargeFigure { refunded_minor: 5, at: None }));
    let odd = format!(r#"{{"id":"pi_1","amount":550,"currency":"isk",{OURS}}}"#);
    assert!(matches!(event("payment_intent.succeeded", &odd), Err(EventError::Members(_))));
}

#[test]
fn all_bad_members_are_reported() {
    let bad = |read: Result<StripeEvent, EventError>| match read {
        Err(EventError::Members(bad)) => bad.into_iter().map(|bad| bad.field).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let intent = bad(event("payment_intent.succeeded", &format!("{{{OURS}}}")));
    assert_eq!(intent, ["data.object.id", "data.object.currency", "data.object.amount"]);
    let object = format!(r#"{{"id":"pi#1","amount":1,"currency":"usd",{OURS}}}"#);
    assert_eq!(bad(event("payment_intent.succeeded", &object)), ["data.object.id"]);
    assert_eq!(bad(event("charge.refunded", "[]")), ["data.object"]);
    assert_eq!(
        bad(event("charge.dispute.closed", "{}")),
        ["data.object.id", "data.object.amount", "data.object.status", "data.object.payment_intent"]
    );
    assert_eq!(bad(read(b"[]", Mode::Any)), ["type"]);
    assert!(matches!(read(b"{", Mode::Any), Err(EventError::Json(_))));
}

#[test]
fn failed_attempt_is_not_a_payment() {
    let object = format!(r#"{{"id":"pi_1","amount":900,"currency":"usd",{OURS}}}"#);
    let StripeEvent::Payment { news: News::Attempted(attempted), .. } =
        event("payment_intent.payment_failed", &object).unwrap()
    else {
        panic!("not an attempted payment")
    };
    assert_eq!((attempted.status, attempted.amount_minor), (AttemptStatus::Failed, 900));
}
