use jiff::Timestamp;
use proptest::prelude::*;

use super::{EpochPayment, PaidByGrant, RefundMovement, ReturnedCredits};
use crate::balance::Balance;
use crate::change::{Change, QueuedChange};
use crate::claw_back::Clawed;
use crate::close::{CloseResult, Happened};
use crate::credits::{Amount, Credits};
use crate::grant::{ExpiringGrant, GrantKind};
use crate::month::Month;
use crate::posting::{Posting, Refusal};

fn micros(micros: i128) -> Credits {
    Credits::from_micros(micros).unwrap()
}

fn credits(text: &str) -> Credits {
    text.parse().unwrap()
}

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

fn at(day: i8) -> Timestamp {
    format!("2026-11-{day:02}T00:00:00Z").parse().unwrap()
}

/// Returns a grant of 5 credits that ends on a day of November.
fn grant(kind: GrantKind, ends: i8) -> ExpiringGrant {
    ExpiringGrant {
        grant_id: format!("grant_{ends}").parse().unwrap(),
        kind,
        granted: amount("5"),
        amount: credits("5"),
        expires_at: at(ends),
        clawed: Clawed::default(),
    }
}

fn with(grants: Vec<ExpiringGrant>, prepaid: &str) -> Balance {
    let owned = Credits::sum(grants.iter().map(|grant| grant.amount)).unwrap();
    let (prepaid, credit_limit) = (credits(prepaid), credits("50"));
    let spendable = owned.plus(prepaid).unwrap().plus(credit_limit).unwrap();
    let expires_next = grants.iter().map(|grant| grant.expires_at).min();
    let expires_next = expires_next.unwrap_or(crate::balance::NEVER);
    Balance { spendable, grants, prepaid, credit_limit, expires_next, ..Balance::default() }
}

fn posted(balance: &Balance, posting: &Posting) -> Balance {
    posting.apply(balance, "key#k").unwrap()
}

/// Debits credits on a day.
fn debited(balance: &Balance, price: &str, day: i8) -> Balance {
    posted(balance, &Posting::debit(amount(price).into(), at(day)))
}

/// Queues a change on a day, and closes.
fn changed(balance: &Balance, change: Change, day: i8) -> CloseResult {
    posted(balance, &Posting::queue_change(change, at(day))).close(at(day)).unwrap()
}

/// Ends the epoch without another effect.
fn closed(balance: &Balance, day: i8) -> CloseResult {
    changed(balance, Change::Invoicing(balance.invoices_at), day)
}

fn movement(debited_on: i8, of_epoch: &str, returned: ReturnedCredits) -> RefundMovement {
    let refund_id = "dref_1".parse().unwrap();
    RefundMovement { refund_id, debited_at: at(debited_on), of_epoch: credits(of_epoch), returned }
}

/// Refunds credits of a closed epoch on a day, and closes.
fn refunded(balance: &Balance, payment: &EpochPayment, refund: &str, day: i8) -> Balance {
    let (returned, _) = payment.split(amount(refund)).unwrap();
    let next = posted(balance, &movement(1, "0", returned).posting(balance, at(day)).unwrap());
    if next.is_due(at(day)) { next.close(at(day)).unwrap().next } else { next }
}

/// Returns what is left of each grant and of the prepaid sum.
fn left(balance: &Balance) -> Vec<String> {
    assert_eq!(balance.is_consistent(), Ok(true));
    let waterfall = balance.waterfall().unwrap();
    let grants = waterfall.grants.iter().map(|grant| format!("{} {}", grant.grant_id, grant.amount));
    grants.chain([format!("prepaid {}", waterfall.prepaid)]).collect()
}

#[test]
fn m02_refund_in_the_epoch_undoes_the_debit() {
    let before = with(vec![grant(GrantKind::Promotional, 20)], "3");
    let debit = debited(&before, "7", 2);
    let refund = movement(2, "4", ReturnedCredits::default()).posting(&debit, at(2)).unwrap();
    let after = posted(&debit, &refund);
    let smaller = debited(&before, "3", 2);
    assert_eq!(left(&after), left(&smaller));
    assert_eq!(
        (after.spendable, after.used, after.consumed),
        (smaller.spendable, smaller.used, smaller.consumed)
    );
}

