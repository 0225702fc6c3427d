//! Automatic top-up for a call that costs more than the balance covers (M5).
//!
//! A call is refused because `S` credits are missing: its shortfall. With packs of `P` credits it needs
//!
//! ```text
//! n = ⌈S / P⌉
//! ```
//!
//! packs. Automatic top-up buys them, even above its threshold, if all of these hold:
//!
//! - `n ≤ 3`.
//! - The monthly limit has room for `n` packs.
//! - The hourly limit has room for the packs whose charge is not begun yet.
//!
//! Otherwise it buys nothing for the call.
//!
//! It buys at most `n` packs. It stops once the balance covers the call, however the credits were added.

use jiff::Timestamp;

use crate::auto_top_up::AutoTopUp;
use crate::credits::{Amount, Credits, OutOfRange};

pub use crate::auto_top_up::CallNeed;

const MAX_PACKS_A_CALL: u64 = 3;

/// A refused call that automatic top-up may buy packs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedCall {
    /// The workspace's own credits that could be spent, without the credit limit.
    pub available: Credits,
    /// The missing credits, above zero.
    pub shortfall: Credits,
}

/// The decision of automatic top-up about a refused call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallTopUp {
    /// Automatic top-up is off or paused.
    Off,
    /// The packs are being bought, or are already noted for purchase.
    Started,
    /// The packs are noted for purchase once this state is stored.
    Start(Box<AutoTopUp>),
    /// Nothing is bought for the call: a limit, the wait after a decline or a processing charge prevents it.
    Limit,
}

impl AutoTopUp {
    /// Decides what to do about a refused call. `pack` is the number of credits in a pack.
    pub fn for_call(&self, call: RefusedCall, pack: Amount, now: Timestamp) -> Result<CallTopUp, OutOfRange> {
        if self.settings.active_threshold().is_none() || self.paused.is_some() {
            return Ok(CallTopUp::Off);
        }
        let available = call.available.plus(call.shortfall)?;
        if self.need.is_some_and(|need| need.available >= available) {
            return Ok(CallTopUp::Started);
        }
        let Some(packs) = packs_for(call.shortfall, pack)? else { return Ok(CallTopUp::Limit) };
        let is_processing = self.charge.as_ref().is_some_and(|charge| charge.processing_since.is_some());
        let waits = self.waits_until.is_some_and(|until| now < until);
        let missing = packs.saturating_sub(u64::from(self.charge.is_some()));
        let fits = self.has_room_for(packs, pack, now) && missing <= self.left_this_hour(now);
        if is_processing || waits || !fits {
            return Ok(CallTopUp::Limit);
        }
        if missing == 0 {
            return Ok(CallTopUp::Started);
        }
        let need = CallNeed { available, packs: missing, since: now };
        Ok(CallTopUp::Start(Box::new(Self { need: Some(need), ..self.clone() })))
    }

    /// Returns whether a pack is to be bought: the balance is low, or a refused call needs more.
    #[must_use]
    pub fn wants_pack(&self, available: Credits, threshold: Amount) -> bool {
        available <= threshold.credits() || self.need.is_some_and(|need| available < need.available)
    }

    /// Returns what is still to be bought for a refused call after one more pack.
    pub(crate) fn need_after_pack(&self) -> Option<CallNeed> {
        let need = self.need?;
        let packs = need.packs.checked_sub(1).filter(|packs| *packs > 0)?;
        Some(CallNeed { packs, ..need })
    }
}

