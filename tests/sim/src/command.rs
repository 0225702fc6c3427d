//! `cargo sim [--seed N] [--seeds A..B] [--ops N] [--trace]`

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::bugs::{self, Bug};
use crate::faults::ALL;
use crate::run::{Report, run};

const USAGE: &str = "cargo sim [--seed N | --seeds A..B] [--ops N] [--trace]";

/// With how many seeds a planted bug is looked for.
const MOST_SEEDS: u64 = 30;

/// What is asked for.
#[derive(Debug, Clone)]
struct Asked {
    seeds: std::ops::Range<u64>,
    acts: u64,
    trace: bool,
    bug: Option<Bug>,
}

/// What several runs came to.
#[derive(Debug, Default)]
struct Sums {
    calls: u64,
    commits: u64,
    days: i64,
    faults: Vec<u64>,
    answers: BTreeMap<String, u64>,
    findings: Vec<(u64, String)>,
    digests: BTreeMap<u64, String>,
}

/// Runs what the arguments say.
#[must_use]
pub fn run_asked(asked: &[String]) -> Option<ExitCode> {
    let asked = read(asked)?;
    let began = Instant::now();
    let (next, sums) = (AtomicU64::new(asked.seeds.start), Mutex::new(Sums::default()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if !asked.seeds.contains(&seed) {
                        return;
                    }
                    let report = run(seed, asked.acts, asked.bug);
                    sums.lock().unwrap().add(seed, report, &asked);
                }
            });
        }
    });
    let sums = sums.into_inner().unwrap();
    sums.print(&asked, began.elapsed().as_secs());
    Some(if sums.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Plants each bug in turn and looks for it, seed by seed: all of them have to be found.
fn hunt(acts: u64, only: Option<Bug>) -> ExitCode {
    let last = Bug::try_from(bugs::ALL.len()).unwrap();
    let (next, survivors) = (AtomicU64::new(1), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let bug = Bug::try_from(next.fetch_add(1, Ordering::SeqCst)).unwrap();
                    if bug > last {
                        return;
                    }
                    if only.is_some_and(|only| only != bug) {
                        continue;
                    }
                    let (name, _) = bugs::ALL[usize::from(bug) - 1];
                    let mut runs = (1..=MOST_SEEDS).map(|seed| (seed, run(seed, acts, Some(bug)).finding));
                    match runs.find_map(|(seed, finding)| Some((seed, finding?))) {
                        Some((seed, finding)) => {
                            println!("{bug:>3}  {seed:>3} seeds  {name}: {finding:.200}")
                        }
                        None => {
                            println!("{bug:>3}  SURVIVES   {name}");
                            survivors.lock().unwrap().push(bug);
                        }
                    }
                }
            });
        }
    });
    let survivors = survivors.into_inner().unwrap();
    println!("{} bugs, {} survive {survivors:?}", last, survivors.len());
    if survivors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs what the arguments say, or says how to.
#[must_use]
pub fn run_command(asked: &[String]) -> ExitCode {
    if let Some(("mutants", rest)) = asked.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return read(rest).map_or(ExitCode::from(2), |asked| hunt(asked.acts, asked.bug));
    }
    run_asked(asked).unwrap_or_else(|| {
        eprintln!("{USAGE}");
        ExitCode::from(2)
    })
}

fn read(asked: &[String]) -> Option<Asked> {
    let mut read = Asked { seeds: 0..20, acts: 500, trace: false, bug: None };
    let mut asked = asked.iter();
    while let Some(option) = asked.next() {
        match option.as_str() {
            "--trace" => read.trace = true,
            "--seed" => {
                let seed = asked.next()?.parse().ok()?;
                read.seeds = seed..seed + 1;
            }
            "--seeds" => {
                let (first, end) = asked.next()?.split_once("..")?;
                read.seeds = first.parse().ok()?..end.parse().ok()?;
            }
            "--ops" => read.acts = asked.next()?.parse().ok()?,
            "--bug" => read.bug = Some(asked.next()?.parse().ok()?),
            _ => return None,
        }
    }
    Some(read)
}

impl Sums {
    fn add(&mut self, seed: u64, report: Report, asked: &Asked) {
        if asked.trace {
            println!("{}", report.trace.join("\n"));
        } else if let Some(finding) = &report.finding {
            println!("\nseed {seed}: {finding}");
            let last = report.trace.len().saturating_sub(40);
            println!("{}", report.trace[last..].join("\n"));
            println!("see it all: cargo sim --seed {seed} --ops {} --trace", asked.acts);
        }
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
        self.findings.extend(report.finding.map(|finding| (seed, finding)));
    }

    fn print(&self, asked: &Asked, seconds: u64) {
        for (answer, count) in &self.answers {
            println!("{count:>9}  {answer}");
        }
        for ((_, name, _), count) in ALL.iter().zip(&self.faults) {
            println!("{count:>9}  {name}");
        }
        for (seed, digest) in self.digests.iter().filter(|_| asked.seeds.end - asked.seeds.start == 1) {
            println!("seed {seed}: trace {digest}");
        }
        println!(
            "{} seeds, {} acts, {} calls, {} commits, {} days of virtual time, {seconds} s; {} findings",
            self.digests.len(),
            asked.acts * self.digests.len() as u64,
            self.calls,
            self.commits,
            self.days,
            self.findings.len()
        );
    }
}
