//! A payment that matches its purchase grants. Any other is kept for an operator, with the reason.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "tests may calculate and unwrap; the code under test may not"
)]

use credits_core::dispute::{Dispute, DisputeStatus};
use credits_core::payment::{
    Collection, Granted, MetadataIds, Mismatch, NamedPurchase, News, Paid, PaidSource, Payment,
    PaymentStatus, PaymentStep, Resolution, Resolved,
};
use credits_core::price::Price;
use credits_core::purchase::{Goods, Purchase};
use credits_core::refund::{ChargeFigure, Refund, RefundStatus};
use jiff::Timestamp;

fn top_up() -> Purchase {
    Purchase {
        purchase_id: "top_1".parse().unwrap(),
        workspace_id: "acme".parse().unwrap(),
        goods: Goods::Pack { pack: "pack_1k".parse().unwrap(), credits: "1000".parse().unwrap() },
        price: Price { amount_minor: 900, currency: "USD".parse().unwrap() },
        begun_at: Timestamp::UNIX_EPOCH,
    }
}

fn bought<'a>(purchase: &'a Purchase, paid_by: Option<&'a str>) -> NamedPurchase<'a> {
    NamedPurchase { purchase, paid_by, collection: Collection::Checkout }
}

fn paid() -> Paid {
    Paid {
        amount_minor: 900,
        currency: "usd".parse().unwrap(),
        subtotal_minor: None,
        ids: MetadataIds { purchase_id: Some("top_1".into()), workspace_id: Some("acme".into()) },
        customer: None,
        payment_method: None,
        at: None,
        source: PaidSource::Session,
    }
}

fn heard(news: &[News]) -> Payment {
    let mut payment = Payment::unheard_of("pi_1", Timestamp::UNIX_EPOCH);
    for news in news {
        payment.merge(news);
    }
    payment
}

/// Returns the next step of a payment that names an unpaid top-up.
fn comes_to(payment: &Payment) -> PaymentStep {
    payment.next_step(Some(bought(&top_up(), None))).unwrap().unwrap()
}

#[test]
fn m05_matching_payment_grants_its_purchase_once() {
    let payment = heard(&[News::Paid(paid())]);
    let step = comes_to(&payment);
    let PaymentStep::Grant(granted) = &step else { panic!("{step:?}") };
    assert_eq!((granted.credits.to_string().as_str(), granted.amount_minor), ("1000", 900));
    let after = step.taken(&payment).unwrap();
    assert_eq!((after.granted.as_ref(), after.claws), (Some(granted), 0));
    assert_eq!(after.next_step(Some(bought(&top_up(), Some("pi_1")))), Ok(None));
    assert_eq!(heard(&[]).next_step(None), Ok(None), "nothing is paid yet");
}

#[test]
fn m05_unmatched_payment_is_kept_once_with_its_reason() {
    let other = |change: fn(&mut Paid)| {
        let mut paid = paid();
        change(&mut paid);
        heard(&[News::Paid(paid)])
    };
    for (payment, reason) in [
        (other(|paid| paid.ids.purchase_id = None), Mismatch::NoReference),
        (other(|paid| paid.ids.workspace_id = Some("other".into())), Mismatch::Workspace),
        (other(|paid| paid.currency = "eur".parse().unwrap()), Mismatch::Currency),
        (other(|paid| paid.amount_minor = 899), Mismatch::Amount),
        (other(|paid| paid.amount_minor = 901), Mismatch::Amount),
    ] {
        let step = comes_to(&payment);
        assert_eq!(step, PaymentStep::KeepUnmatched(reason));
        let kept = step.taken(&payment).unwrap();
        assert!(kept.is_unmatched() && !payment.is_unmatched());
        assert_eq!(kept.next_step(Some(bought(&top_up(), None))), Ok(None), "{reason}");
        assert_eq!(reason.to_string().parse(), Ok(reason));
    }
    let fits = heard(&[News::Paid(paid())]);
    assert_eq!(fits.next_step(None), Ok(Some(PaymentStep::KeepUnmatched(Mismatch::UnknownTopUp))));
    let twice = fits.next_step(Some(bought(&top_up(), Some("pi_2"))));
    assert_eq!(twice, Ok(Some(PaymentStep::KeepUnmatched(Mismatch::AlreadyPaid))));
    assert!(matches!(comes_to(&other(|paid| paid.ids.workspace_id = None)), PaymentStep::Grant(_)));
    assert_eq!("no_reason".parse::<Mismatch>(), Err(()));
}

