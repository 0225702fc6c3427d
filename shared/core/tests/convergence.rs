//! What the provider tells of one payment comes to the same end in whatever order, and however often, it is told.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "a test may calculate and unwrap; what it tests may not"
)]

use credits_core::credits::Credits;
use credits_core::payment::{
    Bought, Collection, Dispute, DisputeStatus, Named, News, Paid, PaidSource, Payment, Step,
};
use credits_core::price::Price;
use credits_core::purchase::{Goods, Purchase};
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

fn bought<'a>(purchase: &'a Purchase, paid_by: Option<&'a str>) -> Bought<'a> {
    Bought { purchase, paid_by, collection: Collection::Checkout }
}

fn paid() -> News {
    News::Paid(Paid {
        amount_minor: PRICE,
        currency: "usd".parse().unwrap(),
        subtotal_minor: None,
        named: Named { purchase_id: Some("top_1".into()), workspace_id: Some("acme".into()) },
        customer: None,
        payment_method: None,
        at: None,
        source: PaidSource::Session,
    })
}

fn dispute(id: &str, amount_minor: u64, status: DisputeStatus) -> News {
    News::Disputed { dispute_id: id.into(), dispute: Dispute { amount_minor, status } }
}

/// Tells all of it, doing after each event what follows, and gives what the workspace ends with and the postings made.
fn end_of(told: &[News]) -> (Credits, Vec<Step>) {
    let (mut payment, mut balance, mut steps) =
        (Payment::unheard_of("pi_1", Timestamp::UNIX_EPOCH), Credits::ZERO, Vec::new());
    for news in told {
        payment.merge(news);
        while let Some(step) = payment.next_step(Some(bought(&top_up(), None))).unwrap() {
            balance = match &step {
                Step::Grant(granted) => balance.plus(granted.credits.credits()).unwrap(),
                Step::ClawBack(_, amount) => balance.minus(amount.credits()).unwrap(),
                Step::Reverse(_, amount) => balance.plus(amount.credits()).unwrap(),
                Step::KeepUnmatched(mismatch) => panic!("it fits: {mismatch}"),
            };
            payment = step.taken(&payment).unwrap();
            steps.push(step);
            assert!(steps.len() < 50, "steps come to an end");
        }
        assert!(
            balance >= Credits::ZERO && balance <= top_up().goods.credits().credits(),
            "within what was granted"
        );
    }
    (balance, steps)
}

/// What a provider may tell of one payment: it was paid, refunded in parts, and disputed twice at most.
fn story() -> impl Strategy<Value = Vec<News>> {
    let refunds = prop::collection::vec(0..=PRICE, 0..3);
    let ends = (0..3_usize, 0..3_usize, 0..=PRICE, 0..=PRICE);
    (refunds, ends).prop_map(|(refunds, (first, second, first_amount, second_amount))| {
        let mut told = vec![paid(), paid()];
        told.extend(refunds.into_iter().map(|refunded_minor| News::Refunded { refunded_minor }));
        let end = [DisputeStatus::Open, DisputeStatus::Won, DisputeStatus::Lost];
        for (id, amount, end) in [("dp_1", first_amount, end[first]), ("dp_2", second_amount, end[second])] {
            told.push(dispute(id, amount, DisputeStatus::Inquiry));
            told.push(dispute(id, amount, DisputeStatus::Open));
            told.push(dispute(id, amount, end));
        }
        told
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_payment_comes_to_the_same_end_in_whatever_order_it_is_told(
        (told, shuffled) in story().prop_flat_map(|told| (Just(told.clone()), Just(told).prop_shuffle())),
    ) {
        let (balance, _) = end_of(&told);
        let (other, steps) = end_of(&shuffled);
        prop_assert_eq!(balance, other);
        prop_assert_eq!(steps.iter().filter(|step| matches!(step, Step::Grant(_))).count(), 1);
    }
}
