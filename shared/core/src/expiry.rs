//! Expiry notices: mails some days before credits expire.
//!
//! ```text
//! at(E, d)  = E − d days, for each end E of running grants and each configured d
//! left(E)   = Σ what is left of the grants that end at E, without allocations of a subscription that renews
//! due(E, d) ⇔ at(E, d) ≤ now < at(E, d) + 1 day  and  left(E) > 0  and  (E, d) is not recorded
//! next      = min at(E, d), of those in the future
//! ```
//!
//! - Grants that end at the same instant have one notice.
//! - Unused allocations expire at each period's end. While the subscription renews, a notice of that would come every month
//!   and ask for nothing. So they are announced only once the subscription is cancelled.
//! - A notice is at most a day late. So nothing is sent about days that had passed before the notices were switched on, or
//!   before the grant was made.
//! - A recorded notice is kept for a day longer than it could be due, so that a clock that is behind does not repeat it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::credits::{Amount, Credits, OutOfRange};
use crate::grant::{ExpiringGrant, GrantKind};

/// The maximum number of notices of one end.
pub const MAX_NOTICES: usize = 5;

/// The longest time before an end, in days.
pub const MAX_DAYS: u16 = 365;

/// The days before an end unless others are set.
pub const DEFAULT_DAYS: [u16; 3] = [30, 7, 1];

/// How late a notice may be.
const LATEST: SignedDuration = SignedDuration::from_hours(24);

/// How long after its time a notice is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(48);

/// The settings of a workspace's expiry notices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpirySettings {
    pub enabled: bool,
    /// How many days before credits expire each notice is sent, 1 to 365.
    pub days: Vec<u16>,
    /// The mail addresses.
    pub recipients: Vec<String>,
}

/// A recorded notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiryNotice {
    pub expires_at: Timestamp,
    pub days: u16,
    /// The credits that were left.
    pub credits: Amount,
}

/// What happens to the subscription's allocations at the end of the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocations {
    /// The subscription renews, so a new allocation replaces them.
    AreReplaced,
    /// No subscription runs, or it is cancelled.
    End,
}

impl ExpirySettings {
    /// Returns the settings of a workspace that never changed them.
    #[must_use]
    pub fn off() -> Self {
        Self { enabled: false, days: DEFAULT_DAYS.to_vec(), recipients: Vec::new() }
    }

    /// Returns the notices that are due. `left` are the running grants with what is left of them.
    pub fn due(
        &self,
        left: &[ExpiringGrant],
        allocations: Allocations,
        recorded: &[ExpiryNotice],
        now: Timestamp,
    ) -> Result<Vec<ExpiryNotice>, OutOfRange> {
        let mut by_end: BTreeMap<Timestamp, Credits> = BTreeMap::new();
        for grant in left {
            if grant.kind == GrantKind::Allocation && allocations == Allocations::AreReplaced {
                continue;
            }
            let sum = by_end.entry(grant.expires_at).or_default();
            *sum = sum.plus(grant.amount)?;
        }
        let mut due = Vec::new();
        for (expires_at, credits) in by_end {
            let Ok(credits) = Amount::new(credits) else { continue };
            let times = self.times(expires_at, recorded);
            let is_due = |at: Timestamp| at <= now && late_by(now).is_none_or(|earliest| earliest < at);
            let of_end = times.filter(|(_, at)| is_due(*at));
            due.extend(of_end.map(|(days, _)| ExpiryNotice { expires_at, days, credits }));
        }
        Ok(due)
    }

    /// Returns the earliest time of a notice that may be due at `now` or will be; `None` if there is none.
    #[must_use]
    pub fn next_from(
        &self,
        left: &[ExpiringGrant],
        recorded: &[ExpiryNotice],
        now: Timestamp,
    ) -> Option<Timestamp> {
        self.next_after(left, recorded, late_by(now)?)
    }

    /// Returns the earliest time of a notice after an instant; `None` if there is none.
    ///
    /// It counts allocations and grants without credits: whether they are announced is decided when the time comes.
    #[must_use]
    pub fn next_after(
        &self,
        left: &[ExpiringGrant],
        recorded: &[ExpiryNotice],
        after: Timestamp,
    ) -> Option<Timestamp> {
        let times = left.iter().flat_map(|grant| self.times(grant.expires_at, recorded));
        times.map(|(_, at)| at).filter(|at| *at > after).min()
    }

    /// Returns the days and the time of each notice of an end that is not recorded. There are none while they are switched off.
    fn times(&self, end: Timestamp, recorded: &[ExpiryNotice]) -> impl Iterator<Item = (u16, Timestamp)> {
        let is_recorded = move |days: u16| recorded.iter().any(|it| it.expires_at == end && it.days == days);
        let days = self.days.iter().copied().filter(move |days| self.enabled && !is_recorded(*days));
        days.filter_map(move |days| Some((days, time_of(end, days)?)))
    }
}

