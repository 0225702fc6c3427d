//! `cargo local demo`: creates a workspace with half a year of history.
//!
//! The workspace has three workflows, four people, a bulk job, and a month without credits. Every change is a call of
//! the functions, as the hub would send it, on a clock that starts half a year ago.

use axum::http::Method;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{Stack, StackError};

/// The demo workspace's id.
pub const WORKSPACE: &str = "demo";

/// The length of its history, in days.
const DAYS: i64 = 183;

/// The hour at which a working day begins, in UTC.
const MORNING: i8 = 7;

/// The days on which something changes, counted from the first day.
const LEADS_FROM: i64 = 70;
const BULK_JOB: i64 = 80;
const NOBODY_TOPS_UP: std::ops::Range<i64> = 96..124;
const SUBSCRIBED: i64 = 124;

/// The balance below which Ada buys a pack, in credits.
const LOW: i64 = 200;

const PEOPLE: [(&str, &str, &str); 6] = [
    ("ada", "assistant", "text.generate"),
    ("ben", "assistant", "text.summarize"),
    ("chloe", "draft", "text.generate"),
    ("ada", "draft", "document.generate"),
    ("dev", "assistant", "reasoning.chain"),
    ("chloe", "tidy", "text.extract"),
];

/// A history in progress.
struct Life<'a> {
    stack: &'a Stack,
    token: String,
    calls: u64,
}

/// A workflow of the workspace.
struct Workflow {
    id: &'static str,
    trigger: &'static str,
    steps: &'static [Step],
}

