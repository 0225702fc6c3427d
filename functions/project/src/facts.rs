//! Derives events from the table's stream. An event carries one fact. A redelivery produces the same event id.

use credits_core::alert::Crossing;
use credits_core::auto_top_up::AutoTopUp;
use credits_core::balance::Balance;
use credits_core::credits::OutOfRange;
use credits_core::event::{EndReason, Fact};
use credits_core::expiry::ExpiryNotice;
use credits_core::hold::Settlement;
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

/// An event to publish, without the members that the stream's record or the balance supply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingEvent {
    /// A redelivery repeats it, so that consumers can ignore the repetition.
    pub event_id: String,
    /// `None` for a payment that names no valid workspace id.
    pub workspace_id: Option<WorkspaceId>,
    /// `None` if the write does not contain it: the publisher then reads the balance.
    pub balance_version: Option<u64>,
    /// When the fact happened; `None` if the write does not contain it: the publisher uses the record's time.
    pub at: Option<Timestamp>,
    pub fact: Fact,
}

/// The kinds of ledger entries that `CreditsAdded` reports without a reason. It also reports a reversed claw-back, with
/// its reason.
const KINDS_THAT_ADD_CREDITS: [EntryKind; 3] = [EntryKind::TopUp, EntryKind::Allocation, EntryKind::Grant];

/// Returns the events that follow from a write; an error if a balance's sums leave their range.
pub fn of(written: &ItemChange) -> Result<Vec<OutgoingEvent>, OutOfRange> {
    Ok(match written {
        ItemChange::Balance { workspace, before, after } => of_balance(workspace, before.as_deref(), after)?,
        // While lanes are open, no debit on them crosses a threshold.
        ItemChange::LaneDebit { .. } => Vec::new(),
        ItemChange::Entry { workspace, entry } => of_entry(workspace, entry).into_iter().collect(),
        ItemChange::RunFailed { workspace, run, version } => {
            of_failed_run(workspace, run, *version).into_iter().collect()
        }
        ItemChange::Subscription { workspace, before, after } => of_subscription(workspace, before, after),
        ItemChange::AutoTopUp { workspace, before, after } => {
            of_auto_top_up(workspace, before.as_deref().map(|before| &before.kept), after)
        }
        ItemChange::ExpiryNoticed { workspace, notices } => {
            notices.iter().map(|notice| expiring(workspace, notice)).collect()
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
            vec![outgoing_event(event_id, &purchase.workspace_id, required)]
        }
        ItemChange::Paid { purchase, payment_id, charged } => {
            let received = Fact::PaymentReceived {
                purchase_id: purchase.purchase_id.clone(),
                payment_id: payment_id.clone(),
                description: purchase.goods.description(),
                credits: purchase.goods.credits(),
                price: *charged,
            };
            vec![outgoing_event(format!("paid-{}", purchase.purchase_id), &purchase.workspace_id, received)]
        }
    })
}

fn outgoing_event(event_id: String, workspace: &WorkspaceId, fact: Fact) -> OutgoingEvent {
    OutgoingEvent { event_id, workspace_id: Some(workspace.clone()), balance_version: None, at: None, fact }
}

/// Returns the event of a ledger entry that adds credits, claws them back, or leaves some uncollected; `None` for other
/// entries.
fn of_entry(workspace: &WorkspaceId, entry: &Entry) -> Option<OutgoingEvent> {
    let Entry { entry_id, cause, credits, at } = entry.clone();
    let kind = cause.kind();
    // The entry does not contain the balance. The publisher fills this in.
    let available = None;
    let (event_id, fact) = match cause {
        Cause::ClawBack { payment_id, reason } => {
            let (event_id, credits) = (format!("clawed-{entry_id}"), credits.negated());
            (event_id, Fact::CreditsClawedBack { entry_id, payment_id, reason, credits, available })
        }
        Cause::ClawBackReversed { reason, .. } => {
            (format!("added-{entry_id}"), Fact::CreditsAdded { entry_id, kind, credits, available, reason })
        }
        Cause::HoldSettled(Settlement { hold_ids, uncollected: Some(credits), .. }) => {
            (format!("uncollected-{entry_id}"), Fact::CreditsUncollected { entry_id, hold_ids, credits })
        }
        _ if KINDS_THAT_ADD_CREDITS.contains(&kind) => {
            let reason = None;
            (format!("added-{entry_id}"), Fact::CreditsAdded { entry_id, kind, credits, available, reason })
        }
        _ => return None,
    };
    Some(OutgoingEvent { at: Some(at), ..outgoing_event(event_id, workspace, fact) })
}