impl ExpiryNotice {
    /// Returns whether the notice has to be kept, because it might be sent again otherwise.
    #[must_use]
    pub fn is_kept(&self, now: Timestamp) -> bool {
        let time = time_of(self.expires_at, self.days);
        time.and_then(|at| at.checked_add(KEPT).ok()).is_some_and(|until| now < until)
    }
}

fn time_of(end: Timestamp, days: u16) -> Option<Timestamp> {
    let hours = i64::from(days).checked_mul(24)?;
    end.checked_sub(SignedDuration::from_hours(hours)).ok()
}

/// Returns the instant at or before which a notice is too late.
fn late_by(now: Timestamp) -> Option<Timestamp> {
    now.checked_sub(LATEST).ok()
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp, ToSpan};

    use super::{Allocations, ExpiryNotice, ExpirySettings};
    use crate::grant::{Clawed, ExpiringGrant, GrantKind};

    const NOON: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn grant(kind: GrantKind, left: &str, days: i64) -> ExpiringGrant {
        ExpiringGrant {
            grant_id: format!("grant-{days}").parse().unwrap(),
            kind,
            granted: "100".parse().unwrap(),
            amount: left.parse().unwrap(),
            expires_at: NOON + (24 * days).hours(),
            clawed: Clawed::default(),
        }
    }

    fn on() -> ExpirySettings {
        ExpirySettings { enabled: true, ..ExpirySettings::off() }
    }

    fn due_at(now: Timestamp, left: &[ExpiringGrant], recorded: &[ExpiryNotice]) -> Vec<(u16, String)> {
        let due = on().due(left, Allocations::AreReplaced, recorded, now).unwrap();
        due.iter().map(|notice| (notice.days, notice.credits.to_string())).collect()
    }

    #[test]
    fn notice_is_due_from_its_time_for_a_day() {
        let left = [grant(GrantKind::Promotional, "20", 30)];
        let milli = SignedDuration::from_millis(1);
        for (day, days) in [(0, 30), (23, 7), (29, 1)] {
            let at = NOON + (24 * day).hours();
            let due = vec![(days, "20".to_owned())];
            assert_eq!(due_at(at - milli, &left, &[]), [], "{days}");
            assert_eq!(due_at(at, &left, &[]), due);
            assert_eq!(due_at(at + 24.hours() - milli, &left, &[]), due);
            assert_eq!(due_at(at + 24.hours(), &left, &[]), []);
        }
    }

    #[test]
    fn recorded_notice_is_not_repeated() {
        let left = [grant(GrantKind::Commitment, "20", 7)];
        let due = on().due(&left, Allocations::End, &[], NOON).unwrap();
        assert_eq!((due_at(NOON, &left, &due), due.len()), (vec![], 1));
        let other_end = [ExpiryNotice { expires_at: NOON, ..due[0] }];
        assert_eq!(due_at(NOON, &left, &other_end).len(), 1);
        assert!(due[0].is_kept(NOON + 24.hours()));
        assert!(!due[0].is_kept(NOON + 48.hours()));
    }

    #[test]
    fn grants_of_one_end_share_a_notice_and_empty_ones_have_none() {
        let left = [
            grant(GrantKind::Promotional, "20", 7),
            grant(GrantKind::Commitment, "1.5", 7),
            grant(GrantKind::Promotional, "0", 30),
            grant(GrantKind::Promotional, "5", 1),
        ];
        assert_eq!(due_at(NOON, &left, &[]), [(1, "5".to_owned()), (7, "21.5".to_owned())]);
    }

    #[test]
    fn allocations_are_announced_only_without_a_renewal() {
        let left = [grant(GrantKind::Allocation, "20", 7), grant(GrantKind::Promotional, "5", 7)];
        assert_eq!(due_at(NOON, &left, &[]), [(7, "5".to_owned())]);
        let due = on().due(&left, Allocations::End, &[], NOON).unwrap();
        assert_eq!(due[0].credits, "25".parse().unwrap());
    }

    #[test]
    fn next_notice_is_the_earliest_that_is_not_recorded() {
        let left = [grant(GrantKind::Allocation, "0", 7), grant(GrantKind::Promotional, "5", 20)];
        let expires_at = left[0].expires_at;
        let recorded = [ExpiryNotice { expires_at, days: 7, credits: "1".parse().unwrap() }];
        assert_eq!(on().next_from(&left, &[], NOON), Some(NOON));
        assert_eq!(on().next_from(&left, &[], NOON + 24.hours()), Some(NOON + (24 * 6).hours()));
        assert_eq!(on().next_from(&left, &recorded, NOON), Some(NOON + (24 * 6).hours()));
        assert_eq!(on().next_after(&left, &[], NOON), Some(NOON + (24 * 6).hours()));
        assert_eq!(on().next_after(&left, &[], NOON + (24 * 19).hours()), None);
        assert_eq!(ExpirySettings::off().next_from(&left, &[], NOON), None);
    }
}
