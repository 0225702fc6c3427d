//! Derives facts from the writes in the table's stream. A fact's id is the same on every redelivery.

use credits_core::alert::Crossing;
use credits_core::auto_top_up::AutoTopUp;
use credits_core::balance::Balance;
use credits_core::credits::OutOfRange;
use credits_core::event::{EndReason, Fact};
use credits_core::id::WorkspaceId;
use credits_core::invoice::Invoice;
use credits_core::ledger::{Cause, Entry, EntryKind};
use credits_core::payment::Payment;
use credits_core::price::Price;
use credits_core::run::Run;
use credits_core::subscription::{Status, Subscription};
use credits_core::subscription_account::SubscriptionAccount;
use credits_store::auto_top_ups::VersionedTopUp;
use credits_store::stream::ItemChange;
use jiff::Timestamp;

/// A fact to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingFact {
    /// Identifies the fact. A redelivery repeats it.
    pub event_id: String,
    /// `None` for a payment that names no valid workspace id.
    pub workspace_id: Option<WorkspaceId>,
    /// The balance's version; `None` if the write does not contain it.
    pub version: Option<u64>,
    /// When the fact happened; `None` if the write does not say, and the record's time has to do.
    pub at: Option<Timestamp>,
    pub fact: Fact,
}

/// The kinds of ledger entries that add credits.
const ADDING: [EntryKind; 4] =
    [EntryKind::TopUp, EntryKind::Allocation, EntryKind::Grant, EntryKind::ClawBackReversed];

/// Returns the facts that follow from a write; an error if a balance's sums leave their range.
pub fn of(written: &ItemChange) -> Result<Vec<OutgoingFact>, OutOfRange> {
    Ok(match written {
        ItemChange::Balance { workspace, before, after } => of_balance(workspace, before.as_deref(), after)?,
        ItemChange::Entry { workspace, entry } => of_entry(workspace, entry).into_iter().collect(),
        ItemChange::RunFailed { workspace, run, version } => {
            of_failed_run(workspace, run, *version).into_iter().collect()
        }
        ItemChange::Subscription { workspace, before, after } => of_subscription(workspace, before, after),
        ItemChange::AutoTopUp { workspace, before, after } => {
            of_auto_top_up(workspace, before.as_deref().map(|before| &before.kept), after)
        }
        ItemChange::Payment { before, after } => of_payment(before.as_deref(), after).into_iter().collect(),
        ItemChange::Invoice { workspace, before, after } => {
            of_invoice(workspace, before.as_deref(), &after.invoice).into_iter().collect()
        }
        ItemChange::ActionRequired { purchase, checkout } => {
            let required = Fact::PaymentActionRequired {
                purchase_id: purchase.purchase_id.clone(),
                description: purchase.goods.description(),
                price: purchase.price,
                checkout_url: checkout.checkout_url.clone(),
            };
            let event_id = format!("action-{}", purchase.purchase_id);
            vec![outgoing_fact(event_id, &purchase.workspace_id, required)]
        }
        ItemChange::Paid { purchase, payment_id, charged } => {
            let received = Fact::PaymentReceived {
                purchase_id: purchase.purchase_id.clone(),
                payment_id: payment_id.clone(),
                description: purchase.goods.description(),
                credits: purchase.goods.credits(),
                price: *charged,
            };
            vec![outgoing_fact(format!("paid-{}", purchase.purchase_id), &purchase.workspace_id, received)]
        }
    })
}

fn outgoing_fact(event_id: String, workspace: &WorkspaceId, fact: Fact) -> OutgoingFact {
    OutgoingFact { event_id, workspace_id: Some(workspace.clone()), version: None, at: None, fact }
}

/// Returns the fact of a ledger entry that adds credits or claws them back; `None` for entries of other kinds.
fn of_entry(workspace: &WorkspaceId, entry: &Entry) -> Option<OutgoingFact> {
    let Entry { entry_id, cause, credits, at } = entry.clone();
    let (kind, available) = (cause.kind(), None);
    let (event_id, fact) = match cause {
        Cause::ClawBack { payment_id, reason } => {
            let (event_id, credits) = (format!("clawed-{entry_id}"), credits.negated());
            (event_id, Fact::CreditsClawedBack { entry_id, payment_id, reason, credits, available })
        }
        _ if !ADDING.contains(&kind) => return None,
        cause => {
            let reason = if let Cause::ClawBackReversed { reason, .. } = cause { reason } else { None };
            (format!("added-{entry_id}"), Fact::CreditsAdded { entry_id, kind, credits, available, reason })
        }
    };
    Some(OutgoingFact { at: Some(at), ..outgoing_fact(event_id, workspace, fact) })
}

