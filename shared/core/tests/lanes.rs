//! Compares a balance with lanes to one without, which takes the same debits.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::unwrap_used,
    reason = "tests may calculate and unwrap; the code under test may not"
)]

use std::collections::BTreeMap;

use credits_core::alert::Crossing;
use credits_core::balance::Balance;
use credits_core::claw_back::Clawed;
use credits_core::credits::{Amount, CallPrice, Credits};
use credits_core::grant::{ExpiringGrant, GrantKind};
use credits_core::lane::{Allotment, Lane, LaneRequest, LaneSettlement, MAX_LANES, STOPPED};
use credits_core::posting::{Posting, Refusal};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

const LASTS: SignedDuration = SignedDuration::from_secs(300);

/// 20 seconds before a month's end.
const START: i64 = 1_793_491_180;

fn amount(units: u32) -> Amount {
    units.max(1).to_string().parse().unwrap()
}

fn price(units: u32) -> CallPrice {
    amount(units).into()
}

fn credits(units: u32) -> Credits {
    units.to_string().parse().unwrap()
}

#[derive(Debug, Clone)]
enum Act {
    DebitAtBalance(u32),
    DebitOnLane(u16, u32),
    Open { count: u16, debit: u32 },
    Extend { count: u16, debit: u32 },
    Refill { lane: u16, debit: u32 },
    Prolong(u16),
    Recall { together: usize, carried: Option<u32> },
    TopUp(u32),
    LowAt(Option<u32>),
    Limit(u32),
    Pass(i64),
}

fn any_act() -> impl Strategy<Value = Act> {
    let few = 1_u32..30;
    prop_oneof![
        3 => (1_u32..200).prop_map(Act::DebitAtBalance),
        6 => (1_u16..9, few.clone()).prop_map(|(lane, debit)| Act::DebitOnLane(lane, debit)),
        3 => (1_u16..5, few.clone()).prop_map(|(count, debit)| Act::Open { count, debit }),
        1 => (1_u16..5, few.clone()).prop_map(|(count, debit)| Act::Extend { count, debit }),
        1 => (1_u16..9, few).prop_map(|(lane, debit)| Act::Refill { lane, debit }),
        1 => (1_u16..9).prop_map(Act::Prolong),
        2 => (1_usize..4, prop::option::of(1_u32..600))
            .prop_map(|(together, carried)| Act::Recall { together, carried }),
        1 => (1_u32..400).prop_map(Act::TopUp),
        1 => prop::option::of(1_u32..80).prop_map(Act::LowAt),
        1 => (0_u32..50).prop_map(Act::Limit),
        1 => (1_i64..40).prop_map(Act::Pass),
    ]
}

/// A balance with lanes, and the same balance without.
struct Pair {
    stored: Balance,
    lanes: BTreeMap<u16, Lane>,
    plain: Balance,
    now: Timestamp,
}

impl Pair {
    fn new() -> Self {
        let grant = ExpiringGrant {
            grant_id: "gr_1".parse().unwrap(),
            kind: GrantKind::Promotional,
            granted: amount(300),
            amount: credits(300),
            expires_at: Timestamp::from_second(START + 400).unwrap(),
            clawed: Clawed::default(),
        };
        let balance = Balance {
            spendable: credits(1_000),
            prepaid: credits(700),
            expires_next: grant.expires_at,
            grants: vec![grant],
            added: Some(amount(1_000)),
            ..Balance::default()
        };
        let now = Timestamp::from_second(START).unwrap();
        Self { stored: balance.clone(), lanes: BTreeMap::new(), plain: balance, now }
    }