#[test]
fn m02_used_up_grant_that_still_runs_gets_its_credits_back() {
    let debit = debited(&with(vec![grant(GrantKind::Promotional, 20)], "3"), "6", 2);
    let close = closed(&debit, 3);
    assert_eq!(left(&close.next), ["prepaid 2"], "a used-up grant leaves the balance");
    let after = refunded(&close.next, &close.payment.unwrap(), "6", 4);
    assert_eq!(left(&after), ["grant_20 5", "prepaid 3"]);
    assert_eq!((after.grants[0].expires_at, after.expires_next), (at(20), at(20)));
}

#[test]
fn m02_allocation_that_runs_gets_its_credits_back() {
    let debit = debited(&with(vec![grant(GrantKind::Allocation, 20)], "3"), "6", 2);
    let close = closed(&debit, 3);
    assert_eq!(left(&close.next), ["grant_20 0", "prepaid 2"]);
    let after = refunded(&close.next, &close.payment.unwrap(), "3", 4);
    assert_eq!(left(&after), ["grant_20 2.5", "prepaid 2.5"]);
    assert_eq!(after.grants[0].consumed(), Ok(credits("2.5")));
}

#[test]
fn m02_credits_of_an_ended_grant_return_for_30_days() {
    let debit = debited(&with(vec![grant(GrantKind::Promotional, 10)], "0"), "4", 2);
    let close = debit.close(at(10)).unwrap();
    let after = refunded(&close.next, &close.payment.unwrap(), "4", 12);
    assert_eq!(left(&after), ["dref_1 4", "prepaid 0"]);
    let returned = &after.grants[0];
    assert_eq!((returned.kind, returned.granted), (GrantKind::Promotional, amount("4")));
    assert_eq!(returned.expires_at.to_string(), "2026-12-12T00:00:00Z");
}

#[test]
fn m02_credits_of_an_ended_grant_return_until_the_period_ends() {
    let grants = vec![grant(GrantKind::Promotional, 10), grant(GrantKind::Allocation, 20)];
    let debit = debited(&with(grants, "0"), "4", 2);
    let close = debit.close(at(10)).unwrap();
    let after = refunded(&close.next, &close.payment.unwrap(), "4", 12);
    assert_eq!(left(&after), ["dref_1 4", "grant_20 5", "prepaid 0"]);
    assert_eq!(after.grants.iter().map(|grant| grant.expires_at).collect::<Vec<_>>(), [at(20), at(20)]);
}

#[test]
fn m04_capture_that_expired_credits_paid_returns_as_a_grant() {
    let balance = with(Vec::new(), "0");
    let returned = ReturnedCredits { expired: credits("2"), ..ReturnedCredits::default() };
    let next = posted(&balance, &movement(2, "0", returned).posting(&balance, at(3)).unwrap());
    assert_eq!(left(&next.close(at(3)).unwrap().next), ["dref_1 2", "prepaid 0"]);
}

#[test]
fn m09_usage_goes_down_in_the_month_of_the_debit() {
    let counted = |month: &str| (month.parse::<Month>().unwrap(), credits("9"));
    let consumed = ["2026-10", "2026-11"].map(counted).into();
    let balance = Balance { consumed, ..with(Vec::new(), "0") };
    let after = |debited_at: &str| {
        let returned = ReturnedCredits { prepaid: credits("4"), ..ReturnedCredits::default() };
        let debited_at = debited_at.parse().unwrap();
        let movement = RefundMovement { debited_at, ..movement(1, "0", returned) };
        let next = posted(&balance, &movement.posting(&balance, at(3)).unwrap());
        next.consumed.iter().map(|(month, credits)| format!("{month} {credits}")).collect::<Vec<_>>()
    };
    assert_eq!(after("2026-11-02T00:00:00Z"), ["2026-10 9", "2026-11 5"]);
    assert_eq!(after("2026-10-31T23:59:59Z"), ["2026-10 5", "2026-11 9"]);
    assert_eq!(after("2026-09-30T23:59:59Z"), ["2026-10 9", "2026-11 9"], "no counter is left");
}

