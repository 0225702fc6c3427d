//! Who calls: a hub with its workflows, people, bulk jobs, an operator; payers, and the provider who tells of them.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use credits_local::provider::Outcome;
use jiff::SignedDuration;
use model::Dice;
use serde_json::{Value, json};

use crate::call::{Order, Reply};
use crate::faults::Fault;
use crate::timeline::Event;
use crate::world::World;

mod bodies;

/// The workspaces, with their plans: `hold-free` never has a hold, so that its expiries can be foretold to the credit.
pub const WORKSPACES: [(&str, &str); 4] =
    [("hold-free", "team"), ("bulky", "pro"), ("large", "enterprise"), ("small", "starter")];

/// The workspace that has an agreement.
const LARGE: &str = "large";

/// How often a caller tries.
const MOST_TRIES: u32 = 4;

/// What somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Act {
    Debit,
    PricedDebit,
    Storm,
    Batch,
    Run,
    PlaceHold,
    PlaceHolds,
    Capture,
    Settle,
    SettleAll,
    TopUp,
    Subscribe,
    Cancel,
    Grant,
    Void,
    Refund,
    Dispute,
    Agree,
    AutoTopUp,
    Alerts,
    Card,
    Balance,
    Ledger,
    Usage,
    ReusedKey,
}

/// Everything that is done, with its weight.
const ACTS: [(Act, u64); 25] = [
    (Act::Debit, 30),
    (Act::PricedDebit, 8),
    (Act::Storm, 2),
    (Act::Batch, 5),
    (Act::Run, 6),
    (Act::PlaceHold, 7),
    (Act::PlaceHolds, 2),
    (Act::Capture, 10),
    (Act::Settle, 6),
    (Act::SettleAll, 2),
    (Act::TopUp, 7),
    (Act::Subscribe, 4),
    (Act::Cancel, 1),
    (Act::Grant, 6),
    (Act::Void, 2),
    (Act::Refund, 2),
    (Act::Dispute, 1),
    (Act::Agree, 2),
    (Act::AutoTopUp, 2),
    (Act::Alerts, 1),
    (Act::Card, 2),
    (Act::Balance, 8),
    (Act::Ledger, 2),
    (Act::Usage, 2),
    (Act::ReusedKey, 2),
];

/// Somebody who does one thing, by choices of their own: what others do changes none of them.
#[derive(Debug)]
pub struct Actor {
    /// Where.
    pub world: Arc<World>,
    /// Their choices.
    pub dice: Dice,
}

impl Deref for Actor {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Actor {
    /// The actor of a number.
    #[must_use]
    pub fn of(world: &Arc<World>, seed: u64, number: u64) -> Self {
        let dice = Dice::of(seed ^ Dice::of(number).next());
        Self { world: Arc::clone(world), dice }
    }

    fn once_in(&self, times: u64) -> bool {
        self.dice.between(1, times) == 1
    }

    fn one_of<T: Clone>(&self, several: &[T]) -> Option<T> {
        let last = several.len().checked_sub(1)?;
        several.get(self.dice.between(0, last as u64) as usize).cloned()
    }

    /// How long it is to the act: mostly moments, and now and then days.
    #[must_use]
    pub fn pause(&self) -> SignedDuration {
        let between = |least, most| self.dice.between(least, most) as i64;
        SignedDuration::from_millis(match self.dice.between(0, 99) {
            0..50 => between(0, 60),
            50..85 => between(60, 20_000),
            85..97 => between(20_000, 7_200_000),
            _ => between(7_200_000, 6 * 86_400_000),
        })
    }

