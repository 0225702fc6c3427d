//! An AI call from its hold to its settlement.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use crate::error::Error;
use crate::folds::Units;
use crate::key::IdempotencyKey;
use crate::schema::{Hold, HoldOrder, Overrun, SettleOrder};
use crate::workspace::Workspace;

/// The most pairs that metadata may have.
const MAX_METADATA_PAIRS: usize = 10;

/// The most bytes that the keys and values of metadata may have.
const MAX_METADATA_BYTES: usize = 512;

/// The hold of an AI call before it is placed. Await it for the [`Call`], or run the call with [`Begin::gate`].
#[must_use = "a hold is placed when it is awaited"]
#[derive(Debug)]
pub struct Begin {
    workspace: Workspace,
    order: HoldOrder,
    overrun: Overrun,
    key: Option<IdempotencyKey>,
    deadline: Option<Duration>,
}

/// What an AI call has used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    units: Units,
    model: Option<String>,
    is_estimated: bool,
}

/// An AI call whose credits are held. Clones are the same call.
///
/// [`finish`](Self::finish) or [`cancel`](Self::cancel) settles it. If neither was called when the last clone is dropped,
/// a task of the runtime settles it with what [`record`](Self::record) has recorded, or with nothing. If the process
/// ends before, the hold expires, and nothing is charged.
#[derive(Debug, Clone)]
pub struct Call(Arc<HeldCall>);

#[derive(Debug)]
struct HeldCall {
    terms: Arc<CallTerms>,
    hold: Hold,
    recorded: Mutex<Option<Used>>,
    /// Whether a settlement was started.
    is_ending: AtomicBool,
    settled: OnceCell<Hold>,
}

/// What the settlement of a call depends on.
#[derive(Debug)]
struct CallTerms {
    workspace: Workspace,
    order: HoldOrder,
    overrun: Overrun,
    hold_id: String,
    /// The key of the settlement.
    key: IdempotencyKey,
}

impl Begin {
    pub(crate) fn new(workspace: Workspace, order: HoldOrder) -> Self {
        Self { workspace, order, overrun: Overrun::TakeAvailable, key: None, deadline: None }
    }

    /// Sets the idempotency key of the hold. By default it is a UUID. The settlement's key is derived from it.
    pub fn idempotency_key(self, key: impl Into<IdempotencyKey>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// Sets the time for placing the hold, in place of the client's deadline.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Sets what happens if the call costs more than the hold. By default the balance pays what it covers, so that the
    /// settlement is never refused for insufficient credits.
    pub fn overrun(self, overrun: Overrun) -> Self {
        Self { overrun, ..self }
    }

    /// Places the hold, runs `work`, and settles the call however `work` ends: with what [`Call::record`] has recorded
    /// last, or with nothing.
    ///
    /// If `work` fails, its error is returned even if the settlement fails, too.
    pub async fn gate<T, E, F, W>(self, work: F) -> Result<T, E>
    where
        E: From<Error>,
        F: FnOnce(Call) -> W,
        W: Future<Output = Result<T, E>>,
    {
        let call = self.await?;
        let result = work(call.clone()).await;
        let settled = call.settle(call.0.recorded()).await;
        let result = result?;
        settled?;
        Ok(result)
    }

    async fn place(self) -> Result<Call, Error> {
        let Self { workspace, mut order, overrun, key, deadline } = self;
        let key = key.unwrap_or_else(IdempotencyKey::random);
        let (folds, priced_for) = (&workspace.client.0.folds, (order.operation.clone(), order.model.clone()));
        let units = std::mem::take(&mut order.units);
        let hold = loop {
            order.units = folds.fold(&priced_for, &units);
            let mut request = workspace.create_hold(&order).idempotency_key(key.clone());
            if let Some(deadline) = deadline {
                request = request.deadline(deadline);
            }
            match request.await {
                Err(error) if folds.learn(&priced_for, &order.units, &error) => {}
                placed => break placed?,
            }
        };
        let (hold_id, key) = (hold.hold_id.clone(), key.of_settlement());
        let terms = Arc::new(CallTerms { workspace, order, overrun, hold_id, key });
        let (recorded, is_ending, settled) = Default::default();
        Ok(Call(Arc::new(HeldCall { terms, hold, recorded, is_ending, settled })))
    }
}

impl IntoFuture for Begin {
    type Output = Result<Call, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        // If the caller goes away meanwhile, the call is dropped once the hold is placed, which releases it.
        Box::pin(completed(self.place()))
    }
}

impl Call {
    /// Returns the hold as it was placed.
    #[must_use]
    pub fn hold(&self) -> &Hold {
        &self.0.hold
    }

    /// Records what the call has used so far, in place of what was recorded before.
    pub fn record(&self, used: impl Into<Used>) {
        *self.0.recorded.lock().unwrap_or_else(PoisonError::into_inner) = Some(used.into());
    }

    /// Settles the call with what it used, which releases the rest. It is settled even if the caller goes away meanwhile.
    ///
    /// If the call is settled already, returns the first result. If an earlier settlement failed, tries again.
    pub async fn finish(&self, used: impl Into<Used>) -> Result<Hold, Error> {
        self.settle(Some(used.into())).await
    }

    /// Settles the call with nothing: no credits are charged. Like [`finish`](Self::finish) otherwise.
    pub async fn cancel(&self) -> Result<Hold, Error> {
        self.settle(None).await
    }

    async fn settle(&self, used: Option<Used>) -> Result<Hold, Error> {
        let held = Arc::clone(&self.0);
        held.is_ending.store(true, Ordering::Relaxed);
        completed(async move { held.settled.get_or_try_init(|| held.terms.settle(used)).await.cloned() })
            .await
    }
}