#[test]
fn m02_refund_pays_debt_before_a_grant_gets_credits() {
    let debit = debited(&with(vec![grant(GrantKind::Allocation, 20)], "0"), "5", 2);
    let close = closed(&debit, 3);
    let owing = debited(&close.next, "3", 4);
    let after = refunded(&owing, &close.payment.unwrap(), "4", 5);
    assert_eq!(left(&after), ["grant_20 1", "prepaid 0"]);
}

#[test]
fn m16_returned_credits_pay_debt_in_the_order_of_spending() {
    let grants = vec![grant(GrantKind::Promotional, 19), grant(GrantKind::Allocation, 20)];
    let debit = debited(&with(grants, "0"), "10", 2);
    let close = closed(&debit, 3);
    let owing = debited(&close.next, "3", 4);
    let after = refunded(&owing, &close.payment.unwrap(), "10", 5);
    assert_eq!(left(&after), ["grant_19 2", "grant_20 5", "prepaid 0"]);
}

#[test]
fn m16_returned_credits_are_taken_back_in_the_order_of_spending() {
    let grants = vec![grant(GrantKind::Promotional, 19), grant(GrantKind::Allocation, 20)];
    let debit = debited(&with(grants, "0"), "10", 2);
    let close = closed(&debit, 3);
    let (returned, _) = close.payment.unwrap().split(amount("10")).unwrap();
    let next = posted(&close.next, &movement(2, "0", returned).posting(&close.next, at(4)).unwrap());
    let after = changed(&next, Change::ClawBack(amount("3")), 4).next;
    assert_eq!(left(&after), ["grant_19 2", "grant_20 5", "prepaid 0"]);
}

#[test]
fn m08_refund_of_invoiced_use_lowers_the_next_invoice() {
    let balance = Balance { invoices_at: Some(at(10)), expires_next: at(10), ..with(Vec::new(), "0") };
    let close = debited(&balance, "7", 2).close(at(10)).unwrap();
    let billed = |close: &CloseResult| {
        let invoice = close.outcomes.iter().find(|outcome| matches!(outcome.what, Happened::Invoiced(_)));
        invoice.map(|invoice| invoice.credits.to_string())
    };
    assert_eq!(billed(&close).as_deref(), Some("7"));
    let after = refunded(&close.next, close.payment.as_ref().unwrap(), "4", 12);
    assert_eq!(left(&after), ["prepaid 4"]);
    let (next_debit, month_end) = (debited(&after, "6", 13), close.next.invoices_at.unwrap());
    assert_eq!(billed(&next_debit.close(month_end).unwrap()).as_deref(), Some("2"));
}

/// The refund of the payment has charged consumed credits. Once their debit is refunded, it takes the credits unused.
#[test]
fn m05_returned_credits_of_a_refunded_payment_replace_its_charge() {
    let debit = debited(&with(vec![grant(GrantKind::Allocation, 20)], "6"), "5", 2);
    let claw = |target: &str| Change::ClawBackTo {
        key: "claw".to_owned(),
        grant_id: grant(GrantKind::Allocation, 20).grant_id,
        target: credits(target),
    };
    let close = closed(&debit, 3);
    let payment = close.payment.unwrap();
    let payment_first = changed(&close.next, claw("4"), 4).next;
    assert_eq!(left(&payment_first), ["grant_20 0", "prepaid 2"]);
    let payment_first = refunded(&payment_first, &payment, "5", 5);
    let debit_first = refunded(&close.next, &payment, "5", 4);
    let debit_first = changed(&debit_first, claw("4"), 5).next;
    assert_eq!(left(&payment_first), ["grant_20 1", "prepaid 6"]);
    assert_eq!(payment_first.grants, debit_first.grants);
    assert_eq!(left(&payment_first), left(&debit_first));
}

