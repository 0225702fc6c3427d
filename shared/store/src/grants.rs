//! Grants by the operator: credits with or without an end, and what is left of them taken back (M8).

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::change::Change;
use credits_core::claw_back::Clawed;
use credits_core::credits::{Amount, Credits};
use credits_core::grant::{ExpiringGrant, GrantKind};
use credits_core::id::{Id, WorkspaceId};
use credits_core::ledger::Cause;
use credits_core::posting::Posting;
use jiff::{SignedDuration, Timestamp};

use crate::attribute::{Item, Reader, credits, keyed, text};
use crate::balance_item::RUNNING_GRANTS;
use crate::debits::{Posted, replay};
use crate::error::{Corrupt, Fault};
use crate::expression::Expression;
use crate::idempotency::{Claim, ClaimRefusal};
use crate::index::{Cursor, Listing};
use crate::keys::{self, INDEX_PK, INDEX_SK, ItemKey, PK, due, position};
use crate::posting::{Order, Unposted};
use crate::sources::Sources;
use crate::{Store, entry_item};

/// How many expiring grants of a workspace run at once at most. An item has room for more than twice as many.
const MAX_RUNNING_GRANTS: u64 = 1_000;

/// How far the clocks of two functions may be apart.
const CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_hours(1);

/// How long after its id was made a grant's entry is listed: one that was paid ahead is with its first second.
const LISTED_WITHIN: SignedDuration = SignedDuration::from_hours(48);

/// What is to be granted.
#[derive(Debug, Clone)]
pub struct GrantOrder {
    /// How much.
    pub amount: Amount,
    /// Of which sort, and until when.
    pub term: Term,
    /// Why, in the operator's words.
    pub reason: String,
}

/// How long a grant lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// For ever.
    Prepaid,
    /// Until a whole second.
    Until(GrantKind, Timestamp),
}

/// Why a grant is refused.
#[derive(Debug, thiserror::Error)]
pub enum GrantRefusal {
    /// The workspace has as many expiring grants as may run at once.
    #[error("the workspace has {MAX_RUNNING_GRANTS} grants that have not expired")]
    TooMany,
    /// Its key stands for another call, or there is no such workspace.
    #[error(transparent)]
    Claim(#[from] ClaimRefusal),
}

impl From<Fault> for GrantRefusal {
    fn from(fault: Fault) -> Self {
        Self::Claim(fault.into())
    }
}

/// Why a void is refused.
#[derive(Debug, thiserror::Error)]
pub enum VoidRefusal {
    /// The key stands for another call.
    #[error("the idempotency key was used for another call")]
    KeyReused,
    /// There is no such workspace.
    #[error("the workspace does not exist")]
    WorkspaceNotFound,
    /// The workspace has no such grant.
    #[error("the grant does not exist")]
    GrantNotFound,
    /// It is a subscription's allocation or a commitment, which its payment or agreement takes back.
    #[error("the grant was not made by an operator")]
    NotVoidable,
    /// It was voided before, by another call.
    #[error("the grant was voided before")]
    Voided,
    /// It could not be carried out.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What is known of a grant when it is to be voided.
struct Known {
    /// For a prepaid grant, how much it was.
    prepaid: Option<Amount>,
}

impl Store {
    /// Grants credits under the caller's key. An expiring grant goes behind the fence, and is closed in at once.
    pub async fn grant(&self, claim: &Claim, grant: &GrantOrder) -> Result<Posted, GrantRefusal> {
        if matches!(grant.term, Term::Until(..)) && self.has_no_room(&claim.workspace_id).await? {
            return self.earlier_posting(claim).await?.ok_or(GrantRefusal::TooMany);
        }
        let grant_id = self.sources.new_id("gr");
        let kept = Expression::new().when_absent(PK).put(&self.table, grant.item(claim, &grant_id));
        let order = Order {
            workspace: &claim.workspace_id,
            key: ItemKey::called(&claim.workspace_id, &claim.key),
            fingerprint: Some(claim.fingerprint),
            entry_id: grant_id.clone(),
            credits: grant.amount.credits(),
            cause: grant.cause(&grant_id),
            listed: true,
            posting: &|now| grant.posting(&grant_id, now),
            also: vec![kept.map_err(Fault::from)?],
        };
        let posted = match self.post(order).await {
            Ok(entry) => Posted { entry, replayed: false },
            Err(Unposted::KeyTaken(item)) => replay(&item, claim)?.ok_or(ClaimRefusal::KeyReused)?,
            Err(Unposted::Fault(fault)) => return Err(fault.into()),
            Err(_) => return Err(ClaimRefusal::WorkspaceNotFound.into()),
        };
        if matches!(grant.term, Term::Until(..)) {
            self.settle_fence(&claim.workspace_id).await;
        }
        Ok(posted)
    }

    /// Whether as many expiring grants run as may. Grants that are made at once may all find room for one more.
    async fn has_no_room(&self, workspace: &WorkspaceId) -> Result<bool, Fault> {
        let Some(item) = self.get(&ItemKey::balance(workspace)).await? else { return Ok(false) };
        let running = item.contains_key(RUNNING_GRANTS);
        Ok(running && Reader(&item).number(RUNNING_GRANTS)? >= MAX_RUNNING_GRANTS)
    }

