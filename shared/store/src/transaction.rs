//! The one room for writes: a transaction, what became of it, and when to try again.
//!
//! DynamoDB cancels a transaction that meets another on the same item; it does not queue it. So a cancelled one is
//! tried again after a pause with full jitter, bounded by attempts and by the invocation's remaining time.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{CancellationReason, ReturnValue, TransactWriteItem, Update};
use tokio::time::Instant;

use crate::attribute::Item;
use crate::error::{CancelCode, Corrupt, Fault};
use crate::expression::Expression;
use crate::keys::ItemKey;
use crate::{Sources, Store};

/// How often a transaction is sent at most. With the pauses below this lasts about two seconds: docs/benchmarks.md says
/// what other numbers come to.
const MOST_ATTEMPTS: u32 = 30;
/// The longest first pause; each further one may be twice as long.
const FIRST_PAUSE_MILLIS: u64 = 12;
/// The longest pause: a busy balance is free again within a few milliseconds, so a longer one only waits.
const LONGEST_PAUSE_MILLIS: u64 = 150;
/// What is left of an invocation for its answer.
const KEPT_FOR_THE_ANSWER: Duration = Duration::from_millis(250);
/// The least that a request is given, however late it is.
const SHORTEST_REQUEST: Duration = Duration::from_millis(50);
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// What became of a transaction.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All of it is written.
    Written,
    /// None of it is written; a reason for each item, in order.
    Cancelled(Vec<Reason>),
    /// It is not known whether it is written: no answer came, or one without meaning.
    Unknown(Box<aws_sdk_dynamodb::Error>),
}

/// Why an item cancelled its transaction.
#[derive(Debug)]
pub(crate) enum Reason {
    /// It didn't.
    None,
    /// Its condition failed; with the item as it stood, if there was one.
    Condition(Option<Item>),
    /// Another transaction was on it, or it was throttled.
    Busy,
}

/// What became of one update by itself.
#[derive(Debug)]
pub(crate) enum Updated {
    /// It is written; with the attributes that it has updated.
    Written(Item),
    /// Its condition failed; with the item as it stood, if there was one.
    Refused(Option<Item>),
    /// Another write was on it, or it was throttled.
    Busy,
    /// It is not known whether it is written.
    Unknown(Box<aws_sdk_dynamodb::Error>),
}

/// Counts the attempts at one write and pauses between them.
#[derive(Debug)]
pub(crate) struct Attempts {
    made: u32,
    sources: Sources,
    deadline: Option<Instant>,
}

impl Store {
    /// Sends a transaction once.
    ///
    /// The SDK's own retries are off: each attempt takes the time anew, and all are counted in one place.
    pub(crate) async fn transact(&self, writes: Vec<TransactWriteItem>) -> Result<Outcome, Fault> {
        #[expect(clippy::disallowed_methods, reason = "this is the one room for writes")]
        let request = self.writer.transact_write_items().set_transact_items(Some(writes));
        match self.in_time(Box::pin(request.send())).await {
            Ok(_) => Ok(Outcome::Written),
            Err(error) => read_failure(error),
        }
    }

    /// Writes all of it, unless a condition says that somebody else was faster; says whether it is written.
    pub(crate) async fn written(&self, writes: Vec<TransactWriteItem>) -> Result<bool, Fault> {
        let mut attempts = self.attempts();
        loop {
            match self.transact(writes.clone()).await? {
                Outcome::Written => return Ok(true),
                // If it was written, the next try finds another version, and whoever called reads it again.
                Outcome::Unknown(error) => attempts.after_failure(error).await?,
                Outcome::Cancelled(reasons) if is_busy(&reasons) => attempts.after_conflict().await?,
                Outcome::Cancelled(_) => return Ok(false),
            }
        }
    }

    /// Writes something, unless its condition says that it is somebody else's by now.
    pub(crate) async fn insist(&self, change: Expression, key: &ItemKey) -> Result<(), Fault> {
        let write = change.update(&self.table, key)?;
        let mut attempts = self.attempts();
        loop {
            match self.transact(vec![write.clone()]).await? {
                Outcome::Unknown(error) => attempts.after_failure(error).await?,
                Outcome::Cancelled(reasons) if is_busy(&reasons) => attempts.after_conflict().await?,
                Outcome::Written | Outcome::Cancelled(_) => return Ok(()),
            }
        }
    }

