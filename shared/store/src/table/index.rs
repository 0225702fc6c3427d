//! Queries of the index, one page at a time.
//!
//! Some listings are spread over several partitions, which are read together and merged. A partition's page may end before
//! the listing's page does. What the other partitions have beyond that point is read again with the next page.

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::error::{Corrupt, Fault};
use crate::table::Store;
use crate::table::attribute::{Item, Reader, text};
use crate::table::keys::{DETAIL, INDEX, INDEX_PK, INDEX_SK, read_position};

/// Index pages that one request reads at most, however rarely its filter matches.
const MAX_PAGES: usize = 10;

/// Items that DynamoDB examines for one page of a filtered query.
const FILTERED_PAGE: i32 = 1_000;

/// The end of a page: the position of the last item that was examined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(String);

/// The error for a text that is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a cursor that an earlier answer gave")]
pub struct InvalidCursor;

/// A page of results, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Where the next page begins; `None` after the last page. The next page may be empty.
    pub next: Option<Cursor>,
}

/// A query of index partitions that are one listing, newest first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexQuery<'a> {
    pub partitions: &'a [String],
    /// Maximum number of items on the page.
    pub limit: usize,
    /// The end of the previous page.
    pub after: Option<&'a Cursor>,
    /// A member of the document attribute, and the value that it must have.
    pub filter: Option<(&'a str, &'a str)>,
}

impl Cursor {
    /// Returns the cursor as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        read_position(text).ok_or(InvalidCursor)?;
        Ok(Self(text.to_owned()))
    }
}

impl Store {
    /// Reads a page of a listing. With a filter that rarely matches, a page may be shorter than its limit and
    /// still have a next page.
    pub(crate) async fn page<T>(
        &self,
        listing: IndexQuery<'_>,
        read: impl Fn(&Item) -> Result<T, Corrupt>,
    ) -> Result<Page<T>, Fault> {
        let mut page = Page { items: Vec::new(), next: listing.after.cloned() };
        for _ in 0..MAX_PAGES {
            let wanted = listing.limit.saturating_sub(page.items.len());
            let (items, end) = self.query_index(listing, page.next.as_ref(), wanted).await?;
            for item in items.iter().take(wanted) {
                page.items.push(read(item)?);
            }
            page.next = match items.get(wanted.saturating_sub(1)) {
                // The page is full, so the next page begins after its last item.
                Some(last) if items.len() > wanted || end.is_some() => Some(Cursor(position_of(last)?)),
                _ => end,
            };
            if page.next.is_none() || page.items.len() >= listing.limit {
                break;
            }
        }
        Ok(page)
    }

    async fn query_index(
        &self,
        listing: IndexQuery<'_>,
        after: Option<&Cursor>,
        wanted: usize,
    ) -> Result<(Vec<Item>, Option<Cursor>), Fault> {
        let wanted = i32::try_from(wanted.saturating_add(1)).unwrap_or(FILTERED_PAGE);
        let limit = if listing.filter.is_some() { FILTERED_PAGE } else { wanted };
        let mut requests = Vec::new();
        for partition in listing.partitions {
            let mut request = self.backwards(partition, after.map(Cursor::as_str), limit);
            if let Some((member, value)) = listing.filter {
                request = request
                    .filter_expression("#detail.#member = :member")
                    .expression_attribute_names("#detail", DETAIL)
                    .expression_attribute_names("#member", member)
                    .expression_attribute_values(":member", AttributeValue::S(value.to_owned()));
            }
            requests.push(request);
        }
        let (mut items, ends) = self.found_in_all(requests).await?;
        let end = ends.into_iter().max();
        items.retain(|(position, _)| Some(position) >= end.as_ref());
        items.sort_by(|one, other| other.0.cmp(&one.0));
        Ok((items.into_iter().map(|(_, item)| item).collect(), end.map(Cursor)))
    }

