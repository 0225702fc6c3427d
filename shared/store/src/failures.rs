//! Failed runs of one workflow: the first is told at once, and those of the hour after it together (M12).

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use credits_core::id::{Id, WorkspaceId};
use jiff::{SignedDuration, Timestamp};

use crate::Store;
use crate::attribute::{Item, Reader, instant, keyed, number, text};
use crate::error::{Corrupt, Fault};
use crate::expression::Expression;
use crate::keys::{DIGESTS, INDEX_PK, INDEX_SK, ItemKey, PK, position};
use crate::transaction::{Outcome, Reason, is_busy};

/// How long failures are collected after one was told.
const COLLECTED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// How many digests one firing sends at most.
const MOST_DIGESTS: i32 = 100;

/// What is done about a failed run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grouped {
    /// It is told at once.
    First,
    /// It is counted, and told with others when the hour has ended.
    Counted,
    /// The hour before has ended, and its digest is to be sent first.
    Flush(Digest),
}

/// Failed runs that are told of together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Whose.
    pub workspace_id: WorkspaceId,
    /// Of which workflow.
    pub workflow_id: Id,
    /// When the first of them failed, which was told at once.
    pub began_at: Timestamp,
    /// How many have failed since.
    pub waiting: u64,
    /// Whether nothing is added any more, since it is being sent.
    closed: bool,
}

impl Store {
    /// Counts a failed run once, whatever is redelivered, and says what is done about it.
    pub async fn group_failure(
        &self,
        workspace: &WorkspaceId,
        workflow: &Id,
        event_id: &str,
        at: Timestamp,
    ) -> Result<Grouped, Fault> {
        let key = ItemKey::failures(workspace, workflow);
        let mut attempts = self.attempts();
        loop {
            let open = self.get(&key).await?.as_ref().map(read).transpose()?;
            let ended =
                |digest: &Digest| digest.closed || at.duration_since(digest.began_at) >= COLLECTED_FOR;
            if let Some(digest) = open.clone().filter(|digest| ended(digest) && digest.waiting > 0) {
                return Ok(Grouped::Flush(digest));
            }
            let collecting = open.as_ref().filter(|digest| !ended(digest));
            let same = match &open {
                Some(open) => Expression::new().when("began_at", "=", instant(open.began_at)),
                None => Expression::new().when_absent(PK),
            };
            let (role, write) = if collecting.is_some() {
                let counted = same.add("waiting", number(1)).when_absent("closed");
                ("counted", counted.update(&self.table, &key)?)
            } else {
                // A failure that was counted meanwhile is not written over.
                let counted = open.as_ref().map(|open| number(open.waiting));
                let same = counted.into_iter().fold(same, |same, waiting| same.when("waiting", "=", waiting));
                ("first", same.put(&self.table, begun(workspace, workflow, at))?)
            };
            let grouped = if role == "first" { Grouped::First } else { Grouped::Counted };
            match self.transact(vec![self.fact_write(event_id, role)?, write]).await? {
                Outcome::Written => return Ok(grouped),
                Outcome::Unknown(error) => attempts.after_failure(error).await?,
                Outcome::Cancelled(reasons) => match reasons.first() {
                    // Counted before: it keeps the part that it had.
                    Some(Reason::Condition(Some(fact))) => {
                        let first = Reader(fact).optional_text("role") == Some("first");
                        return Ok(if first { Grouped::First } else { Grouped::Counted });
                    }
                    _ => attempts.after_conflict().await?,
                },
            }
        }
    }

    /// The digests whose hour has ended.
    pub async fn due_digests(&self) -> Result<Vec<Digest>, Fault> {
        let end = position(self.now().checked_add(SignedDuration::from_millis(1)).unwrap_or_default(), "");
        let mut due = Vec::new();
        for found in self.dated(DIGESTS, ("", &end), MOST_DIGESTS).await? {
            let pk = Reader(&found).text(PK)?.to_owned();
            // The index keeps keys alone.
            let item = self.get(&ItemKey { pk, sk: "failures".into() }).await?;
            // The index may be behind, and a new hour have begun under the same key.
            let digest = item.as_ref().map(read).transpose()?;
            let now = self.now();
            due.extend(digest.filter(|digest| now.duration_since(digest.began_at) >= COLLECTED_FOR));
        }
        Ok(due)
    }

    /// When the next digest is due.
    pub async fn next_digest(&self) -> Result<Option<Timestamp>, Fault> {
        self.first_date(DIGESTS).await
    }

    /// Closes a group, so that nothing is added while its digest is sent; says whether it is still as it was read.
    pub async fn close_digest(&self, digest: &Digest) -> Result<bool, Fault> {
        let closed = digest.unchanged().set("closed", AttributeValue::Bool(true));
        self.change_digest(closed.update(&self.table, &digest.key())?).await
    }

    /// Ends a group whose digest is sent; says whether it was still as it was read.
    pub async fn digest_sent(&self, digest: &Digest) -> Result<bool, Fault> {
        self.change_digest(digest.unchanged().delete(&self.table, &digest.key())?).await
    }

    async fn change_digest(&self, write: TransactWriteItem) -> Result<bool, Fault> {
        let mut attempts = self.attempts();
        loop {
            match self.transact(vec![write.clone()]).await? {
                Outcome::Written => return Ok(true),
                Outcome::Unknown(error) => attempts.after_failure(error).await?,
                Outcome::Cancelled(reasons) if is_busy(&reasons) => attempts.after_conflict().await?,
                Outcome::Cancelled(_) => return Ok(false),
            }
        }
    }
}

impl Digest {
    fn key(&self) -> ItemKey {
        ItemKey::failures(&self.workspace_id, &self.workflow_id)
    }

    fn unchanged(&self) -> Expression {
        Expression::new().when("began_at", "=", instant(self.began_at)).when(
            "waiting",
            "=",
            number(self.waiting),
        )
    }
}

fn begun(workspace: &WorkspaceId, workflow: &Id, at: Timestamp) -> Item {
    let mut item = keyed(&ItemKey::failures(workspace, workflow));
    let ends_at = at.checked_add(COLLECTED_FOR).unwrap_or(at);
    item.insert("workspace_id".into(), text(workspace.as_str()));
    item.insert("workflow_id".into(), text(workflow.as_str()));
    item.insert("began_at".into(), instant(at));
    item.insert("waiting".into(), number(0));
    item.insert(INDEX_PK.into(), text(DIGESTS));
    item.insert(INDEX_SK.into(), text(position(ends_at, &format!("{workspace}#{workflow}"))));
    item
}

fn read(item: &Item) -> Result<Digest, Corrupt> {
    let reader = Reader(item);
    Ok(Digest {
        workspace_id: reader.parsed("workspace_id")?,
        workflow_id: reader.parsed("workflow_id")?,
        began_at: reader.instant("began_at")?,
        waiting: reader.number("waiting")?,
        closed: item.contains_key("closed"),
    })
}
