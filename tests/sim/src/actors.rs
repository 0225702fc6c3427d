//! The actors: a hub with workflows, people, bulk jobs and an operator; payers; and Stripe.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use credits_local::provider::PlayedOutcome;
use jiff::SignedDuration;
use model::Dice;
use serde_json::{Value, json};

use crate::call::{Order, Reply};
use crate::faults::WireFault;
use crate::timeline::TimelineEvent;
use crate::world::World;

mod bodies;
mod paying;
mod refunding;
mod spending;

/// The workspaces and their plans. `hold-free` never has a hold, so the model can predict its expiries exactly.
pub const WORKSPACES: [(&str, &str); 4] =
    [("hold-free", "team"), ("bulky", "pro"), ("large", "enterprise"), ("small", "starter")];

/// The workspace with an agreement.
pub const LARGE: &str = "large";

/// The `monthly_limit` of automatic top-ups, in packs.
pub const MAX_AUTO_TOP_UPS: u64 = 1;

/// The number of attempts of a call.
const MAX_TRIES: u32 = 4;

/// The possible outcomes of charges of a stored card. Repeated ones are more likely.
const CARDS: [PlayedOutcome; 4] = [
    PlayedOutcome::Succeeded,
    PlayedOutcome::Succeeded,
    PlayedOutcome::Declined,
    PlayedOutcome::AuthenticationRequired,
];

/// An act of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names explain the acts")]
pub enum Act {
    Debit,
    PricedDebit,
    Storm,
    Busy,
    Empty,
    Batch,
    Run,
    PlaceHold,
    PlaceHolds,
    Capture,
    Settle,
    SettleAll,
    TopUp,
    Subscribe,
    ChangeTiers,
    Confirm,
    Cancel,
    Grant,
    Void,
    Refund,
    RefundDebit,
    Dispute,
    Agree,
    AutoTopUp,
    Alerts,
    Card,
    DeleteCustomer,
    Balance,
    Ledger,
    Usage,
    ReusedKey,
}

/// All acts with their weights.
const ACTS: [(Act, u64); 31] = [
    (Act::Debit, 30),
    (Act::PricedDebit, 8),
    (Act::Storm, 2),
    (Act::Busy, 2),
    (Act::Empty, 2),
    (Act::Batch, 5),
    (Act::Run, 6),
    (Act::PlaceHold, 7),
    (Act::PlaceHolds, 2),
    (Act::Capture, 10),
    (Act::Settle, 6),
    (Act::SettleAll, 2),
    (Act::TopUp, 7),
    (Act::Subscribe, 4),
    (Act::ChangeTiers, 2),
    (Act::Confirm, 3),
    (Act::Cancel, 1),
    (Act::Grant, 6),
    (Act::Void, 2),
    (Act::Refund, 4),
    (Act::RefundDebit, 10),
    (Act::Dispute, 2),
    (Act::Agree, 2),
    (Act::AutoTopUp, 2),
    (Act::Alerts, 1),
    (Act::Card, 2),
    (Act::DeleteCustomer, 1),
    (Act::Balance, 8),
    (Act::Ledger, 2),
    (Act::Usage, 2),
    (Act::ReusedKey, 2),
];

/// An actor that makes one act. It has its own dice, so other acts don't change its choices.
#[derive(Debug)]
pub struct Actor {
    pub world: Arc<World>,
    pub dice: Dice,
}

impl Deref for Actor {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Actor {
    /// Creates the actor of an act's number.
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

    /// Draws the time until the act: mostly moments, sometimes days.
    #[must_use]
    pub fn pause(&self) -> SignedDuration {
        let between = |least, most| self.dice.between(least, most) as i64;
        SignedDuration::from_millis(match self.dice.between(0, 99) {
            0..50 => between(0, 60),
            50..85 => between(60, 20_000),
            85..97 => between(20_000, 7_200_000),
            _ => between(7_200_000, self.longest_pause_days * 86_400_000),
        })
    }

    /// Draws an act and its workspace.
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
            Act::Subscribe | Act::ChangeTiers | Act::Cancel if workspace == LARGE => (*act, "small"),
            Act::PlaceHold | Act::PlaceHolds if workspace == "hold-free" => (*act, "bulky"),
            _ => (*act, workspace),
        }
    }
}

impl World {
    /// Creates the workspaces, each with a grant.
    pub async fn set_up(&self) {
        for (workspace, plan) in WORKSPACES {
            let profile = json!({ "name": workspace, "plan": plan, "billing_email": "people@example.com" });
            self.insist(&Order::put(workspace, "", profile)).await.unwrap();
            let grant = json!({ "credits": "500", "kind": "prepaid", "reason": "to begin with" });
            self.insist(&Order::post(workspace, "grants", self.new_key(), grant)).await.unwrap();
        }
    }

