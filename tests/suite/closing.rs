//! Expiry, the fence and the close, on a stack's table.

use credits_core::balance::Balance;
use credits_core::change::Change;
use credits_core::claw_back::Clawed;
use credits_core::grant::{ExpiringGrant, GrantKind};
use credits_core::posting::{Posting, Refusal};
use credits_store::debits::DebitRefusal;
use credits_store::grants::{GrantOrder, Term};
use jiff::{SignedDuration, Timestamp};

use crate::contention::{cause, claim};
use crate::table::{Table, TableFault, cancelled};
use crate::world::World;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

async fn grant(table: &Table, key: &str, credits: &str, term: Term) -> credits_core::id::Id {
    let order = GrantOrder { amount: credits.parse().unwrap(), term, reason: "a test".into() };
    table.store.grants().grant(&claim(key, key), &order).await.unwrap().entry.entry_id
}

fn until(at: Timestamp) -> Term {
    Term::Until(GrantKind::Promotional, at)
}

async fn take(table: &Table, key: &str, credits: &str) -> Result<(), DebitRefusal> {
    table.store.debits().debit(&claim(key, key), credits.parse().unwrap(), cause()).await.map(drop)
}

async fn balance(table: &Table) -> Balance {
    table.store.balances().get(&"acme".parse().unwrap()).await.unwrap().unwrap()
}

