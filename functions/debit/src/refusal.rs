//! Refusals for insufficient credits. Before one is answered, the runs whose steps were to be paid are marked failed (M10),
//! and it is noted where it leaves the workspace out of credits.

use credits_core::alert::Exhaustion;
use credits_core::batch::Line;
use credits_core::consumer::Consumer;
use credits_core::credits::{Amount, Credits, OutOfRange};
use credits_core::id::{Id, WorkspaceId};
use credits_core::run::{Failure, FailureCode};
use credits_runtime::{Call, Problem};
use credits_store::debits::DebitRefusal;
use credits_store::holds::HoldRefusal;
use credits_store::{Fault, Store};

use crate::Debits;

/// What the balance has refused.
struct Refused<'a> {
    workspace: &'a WorkspaceId,
    available: Credits,
    /// The balance's version when it refused.
    version: u64,
    exhaustion: Option<Exhaustion>,
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
        if let DebitRefusal::Insufficient { available, version, exhaustion, .. } = refusal {
            Refused { workspace, available, version, exhaustion }.follow_up(store, lines).await?;
        }
        Ok(Problem::of_debit(refusal, &self.top_up_url.of(call)))
    }

    /// The problem of a capture or settlement that was refused. One above its hold fails no run, unless the balance was to
    /// pay the rest and doesn't cover it.
    pub(crate) async fn hold_refused(
        &self,
        call: &Call,
        (store, workspace): (&Store, &WorkspaceId),
        refusal: HoldRefusal,
    ) -> Result<Problem, Fault> {
        if let HoldRefusal::Insufficient { line, available, version, exhaustion } = &refusal {
            let (available, version, exhaustion) = (*available, *version, *exhaustion);
            let refused = Refused { workspace, available, version, exhaustion };
            refused.follow_up(store, std::slice::from_ref(line)).await?;
        }
        Ok(Problem::of_hold(refusal, &self.top_up_url.of(call)))
    }
}

impl Refused<'_> {
    async fn follow_up(&self, store: &Store, lines: &[Line]) -> Result<(), Fault> {
        self.fail_runs(store, lines).await?;
        match self.exhaustion {
            Some(exhaustion) => store.note_exhaustion(self.workspace, exhaustion).await,
            None => Ok(()),
        }
    }

    async fn fail_runs(&self, store: &Store, lines: &[Line]) -> Result<(), Fault> {
        for (run_id, step_id, required) in steps_of(lines).map_err(|sum| Fault::Corrupt(sum.into()))? {
            let failure = Failure {
                code: FailureCode::InsufficientCredits,
                step_id: step_id.clone(),
                required,
                available: self.available,
            };
            store.fail_run(self.workspace, run_id, &failure, self.version).await?;
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