    /// Sends one update by itself, which costs half of what a transaction of one does. There is no telling from its
    /// answer's loss whether it was written, so it is for writes that name what they were read at.
    pub(crate) async fn write_alone(&self, write: TransactWriteItem) -> Result<Outcome, Fault> {
        let update = write.update.ok_or(Corrupt::NotAnUpdate)?;
        let request = update_request(&self.client, update);
        let sent = request.customize().config_override(self.read_config()).send().await;
        match sent {
            Ok(_) => Ok(Outcome::Written),
            Err(error) => match error.as_service_error().and_then(|service| service.code()) {
                Some("ConditionalCheckFailedException") => {
                    Ok(Outcome::Cancelled(vec![Reason::Condition(None)]))
                }
                Some(code) if is_busy_code(code) => Ok(Outcome::Cancelled(vec![Reason::Busy])),
                _ => Ok(Outcome::Unknown(Box::new(error.into()))),
            },
        }
    }

    /// Writes one item; `false` where it is not as it was read.
    pub(crate) async fn write_counted(&self, write: Expression, key: &ItemKey) -> Result<bool, Fault> {
        match self.write_alone(write.update(&self.table, key)?).await? {
            Outcome::Written => Ok(true),
            Outcome::Cancelled(_) => Ok(false),
            // It may have been written: who reads again sees.
            Outcome::Unknown(error) => Err(Fault::Unavailable(error)),
        }
    }

    /// Sends one update by itself, once, and gives what it has updated, or the item that refused it.
    pub(crate) async fn update_once(&self, write: TransactWriteItem) -> Result<Updated, Fault> {
        let update = write.update.ok_or(Corrupt::NotAnUpdate)?;
        let on_failure = update.return_values_on_condition_check_failure.clone();
        let request = update_request(&self.writer, update)
            .set_return_values_on_condition_check_failure(on_failure)
            .return_values(ReturnValue::UpdatedNew);
        let error = match self.in_time(Box::pin(request.send())).await {
            Ok(output) => return Ok(Updated::Written(output.attributes.unwrap_or_default())),
            Err(error) => error,
        };
        let server_failed = error.raw_response().is_some_and(|answer| answer.status().is_server_error());
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                Ok(Updated::Refused(failed.item.clone()))
            }
            Some(service) if service.code().is_some_and(is_busy_code) => Ok(Updated::Busy),
            Some(_) if !server_failed => Err(Fault::unavailable(error)),
            _ => Ok(Updated::Unknown(Box::new(error.into()))),
        }
    }

    /// Waits for a write's answer for as long as there is time. What it would cost the SDK to be told of the time for each
    /// write is a fiftieth of an invocation.
    async fn in_time<T, E>(
        &self,
        sent: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, SdkError<E>> {
        match tokio::time::timeout(self.time_for_a_request(), sent).await {
            Ok(answered) => answered,
            Err(elapsed) => Err(SdkError::timeout_error(elapsed)),
        }
    }

    /// How long a request may take, so that an answer can still be given within the invocation's time.
    pub(crate) fn time_for_a_request(&self) -> Duration {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map_or(REQUEST_TIMEOUT, |left| left.saturating_sub(KEPT_FOR_THE_ANSWER));
        left.clamp(SHORTEST_REQUEST, REQUEST_TIMEOUT)
    }

    /// What a read is sent with: all its attempts end within the invocation's time.
    pub(crate) fn read_config(&self) -> aws_sdk_dynamodb::config::Builder {
        let timeouts = TimeoutConfig::builder().operation_timeout(self.time_for_a_request()).build();
        aws_sdk_dynamodb::config::Builder::new().timeout_config(timeouts)
    }

    pub(crate) fn attempts(&self) -> Attempts {
        Attempts { made: 0, sources: self.sources.clone(), deadline: self.deadline }
    }
}

/// The client for writes: neither retries nor time-outs of the SDK's own, since each attempt takes the time anew.
pub(crate) fn writer(client: &Client) -> Client {
    let config = client.config().to_builder();
    let config = config.retry_config(RetryConfig::disabled()).timeout_config(TimeoutConfig::disabled());
    Client::from_conf(config.build())
}

