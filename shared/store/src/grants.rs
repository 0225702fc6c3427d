//! Grants by the operator, with or without an expiry, and voids, which take back what is left of them (M8).

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::change::Change;
use credits_core::claw_back::Clawed;
use credits_core::claw_back::EndedGrant;
use credits_core::credits::{Amount, Credits};
use credits_core::grant::{ExpiringGrant, GrantKind};
use credits_core::id::{Id, WorkspaceId};
use credits_core::ledger::Cause;
use credits_core::posting::Posting;
use jiff::{SignedDuration, Timestamp};

use crate::debits::{Posted, replay};
use crate::error::{Corrupt, Fault};
use crate::idempotency::{Claim, ClaimRefusal, KeyUse};
use crate::items::balance_item::RUNNING_GRANTS;
use crate::items::ended_grants;
use crate::items::entry_item;
use crate::posting::{EntryState, PostingOrder, Unposted};
use crate::sources::Sources;
use crate::table::Store;
use crate::table::attribute::{Item, Reader, credits, keyed, text};
use crate::table::expression::Expression;
use crate::table::index::{Cursor, IndexQuery};
use crate::table::keys::{self, INDEX_PK, INDEX_SK, ItemKey, PK, due, position};

/// The maximum number of expiring grants that a workspace may have at once. Their item has room for more than twice as
/// many.
const MAX_RUNNING_GRANTS: u64 = 1_000;

/// The key of the void of a grant; absent until it is voided.
pub(crate) const VOIDED_UNDER: &str = "voided_under";

/// The largest difference to expect between the clocks of two functions.
const CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_hours(1);

/// The longest time from a grant's id to the listing of its entry. A grant that was paid ahead is listed at its start.
const LISTED_WITHIN: SignedDuration = SignedDuration::from_hours(48);

/// A request for a grant.
#[derive(Debug, Clone)]
pub struct GrantOrder {
    pub amount: Amount,
    pub term: Term,
    /// The operator's reason, as free text.
    pub reason: String,
}

/// The lifetime of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// Never expires.
    Prepaid,
    /// Expires at this instant, which is a whole second.
    Until(GrantKind, Timestamp),
}

/// The reason why a grant is refused.
#[derive(Debug, thiserror::Error)]
pub enum GrantRefusal {
    #[error("the workspace has {MAX_RUNNING_GRANTS} grants that have not expired")]
    TooMany,
    /// The key was used for another request, or the workspace does not exist.
    #[error(transparent)]
    Claim(#[from] ClaimRefusal),
}

impl From<Fault> for GrantRefusal {
    fn from(fault: Fault) -> Self {
        Self::Claim(fault.into())
    }
}

/// The reason why a void is refused.
#[derive(Debug, thiserror::Error)]
pub enum VoidRefusal {
    #[error("the idempotency key was used for another call")]
    KeyReused,
    #[error("the workspace does not exist")]
    WorkspaceNotFound,
    #[error("the grant does not exist")]
    GrantNotFound,
    /// The grant is a subscription's allocation or a commitment. Only its payment or agreement can take it back.
    #[error("the grant was not made by an operator")]
    NotVoidable,
    /// Another request has voided the grant.
    #[error("the grant was voided before")]
    Voided,
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The stored facts about a grant that is to be voided.
struct VoidableGrant {
    /// The granted amount of a prepaid grant; `None` for an expiring one.
    prepaid: Option<Amount>,
}

/// Grants.
#[derive(Debug, Clone, Copy)]
pub struct GrantStore<'a> {
    pub(crate) store: &'a Store,
}

impl GrantStore<'_> {
    /// Grants credits under the caller's key. Puts an expiring grant behind the fence and closes the epoch at once.
    pub async fn grant(self, claim: &Claim, grant: &GrantOrder) -> Result<Posted, GrantRefusal> {
        if matches!(grant.term, Term::Until(..)) && self.has_no_room(&claim.workspace_id).await? {
            return self.store.debits().earlier_posting(claim).await?.ok_or(GrantRefusal::TooMany);
        }
        let grant_id = self.store.sources.new_id("gr");
        let kept = Expression::new().when_absent(PK).put(&self.store.table, grant.item(claim, &grant_id));
        let order = PostingOrder {
            workspace: &claim.workspace_id,
            key: ItemKey::called(&claim.workspace_id, &claim.key),
            fingerprint: Some(claim.fingerprint),
            entry_id: grant_id.clone(),
            credits: grant.amount.credits(),
            cause: grant.cause(&grant_id),
            state: EntryState::Complete,
            debit: None,
            priced_with: None,
            build_posting: &|now| grant.posting(&grant_id, now),
            extra_writes: vec![kept.map_err(Fault::from)?],
        };
        let posted = match self.store.postings().post(order).await {
            Ok(entry) => Posted { entry, key_use: KeyUse::First },
            Err(Unposted::KeyTaken(item)) => replay(&item, claim)?.ok_or(ClaimRefusal::KeyReused)?,
            Err(Unposted::Fault(fault)) => return Err(fault.into()),
            Err(_) => return Err(ClaimRefusal::WorkspaceNotFound.into()),
        };
        if matches!(grant.term, Term::Until(..)) {
            self.store.balances().settle_fence(&claim.workspace_id).await?;
        }
        Ok(posted)
    }

    /// Returns whether the workspace has its most expiring grants. Concurrent grants may exceed it: each may find room.
    async fn has_no_room(self, workspace: &WorkspaceId) -> Result<bool, Fault> {
        let Some(item) = self.store.get(&ItemKey::balance(workspace)).await? else { return Ok(false) };
        let running = item.contains_key(RUNNING_GRANTS);
        Ok(running && Reader(&item).number(RUNNING_GRANTS)? >= MAX_RUNNING_GRANTS)
    }

