//! Spenders: storms of debits, workflows, jobs with holds, and debits of the last credit.

use std::sync::Arc;
use std::time::Duration;

use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::{Act, Actor};
use crate::call::Order;

impl Actor {
    /// Makes many concurrent debits, with different keys or with one.
    pub(super) async fn storm(&self, workspace: &'static str) {
        let (one, body) = (self.new_key(), self.debit_body());
        let same = self.once_in(2);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..self.dice.between(4, 16) {
            let (key, body) =
                if same { (one.clone(), body.clone()) } else { (self.new_key(), self.debit_body()) };
            let (world, order) = (Arc::clone(&self.world), Order::post(workspace, "debits", key, body));
            tasks.spawn(async move { world.insist(&order).await });
        }
        tasks.join_all().await;
    }

    /// Makes so many small debits at once that lanes open, and something beside them that has to do with lanes.
    pub(super) async fn be_busy(&self, workspace: &'static str) {
        let gift = json!({ "credits": self.dice.between(100, 2_000).to_string(), "kind": "prepaid", "reason": "a busy day" });
        self.insist(&Order::post(workspace, "grants", self.new_key(), gift)).await;
        let mut tasks = tokio::task::JoinSet::new();
        let (most, calls) = (self.dice.between(1, 8), self.dice.between(2, 6));
        for _ in 0..self.dice.between(8, 20) {
            let orders: Vec<Order> = (0..calls).map(|_| self.small_debit(workspace, most)).collect();
            let world = Arc::clone(&self.world);
            tasks.spawn(async move {
                for order in orders {
                    world.insist(&order).await;
                }
            });
        }
        for _ in 0..self.dice.between(0, 3) {
            tokio::time::sleep(Duration::from_millis(self.dice.between(0, 400))).await;
            Box::pin(self.disturb(workspace)).await;
        }
        tasks.join_all().await;
        if self.once_in(2) {
            self.empty(workspace).await;
        }
    }

    fn small_debit(&self, workspace: &str, most: u64) -> Order {
        let mut body = self.debit_body();
        body["credits"] = json!(self.dice.between(1, most).to_string());
        Order::post(workspace, "debits", self.new_key(), body)
    }

    /// Makes a call that needs the credits of lanes, or changes what lanes depend on.
    async fn disturb(&self, workspace: &'static str) {
        let large = |least, most| self.dice.between(least, most).to_string();
        match self.dice.between(0, 7) {
            0 if workspace != "hold-free" => {
                let mut body = self.hold_body();
                body["credits"] = json!(large(200, 1_500));
                let placed = self.insist(&Order::post(workspace, "holds", self.new_key(), body)).await;
                self.know_holds(workspace, placed.iter().map(|reply| &reply.body));
            }
            1 => {
                let mut body = self.debit_body();
                body["credits"] = json!(large(200, 3_000));
                self.insist(&Order::post(workspace, "debits", self.new_key(), body)).await;
            }
            2 => self.grant(workspace).await,
            3 => self.act_beside(Act::Void, workspace).await,
            4 => self.act_beside(Act::Alerts, workspace).await,
            5 => self.act_beside(Act::AutoTopUp, workspace).await,
            6 if workspace == super::LARGE => self.act_beside(Act::Agree, workspace).await,
            _ => drop(self.call(&Order::get(workspace, "balance")).await),
        }
    }

    /// Debits the whole balance, and repeats the call: a repeated call succeeds although no credits are left. Before that, debits
    /// at times a little more than there is.
    pub(super) async fn empty(&self, workspace: &'static str) {
        let Some(balance) = self.insist(&Order::get(workspace, "balance")).await else { return };
        let all: Option<Decimal> = balance.body["available"].as_str().and_then(|all| all.parse().ok());
        if all.is_none_or(|all| all <= Decimal::ZERO) {
            return;
        }
        let mut body = self.debit_body();
        if let Some(all) = all.filter(|_| self.once_in(2)) {
            let more = Decimal::new(self.dice.between(1, 900_000) as i64, 6);
            body["credits"] = json!((all + more).normalize().to_string());
            self.insist(&Order::post(workspace, "debits", self.new_key(), body.clone())).await;
        }
        body["credits"] = balance.body["available"].clone();
        let order = Order::post(workspace, "debits", self.new_key(), body);
        for _ in 0..3 {
            self.insist(&order).await;
        }
    }

