//! Spending credits: an AI call is priced by the rate card and drawn from its workspace (M2, M4, M11).
//!
//! A debit is one DynamoDB request, so this function has nothing but the DynamoDB client in it.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions))]

use std::sync::Arc;

use credits_core::catalogue::Catalogue;
use credits_core::consumer::Consumer;
use credits_core::id::WorkspaceId;
use credits_core::ledger::Cause;
use credits_core::run::{Failure, FailureCode};
use credits_runtime::{
    Answer, Call, Function, Problem, Scope, Settings, StartError, TopUpUrl, catalogue, start, telemetry,
};
use credits_store::debits::DebitRefusal;
use credits_store::{Fault, Store};

mod request;
mod response;

use request::Read;
use response::{DebitBody, QuoteBody};

/// The function's routes, as template.yaml has them.
pub const ROUTES: [&str; 2] =
    ["POST /v1/workspaces/{workspace_id}/debits", "POST /v1/workspaces/{workspace_id}/quotes"];

/// The function: a store, the prices, and where a refused caller can add credits.
#[derive(Debug)]
pub struct Debits {
    store: Store,
    catalogue: Arc<Catalogue>,
    top_up_url: TopUpUrl,
}

impl Debits {
    /// Puts the function together.
    #[must_use]
    pub fn new(store: Store, catalogue: Arc<Catalogue>, top_up_url: TopUpUrl) -> Self {
        Self { store, catalogue, top_up_url }
    }

    /// Puts the deployed function together.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let catalogue = Arc::new(catalogue::deployed()?);
        Ok(Self::new(start::store(settings)?, catalogue, settings.top_up_url_of_calls()))
    }

    async fn debit(&self, call: &Call) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Spend)?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let store = self.store.until(call.deadline());
        let posted = match request::read(&body, self.catalogue.rate_card())? {
            Read::Priced(debit) => match store.debit(&claim, debit.amount, debit.cause.clone()).await {
                Ok(posted) => posted,
                Err(refusal) => {
                    return Err(self.refused(call, &store, &workspace, &debit.cause, refusal).await?);
                }
            },
            // It may have been on the card when the key was first used.
            Read::Unpriced(problem) => store.earlier_posting(&claim).await?.ok_or(problem)?,
        };
        if !posted.replayed {
            metrics::counter!("Debits").increment(1);
            telemetry::spent(posted.entry.credits.negated());
        }
        let body = DebitBody::of(&workspace, posted.entry).ok_or_else(Problem::unavailable)?;
        Ok(Answer::once(posted.replayed, &body))
    }

    /// The problem of a refusal. Where it is for want of credits, the step's run is marked failed before it is told
    /// (M10): if that can't be done, the answer is that problem instead.
    async fn refused(
        &self,
        call: &Call,
        store: &Store,
        workspace: &WorkspaceId,
        cause: &Cause,
        refusal: DebitRefusal,
    ) -> Result<Problem, Fault> {
        if let DebitRefusal::Insufficient { required, available, version } = &refusal
            && let Cause::Debit { consumer: Consumer::WorkflowStep { run_id, step_id, .. }, .. } = cause
        {
            let failure = Failure {
                code: FailureCode::InsufficientCredits,
                step_id: step_id.clone(),
                required: *required,
                available: *available,
            };
            store.fail_run(workspace, run_id, &failure, *version).await?;
        }
        Ok(Problem::of_debit(refusal, &self.top_up_url.of(call)))
    }

    async fn quote(&self, call: &Call) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Spend)?;
        let debit = match request::read(&call.json()?, self.catalogue.rate_card())? {
            Read::Priced(debit) => debit,
            Read::Unpriced(problem) => return Err(problem),
        };
        let balance = self.store.until(call.deadline()).peek_balance(&workspace).await?;
        let balance = balance.ok_or_else(Problem::workspace_not_found)?;
        let card = self.catalogue.rate_card().version().clone();
        let body = QuoteBody::of(debit.amount, card, &balance).map_err(|sum| Fault::Corrupt(sum.into()))?;
        Ok(Answer::ok(&body))
    }
}

impl Function for Debits {
    async fn answer(&self, call: &Call) -> Result<Answer, Problem> {
        match call.route() {
            "POST /v1/workspaces/{workspace_id}/debits" => self.debit(call).await,
            "POST /v1/workspaces/{workspace_id}/quotes" => self.quote(call).await,
            _ => Err(Problem::not_found()),
        }
    }
}
