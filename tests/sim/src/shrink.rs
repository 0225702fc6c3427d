//! Shrinking: reduces a run that has a finding to a small run that still has one.

use crate::faults::ALL;
use crate::run::{Report, RunPlan, run};

/// The largest number of runs that shrinking may take.
const MAX_RUNS: u32 = 120;

/// Returns a plan with fewer acts and faults that still leads to a finding, and its report.
#[must_use]
pub fn shrink(plan: &RunPlan, report: Report) -> (RunPlan, Report) {
    let mut smallest = Smallest {
        plan: RunPlan { acts: ends_at(&report).unwrap_or(plan.acts), ..plan.clone() },
        report,
        runs: 0,
    };
    for kind in smallest.report.kinds.clone() {
        smallest.try_with(|plan| plan.calm.extend([kind]));
    }
    let mut size = smallest.plan.acts.div_ceil(2);
    while size > 0 {
        let mut first = 0;
        while first < smallest.plan.acts {
            let acts = first..(first + size).min(smallest.plan.acts);
            if !acts.clone().all(|act| smallest.plan.left_out.contains(&act)) {
                smallest.try_with(|plan| plan.left_out.extend(acts.clone()));
            }
            first += size;
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    (smallest.plan, smallest.report)
}

struct Smallest {
    plan: RunPlan,
    report: Report,
    runs: u32,
}

impl Smallest {
    fn try_with(&mut self, change: impl FnOnce(&mut RunPlan)) {
        if self.runs >= MAX_RUNS {
            return;
        }
        self.runs += 1;
        let mut plan = self.plan.clone();
        change(&mut plan);
        let report = run(&plan);
        if report.finding.is_some() {
            let acts = ends_at(&report).unwrap_or(plan.acts).min(plan.acts);
            (self.plan, self.report) = (RunPlan { acts, ..plan }, report);
        }
    }
}

/// Returns the number of acts that a run made before it ended.
fn ends_at(report: &Report) -> Option<u64> {
    let act = report
        .trace
        .iter()
        .rev()
        .find_map(|line| line.split_once(" act ")?.1.split(':').next()?.parse().ok());
    act.map(|act: u64| act + 1)
}

/// Returns the command that repeats a plan's run with its trace.
#[must_use]
pub fn command(plan: &RunPlan) -> String {
    let listed = |option: &str, values: Vec<String>| match &values[..] {
        [] => String::new(),
        values => format!(" {option} {}", values.join(",")),
    };
    let done = (0..plan.acts).filter(|act| !plan.left_out.contains(act) && !plan.left_out.is_empty());
    let (seed, acts) = (plan.seed, plan.acts);
    let bug = listed("--bug", plan.bug.iter().map(ToString::to_string).collect());
    let only = listed("--only", done.map(|act| act.to_string()).collect());
    let calm = plan.calm.iter().map(|kind| ALL[*kind].1.replace(' ', "-"));
    let without = listed("--without", calm.collect());
    format!("cargo sim --seed {seed} --ops {acts}{bug}{only}{without} --trace")
}