    /// Runs a workflow of several steps. The last step may fail the run while another call completes it.
    pub(super) async fn run_workflow(&self, workspace: &str) {
        if self.once_in(6) {
            return self.fail_again_and_again(workspace).await;
        }
        let Some(run) = self.start_run(workspace).await else { return };
        let complete = Order::post(workspace, &format!("runs/{run}/complete"), self.new_key(), json!({}));
        for step in 0..self.dice.between(1, 3) {
            let too_much = self.once_in(4);
            let order = self.step_of(workspace, &run, step, too_much);
            let reply = if too_much && self.once_in(2) {
                tokio::join!(biased; self.insist(&order), self.insist(&complete)).0
            } else {
                self.insist(&order).await
            };
            if reply.is_none_or(|reply| reply.status != 201) {
                return;
            }
        }
        self.insist(&complete).await;
    }

    /// Starts several runs within the hour. All fail for insufficient credits.
    async fn fail_again_and_again(&self, workspace: &str) {
        for _ in 0..self.dice.between(2, 4) {
            let Some(run) = self.start_run(workspace).await else { return };
            self.insist(&self.step_of(workspace, &run, 0, true)).await;
            tokio::time::sleep(Duration::from_secs(self.dice.between(0, 900))).await;
        }
    }

    async fn start_run(&self, workspace: &str) -> Option<String> {
        let number = self.dice.between(0, 2);
        let trigger = ["manual", "scheduled", "event"][number as usize];
        let started = json!({ "workflow_id": format!("w{number}"), "trigger": trigger });
        let run = self.insist(&Order::post(workspace, "runs", self.new_key(), started)).await?;
        Some(run.body["run_id"].as_str()?.to_owned())
    }

    fn step_of(&self, workspace: &str, run: &str, step: u64, too_much: bool) -> Order {
        let mut body = self.debit_body();
        body["consumer"] = json!({ "kind": "workflow_step", "workflow_id": "w1", "run_id": run, "step_id": format!("s{step}") });
        if too_much {
            body["credits"] = json!("900000");
        }
        Order::post(workspace, "debits", self.new_key(), body)
    }

    pub(super) async fn place_hold(&self, workspace: &'static str) {
        if self.once_in(4) {
            Box::pin(self.place_around_a_grant(workspace)).await;
            return;
        }
        let mut body = if self.once_in(3) { self.priced_hold_body() } else { self.hold_body() };
        let soon_over = self.once_in(3);
        if soon_over {
            body["ttl_seconds"] = json!(self.dice.between(1, 20));
        }
        let order = Order::post(workspace, "holds", self.new_key(), body);
        let placed = Box::pin(self.beside_a_grant(workspace, self.insist(&order))).await;
        self.know_holds(workspace, placed.iter().map(|reply| &reply.body));
        let Some(hold) = placed.as_ref().and_then(|reply| reply.body["hold_id"].as_str()) else { return };
        if soon_over {
            // The AI call takes longer than its hold lasts.
            tokio::time::sleep(Duration::from_secs(self.dice.between(1, 60))).await;
            let path = format!("holds/{hold}/captures");
            self.insist(&Order::post(workspace, &path, self.new_key(), self.debit_body())).await;
        }
    }

