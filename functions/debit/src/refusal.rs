//! Refusals for insufficient credits. Before the function answers one, it marks the runs of the refused steps failed
//! (M10), records that the workspace is out of credits if it is, and starts automatic top-up for the call.

use credits_core::batch::PricedCall;
use credits_core::call_top_up::RefusedCall;
use credits_core::consumer::Consumer;
use credits_core::credits::{CallPrice, Credits, OutOfRange};
use credits_core::id::{Id, WorkspaceId};
use credits_core::run::{Failure, FailureCode};
use credits_runtime::problem::TopUpOfCall;
use credits_runtime::{Call, Problem};
use credits_store::debits::DebitRefusal;
use credits_store::error::Corrupt;
use credits_store::holds::HoldRefusal;
use credits_store::refused::RefusedBalance;
use credits_store::{Fault, Store};

use crate::DebitFunction;

/// A call that the balance does not cover.
struct UncoveredCall<'a> {
    workspace: &'a WorkspaceId,
    balance: RefusedBalance,
    /// The credits that the call could have spent, including those that its hold keeps.
    available: Credits,
    /// The price of the call.
    required: CallPrice,
}

impl DebitFunction {
    /// Returns the problem for a refused debit, batch or placement of holds. Fails if a write that has to precede the
    /// answer fails.
    pub(crate) async fn problem_for(
        &self,
        call: &Call,
        store: &Store,
        workspace: &WorkspaceId,
        lines: &[PricedCall],
        refusal: DebitRefusal,
    ) -> Result<Problem, Fault> {
        let top_up = match refusal {
            DebitRefusal::Insufficient { required, balance } => {
                let refused = UncoveredCall { workspace, balance, available: balance.spendable, required };
                self.follow_up(store, &refused, lines).await?
            }
            _ => None,
        };
        Ok(Problem::of_debit(refusal, &self.top_up_url.of(call)).with_top_up(top_up))
    }

    /// Returns the problem for a refused capture or settlement. It marks a run failed only if the balance was to pay
    /// the rest and did not cover it. An amount above the hold fails no run by itself.
    pub(crate) async fn hold_problem_for(
        &self,
        call: &Call,
        store: &Store,
        workspace: &WorkspaceId,
        refusal: HoldRefusal,
    ) -> Result<Problem, Fault> {
        let top_up = match &refusal {
            HoldRefusal::Insufficient { line, available, balance } => {
                let (available, balance, required) = (*available, *balance, line.amount);
                let refused = UncoveredCall { workspace, balance, available, required };
                self.follow_up(store, &refused, std::slice::from_ref(line)).await?
            }
            _ => None,
        };
        Ok(Problem::of_hold(refusal, &self.top_up_url.of(call)).with_top_up(top_up))
    }

    /// Writes what has to precede the answer to a refusal, and returns what automatic top-up does about the call.
    async fn follow_up(
        &self,
        store: &Store,
        refused: &UncoveredCall<'_>,
        lines: &[PricedCall],
    ) -> Result<Option<TopUpOfCall>, Fault> {
        refused.fail_runs(store, lines).await?;
        if let Some(exhaustion) = refused.balance.exhaustion {
            store.alerts().note_exhaustion(refused.workspace, exhaustion).await?;
        }
        if !refused.balance.tops_up {
            return Ok(None);
        }
        let shortfall = refused.required.credits().minus(refused.available).map_err(Corrupt::from)?;
        let call = RefusedCall { available: refused.balance.available, shortfall };
        Ok(self.top_up_for(store, refused.workspace, call).await)
    }
}

impl UncoveredCall<'_> {
    async fn fail_runs(&self, store: &Store, lines: &[PricedCall]) -> Result<(), Fault> {
        for (run_id, step_id, required) in steps_of(lines).map_err(|sum| Fault::Corrupt(sum.into()))? {
            let failure = Failure {
                code: FailureCode::InsufficientCredits,
                step_id: step_id.clone(),
                required,
                available: self.available,
            };
            store.runs().fail(self.workspace, run_id, &failure, self.balance.version).await?;
        }
        Ok(())
    }
}

/// Returns the runs of the refused steps, each with its first refused step and the sum of its own lines.
fn steps_of(lines: &[PricedCall]) -> Result<Vec<(&Id, &Id, CallPrice)>, OutOfRange> {
    let mut steps: Vec<(&Id, &Id, Credits)> = Vec::new();
    for line in lines {
        let Consumer::WorkflowStep { run_id, step_id, .. } = &line.consumer else { continue };
        let cost = line.amount.credits();
        match steps.iter_mut().find(|(run, _, _)| *run == run_id) {
            Some((_, _, sum)) => *sum = sum.plus(cost)?,
            None => steps.push((run_id, step_id, cost)),
        }
    }
    // The sum of all lines is a valid price, so each part of it is one.
    let priced = |(run_id, step_id, sum)| Some((run_id, step_id, CallPrice::new(sum).ok()?));
    Ok(steps.into_iter().filter_map(priced).collect())
}