/// Returns `InvoiceReady` if this write has numbered the invoice.
fn of_invoice(workspace: &WorkspaceId, before: Option<&Invoice>, after: &Invoice) -> Option<OutgoingEvent> {
    let number = after.number.clone()?;
    if before.is_some_and(|before| before.number.is_some()) {
        return None;
    }
    let Invoice { invoice_id, month, lines, total, issued_at, .. } = after.clone();
    let event_id = format!("invoice-{workspace}-{invoice_id}");
    let ready = Fact::InvoiceReady { invoice_id, number, month, lines, total };
    Some(OutgoingEvent { at: Some(issued_at), ..outgoing_event(event_id, workspace, ready) })
}

/// Returns `CreditsLow` and `CreditsExhausted` if this write has crossed their thresholds, and `TopUpWanted` while the
/// balance is low. A new balance has crossed none.
fn of_balance(
    workspace: &WorkspaceId,
    before: Option<&Balance>,
    after: &Balance,
) -> Result<Vec<OutgoingEvent>, OutOfRange> {
    let Some(before) = before else { return Ok(Vec::new()) };
    let (available, held) = (after.available()?, after.all_held()?);
    let crossing = Crossing::of(before, after)?;
    let mut events = Vec::new();
    for threshold in &crossing.low {
        let low = Fact::CreditsLow {
            threshold: *threshold,
            crossed_smaller: crossing.low.last() != Some(threshold),
            available,
            held,
        };
        // SES allows no dot in a mail's tag.
        let threshold = threshold.to_string().replace('.', "_");
        events.push(outgoing_event(format!("low-{workspace}-{}-{threshold}", after.version), workspace, low));
    }
    events.extend(top_up_wanted(workspace, after)?);
    if crossing.exhausted {
        let event_id = format!("exhausted-{workspace}-{}", after.version);
        events.push(outgoing_event(event_id, workspace, Fact::CreditsExhausted { available, held }));
    }
    Ok(events
        .into_iter()
        .map(|outgoing| OutgoingEvent { balance_version: Some(after.version), ..outgoing })
        .collect())
}

/// Returns `TopUpWanted` while the balance is low. Every write of the balance repeats the event: an earlier one may have
/// been lost, or a payment method or new settings may have been stored since.
///
/// A refused call causes the same fact under the prefix `top-up-needed`. The prefixes differ because this id contains the
/// version of the balance, and that one the version of automatic top-up.
fn top_up_wanted(workspace: &WorkspaceId, after: &Balance) -> Result<Option<OutgoingEvent>, OutOfRange> {
    let (available, wanted) = (after.available()?, after.wants_top_up()?);
    let Some(threshold) = after.top_up_at.filter(|_| wanted) else { return Ok(None) };
    let event_id = format!("top-up-wanted-{workspace}-{}", after.version);
    Ok(Some(outgoing_event(event_id, workspace, Fact::TopUpWanted { threshold, available: Some(available) })))
}

/// Returns the events of a change of automatic top-up, and `TopUpWanted` while a refused call still needs packs.
fn of_auto_top_up(
    workspace: &WorkspaceId,
    before: Option<&AutoTopUp>,
    VersionedTopUp { kept, version: record_version }: &VersionedTopUp,
) -> Vec<OutgoingEvent> {
    let Some(pack) = kept.settings.pack.clone() else { return Vec::new() };
    let mut events = Vec::new();
    if kept.gave_up && !before.is_some_and(|before| before.gave_up) {
        let switched_off = Fact::AutoTopUpSwitchedOff { pack: pack.clone(), declines: kept.declines };
        events.push(outgoing_event(
            format!("top-up-off-{workspace}-{record_version}"),
            workspace,
            switched_off,
        ));
    }
    if let Some((limit, until)) = kept.limited_by.zip(kept.waits_until)
        && before.and_then(|before| before.limited_by) != Some(limit)
    {
        let limited = Fact::AutoTopUpLimited { pack: pack.clone(), limit, until };
        events.push(outgoing_event(
            format!("top-up-limited-{workspace}-{record_version}"),
            workspace,
            limited,
        ));
    }
    // The first charge without a monthly limit sets `unlimited_noted`. Only settings of an older version have no limit.
    if kept.unlimited_noted && !before.is_some_and(|before| before.unlimited_noted) {
        let event_id = format!("top-up-unlimited-{workspace}-{record_version}");
        events.push(outgoing_event(event_id, workspace, Fact::AutoTopUpUnlimited { pack }));
    }
    if let Some(threshold) = kept.settings.active_threshold()
        && kept.need.is_some()
        && kept.charge.is_none()
    {
        let wanted = Fact::TopUpWanted { threshold, available: None };
        events.push(outgoing_event(format!("top-up-needed-{workspace}-{record_version}"), workspace, wanted));
    }
    events
}