    /// Takes back what is left of a grant, under the caller's key, and gives the ledger entry that says how much.
    ///
    /// How much, only the close can say: the void goes behind the fence, and its entry is listed by the close.
    pub async fn void_grant(
        &self,
        claim: &Claim,
        grant_id: &Id,
        reason: &str,
    ) -> Result<Posted, VoidRefusal> {
        let key = ItemKey::called(&claim.workspace_id, &claim.key);
        let known = self.known_grant(&claim.workspace_id, grant_id).await?;
        let change = Change::Void { key: key.pk.clone(), grant_id: grant_id.clone(), prepaid: known.prepaid };
        let order = Order {
            workspace: &claim.workspace_id,
            key: key.clone(),
            fingerprint: Some(claim.fingerprint),
            entry_id: self.sources.new_id("void"),
            credits: Credits::ZERO,
            cause: Cause::Void { grant_id: grant_id.clone(), reason: reason.to_owned() },
            listed: false,
            posting: &|now| Posting::change(change.clone(), now),
            also: vec![self.voided_write(claim, grant_id, &key)?],
        };
        let replayed = match self.post(order).await {
            Ok(_) => false,
            Err(Unposted::KeyTaken(item)) if entry_item::is_of(&item, Some(claim.fingerprint)) => true,
            Err(Unposted::KeyTaken(_)) => return Err(VoidRefusal::KeyReused),
            Err(Unposted::AlsoRefused) => return Err(VoidRefusal::Voided),
            Err(Unposted::NoBalance | Unposted::Insufficient { .. }) => {
                return Err(VoidRefusal::WorkspaceNotFound);
            }
            Err(Unposted::Fault(fault)) => return Err(fault.into()),
        };
        self.close_due(&claim.workspace_id).await?;
        let item = self.get(&key).await?.filter(entry_item::is_listed).ok_or(Fault::Contended)?;
        Ok(Posted { entry: entry_item::read(&item).map_err(Fault::from)?, replayed })
    }

    async fn known_grant(&self, workspace: &WorkspaceId, grant_id: &Id) -> Result<Known, VoidRefusal> {
        if let Some(item) = self.get(&ItemKey::grant(workspace, grant_id)).await? {
            return Ok(Known { prepaid: read_prepaid(&item).map_err(Fault::from)? });
        }
        let balance = self.read_balance(workspace).await?.ok_or(VoidRefusal::WorkspaceNotFound)?;
        let mut owned = balance.grants.iter().chain(balance.next.iter().map(|next| &next.grant));
        let shown = owned.any(|grant| grant.grant_id == *grant_id);
        let shown = shown || self.ended_grant(workspace, grant_id).await?.is_some();
        let listed = shown || self.is_listed(workspace, grant_id).await?;
        Err(if listed { VoidRefusal::NotVoidable } else { VoidRefusal::GrantNotFound })
    }

    /// Whether the ledger lists a grant of this id, for one that is over. Its entry is looked for from when the id was made.
    async fn is_listed(&self, workspace: &WorkspaceId, grant_id: &Id) -> Result<bool, Fault> {
        let Some(made_at) = Sources::made_at(grant_id) else { return Ok(false) };
        let first = position(made_at.checked_sub(CLOCK_DIFFERENCE).unwrap_or(made_at), "");
        let last = made_at.checked_add(LISTED_WITHIN).unwrap_or(made_at);
        let mut before = position(last, "").parse::<Cursor>().ok();
        while let Some(after) = before.filter(|after| after.as_str() > first.as_str()) {
            let partition = &keys::ledger(workspace);
            let filter = Some(("grant_id", grant_id.as_str()));
            let page =
                self.page(Listing { partition, limit: 1, after: Some(&after), filter }, |_| Ok(())).await?;
            if !page.items.is_empty() {
                return Ok(true);
            }
            before = page.next;
        }
        Ok(false)
    }

    fn voided_write(&self, claim: &Claim, grant_id: &Id, key: &ItemKey) -> Result<TransactWriteItem, Fault> {
        let write =
            Expression::new().set("voided_under", text(&key.pk)).when_absent("voided_under").when_exists();
        Ok(write.update(&self.table, &ItemKey::grant(&claim.workspace_id, grant_id))?)
    }
}

impl GrantOrder {
    fn cause(&self, grant_id: &Id) -> Cause {
        let (grant_kind, expires_at) = match self.term {
            Term::Prepaid => (GrantKind::Prepaid, None),
            Term::Until(kind, end) => (kind, Some(end)),
        };
        Cause::Grant { grant_id: grant_id.clone(), grant_kind, expires_at, reason: self.reason.clone() }
    }

    fn item(&self, claim: &Claim, grant_id: &Id) -> Item {
        let mut item = keyed(&ItemKey::grant(&claim.workspace_id, grant_id));
        item.insert("granted".into(), credits(self.amount.credits()));
        let term = if self.term == Term::Prepaid { "prepaid" } else { "expiring" };
        item.insert("term".into(), text(term));
        if let Term::Until(_, end) = self.term {
            item.insert(INDEX_PK.into(), text(due(&claim.workspace_id)));
            item.insert(INDEX_SK.into(), text(position(end, grant_id.as_str())));
        }
        item
    }

    fn posting(&self, grant_id: &Id, now: Timestamp) -> Posting {
        let (kind, expires_at) = match self.term {
            Term::Prepaid => return Posting::top_up(self.amount, now),
            Term::Until(kind, expires_at) => (kind, expires_at),
        };
        let grant = ExpiringGrant {
            grant_id: grant_id.clone(),
            kind,
            granted: self.amount,
            amount: self.amount.credits(),
            expires_at,
            clawed: Clawed::default(),
        };
        Posting::change(Change::Grant(grant), now)
    }
}

fn read_prepaid(item: &Item) -> Result<Option<Amount>, Corrupt> {
    let reader = Reader(item);
    if reader.text("term")? != "prepaid" {
        return Ok(None);
    }
    Amount::new(reader.credits("granted")?).map(Some).map_err(|_| Corrupt::Attribute("granted"))
}
