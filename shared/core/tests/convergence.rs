//! The events of one payment have the same result in whatever order, and however often, Stripe delivers them.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "tests may calculate and unwrap; the code under test may not"
)]

use std::collections::BTreeMap;

use credits_core::credits::Credits;
use credits_core::dispute::{Dispute, DisputeStatus};
use credits_core::payment::{
    Collection, MetadataIds, NamedPurchase, News, Paid, PaidSource, Payment, PaymentStep,
};
use credits_core::price::Price;
use credits_core::purchase::{Goods, Purchase};
use credits_core::refund::{ChargeFigure, Refund, RefundStatus};
use jiff::Timestamp;
use proptest::prelude::*;

const PRICE: u64 = 900;

fn top_up() -> Purchase {
    Purchase {
        purchase_id: "top_1".parse().unwrap(),
        workspace_id: "acme".parse().unwrap(),
        goods: Goods::Pack { pack: "pack_1k".parse().unwrap(), credits: "1000".parse().unwrap() },
        price: Price { amount_minor: PRICE, currency: "USD".parse().unwrap() },
        begun_at: Timestamp::UNIX_EPOCH,
    }
}

fn bought<'a>(purchase: &'a Purchase, paid_by: Option<&'a str>) -> NamedPurchase<'a> {
    NamedPurchase { purchase, paid_by, collection: Collection::Checkout }
}

fn paid() -> News {
    News::Paid(Paid {
        amount_minor: PRICE,
        currency: "usd".parse().unwrap(),
        subtotal_minor: None,
        ids: MetadataIds { purchase_id: Some("top_1".into()), workspace_id: Some("acme".into()) },
        customer: None,
        payment_method: None,
        at: None,
        source: PaidSource::Session,
    })
}

/// Something that happens to a payment at Stripe. One event happens per second.
#[derive(Debug, Clone, Copy)]
enum Event {
    Refund { refund: usize, amount_minor: u64 },
    RefundEnds { refund: usize, status: RefundStatus },
    Dispute { dispute: usize, amount_minor: u64, status: DisputeStatus },
}

/// Returns Stripe's events for what happened, and the amount of the payment that is gone in the end.
fn told_of(happened: &[Event]) -> (Vec<News>, u64) {
    let (mut told, mut refunds, mut disputes) = (vec![paid(), paid()], BTreeMap::new(), BTreeMap::new());
    for (second, event) in (1..).zip(happened) {
        let at = Timestamp::from_second(second).ok();
        match *event {
            Event::Refund { refund, amount_minor } => {
                refunds.entry(refund).or_insert(Refund {
                    amount_minor,
                    status: RefundStatus::Pending,
                    made_at: at,
                });
            }
            Event::RefundEnds { refund, status } => {
                if let Some(known) = refunds.get_mut(&refund) {
                    known.status = known.status.max(status);
                }
            }
            Event::Dispute { dispute, amount_minor, status } => {
                let stands = Dispute { amount_minor, currency: None, withheld: None, status, at };
                disputes.insert(dispute, stands);
                told.push(News::Disputed { dispute_id: format!("dp_{dispute}"), dispute: stands });
                continue;
            }
        }
        let (Event::Refund { refund, .. } | Event::RefundEnds { refund, .. }) = *event else { continue };
        if let Some(known) = refunds.get(&refund) {
            told.push(News::Refund { refund_id: format!("re_{refund}"), refund: *known, at });
        }
        told.push(News::Figure(ChargeFigure { refunded_minor: counted(&refunds), at }));
    }
    let withheld = disputes.values().filter(|dispute| dispute.status.is_withheld());
    let withheld: u64 = withheld.map(|dispute| dispute.amount_minor).sum();
    (told, counted(&refunds) + withheld)
}

fn counted(refunds: &BTreeMap<usize, Refund>) -> u64 {
    let counted = refunds.values().filter(|refund| refund.status != RefundStatus::Failed);
    counted.map(|refund| refund.amount_minor).sum()
}

/// Merges all events, and takes the steps that follow each. Returns the workspace's final balance, and the steps.
fn end_of(told: &[News]) -> (Credits, Vec<PaymentStep>) {
    let (mut payment, mut balance, mut steps) =
        (Payment::unheard_of("pi_1", Timestamp::UNIX_EPOCH), Credits::ZERO, Vec::new());
    for news in told {
        payment.merge(news);
        while let Some(step) = payment.next_step(Some(bought(&top_up(), None))).unwrap() {
            balance = match &step {
                PaymentStep::Grant(granted) => balance.plus(granted.credits.credits()).unwrap(),
                PaymentStep::ClawBack(_, amount) => balance.minus(amount.credits()).unwrap(),
                PaymentStep::Reverse(_, amount) => balance.plus(amount.credits()).unwrap(),
                PaymentStep::ClawBackTo(..) => panic!("a pack has no expiring grant"),
                PaymentStep::KeepUnmatched(mismatch) => {
                    panic!("the payment matches its purchase: {mismatch}")
                }
            };
            payment = step.taken(&payment).unwrap();
            steps.push(step);
            assert!(steps.len() < 50, "fewer than 50 steps follow an event");
        }
        assert!(
            balance >= Credits::ZERO && balance <= top_up().goods.credits().credits(),
            "the balance stays between 0 and what was granted"
        );
    }
    (balance, steps)
}

/// Generates an event: partial refunds that may fail, and at most two disputes.
fn any_event() -> impl Strategy<Value = Event> {
    use DisputeStatus::{Inquiry, Lost, Open, Won};
    let status = prop::sample::select(vec![Inquiry, Open, Lost, Won]);
    let ends = prop::sample::select(vec![RefundStatus::Succeeded, RefundStatus::Failed]);
    prop_oneof![
        (0..3_usize, 1..=PRICE / 2).prop_map(|(refund, amount_minor)| Event::Refund { refund, amount_minor }),
        (0..3_usize, ends).prop_map(|(refund, status)| Event::RefundEnds { refund, status }),
        (0..2_usize, 0..=PRICE, status).prop_map(|(dispute, amount_minor, status)| Event::Dispute {
            dispute,
            amount_minor,
            status
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_payment_comes_to_the_same_end_in_whatever_order_its_events_arrive(
        (told, gone) in prop::collection::vec(any_event(), 0..8).prop_map(|happened| told_of(&happened)).prop_flat_map(
            |(told, gone)| {
                let twice: Vec<News> = told.iter().chain(&told).cloned().collect();
                (prop::sample::subsequence(twice.clone(), told.len()..=twice.len()), Just((told, gone)))
            },
        ).prop_flat_map(|(some_again, (told, gone))| {
            let all: Vec<News> = told.into_iter().chain(some_again).collect();
            (Just(all).prop_shuffle(), Just(gone))
        }),
    ) {
        let (balance, steps) = end_of(&told);
        prop_assert_eq!(steps.iter().filter(|step| matches!(step, PaymentStep::Grant(_))).count(), 1);
        let taken = top_up().goods.credits().credits().share(gone.min(PRICE), PRICE).unwrap();
        prop_assert_eq!(balance, top_up().goods.credits().credits().minus(taken).unwrap());
    }
}
