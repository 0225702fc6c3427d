//! The template's settings, the benchmark of the function's processor time, and the price list.

use serde_json::Value;

const TEMPLATE: &str = include_str!("../../template.yaml");
const OPERATIONS: &str = include_str!("../../infra/operations.yaml");
const BENCHMARKS: &str = include_str!("../../docs/benchmarks.md");
const PRICES: &str = include_str!("prices.json");

/// What prices depend on besides the calls.
pub struct Settings {
    pub memory_gb: f64,
    pub window_seconds: f64,
    pub parallel: f64,
    pub retention_months: f64,
    pub tracing: String,
    /// API Gateway's line of a call.
    pub access_log: String,
    pub alarms: usize,
    /// The metrics of all alarms. Each metric of an expression is billed.
    pub alarm_metrics: usize,
    /// Invocations of `renewal`, `project` and `notify` by schedules, an hour.
    pub sweeps: f64,
    pub checks: f64,
    pub digests: f64,
    /// The processor time of a debit on a whole core, in milliseconds.
    pub cpu_ms: f64,
    pub prices: Value,
}

impl Settings {
    pub fn read() -> Self {
        let mapped = TEMPLATE.split("    prod:\n").nth(1).unwrap();
        let parameter = TEMPLATE.split("\n  Tracing:\n").nth(1).unwrap();
        let access = TEMPLATE.split("        Format: '").nth(1).unwrap().split("'\n").next().unwrap();
        let both = format!("{TEMPLATE}{OPERATIONS}");
        let alarms = both.matches("Type: AWS::CloudWatch::Alarm\n").count();
        let cpu = BENCHMARKS.lines().find(|line| line.starts_with("| debit | ")).unwrap();
        Self {
            memory_gb: number(TEMPLATE, "    MemorySize: ") / 1024.0,
            window_seconds: number(TEMPLATE, "MaximumBatchingWindowInSeconds: "),
            parallel: number(TEMPLATE, "ParallelizationFactor: "),
            retention_months: number(mapped, "LogRetentionDays: ") / 30.4,
            tracing: after(parameter, "Default: ").to_owned(),
            access_log: access.to_owned(),
            alarms,
            alarm_metrics: both.matches("          MetricStat:\n").count()
                + both.matches("\n      MetricName: ").count(),
            sweeps: 60.0 / number(TEMPLATE, "ScheduleExpression: cron(5/"),
            checks: 60.0
                / number(TEMPLATE.split("        Checks:\n").nth(1).unwrap(), "ScheduleExpression: rate("),
            digests: 60.0
                / number(TEMPLATE.split("        Digests:\n").nth(1).unwrap(), "ScheduleExpression: rate("),
            cpu_ms: cpu.split(" | ").last().unwrap().trim_end_matches(" |").parse().unwrap(),
            prices: serde_json::from_str(PRICES).unwrap(),
        }
    }

    pub fn price(&self, name: &str) -> f64 {
        self.prices["prices"][name]["usd"].as_f64().unwrap_or_else(|| panic!("no price of {name}"))
    }
}

fn after<'a>(text: &'a str, name: &str) -> &'a str {
    let rest = text.split(name).nth(1).unwrap_or_else(|| panic!("no {name}"));
    rest.split_whitespace().next().unwrap()
}

fn number(text: &str, name: &str) -> f64 {
    let digits: String = after(text, name).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{name} is no number"))
}