/// Returns `InvoiceReady` for the write that numbered the invoice.
fn of_invoice(workspace: &WorkspaceId, before: Option<&Invoice>, after: &Invoice) -> Option<OutgoingFact> {
    let number = after.number.clone()?;
    if before.is_some_and(|before| before.number.is_some()) {
        return None;
    }
    let Invoice { invoice_id, month, lines, total, issued_at, .. } = after.clone();
    let event_id = format!("invoice-{workspace}-{invoice_id}");
    let ready = Fact::InvoiceReady { invoice_id, number, month, lines, total };
    Some(OutgoingFact { at: Some(issued_at), ..outgoing_fact(event_id, workspace, ready) })
}

/// Returns the thresholds that a write crossed, found by comparing the balance before and after it, and whether the
/// balance wants a top-up.
fn of_balance(
    workspace: &WorkspaceId,
    before: Option<&Balance>,
    after: &Balance,
) -> Result<Vec<OutgoingFact>, OutOfRange> {
    let Some(before) = before else { return Ok(Vec::new()) };
    let (available, held) = (after.available()?, after.all_held()?);
    let crossing = Crossing::of(before, after)?;
    let mut facts = Vec::new();
    if let Some(threshold) = crossing.low {
        let event_id = format!("low-{workspace}-{}", after.version);
        facts.push(outgoing_fact(event_id, workspace, Fact::CreditsLow { threshold, available, held }));
    }
    facts.extend(top_up_wanted(workspace, after)?);
    if crossing.exhausted {
        let event_id = format!("exhausted-{workspace}-{}", after.version);
        facts.push(outgoing_fact(event_id, workspace, Fact::CreditsExhausted { available, held }));
    }
    Ok(facts.into_iter().map(|outgoing| OutgoingFact { version: Some(after.version), ..outgoing }).collect())
}

/// Returns `TopUpWanted` while the balance is low. Every write repeats it: an earlier event may have been lost, or a
/// payment method or new settings may have been stored since.
fn top_up_wanted(workspace: &WorkspaceId, after: &Balance) -> Result<Option<OutgoingFact>, OutOfRange> {
    let (available, wanted) = (after.available()?, after.wants_top_up()?);
    let Some(threshold) = after.top_up_at.filter(|_| wanted) else { return Ok(None) };
    let event_id = format!("top-up-wanted-{workspace}-{}", after.version);
    Ok(Some(outgoing_fact(event_id, workspace, Fact::TopUpWanted { threshold, available: Some(available) })))
}

/// Returns the facts of a change of automatic top-up, and `TopUpWanted` while a refused call still needs packs.
fn of_auto_top_up(
    workspace: &WorkspaceId,
    before: Option<&AutoTopUp>,
    VersionedTopUp { kept, version }: &VersionedTopUp,
) -> Vec<OutgoingFact> {
    let Some(pack) = kept.settings.pack.clone() else { return Vec::new() };
    let mut facts = Vec::new();
    if kept.gave_up && !before.is_some_and(|before| before.gave_up) {
        let switched_off = Fact::AutoTopUpSwitchedOff { pack: pack.clone(), declines: kept.declines };
        facts.push(outgoing_fact(format!("top-up-off-{workspace}-{version}"), workspace, switched_off));
    }
    if let Some((limit, until)) = kept.limited_by.zip(kept.waits_until)
        && before.and_then(|before| before.limited_by) != Some(limit)
    {
        let limited = Fact::AutoTopUpLimited { pack: pack.clone(), limit, until };
        facts.push(outgoing_fact(format!("top-up-limited-{workspace}-{version}"), workspace, limited));
    }
    if kept.unlimited_noted && !before.is_some_and(|before| before.unlimited_noted) {
        let event_id = format!("top-up-unlimited-{workspace}-{version}");
        facts.push(outgoing_fact(event_id, workspace, Fact::AutoTopUpUnlimited { pack }));
    }
    if let Some(threshold) = kept.settings.active_threshold()
        && kept.need.is_some()
        && kept.charge.is_none()
    {
        let wanted = Fact::TopUpWanted { threshold, available: None };
        facts.push(outgoing_fact(format!("top-up-needed-{workspace}-{version}"), workspace, wanted));
    }
    facts
}

