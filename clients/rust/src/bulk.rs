//! Bulk jobs: process many records in parallel, pay each from a hold, and stop cleanly when credits run out.
//!
//! A job runs in rounds. The records of a round are paid from several holds that are placed together, so that workers
//! do not contend for the balance. A worker starts a record only after a hold keeps its highest price, so it does no
//! work that can't be paid.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use rust_decimal::Decimal;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::key::IdempotencyKey;
use crate::schema::{Consumer, DebitOrder, Hold, HoldOrder};
use crate::workspace::Workspace;

/// The maximum number of records that one hold pays: a hold accepts 100 captures.
const RECORDS_A_HOLD: usize = 100;

/// The lifetime of a round's holds, in seconds. A record that takes longer is paid from the balance.
const TTL_SECONDS: u64 = 3_600;

/// The maximum number of times that a round is made smaller because other callers spend from the same balance.
const MAX_TRIES: u32 = 8;

/// The settings of a bulk job.
#[derive(Debug, Clone)]
pub struct BulkJob {
    job_id: String,
    operation: String,
    consumer: Consumer,
    most_each: Decimal,
    holds: u8,
    workers: usize,
}

impl BulkJob {
    /// Creates a job whose records call `operation` and cost at most `most_each` credits each.
    ///
    /// It has 32 workers on 8 holds. [`side_by_side`](Self::side_by_side) changes these numbers.
    #[must_use]
    pub fn of(job_id: &str, feature: &str, operation: &str, most_each: Decimal) -> Self {
        let consumer = Consumer::bulk(job_id, feature);
        let (job_id, operation) = (job_id.to_owned(), operation.to_owned());
        Self { job_id, operation, consumer, most_each, holds: 8, workers: 32 }
    }

    /// Sets the consumer, for example to name the list that the job processes.
    #[must_use]
    pub fn consumer(self, consumer: Consumer) -> Self {
        Self { consumer, ..self }
    }

    /// Sets how many workers run in parallel, at least 1, and on how many holds, 1 to 50.
    #[must_use]
    pub fn side_by_side(self, workers: usize, holds: u8) -> Self {
        Self { workers: workers.max(1), holds: holds.clamp(1, 50), ..self }
    }

    fn order(&self, records: usize) -> HoldOrder {
        let credits = self.most_each.saturating_mul(Decimal::from(records));
        HoldOrder::of(&self.operation, self.consumer.clone()).credits(credits).ttl_seconds(TTL_SECONDS)
    }
}

