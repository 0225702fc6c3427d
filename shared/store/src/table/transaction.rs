//! Every write to the table: one module sends transactions, reads their results, and decides when to retry.
//!
//! DynamoDB cancels a transaction that meets another on the same item; it does not queue it. So a cancelled one is
//! retried after a pause with full jitter, up to a number of attempts and within the invocation's remaining time.

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

use crate::error::{CancelCode, Corrupt, Fault};
use crate::sources::Sources;
use crate::table::Store;
use crate::table::attribute::Item;
use crate::table::expression::Expression;
use crate::table::keys::ItemKey;

/// Maximum number of attempts at a transaction. With the pauses below they last about four seconds; docs/benchmarks.md
/// measures other numbers.
const MAX_ATTEMPTS: u32 = 60;
/// Upper bound of the first pause. The bound doubles with each attempt.
const FIRST_PAUSE_MILLIS: u64 = 12;
/// Upper bound of every pause. A busy balance is free again within a few milliseconds, so a longer pause only wastes
/// time.
const MAX_PAUSE_MILLIS: u64 = 150;
/// Upper bound of the pauses of a write on which other callers wait.
const SHORT_PAUSE_MILLIS: u64 = 24;
/// Time of an invocation that is reserved for its response.
const RESPONSE_RESERVE: Duration = Duration::from_millis(250);
/// Shortest timeout of a request, however late it is.
const MIN_REQUEST_TIMEOUT: Duration = Duration::from_millis(50);
/// Longest timeout of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// The result of a transaction.
#[derive(Debug)]
pub(crate) enum TransactionOutcome {
    /// Everything is written.
    Written,
    /// Nothing is written. The reasons are one for each item, in order.
    Cancelled(Vec<Reason>),
    /// It may be written: no response arrived, or one that doesn't say.
    Unknown(Box<aws_sdk_dynamodb::Error>),
}

/// Why an item cancelled its transaction.
#[derive(Debug)]
pub(crate) enum Reason {
    /// The item did not cancel it.
    None,
    /// The item's condition failed. With the item as it was, if there was one.
    Condition(Option<Item>),
    /// Another transaction was on the item, or DynamoDB throttled it.
    Busy,
}

/// The result of a single update.
#[derive(Debug)]
pub(crate) enum Updated {
    /// It is written. With the attributes that it has updated.
    Written(Item),
    /// The item's condition failed. With the item as it was, if there was one.
    Refused(Option<Item>),
    /// Another write was on the item, or DynamoDB throttled it.
    Busy,
    /// It may be written: no response arrived, or one that doesn't say.
    Unknown(Box<aws_sdk_dynamodb::Error>),
}

/// A counter of the attempts at one write, which pauses between them.
#[derive(Debug)]
pub(crate) struct Attempts {
    made: u32,
    sources: Sources,
    deadline: Option<Instant>,
    max_pause_millis: u64,
}

impl Store {
    /// Sends a transaction once.
    ///
    /// The SDK's own retries are off: each attempt reads the clock again, and all attempts are counted in one place.
    pub(crate) async fn transact(&self, writes: Vec<TransactWriteItem>) -> Result<TransactionOutcome, Fault> {
        #[expect(clippy::disallowed_methods, reason = "every write goes through this module")]
        let request = self.writer.transact_write_items().set_transact_items(Some(writes));
        match self.in_time(Box::pin(request.send())).await {
            Ok(_) => Ok(TransactionOutcome::Written),
            Err(error) => read_failure(error),
        }
    }

    /// Sends a transaction until it is written or a condition fails. Returns whether it is written; after a lost
    /// response, `false` may be wrong.
    pub(crate) async fn transact_unless_changed(
        &self,
        writes: Vec<TransactWriteItem>,
    ) -> Result<bool, Fault> {
        self.transact_unless_changed_within(self.attempts(), writes).await
    }

