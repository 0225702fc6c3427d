//! The prices of a call: the rate card in effect, and the workspace's own prices as this instance knows them.
//!
//! Few workspaces have own prices, so no call reads them first. A write that was priced with other prices than the workspace's
//! is refused; then the call reads the prices, and is priced again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use credits_core::catalogue::Catalogue;
use credits_core::id::WorkspaceId;
use credits_core::own_prices::{OtherPrices, OwnPrices};
use credits_core::rate_card::Prices;
use credits_runtime::Problem;
use credits_store::{Fault, Store};
use jiff::Timestamp;

use crate::DebitFunction;

/// The maximum number of workspaces whose own prices an instance remembers.
const MAX_WORKSPACES: usize = 1_000;

/// How often a call is priced. Each time another caller has changed the prices meanwhile.
const MAX_PRICINGS: usize = 8;

/// The own prices that this instance remembers, by workspace.
#[derive(Debug, Default)]
pub(crate) struct KnownPrices(Mutex<HashMap<WorkspaceId, Arc<OwnPrices>>>);

/// The prices of one attempt to answer a call.
#[derive(Debug)]
pub(crate) struct EffectivePrices {
    catalogue: Arc<Catalogue>,
    own: Option<Arc<OwnPrices>>,
    now: Timestamp,
}

/// Why a call that was priced has no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    Problem(Problem),
    /// The prices have no price for the call. They may be old.
    Unpriced(Problem),
    /// The prices are old.
    OtherPrices(OtherPrices),
}

impl<E: Into<Problem>> From<E> for Unanswered {
    fn from(problem: E) -> Self {
        Self::Problem(problem.into())
    }
}

impl DebitFunction {
    /// Answers a call with the prices that this instance knows, and again if the workspace has others.
    pub(crate) async fn with_prices<T, F: Future<Output = Result<T, Unanswered>>>(
        &self,
        store: &Store,
        workspace: &WorkspaceId,
        answer: impl Fn(EffectivePrices) -> F,
    ) -> Result<T, Problem> {
        let mut own = self.known_prices.get(workspace);
        for _ in 0..MAX_PRICINGS {
            let used = own.as_ref().map(|own| own.version);
            let prices = EffectivePrices { catalogue: Arc::clone(&self.catalogue), own, now: store.now() };
            let current = match Box::pin(answer(prices)).await {
                Ok(answer) => return Ok(answer),
                Err(Unanswered::Problem(problem)) => return Err(problem),
                Err(Unanswered::OtherPrices(other)) => other.current,
                Err(Unanswered::Unpriced(problem)) => {
                    let Some(current) = store.own_prices().version(workspace).await? else {
                        return Err(problem);
                    };
                    if current == used {
                        return Err(problem);
                    }
                    current
                }
            };
            own = self.learn_prices(store, workspace, current).await?;
        }
        Err(Fault::Contended.into())
    }

    async fn learn_prices(
        &self,
        store: &Store,
        workspace: &WorkspaceId,
        version: Option<u64>,
    ) -> Result<Option<Arc<OwnPrices>>, Fault> {
        let Some(version) = version else {
            self.known_prices.lock().remove(workspace);
            return Ok(None);
        };
        let own = Arc::new(store.own_prices().get(workspace, version).await?);
        let mut known = self.known_prices.lock();
        if known.len() >= MAX_WORKSPACES {
            known.clear();
        }
        known.insert(workspace.clone(), Arc::clone(&own));
        Ok(Some(own))
    }
}

impl EffectivePrices {
    pub fn prices(&self) -> Prices<'_> {
        Prices { card: self.catalogue.rate_cards().at(self.now), own: self.own.as_deref() }
    }
}

impl KnownPrices {
    fn get(&self, workspace: &WorkspaceId) -> Option<Arc<OwnPrices>> {
        self.lock().get(workspace).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkspaceId, Arc<OwnPrices>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
