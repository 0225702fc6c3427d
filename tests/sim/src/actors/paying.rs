//! Who pays: top-ups and their payers, subscriptions, and what the provider takes back.

use std::time::Duration;

use credits_local::provider::Outcome;
use serde_json::{Value, json};

use super::{Act, Actor};
use crate::call::{Order, Reply};

impl Actor {
    pub(super) async fn top_up(&self, workspace: &str) {
        let pack = self.one_of(&["pack_1k", "pack_1k", "pack_5k"]).unwrap();
        let order = Order::post(workspace, "top-ups", self.new_key(), json!({ "pack": pack }));
        let reply = self.insist(&order).await;
        self.pay(reply).await;
    }

    pub(super) async fn subscribe(&self, workspace: &str) {
        let tier = self.one_of(&["tier_2k", "tier_10k", "tier_50k"]).unwrap();
        let reply = self.insist(&Order::put(workspace, "subscription", json!({ "tier": tier }))).await;
        self.pay(reply).await;
    }

    pub(super) async fn cancel(&self, workspace: &str) {
        let order = Order { method: "DELETE", ..Order::get(workspace, "subscription") };
        self.insist(&order).await;
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
        self.payments.tell();
        if outcome == Outcome::Succeeded {
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
