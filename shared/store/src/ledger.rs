//! Reading the ledger, newest first, a page at a time.

use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::id::WorkspaceId;
use credits_core::ledger::Entry;

use crate::attribute::{Item, Reader, text};
use crate::error::{Corrupt, Fault};
use crate::keys::{INDEX, INDEX_PK, INDEX_SK, ledger, read_position};
use crate::{Store, entry_item};

/// How many index pages one request reads at most, however rare the kind that it filters for.
const MOST_PAGES: usize = 10;

/// How many entries DynamoDB looks at in one page where a filter is set.
const FILTERED_PAGE: i32 = 1_000;

/// Where a page ends: the position of the last entry that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(String);

/// A text that is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a cursor that an earlier answer gave")]
pub struct InvalidCursor;

/// What to read.
#[derive(Debug, Clone)]
pub struct LedgerQuery<'a> {
    /// At most so many entries.
    pub limit: u16,
    /// From where an earlier page ended.
    pub after: Option<&'a Cursor>,
    /// Entries of one kind only.
    pub kind: Option<&'a str>,
}

/// A page of entries, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerPage {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Where the next page begins, if there may be one.
    pub next: Option<Cursor>,
}

impl Cursor {
    /// The cursor as text.
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
    /// A page of the workspace's ledger. With a filter for a rare kind, a page may hold fewer entries than its limit
    /// and still have a next one.
    pub async fn ledger(
        &self,
        workspace: &WorkspaceId,
        query: &LedgerQuery<'_>,
    ) -> Result<LedgerPage, Fault> {
        let mut page = LedgerPage { next: query.after.cloned(), ..LedgerPage::default() };
        let limit = usize::from(query.limit);
        for _ in 0..MOST_PAGES {
            let wanted = limit.saturating_sub(page.entries.len());
            let (items, end) = self.ledger_items(workspace, query, page.next.as_ref(), wanted).await?;
            for item in items.iter().take(wanted) {
                page.entries.push(entry_item::read(item)?);
            }
            page.next = match items.get(wanted.saturating_sub(1)) {
                // The page is full: what follows its last entry is the next one's.
                Some(last) if items.len() > wanted || end.is_some() => Some(position_of(last)?),
                _ => end,
            };
            if page.next.is_none() || page.entries.len() >= limit {
                break;
            }
        }
        Ok(page)
    }

    async fn ledger_items(
        &self,
        workspace: &WorkspaceId,
        query: &LedgerQuery<'_>,
        after: Option<&Cursor>,
        wanted: usize,
    ) -> Result<(Vec<Item>, Option<Cursor>), Fault> {
        let wanted = i32::try_from(wanted.saturating_add(1)).unwrap_or(FILTERED_PAGE);
        let mut request = self
            .client
            .query()
            .table_name(&*self.table)
            .index_name(INDEX)
            .scan_index_forward(false)
            .limit(if query.kind.is_some() { FILTERED_PAGE } else { wanted })
            .expression_attribute_names("#partition", INDEX_PK)
            .expression_attribute_values(":partition", text(ledger(workspace)));
        request = match after {
            None => request.key_condition_expression("#partition = :partition"),
            Some(cursor) => request
                .key_condition_expression("#partition = :partition AND #position < :position")
                .expression_attribute_names("#position", INDEX_SK)
                .expression_attribute_values(":position", text(cursor.as_str())),
        };
        if let Some(kind) = query.kind {
            request = request
                .filter_expression("#cause.#kind = :kind")
                .expression_attribute_names("#cause", "cause")
                .expression_attribute_names("#kind", "kind")
                .expression_attribute_values(":kind", AttributeValue::S(kind.to_owned()));
        }
        let output = request.send().await.map_err(Fault::unavailable)?;
        let end = output.last_evaluated_key.as_ref().map(position_of).transpose()?;
        Ok((output.items.unwrap_or_default(), end))
    }
}

fn position_of(item: &Item) -> Result<Cursor, Corrupt> {
    Ok(Cursor(Reader(item).text(INDEX_SK)?.to_owned()))
}