/// Returns how many packs cover a shortfall; `None` if it takes more than [`MAX_PACKS_A_CALL`].
fn packs_for(shortfall: Credits, pack: Amount) -> Result<Option<u64>, OutOfRange> {
    let mut covered = Credits::ZERO;
    for packs in 1..=MAX_PACKS_A_CALL {
        covered = covered.plus(pack.credits())?;
        if covered >= shortfall {
            return Ok(Some(packs));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::{CallTopUp, RefusedCall};
    use crate::auto_top_up::{AutoTopUp, AutoTopUpSettings, MonthlyLimit};
    use crate::claw_back::ClawBackReason;
    use crate::credits::Amount;
    use crate::price::Price;
    use crate::purchase::{Goods, Purchase};

    fn at(minutes: i64) -> Timestamp {
        "2026-11-23T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
    }

    fn pack() -> Amount {
        "1000".parse().unwrap()
    }

    fn on(monthly_limit: Option<MonthlyLimit>) -> AutoTopUp {
        let (threshold, pack) = ("100".parse().ok(), "pack".parse().ok());
        AutoTopUp::set(AutoTopUpSettings { enabled: true, threshold, pack, monthly_limit }, None, at(0))
            .at_rest()
    }

    fn call(available: &str, shortfall: &str) -> RefusedCall {
        RefusedCall { available: available.parse().unwrap(), shortfall: shortfall.parse().unwrap() }
    }

    fn purchase(minutes: i64) -> Purchase {
        Purchase {
            purchase_id: format!("top_{minutes}").parse().unwrap(),
            workspace_id: "acme".parse().unwrap(),
            goods: Goods::Pack { pack: "pack".parse().unwrap(), credits: pack() },
            price: Price { amount_minor: 900, currency: "USD".parse().unwrap() },
            begun_at: at(minutes),
        }
    }

    /// Returns the decision and the number of packs that it notes.
    fn decided(kept: &AutoTopUp, call: RefusedCall, minutes: i64) -> (&'static str, u64) {
        match kept.for_call(call, pack(), at(minutes)).unwrap() {
            CallTopUp::Off => ("off", 0),
            CallTopUp::Started => ("started", 0),
            CallTopUp::Start(after) => ("start", after.need.unwrap().packs),
            CallTopUp::Limit => ("limit", 0),
        }
    }

    #[test]
    fn m05_call_above_the_balance_buys_up_to_three_packs() {
        for (shortfall, is) in [
            ("0.000001", ("start", 1)),
            ("1000", ("start", 1)),
            ("1000.000001", ("start", 2)),
            ("3000", ("start", 3)),
            ("3000.000001", ("limit", 0)),
            ("1000000", ("limit", 0)),
        ] {
            assert_eq!(decided(&on(None), call("500", shortfall), 0), is, "{shortfall}");
        }
        assert_eq!(
            decided(&AutoTopUp::set(AutoTopUpSettings::off(), None, at(0)), call("0", "1"), 0),
            ("off", 0)
        );
        assert_eq!(decided(&on(None).paused(ClawBackReason::Refund), call("0", "1"), 0), ("off", 0));
        assert_eq!(decided(&on(None).given_up(), call("0", "1"), 0), ("off", 0));
    }

    #[test]
    fn m05_packs_for_a_call_must_fit_the_month_and_the_hour() {
        let two = on(Some(MonthlyLimit::TopUps(2)));
        assert_eq!(decided(&two, call("0", "2000"), 0), ("start", 2));
        assert_eq!(decided(&two, call("0", "2001"), 0), ("limit", 0));
        let credits = on(Some(MonthlyLimit::Credits("2500".parse().unwrap())));
        assert_eq!(decided(&credits, call("0", "2000"), 0), ("start", 2));
        assert_eq!(decided(&credits, call("0", "2001"), 0), ("limit", 0));
        let once = on(None).charging(&purchase(0)).paid(&purchase(0));
        assert_eq!(decided(&once, call("0", "2000"), 59), ("start", 2));
        assert_eq!(decided(&once, call("0", "2001"), 59), ("limit", 0));
        assert_eq!(decided(&once, call("0", "2001"), 60), ("start", 3));
        let declined = on(None).charging(&purchase(0)).declined(at(0));
        assert_eq!(decided(&declined, call("0", "1"), 14), ("limit", 0));
        assert_eq!(decided(&declined, call("0", "1"), 15), ("start", 1));
        assert_eq!(decided(&on(None).limited(at(0)), call("0", "1"), 1), ("limit", 0));
    }

    #[test]
    fn m05_open_charge_counts_as_one_of_the_packs_for_a_call() {
        let charging = on(Some(MonthlyLimit::TopUps(3))).charging(&purchase(0));
        assert_eq!(decided(&charging, call("0", "1000"), 0), ("started", 0));
        assert_eq!(decided(&charging, call("0", "3000"), 0), ("start", 2));
        assert_eq!(decided(&charging.processing(at(0)), call("0", "1000"), 0), ("limit", 0));
    }

    #[test]
    fn m05_packs_noted_for_a_call_are_bought_once() {
        let CallTopUp::Start(noted) = on(None).for_call(call("500", "2000"), pack(), at(0)).unwrap() else {
            panic!("two packs fit the limits")
        };
        assert_eq!(decided(&noted, call("500", "2000"), 0), ("started", 0));
        assert_eq!(decided(&noted, call("600", "1900"), 0), ("started", 0));
        assert_eq!(decided(&noted, call("500", "2500"), 0), ("start", 3));
        let threshold: Amount = "100".parse().unwrap();
        let wants =
            |kept: &AutoTopUp, available: &str| kept.wants_pack(available.parse().unwrap(), threshold);
        assert!(wants(&noted, "2499") && !wants(&noted, "2500") && wants(&noted, "100"));
        assert_eq!(noted.next_due(), Some(at(0)), "the sweep finds the need");
        let first = noted.charging(&purchase(0));
        assert_eq!((first.need.unwrap().packs, decided(&first, call("500", "2000"), 0)), (1, ("started", 0)));
        let second = first.paid(&purchase(0)).charging(&purchase(1));
        assert_eq!(second.need, None);
        assert_eq!(decided(&second, call("1500", "1000"), 1), ("started", 0));
        for ended in [
            noted.at_rest(),
            noted.declined(at(0)),
            noted.limited(at(0)),
            noted.waiting_until(at(9)),
            noted.paused(ClawBackReason::Dispute),
            noted.given_up(),
            noted.switched_off(),
        ] {
            assert_eq!(ended.need, None, "{ended:?}");
        }
    }
}