    /// Sends queries of several partitions. Returns the items with their positions, and where the pages end of those
    /// partitions that have more.
    async fn found_in_all(
        &self,
        requests: Vec<QueryFluentBuilder>,
    ) -> Result<(Vec<(String, Item)>, Vec<String>), Fault> {
        let mut running = JoinSet::new();
        for request in requests {
            let store = self.clone();
            running.spawn(async move { store.found(request).await });
        }
        let (mut items, mut ends) = (Vec::new(), Vec::new());
        for output in running.join_all().await {
            let output = output?;
            for item in output.items.unwrap_or_default() {
                items.push((position_of(&item)?, item));
            }
            ends.extend(output.last_evaluated_key.as_ref().map(position_of).transpose()?);
        }
        Ok((items, ends))
    }

    /// Builds the query of an index partition, newest first, from its end or from before a position.
    pub(crate) fn backwards(&self, partition: &str, before: Option<&str>, limit: i32) -> QueryFluentBuilder {
        let request = self
            .query()
            .index_name(INDEX)
            .scan_index_forward(false)
            .limit(limit)
            .expression_attribute_names("#partition", INDEX_PK)
            .expression_attribute_values(":partition", text(partition));
        match before {
            None => request.key_condition_expression("#partition = :partition"),
            Some(position) => request
                .key_condition_expression("#partition = :partition AND #position < :position")
                .expression_attribute_names("#position", INDEX_SK)
                .expression_attribute_values(":position", text(position)),
        }
    }

    /// Reads the items after one position and up to another, oldest first, at most one page of each partition. Also returns
    /// whether there may be more.
    pub(crate) async fn forwards(
        &self,
        partitions: &[String],
        after: &str,
        before: &str,
        limit: Option<i32>,
    ) -> Result<(Vec<Item>, bool), Fault> {
        let requests =
            partitions.iter().map(|partition| self.forwards_query(partition, after, before, limit));
        let (mut items, ends) = self.found_in_all(requests.collect()).await?;
        let end = ends.into_iter().min();
        items.retain(|(position, _)| end.as_ref().is_none_or(|end| position <= end));
        items.sort_by(|one, other| one.0.cmp(&other.0));
        Ok((items.into_iter().map(|(_, item)| item).collect(), end.is_some()))
    }

    fn forwards_query(
        &self,
        partition: &str,
        after: &str,
        before: &str,
        limit: Option<i32>,
    ) -> QueryFluentBuilder {
        // `BETWEEN` includes both ends, so the NUL excludes `after`. It also keeps the bound from being empty, which a
        // sort key can't be.
        let after = format!("{after}\u{0}");
        self.query()
            .index_name(INDEX)
            .set_limit(limit)
            .key_condition_expression("#partition = :partition AND #position BETWEEN :after AND :before")
            .expression_attribute_names("#partition", INDEX_PK)
            .expression_attribute_names("#position", INDEX_SK)
            .expression_attribute_values(":partition", text(partition))
            .expression_attribute_values(":after", AttributeValue::S(after))
            .expression_attribute_values(":before", text(before))
    }

    /// Returns the earliest date in an index partition.
    pub(crate) async fn first_date(&self, partition: &str) -> Result<Option<Timestamp>, Fault> {
        let items = self.dated(partition, "", "9", 1).await?;
        let first = items.first().map(|item| Reader(item).text(INDEX_SK)).transpose()?;
        Ok(first.and_then(read_position).map(|(at, _)| at))
    }

    /// Returns the first `limit` items between two positions, oldest first.
    pub(crate) async fn dated(
        &self,
        partition: &str,
        after: &str,
        before: &str,
        limit: i32,
    ) -> Result<Vec<Item>, Fault> {
        Ok(self.forwards(&[partition.to_owned()], after, before, Some(limit)).await?.0)
    }
}

fn position_of(item: &Item) -> Result<String, Corrupt> {
    Ok(Reader(item).text(INDEX_SK)?.to_owned())
}