    /// Places several holds while a grant closes the epoch.
    async fn place_around_a_grant(&self, workspace: &'static str) {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..self.dice.between(3, 8) {
            let pause = Duration::from_millis(self.dice.between(0, 10));
            let order = Order::post(workspace, "holds", self.new_key(), self.hold_body());
            let world = Arc::clone(&self.world);
            tasks.spawn(async move {
                tokio::time::sleep(pause).await;
                world.insist(&order).await
            });
        }
        Box::pin(self.grant(workspace)).await;
        let placed = tasks.join_all().await;
        self.know_holds(workspace, placed.iter().flatten().map(|reply| &reply.body));
    }

    pub(super) async fn place_holds(&self, workspace: &str) {
        let mut body = self.hold_body();
        body["count"] = json!(self.dice.between(2, 4));
        let placed = self.insist(&Order::post(workspace, "holds/batch", self.new_key(), body)).await;
        let placed = placed.iter().filter_map(|reply| reply.body["holds"].as_array()).flatten();
        self.know_holds(workspace, placed);
    }

    fn know_holds<'a>(&self, workspace: &str, placed: impl Iterator<Item = &'a Value>) {
        let ids: Vec<String> = placed.filter_map(|hold| Some(hold["hold_id"].as_str()?.to_owned())).collect();
        self.known.lock().unwrap().holds.entry(workspace.to_owned()).or_default().extend(ids);
    }

    pub(super) async fn go_on_with_holds(&self, act: Act, workspace: &str) {
        let holds = self.known.lock().unwrap().holds.get(workspace).cloned().unwrap_or_default();
        let recent = &holds[holds.len().saturating_sub(6)..];
        let Some(hold) = self.one_of(recent) else { return };
        let (path, body) = match act {
            Act::Capture if self.once_in(5) => {
                Box::pin(self.use_up(workspace, &hold)).await;
                return;
            }
            Act::Capture => {
                let mut body = if self.once_in(4) { self.priced_body() } else { self.debit_body() };
                body["extend"] = json!(self.once_in(2));
                (format!("holds/{hold}/captures"), body)
            }
            Act::SettleAll => ("holds/batch/settle".to_owned(), json!({ "hold_ids": recent })),
            _ => {
                let body = match self.dice.between(0, 3) {
                    0 => json!({}),
                    3 => self.priced_settlement(),
                    1 => json!({ "credits": self.dice.between(1, 50).to_string() }),
                    _ => json!({ "credits": self.dice.between(1, 200).to_string(), "extend": true }),
                };
                (format!("holds/{hold}/settle"), body)
            }
        };
        let order = Order::post(workspace, &path, self.new_key(), body);
        Box::pin(self.beside_a_grant(workspace, self.insist(&order))).await;
        if self.once_in(3) {
            self.insist(&order).await;
        }
    }

    /// Captures all that a hold keeps, and then settles it with two concurrent calls.
    async fn use_up(&self, workspace: &str, hold: &str) {
        let Some(read) = self.insist(&Order::get(workspace, &format!("holds/{hold}"))).await else { return };
        let mut body = self.debit_body();
        body["credits"] = read.body["remaining"].clone();
        if read.body["status"] != "open" || body["credits"] == "0" {
            return;
        }
        self.insist(&Order::post(workspace, &format!("holds/{hold}/captures"), self.new_key(), body)).await;
        let settle = || Order::post(workspace, &format!("holds/{hold}/settle"), self.new_key(), json!({}));
        let (one, other) = (settle(), settle());
        tokio::join!(biased; self.insist(&one), self.insist(&other));
    }

    /// Awaits a future, in half of all cases while a grant closes the epoch.
    async fn beside_a_grant<T>(&self, workspace: &str, doing: impl Future<Output = T>) -> T {
        if !self.once_in(2) {
            return doing.await;
        }
        let pause = Duration::from_millis(self.dice.between(0, 40));
        let done = async {
            tokio::time::sleep(pause).await;
            doing.await
        };
        let ((), done) = tokio::join!(biased; Box::pin(self.grant(workspace)), done);
        done
    }
}
