//! `cargo local bulk`: processes a list of records, paid from several holds at once, until the credits run out (M4).

use std::convert::Infallible;

use ai_credits_client::{BulkJob, Client, Consumer, DebitOrder, Error};
use reqwest::Method;
use serde_json::json;

use super::arguments::DemoSize;
use super::running::{Running, RunningError};

/// The operation that each record debits.
const OPERATION: &str = "record.enrich";

/// Why the job did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BulkError {
    #[error(transparent)]
    Running(#[from] RunningError),
    #[error("the bulk job did not start")]
    Refused(#[from] Error),
}

/// Processes the records, and returns the report to print.
pub(crate) async fn work(port: u16, workspace: &str, size: DemoSize) -> Result<String, BulkError> {
    let running = Running::at(port).await?;
    let order = json!({ "workspace": workspace, "scope": "credits:spend credits:read" });
    let token = running.ask(Method::POST, "/_local/tokens", Some(&order)).await?;
    let token = token["token"].as_str().unwrap_or_default().to_owned();
    let credits = Client::new(&format!("http://127.0.0.1:{port}"), token)?;
    let workspace = credits.workspace(workspace);
    let job_id = format!("bulk-{:x}", std::process::id());
    let consumer = Consumer::Bulk {
        job_id: job_id.clone(),
        feature: "bulk-enrich".to_owned(),
        list_id: Some("records".to_owned()),
        user_id: None,
    };
    let record = DebitOrder::of(OPERATION, consumer.clone()).unit("records", 1);
    let most_each = workspace.create_quote(&record).await?.credits;
    let job = BulkJob::of(&job_id, "bulk-enrich", OPERATION, most_each)
        .consumer(consumer)
        .side_by_side(size.workers, size.holds);
    let records: Vec<usize> = (0..size.records).collect();
    let report = workspace
        .bulk(&job, records, move |_| {
            let order = record.clone();
            async move { Ok::<_, Infallible>(order) }
        })
        .await;
    let (done, left) = (ranges(&report.done), ranges(&report.left));
    let mut lines = vec![report.to_string(), format!("done: {done}"), format!("left: {left}")];
    lines.extend(report.failed.iter().map(|(place, error)| format!("record {place}: {error}")));
    lines.extend(report.stopped.iter().map(|stopped| format!("stopped: {stopped}")));
    Ok(lines.join("\n  "))
}

/// Formats record numbers as ranges: `0-99, 101`.
fn ranges(places: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for place in places {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*place) => *last = *place,
            _ => ranges.push((*place, *place)),
        }
    }
    let told = |(first, last): (usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let told: Vec<String> = ranges.into_iter().map(told).collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn consecutive_numbers_are_shown_as_a_range() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2, 5, 7-8");
        assert_eq!(ranges(&[]), "none");
    }
}