    /// Repeats a call until its effect is known, the attempts are used up, or the caller gives up.
    pub async fn insist(&self, order: &Order) -> Option<Reply> {
        let faults = &self.ground.faults;
        if order.key.is_some() && faults.strikes(WireFault::CalledLater) {
            let at = self.now() + SignedDuration::from_mins(faults.between(11, 40) as i64);
            self.ground.timeline.put(at, TimelineEvent::Call(order.clone()));
        }
        for _ in 0..MAX_TRIES {
            let reply = self.call(order).await;
            if let Some(reply) = reply.filter(|reply| !reply.is_unsure()) {
                return Some(reply);
            }
            if faults.strikes(WireFault::CallerGone) {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(faults.between(50, 1_500))).await;
        }
        None
    }
}

impl Actor {
    /// Makes an act.
    pub async fn act(self, act: Act, workspace: &'static str) {
        let post = |path: &str, body: Value| Order::post(workspace, path, self.new_key(), body);
        match act {
            Act::Debit => drop(self.insist(&post("debits", self.debit_body())).await),
            Act::PricedDebit => drop(self.insist(&post("debits", self.priced_body())).await),
            Act::Storm => Box::pin(self.storm(workspace)).await,
            Act::Busy => Box::pin(self.be_busy(workspace)).await,
            Act::Empty => Box::pin(self.empty(workspace)).await,
            Act::Batch => {
                let lines: Vec<Value> = (0..self.dice.between(1, 6)).map(|_| self.debit_body()).collect();
                let body = json!({ "lines": lines, "partial": self.once_in(2) });
                self.insist(&post("debits/batch", body)).await;
            }
            Act::Run => Box::pin(self.run_workflow(workspace)).await,
            Act::PlaceHold => self.place_hold(workspace).await,
            Act::PlaceHolds => self.place_holds(workspace).await,
            Act::Capture | Act::Settle | Act::SettleAll => self.go_on_with_holds(act, workspace).await,
            Act::TopUp => self.top_up(workspace).await,
            Act::Subscribe => self.subscribe(workspace).await,
            Act::ChangeTiers => Box::pin(self.change_tiers(workspace)).await,
            Act::Confirm => self.confirm(workspace).await,
            Act::Cancel => self.cancel(workspace).await,
            Act::Grant => self.grant(workspace).await,
            Act::Void => Box::pin(self.void(workspace)).await,
            Act::Refund if self.once_in(3) => Box::pin(self.refund_by_call(workspace)).await,
            Act::Refund | Act::Dispute => self.take_back(act),
            Act::RefundDebit => Box::pin(self.refund_debits(workspace)).await,
            Act::Agree => Box::pin(self.agree()).await,
            Act::AutoTopUp => {
                let body = json!({
                    "enabled": !self.once_in(4), "threshold": self.dice.between(10, 400).to_string(),
                    "pack": "pack_1k", "monthly_limit": MAX_AUTO_TOP_UPS,
                });
                self.insist(&Order::put(workspace, "auto-top-up", body)).await;
            }
            Act::Alerts => {
                let threshold = self.dice.between(10, 800);
                let thresholds = json!([{ "credits": format!("{threshold}.5") },
                    { "credits": (threshold / 3 + 1).to_string() }, { "percent_of_allocation": threshold % 50 + 1 }]);
                let low = json!({ "enabled": true, "threshold": threshold.to_string(), "thresholds": thresholds,
                    "recipients": ["low@example.com"] });
                let expiry = json!({ "enabled": true, "recipients": ["low@example.com"] });
                let alerts = json!({ "low_balance": low, "expiry": expiry });
                self.insist(&Order::put(workspace, "alerts", alerts)).await;
            }
            Act::Card => {
                let outcome = self.one_of(&CARDS).unwrap();
                self.payments.decide(workspace, outcome);
            }
            Act::DeleteCustomer => self.delete_customer(workspace),
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

    /// Makes an act beside another one of the same actor.
    pub(super) async fn act_beside(&self, act: Act, workspace: &'static str) {
        let actor = Self { world: Arc::clone(&self.world), dice: Dice::of(self.dice.next()) };
        Box::pin(actor.act(act, workspace)).await;
    }

    pub(super) async fn grant(&self, workspace: &str) {
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

    /// Voids a grant with one call, or with two concurrent ones.
    pub(super) async fn void(&self, workspace: &str) {
        let grants = self.known.lock().unwrap().grants.get(workspace).cloned().unwrap_or_default();
        let Some(grant) = self.one_of(&grants) else { return };
        let void = || {
            let path = format!("grants/{grant}/void");
            Order::post(workspace, &path, self.new_key(), json!({ "reason": "a mistake" }))
        };
        let (one, other) = (void(), void());
        if self.once_in(2) {
            self.insist(&one).await;
            return;
        }
        tokio::join!(biased; self.insist(&one), self.insist(&other));
    }

    /// Changes the agreement with one call, or with two concurrent ones.
    async fn agree(&self) {
        let (one, other) = (self.agreement(), self.agreement());
        if self.once_in(2) {
            self.insist(&one).await;
            return;
        }
        tokio::join!(biased; self.insist(&one), self.insist(&other));
    }
}