fn expiring(workspace: &WorkspaceId, notice: &ExpiryNotice) -> OutgoingEvent {
    let ExpiryNotice { expires_at, days, credits } = *notice;
    let event_id = format!("expiring-{workspace}-{}-{days}", expires_at.as_millisecond());
    outgoing_event(event_id, workspace, Fact::CreditsExpiring { credits, expires_at, days })
}

fn of_failed_run(workspace: &WorkspaceId, run: &Run, balance_version: u64) -> Option<OutgoingEvent> {
    let failure = run.failure.clone()?;
    let failed = Fact::RunFailed {
        run_id: run.run_id.clone(),
        workflow_id: run.workflow_id.clone(),
        trigger: run.trigger,
        step_id: failure.step_id,
        required: failure.required,
        available: failure.available,
    };
    let outgoing = outgoing_event(format!("run-failed-{}", run.run_id), workspace, failed);
    Some(OutgoingEvent { balance_version: Some(balance_version), at: run.ended_at, ..outgoing })
}

fn of_subscription(
    workspace: &WorkspaceId,
    before: &SubscriptionAccount,
    after: &SubscriptionAccount,
) -> Vec<OutgoingEvent> {
    let Some(current) = &after.subscription else { return Vec::new() };
    let is_same = |previous: &&Subscription| previous.subscription_id == current.subscription_id;
    let previous = before.subscription.as_ref().filter(is_same);
    let id = &current.subscription_id;
    let mut events = Vec::new();
    // The first period counts as a renewal: its event announces the credits of every period alike.
    if previous.is_none_or(|previous| previous.period < current.period) {
        let renewed = renewed(current, previous.map_or(0, |previous| previous.skipped));
        events.push(outgoing_event(format!("renewed-{id}-{}", current.period), workspace, renewed));
    }
    let declines_before =
        previous.and_then(|previous| previous.declines).map_or(0, |declines| declines.count);
    // If a person has to authenticate, nothing was declined, and `PaymentActionRequired` asks that person.
    let asked = after.action.is_some();
    if let Some(declined) = current.declines.filter(|_| current.status == Status::PastDue && !asked)
        && declined.count > declines_before
    {
        let failed = Fact::RenewalFailed {
            subscription_id: id.clone(),
            tier: current.next_terms().tier.clone(),
            price: current.next_terms().price,
            declines: declined.count,
            next_attempt_at: declined.next_at,
        };
        let event_id = format!("renewal-failed-{id}-{}-{}", current.period, declined.count);
        events.push(outgoing_event(event_id, workspace, failed));
    }
    if current.status == Status::Cancelled && previous.is_some_and(Subscription::is_running) {
        // The account does not store why the subscription ended. If a declined charge ended it, the declines are still
        // stored; a cancellation clears them.
        let reason = if current.declines.is_some() { EndReason::PaymentFailed } else { EndReason::Cancelled };
        let (subscription_id, tier) = (id.clone(), current.terms.tier.clone());
        let cancelled = Fact::SubscriptionCancelled { subscription_id, tier, reason };
        events.push(outgoing_event(format!("cancelled-{id}"), workspace, cancelled));
    }
    events
}

fn renewed(current: &Subscription, skipped_before: u64) -> Fact {
    Fact::SubscriptionRenewed {
        subscription_id: current.subscription_id.clone(),
        tier: current.terms.tier.clone(),
        monthly_credits: current.terms.monthly_credits,
        period: current.period,
        period_start: current.start_of(current.period),
        renews_at: current.end_of(current.period),
        skipped_periods: current.skipped.saturating_sub(skipped_before),
    }
}

fn of_payment(before: Option<&Payment>, after: &Payment) -> Option<OutgoingEvent> {
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
    Some(OutgoingEvent {
        event_id: format!("unmatched-{}-{reason}", after.payment_id),
        workspace_id: paid.ids.workspace_id.as_deref().and_then(|named| named.parse().ok()),
        balance_version: None,
        at: Some(after.first_heard_at),
        fact: unmatched,
    })
}
