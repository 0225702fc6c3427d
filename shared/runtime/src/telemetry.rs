//! Telemetry: what a deployed function tells of itself on its standard output: logs as JSON, and beside them metrics in
//! `CloudWatch`'s embedded format.
//!
//! A metric has no workspace for a dimension: each value of a dimension is a metric of its own, and is paid for. What
//! each means, and what rings when, is in `docs/runbook.md`. Where nothing was started, as in the local stack, what is
//! counted goes nowhere.

use std::io::Write;
use std::sync::OnceLock;

use credits_core::credits::Credits;
use metrics::Unit;
use metrics_cloudwatch_embedded::{Builder, Collector};

use crate::settings::Settings;
use crate::start::StartError;

/// Where `CloudWatch` keeps our metrics.
pub const NAMESPACE: &str = "AiCredits";

static COLLECTOR: OnceLock<&'static Collector> = OnceLock::new();

/// Starts logs and metrics, once a process.
pub fn start(settings: Settings) -> Result<(), StartError> {
    log_to(std::io::stdout);
    collect(&settings.stack_name())
}

/// Starts logs alone, to somewhere else than the standard output.
pub fn log_to<W: Write>(writer: impl Fn() -> W + Send + Sync + 'static) {
    tracing_subscriber::fmt()
        .json()
        .with_target(false)
        .with_span_list(false)
        .without_time()
        .flatten_event(true)
        .with_writer(writer)
        .init();
}

/// Starts metrics alone, which a stack's name tells apart from those of another deployment.
pub fn collect(stack: &str) -> Result<(), StartError> {
    let builder = Builder::new().cloudwatch_namespace(NAMESPACE).with_dimension("Stack", stack.to_owned());
    let collector = builder.init().map_err(|_| StartError::Part("recorder of metrics"))?;
    metrics::describe_histogram!("StepMicroseconds", Unit::Microseconds, "");
    metrics::describe_histogram!("SweepLagSeconds", Unit::Seconds, "");
    COLLECTOR.get_or_init(|| collector);
    Ok(())
}

/// Writes down what was counted since the last time.
pub fn flush() {
    flush_to(std::io::stdout());
}

/// The same, to somewhere else than the standard output.
pub fn flush_to(mut writer: impl Write) {
    let Some(collector) = COLLECTOR.get() else { return };
    // In one piece: the standard output looks for the end of a line in each that it is given.
    let mut lines = Vec::new();
    if let Err(error) = collector.flush(&mut lines).and_then(|()| writer.write_all(&lines)) {
        tracing::error!(%error, "metrics could not be written");
    }
}

/// Counts credits that were spent.
pub fn spent(credits: Credits) {
    // A metric is a float, as CloudWatch has it, and no account is kept by it.
    if let Ok(credits) = credits.to_string().parse::<f64>() {
        metrics::histogram!("CreditsSpent").record(credits);
    }
}