/// Why a record failed after a worker started it.
#[derive(Debug, thiserror::Error)]
pub enum RecordError<E> {
    /// The work failed. Nothing was paid for it.
    #[error("the work failed")]
    Work(#[source] E),
    /// The work succeeded, but its payment failed.
    #[error("the work succeeded, but its payment failed")]
    Payment(#[source] Error),
}

/// The result of a bulk job. It names records by their index in the input.
#[derive(Debug)]
pub struct BulkReport<E> {
    /// The records that are done and paid.
    pub done: Vec<usize>,
    pub failed: Vec<(usize, RecordError<E>)>,
    /// The records that were not started because the job stopped early.
    pub left: Vec<usize>,
    /// The credits of the records in `done`.
    pub spent: Decimal,
    /// The error that stopped the job. If only the settlement of its last holds failed, no record is left.
    pub stopped: Option<Error>,
}

/// A record, or what became of it, with its index in the input.
type Numbered<R> = (usize, R);

/// The credits that a record cost.
type Paid<E> = Result<Decimal, RecordError<E>>;

/// The records of one hold, which its workers share.
struct Share<R> {
    hold_id: String,
    /// What the keys of the captures start with.
    keys: String,
    waiting: Mutex<VecDeque<Numbered<R>>>,
}

impl Workspace {
    /// Processes records. `work` processes one record and returns the call to pay for.
    ///
    /// The job ends when all records are done, or when the balance does not cover another one. The report lists the
    /// remaining records, so that a later job can continue with them.
    pub async fn bulk<R, E, F, W>(&self, job: &BulkJob, records: Vec<R>, work: F) -> BulkReport<E>
    where
        R: Send + 'static,
        E: Send + 'static,
        F: Fn(R) -> W + Clone + Send + Sync + 'static,
        W: Future<Output = Result<DebitOrder, E>> + Send + 'static,
    {
        let mut waiting: VecDeque<Numbered<R>> = records.into_iter().enumerate().collect();
        let mut report = BulkReport::new();
        let mut round = 0_usize;
        while !waiting.is_empty() && report.stopped.is_none() {
            round = round.saturating_add(1);
            match self.place_round(job, round, waiting.len()).await {
                Ok((holds, each)) => {
                    let taken = each.saturating_mul(holds.len()).min(waiting.len());
                    let records = waiting.drain(..taken).collect();
                    self.work_round(job, round, &holds, records, work.clone(), &mut report).await;
                }
                Err(stopped) => report.stopped = Some(stopped),
            }
        }
        report.left = waiting.into_iter().map(|(place, _)| place).collect();
        report.done.sort_unstable();
        report.failed.sort_unstable_by_key(|(place, _)| *place);
        report
    }

    /// Places the holds of a round, and returns them with the number of records that each pays. If the balance covers
    /// fewer records, it places smaller holds or fewer of them.
    async fn place_round(
        &self,
        job: &BulkJob,
        round: usize,
        records: usize,
    ) -> Result<(Vec<Hold>, usize), Error> {
        let mut holds = usize::from(job.holds).min(records);
        let mut each = records.div_ceil(holds).min(RECORDS_A_HOLD);
        let mut tries = 0;
        loop {
            let key = format!("{}/round-{round}-{}", job.job_id, IdempotencyKey::random());
            let order = job.order(each);
            let placed = match u8::try_from(holds) {
                Ok(count) if count > 1 => {
                    self.create_holds(&order, count).idempotency_key(key).await.map(|placed| placed.holds)
                }
                _ => self.create_hold(&order).idempotency_key(key).await.map(|hold| vec![hold]),
            };
            match placed {
                Err(Error::InsufficientCredits(refusal))
                    if tries < MAX_TRIES && affordable(refusal.available, job) > 0 =>
                {
                    tries = tries.saturating_add(1);
                    let affordable = affordable(refusal.available, job);
                    holds = holds.min(affordable);
                    each = affordable.checked_div(holds).unwrap_or(1).min(each).max(1);
                }
                placed => return Ok((placed?, each)),
            }
        }
    }

    async fn work_round<R, E, F, W>(
        &self,
        job: &BulkJob,
        round: usize,
        holds: &[Hold],
        records: VecDeque<Numbered<R>>,
        work: F,
        report: &mut BulkReport<E>,
    ) where
        R: Send + 'static,
        E: Send + 'static,
        F: Fn(R) -> W + Clone + Send + Sync + 'static,
        W: Future<Output = Result<DebitOrder, E>> + Send + 'static,
    {
        let mut running = JoinSet::new();
        let each = records.len().div_ceil(holds.len().max(1));
        let workers = job.workers.div_ceil(holds.len().max(1));
        let mut records = records.into_iter();
        for (number, hold) in holds.iter().enumerate() {
            let waiting = Mutex::new(records.by_ref().take(each).collect());
            let keys = format!("{}/{round}/{number}", job.job_id);
            let share = Arc::new(Share { hold_id: hold.hold_id.clone(), keys, waiting });
            for _ in 0..workers {
                running.spawn(self.clone().work_share(Arc::clone(&share), work.clone()));
            }
        }
        running
            .join_all()
            .await
            .into_iter()
            .flatten()
            .for_each(|(place, outcome)| report.add(place, outcome));
        let hold_ids: Vec<String> = holds.iter().map(|hold| hold.hold_id.clone()).collect();
        let key = format!("{}/settle-{}", job.job_id, IdempotencyKey::random());
        if let Err(error) = self.settle_holds(&hold_ids).idempotency_key(key).await {
            // The captures are paid in any case: the holds expire, which settles them.
            report.stopped = Some(error);
        }
    }

    /// Processes and pays the records of a hold, until none waits.
    async fn work_share<R, E, F, W>(self, share: Arc<Share<R>>, work: F) -> Vec<Numbered<Paid<E>>>
    where
        F: Fn(R) -> W,
        W: Future<Output = Result<DebitOrder, E>>,
    {
        let mut ended = Vec::new();
        while let Some((place, record)) = share.next() {
            let paid = match work(record).await {
                Ok(order) => self.pay(&share.hold_id, &format!("{}/{place}", share.keys), &order).await,
                Err(error) => Err(RecordError::Work(error)),
            };
            ended.push((place, paid));
        }
        ended
    }

    /// Pays a record from its hold, or from the balance if the hold has been closed meanwhile.
    async fn pay<E>(&self, hold_id: &str, key: &str, order: &DebitOrder) -> Paid<E> {
        match self.create_capture(hold_id, order).extend().idempotency_key(key).await {
            Ok(captured) => Ok(captured.credits),
            Err(Error::Refused(problem)) if problem.code == "hold_closed" => {
                let debited = self.create_debit(order).idempotency_key(format!("{hold_id}/{key}")).await;
                debited.map(|debit| debit.credits).map_err(RecordError::Payment)
            }
            Err(error) => Err(RecordError::Payment(error)),
        }
    }
}

/// Returns how many records the balance covers.
fn affordable(available: Decimal, job: &BulkJob) -> usize {
    let records = available.checked_div(job.most_each).unwrap_or_default().floor();
    usize::try_from(records).unwrap_or(0)
}

impl<R> Share<R> {
    fn next(&self) -> Option<Numbered<R>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl<E> BulkReport<E> {
    fn new() -> Self {
        Self { done: Vec::new(), failed: Vec::new(), left: Vec::new(), spent: Decimal::ZERO, stopped: None }
    }

    fn add(&mut self, place: usize, paid: Paid<E>) {
        match paid {
            Ok(credits) => {
                self.done.push(place);
                self.spent = self.spent.saturating_add(credits);
            }
            Err(error) => self.failed.push((place, error)),
        }
    }
}

impl<E> fmt::Display for BulkReport<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (done, failed, left) = (self.done.len(), self.failed.len(), self.left.len());
        write!(f, "{done} records done for {} credits, {failed} failed, {left} left", self.spent.normalize())
    }
}
