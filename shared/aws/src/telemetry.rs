//! Telemetry: the logs of a deployed function as JSON on standard output, and its metrics beside them in `CloudWatch`'s
//! embedded format.
//!
//! A metric has no dimension for the workspace, because `CloudWatch` bills each value of a dimension as a metric of its
//! own, for $0.30 a month. Debits are counted from the log line `answered` by a filter in `template.yaml`, because a second
//! line a call costs more than the filter. `docs/runbook.md` describes the metrics and alarms. Without [`start`] or [`collect`], as in the local stack,
//! metrics are discarded.

use std::io::Write;
use std::sync::OnceLock;

use metrics::Unit;
use metrics_cloudwatch_embedded::{Builder, Collector};

use crate::settings::Settings;
use crate::start_error::StartError;

/// The namespace of the metrics in `CloudWatch`.
pub const NAMESPACE: &str = "AiCredits";

static COLLECTOR: OnceLock<&'static Collector> = OnceLock::new();

/// Starts logs and metrics. Call it once per process.
pub fn start(settings: Settings) -> Result<(), StartError> {
    log_to(std::io::stdout);
    collect(&settings.stack_name())
}

/// Starts logs only, to another writer than standard output.
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

/// Starts metrics only. The stack's name distinguishes them from those of another deployment.
pub fn collect(stack: &str) -> Result<(), StartError> {
    let builder = Builder::new().cloudwatch_namespace(NAMESPACE).with_dimension("Stack", stack.to_owned());
    let collector = builder.init().map_err(|_| StartError::Part("recorder of metrics"))?;
    metrics::describe_histogram!("StepMicroseconds", Unit::Microseconds, "");
    metrics::describe_histogram!("SweepLagSeconds", Unit::Seconds, "");
    COLLECTOR.get_or_init(|| collector);
    Ok(())
}

/// Writes the metrics since the last flush to standard output.
pub fn flush() {
    flush_to(std::io::stdout());
}

/// Writes the metrics since the last flush to a writer.
pub fn flush_to(mut writer: impl Write) {
    let Some(collector) = COLLECTOR.get() else { return };
    // One write for all lines: standard output searches each write for the end of a line.
    let mut lines = Vec::new();
    if let Err(error) = collector.flush(&mut lines).and_then(|()| writer.write_all(&lines)) {
        tracing::error!(%error, "metrics could not be written");
    }
}
