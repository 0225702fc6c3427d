//! The page `docs/cost.md`.

use std::fmt::Write as _;

use model::report::table;

use crate::counts::{Counts, Use};
use crate::rates::{Batches, HOURS, Rate, SHARDS, WORKSPACES};
use crate::settings::Settings;
use crate::{MAX_MILLION, MAX_MONTH};

/// How long DynamoDB takes to answer a debit's transaction, and a single read or write, in milliseconds.
const TRANSACTION_MS: f64 = 8.0;
const REQUEST_MS: f64 = 5.0;
/// A function of 1,769 MB has one core of Lambda's.
const CORE_GB: f64 = 1_769.0 / 1_024.0;
/// The requests of `project` for one workspace, one after the other: the month, the entries, the month's update.
const REQUESTS_OF_USAGE: f64 = 3.0;
/// The workspaces that `project` counts at once.
const AT_A_TIME: f64 = 16.0;
/// The size of compressed logs.
const COMPRESSED: f64 = 0.15;

/// A row: what it is, how much of it, and its price in USD.
struct Row(&'static str, String, f64);

/// The page, with the totals that have an aim.
pub struct Page {
    pub text: String,
    pub millions: Vec<(&'static str, f64)>,
    pub month: f64,
}

/// Formats a section's rows, with their sum as the last one.
fn rows(columns: [&str; 3], rows: &[Row]) -> (String, f64) {
    let sum: f64 = rows.iter().map(|row| row.2).sum();
    let mut lines: Vec<Vec<String>> = rows
        .iter()
        .map(|Row(what, much, usd)| vec![(*what).to_owned(), much.clone(), format!("${usd:.3}")])
        .collect();
    lines.push(vec!["together".to_owned(), String::new(), format!("${sum:.2}")]);
    // An empty cell is one space.
    (table(&columns, &lines).replace("|  |", "| |"), sum)
}

impl Page {
    pub fn of(settings: &Settings, counts: &Counts) -> Self {
        let mut text = introduction(settings);
        let mut millions = Vec::new();
        for rate in Rate::ALL.map(|rate| rate()) {
            let (table, sum) = million(settings, counts, &rate);
            millions.push((rate.name, sum));
            writeln!(text, "## {}\n\n{}\n{table}", rate.name, batches_in_words(settings, &rate)).unwrap();
        }
        text.push_str(&others(settings, counts));
        let (table, month) = at_rest(settings, counts);
        writeln!(
            text,
            "## A month, whatever the calls\n\nEach metric of an alarm is billed, also within an expression. The dashboard is one of \
             the three that an account\nhas free; a fourth costs ${:.2}. No other free quota is counted.\n\n{table}",
            settings.price("dashboard")
        )
        .unwrap();
        text.push_str(&storage(settings, counts));
        text.push_str(&assumptions(settings));
        Self { text, millions, month }
    }
}

fn introduction(settings: &Settings) -> String {
    format!(
        "# What it costs\n\nWritten by `AI_CREDITS_WRITE_COST=1 cargo test --test cost`, and checked by the tests: capacity and log lines \
         are\ncounted on a local stack with the deployed functions, settings are those of `template.yaml` for prod, and prices\nthose of \
         [tests/cost/prices.json](../tests/cost/prices.json): {}, {}.\nNothing was billed by AWS yet. The tests fail above ${MAX_MILLION:.2} a \
         million debits or ${MAX_MONTH:.2} a month at rest.\n\n",
        settings.prices["region"].as_str().unwrap(),
        settings.prices["date"].as_str().unwrap()
    )
}

fn batches_in_words(settings: &Settings, rate: &Rate) -> String {
    let Batches { debits, workspaces } = rate.batches(settings.window_seconds, settings.parallel);
    format!(
        "{:.2} debits a second. A batch of the stream has {debits:.1} debits of {workspaces:.1} workspaces.\n",
        rate.per_second
    )
}

fn seconds(milliseconds: f64) -> f64 {
    // Lambda bills whole milliseconds.
    milliseconds.ceil() / 1_000.0
}

/// Returns the rows that every call of `debit` has.
fn call(settings: &Settings, counts: &Counts, used: &Use) -> Vec<Row> {
    let time = seconds(TRANSACTION_MS + settings.cpu_ms * CORE_GB / settings.memory_gb);
    let logs = used.log_bytes + counts.access_bytes;
    let kept = logs * COMPRESSED * settings.retention_months;
    let traces = if settings.tracing == "PassThrough" { 0.0 } else { 0.05 };
    vec![
        Row("API Gateway, HTTP API", "1 call".to_owned(), settings.price("api_calls")),
        Row("Lambda, `debit`: requests", "1 request".to_owned(), settings.price("lambda_requests")),
        Row(
            "Lambda, `debit`: time",
            format!("{:.0} ms of {:.0} MB", time * 1_000.0, settings.memory_gb * 1_024.0),
            time * settings.memory_gb * settings.price("lambda_gb_second") * 1e6,
        ),
        Row(
            "DynamoDB, the call's writes",
            format!("{:.2} write units", used.write_units),
            used.write_units * settings.price("write_units"),
        ),
        Row(
            "DynamoDB, the call's reads",
            format!("{:.2} read units", used.read_units),
            used.read_units * settings.price("read_units"),
        ),
        Row(
            "CloudWatch, logs written",
            format!(
                "{:.0} bytes of API Gateway, {:.0} of the function (lines: {:.0})",
                counts.access_bytes, used.log_bytes, used.lines
            ),
            logs / 1e3 * settings.price("logs_gb"),
        ),
        Row(
            "CloudWatch, logs kept",
            format!("{:.0} months, compressed", settings.retention_months),
            kept / 1e3 * settings.price("logs_kept_gb"),
        ),
        Row(
            "X-Ray",
            format!("{traces} traces (`Tracing={}`)", settings.tracing),
            traces * settings.price("traces"),
        ),
    ]
}

/// Returns the table of a million debits.
fn million(settings: &Settings, counts: &Counts, rate: &Rate) -> (String, f64) {
    let Batches { debits, workspaces } = rate.batches(settings.window_seconds, settings.parallel);
    let written = workspaces / debits;
    let more = 1.0 - written;
    let writes = counts.usage.write_units.mul_add(written, counts.further_usage.write_units * more);
    let reads = counts.usage.read_units.mul_add(written, counts.further_usage.read_units * more);
    let waiting = (workspaces / AT_A_TIME).ceil() * REQUESTS_OF_USAGE * REQUEST_MS;
    let time = seconds(waiting + workspaces * settings.cpu_ms * CORE_GB / settings.memory_gb);
    let mut of_debit = call(settings, counts, &counts.debit);
    of_debit.extend([
        Row(
            "DynamoDB, usage: writes",
            format!("{writes:.2} write units"),
            writes * settings.price("write_units"),
        ),
        Row("DynamoDB, usage: reads", format!("{reads:.2} read units"), reads * settings.price("read_units")),
        Row("DynamoDB, the stream", "read by Lambda".to_owned(), settings.price("stream_reads_by_lambda")),
        Row(
            "Lambda, `project`: requests",
            format!("{:.3} requests", 1.0 / debits),
            settings.price("lambda_requests") / debits,
        ),
        Row(
            "Lambda, `project`: time",
            format!("{:.1} ms of {:.0} MB", time * 1_000.0 / debits, settings.memory_gb * 1_024.0),
            time * settings.memory_gb * settings.price("lambda_gb_second") * 1e6 / debits,
        ),
        Row(
            "CloudWatch, logs and metrics of `project`",
            format!("{:.0} bytes", counts.usage.log_bytes),
            counts.usage.log_bytes / debits / 1e3 * settings.price("logs_gb"),
        ),
        Row("EventBridge, archive and SQS", "a debit publishes no event".to_owned(), 0.0),
    ]);
    rows(["what", "per debit", "a million"], &of_debit)
}

/// Describes replays and refusals.
fn others(settings: &Settings, counts: &Counts) -> String {
    let mut text =
        "## Replays and refusals\n\nNeither moves credits, so neither is counted as usage. A refused step of a workflow also marks its run, with 4 write units more.\nAn instance that has refused a workspace reads its balance before the next refusal, and writes nothing.\n`Replays` and each code of `Refusals` are a metric in each hour in which they occur.\n\n".to_owned();
    for (name, used) in [
        ("replays", &counts.replay),
        ("first refusals (402)", &counts.refusal),
        ("further refusals", &counts.further_refusal),
    ] {
        let (table, _) = rows([name, "per call", "a million"], &call(settings, counts, used));
        writeln!(text, "{table}").unwrap();
    }
    text
}

/// Returns the table of a month without calls.
fn at_rest(settings: &Settings, counts: &Counts) -> (String, f64) {
    let scheduled = [
        (&counts.sweep, settings.sweeps),
        (&counts.check, settings.checks),
        (&counts.digest, settings.digests),
    ];
    let sum = |of: fn(&Use) -> f64| -> f64 {
        scheduled.iter().map(|(used, an_hour)| of(used) * an_hour * HOURS).sum()
    };
    let invocations = sum(|_| 1.0);
    let metrics: Vec<&str> =
        scheduled.iter().flat_map(|(used, _)| used.metrics.iter().map(String::as_str)).collect();
    let named = format!(
        "{} while schedules run ({}), and `Debits`",
        metrics.len(),
        metrics.join(", ").replace('"', "`")
    );
    rows(
        ["what", "a month", "price"],
        &[
            Row(
                "CloudWatch, alarms",
                format!("{} alarms of {} metrics", settings.alarms, settings.alarm_metrics),
                settings.alarm_metrics as f64 * settings.price("alarm_metric"),
            ),
            Row("CloudWatch, metrics", named, (metrics.len() + 1) as f64 * settings.price("custom_metric")),
            Row("CloudWatch, dashboard", "1 of an account's 3 that are free".to_owned(), 0.0),
            Row(
                "EventBridge, schedules",
                format!("{invocations:.0} invocations"),
                invocations / 1e6 * settings.price("schedules"),
            ),
            Row(
                "Lambda",
                format!("{invocations:.0} requests of 100 ms and 512 MB"),
                invocations / 1e6 * settings.price("lambda_requests")
                    + invocations * 0.05 * settings.price("lambda_gb_second"),
            ),
            Row(
                "DynamoDB, reads",
                format!("{:.0} read units", sum(|used| used.read_units)),
                sum(|used| used.read_units) / 1e6 * settings.price("read_units"),
            ),
            Row(
                "CloudWatch, logs",
                format!("{:.0} KB", sum(|used| used.log_bytes) / 1e3),
                sum(|used| used.log_bytes) / 1e9 * settings.price("logs_gb"),
            ),
            Row("SQS", "an empty queue has no requests".to_owned(), 0.0),
        ],
    )
}

fn storage(settings: &Settings, counts: &Counts) -> String {
    let gb = |bytes: f64| bytes / 1e3;
    let (stored, index) = (gb(counts.table_bytes), gb(counts.index_bytes));
    let usd = (stored + index).mul_add(settings.price("table_gb"), stored * settings.price("recovery_gb"));
    format!(
        "## Storage\n\nA million debits leave {stored:.2} GB in the table and {index:.2} GB in the index. With the backup to any point in \
         time they\ncost ${usd:.2} in each month that they are kept, beside the tables above.\n\n"
    )
}

fn assumptions(settings: &Settings) -> String {
    format!(
        "## What is assumed\n\n\
         - DynamoDB answers a transaction in {TRANSACTION_MS} ms and another request in {REQUEST_MS} ms.\n\
         - A debit takes {} ms of a whole core ([benchmarks](benchmarks.md#the-debit-functions-start)), and a workspace in a batch \
         as much. A\n  function of 1,769 MB has a whole core. A scheduled run takes 100 ms.\n\
         - {WORKSPACES} workspaces spend at random, each as often as the others. Fewer workspaces cost less, since a batch writes once for \
         each.\n\
         - Each has so few workflows, features and people that its month is one item (some ten, with names of a dozen letters).\n  In a \
         larger workspace a debit writes 2 or 3 units of usage in place of 1: $0.63 or $1.25 more a million.\n\
         - The stream has {SHARDS} shards, as that of a new table.\n\
         - A cancelled transaction consumes the write units of its two items; the embedded database reports none.\n\
         - CloudWatch counts {} bytes for each log line beside its text, and compresses kept logs to {:.0} %.\n\
         - No debit is at or below a threshold of a low balance or automatic top-up. An event costs ${:.2} a million, and ${:.2} a GB in the \
         archive.\n",
        settings.cpu_ms,
        26,
        COMPRESSED * 100.0,
        settings.price("events"),
        settings.price("archive_gb"),
    )
}