    /// Sends a transaction like [`Self::transact_unless_changed`], with attempts of the caller.
    pub(crate) async fn transact_unless_changed_within(
        &self,
        mut attempts: Attempts,
        writes: Vec<TransactWriteItem>,
    ) -> Result<bool, Fault> {
        loop {
            match self.transact(writes.clone()).await? {
                TransactionOutcome::Written => return Ok(true),
                // If it was written, the condition of the next attempt fails, and the caller reads again.
                TransactionOutcome::Unknown(error) => attempts.retry_after_failure(error).await?,
                TransactionOutcome::Cancelled(reasons) if is_busy(&reasons) => {
                    attempts.retry_after_conflict().await?;
                }
                TransactionOutcome::Cancelled(_) => return Ok(false),
            }
        }
    }

    /// Sends a change until it is written or its condition fails. A failed condition means that the item has changed,
    /// and is no error.
    pub(crate) async fn update_unless_changed(&self, change: Expression, key: &ItemKey) -> Result<(), Fault> {
        self.transact_unless_changed(vec![change.update(&self.table, key)?]).await.map(drop)
    }

    /// Sends one update without a transaction, which costs half as much. A lost response doesn't show whether it was
    /// written, so the update's condition must name the state that was read.
    pub(crate) async fn update_without_transaction(
        &self,
        write: TransactWriteItem,
    ) -> Result<TransactionOutcome, Fault> {
        let update = write.update.ok_or(Corrupt::NotAnUpdate)?;
        let request = update_request(&self.client, update);
        let sent = request.customize().config_override(self.read_config()).send().await;
        match sent {
            Ok(_) => Ok(TransactionOutcome::Written),
            Err(error) => match error.as_service_error().and_then(|service| service.code()) {
                Some("ConditionalCheckFailedException") => {
                    Ok(TransactionOutcome::Cancelled(vec![Reason::Condition(None)]))
                }
                Some(code) if is_busy_code(code) => Ok(TransactionOutcome::Cancelled(vec![Reason::Busy])),
                _ => Ok(TransactionOutcome::Unknown(Box::new(error.into()))),
            },
        }
    }

    /// Sends one update without a transaction. Returns `false` if the item has changed since it was read, or is busy.
    pub(crate) async fn update_if_unchanged(&self, write: Expression, key: &ItemKey) -> Result<bool, Fault> {
        match self.update_without_transaction(write.update(&self.table, key)?).await? {
            TransactionOutcome::Written => Ok(true),
            TransactionOutcome::Cancelled(_) => Ok(false),
            // It may be written. A caller that reads again finds out.
            TransactionOutcome::Unknown(error) => Err(Fault::Unavailable(error)),
        }
    }

    /// Sends one update without a transaction, once. Returns the updated attributes, or the item whose condition
    /// failed.
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