#[test]
fn m05_payment_of_a_subscription_that_moved_on_never_grants() {
    let payment = PaymentStep::KeepUnmatched(Mismatch::MovedOn).taken(&heard(&[News::Paid(paid())])).unwrap();
    assert_eq!(payment.next_step(Some(bought(&top_up(), None))), Ok(None));
}

#[test]
fn granted_or_refunded_payment_is_no_longer_unmatched() {
    let kept =
        PaymentStep::KeepUnmatched(Mismatch::UnknownTopUp).taken(&heard(&[News::Paid(paid())])).unwrap();
    let refunded = |refunded_minor| {
        let mut payment = kept.clone();
        payment.merge(&figure(refunded_minor));
        payment.is_unmatched()
    };
    assert!(refunded(899) && !refunded(900));
    let PaymentStep::Grant(granted) = comes_to(&kept) else { panic!("it matches now") };
    assert!(!PaymentStep::Grant(granted.clone()).taken(&kept).unwrap().is_unmatched());
    assert!(!Payment { granted: Some(granted), ..kept }.is_unmatched());
}

#[test]
fn later_event_replaces_neither_a_grant_nor_a_named_purchase() {
    let without = |amount_minor| News::Paid(Paid { ids: MetadataIds::default(), amount_minor, ..paid() });
    assert_eq!(heard(&[News::Paid(paid()), without(1)]).paid, Some(paid()));
    assert_eq!(heard(&[without(1), News::Paid(paid())]).paid, Some(paid()));
    let amount = |payment: &Payment| payment.paid.as_ref().unwrap().amount_minor;
    assert_eq!(amount(&heard(&[without(1), without(2)])), 2);
    let named = heard(&[News::Paid(paid())]);
    let mut granted = comes_to(&named).taken(&named).unwrap();
    granted.merge(&News::Paid(Paid { amount_minor: 1, ..paid() }));
    assert_eq!(granted.paid, Some(paid()));
}

#[test]
fn customer_is_known_from_either_event() {
    let by = |customer: &str| Some(customer.to_owned());
    let session = News::Paid(Paid { customer: by("cus_1"), ..paid() });
    let intent = News::Paid(Paid { customer: None, ..paid() });
    let unnamed = News::Paid(Paid { ids: MetadataIds::default(), customer: by("cus_1"), ..paid() });
    for news in
        [[session.clone(), intent.clone()], [intent.clone(), session.clone()], [intent.clone(), unnamed]]
    {
        assert_eq!(heard(&news).paid, Some(Paid { customer: by("cus_1"), ..paid() }));
    }
    let first = heard(&[intent]);
    let mut granted = comes_to(&first).taken(&first).unwrap();
    granted.merge(&session);
    granted.merge(&News::Paid(Paid { customer: by("cus_2"), ..paid() }));
    assert_eq!(granted.customer(), Some("cus_1"));
}

fn figure(refunded_minor: u64) -> News {
    figure_at(refunded_minor, 0)
}

fn figure_at(refunded_minor: u64, second: i64) -> News {
    News::Figure(ChargeFigure { refunded_minor, at: Timestamp::from_second(second).ok() })
}

fn refund_at(id: &str, amount_minor: u64, status: RefundStatus, second: i64) -> News {
    let at = Timestamp::from_second(second).ok();
    News::Refund { refund_id: id.into(), refund: Refund { amount_minor, status, made_at: at }, at }
}

fn dispute_at(amount_minor: u64, status: DisputeStatus, second: i64) -> News {
    let at = Timestamp::from_second(second).ok();
    let dispute = Dispute { amount_minor, currency: None, withheld: None, status, at };
    News::Disputed { dispute_id: "dp_1".into(), dispute }
}

#[test]
fn m05_newest_event_decides_the_status_of_a_dispute() {
    use DisputeStatus::{Inquiry, Lost, Open, Won};
    let stands = |news: &[(DisputeStatus, i64)]| {
        let news: Vec<_> = news.iter().map(|(status, second)| dispute_at(900, *status, *second)).collect();
        heard(&news).disputes["dp_1"].status
    };
    assert_eq!(stands(&[(Inquiry, 1), (Open, 2)]), Open, "an inquiry escalates");
    assert_eq!(stands(&[(Open, 2), (Inquiry, 1)]), Open);
    assert_eq!(stands(&[(Open, 1), (Lost, 2), (Won, 3)]), Won, "an appeal is won");
    assert_eq!(stands(&[(Won, 3), (Open, 1), (Lost, 2)]), Won);
    assert_eq!(stands(&[(Won, 1), (Lost, 2)]), Lost, "a won dispute is lost again");
    assert_eq!(stands(&[(Won, 1), (Open, 1), (Inquiry, 1)]), Won, "in one second, an end takes precedence");
    assert_eq!(stands(&[(Lost, 1), (Won, 1)]), Won, "of two ends, the later arrival counts");
}