/// An AI step: its id, its operation, its model, and its size in records or in thousands of tokens.
type Step = (&'static str, &'static str, &'static str, u64);

const TRIAGE: Workflow = Workflow {
    id: "inbox-triage",
    trigger: "event",
    steps: &[("classify", "text.classify", "small", 1), ("extract", "text.extract", "standard", 1)],
};
const LEADS: Workflow = Workflow {
    id: "lead-enrichment",
    trigger: "scheduled",
    steps: &[("enrich", "record.enrich", "standard", 80), ("summarize", "text.summarize", "standard", 2)],
};
const REPORT: Workflow = Workflow {
    id: "weekly-report",
    trigger: "scheduled",
    steps: &[("reason", "reasoning.chain", "standard", 3), ("write", "document.generate", "standard", 4)],
};

/// Returns the morning of the history's first day.
#[must_use]
pub fn born(now: Timestamp) -> Option<Timestamp> {
    let first = now.checked_sub(SignedDuration::from_hours(DAYS.saturating_mul(24))).ok()?;
    let day = first.to_zoned(TimeZone::UTC).date();
    Some(day.at(MORNING, 0, 0, 0).to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Plays the history up to `now`, unless the workspace exists.
pub async fn live(stack: &Stack, now: Timestamp) -> Result<(), StackError> {
    let token = stack.token("*", "credits:spend credits:read credits:manage")?;
    let mut life = Life { stack, token, calls: 0 };
    if life.call(Method::GET, "", None).await?.0 == 200 {
        return Ok(());
    }
    let born = stack.now();
    life.begin().await?;
    for day in 0..=DAYS {
        let Some(morning) = later(born, SignedDuration::from_hours(day.saturating_mul(24))) else { break };
        if morning > now {
            break;
        }
        life.day(day, morning, now).await?;
    }
    stack.live_until(now).await
}

fn later(instant: Timestamp, by: SignedDuration) -> Option<Timestamp> {
    instant.checked_add(by).ok()
}

/// Returns a number from 0 to `faces - 1`, the same in each run.
fn roll(day: i64, of: i64, faces: i64) -> i64 {
    let mixed = day.wrapping_mul(7919).wrapping_add(of.wrapping_mul(104_729)).wrapping_mul(31_337);
    mixed.wrapping_shr(3).rem_euclid(faces.max(1))
}

impl Life<'_> {
    async fn begin(&mut self) -> Result<(), StackError> {
        let profile =
            json!({ "name": "Acme Studio", "plan": "team", "billing_email": "billing@acme.example" });
        self.insist(Method::PUT, "", &profile).await?;
        let until = later(self.stack.now(), SignedDuration::from_hours(24 * 45));
        let welcome =
            json!({ "credits": "250", "kind": "promotional", "expires_at": until, "reason": "Welcome" });
        self.insist(Method::POST, "/grants", &welcome).await?;
        self.buy("pack_1k").await?;
        let recipients = ["ada@acme.example", "billing@acme.example"];
        let alert =
            json!({ "low_balance": { "enabled": true, "threshold": "200", "recipients": recipients } });
        self.insist(Method::PUT, "/alerts", &alert).await.map(drop)
    }

    async fn day(&mut self, day: i64, morning: Timestamp, now: Timestamp) -> Result<(), StackError> {
        let weekday = morning.to_zoned(TimeZone::UTC).weekday();
        let works = !matches!(weekday, Weekday::Saturday | Weekday::Sunday);
        self.stack.live_until(morning).await?;
        self.money(day).await?;
        let mut jobs: Vec<(i64, Job)> = Vec::new();
        let emails = if works { roll(day, 1, 3).saturating_add(1) } else { 1 };
        jobs.extend((0..emails).map(|at| (at.saturating_mul(140), Job::Run(&TRIAGE))));
        if day >= LEADS_FROM && works {
            jobs.extend([(20, Job::Run(&LEADS)), (320, Job::Run(&LEADS))]);
        }
        if weekday == Weekday::Monday {
            jobs.push((10, Job::Run(&REPORT)));
        }
        if works {
            let actions = roll(day, 2, 4).saturating_add(day.wrapping_div(40)).saturating_add(1);
            jobs.extend((0..actions).map(|at| (at.saturating_mul(55).saturating_add(30), Job::Action(at))));
        }
        if day == BULK_JOB {
            jobs.push((60, Job::Bulk));
        }
        jobs.sort_by_key(|(minute, _)| *minute);
        for (minute, job) in jobs {
            let jitter = roll(day, minute, 600);
            let after = SignedDuration::from_mins(minute).saturating_add(SignedDuration::from_secs(jitter));
            match later(morning, after).filter(|at| *at < now) {
                Some(at) => self.stack.sleep_until(at)?,
                None => break,
            }
            self.work(day, job).await?;
        }
        Ok(())
    }

    /// Buys credits when the balance is low, except in the weeks in which Ada is away. Starts the subscription on its
    /// day.
    async fn money(&mut self, day: i64) -> Result<(), StackError> {
        if day == BULK_JOB {
            self.buy("pack_1k").await?;
        }
        if day == SUBSCRIBED {
            self.buy("pack_1k").await?;
            let opened = self.insist(Method::PUT, "/subscription", &json!({ "tier": "tier_2k" })).await?;
            self.pay(&opened).await?;
            let until = later(self.stack.now(), SignedDuration::from_hours(24 * 75));
            let sorry =
                json!({ "credits": "400", "kind": "promotional", "expires_at": until, "reason": "Sorry" });
            self.insist(Method::POST, "/grants", &sorry).await?;
        }
        let (_, balance) = self.call(Method::GET, "/balance", None).await?;
        let whole =
            balance["available"].as_str().and_then(|text| text.split('.').next()?.parse::<i64>().ok());
        if whole.is_some_and(|whole| whole < LOW) && !NOBODY_TOPS_UP.contains(&day) {
            self.buy("pack_1k").await?;
        }
        // The stand-in signs events with the time at which it creates them. Deliver them before the clock moves.
        self.stack.live_until(self.stack.now()).await
    }

    async fn buy(&mut self, pack: &str) -> Result<(), StackError> {
        let opened = self.insist(Method::POST, "/top-ups", &json!({ "pack": pack })).await?;
        self.pay(&opened).await
    }

    /// Pays a checkout if the answer names one. A charge of a stored card opens none.
    async fn pay(&mut self, opened: &Value) -> Result<(), StackError> {
        let Some(checkout) = opened["checkout_id"].as_str() else { return Ok(()) };
        if self.stack.pay(checkout).await { Ok(()) } else { Err(StackError::Part("demo's payment")) }
    }

    async fn work(&mut self, day: i64, job: Job) -> Result<(), StackError> {
        match job {
            Job::Run(workflow) => self.run(day, workflow).await,
            Job::Action(at) => {
                let person = usize::try_from(roll(day, at, 6)).ok().and_then(|at| PEOPLE.get(at));
                let Some((user, feature, operation)) = person else { return Ok(()) };
                let consumer = json!({ "kind": "action", "feature": feature, "user_id": user });
                let tokens = roll(day, at.wrapping_add(9), 30).unsigned_abs().saturating_mul(100);
                let units = json!({ "input_tokens": 400_u64.saturating_add(tokens), "output_tokens": 350 });
                self.debit(operation, "standard", &units, &consumer).await.map(drop)
            }
            Job::Bulk => self.bulk(day).await,
        }
    }

    /// Runs the bulk job: forty captures from eight holds.
    async fn bulk(&mut self, day: i64) -> Result<(), StackError> {
        let consumer = json!({
            "kind": "bulk", "job_id": "crm-clean-up", "feature": "bulk-enrich", "list_id": "crm",
            "user_id": "dev",
        });
        let body = json!({ "credits": "60", "count": 8, "ttl_seconds": 3_600, "operation": "record.enrich",
            "consumer": consumer });
        let placed = self.insist(Method::POST, "/holds/batch", &body).await?;
        let holds = placed["holds"].as_array().into_iter().flatten();
        let ids: Vec<&str> = holds.filter_map(|hold| hold["hold_id"].as_str()).collect();
        for (part, id) in (0..40_i64).zip(ids.iter().cycle()) {
            let records = 80_i64.saturating_add(roll(day, part, 40));
            let units = json!({ "records": records });
            let body = json!({ "operation": "record.enrich", "model": "standard", "units": units,
                "consumer": consumer, "extend": true });
            self.insist(Method::POST, &format!("/holds/{id}/captures"), &body).await?;
        }
        self.insist(Method::POST, "/holds/batch/settle", &json!({ "hold_ids": ids })).await.map(drop)
    }

    async fn run(&mut self, day: i64, workflow: &Workflow) -> Result<(), StackError> {
        let body = json!({ "workflow_id": workflow.id, "trigger": workflow.trigger });
        let run = self.insist(Method::POST, "/runs", &body).await?;
        for (step, operation, model, size) in workflow.steps {
            let consumer = json!({
                "kind": "workflow_step", "workflow_id": workflow.id, "run_id": run["run_id"], "step_id": step,
            });
            let more = roll(day, i64::try_from(*size).unwrap_or_default(), 5).unsigned_abs();
            let units = if *operation == "record.enrich" {
                json!({ "records": size.saturating_add(more) })
            } else {
                json!({ "input_tokens": size.saturating_mul(900), "output_tokens": size.saturating_mul(120) })
            };
            if !self.debit(operation, model, &units, &consumer).await? {
                return Ok(());
            }
        }
        let run_id = run["run_id"].as_str().unwrap_or_default();
        self.insist(Method::POST, &format!("/runs/{run_id}/complete"), &json!({})).await.map(drop)
    }

    /// Debits an AI call, and returns whether the balance covered it.
    async fn debit(
        &mut self,
        operation: &str,
        model: &str,
        units: &Value,
        consumer: &Value,
    ) -> Result<bool, StackError> {
        let body = json!({ "operation": operation, "model": model, "units": units, "consumer": consumer });
        match self.call(Method::POST, "/debits", Some(&body)).await?.0 {
            201 => Ok(true),
            402 => Ok(false),
            _ => Err(StackError::Part("demo's debit")),
        }
    }

    async fn insist(&mut self, method: Method, path: &str, body: &Value) -> Result<Value, StackError> {
        let (status, answer) = self.call(method, path, Some(body)).await?;
        if (200..300).contains(&status) { Ok(answer) } else { Err(StackError::Part("demo")) }
    }

    async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), StackError> {
        self.calls = self.calls.saturating_add(1);
        let (path, key) = (format!("/v1/workspaces/{WORKSPACE}{path}"), format!("life-{}", self.calls));
        self.stack.call((method, &path), &self.token, &key, body).await
    }
}

/// A job of a day.
#[derive(Clone, Copy)]
enum Job {
    Run(&'static Workflow),
    /// A person's action in the app. The number makes each action different.
    Action(i64),
    Bulk,
}
