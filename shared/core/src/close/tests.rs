use jiff::Timestamp;

use super::{CloseEntry, Happened};
use crate::balance::Balance;
use crate::change::{Change, QueuedChange};
use crate::claw_back::Clawed;
use crate::credits::Credits;
use crate::grant::{ExpiringGrant, GrantKind, NextGrant};

fn at(day: i8) -> Timestamp {
    format!("2026-11-{day:02}T00:00:00Z").parse().unwrap()
}

fn grant(kind: GrantKind, ends: i8) -> ExpiringGrant {
    ExpiringGrant {
        grant_id: format!("grant_{ends}").parse().unwrap(),
        kind,
        granted: "5".parse().unwrap(),
        amount: "5".parse().unwrap(),
        expires_at: at(ends),
        clawed: Clawed::default(),
    }
}

fn ahead(starts: i8, ends: i8) -> NextGrant {
    NextGrant {
        key: format!("key_{starts}"),
        grant: grant(GrantKind::Allocation, ends),
        starts_at: at(starts),
    }
}

fn ids(balance: &Balance) -> Vec<&str> {
    balance.grants.iter().map(|grant| grant.grant_id.as_str()).collect()
}

#[test]
fn used_up_allocation_stays_until_its_end() {
    let grants = vec![
        grant(GrantKind::Allocation, 20),
        grant(GrantKind::Promotional, 21),
        grant(GrantKind::Commitment, 22),
    ];
    let balance = Balance {
        grants,
        used: "12".parse().unwrap(),
        spendable: "3".parse().unwrap(),
        ..Balance::default()
    };
    let closed = balance.close(at(10)).unwrap().next;
    assert_eq!(ids(&closed), ["grant_20", "grant_22"]);
    assert_eq!(ids(&closed.close(at(20)).unwrap().next), ["grant_22"]);
}

#[test]
fn close_counts_up_names_itself_and_keeps_two_months() {
    let consumed = |month: &str| (month.parse().unwrap(), "1".parse::<Credits>().unwrap());
    let balance = Balance {
        consumed: ["2026-08", "2026-09", "2026-10", "2026-11"].map(consumed).into(),
        epoch: 7,
        version: 40,
        last: "key#k".to_owned(),
        ..Balance::default()
    };
    let closed = balance.close(at(10)).unwrap().next;
    assert_eq!((closed.epoch, closed.version, closed.last.as_str()), (8, 41, "sys#close#7"));
    assert_eq!(closed.consumed, ["2026-10", "2026-11"].map(consumed).into());
}

#[test]
fn m10_addition_and_invoice_end_a_noted_exhaustion() {
    let noted = Balance { exhaustion_noted: true, added: "7".parse().ok(), ..Balance::default() };
    let closed = |balance: Balance, now| {
        let next = balance.close(now).unwrap().next;
        (next.exhaustion_noted, next.added.unwrap().to_string())
    };
    assert_eq!(closed(noted.clone(), at(10)), (true, "7".to_owned()));
    let change = Change::Grant(grant(GrantKind::Promotional, 20));
    let changes = vec![QueuedChange { at: at(9), change }];
    assert_eq!(closed(Balance { changes, ..noted.clone() }, at(10)), (false, "5".to_owned()));
    let next = vec![ahead(15, 20)];
    assert_eq!(closed(Balance { next: next.clone(), ..noted.clone() }, at(10)), (true, "7".to_owned()));
    assert_eq!(closed(Balance { next, ..noted.clone() }, at(15)), (false, "5".to_owned()));
    let (prepaid, invoices_at) = ("-3".parse().unwrap(), Some(at(10)));
    let owing = Balance { spendable: prepaid, prepaid, invoices_at, ..noted };
    assert_eq!(closed(owing, at(10)), (false, "7".to_owned()));
}

#[test]
fn m06_withdrawn_grant_is_removed_whether_or_not_it_began() {
    let next = ahead(15, 20);
    let grant_ids = vec![next.grant.grant_id.clone()];
    let withdraw = Change::Withdraw { key: "k".to_owned(), grant_ids };
    let withdrawn = |next: Vec<NextGrant>, grants: Vec<ExpiringGrant>, now| {
        let owned: Credits = if grants.is_empty() { Credits::ZERO } else { "5".parse().unwrap() };
        let changes = vec![QueuedChange { at: now, change: withdraw.clone() }];
        Balance { next, grants, spendable: owned, changes, ..Balance::default() }.close(now).unwrap()
    };
    let waiting = withdrawn(vec![next.clone()], Vec::new(), at(10));
    assert!(waiting.next.next.is_empty() && waiting.outcomes.is_empty());
    assert!(waiting.next.close(at(16)).unwrap().next.grants.is_empty(), "the grant never begins");
    let begun = withdrawn(Vec::new(), vec![next.grant.clone()], at(16));
    assert!(begun.next.grants.is_empty() && begun.next.is_consistent().unwrap());
    let what = Happened::Voided("k".to_owned());
    let taken = CloseEntry { at: at(16), credits: "-5".parse().unwrap(), what };
    assert_eq!(begun.outcomes, [taken]);
    let beginning = withdrawn(vec![next], Vec::new(), at(16));
    assert!(beginning.next.grants.is_empty() && beginning.next.is_consistent().unwrap());
}

#[test]
fn m06_grants_paid_ahead_wait_in_the_order_of_their_starts() {
    let (first, second) = (ahead(15, 20), ahead(20, 25));
    let balance = Balance {
        next: vec![second.clone()],
        changes: vec![QueuedChange { at: at(9), change: Change::Next(first.clone()) }],
        ..Balance::default()
    };
    let closed = balance.close(at(10)).unwrap().next;
    assert_eq!((closed.next.as_slice(), closed.expires_next), ([first, second.clone()].as_slice(), at(15)));
    let closed = closed.close(at(15)).unwrap().next;
    assert_eq!(
        (ids(&closed).as_slice(), closed.next.as_slice()),
        (["grant_20"].as_slice(), [second].as_slice())
    );
}