/// An allocation stays in the balance until its end. One that is absent has ended or was withdrawn, whatever the time of
/// a slow clock is.
#[test]
fn m06_absent_allocation_does_not_return() {
    let debit = debited(&with(vec![grant(GrantKind::Allocation, 10)], "0"), "4", 2);
    let close = debit.close(at(10)).unwrap();
    assert_eq!(close.ended.len(), 1);
    let (returned, _) = close.payment.unwrap().split(amount("4")).unwrap();
    let change = Change::Return { refund_id: "dref_1".parse().unwrap(), returned };
    let changes = vec![QueuedChange { at: at(9), change }];
    let after = Balance { changes, ..close.next }.close(at(10)).unwrap();
    assert_eq!((after.ended, after.outcomes), (Vec::new(), Vec::new()));
    assert_eq!(left(&after.next), ["dref_1 4", "prepaid 0"]);
}

#[test]
fn m02_refund_to_grants_requires_the_epoch_that_was_read() {
    let debit = debited(&with(vec![grant(GrantKind::Promotional, 10)], "0"), "4", 2);
    let close = closed(&debit, 3);
    let (returned, _) = close.payment.unwrap().split(amount("4")).unwrap();
    let posting = movement(2, "0", returned).posting(&close.next, at(9)).unwrap();
    let later = close.next.close(at(10)).unwrap().next;
    assert_eq!(posting.apply(&later, "key#k"), Err(Refusal::EpochChanged), "the grant has ended meanwhile");
}

#[test]
fn m02_refund_above_an_exhausted_record_returns_as_prepaid_credits() {
    let debit = debited(&with(vec![grant(GrantKind::Promotional, 20)], "0"), "4", 2);
    let (_, empty) = closed(&debit, 3).payment.unwrap().split(amount("4")).unwrap();
    let (returned, next) = empty.split(amount("1")).unwrap();
    assert_eq!(returned, ReturnedCredits { prepaid: credits("1"), ..ReturnedCredits::default() });
    assert_eq!(next, empty);
}

#[test]
fn m02_free_epoch_has_no_payment() {
    let balance = with(vec![grant(GrantKind::Promotional, 20)], "0");
    assert_eq!(closed(&balance, 3).payment, None);
    let debit = debited(&balance, "4", 2);
    let refund = movement(2, "4", ReturnedCredits::default()).posting(&debit, at(2)).unwrap();
    assert_eq!(closed(&posted(&debit, &refund), 3).payment, None, "all of its use was refunded");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the refunds of an epoch are, each returns its credits. Each source gets its proportion to a millionth, and
    /// never more than it paid.
    #[test]
    fn refunds_return_all_and_to_no_source_more_than_it_paid(
        paid in proptest::collection::vec(1_i128..5_000_000, 0..5),
        prepaid in 0_i128..5_000_000,
        refunds in proptest::collection::vec(1_i128..3_000_000, 1..8),
    ) {
        let grants = paid.iter().enumerate().map(|(place, credits)| PaidByGrant {
            grant_id: format!("gr_{place}").parse().unwrap(),
            kind: GrantKind::Promotional,
            granted: amount("5"),
            expires_at: Timestamp::UNIX_EPOCH,
            credits: micros(*credits),
        });
        let closed_at = Timestamp::UNIX_EPOCH;
        let mut record = EpochPayment { epoch: 3, closed_at, grants: grants.collect(), prepaid: micros(prepaid) };
        let mut left = paid.iter().sum::<i128>() + prepaid;
        for refund in refunds {
            let (returned, next) = record.split(Amount::new(micros(refund)).unwrap()).unwrap();
            let of_epoch = refund.min(left);
            let to_grants: i128 = returned.grants.iter().map(|part| part.credits.micros().unwrap()).sum();
            prop_assert_eq!(to_grants + returned.prepaid.micros().unwrap(), refund);
            let sources = |record: &EpochPayment| -> Vec<i128> {
                let grants = record.grants.iter().map(|paid| paid.credits);
                grants.chain([record.prepaid]).map(|credits| credits.micros().unwrap()).collect()
            };
            for (before, after) in sources(&record).into_iter().zip(sources(&next)) {
                prop_assert!((0..=before).contains(&after));
                prop_assert!(left == 0 || ((before - after) * left - before * of_epoch).abs() < left);
            }
            (left, record) = (left - of_epoch, next);
        }
        prop_assert_eq!(record.grants.len(), paid.len());
    }
}
