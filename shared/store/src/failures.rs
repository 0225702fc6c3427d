//! Mails about failed runs of a workspace: one about the first run at once, and digests of the runs that follow (M12).
//!
//! One item counts the failed runs of each workflow since the last mail. One transaction writes the count and the run's
//! fact, with the mail that reports the run. So each run is counted once. A digest is moved out of the counts before it
//! is sent, and stays in the item until SES has accepted it. Runs that fail meanwhile are counted for the next digest.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use credits_core::alert::{WEEK, failure_mail_interval};
use credits_core::id::{Id, WorkspaceId};
use jiff::{SignedDuration, Timestamp};

use crate::error::{Corrupt, Fault};
use crate::mails::MAIL_RETENTION;
use crate::table::Store;
use crate::table::attribute::{Item, Reader, instant, keyed, number, text, time_to_live};
use crate::table::expression::Expression;
use crate::table::keys::{DIGESTS, INDEX_PK, INDEX_SK, ItemKey, PK, position};
use crate::table::transaction::{Reason, TransactionOutcome};

/// The maximum number of digests that one invocation sends.
const MAX_DIGESTS: i32 = 100;

/// The maximum number of workflows that are counted by name, so that the item stays small. Further workflows count
/// only in the total.
const MAX_WORKFLOWS: usize = 100;

/// The attribute with the counts by workflow.
const FAILED: &str = "failed";

/// The attribute with the digest that is being sent.
const SENDING: &str = "sending";

/// The mail that reports a failed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouped {
    /// The run's own mail, which is sent at once.
    First,
    /// The next digest.
    Counted,
}

/// The failed runs that one mail reports together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    pub workspace_id: WorkspaceId,
    /// When the previous mail was begun.
    pub since: Timestamp,
    /// The number of runs that failed since.
    pub count: u64,
    /// Failed runs by workflow id. If they sum to less than `count`, the rest belongs to further workflows.
    pub by_workflow: BTreeMap<String, u64>,
    key: ItemKey,
    /// The earliest time of the next mail, computed from `spell_at`.
    next_at: Timestamp,
    spell_at: Timestamp,
}

/// The item: a spell of failed runs of one workspace. It ends when credits are added or a week passes without a mail.
struct Spell {
    key: ItemKey,
    workspace_id: WorkspaceId,
    /// When the spell began: mails have been sent since, and no credits were added.
    started_at: Timestamp,
    /// When the last mail was begun.
    mailed_at: Timestamp,
    /// The number of runs that failed since.
    waiting: u64,
    by_workflow: BTreeMap<String, u64>,
    sending: Option<Digest>,
}

/// Failed runs, and the mails that collect them.
#[derive(Debug, Clone, Copy)]
pub struct FailureStore<'a> {
    pub(crate) store: &'a Store,
}

