//! Strongly consistent reads of items, and queries.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_sdk_dynamodb::config::ConfigBag;
use aws_sdk_dynamodb::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::KeysAndAttributes;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use jiff::Timestamp;

use crate::error::{Corrupt, Fault};
use crate::table::Store;
use crate::table::attribute::{Item, Reader, keyed};
use crate::table::keys::{ItemKey, PK, SK};

/// Items that one `BatchGetItem` reads at most.
const MAX_READ: usize = 100;

impl Store {
    /// Opens a connection and completes its handshake, by a read of an item that doesn't exist.
    pub async fn connect(&self) -> Result<(), Fault> {
        let nothing = ItemKey::entry("entry#".to_owned());
        let request = self.client.get_item().table_name(&*self.table).set_key(Some(keyed(&nothing)));
        request.send().await.map(drop).map_err(Fault::unavailable)
    }

    /// Reads an item, strongly consistent.
    pub(crate) async fn get(&self, key: &ItemKey) -> Result<Option<Item>, Fault> {
        let request = self.client.get_item().table_name(&*self.table).set_key(Some(keyed(key)));
        Ok(request
            .consistent_read(true)
            .customize()
            .config_override(self.read_config())
            .send()
            .await
            .map_err(Fault::unavailable)?
            .item)
    }

    /// Reads an item, strongly consistent, with the time of DynamoDB's response. DynamoDB's clock is the only one that
    /// all functions share.
    pub(crate) async fn get_dated(&self, key: &ItemKey) -> Result<(Option<Item>, Timestamp), Fault> {
        let answered = AnswerDate::default();
        let output = self
            .client
            .get_item()
            .table_name(&*self.table)
            .set_key(Some(keyed(key)))
            .consistent_read(true)
            .customize()
            .config_override(self.read_config())
            .interceptor(answered.clone())
            .send()
            .await
            .map_err(Fault::unavailable)?;
        Ok((output.item, answered.read()))
    }

    /// Starts a query of the table.
    pub(crate) fn query(&self) -> QueryFluentBuilder {
        self.client.query().table_name(&*self.table)
    }

    /// Sends a query within the invocation's time, and returns one page at most.
    pub(crate) async fn found(&self, query: QueryFluentBuilder) -> Result<QueryOutput, Fault> {
        query.customize().config_override(self.read_config()).send().await.map_err(Fault::unavailable)
    }

    /// Reads an item, eventually consistent, for half the price. The caller's write must require what was read.
    pub(crate) async fn get_recent(&self, key: &ItemKey) -> Result<Option<Item>, Fault> {
        let request = self.client.get_item().table_name(&*self.table).set_key(Some(keyed(key)));
        let output = request.customize().config_override(self.read_config()).send().await;
        Ok(output.map_err(Fault::unavailable)?.item)
    }

    /// Reads many items, strongly consistent. The result lacks those that don't exist.
    pub(crate) async fn get_many(&self, keys: &[ItemKey]) -> Result<HashMap<ItemKey, Item>, Fault> {
        self.get_all(keys, Consistency::Strong).await
    }

    /// Reads many items that never change once they exist, for half the price if all have existed for a second.
    pub(crate) async fn get_many_final(&self, keys: &[ItemKey]) -> Result<HashMap<ItemKey, Item>, Fault> {
        let mut items = self.get_all(keys, Consistency::Eventual).await?;
        let missing: Vec<ItemKey> = keys.iter().filter(|key| !items.contains_key(key)).cloned().collect();
        items.extend(self.get_all(&missing, Consistency::Strong).await?);
        Ok(items)
    }

    async fn get_all(
        &self,
        keys: &[ItemKey],
        consistency: Consistency,
    ) -> Result<HashMap<ItemKey, Item>, Fault> {
        let mut items = HashMap::new();
        for chunk in keys.chunks(MAX_READ) {
            let mut attempts = self.attempts();
            let mut wanted: Vec<Item> = chunk.iter().map(keyed).collect();
            while !wanted.is_empty() {
                let request = KeysAndAttributes::builder().set_keys(Some(wanted));
                let request = request.consistent_read(matches!(consistency, Consistency::Strong));
                let request = request.build().map_err(Corrupt::from)?;
                let read = self.client.batch_get_item().request_items(&*self.table, request);
                let read = read.customize().config_override(self.read_config()).send().await;
                let read = read.map_err(Fault::unavailable)?;
                for item in read.responses.unwrap_or_default().into_values().flatten() {
                    items.insert(key_of(&item)?, item);
                }
                let left = read.unprocessed_keys.unwrap_or_default().into_values().next();
                wanted = left.map(|left| left.keys).unwrap_or_default();
                if !wanted.is_empty() {
                    attempts.retry_after_conflict().await?;
                }
            }
        }
        Ok(items)
    }
}

/// How recent a read has to be.
#[derive(Debug, Clone, Copy)]
enum Consistency {
    /// The result has all writes that were answered before.
    Strong,
    /// The result may lack the writes of the last second. It costs half as much.
    Eventual,
}

pub(crate) fn key_of(item: &Item) -> Result<ItemKey, Corrupt> {
    let reader = Reader(item);
    Ok(ItemKey { pk: reader.text(PK)?.to_owned(), sk: reader.text(SK)?.to_owned().into() })
}

/// The `Date` of a response. Without that header nothing counts as past, so nothing but a fence is closed.
#[derive(Debug, Clone)]
struct AnswerDate(Arc<AtomicI64>);

impl Default for AnswerDate {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(0)))
    }
}

impl AnswerDate {
    /// Returns the last millisecond of the second in the header. Grants expire at whole seconds, so none expires too
    /// early.
    fn read(&self) -> Timestamp {
        let end = self.0.load(Ordering::Acquire).saturating_mul(1_000).saturating_add(999);
        Timestamp::from_millisecond(end).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

#[dyn_dispatch_hint]
impl Intercept for AnswerDate {
    fn name(&self) -> &'static str {
        "AnswerDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        if let Some(date) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) {
            self.0.store(date.timestamp().as_second(), Ordering::Release);
        }
        Ok(())
    }
}