    fn run(&mut self, act: &Act) {
        if self.stored.is_due(self.now) {
            self.recall(3, None);
            self.close();
        }
        match act {
            Act::DebitAtBalance(units) => self.post(&Posting::debit(price(*units), self.now)),
            Act::DebitOnLane(number, units) => self.debit_on(*number, price(*units)),
            Act::Open { count, debit } => {
                let request = self.request(*count, *debit);
                let allotment = self.stored.open_lanes(request).unwrap();
                self.allot(allotment);
            }
            Act::Extend { count, debit } => {
                let request = self.request(*count, *debit);
                let allotment = self.stored.extend_lanes(request).unwrap();
                self.allot(allotment);
            }
            Act::Refill { lane, debit } => self.refill(*lane, price(*debit)),
            Act::Prolong(number) => {
                if let Some(lane) = self.lanes.get_mut(number)
                    && let Some(end) = lane.prolonged(self.now, LASTS)
                {
                    assert!(end <= lane.hard_end);
                    (lane.ends_at, lane.writes) = (end, lane.writes + 1);
                }
            }
            Act::Recall { together, carried } => self.recall(*together, carried.map(price)),
            Act::TopUp(units) => self.post(&Posting::top_up(amount(*units), self.now)),
            Act::LowAt(units) => {
                self.recall(2, None);
                self.post(&Posting::low_at(units.map(amount).into_iter().collect()));
            }
            Act::Limit(units) => {
                self.recall(2, None);
                self.post(&Posting::limit(self.stored.credit_limit, credits(*units)).unwrap());
            }
            Act::Pass(seconds) => self.now += SignedDuration::from_secs(*seconds),
        }
    }

    fn request(&self, count: u16, debit: u32) -> LaneRequest {
        LaneRequest { count, debit: price(debit), now: self.now, lasts: LASTS }
    }

    /// Writes a posting at both balances. Only the balance with lanes may refuse what the other covers.
    fn post(&mut self, posting: &Posting) {
        match posting.apply(&self.stored, "key#1") {
            Ok(next) => {
                self.plain = self.check_crossing(&next, posting);
                self.stored = next;
            }
            Err(Refusal::Insufficient { .. }) if self.stored.lanes.is_some() => {}
            Err(refusal) => assert_eq!(posting.check(&self.plain), Err(refusal)),
        }
    }

    /// Checks that the write raises the alerts of the plain balance. Returns the plain balance after the write.
    fn check_crossing(&self, next: &Balance, posting: &Posting) -> Balance {
        let plain = posting.apply(&self.plain, "key#1").unwrap();
        let raised = Crossing::of(&self.stored, next).unwrap();
        assert_eq!(raised, Crossing::of(&self.plain, &plain).unwrap(), "{posting:?}");
        plain
    }

    fn debit_on(&mut self, number: u16, debit: CallPrice) {
        let Some(lane) = self.lanes.get(&number) else { return };
        let Some(after) = lane.debit(debit, self.now, "key#1").unwrap() else { return };
        let posting = Posting::debit(debit, self.now);
        // The alerts see no write of the balance, so this one must not cross a threshold.
        self.plain = self.check_crossing(&self.stored, &posting);
        self.lanes.insert(number, after);
    }

    fn allot(&mut self, allotment: Option<Allotment>) {
        let Some(Allotment { posting, lanes }) = allotment else { return };
        let next = posting.apply(&self.stored, "lanes").unwrap();
        assert_eq!(Crossing::of(&self.stored, &next).unwrap(), Crossing::default());
        self.stored = next;
        for lane in lanes {
            assert!(lane.ends_at <= self.stored.expires_next && lane.number <= MAX_LANES);
            assert!(self.lanes.insert(lane.number, lane).is_none(), "a lane's number is used twice");
        }
    }

    fn refill(&mut self, number: u16, debit: CallPrice) {
        let Some((more, posting)) = self.stored.refill_lane(debit, self.now).unwrap() else { return };
        let Some(lane) = self.lanes.get_mut(&number).filter(|lane| lane.ends_at > self.now) else { return };
        self.stored = posting.apply(&self.stored, "lanes").unwrap();
        (lane.left, lane.writes) = (lane.left.plus(more).unwrap(), lane.writes + 1);
    }

    /// Settles all lanes, `together` in one write. The last settlement carries the debit.
    fn recall(&mut self, together: usize, carried: Option<CallPrice>) {
        for lane in self.lanes.values_mut().filter(|lane| lane.ends_at != STOPPED) {
            (lane.ends_at, lane.writes) = (STOPPED, lane.writes + 1);
        }
        while self.stored.lanes.is_some() {
            let lanes: Vec<Lane> = self.lanes.values().take(together).cloned().collect();
            let settlement = LaneSettlement::of(&self.stored, lanes).unwrap();
            self.settle(&settlement, carried.filter(|_| settlement.is_last()));
        }
    }

