//! One run: makes the acts of the plan, and regularly brings the system to rest for the checks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use credits_store::Clock as _;
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use crate::actors::{Act, Actor, LARGE, WORKSPACES};
use crate::answers::Answers;
use crate::bugs::Bug;
use crate::commits::Commits;
use crate::faults::WireFault;
use crate::rest;
use crate::timeline::TimelineEvent;
use crate::world::{SHORT_PAUSE_DAYS, World};

/// The number of acts between two rests.
const ACTS_TO_A_REST: u64 = 50;

/// The number of events after which processing the waiting work counts as endless.
const MAX_HAPPENINGS: u32 = 5_000;

/// The workspaces that subscribe at the start of a run with long pauses.
const SUBSCRIBED: [&str; 2] = ["hold-free", "small"];

/// The report of a run.
#[derive(Debug)]
pub struct Report {
    /// The violated invariant; absent if the run passed.
    pub finding: Option<String>,
    /// The number of acts made.
    pub acts: u64,
    /// The kinds of faults that could occur, as indexes into `faults::ALL`.
    pub kinds: Vec<usize>,
    /// The number of calls.
    pub calls: u64,
    /// The number of checked commits.
    pub commits: u64,
    /// How often each fault has occurred, in the order of `faults::ALL`.
    pub faults: Vec<u64>,
    /// How often each combination of path and status was answered.
    pub answers: BTreeMap<String, u64>,
    pub trace: Vec<String>,
    /// A hash of the trace.
    pub digest: String,
    /// The duration in virtual time.
    pub lasted: SignedDuration,
}

/// The state of a run.
struct SimRun {
    world: Arc<World>,
    tasks: JoinSet<()>,
    commits: Commits,
    answers: Answers,
    looked_at: Timestamp,
    /// A panic, or work that never ends.
    broken: Option<String>,
    acts: u64,
}

/// The parameters of a run.
#[derive(Debug, Clone, Default)]
pub struct RunPlan {
    /// The seed of all choices.
    pub seed: u64,
    /// The number of acts.
    pub acts: u64,
    /// The numbers of the acts to skip.
    pub left_out: BTreeSet<u64>,
    /// The kinds of faults to switch off.
    pub calm: BTreeSet<usize>,
    /// The planted bug, if any.
    pub bug: Option<Bug>,
}

/// Runs a plan to its end or to its first finding, on its own clock.
#[must_use]
pub fn run(plan: &RunPlan) -> Report {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    fastrand::seed(plan.seed);
    runtime.block_on(async move {
        let world = World::new(plan).await;
        let began = world.now();
        let mut run = SimRun {
            tasks: JoinSet::new(),
            commits: Commits::default(),
            answers: Answers::default(),
            looked_at: began,
            broken: None,
            acts: 0,
            world,
        };
        let finding = run.all(plan).await;
        run.tasks.abort_all();
        run.report(finding, began)
    })
}

impl SimRun {
    async fn all(&mut self, plan: &RunPlan) -> Option<String> {
        self.world.set_up().await;
        if self.world.longest_pause_days > SHORT_PAUSE_DAYS {
            // A subscription needs months to pass, so some exist from the first day.
            for (workspace, number) in SUBSCRIBED.into_iter().zip(1..) {
                let actor = Actor::of(&self.world, plan.seed, u64::MAX - number);
                self.tasks.spawn(async move { actor.act(Act::Subscribe, workspace).await });
            }
        }
        if let Some(wrong) = self.come_to_rest(false).await {
            return Some(wrong);
        }
        for number in 0..plan.acts {
            let actor = Actor::of(&self.world, plan.seed, number);
            self.pass(actor.pause()).await;
            let (act, workspace) = actor.draw();
            if !plan.left_out.contains(&number) {
                self.acts += 1;
                self.world.ground.trace.line(&format!("act {number}: {act:?} of {workspace}"));
                self.tasks.spawn(async move { actor.act(act, workspace).await });
            }
            tokio::task::yield_now().await;
            let wrong = match self.check() {
                None if number % ACTS_TO_A_REST == ACTS_TO_A_REST - 1 => self.come_to_rest(false).await,
                wrong => wrong,
            };
            if wrong.is_some() {
                return wrong;
            }
        }
        if let Some(wrong) = self.come_to_rest(false).await {
            return Some(wrong);
        }
        // A hold lasts at most a day.
        self.world.ground.faults.switch(false);
        self.pass(SignedDuration::from_hours(49)).await;
        self.join_all().await;
        // This check comes before any read of a balance, because a read also releases expired holds.
        match rest::holds_have_ended(&self.world) {
            None => self.come_to_rest(true).await,
            wrong => wrong,
        }
    }