fn of_failed_run(workspace: &WorkspaceId, run: &Run, version: u64) -> Option<OutgoingFact> {
    let failure = run.failure.clone()?;
    let failed = Fact::RunFailed {
        run_id: run.run_id.clone(),
        workflow_id: run.workflow_id.clone(),
        trigger: run.trigger,
        step_id: failure.step_id,
        required: failure.required,
        available: failure.available,
    };
    let outgoing = outgoing_fact(format!("run-failed-{}", run.run_id), workspace, failed);
    Some(OutgoingFact { version: Some(version), at: run.ended_at, ..outgoing })
}

fn of_subscription(
    workspace: &WorkspaceId,
    before: &SubscriptionAccount,
    after: &SubscriptionAccount,
) -> Vec<OutgoingFact> {
    let Some(now) = &after.subscription else { return Vec::new() };
    let same = |was: &&Subscription| was.subscription_id == now.subscription_id;
    let was = before.subscription.as_ref().filter(same);
    let id = &now.subscription_id;
    let mut facts = Vec::new();
    if was.is_none_or(|was| was.period < now.period) {
        let renewed = renewed(now, was.map_or(0, |was| was.skipped));
        facts.push(outgoing_fact(format!("renewed-{id}-{}", now.period), workspace, renewed));
    }
    let declines = |of: Option<&Subscription>| of.and_then(|of| of.declines).map_or(0, |it| it.count);
    // If a person has to authenticate, nothing was declined, and `PaymentActionRequired` asks that person.
    let asked = after.action.is_some();
    if let Some(declined) = now.declines.filter(|_| now.status == Status::PastDue && !asked)
        && declined.count > declines(was)
    {
        let failed = Fact::RenewalFailed {
            subscription_id: id.clone(),
            tier: now.next_terms().tier.clone(),
            price: now.next_terms().price,
            declines: declined.count,
            next_attempt_at: declined.next_at,
        };
        let event_id = format!("renewal-failed-{id}-{}-{}", now.period, declined.count);
        facts.push(outgoing_fact(event_id, workspace, failed));
    }
    if now.status == Status::Cancelled && was.is_some_and(Subscription::is_running) {
        let reason = if now.declines.is_some() { EndReason::PaymentFailed } else { EndReason::Cancelled };
        let (subscription_id, tier) = (id.clone(), now.terms.tier.clone());
        let cancelled = Fact::SubscriptionCancelled { subscription_id, tier, reason };
        facts.push(outgoing_fact(format!("cancelled-{id}"), workspace, cancelled));
    }
    facts
}

fn renewed(now: &Subscription, skipped_before: u64) -> Fact {
    Fact::SubscriptionRenewed {
        subscription_id: now.subscription_id.clone(),
        tier: now.terms.tier.clone(),
        monthly_credits: now.terms.monthly_credits,
        period: now.period,
        period_start: now.start_of(now.period),
        renews_at: now.end_of(now.period),
        skipped_periods: now.skipped.saturating_sub(skipped_before),
    }
}

fn of_payment(before: Option<&Payment>, after: &Payment) -> Option<OutgoingFact> {
    let reason = after.mismatch.filter(|_| after.is_unmatched())?;
    if before.is_some_and(|before| before.mismatch == Some(reason)) {
        return None;
    }
    let paid = after.paid.as_ref()?;
    let unmatched = Fact::PaymentUnmatched {
        payment_id: after.payment_id.clone(),
        price: Price { amount_minor: paid.amount_minor, currency: paid.currency },
        reason: reason.to_string(),
    };
    Some(OutgoingFact {
        event_id: format!("unmatched-{}-{reason}", after.payment_id),
        workspace_id: paid.ids.workspace_id.as_deref().and_then(|named| named.parse().ok()),
        version: None,
        at: Some(after.first_heard_at),
        fact: unmatched,
    })
}
