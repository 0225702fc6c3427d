//! Who pays: top-ups and their payers, subscriptions, and what the provider takes back.

use std::sync::Arc;
use std::time::Duration;

use credits_local::provider::{MethodKind, Outcome, Paying};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Act, Actor};
use crate::call::{Order, Reply};
use crate::item::text;

impl Actor {
    pub(super) async fn top_up(&self, workspace: &str) {
        let pack = self.one_of(&["pack_1k", "pack_1k", "pack_5k"]).unwrap();
        let order = Order::post(workspace, "top-ups", self.new_key(), json!({ "pack": pack }));
        let reply = self.insist(&order).await;
        self.pay(reply).await;
    }

    pub(super) async fn subscribe(&self, workspace: &str) {
        let reply = self.insist(&self.tier_order(workspace)).await;
        self.pay(reply).await;
    }

    fn tier_order(&self, workspace: &str) -> Order {
        let tier = self.one_of(&["tier_2k", "tier_10k", "tier_50k"]).unwrap();
        Order::put(workspace, "subscription", json!({ "tier": tier }))
    }

    /// Changes the tier by two or three calls at once.
    pub(super) async fn change_tiers(&self, workspace: &'static str) {
        let mut calls = JoinSet::new();
        for _ in 0..self.dice.between(2, 3) {
            let (world, order) = (Arc::clone(&self.world), self.tier_order(workspace));
            calls.spawn(async move { world.insist(&order).await });
        }
        while let Some(reply) = calls.join_next().await {
            self.pay(reply.unwrap()).await;
        }
    }

    /// Pays the checkout that the subscription waits for.
    pub(super) async fn confirm(&self, workspace: &str) {
        let reply = self.call(&Order::get(workspace, "subscription")).await;
        self.pay(reply).await;
    }

    /// Deletes the workspace's customer at Stripe.
    pub(super) fn delete_customer(&self, workspace: &str) {
        if let Some(card) = self.ground.table.item(&(format!("card#{workspace}"), "card".to_owned())) {
            self.payments.delete_customer(text(&card, "customer"));
        }
    }

    pub(super) async fn cancel(&self, workspace: &str) {
        let order = Order { method: "DELETE", ..Order::get(workspace, "subscription") };
        self.insist(&order).await;
    }

    /// Pays the checkout of a reply, or the one under its `payment_action`.
    async fn pay(&self, reply: Option<Reply>) {
        let Some(reply) = reply else { return };
        let (own, awaited) = (&reply.body["checkout_id"], &reply.body["payment_action"]["checkout_id"]);
        let Some(checkout) = own.as_str().or(awaited.as_str()) else { return };
        tokio::time::sleep(Duration::from_secs(self.dice.between(5, 400))).await;
        let outcome = match self.dice.between(0, 5) {
            0 => Outcome::Declined,
            1 => return,
            _ => Outcome::Succeeded,
        };
        let method = if self.once_in(6) { MethodKind::SepaDebit } else { MethodKind::Card };
        let paying = Paying { method, ..Paying::by_card(outcome) };
        let delivery = {
            let mut provider = self.payments.provider.lock().unwrap();
            let amount = provider.session(checkout).map_or(0, |session| session.amount_minor);
            provider.pay(checkout, &paying).ok().map(|delivery| (delivery, amount))
        };
        let Some((delivery, amount)) = delivery else { return };
        self.payments.tell();
        if outcome == Outcome::Succeeded && !method.is_delayed() {
            self.known.lock().unwrap().paid.push((delivery.payment_id.clone(), amount));
            if self.once_in(5) {
                // Somebody pays the same once more: the first to be told of buys it, and the other is kept for an operator.
                let again = format!("{}again", delivery.payment_id);
                self.payments.put_down(delivery.body.replace(&delivery.payment_id, &again));
            }
        }
        self.payments.put_down(delivery.body);
    }

    /// The provider tells that a payment was refunded, or is disputed and won back, perhaps before it tells of the payment.
    pub(super) fn take_back(&self, act: Act) {
        let paid = self.known.lock().unwrap().paid.clone();
        let Some((payment, amount)) = self.one_of(&paid) else { return };
        if act == Act::Refund {
            let refunded = self.dice.between(1, amount);
            self.payments.refunded(&payment, refunded);
            self.tell(
                "charge.refunded",
                &json!({ "id": format!("ch_{payment}"), "payment_intent": payment,
                "amount": amount, "amount_refunded": refunded, "currency": "usd" }),
            );
            return;
        }
        let (id, disputed) = (format!("dp_{}", self.new_key()), self.dice.between(1, amount));
        let dispute = |status: &str| {
            json!({ "id": id, "charge": format!("ch_{payment}"), "payment_intent": payment,
                "amount": disputed, "currency": "usd", "status": status })
        };
        self.payments.disputed(&payment, &id, disputed, None);
        self.tell("charge.dispute.created", &dispute("needs_response"));
        if self.once_in(2) {
            let status = if self.once_in(2) { "won" } else { "lost" };
            self.payments.disputed(&payment, &id, disputed, Some(status));
            self.tell("charge.dispute.closed", &dispute(status));
        }
    }

    fn tell(&self, kind: &str, object: &Value) {
        let id = format!("evt_{}", self.new_key());
        let event = json!({ "id": id, "object": "event", "type": kind, "created": self.now().as_second(),
            "data": { "object": object } });
        self.payments.put_down(event.to_string());
    }
}
