//! The index at `/`, and the page with the payments alone.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use credits_core::workspace::Plan;
use credits_store::Clock;
use jiff::Timestamp;
use minijinja::context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::serving::{PageError, PageNote, page};
use super::{docs, payments, workspaces};
use crate::provider::PlayedOutcome;
use crate::provider_api::provider;
use crate::state::Shared;

/// The largest number of mails, of events and of dead letters on the index.
const MAX_SHOWN: usize = 100;

/// The largest number of payments on the index. The page with the payments alone shows more.
const MAX_PAYMENTS: usize = 8;

/// A page to which a form returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LocalPage {
    Index,
    Payments,
}

impl LocalPage {
    pub fn path(self) -> &'static str {
        match self {
            Self::Index => "/",
            Self::Payments => "/_local/payments",
        }
    }
}

/// The newest entries of a list.
#[derive(Debug, Serialize)]
struct Latest<T> {
    /// Newest first.
    shown: Vec<T>,
    /// The number of all entries.
    count: usize,
}

impl<T> Latest<T> {
    /// Takes the newest entries of a list that has the oldest first. Each gets its number; the oldest has number 1.
    fn of<U>(all: Vec<U>, shown: impl Fn(usize, U) -> T) -> Self {
        let count = all.len();
        let newest = all.into_iter().enumerate().rev().take(MAX_SHOWN);
        Self { shown: newest.map(|(at, entry)| shown(at.saturating_add(1), entry)).collect(), count }
    }
}

#[derive(Debug, Serialize)]
struct MailRow {
    /// The number under which `/_local/mail/{number}` shows it.
    number: usize,
    subject: String,
    to: String,
    at: String,
}

#[derive(Debug, Serialize)]
struct EventRow {
    name: String,
    source: String,
    workspace: String,
    at: String,
    /// The whole event, as indented JSON.
    json: String,
}

#[derive(Debug, Serialize)]
struct DeadLetterRow {
    function: String,
    error: String,
    event: EventRow,
}

/// The state of the stand-in provider.
#[derive(Debug, Serialize)]
struct Payments {
    page: LocalPage,
    checkouts: Vec<crate::provider::PlayedCheckout>,
    /// Newest first.
    rows: Vec<payments::PaymentRow>,
    count: usize,
    is_down: bool,
    /// Workspaces whose next charges have an outcome that a form or a control has set.
    decided: Vec<(String, PlayedOutcome)>,
}

/// Shows the index.
pub(super) async fn show(State(shared): State<Arc<Shared>>, uri: Uri) -> Result<Response, PageError> {
    let mails = Latest::of(shared.mailbox.mails(), |number, mail| MailRow {
        number,
        subject: mail.subject,
        to: mail.to.join(", "),
        at: minute(mail.at),
    });
    let dead_letters = Latest::of(shared.bus.dead(), |_, dead| DeadLetterRow {
        function: text(&dead["function"]),
        error: text(&dead["error"]),
        event: event_row(&dead["event"]),
    });
    let content = context! {
        note => PageNote::of(&uri),
        now => shared.clock.now().strftime("%a, %-d %b %Y, %H:%M:%S UTC").to_string(),
        workspaces => workspaces::list(&shared).await?,
        most_workspaces => workspaces::MAX_SHOWN,
        plans => Plan::ALL,
        payments => payments_of(&shared, LocalPage::Index),
        mails,
        events => Latest::of(shared.bus.shown(), |_, event| event_row(&event)),
        dead_letters,
        docs => docs::names(),
    };
    page("index.html", content, &[])
}

/// Shows the payments alone.
pub(super) async fn show_payments(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
) -> Result<Response, PageError> {
    let payments = payments_of(&shared, LocalPage::Payments);
    page("payments_page.html", context! { note => PageNote::of(&uri), payments }, &[])
}

fn payments_of(shared: &Shared, page: LocalPage) -> Payments {
    let provider = provider(shared);
    let mut rows = payments::rows(provider.played_payments());
    let count = rows.len();
    if page == LocalPage::Index {
        rows.truncate(MAX_PAYMENTS);
    }
    Payments {
        page,
        checkouts: provider.open_checkouts(),
        rows,
        count,
        is_down: provider.down,
        decided: provider.decided().map(|(workspace, outcome)| (workspace.clone(), outcome)).collect(),
    }
}

fn event_row(event: &Value) -> EventRow {
    let at = text(&event["time"]).parse().map(minute);
    EventRow {
        name: text(&event["detail-type"]),
        source: text(&event["source"]),
        workspace: text(&event["detail"]["workspace_id"]),
        at: at.unwrap_or_else(|_| text(&event["time"])),
        json: format!("{event:#}"),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn minute(at: Timestamp) -> String {
    at.strftime("%-d %b %Y, %H:%M").to_string()
}
