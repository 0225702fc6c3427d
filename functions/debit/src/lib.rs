//! The debit function: prices AI calls by the rate card and draws their credits from the workspace (M2, M4, M11).
//!
//! A debit is one DynamoDB request. To start fast, this function contains no client but that of DynamoDB.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions))]

use std::sync::Arc;

use credits_aws::{Settings, StartError, dynamodb};
use credits_core::catalogue::Catalogue;
use credits_core::ledger::Cause;
use credits_core::own_prices::OtherPrices;
use credits_runtime::{Answer, Call, Function, Problem, Scope, TopUpUrl, catalogue};
use credits_store::batches::BatchOrder;
use credits_store::debits::{DebitRefusal, Posted};
use credits_store::{Claim, Fault, Store};

mod hold_request;
mod holds;
mod prices;
mod refusal;
mod request;
mod response;
mod route;
mod top_up;

pub use route::DebitRoute;

use prices::{KnownPrices, Unanswered};
use request::PricedBody;
use response::{BatchBody, DebitBody, QuoteBody};

/// The debit function with its store, its prices, and the page on which people add credits.
#[derive(Debug)]
pub struct DebitFunction {
    /// The store without a deadline. Handlers use their `store` parameter, which stops at the request's deadline.
    store: Store,
    catalogue: Arc<Catalogue>,
    top_up_url: TopUpUrl,
    known_prices: KnownPrices,
}

impl DebitFunction {
    /// Creates the function.
    #[must_use]
    pub fn new(store: Store, catalogue: Arc<Catalogue>, top_up_url: TopUpUrl) -> Self {
        Self { store, catalogue, top_up_url, known_prices: KnownPrices::default() }
    }

    /// Creates the deployed function from its settings.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let catalogue = Arc::new(catalogue::deployed()?);
        Ok(Self::new(dynamodb::store(settings)?, catalogue, TopUpUrl::from_settings(settings)))
    }

    async fn debit(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Spend)?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let (workspace, body, claim) = (&workspace, &body, &claim);
        let posted = self.with_prices(store, workspace, |prices| async move {
            let prices = prices.prices();
            let line = match request::read(body, prices)? {
                PricedBody::Priced(line) => line,
                PricedBody::Unpriced(problem) => return earlier_posting(store, claim, problem).await,
            };
            let cause = Cause::debit(line.clone(), prices.version());
            match store.debits().debit(claim, line.amount, cause).await {
                Ok(posted) => Ok(posted),
                Err(DebitRefusal::OtherPrices(other)) => Err(Unanswered::OtherPrices(other)),
                Err(refusal) => Err(self
                    .problem_for(call, store, workspace, std::slice::from_ref(&line), refusal)
                    .await?
                    .into()),
            }
        });
        let posted = posted.await?;
        // `None` only if the stored entry is of another kind.
        let body = DebitBody::of(workspace, posted.entry).ok_or_else(Problem::unavailable)?;
        Ok(Answer::created_once(posted.key_use, &body))
    }

    async fn debit_batch(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Spend)?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let (workspace, body, claim) = (&workspace, &body, &claim);
        let posted = self.with_prices(store, workspace, |prices| async move {
            let prices = prices.prices();
            let batch = match request::read_batch(body, prices)? {
                PricedBody::Priced(batch) => batch,
                PricedBody::Unpriced(problem) => return earlier_posting(store, claim, problem).await,
            };
            let (lines, partial) = (batch.lines.as_slice(), batch.partial);
            let order = BatchOrder { priced_by: &prices.version(), lines, partial };
            match store.debits().debit_batch(claim, order).await {
                Ok(posted) => Ok(posted),
                Err(DebitRefusal::OtherPrices(other)) => Err(Unanswered::OtherPrices(other)),
                Err(refusal) => Err(self.problem_for(call, store, workspace, lines, refusal).await?.into()),
            }
        });
        let posted = posted.await?;
        // `None` only if the stored entry is of another kind.
        let body = BatchBody::of(posted.entry).ok_or_else(Problem::unavailable)?;
        Ok(Answer::created_once(posted.key_use, &body))
    }

    async fn quote(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Spend)?;
        let body = call.json()?;
        let (workspace, body) = (&workspace, &body);
        let quote = self.with_prices(store, workspace, |prices| async move {
            let prices = prices.prices();
            let line = match request::read(body, prices)? {
                PricedBody::Priced(line) => line,
                PricedBody::Unpriced(problem) => return Err(Unanswered::Unpriced(problem)),
            };
            let balance = store.balances().peek(workspace).await?;
            let balance = balance.ok_or_else(Problem::workspace_not_found)?;
            if line.units.is_some() && balance.pricing != prices.version().pricing {
                return Err(Unanswered::OtherPrices(OtherPrices { current: balance.pricing }));
            }
            let quote = QuoteBody::of(line.amount, prices.version(), &balance);
            Ok(quote.map_err(|sum| Fault::Corrupt(sum.into()))?)
        });
        Ok(Answer::ok(&quote.await?))
    }
}

/// Returns what a retry of a call gets that was posted while the prices still had a price for it: its first answer.
async fn earlier_posting(store: &Store, claim: &Claim, problem: Problem) -> Result<Posted, Unanswered> {
    store.debits().earlier_posting(claim).await?.ok_or(Unanswered::Unpriced(problem))
}

impl Function for DebitFunction {
    type Route = DebitRoute;

    fn store(&self) -> &Store {
        &self.store
    }

    async fn answer(&self, route: DebitRoute, call: &Call, store: &Store) -> Result<Answer, Problem> {
        match route {
            DebitRoute::Debit => self.debit(call, store).await,
            DebitRoute::DebitBatch => self.debit_batch(call, store).await,
            DebitRoute::Quote => self.quote(call, store).await,
            DebitRoute::PlaceHold => self.place_hold(call, store).await,
            DebitRoute::PlaceHolds => self.place_holds(call, store).await,
            DebitRoute::SettleHolds => self.settle_holds(call, store).await,
            DebitRoute::GetHold => self.get_hold(call, store).await,
            DebitRoute::Capture => self.capture(call, store).await,
            DebitRoute::SettleHold => self.settle_hold(call, store).await,
        }
    }
}