    /// Lets virtual time pass, and handles everything scheduled in it.
    async fn pass(&mut self, pause: SignedDuration) {
        let until = self.world.now() + pause;
        loop {
            self.world.feed_stream();
            let fires = self.next_firing(until).await;
            let happens = self.world.ground.timeline.next_at();
            let next = [fires, happens].into_iter().flatten().min();
            let Some(at) = next.filter(|at| *at <= until) else { break };
            self.sleep_until(at).await;
            if fires == Some(at) {
                self.fire().await;
            } else if let Some((_, event)) = self.world.ground.timeline.take() {
                let world = Arc::clone(&self.world);
                self.tasks.spawn(async move { happen(&world, event).await });
            }
        }
        self.sleep_until(until).await;
        while let Some(ended) = self.tasks.try_join_next() {
            self.look_at(ended);
        }
    }

    /// Records a panic of a task as a finding.
    fn look_at(&mut self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended {
            self.broken.get_or_insert(format!("a panic: {error}"));
        }
    }

    async fn join_all(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            self.look_at(ended);
        }
    }

    async fn sleep_until(&self, at: Timestamp) {
        let left = at.duration_since(self.world.ground.clock.now());
        if left.is_positive() {
            tokio::time::sleep(Duration::try_from(left).unwrap()).await;
        } else {
            tokio::task::yield_now().await;
        }
    }

    /// Returns when a schedule next has due work. Checks at most every five minutes.
    async fn next_firing(&mut self, until: Timestamp) -> Option<Timestamp> {
        if until.duration_since(self.looked_at) < SignedDuration::from_mins(5) {
            return None;
        }
        let now = self.world.now();
        let mut next = None;
        for schedule in &self.world.schedules {
            let due = self.world.functions().next_due(&schedule.function).await.unwrap();
            let fires = due.map(|due| schedule.every.at_or_after(due).max(schedule.every.after(now)));
            next = [next, fires].into_iter().flatten().min();
        }
        if next.is_none_or(|next| next > until) {
            self.looked_at = until;
        }
        next
    }

    /// Fires each schedule whose time has come.
    async fn fire(&mut self) {
        let now = self.world.now();
        for schedule in self.world.schedules.clone() {
            if schedule.every.at_or_after(now) != now {
                continue;
            }
            let times = 1 + u32::from(self.world.ground.faults.strikes(WireFault::TwoSchedulers));
            for _ in 0..times {
                let (world, schedule) = (Arc::clone(&self.world), schedule.clone());
                let input = serde_json::from_str(&schedule.input).unwrap();
                self.tasks.spawn(async move { drop(world.invoke(&schedule.function, input).await) });
            }
        }
        self.act_at_the_minute();
        tokio::task::yield_now().await;
    }

    /// Sometimes changes a setting at the minute in which the schedules fire. A cancellation of a subscription that is
    /// due for renewal is the most likely one.
    fn act_at_the_minute(&mut self) {
        let (world, dice) = (&self.world, &self.world.dice);
        if world.ground.faults.are_off() {
            return;
        }
        let (act, workspace) = match world.renewed_now() {
            Some(workspace) if dice.between(0, 2) == 0 => (Act::Cancel, workspace),
            _ if dice.between(0, 39) == 0 => {
                let (workspace, _) = WORKSPACES[dice.between(0, 3) as usize];
                let workspace = if workspace == LARGE { "small" } else { workspace };
                ([Act::Subscribe, Act::Cancel, Act::AutoTopUp][dice.between(0, 2) as usize], workspace)
            }
            _ => return,
        };
        world.ground.trace.line(&format!("at the minute: {act:?} of {workspace}"));
        let (actor, pause) = (Actor::of(world, dice.next(), 0), Duration::from_millis(dice.between(0, 40)));
        self.tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            actor.act(act, workspace).await;
        });
    }

    fn check(&mut self) -> Option<String> {
        if self.broken.is_some() {
            return self.broken.take();
        }
        let table = &self.world.ground.table;
        let wrong = self.commits.check(&table.commits_from(self.commits.seen()));
        wrong.or_else(|| self.answers.check(&self.world.calls.lock().unwrap(), &self.commits, table))
    }

    /// Switches the faults off, ends all tasks, processes all waiting work and checks the sums. Then switches the
    /// faults on again, unless this is the last rest.
    async fn come_to_rest(&mut self, at_last: bool) -> Option<String> {
        self.world.ground.faults.switch(false);
        self.world.skew(false);
        self.world.ground.trace.line("rest");
        self.join_all().await;
        self.world.invoke("renewal", serde_json::json!({ "unstick": true })).await;
        // A claim of a mail ends two minutes after its sender died. Postponed work is due again within an hour.
        for _ in 0..3 {
            self.work_off().await;
            if self.broken.is_some() {
                break;
            }
            self.pass(SignedDuration::from_mins(90)).await;
            self.join_all().await;
        }
        if self.broken.is_none() {
            // A read of the balance releases expired holds. The entries that follow are counted afterwards.
            if let Some(wrong) = rest::balances(&self.world).await {
                return Some(wrong);
            }
            self.work_off().await;
        }
        if let Some(wrong) = self.check() {
            return Some(wrong);
        }
        let wrong = rest::check(&self.world, at_last).await;
        if let Some(wrong) = wrong.or_else(|| self.check()) {
            return Some(wrong);
        }
        self.work_off().await;
        if at_last {
            return rest::history(&self.world).await;
        }
        self.commits.slowest = self.world.skew(true);
        self.world.ground.faults.switch(true);
        None
    }

    /// Handles everything that is scheduled, regardless of its time.
    async fn work_off(&mut self) {
        for happened in 0.. {
            if happened == MAX_HAPPENINGS {
                self.broken.get_or_insert("the waiting work never ends".to_owned());
                break;
            }
            self.world.feed_stream();
            let Some((_, event)) = self.world.ground.timeline.take() else { break };
            tokio::time::sleep(Duration::from_millis(20)).await;
            happen(&self.world, event).await;
        }
    }

    fn report(&self, finding: Option<String>, began: Timestamp) -> Report {
        let trace = &self.world.ground.trace;
        if let Some(finding) = &finding {
            trace.line(&format!("FOUND {finding}"));
        }
        let calls = self.world.calls.lock().unwrap();
        let mut answers = BTreeMap::new();
        for called in calls.iter() {
            let status = called.answered.as_ref().map_or(0, |it| it.reply.status);
            *answers
                .entry(format!("{} {} {status}", called.order.method, rest::route(&called.order.path)))
                .or_default() += 1;
        }
        Report {
            finding,
            acts: self.acts,
            kinds: self.world.ground.faults.kinds(),
            calls: calls.len() as u64,
            commits: self.commits.seen() as u64,
            faults: self.world.ground.faults.counts(),
            answers,
            digest: trace.digest(),
            trace: trace.lines(),
            lasted: self.world.now().duration_since(began),
        }
    }
}

