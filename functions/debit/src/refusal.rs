//! Refusals for insufficient credits. Before one is answered, the runs whose steps were to be paid are marked failed (M10),
//! it is noted if it leaves the workspace out of credits, and automatic top-up buys what the call needs.

use credits_core::batch::Line;
use credits_core::call_top_up::RefusedCall;
use credits_core::consumer::Consumer;
use credits_core::credits::{Amount, Credits, OutOfRange};
use credits_core::id::{Id, WorkspaceId};
use credits_core::run::{Failure, FailureCode};
use credits_runtime::problem::TopUpOfCall;
use credits_runtime::{Call, Problem};
use credits_store::debits::DebitRefusal;
use credits_store::error::Corrupt;
use credits_store::holds::HoldRefusal;
use credits_store::refused::RefusedBalance;
use credits_store::{Fault, Store};

use crate::Debits;

/// A call that the balance doesn't cover.
struct Refused<'a> {
    workspace: &'a WorkspaceId,
    balance: RefusedBalance,
    /// What the call could have spent.
    available: Credits,
    /// What it costs.
    required: Amount,
}

impl Debits {
    /// Returns the problem of a debit, batch or hold that was refused; an error where what follows from the refusal can't be
    /// written.
    pub(crate) async fn refused(
        &self,
        call: &Call,
        (store, workspace): (&Store, &WorkspaceId),
        lines: &[Line],
        refusal: DebitRefusal,
    ) -> Result<Problem, Fault> {
        let top_up = match refusal {
            DebitRefusal::Insufficient { required, balance } => {
                let refused = Refused { workspace, balance, available: balance.spendable, required };
                self.follow_up(store, &refused, lines).await?
            }
            _ => None,
        };
        Ok(Problem::of_debit(refusal, &self.top_up_url.of(call)).with_top_up(top_up))
    }

    /// The problem of a capture or settlement that was refused. One above its hold fails no run, unless the balance was to
    /// pay the rest and doesn't cover it.
    pub(crate) async fn hold_refused(
        &self,
        call: &Call,
        (store, workspace): (&Store, &WorkspaceId),
        refusal: HoldRefusal,
    ) -> Result<Problem, Fault> {
        let top_up = match &refusal {
            HoldRefusal::Insufficient { line, available, balance } => {
                let (available, balance, required) = (*available, *balance, line.amount);
                let refused = Refused { workspace, balance, available, required };
                self.follow_up(store, &refused, std::slice::from_ref(line)).await?
            }
            _ => None,
        };
        Ok(Problem::of_hold(refusal, &self.top_up_url.of(call)).with_top_up(top_up))
    }

    /// Does what follows from a refusal, and returns what automatic top-up does about it.
    async fn follow_up(
        &self,
        store: &Store,
        refused: &Refused<'_>,
        lines: &[Line],
    ) -> Result<Option<TopUpOfCall>, Fault> {
        refused.fail_runs(store, lines).await?;
        if let Some(exhaustion) = refused.balance.exhaustion {
            store.note_exhaustion(refused.workspace, exhaustion).await?;
        }
        if !refused.balance.tops_up {
            return Ok(None);
        }
        let shortfall = refused.required.credits().minus(refused.available).map_err(Corrupt::from)?;
        let call = RefusedCall { available: refused.balance.available, shortfall };
        Ok(self.top_up_for(store, refused.workspace, call).await)
    }
}

impl Refused<'_> {
    async fn fail_runs(&self, store: &Store, lines: &[Line]) -> Result<(), Fault> {
        for (run_id, step_id, required) in steps_of(lines).map_err(|sum| Fault::Corrupt(sum.into()))? {
            let failure = Failure {
                code: FailureCode::InsufficientCredits,
                step_id: step_id.clone(),
                required,
                available: self.available,
            };
            store.fail_run(self.workspace, run_id, &failure, self.balance.version).await?;
        }
        Ok(())
    }
}

/// The runs whose steps were to be paid, each with its first step and what all of its own cost.
fn steps_of(lines: &[Line]) -> Result<Vec<(&Id, &Id, Amount)>, OutOfRange> {
    let mut steps: Vec<(&Id, &Id, Credits)> = Vec::new();
    for line in lines {
        let Consumer::WorkflowStep { run_id, step_id, .. } = &line.consumer else { continue };
        let cost = line.amount.credits();
        match steps.iter_mut().find(|(run, _, _)| *run == run_id) {
            Some((_, _, sum)) => *sum = sum.plus(cost)?,
            None => steps.push((run_id, step_id, cost)),
        }
    }
    // Together they are an amount, so each is one.
    let priced = |(run_id, step_id, sum)| Some((run_id, step_id, Amount::new(sum).ok()?));
    Ok(steps.into_iter().filter_map(priced).collect())
}
