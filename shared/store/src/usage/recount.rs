//! The recount: a month's usage, counted again from its ledger in slices.
//!
//! A slice ends after a number of entries, or when its time is up. It then stores its sums and its position, and the next
//! call goes on from there. The sums are in parts below DynamoDB's limit of 400 KB an item. The parts of each slice have
//! new names, and the item that names them is written last, so a slice that ends halfway leaves the former one in force.
//! Parts that no item names expire.
//!
//! Stored sums are valid as long as no entry can appear before their position: the month's ledger was complete when the
//! count began, or the balance still has the version of then.

use credits_core::credits::Credits;
use credits_core::id::WorkspaceId;
use credits_core::month::Month;
use credits_core::usage::{GroupBy, GroupKey, MonthSummary, Moved, Tally, Usage};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::error::{Corrupt, Fault};
use crate::table::Store;
use crate::table::attribute::{Item, Reader, instant, number, text, time_to_live};
use crate::table::expression::Expression;
use crate::table::keys::{ItemKey, position};

/// The time after a month's end from which its ledger counts as complete.
pub(crate) const SETTLED_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// How long stored sums are kept. The next slice follows within hours.
const RETENTION: SignedDuration = SignedDuration::from_hours(48);

/// Entries of each of the ledger's partitions that are read at once.
const ENTRIES_A_PAGE: usize = 2_000;

/// The size of a part, in bytes.
const PART_BYTES: usize = 300_000;

/// The name of the sum of all consumption, beside those of movements and breakdowns.
const CONSUMED: &str = "consumed";

/// The audit of usage against the ledger.
#[derive(Debug, Clone, Copy)]
pub struct UsageAuditStore<'a> {
    pub(crate) store: &'a Store,
    pub(crate) slice: RecountSlice,
}

/// The extent of a slice.
#[derive(Debug, Clone, Copy)]
pub struct RecountSlice {
    /// The number of ledger entries after which a slice ends.
    pub entries: usize,
    /// When a slice ends; `None` if its caller has any time.
    pub until: Option<Instant>,
}

impl RecountSlice {
    /// A slice that ends with the month.
    pub const WHOLE: Self = Self { entries: usize::MAX, until: None };
}

/// A month's usage, counted from the ledger at one version of the balance.
pub(crate) struct Recount {
    pub version: u64,
    pub summary: MonthSummary,
    pub usage: Usage,
}

/// The result of a slice.
pub(crate) enum Recounted {
    Whole(Recount),
    /// Credits moved during the count or shortly before it, or no workspace has this id.
    Moving,
    /// The slice is stored. Another one has to follow.
    Unfinished,
}

/// The sums up to a position of the ledger.
struct Progress {
    begun_at: Timestamp,
    /// The index position of the last entry that is counted.
    position: String,
    /// When the latest of these entries was posted.
    latest: Timestamp,
    recount: Recount,
}