impl FailureStore<'_> {
    /// Counts a failed run once, however often its event is delivered, and returns the mail that reports it.
    pub async fn group(
        self,
        workspace: &WorkspaceId,
        workflow: &Id,
        event_id: &str,
    ) -> Result<Grouped, Fault> {
        let key = ItemKey::failures(workspace);
        let mut attempts = self.store.attempts();
        loop {
            let (item, now) = self.store.get_dated(&key).await?;
            let spell = item.map(|item| Spell::read(&key, &item)).transpose()?;
            let (grouped, role, write) = match &spell {
                Some(spell) if spell.collects(now) => {
                    let counted = spell.counting(workflow).update(&self.store.table, &key)?;
                    (Grouped::Counted, "counted", counted)
                }
                spell => (Grouped::First, "first", self.beginning(workspace, spell.as_ref(), now)?),
            };
            match self.store.transact(vec![self.store.mails().fact_write(event_id, role)?, write]).await? {
                TransactionOutcome::Written => return Ok(grouped),
                TransactionOutcome::Unknown(error) => attempts.retry_after_failure(error).await?,
                TransactionOutcome::Cancelled(reasons) => match reasons.first() {
                    // An earlier delivery of the event has decided it.
                    Some(Reason::Condition(Some(fact))) => {
                        let first = Reader(fact).optional_text("role") == Some("first");
                        return Ok(if first { Grouped::First } else { Grouped::Counted });
                    }
                    _ => attempts.retry_after_conflict().await?,
                },
            }
        }
    }

    /// Returns the keys of the items that may have a due digest.
    pub async fn due_digests(self) -> Result<Vec<ItemKey>, Fault> {
        let end =
            position(self.store.now().checked_add(SignedDuration::from_millis(1)).unwrap_or_default(), "");
        let due = self.store.dated(DIGESTS, "", &end, MAX_DIGESTS).await?;
        let key = |item: &Item| Ok(ItemKey { pk: Reader(item).text(PK)?.to_owned(), sk: "failures".into() });
        due.iter().map(key).collect()
    }

    /// Returns the time at which the next digest is due.
    pub async fn next_digest(self) -> Result<Option<Timestamp>, Fault> {
        self.store.first_date(DIGESTS).await
    }

    /// Moves the due digest out of the counts and returns it; `None` if none is due.
    ///
    /// If an earlier sender has not finished its digest, returns that one.
    pub async fn take_digest(self, key: &ItemKey) -> Result<Option<Digest>, Fault> {
        let mut attempts = self.store.attempts();
        loop {
            let (item, now) = self.store.get_dated(key).await?;
            let Some(spell) = item.map(|item| Spell::read(key, &item)).transpose()? else { return Ok(None) };
            let write = if spell.sending.is_some() {
                return Ok(spell.sending);
            } else if spell.waiting == 0 {
                spell.unchanged().remove(INDEX_PK).remove(INDEX_SK)
            } else if now < spell.due_at() {
                return Ok(None);
            } else {
                spell.taking(now)?
            };
            match self.store.transact(vec![write.update(&self.store.table, key)?]).await? {
                TransactionOutcome::Written if spell.waiting == 0 => return Ok(None),
                TransactionOutcome::Written => {}
                TransactionOutcome::Unknown(error) => attempts.retry_after_failure(error).await?,
                TransactionOutcome::Cancelled(_) => attempts.retry_after_conflict().await?,
            }
        }
    }

    /// Removes a digest that SES has accepted. If the item has changed since, a later invocation removes it.
    pub async fn digest_sent(self, digest: &Digest) -> Result<(), Fault> {
        let next = position(digest.next_at, digest.workspace_id.as_str());
        let sent = Expression::new()
            .remove(SENDING)
            .set(INDEX_SK, text(next))
            .when("sending.since", "=", instant(digest.since))
            .when("spell_at", "=", instant(digest.spell_at));
        self.store.update_unless_changed(sent, &digest.key).await
    }

    /// Ends the spell after an addition of credits. Runs that fail from now on are mailed within the hour again.
    pub async fn end_spell(self, workspace: &WorkspaceId) -> Result<(), Fault> {
        let key = ItemKey::failures(workspace);
        let (item, now) = self.store.get_dated(&key).await?;
        let Some(spell) = item.map(|item| Spell::read(&key, &item)).transpose()? else { return Ok(()) };
        let ended = Expression::new().set("spell_at", instant(now)).when_exists();
        // A digest that is being sent keeps its position in the index until it is sent.
        let ended = if spell.sending.is_some() {
            ended
        } else {
            let renewed = Spell { started_at: now, ..spell };
            let due = position(renewed.due_at().max(now), workspace.as_str());
            ended.set(INDEX_PK, text(DIGESTS)).set(INDEX_SK, text(due)).when_absent(SENDING)
        };
        self.store.update_unless_changed(ended, &key).await
    }

    /// Returns the write of the item for a mail that is sent at once.
    ///
    /// Begins a new spell if a week has passed without a mail.
    fn beginning(
        self,
        workspace: &WorkspaceId,
        before: Option<&Spell>,
        now: Timestamp,
    ) -> Result<TransactWriteItem, Fault> {
        let going_on = before.filter(|spell| now.duration_since(spell.mailed_at) < WEEK);
        let mut item = keyed(&ItemKey::failures(workspace));
        item.insert("workspace_id".into(), text(workspace.as_str()));
        item.insert("spell_at".into(), instant(going_on.map_or(now, |spell| spell.started_at)));
        item.insert("began_at".into(), instant(now));
        item.insert("waiting".into(), number(0));
        item.insert(FAILED.into(), AttributeValue::M(Item::new()));
        item.insert("ttl".into(), time_to_live(now, MAIL_RETENTION));
        let unchanged = before.map_or_else(|| Expression::new().when_absent(PK), Spell::unchanged);
        Ok(unchanged.put(&self.store.table, item)?)
    }
}