async fn acme() -> (World, Table) {
    let world = World::with_packs(0).await;
    let table = Table::of(&world);
    (world, table)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debit_closes_the_epoch_of_an_expired_grant() {
    let (world, table) = acme().await;
    let now = table.at("2026-11-23T12:00:00Z");
    grant(&table, "prepaid", "10", Term::Prepaid).await;
    grant(&table, "short", "5", until(now + HOUR)).await;
    take(&table, "before", "2").await.unwrap();
    table.pass(HOUR);
    // Three credits expire and ten are left.
    let refused = take(&table, "too-much", "11").await.unwrap_err();
    assert!(
        matches!(refused, DebitRefusal::Insufficient { balance, .. } if balance.spendable == "10".parse().unwrap())
    );
    take(&table, "after", "10").await.unwrap();
    let balance = balance(&table).await;
    assert!(balance.spendable.is_zero() && balance.grants.is_empty() && balance.is_consistent().unwrap());
    let kinds = world.reconciled("acme").await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "expiry").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn m16_the_earliest_expiry_is_spent_first_and_prepaid_last() {
    let (world, table) = acme().await;
    let now = table.at("2026-11-23T12:00:00Z");
    grant(&table, "prepaid", "10", Term::Prepaid).await;
    let late = grant(&table, "late", "5", until(now + HOUR * 2)).await;
    let early = grant(&table, "early", "5", until(now + HOUR)).await;
    take(&table, "some", "7").await.unwrap();
    let left = balance(&table).await.waterfall().unwrap();
    let left: Vec<(String, String)> =
        left.grants.iter().map(|grant| (grant.grant_id.to_string(), grant.amount.to_string())).collect();
    assert_eq!(left, [(early.to_string(), "0".to_owned()), (late.to_string(), "3".to_owned())]);
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_function_clock_destroys_no_credits() {
    let (world, table) = acme().await;
    let now = table.at("2026-11-23T12:00:00Z");
    grant(&table, "short", "5", until(now + HOUR)).await;
    table.clocks.function.set(now + HOUR * 3);
    take(&table, "while-fast", "2").await.unwrap();
    assert_eq!(balance(&table).await.grants.len(), 1);
    table.clocks.database.set(now + HOUR * 2);
    assert!(matches!(take(&table, "late", "1").await, Err(DebitRefusal::Insufficient { .. })));
    assert_eq!(world.reconciled("acme").await.last().unwrap(), "expiry");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_debit_closes_a_fence_that_was_left_open() {
    let (world, table) = acme().await;
    let now = table.at("2026-11-23T12:00:00Z");
    // The grant is written, but its close and the close of the read conflict on every attempt.
    let conflict = || cancelled(&["TransactionConflict"]);
    let mut faults = vec![TableFault::AnswerLost];
    faults.extend(std::iter::repeat_with(conflict).take(40));
    table.suffers(faults);
    let order = GrantOrder { amount: "5".parse().unwrap(), term: until(now + HOUR), reason: "a test".into() };
    let refused = table.store.grants().grant(&claim("grant", "grant"), &order).await;
    drop(refused);
    let read = balance(&table).await;
    assert_eq!(
        (read.spendable, read.changes.len()),
        ("5".parse().unwrap(), 0),
        "a read shows the balance as a close would leave it"
    );
    table.suffers([]);
    table.pass(SignedDuration::from_secs(1));
    take(&table, "next", "5").await.unwrap();
    assert!(balance(&table).await.spendable.is_zero());
    assert_eq!(world.reconciled("acme").await, ["grant", "debit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_debits_pass_while_grants_expire() {
    let (world, table) = acme().await;
    let (table, now) = (std::sync::Arc::new(table), "2026-11-23T12:00:00Z".parse::<Timestamp>().unwrap());
    grant(&table, "prepaid", "200", Term::Prepaid).await;
    let spenders: Vec<_> = (0..4)
        .map(|spender| {
            let table = std::sync::Arc::clone(&table);
            tokio::spawn(async move {
                for call in 0..50 {
                    take(&table, &format!("{spender}-{call}"), "1").await.unwrap();
                }
            })
        })
        .collect();
    for round in 1..=10 {
        grant(&table, &format!("grant-{round}"), "3", until(now + HOUR * round)).await;
        table.pass(HOUR);
    }
    for spender in spenders {
        spender.await.unwrap();
    }
    let balance = balance(&table).await;
    assert!(balance.is_consistent().unwrap() && balance.epoch >= 10);
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postings_in_the_table_match_the_domain_model() {
    let (_world, table) = acme().await;
    let start = table.at("2026-10-30T12:00:00Z");
    let mut model = balance(&table).await;
    let (mut seed, mut now) = (7_u64, start);
    let mut random = |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    for step in 0..120 {
        let (key, size) = (format!("step-{step}"), format!("{}.{}", 1 + random(20), 1 + random(8)));
        let amount = size.parse().unwrap();
        model = model.as_of(now).unwrap();
        match random(6) {
            0 => {
                grant(&table, &key, &size, Term::Prepaid).await;
                model = Posting::top_up(amount, now).apply(&model, "").unwrap();
            }
            1 => {
                let expires_at = now + SignedDuration::from_secs(random(200_000) as i64);
                let grant_id = grant(&table, &key, &size, until(expires_at)).await;
                let amount_left = amount.credits();
                let kind = GrantKind::Promotional;
                let change = Change::Grant(ExpiringGrant {
                    grant_id,
                    kind,
                    granted: amount,
                    amount: amount_left,
                    expires_at,
                    clawed: Clawed::default(),
                });
                model = Posting::queue_change(change, now).apply(&model, "").unwrap();
            }
            2 => {
                table.pass(SignedDuration::from_hours(7));
                now += SignedDuration::from_hours(7);
            }
            _ => {
                match (take(&table, &key, &size).await, Posting::debit(amount.into(), now).apply(&model, ""))
                {
                    (Ok(()), Ok(next)) => model = next,
                    (
                        Err(DebitRefusal::Insufficient { balance, .. }),
                        Err(Refusal::Insufficient { spendable: expected }),
                    ) => {
                        assert_eq!(balance.spendable, expected);
                    }
                    (table, model) => {
                        panic!("step {step}: the table says {table:?} and the domain {model:?}")
                    }
                }
            }
        }
        model = model.as_of(now).unwrap();
        let (kept, expected) = (balance(&table).await, Balance { last: String::new(), ..model.clone() });
        assert_eq!(Balance { last: String::new(), ..kept }, expected, "step {step}");
    }
    assert!(model.epoch > 10 && model.consumed.len() == 2);
}
