//! The command line: `cargo sim [--seed N | --seeds A..B] [--ops N] [--trace]`, and `cargo sim mutants`.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::iter;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::bugs::{self, Bug};
use crate::faults::ALL;
use crate::run::{Report, RunPlan, run};
use crate::shrink::{command, shrink};

const USAGE: &str =
    "cargo sim [--seed N | --seeds A..B] [--ops N] [--trace] [--bug N] [--only ACTS] [--without FAULTS]
cargo sim mutants [--ops N] [--bug N]";

/// The number of seeds that search for a planted bug.
const MAX_SEEDS: u64 = 100;

/// The number of trace lines printed with a finding.
const LINES: usize = 60;

/// A parsed command line.
#[derive(Debug, Clone)]
struct Asked {
    seeds: Range<u64>,
    plan: RunPlan,
    only: Option<Vec<u64>>,
    trace: bool,
}

/// The sums over several runs.
#[derive(Debug, Default)]
struct Sums {
    seeds: u64,
    acts: u64,
    calls: u64,
    commits: u64,
    days: i64,
    faults: Vec<u64>,
    answers: BTreeMap<String, u64>,
    digests: BTreeMap<u64, String>,
    findings: u64,
}

/// Runs the command, or prints the usage.
#[must_use]
pub fn run_command(asked: &[String]) -> ExitCode {
    let (mutants, rest) = match asked.split_first() {
        Some((first, rest)) if first == "mutants" => (true, rest),
        _ => (false, asked),
    };
    let Some(asked) = read(rest) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let passed = if mutants { hunt(&asked.plan) } else { simulate(&asked) };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read(asked: &[String]) -> Option<Asked> {
    let plan = RunPlan { acts: 500, ..RunPlan::default() };
    let mut read = Asked { seeds: 1..21, plan, only: None, trace: false };
    let mut asked = asked.iter();
    while let Some(option) = asked.next() {
        match option.as_str() {
            "--trace" => read.trace = true,
            "--seed" => {
                let seed: u64 = asked.next()?.parse().ok()?;
                read.seeds = seed..seed.checked_add(1)?;
            }
            "--seeds" => {
                let (first, end) = asked.next()?.split_once("..")?;
                read.seeds = first.parse().ok()?..end.parse().ok()?;
            }
            "--ops" => read.plan.acts = asked.next()?.parse().ok()?,
            "--bug" => {
                let bug: Bug = asked.next()?.parse().ok()?;
                read.plan.bug = Some(bug).filter(|bug| (1..=bugs::ALL.len()).contains(&usize::from(*bug)));
            }
            "--only" => {
                read.only =
                    Some(asked.next()?.split(',').map(|act| act.parse().ok()).collect::<Option<_>>()?);
            }
            "--without" => {
                let kind = |name: &str| ALL.iter().position(|(_, known, _)| known.replace(' ', "-") == name);
                read.plan.calm = asked.next()?.split(',').map(kind).collect::<Option<_>>()?;
            }
            _ => return None,
        }
    }
    if let Some(only) = &read.only {
        read.plan.left_out = (0..read.plan.acts).filter(|act| !only.contains(act)).collect();
    }
    Some(read)
}

/// Runs every seed. Returns whether no run has a finding.
fn simulate(asked: &Asked) -> bool {
    let began = Instant::now();
    let sums = Mutex::new(Sums::default());
    on_all_cores(asked.seeds.clone(), |seed| {
        let plan = RunPlan { seed, ..asked.plan.clone() };
        let mut report = run(&plan);
        if report.finding.is_some() && !asked.trace {
            let smaller;
            (smaller, report) = shrink(&plan, report);
            show(&smaller, &report);
        }
        sums.lock().unwrap().add(seed, report, asked.trace);
    });
    let sums = sums.into_inner().unwrap();
    sums.print(began.elapsed().as_secs());
    sums.findings == 0
}

fn on_all_cores(numbers: Range<u64>, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(numbers.start);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if !numbers.contains(&number) {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
}

fn show(plan: &RunPlan, report: &Report) {
    let last = report.trace.len().saturating_sub(LINES);
    let trace = report.trace[last..].join("\n");
    let finding = report.finding.as_deref().unwrap_or_default();
    println!("\nseed {}: {finding}\n{trace}\n{}\n", plan.seed, command(plan));
}

/// Plants each bug, or the one of the plan, and searches for it: first with the seed that is known to find it, then
/// with the other seeds. Returns whether all bugs are found.
fn hunt(plan: &RunPlan) -> bool {
    let survivors = Mutex::new(Vec::new());
    let bugs = match plan.bug {
        Some(bug) => bug.into()..u64::from(bug) + 1,
        None => 1..bugs::ALL.len() as u64 + 1,
    };
    let planted = bugs.clone().count();
    on_all_cores(bugs, |bug| {
        let (name, _, first) = bugs::ALL[bug as usize - 1];
        let planted = |seed| RunPlan { seed, bug: Some(bug as Bug), ..plan.clone() };
        let seeds = iter::once(first).chain((1..=MAX_SEEDS).filter(|seed| *seed != first));
        let mut found = seeds.filter_map(|seed| Some((seed, run(&planted(seed)).finding?)));
        if let Some((seed, finding)) = found.next() {
            println!("{bug:>3}  seed {seed:>3}  {name}: {finding:.160}");
        } else {
            println!("{bug:>3}  SURVIVES  {name}");
            survivors.lock().unwrap().push(bug);
        }
    });
    let survivors = survivors.into_inner().unwrap();
    println!("{planted} bugs, of which {} survive {MAX_SEEDS} seeds {survivors:?}", survivors.len());
    survivors.is_empty()
}

impl Sums {
    fn add(&mut self, seed: u64, report: Report, trace: bool) {
        if trace {
            println!("{}", report.trace.join("\n"));
        }
        self.seeds += 1;
        self.acts += report.acts;
        self.calls += report.calls;
        self.commits += report.commits;
        self.days += report.lasted.as_hours() / 24;
        self.faults.resize(ALL.len(), 0);
        for (sum, count) in self.faults.iter_mut().zip(&report.faults) {
            *sum += count;
        }
        for (answer, count) in report.answers {
            *self.answers.entry(answer).or_default() += count;
        }
        self.digests.insert(seed, report.digest);
        self.findings += u64::from(report.finding.is_some());
    }

    fn print(&self, seconds: u64) {
        for (answer, count) in &self.answers {
            println!("{count:>9}  {answer}");
        }
        for ((_, name, _), count) in ALL.iter().zip(&self.faults) {
            println!("{count:>9}  {name}");
        }
        let mut digests = DefaultHasher::new();
        self.digests.hash(&mut digests);
        println!("traces {:016x}", digests.finish());
        println!(
            "{} seeds, {} acts, {} calls, {} commits, {} days of virtual time, {seconds} s, {} findings",
            self.seeds, self.acts, self.calls, self.commits, self.days, self.findings
        );
    }
}
