//! Grants by the operator: credits with or without an end (M8).

use credits_core::change::Change;
use credits_core::credits::Amount;
use credits_core::grant::{ExpiringGrant, GrantKind};
use credits_core::id::Id;
use credits_core::ledger::Cause;
use credits_core::posting::Posting;
use jiff::Timestamp;

use crate::Store;
use crate::debits::{Posted, replay};
use crate::error::Fault;
use crate::idempotency::Claim;
use crate::keys::ItemKey;
use crate::posting::{Order, Unposted};

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
    /// The key stands for another call.
    #[error("the idempotency key was used for another call")]
    KeyReused,
    /// There is no such workspace.
    #[error("the workspace does not exist")]
    WorkspaceNotFound,
    /// It could not be carried out.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Store {
    /// Grants credits under the caller's key. An expiring grant goes behind the fence, and is closed in at once.
    pub async fn grant(&self, claim: &Claim, grant: &GrantOrder) -> Result<Posted, GrantRefusal> {
        let grant_id = self.sources.new_id("gr");
        let grant_kind = match grant.term {
            Term::Prepaid => GrantKind::Prepaid,
            Term::Until(kind, _) => kind,
        };
        let cause = Cause::Grant { grant_id: grant_id.clone(), grant_kind, reason: grant.reason.clone() };
        let order = Order {
            workspace: &claim.workspace_id,
            key: ItemKey::called(&claim.workspace_id, &claim.key),
            fingerprint: Some(claim.fingerprint),
            entry_id: grant_id.clone(),
            credits: grant.amount.credits(),
            cause,
            posting: &|_| grant.posting(&grant_id),
            also: Vec::new(),
        };
        let posted = match self.post(order).await {
            Ok(entry) => Posted { entry, replayed: false },
            Err(Unposted::KeyTaken(item)) => replay(&item, claim)?.ok_or(GrantRefusal::KeyReused)?,
            Err(Unposted::Fault(fault)) => return Err(fault.into()),
            Err(_) => return Err(GrantRefusal::WorkspaceNotFound),
        };
        if matches!(grant.term, Term::Until(..)) {
            self.settle_fence(&claim.workspace_id).await;
        }
        Ok(posted)
    }
}

impl GrantOrder {
    fn posting(&self, grant_id: &Id) -> Posting {
        match self.term {
            Term::Prepaid => Posting::top_up(self.amount),
            Term::Until(kind, expires_at) => Posting::change(Change::Grant(ExpiringGrant {
                grant_id: grant_id.clone(),
                kind,
                granted: self.amount,
                amount: self.amount.credits(),
                expires_at,
            })),
        }
    }
}
