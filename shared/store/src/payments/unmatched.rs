//! Unmatched payments: those that wait for an operator, and those that an operator has resolved.

use aws_sdk_dynamodb::types::Select;
use credits_core::id::WorkspaceId;
use credits_core::payment::{Mismatch, Payment, Resolved};
use credits_core::price::Price;
use jiff::Timestamp;

use crate::error::{Corrupt, Fault};
use crate::items::payment_item;
use crate::payments::next_version;
use crate::table::Store;
use crate::table::attribute::{Item, Reader, keyed, text};
use crate::table::expression::Expression;
use crate::table::index::{Cursor, IndexQuery, Page};
use crate::table::keys::{INDEX_PK, INDEX_SK, ItemKey, PK, RESOLVED, UNMATCHED, position};
use crate::table::transaction::TransactionOutcome;

/// Index pages that a count reads at most, with about ten thousand payments each.
const MAX_COUNTED_PAGES: usize = 10;

/// A payment that matches no purchase, or matched none until an operator resolved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmatchedPayment {
    /// Stripe's id.
    pub payment_id: String,
    pub price: Price,
    pub reason: Mismatch,
    /// When its first event arrived.
    pub at: Timestamp,
    /// The workspace of its purchase, or else the one that the payment names.
    pub workspace_id: Option<WorkspaceId>,
    /// The operator's resolution; `None` while it waits.
    pub resolved: Option<Resolved>,
}

/// Which unmatched payments a page lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnmatchedStatus {
    /// Payments that wait for an operator.
    Open,
    /// Payments that an operator has resolved.
    Resolved,
}

/// Why the resolution of a payment is refused.
#[derive(Debug, thiserror::Error)]
pub enum ResolveRefusal {
    /// No such payment exists, or it never was unmatched.
    #[error("the payment does not exist, or matches a purchase")]
    NotFound,
    /// It has granted credits, perhaps by a later event, so nothing is left to resolve.
    #[error("the payment has granted credits")]
    Granted,
    /// It has this other resolution.
    #[error("the payment was resolved in another way")]
    Resolved(Resolved),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Payments that match no purchase.
#[derive(Debug, Clone, Copy)]
pub struct UnmatchedPaymentStore<'a> {
    pub(crate) store: &'a Store,
}

impl UnmatchedPaymentStore<'_> {
    /// Returns a page of unmatched payments, newest first.
    pub async fn list(
        self,
        status: UnmatchedStatus,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page<UnmatchedPayment>, Fault> {
        let partition = match status {
            UnmatchedStatus::Open => UNMATCHED,
            UnmatchedStatus::Resolved => RESOLVED,
        };
        let listing = IndexQuery { partitions: &[partition.to_owned()], limit, after, filter: None };
        let listed = self.store.page(listing, payment_of).await?;
        let mut items = self.store.get_many(&listed.items).await?;
        let found = listed.items.iter().filter_map(|key| items.remove(key));
        let payments = found.map(|item| payment_item::read(&item)).collect::<Result<Vec<_>, _>>()?;
        // The index may lag: a payment that was matched or resolved meanwhile is no longer open.
        let shown = payments.into_iter().filter(|payment| match status {
            UnmatchedStatus::Open => payment.is_unmatched(),
            UnmatchedStatus::Resolved => payment.resolved.is_some(),
        });
        Ok(Page { items: shown.filter_map(UnmatchedPayment::of).collect(), next: listed.next })
    }

    /// Counts the payments that wait for an operator. Stops after `MAX_COUNTED_PAGES` pages of the index.
    pub async fn count(self) -> Result<u32, Fault> {
        let (mut count, mut from) = (0_u32, None);
        for _ in 0..MAX_COUNTED_PAGES {
            let query = self.store.backwards(UNMATCHED, None, i32::MAX).select(Select::Count);
            let page = self.store.found(query.set_exclusive_start_key(from)).await?;
            count = count.saturating_add(u32::try_from(page.count).unwrap_or(0));
            from = page.last_evaluated_key;
            if from.is_none() {
                break;
            }
        }
        Ok(count)
    }

    /// Resolves an unmatched payment. The same resolution again changes nothing, and returns the first one.
    pub async fn resolve(
        self,
        payment_id: &str,
        resolved: &Resolved,
    ) -> Result<UnmatchedPayment, ResolveRefusal> {
        let mut attempts = self.store.attempts();
        loop {
            let payment = self.store.payments().get(payment_id).await?.ok_or(ResolveRefusal::NotFound)?;
            if let Some(known) = payment.resolved.clone() {
                let same = known.resolution == resolved.resolution;
                let shown = UnmatchedPayment::of(payment).filter(|_| same);
                return shown.ok_or(ResolveRefusal::Resolved(known));
            }
            if payment.granted.is_some() {
                return Err(ResolveRefusal::Granted);
            }
            let after = Payment { resolved: Some(resolved.clone()), ..next_version(payment) };
            let shown = UnmatchedPayment::of(after.clone()).ok_or(ResolveRefusal::NotFound)?;
            let place = Expression::new().when_absent(PK).put(&self.store.table, place_of(&after));
            let writes = vec![
                payment_item::write_of(&self.store.table, &after).map_err(Fault::from)?,
                place.map_err(Fault::from)?,
            ];
            match self.store.transact(writes).await? {
                TransactionOutcome::Written => return Ok(shown),
                TransactionOutcome::Unknown(error) => attempts.retry_after_failure(error).await?,
                // An event was merged meanwhile, or another call resolved the payment: read it again.
                TransactionOutcome::Cancelled(_) => attempts.retry_after_conflict().await?,
            }
        }
    }
}

/// Builds the item that lists a resolved payment. The payment's own item may be in its workspace's list.
fn place_of(payment: &Payment) -> Item {
    let mut item = keyed(&ItemKey::resolution(&payment.payment_id));
    item.insert(INDEX_PK.into(), text(RESOLVED));
    item.insert(INDEX_SK.into(), text(position(payment.first_heard_at, &payment.payment_id)));
    item
}

/// Returns the key of the payment that an item of the index lists.
fn payment_of(place: &Item) -> Result<ItemKey, Corrupt> {
    let (_, payment_id) = Reader(place).text(PK)?.split_once('#').ok_or(Corrupt::Attribute(PK))?;
    Ok(ItemKey::payment(payment_id))
}

impl UnmatchedPayment {
    /// Returns the payment as an operator sees it; `None` if it never was unmatched.
    fn of(payment: Payment) -> Option<Self> {
        let (paid, reason) = payment.paid.zip(payment.mismatch)?;
        let sold = payment.sale.map(|sale| sale.workspace_id);
        let named = paid.ids.workspace_id.and_then(|named| named.parse().ok());
        Some(Self {
            payment_id: payment.payment_id,
            price: Price { amount_minor: paid.amount_minor, currency: paid.currency },
            reason,
            at: payment.first_heard_at,
            workspace_id: sold.or(named),
            resolved: payment.resolved,
        })
    }
}