    /// Takes back what is left of a grant, under the caller's key, and returns the ledger entry with the amount.
    ///
    /// Only a close can compute the amount. So the void waits behind the fence, and the close lists its entry.
    pub async fn void(self, claim: &Claim, grant_id: &Id, reason: &str) -> Result<Posted, VoidRefusal> {
        let key = ItemKey::called(&claim.workspace_id, &claim.key);
        let known = self.known_grant(&claim.workspace_id, grant_id).await?;
        let change = Change::Void { key: key.pk.clone(), grant_id: grant_id.clone(), prepaid: known.prepaid };
        let order = PostingOrder {
            workspace: &claim.workspace_id,
            key: key.clone(),
            fingerprint: Some(claim.fingerprint),
            entry_id: self.store.sources.new_id("void"),
            credits: Credits::ZERO,
            cause: Cause::Void { grant_id: grant_id.clone(), reason: reason.to_owned() },
            state: EntryState::WaitsForClose,
            debit: None,
            priced_with: None,
            build_posting: &|now| Posting::queue_change(change.clone(), now),
            extra_writes: vec![self.voided_write(claim, grant_id, &key)?],
        };
        let key_use = match self.store.postings().post(order).await {
            Ok(_) => KeyUse::First,
            Err(Unposted::KeyTaken(item)) if entry_item::is_of(&item, Some(claim.fingerprint)) => {
                KeyUse::Replay
            }
            Err(Unposted::KeyTaken(_)) => return Err(VoidRefusal::KeyReused),
            Err(Unposted::ExtraConditionFailed) => return Err(VoidRefusal::Voided),
            Err(Unposted::NoBalance | Unposted::Insufficient(_) | Unposted::OtherPrices(_)) => {
                return Err(VoidRefusal::WorkspaceNotFound);
            }
            Err(Unposted::Fault(fault)) => return Err(fault.into()),
        };
        self.store.balances().close_due(&claim.workspace_id).await?;
        let item = self.store.get(&key).await?.filter(entry_item::is_listed).ok_or(Fault::Contended)?;
        Ok(Posted { entry: entry_item::read(&item).map_err(Fault::from)?, key_use })
    }

    async fn known_grant(self, workspace: &WorkspaceId, grant_id: &Id) -> Result<VoidableGrant, VoidRefusal> {
        if let Some(item) = self.store.get(&ItemKey::grant(workspace, grant_id)).await? {
            return Ok(VoidableGrant { prepaid: read_prepaid(&item).map_err(Fault::from)? });
        }
        let balance = self.store.balances().read(workspace).await?.ok_or(VoidRefusal::WorkspaceNotFound)?;
        let mut owned = balance.grants.iter().chain(balance.next.iter().map(|next| &next.grant));
        let shown = owned.any(|grant| grant.grant_id == *grant_id);
        let shown = shown || self.ended(workspace, grant_id).await?.is_some();
        let listed = shown || self.is_listed(workspace, grant_id).await?;
        Err(if listed { VoidRefusal::NotVoidable } else { VoidRefusal::GrantNotFound })
    }

    /// Returns whether the ledger lists a grant with this id, which may have ended.
    ///
    /// Searches the ledger around the time at which the id was made.
    async fn is_listed(self, workspace: &WorkspaceId, grant_id: &Id) -> Result<bool, Fault> {
        let Some(made_at) = Sources::made_at(grant_id) else { return Ok(false) };
        let first = position(made_at.checked_sub(CLOCK_DIFFERENCE).unwrap_or(made_at), "");
        let last = made_at.checked_add(LISTED_WITHIN).unwrap_or(made_at);
        let mut before = position(last, "").parse::<Cursor>().ok();
        while let Some(after) = before.filter(|after| after.as_str() > first.as_str()) {
            // A lane takes debits only, so the grant is in the main partition.
            let partitions = &[keys::ledger(workspace)];
            let filter = Some(("grant_id", grant_id.as_str()));
            let page = self
                .store
                .page(IndexQuery { partitions, limit: 1, after: Some(&after), filter }, |_| Ok(()))
                .await?;
            if !page.items.is_empty() {
                return Ok(true);
            }
            before = page.next;
        }
        Ok(false)
    }

    fn voided_write(self, claim: &Claim, grant_id: &Id, key: &ItemKey) -> Result<TransactWriteItem, Fault> {
        let write =
            Expression::new().set(VOIDED_UNDER, text(&key.pk)).when_absent(VOIDED_UNDER).when_exists();
        Ok(write.update(&self.store.table, &ItemKey::grant(&claim.workspace_id, grant_id))?)
    }

    /// Returns the record of an ended grant; `None` until a close writes it.
    pub(crate) async fn ended(
        self,
        workspace: &WorkspaceId,
        grant_id: &Id,
    ) -> Result<Option<EndedGrant>, Fault> {
        let item = self.store.get(&ItemKey::ended_grant(workspace, grant_id)).await?;
        Ok(item.as_ref().map(|item| ended_grants::read(item, grant_id)).transpose()?)
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
        Posting::queue_change(Change::Grant(grant), now)
    }
}

fn read_prepaid(item: &Item) -> Result<Option<Amount>, Corrupt> {
    let reader = Reader(item);
    if reader.text("term")? != "prepaid" {
        return Ok(None);
    }
    reader.amount("granted").map(Some)
}
