//! Listings that are fetched page by page.

use std::collections::VecDeque;

use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::schema::{Ledger, LedgerEntry, Run, Runs, Usage, UsageGroup};
use crate::send::Outbound;

/// A page of a listing. Implement it to iterate over a listing for which the client has no method.
pub trait Paged: DeserializeOwned {
    type Item;

    /// Returns the items, and the cursor of the next page (`next_cursor`) if there is one.
    fn into_parts(self) -> (Vec<Self::Item>, Option<String>);
}

/// The items of all pages of a listing.
///
/// ```no_run
/// # async fn print(acme: ai_credits_client::Workspace) -> Result<(), ai_credits_client::Error> {
/// let mut entries = acme.list_ledger_entries().kind("top_up").items();
/// while let Some(entry) = entries.try_next().await? {
///     println!("{}: {}", entry.at, entry.credits);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Items<P: Paged> {
    first: Outbound,
    fetched: VecDeque<P::Item>,
    next: NextPage,
}

#[derive(Debug)]
enum NextPage {
    First,
    After(String),
    None,
}

impl<P: Paged> Items<P> {
    pub(crate) fn new(first: Outbound) -> Self {
        Self { first, fetched: VecDeque::new(), next: NextPage::First }
    }

    /// Returns the next item. Fetches the next page if all items of the fetched ones were returned.
    ///
    /// After an error it fetches the same page again.
    pub async fn try_next(&mut self) -> Result<Option<P::Item>, Error> {
        loop {
            if let Some(item) = self.fetched.pop_front() {
                return Ok(Some(item));
            }
            let mut page = self.first.clone();
            match &self.next {
                NextPage::First => {}
                NextPage::After(cursor) => {
                    page.query.retain(|(name, _)| name != "cursor");
                    page.query.push(("cursor".to_owned(), cursor.clone()));
                }
                NextPage::None => return Ok(None),
            }
            let page: P = page.send().await?.typed()?.body;
            let (items, cursor) = page.into_parts();
            self.fetched = items.into();
            self.next = cursor.map_or(NextPage::None, NextPage::After);
        }
    }
}

impl Paged for Ledger {
    type Item = LedgerEntry;

    fn into_parts(self) -> (Vec<LedgerEntry>, Option<String>) {
        (self.entries, self.next_cursor)
    }
}

impl Paged for Runs {
    type Item = Run;

    fn into_parts(self) -> (Vec<Run>, Option<String>) {
        (self.runs, self.next_cursor)
    }
}

impl Paged for Usage {
    type Item = UsageGroup;

    fn into_parts(self) -> (Vec<UsageGroup>, Option<String>) {
        (self.groups, self.next_cursor)
    }
}