#[test]
fn m05_refunds_count_by_id_and_status() {
    use RefundStatus::{Failed, Pending, Succeeded};
    let total = |news: &[News]| heard(news).refunds.total_minor();
    assert_eq!(total(&[refund_at("re_1", 300, Pending, 1), refund_at("re_2", 200, Succeeded, 2)]), 500);
    let failed = [
        refund_at("re_1", 300, Succeeded, 1),
        refund_at("re_1", 300, Failed, 5),
        refund_at("re_1", 300, Pending, 1),
    ];
    assert_eq!(total(&failed), 0, "a failed refund stays failed");
    assert_eq!(total(&[figure_at(300, 1), figure_at(100, 2)]), 100, "the newest figure counts");
    assert_eq!(total(&[figure_at(100, 2), figure_at(300, 1)]), 100);
    let figure_is_older =
        [figure_at(300, 1), refund_at("re_1", 300, Pending, 1), refund_at("re_1", 300, Failed, 2)];
    assert_eq!(total(&figure_is_older), 0);
    let figure_is_newer = [refund_at("re_1", 300, Pending, 1), figure_at(500, 2)];
    assert_eq!(total(&figure_is_newer), 500, "the event of another refund is missing");
    let explained =
        [figure_at(500, 2), refund_at("re_2", 100, Succeeded, 3), refund_at("re_1", 500, Pending, 1)];
    assert_eq!(total(&explained), 600);
    assert_eq!(total(&explained[..2]), 600, "some refunds are known only from the figure");
}

#[test]
fn m05_dispute_in_another_currency_takes_stripes_amount_or_all() {
    let payment = heard(&[News::Paid(paid())]);
    let granted = comes_to(&payment).taken(&payment).unwrap();
    let price = |amount_minor, currency: &str| Price { amount_minor, currency: currency.parse().unwrap() };
    let taken = |currency: Option<&str>, withheld: Option<Price>| {
        let currency = currency.map(|currency| currency.parse().unwrap());
        let dispute =
            Dispute { amount_minor: 90_000, currency, withheld, status: DisputeStatus::Open, at: None };
        let mut payment = granted.clone();
        payment.merge(&News::Disputed { dispute_id: "dp_1".into(), dispute });
        let Some(PaymentStep::ClawBack(_, amount)) = payment.next_step(None).unwrap() else {
            panic!("a claw-back")
        };
        amount.to_string()
    };
    assert_eq!(taken(Some("jpy"), Some(price(450, "usd"))), "500");
    assert_eq!(taken(Some("jpy"), Some(price(450, "eur"))), "1000");
    assert_eq!(taken(Some("jpy"), None), "1000");
    assert_eq!(taken(None, None), "1000", "at most what was bought");
}

#[test]
fn m05_refund_of_a_withdrawn_period_moves_no_credits() {
    let payment = heard(&[News::Paid(paid())]);
    let granted = comes_to(&payment).taken(&payment).unwrap();
    let mut withdrawn = Payment { is_withdrawn: true, ..granted };
    assert_eq!((withdrawn.status(), withdrawn.next_step(None)), (Some(PaymentStatus::Refunded), Ok(None)));
    withdrawn.merge(&refund_at("re_1", 900, RefundStatus::Failed, 1));
    assert_eq!((withdrawn.status(), withdrawn.next_step(None)), (Some(PaymentStatus::Succeeded), Ok(None)));
}

#[test]
fn m05_refunds_of_a_period_set_a_target_for_its_grant() {
    let payment = heard(&[News::Paid(paid())]);
    let PaymentStep::Grant(granted) = comes_to(&payment) else { panic!("it matches its purchase") };
    let granted = Granted { grant_id: "gr_1".parse().ok(), ..granted };
    let mut payment = PaymentStep::Grant(granted.clone()).taken(&payment).unwrap();
    for (status, target) in [(RefundStatus::Pending, "500"), (RefundStatus::Failed, "0")] {
        payment.merge(&refund_at("re_1", 450, status, 1));
        let step = payment.next_step(None).unwrap().unwrap();
        assert_eq!(step, PaymentStep::ClawBackTo(granted.clone(), target.parse().unwrap()));
        payment = step.taken(&payment).unwrap();
        assert_eq!(payment.next_step(None), Ok(None));
    }
    assert_eq!(payment.claws, 2);
}