    /// Draws what is done, and for whom.
    pub fn draw(&self) -> (Act, &'static str) {
        let all: u64 = ACTS.iter().map(|(_, weight)| weight).sum();
        let mut at = self.dice.between(1, all);
        let drawn = ACTS.iter().find(|(_, weight)| {
            let here = at <= *weight;
            at = at.saturating_sub(*weight);
            here
        });
        let (act, _) = drawn.unwrap();
        let (workspace, _) = self.one_of(&WORKSPACES).unwrap();
        match act {
            Act::Agree => (*act, LARGE),
            Act::Subscribe | Act::Cancel if workspace == LARGE => (*act, "small"),
            Act::PlaceHold | Act::PlaceHolds if workspace == "hold-free" => (*act, "bulky"),
            _ => (*act, workspace),
        }
    }
}

impl World {
    /// Makes the workspaces, each with something to begin with.
    pub async fn set_up(&self) {
        for (workspace, plan) in WORKSPACES {
            let profile = json!({ "name": workspace, "plan": plan, "billing_email": "people@example.com" });
            self.insist(&Order::put(workspace, "", profile)).await.unwrap();
            let grant = json!({ "credits": "500", "kind": "prepaid", "reason": "to begin with" });
            self.insist(&Order::post(workspace, "grants", self.new_key(), grant)).await.unwrap();
        }
    }

    /// Calls until an answer comes that tells what became of the call, or the caller is gone.
    pub async fn insist(&self, order: &Order) -> Option<Reply> {
        let faults = &self.ground.faults;
        if order.key.is_some() && faults.strikes(Fault::CalledLater) {
            let at = self.now() + SignedDuration::from_mins(faults.between(11, 40) as i64);
            self.ground.timeline.put(at, Event::Call(order.clone()));
        }
        for _ in 0..MOST_TRIES {
            let reply = self.call(order).await;
            if let Some(reply) = reply.filter(|reply| !reply.is_unsure()) {
                return Some(reply);
            }
            if faults.strikes(Fault::CallerGone) {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(faults.between(50, 1_500))).await;
        }
        None
    }
}

impl Actor {
    /// Does something.
    pub async fn act(self, act: Act, workspace: &'static str) {
        let post = |path: &str, body: Value| Order::post(workspace, path, self.new_key(), body);
        match act {
            Act::Debit => drop(self.insist(&post("debits", self.debit_body())).await),
            Act::PricedDebit => drop(self.insist(&post("debits", self.priced_body())).await),
            Act::Storm => Box::pin(self.storm(workspace)).await,
            Act::Batch => {
                let lines: Vec<Value> = (0..self.dice.between(1, 6)).map(|_| self.debit_body()).collect();
                let body = json!({ "lines": lines, "partial": self.once_in(2) });
                self.insist(&post("debits/batch", body)).await;
            }
            Act::Run => self.run_workflow(workspace).await,
            Act::PlaceHold => {
                let order = post("holds", self.hold_body());
                let placed = Box::pin(self.beside_a_grant(workspace, self.insist(&order))).await;
                self.know_holds(workspace, placed.iter().map(|reply| &reply.body));
            }
            Act::PlaceHolds => {
                let mut body = self.hold_body();
                body["count"] = json!(self.dice.between(2, 4));
                let placed = self.insist(&post("holds/batch", body)).await;
                let placed = placed.iter().filter_map(|reply| reply.body["holds"].as_array()).flatten();
                self.know_holds(workspace, placed);
            }
            Act::Capture | Act::Settle | Act::SettleAll => self.go_on_with_holds(act, workspace).await,
            Act::TopUp => self.top_up(workspace).await,
            Act::Subscribe => {
                let tier = self.one_of(&["tier_2k", "tier_10k", "tier_50k"]).unwrap();
                let asked = Order::put(workspace, "subscription", json!({ "tier": tier }));
                let reply = self.insist(&asked).await;
                self.pay(reply).await;
            }
            Act::Cancel => {
                let order = Order { method: "DELETE", ..Order::get(workspace, "subscription") };
                self.insist(&order).await;
            }
            Act::Grant => self.grant(workspace).await,
            Act::Void => {
                let grant = self.known.lock().unwrap().grants.get(workspace).cloned().unwrap_or_default();
                if let Some(grant) = self.one_of(&grant) {
                    self.insist(&post(&format!("grants/{grant}/void"), json!({ "reason": "a mistake" })))
                        .await;
                }
            }
            Act::Refund | Act::Dispute => self.take_back(act),
            Act::Agree => Box::pin(self.agree()).await,
            Act::AutoTopUp => {
                let body = json!({
                    "enabled": !self.once_in(4), "threshold": self.dice.between(10, 400).to_string(),
                    "pack": "pack_1k", "monthly_limit": self.dice.between(1, 4),
                });
                self.insist(&Order::put(workspace, "auto-top-up", body)).await;
            }
            Act::Alerts => {
                let low = json!({ "enabled": true, "threshold": self.dice.between(10, 800).to_string(),
                    "recipients": ["low@example.com"] });
                self.insist(&Order::put(workspace, "alerts", json!({ "low_balance": low }))).await;
            }
            Act::Card => {
                let outcome = if self.once_in(2) { Outcome::Declined } else { Outcome::Succeeded };
                self.payments.provider.lock().unwrap().decide(workspace, outcome);
            }
            Act::Balance => drop(self.call(&Order::get(workspace, "balance")).await),
            Act::Ledger => drop(self.call(&Order::get(workspace, "ledger?limit=20")).await),
            Act::Usage => drop(self.call(&Order::get(workspace, "usage?group_by=feature")).await),
            Act::ReusedKey => {
                let first = post("debits", self.debit_body());
                self.insist(&first).await;
                self.insist(&Order { body: self.debit_body(), ..first }).await;
            }
        }
    }