/// Handles an event. If it fails, schedules it again.
async fn happen(world: &Arc<World>, event: TimelineEvent) {
    let timeline = &world.ground.timeline;
    let later = |seconds: u64| world.now() + SignedDuration::from_secs(seconds as i64);
    match event {
        TimelineEvent::Webhook { body, tries } => {
            if !world.deliver(&body).await {
                // After Stripe's three days of attempts, an operator resends the event.
                let at = later(60 << tries.min(9));
                timeline.put(at, TimelineEvent::Webhook { body, tries: tries + 1 });
            }
        }
        TimelineEvent::Handed { function, event, tries } => {
            if world.invoke(&function, event.clone()).await.is_none() {
                // After three attempts the event is in the dead-letter queue. An operator redrives the queue after six
                // hours.
                let at = if tries < 2 { later(60 << tries) } else { later(6 * 3_600) };
                timeline.put(at, TimelineEvent::Handed { function, event, tries: tries + 1 });
            }
        }
        TimelineEvent::Read { shard } => world.read_shard(shard).await,
        TimelineEvent::Request { operation, body } => {
            let (status, _) = world.ground.table.carry_out(&operation, &body, None);
            world.ground.trace.line(&format!("  again: {operation} → {status}"));
        }
        TimelineEvent::Settle { payment } => {
            world.payments.settle(&payment, &world.dice);
        }
        TimelineEvent::EndRefund { refund, status } => {
            let ended = world.payments.provider.lock().unwrap().end_refund(&refund, status);
            world.ground.trace.line(&format!("  Stripe: {refund} ends as {status:?}: {ended:?}"));
            world.payments.tell();
        }
        TimelineEvent::MoveDispute { dispute, mut moves } => {
            let Some(status) = moves.pop() else { return };
            let moved = world.payments.provider.lock().unwrap().move_dispute(&dispute, status);
            world.ground.trace.line(&format!("  Stripe: {dispute} moves to {status:?}: {moved:?}"));
            world.payments.tell();
            let days = world.dice.between(1, 5);
            timeline.put(later(days * 86_400), TimelineEvent::MoveDispute { dispute, moves });
        }
        TimelineEvent::Call(order) => drop(world.call(&order).await),
    }
}