#[test]
fn m05_refund_or_dispute_takes_credits_and_a_win_returns_them() {
    let payment = heard(&[News::Paid(paid())]);
    let granted = comes_to(&payment).taken(&payment).unwrap();
    let disputed = |status| dispute_at(450, status, 0);
    let after = |payment: &Payment, news: &News| {
        let mut payment = payment.clone();
        payment.merge(news);
        let step = payment.next_step(None).unwrap();
        let next = step.as_ref().map_or(payment.clone(), |step| step.taken(&payment).unwrap());
        let amount = match &step {
            Some(PaymentStep::ClawBack(_, amount)) => format!("-{amount}"),
            Some(PaymentStep::Reverse(_, amount)) => format!("+{amount}"),
            other => format!("{other:?}"),
        };
        (next, amount)
    };
    let (open, taken) = after(&granted, &disputed(DisputeStatus::Open));
    assert_eq!((taken.as_str(), open.clawed.to_string().as_str(), open.claws), ("-500", "500", 1));
    let (won, given) = after(&open, &disputed(DisputeStatus::Won));
    assert_eq!((given.as_str(), won.clawed.to_string().as_str(), won.claws), ("+500", "0", 2));
    assert_eq!(after(&open, &disputed(DisputeStatus::Lost)).1, "None");
    assert_eq!(after(&granted, &disputed(DisputeStatus::Won)).1, "None");
    assert_eq!(after(&granted, &figure(300)).1, "-333.333333");
    assert_eq!(after(&granted, &figure(5_000)).1, "-1000", "at most what was granted");
}

#[test]
fn m05_tax_and_discounts_are_the_sessions_to_judge() {
    let session = Paid { amount_minor: 1_071, subtotal_minor: Some(900), ..paid() };
    let intent = Paid { amount_minor: 1_071, source: PaidSource::Intent, ..paid() };
    let alone = heard(&[News::Paid(intent.clone())]);
    let purchase = top_up();
    assert_eq!(alone.next_step(Some(bought(&purchase, None))), Ok(None), "only the session decides");
    let off_session = NamedPurchase { collection: Collection::OffSession, ..bought(&purchase, None) };
    let step = alone.next_step(Some(off_session));
    assert_eq!(step, Ok(Some(PaymentStep::KeepUnmatched(Mismatch::Amount))));
    for news in [[session.clone(), intent.clone()], [intent, session]] {
        let payment = heard(&news.map(News::Paid));
        let PaymentStep::Grant(granted) = comes_to(&payment) else { panic!("it matches its purchase") };
        assert_eq!(granted.amount_minor, 1_071, "the amount received");
        let mut refunded = PaymentStep::Grant(granted).taken(&payment).unwrap();
        refunded.merge(&figure(357));
        let Some(PaymentStep::ClawBack(_, amount)) = refunded.next_step(None).unwrap() else {
            panic!("expected a claw-back")
        };
        assert_eq!(amount.to_string(), "333.333333", "a refund is a share of the amount received");
    }
    let free = heard(&[News::Paid(Paid { amount_minor: 0, subtotal_minor: Some(900), ..paid() })]);
    let granted = comes_to(&free).taken(&free).unwrap();
    assert_eq!(granted.next_step(None), Ok(None));
}

#[test]
fn m05_an_attempt_is_listed_and_success_replaces_it() {
    use credits_core::payment::{AttemptStatus, Attempted};
    let attempt = |status| {
        let currency = "usd".parse().unwrap();
        News::Attempted(Attempted { status, amount_minor: 900, currency, ids: paid().ids })
    };
    let (processing, failed) = (attempt(AttemptStatus::Processing), attempt(AttemptStatus::Failed));
    let status = |news: &[News]| heard(news).status();
    assert_eq!(status(std::slice::from_ref(&processing)), Some(PaymentStatus::Processing));
    assert_eq!(status(&[processing.clone(), failed.clone()]), Some(PaymentStatus::Failed));
    assert_eq!(status(&[failed.clone(), processing]), Some(PaymentStatus::Failed));
    assert_eq!(status(&[failed, News::Paid(paid())]), Some(PaymentStatus::Succeeded));
    let partly = [News::Paid(paid()), figure(1)];
    assert_eq!(status(&partly), Some(PaymentStatus::PartiallyRefunded));
    assert_eq!(status(&[figure(1)]), None);
}

#[test]
fn resolved_payment_is_granted_by_no_later_event() {
    let mut kept =
        PaymentStep::KeepUnmatched(Mismatch::UnknownTopUp).taken(&heard(&[News::Paid(paid())])).unwrap();
    assert!(matches!(comes_to(&kept), PaymentStep::Grant(_)), "the purchase exists now");
    let note = "by hand".to_owned();
    kept.resolved = Some(Resolved { resolution: Resolution::Granted, note });
    assert_eq!((kept.next_step(Some(bought(&top_up(), None))), kept.is_unmatched()), (Ok(None), false));
}