    fn know_holds<'a>(&self, workspace: &str, placed: impl Iterator<Item = &'a Value>) {
        let ids: Vec<String> = placed.filter_map(|hold| Some(hold["hold_id"].as_str()?.to_owned())).collect();
        self.known.lock().unwrap().holds.entry(workspace.to_owned()).or_default().extend(ids);
    }

    /// Many at once, with keys of their own or with one.
    async fn storm(&self, workspace: &'static str) {
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

    async fn run_workflow(&self, workspace: &str) {
        let started = json!({ "workflow_id": "w1", "trigger": "manual" });
        let run = self.insist(&Order::post(workspace, "runs", self.new_key(), started)).await;
        let Some(run) = run.and_then(|run| Some(run.body["run_id"].as_str()?.to_owned())) else { return };
        for step in 0..self.dice.between(1, 3) {
            let mut body = self.debit_body();
            body["consumer"] = json!({ "kind": "workflow_step", "workflow_id": "w1", "run_id": run, "step_id": format!("s{step}") });
            if self.once_in(4) {
                body["credits"] = json!("900000");
            }
            let reply = self.insist(&Order::post(workspace, "debits", self.new_key(), body)).await;
            if reply.is_none_or(|reply| reply.status != 201) {
                return;
            }
        }
        let complete = format!("runs/{run}/complete");
        self.insist(&Order::post(workspace, &complete, self.new_key(), json!({}))).await;
    }

    async fn go_on_with_holds(&self, act: Act, workspace: &str) {
        let holds = self.known.lock().unwrap().holds.get(workspace).cloned().unwrap_or_default();
        let recent = &holds[holds.len().saturating_sub(6)..];
        let Some(hold) = self.one_of(recent) else { return };
        let (path, body) = match act {
            Act::Capture => (format!("holds/{hold}/captures"), self.debit_body()),
            Act::SettleAll => ("holds/batch/settle".to_owned(), json!({ "hold_ids": recent })),
            _ => {
                let body = match self.dice.between(0, 2) {
                    0 => json!({}),
                    1 => json!({ "credits": self.dice.between(1, 50).to_string() }),
                    _ => json!({ "credits": self.dice.between(1, 200).to_string(), "extend": true }),
                };
                (format!("holds/{hold}/settle"), body)
            }
        };
        let order = Order::post(workspace, &path, self.new_key(), body);
        Box::pin(self.beside_a_grant(workspace, self.insist(&order))).await;
    }

    /// Does something, now and then at the moment at which a grant closes the epoch.
    async fn beside_a_grant<T>(&self, workspace: &str, doing: impl Future<Output = T>) -> T {
        if !self.once_in(3) {
            return doing.await;
        }
        let pause = Duration::from_millis(self.dice.between(0, 15));
        let done = async {
            tokio::time::sleep(pause).await;
            doing.await
        };
        let ((), done) = tokio::join!(biased; Box::pin(self.grant(workspace)), done);
        done
    }

    async fn top_up(&self, workspace: &str) {
        let pack = self.one_of(&["pack_1k", "pack_1k", "pack_5k"]).unwrap();
        let order = Order::post(workspace, "top-ups", self.new_key(), json!({ "pack": pack }));
        let reply = self.insist(&order).await;
        self.pay(reply).await;
    }

    /// Plays the payer of a checkout, if there is one.
    async fn pay(&self, reply: Option<Reply>) {
        let Some(reply) = reply else { return };
        let Some(checkout) = reply.body["checkout_id"].as_str() else { return };
        tokio::time::sleep(Duration::from_secs(self.dice.between(5, 400))).await;
        let outcome = match self.dice.between(0, 5) {
            0 => Outcome::Declined,
            1 => return,
            _ => Outcome::Succeeded,
        };
        let delivery = {
            let mut provider = self.payments.provider.lock().unwrap();
            let amount = provider.session(checkout).map_or(0, |session| session.amount_minor);
            provider.play(checkout, outcome).map(|delivery| (delivery, amount))
        };
        let Some((delivery, amount)) = delivery else { return };
        if outcome == Outcome::Succeeded {
            self.known.lock().unwrap().paid.push((delivery.payment_id.clone(), amount));
        }
        self.payments.deliver(delivery);
    }

    async fn grant(&self, workspace: &str) {
        let credits = self.dice.between(1, 400).to_string();
        let body = if self.once_in(3) {
            json!({ "credits": credits, "kind": "prepaid", "reason": "a gift" })
        } else {
            let longest = if self.once_in(2) { 20 * 86_400 } else { 3_000 };
            let ends = self.now() + SignedDuration::from_secs(self.dice.between(700, longest) as i64);
            json!({ "credits": credits, "kind": "promotional", "expires_at": format!("{ends:.0}"), "reason": "a gift" })
        };
        let granted = self.insist(&Order::post(workspace, "grants", self.new_key(), body)).await;
        if let Some(id) = granted.and_then(|reply| Some(reply.body["grant_id"].as_str()?.to_owned())) {
            self.known.lock().unwrap().grants.entry(workspace.to_owned()).or_default().push(id);
        }
    }

    /// The provider tells that a payment was refunded, or is disputed and won back, perhaps before it tells of the payment.
    fn take_back(&self, act: Act) {
        let paid = self.known.lock().unwrap().paid.clone();
        let Some((payment, amount)) = self.one_of(&paid) else { return };
        if act == Act::Refund {
            let refunded = self.dice.between(1, amount);
            self.tell(
                "charge.refunded",
                &json!({ "id": format!("ch_{payment}"), "payment_intent": payment,
                "amount": amount, "amount_refunded": refunded, "currency": "usd" }),
            );
            return;
        }
        let dispute = |status: &str| {
            json!({ "id": format!("dp_{payment}"), "charge": format!("ch_{payment}"), "payment_intent": payment,
                "amount": amount, "currency": "usd", "status": status })
        };
        self.tell("charge.dispute.created", &dispute("needs_response"));
        if self.once_in(2) {
            let status = if self.once_in(2) { "won" } else { "lost" };
            self.tell("charge.dispute.closed", &dispute(status));
        }
    }

    fn tell(&self, kind: &str, object: &Value) {
        let id = format!("evt_{}", self.new_key());
        let event = json!({ "id": id, "object": "event", "type": kind, "created": self.now().as_second(),
            "data": { "object": object } });
        self.payments.put_down(event.to_string());
    }

    /// One agreement, or two at once.
    async fn agree(&self) {
        let (one, other) = (self.agreement(), self.agreement());
        if self.once_in(2) {
            self.insist(&one).await;
            return;
        }
        tokio::join!(biased; self.insist(&one), self.insist(&other));
    }
}