impl Spell {
    fn read(key: &ItemKey, item: &Item) -> Result<Self, Corrupt> {
        let reader = Reader(item);
        let (mailed_at, waiting) = (reader.instant("began_at")?, reader.number("waiting")?);
        let by_workflow = match item.get(FAILED) {
            Some(counts) => read_counts(counts)?,
            // An older version had an item for each workflow.
            None => BTreeMap::from([(reader.text("workflow_id")?.to_owned(), waiting)]),
        };
        let spell = Self {
            key: key.clone(),
            workspace_id: reader.parsed("workspace_id")?,
            started_at: reader.optional_instant("spell_at")?.unwrap_or(mailed_at),
            mailed_at,
            waiting,
            by_workflow,
            sending: None,
        };
        let sending = item.get(SENDING).map(|sending| spell.read_sending(sending)).transpose()?;
        Ok(Self { sending, ..spell })
    }

    fn read_sending(&self, sending: &AttributeValue) -> Result<Digest, Corrupt> {
        let sending = sending.as_m().map_err(|_| Corrupt::Attribute(SENDING))?;
        let counts = sending.get(FAILED).ok_or(Corrupt::Attribute(FAILED))?;
        Ok(Digest {
            workspace_id: self.workspace_id.clone(),
            since: Reader(sending).instant("since")?,
            count: Reader(sending).number("count")?,
            by_workflow: read_counts(counts)?,
            key: self.key.clone(),
            next_at: self.due_at(),
            spell_at: self.started_at,
        })
    }

    /// Returns the earliest time of the next mail.
    fn due_at(&self) -> Timestamp {
        let interval = failure_mail_interval(self.mailed_at.duration_since(self.started_at));
        self.mailed_at.checked_add(interval).unwrap_or(self.mailed_at)
    }

    /// Returns whether a run that fails now waits for a digest.
    fn collects(&self, now: Timestamp) -> bool {
        self.waiting > 0 || self.sending.is_some() || now < self.due_at()
    }

    /// Returns the change that counts one more run, if no mail was begun meanwhile and the spell is the same.
    fn counting(&self, workflow: &Id) -> Expression {
        let counted = Expression::new()
            .add("waiting", number(1))
            .set_once(INDEX_PK, text(DIGESTS))
            .set_once(INDEX_SK, text(position(self.due_at(), self.workspace_id.as_str())))
            .when("began_at", "=", instant(self.mailed_at))
            .when("spell_at", "=", instant(self.started_at));
        let has_room =
            self.by_workflow.len() < MAX_WORKFLOWS || self.by_workflow.contains_key(workflow.as_str());
        if has_room { counted.count(&format!("{FAILED}.{workflow}")) } else { counted }
    }

    /// Returns the change that moves the counts into a digest, unless another run was counted meanwhile.
    fn taking(&self, now: Timestamp) -> Result<Expression, Corrupt> {
        let counts = serde_dynamo::to_attribute_value(&self.by_workflow)?;
        let sending = [
            ("since".to_owned(), instant(self.mailed_at)),
            ("count".to_owned(), number(self.waiting)),
            (FAILED.to_owned(), counts),
        ];
        let due = text(position(now, self.workspace_id.as_str()));
        Ok(self
            .unchanged()
            .set(SENDING, AttributeValue::M(sending.into()))
            .set(FAILED, AttributeValue::M(Item::new()))
            .set("waiting", number(0))
            .set("began_at", instant(now))
            .set_once("spell_at", instant(self.started_at))
            .set("ttl", time_to_live(now, MAIL_RETENTION))
            .set(INDEX_SK, due))
    }

    fn unchanged(&self) -> Expression {
        Expression::new()
            .when("began_at", "=", instant(self.mailed_at))
            .when("waiting", "=", number(self.waiting))
            .when_absent(SENDING)
    }
}

fn read_counts(counts: &AttributeValue) -> Result<BTreeMap<String, u64>, Corrupt> {
    Ok(serde_dynamo::from_attribute_value(counts.clone())?)
}