impl UsageAuditStore<'_> {
    /// Counts the next slice of a month.
    pub(crate) async fn recount(
        self,
        workspace: &WorkspaceId,
        month: Month,
        quiet_after: SignedDuration,
    ) -> Result<Recounted, Fault> {
        let Some(version) = self.store.balances().version(workspace).await? else {
            return Ok(Recounted::Moving);
        };
        let key = ItemKey::recount(workspace, month);
        let head = self.store.get(&key).await?.filter(|head| head.contains_key("position"));
        let stored = match &head {
            Some(head) => self.read_progress(head, &key).await?,
            None => None,
        };
        let is_valid =
            |stored: &Progress| is_settled(month, stored.begun_at) || stored.recount.version == version;
        let new = || Progress::new(self.store.now(), month, version);
        let mut progress = stored.filter(is_valid).unwrap_or_else(new);
        if !self.count_slice(workspace, month, &mut progress).await? {
            self.store_progress(&key, head.as_ref(), &progress).await?;
            return Ok(Recounted::Unfinished);
        }
        let quiet = self.store.now().duration_since(progress.latest) >= quiet_after;
        let still = quiet && self.is_still(workspace, month, progress.recount.version).await?;
        Ok(if still { Recounted::Whole(progress.recount) } else { Recounted::Moving })
    }

    /// Counts entries until the slice ends. Returns whether the month is counted to its end.
    async fn count_slice(
        self,
        workspace: &WorkspaceId,
        month: Month,
        progress: &mut Progress,
    ) -> Result<bool, Fault> {
        let (partitions, end) = (self.store.ledger().partitions(workspace).await?, position(month.end(), ""));
        let mut left = self.slice.entries;
        loop {
            let limit = i32::try_from(left.min(ENTRIES_A_PAGE)).ok();
            let slice = self.store.ledger().forwards(&partitions, &progress.position, &end, limit).await?;
            for entry in &slice.entries {
                progress.latest = progress.latest.max(entry.at);
                let Recount { summary, usage, .. } = &mut progress.recount;
                summary.count(entry).and_then(|()| usage.count(entry)).map_err(Corrupt::from)?;
            }
            let Some(next) = slice.next else { return Ok(true) };
            progress.position = next;
            left = left.saturating_sub(slice.entries.len());
            if left == 0 || self.slice.until.is_some_and(|until| Instant::now() >= until) {
                return Ok(false);
            }
        }
    }

    /// Reads stored sums; `None` if a part has expired.
    async fn read_progress(self, head: &Item, key: &ItemKey) -> Result<Option<Progress>, Fault> {
        let head = Reader(head);
        let slice = head.text("slice")?;
        let keys: Vec<ItemKey> = (0..head.number("parts")?).map(|part| key.part(slice, part)).collect();
        let parts = self.store.get_many(&keys).await?;
        if parts.len() < keys.len() {
            return Ok(None);
        }
        let mut recount = Recount::new(head.number("version")?);
        for part in parts.values() {
            let rows: Vec<SumRow> = serde_json::from_str(Reader(part).text("sums")?).map_err(malformed)?;
            rows.into_iter().try_for_each(|row| recount.read(row))?;
        }
        let position = head.text("position")?.to_owned();
        let (begun_at, latest) = (head.instant("begun_at")?, head.instant("latest")?);
        Ok(Some(Progress { begun_at, position, latest, recount }))
    }

    /// Stores the sums, unless another call has stored a slice since `head` was read.
    async fn store_progress(
        self,
        key: &ItemKey,
        head: Option<&Item>,
        progress: &Progress,
    ) -> Result<(), Fault> {
        let slice = self.store.sources().new_id("slice").to_string();
        let parts = progress.recount.parts()?;
        let count = u64::try_from(parts.len()).unwrap_or(u64::MAX);
        for (part, sums) in (0..count).zip(parts) {
            let write = Expression::new()
                .set("sums", text(sums))
                .set("ttl", time_to_live(self.store.now(), RETENTION));
            self.store.update_unless_changed(write, &key.part(&slice, part)).await?;
        }
        let write = Expression::new()
            .set("slice", text(slice))
            .set("parts", number(count))
            .set("version", number(progress.recount.version))
            .set("begun_at", instant(progress.begun_at))
            .set("latest", instant(progress.latest))
            .set("position", text(&progress.position))
            .set("ttl", time_to_live(self.store.now(), RETENTION));
        let write = match head {
            Some(head) => write.when("slice", "=", text(Reader(head).text("slice")?)),
            None => write.when_absent("position"),
        };
        self.store.update_unless_changed(write, key).await
    }

    /// Ends a recount, so that the next one begins with the month. Forgets failures.
    pub(crate) async fn end_recount(self, workspace: &WorkspaceId, month: Month) -> Result<(), Fault> {
        let key = ItemKey::recount(workspace, month);
        if self.store.get(&key).await?.is_none() {
            return Ok(());
        }
        let write = Expression::new().remove("position").remove("slice").remove("failures").when_exists();
        self.store.update_unless_changed(write, &key).await
    }

    /// Counts a failure of a month's check. Returns how many there were in a row.
    pub(crate) async fn count_failure(self, workspace: &WorkspaceId, month: Month) -> Result<u32, Fault> {
        let key = ItemKey::recount(workspace, month);
        let stored = self.store.get(&key).await?.unwrap_or_default();
        let counted = stored.contains_key("failures").then(|| Reader(&stored).number("failures"));
        let failures = counted.transpose()?.unwrap_or(0).saturating_add(1);
        let write = Expression::new()
            .set("failures", number(failures))
            .set("ttl", time_to_live(self.store.now(), RETENTION));
        self.store.update_unless_changed(write, &key).await?;
        Ok(u32::try_from(failures).unwrap_or(u32::MAX))
    }
}

/// Returns whether a month's ledger is complete at an instant.
pub(crate) fn is_settled(month: Month, at: Timestamp) -> bool {
    month.end().checked_add(SETTLED_AFTER).is_ok_and(|settled| at > settled)
}

/// A stored sum: its name, its group's key, its credits and its count.
type SumRow = (String, GroupKey, String, u64);

fn malformed<E>(_: E) -> Corrupt {
    Corrupt::Attribute("sums")
}

impl Progress {
    fn new(begun_at: Timestamp, month: Month, version: u64) -> Self {
        let position = position(month.start(), "");
        Self { begun_at, position, latest: Timestamp::UNIX_EPOCH, recount: Recount::new(version) }
    }
}

impl Recount {
    fn new(version: u64) -> Self {
        Self { version, summary: MonthSummary::default(), usage: Usage::default() }
    }

    /// Returns all sums as JSON, in parts.
    fn parts(&self) -> Result<Vec<String>, Corrupt> {
        let row = |name: &str, key: &GroupKey, tally: Tally| -> SumRow {
            (name.to_owned(), key.clone(), tally.credits.to_string(), tally.count)
        };
        let moved = self.summary.moved.iter();
        let moved =
            moved.map(|(moved, credits)| row(moved.name(), &None, Tally { credits: *credits, count: 0 }));
        let groups =
            self.usage.groups.iter().map(|((group_by, key), tally)| row(group_by.name(), key, *tally));
        let mut parts = vec![String::new()];
        for row in std::iter::once(row(CONSUMED, &None, self.summary.consumed)).chain(moved).chain(groups) {
            let row = serde_json::to_string(&row).map_err(malformed)?;
            match parts.last_mut().filter(|part| part.len() < PART_BYTES) {
                Some(part) if !part.is_empty() => part.extend([",", &row]),
                Some(part) => part.push_str(&row),
                None => parts.push(row),
            }
        }
        Ok(parts.into_iter().map(|rows| format!("[{rows}]")).collect())
    }

    fn read(&mut self, (name, key, credits, count): SumRow) -> Result<(), Corrupt> {
        let credits: Credits = credits.parse().map_err(malformed)?;
        if name == CONSUMED {
            self.summary.consumed = Tally { credits, count };
        } else if let Some(moved) = Moved::ALL.into_iter().find(|moved| moved.name() == name) {
            self.summary.moved.insert(moved, credits);
        } else {
            let group_by: GroupBy = name.parse().map_err(malformed)?;
            self.usage.groups.insert((group_by, key), Tally { credits, count });
        }
        Ok(())
    }
}