/// The request of one update by itself.
fn update_request(client: &Client, update: Update) -> UpdateItemFluentBuilder {
    #[expect(clippy::disallowed_methods, reason = "this is the one room for writes")]
    let request = client.update_item();
    request
        .table_name(update.table_name)
        .set_key(Some(update.key))
        .update_expression(update.update_expression)
        .set_condition_expression(update.condition_expression)
        .set_expression_attribute_names(update.expression_attribute_names)
        .set_expression_attribute_values(update.expression_attribute_values)
}

impl Attempts {
    /// Waits before the next attempt, after others were in the way.
    pub async fn after_conflict(&mut self) -> Result<(), Fault> {
        metrics::counter!("Conflicts").increment(1);
        self.pause().await.ok_or_else(given_up)
    }

    /// Waits before the next attempt, after an answer that never came.
    pub async fn after_failure(&mut self, error: Box<aws_sdk_dynamodb::Error>) -> Result<(), Fault> {
        self.pause().await.ok_or(Fault::Unavailable(error))
    }

    /// Counts an attempt that needs no pause, since something was put right in between.
    pub fn at_once(&mut self) -> Result<(), Fault> {
        self.count().ok_or_else(given_up)
    }

    async fn pause(&mut self) -> Option<()> {
        let longest =
            FIRST_PAUSE_MILLIS.saturating_mul(2_u64.saturating_pow(self.made)).min(LONGEST_PAUSE_MILLIS);
        self.count()?;
        let pause = Duration::from_millis(self.sources.below(longest.saturating_add(1)));
        let end = self.deadline.and_then(|deadline| deadline.checked_sub(KEPT_FOR_THE_ANSWER));
        if end.is_some_and(|end| Instant::now().checked_add(pause).is_none_or(|resumed| resumed >= end)) {
            return None;
        }
        tokio::time::sleep(pause).await;
        Some(())
    }

    fn count(&mut self) -> Option<()> {
        self.made = self.made.saturating_add(1);
        (self.made < MOST_ATTEMPTS).then_some(())
    }
}

fn given_up() -> Fault {
    metrics::counter!("ConflictsGivenUp").increment(1);
    Fault::Contended
}

/// Whether any item was busy: then no refusal beside it may be believed.
pub(crate) fn is_busy(reasons: &[Reason]) -> bool {
    reasons.iter().any(|reason| matches!(reason, Reason::Busy))
}

fn read_failure(error: SdkError<TransactWriteItemsError>) -> Result<Outcome, Fault> {
    let Some(service) = error.as_service_error() else {
        // Neither a lost connection nor a time-out says whether the transaction was written.
        return Ok(Outcome::Unknown(Box::new(error.into())));
    };
    if let TransactWriteItemsError::TransactionCanceledException(cancelled) = service {
        let reasons = cancelled.cancellation_reasons().iter().map(read_reason);
        return Ok(Outcome::Cancelled(reasons.collect::<Result<_, _>>()?));
    }
    let server_failed = error.raw_response().is_some_and(|response| response.status().is_server_error());
    match error.code() {
        Some(code) if is_busy_code(code) => Ok(Outcome::Cancelled(vec![Reason::Busy])),
        _ if server_failed => Ok(Outcome::Unknown(Box::new(error.into()))),
        _ => Err(Fault::unavailable(error)),
    }
}

fn read_reason(reason: &CancellationReason) -> Result<Reason, Corrupt> {
    match reason.code() {
        None | Some("None") => Ok(Reason::None),
        Some("ConditionalCheckFailed") => Ok(Reason::Condition(reason.item().cloned())),
        Some(code) if is_busy_code(code) => Ok(Reason::Busy),
        Some("ValidationError") => Err(Corrupt::Cancelled(CancelCode::Validation)),
        Some("ItemCollectionSizeLimitExceeded") => Err(Corrupt::Cancelled(CancelCode::CollectionSize)),
        Some(_) => Err(Corrupt::Cancelled(CancelCode::Unknown)),
    }
}

/// The codes by which DynamoDB says that others are in the way, of a whole request or of one item.
fn is_busy_code(code: &str) -> bool {
    matches!(
        code,
        "TransactionConflict"
            | "TransactionConflictException"
            | "TransactionInProgressException"
            | "ThrottlingError"
            | "ThrottlingException"
            | "Throttling"
            | "ProvisionedThroughputExceeded"
            | "ProvisionedThroughputExceededException"
            | "RequestLimitExceeded"
            | "LimitExceededException"
    )
}