    /// Waits for a write's response as long as the invocation's time allows. A timeout set in the SDK for each write
    /// would cost 2% of an invocation.
    async fn in_time<T, E>(
        &self,
        sent: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, SdkError<E>> {
        match tokio::time::timeout(self.time_for_a_request(), sent).await {
            Ok(answered) => answered,
            Err(elapsed) => Err(SdkError::timeout_error(elapsed)),
        }
    }

    /// Returns the timeout of a request, so that a response still fits into the invocation's time.
    pub(crate) fn time_for_a_request(&self) -> Duration {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map_or(REQUEST_TIMEOUT, |left| left.saturating_sub(RESPONSE_RESERVE));
        left.clamp(MIN_REQUEST_TIMEOUT, REQUEST_TIMEOUT)
    }

    /// Returns the SDK's configuration of a read, whose attempts all end within the invocation's time.
    pub(crate) fn read_config(&self) -> aws_sdk_dynamodb::config::Builder {
        let timeouts = TimeoutConfig::builder().operation_timeout(self.time_for_a_request()).build();
        aws_sdk_dynamodb::config::Builder::new().timeout_config(timeouts)
    }

    pub(crate) fn attempts(&self) -> Attempts {
        Attempts {
            made: 0,
            sources: self.sources.clone(),
            deadline: self.deadline,
            max_pause_millis: MAX_PAUSE_MILLIS,
        }
    }
}

/// Builds the client for writes, without retries and timeouts of the SDK: each attempt reads the clock again.
pub(crate) fn writer(client: &Client) -> Client {
    let config = client.config().to_builder();
    let config = config.retry_config(RetryConfig::disabled()).timeout_config(TimeoutConfig::disabled());
    Client::from_conf(config.build())
}

/// Builds the request of a single update.
fn update_request(client: &Client, update: Update) -> UpdateItemFluentBuilder {
    #[expect(clippy::disallowed_methods, reason = "every write goes through this module")]
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
    /// Waits before the next attempt, after a conflict or throttling.
    pub async fn retry_after_conflict(&mut self) -> Result<(), Fault> {
        metrics::counter!("Conflicts").increment(1);
        self.pause().await.ok_or_else(given_up)
    }

    /// Counts the next attempt without a pause, after a conflict on an item that the caller now avoids.
    pub fn retry_elsewhere(&mut self) -> Result<(), Fault> {
        metrics::counter!("Conflicts").increment(1);
        self.retry_now()
    }

    /// Waits before the next attempt until another caller should have finished its recall of lanes.
    pub async fn retry_after_recall(&mut self) -> Result<(), Fault> {
        self.count().ok_or_else(given_up)?;
        let pause = MAX_PAUSE_MILLIS.saturating_sub(self.sources.below(MAX_PAUSE_MILLIS));
        self.sleep(pause).await.ok_or_else(given_up)
    }

    /// Makes every further pause short, for a write on which other callers wait. Since short pauses are soon over, the first
    /// call starts the count of attempts again.
    pub fn hurry(&mut self) {
        if self.max_pause_millis != SHORT_PAUSE_MILLIS {
            (self.max_pause_millis, self.made) = (SHORT_PAUSE_MILLIS, 0);
        }
    }

    /// Waits before the next attempt, after a lost response.
    pub async fn retry_after_failure(&mut self, error: Box<aws_sdk_dynamodb::Error>) -> Result<(), Fault> {
        self.pause().await.ok_or(Fault::Unavailable(error))
    }

    /// Counts the next attempt without a pause, because the caller has removed the obstacle.
    pub fn retry_now(&mut self) -> Result<(), Fault> {
        self.count().ok_or_else(given_up)
    }

    async fn pause(&mut self) -> Option<()> {
        let longest =
            FIRST_PAUSE_MILLIS.saturating_mul(2_u64.saturating_pow(self.made)).min(self.max_pause_millis);
        self.count()?;
        self.sleep(self.sources.below(longest.saturating_add(1))).await
    }

    /// Pauses; `None` if that would exceed the invocation's time.
    async fn sleep(&self, millis: u64) -> Option<()> {
        let pause = Duration::from_millis(millis);
        let end = self.deadline.and_then(|deadline| deadline.checked_sub(RESPONSE_RESERVE));
        if end.is_some_and(|end| Instant::now().checked_add(pause).is_none_or(|resumed| resumed >= end)) {
            return None;
        }
        tokio::time::sleep(pause).await;
        Some(())
    }

    fn count(&mut self) -> Option<()> {
        self.made = self.made.saturating_add(1);
        (self.made < MAX_ATTEMPTS).then_some(())
    }
}

fn given_up() -> Fault {
    metrics::counter!("ConflictsGivenUp").increment(1);
    Fault::Contended
}

/// Returns whether any item was busy. Then no failed condition beside it can be trusted.
pub(crate) fn is_busy(reasons: &[Reason]) -> bool {
    reasons.iter().any(|reason| matches!(reason, Reason::Busy))
}

fn read_failure(error: SdkError<TransactWriteItemsError>) -> Result<TransactionOutcome, Fault> {
    let Some(service) = error.as_service_error() else {
        // After a lost connection or a timeout, the transaction may be written.
        return Ok(TransactionOutcome::Unknown(Box::new(error.into())));
    };
    if let TransactWriteItemsError::TransactionCanceledException(cancelled) = service {
        let reasons = cancelled.cancellation_reasons().iter().map(read_reason);
        return Ok(TransactionOutcome::Cancelled(reasons.collect::<Result<_, _>>()?));
    }
    let server_failed = error.raw_response().is_some_and(|response| response.status().is_server_error());
    match error.code() {
        Some(code) if is_busy_code(code) => Ok(TransactionOutcome::Cancelled(vec![Reason::Busy])),
        _ if server_failed => Ok(TransactionOutcome::Unknown(Box::new(error.into()))),
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

/// Returns whether a code means a conflict or throttling, of a whole request or of one item.
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