impl HeldCall {
    fn recorded(&self) -> Option<Used> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for HeldCall {
    fn drop(&mut self) {
        if *self.is_ending.get_mut() {
            return;
        }
        // Without a runtime, the hold expires.
        if let Ok(runtime) = Handle::try_current() {
            let (terms, used) = (Arc::clone(&self.terms), self.recorded());
            // If it fails, the hold expires. `Client::on_outage` receives a settlement without a response.
            runtime.spawn(async move { terms.settle(used).await.map(drop) });
        }
    }
}

impl CallTerms {
    async fn settle(&self, used: Option<Used>) -> Result<Hold, Error> {
        let Some(used) = used else { return self.send(&SettleOrder::default()).await };
        let folds = &self.workspace.client.0.folds;
        let model = used.model.or_else(|| self.order.model.clone());
        let priced_for = (self.order.operation.clone(), model.clone());
        let mut order = SettleOrder { model, overrun: Some(self.overrun.clone()), ..SettleOrder::default() };
        if used.is_estimated {
            order.metadata = self.marked_as_estimated();
        }
        loop {
            order.units = folds.fold(&priced_for, &used.units);
            if order.units.values().all(|count| *count == 0) {
                order.units = self.no_units(&used.units);
            }
            match self.send(&order).await {
                Err(error) if folds.learn(&priced_for, &order.units, &error) => {}
                settled => return settled,
            }
        }
    }

    /// Returns a count of zero of a unit that is priced. A call that used nothing still costs the operation's base.
    fn no_units(&self, used: &Units) -> Units {
        let held = &self.order.units;
        let unit = used.keys().find(|unit| held.contains_key(*unit)).or_else(|| held.keys().next());
        Units::from([(unit.map_or_else(|| "input_tokens".to_owned(), String::clone), 0)])
    }

    /// Returns the metadata of a settlement whose counts are estimated: nothing, if the mark does not fit.
    fn marked_as_estimated(&self) -> BTreeMap<String, String> {
        let mut marked = self.order.metadata.clone();
        marked.insert("usage".to_owned(), "estimated".to_owned());
        let bytes: usize = marked.iter().map(|(key, value)| key.len().saturating_add(value.len())).sum();
        // A settlement whose metadata is refused would charge nothing.
        if marked.len() > MAX_METADATA_PAIRS || bytes > MAX_METADATA_BYTES {
            marked.clear();
        }
        marked
    }

    async fn send(&self, order: &SettleOrder) -> Result<Hold, Error> {
        self.workspace.settle_hold(&self.hold_id, order).idempotency_key(self.key.clone()).await
    }
}

impl Used {
    /// Sets the model that answered, if it is not the one of the order.
    #[must_use]
    pub fn model(self, model: &str) -> Self {
        Self { model: Some(model.to_owned()), ..self }
    }

    /// Marks the counts as estimated. The metadata of the ledger entry then has `"usage": "estimated"`.
    #[must_use]
    pub fn estimated(self) -> Self {
        Self { is_estimated: true, ..self }
    }
}

impl<U: Into<String>, I: IntoIterator<Item = (U, u64)>> From<I> for Used {
    fn from(units: I) -> Self {
        let units = units.into_iter().map(|(unit, count)| (unit.into(), count)).collect();
        Self { units, model: None, is_estimated: false }
    }
}

/// Runs a future to its end, even if the caller goes away meanwhile.
async fn completed<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    match tokio::spawn(work).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(result) => result,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime is shutting down.
        Err(Err(cancelled)) => Err(Error::Unanswered(cancelled.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::CallTerms;
    use crate::folds::Units;
    use crate::{Client, Consumer, HoldOrder, IdempotencyKey, Overrun};

    fn terms(order: HoldOrder) -> CallTerms {
        let workspace = Client::new("http://127.0.0.1:1", "key").unwrap().workspace("acme");
        let (hold_id, key) = ("hold-1".to_owned(), IdempotencyKey::from("k/settle"));
        CallTerms { workspace, order, overrun: Overrun::TakeAvailable, hold_id, key }
    }

    fn order() -> HoldOrder {
        HoldOrder::of("text.generate", Consumer::action("assistant", "ada"))
    }

    #[test]
    fn a_call_without_counts_has_a_priced_unit() {
        let unit = |terms: &CallTerms, used: &[&str]| {
            let used: Units = used.iter().map(|unit| ((*unit).to_owned(), 0)).collect();
            terms.no_units(&used).into_keys().collect::<String>()
        };
        let terms_by_units = terms(order().unit("input_tokens", 1).unit("output_tokens", 1));
        assert_eq!(unit(&terms_by_units, &["images", "output_tokens"]), "output_tokens");
        assert_eq!(unit(&terms_by_units, &["images"]), "input_tokens");
        assert_eq!(unit(&terms(order().credits(1.into())), &["images"]), "input_tokens");
    }

    #[test]
    fn a_mark_that_does_not_fit_is_left_out() {
        let mark = BTreeMap::from([("usage".to_owned(), "estimated".to_owned())]);
        assert_eq!(terms(order()).marked_as_estimated(), mark);
        let full = (0..10).fold(order(), |order, number| order.metadata(&number.to_string(), "x"));
        assert_eq!(terms(full).marked_as_estimated(), BTreeMap::new());
        assert_eq!(terms(order().metadata("k", &"x".repeat(498))).marked_as_estimated(), BTreeMap::new());
        assert_eq!(terms(order().metadata("k", &"x".repeat(497))).marked_as_estimated().len(), 2);
    }
}