    fn settle(&mut self, settlement: &LaneSettlement, carried: Option<CallPrice>) {
        let alone = settlement.posting().unwrap();
        let debit = carried.map(|amount| Posting::debit(amount, self.now));
        let together = debit.clone().map(|debit| debit.with_settlement(settlement).unwrap());
        let next = match together.map(|together| together.apply(&self.stored, "key#1")) {
            Some(Ok(next)) => {
                self.plain = self.check_crossing(&next, &debit.unwrap());
                next
            }
            refused => {
                if let (Some(Err(refusal)), Some(debit)) = (refused, debit) {
                    let of_plain = debit.check(&self.plain).unwrap_err();
                    assert_eq!(std::mem::discriminant(&refusal), std::mem::discriminant(&of_plain));
                }
                let next = alone.apply(&self.stored, "lanes").unwrap();
                assert_eq!(Crossing::of(&self.stored, &next).unwrap(), Crossing::default());
                next
            }
        };
        self.stored = next;
        for lane in settlement.lanes() {
            self.lanes.remove(&lane.number);
        }
    }

    fn close(&mut self) {
        self.stored = self.stored.close(self.now).unwrap().next;
        self.plain = self.plain.close(self.now).unwrap().next;
    }

    fn check(&self, version_before: u64) -> u64 {
        assert_eq!(self.stored.is_consistent(), Ok(true));
        let joined = self.stored.with_lanes(&self.lanes).unwrap().unwrap();
        assert!(joined.version >= version_before, "the version falls");
        let version = joined.version;
        let same = |balance: &Balance| Balance {
            version: 0,
            last: String::new(),
            lane_generation: 0,
            ..balance.clone()
        };
        assert_eq!(same(&joined), same(&self.plain));
        for lane in self.lanes.values() {
            assert!(lane.left >= Credits::ZERO);
            assert_eq!(Credits::sum(lane.consumed.values().copied()), Ok(lane.spent));
        }
        version
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lanes_change_nothing_but_where_credits_are(acts in prop::collection::vec(any_act(), 1..60)) {
        let mut pair = Pair::new();
        let mut version = pair.check(0);
        for act in &acts {
            pair.run(act);
            version = pair.check(version);
        }
    }
}

#[test]
fn a_settlement_of_other_lanes_is_refused() {
    let mut pair = Pair::new();
    pair.run(&Act::Open { count: 4, debit: 1 });
    for lane in pair.lanes.values_mut() {
        lane.ends_at = STOPPED;
    }
    let first: Vec<Lane> = pair.lanes.values().take(2).cloned().collect();
    let settlement = LaneSettlement::of(&pair.stored, first.clone()).unwrap();
    let rest = settlement.posting().unwrap().apply(&pair.stored, "lanes").unwrap();
    assert_eq!(settlement.posting().unwrap().check(&rest), Err(Refusal::LanesChanged));
    assert_eq!(LaneSettlement::of(&rest, first), None);
    assert_eq!(rest.with_lanes(&pair.lanes).unwrap().map(|joined| joined.spendable), Some(credits(1_000)));
    pair.lanes.remove(&4);
    assert_eq!(rest.with_lanes(&pair.lanes), Ok(None));
}

#[test]
fn lanes_open_only_with_enough_to_spare() {
    let pair = Pair::new();
    let opens =
        |balance: &Balance, count, debit| balance.open_lanes(pair.request(count, debit)).unwrap().is_some();
    // Half of 1,000 less a reserve of 11 is 494.5, which pays eight debits of 61 on two lanes.
    assert_eq!((opens(&pair.stored, 4, 61), opens(&pair.stored, 4, 62)), (true, false));
    let low = Balance { low_at: [amount(499)].into_iter().collect(), ..pair.stored.clone() };
    assert!(opens(&low, 4, 1));
    assert!(
        !opens(&Balance { low_at: [amount(500)].into_iter().collect(), ..low }, 4, 1),
        "the reserve is half of all"
    );
    let due = Balance { expires_next: pair.now, ..pair.stored.clone() };
    assert!(!opens(&due, 4, 1));
}
