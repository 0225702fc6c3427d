//! Payers and refunds: top-ups, subscriptions, checkouts, refunds and disputes.

use std::sync::Arc;
use std::time::Duration;

use credits_local::provider::{MethodKind, PayerOutcome, Paying, StripeDisputeStatus, StripeRefundStatus};
use jiff::SignedDuration;
use serde_json::json;
use tokio::task::JoinSet;

use super::{Act, Actor};
use crate::call::{Order, Reply};
use crate::item::text;
use crate::timeline::TimelineEvent;

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

    /// Changes the tier with two or three concurrent calls.
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

    /// Pays the checkout in a response, or the one in its `payment_action`.
    async fn pay(&self, reply: Option<Reply>) {
        let Some(reply) = reply else { return };
        let (own, awaited) = (&reply.body["checkout_id"], &reply.body["payment_action"]["checkout_id"]);
        let Some(checkout) = own.as_str().or(awaited.as_str()) else { return };
        tokio::time::sleep(Duration::from_secs(self.dice.between(5, 400))).await;
        let outcome = match self.dice.between(0, 5) {
            0 => PayerOutcome::Declined,
            1 => return,
            _ => PayerOutcome::Succeeded,
        };
        let method = if self.once_in(6) { MethodKind::SepaDebit } else { MethodKind::Card };
        let paying = Paying { method, ..Paying::by_card(outcome) };
        let Ok(delivery) = self.payments.provider.lock().unwrap().pay(checkout, &paying) else { return };
        self.payments.tell();
        if outcome == PayerOutcome::Succeeded && !method.is_delayed() && self.once_in(5) {
            // A payer pays the same checkout twice. The first payment delivered buys the purchase; the other is kept
            // for an operator.
            let again = format!("{}again", delivery.payment_id);
            self.payments.put_down(delivery.body.replace(&delivery.payment_id, &again));
        }
        self.payments.put_down(delivery.body);
    }

    /// Refunds a payment through the API, in part or all that is left, with one call or with two concurrent ones.
    pub(super) async fn refund_by_call(&self, workspace: &str) {
        let Some(listed) = self.insist(&Order::get(workspace, "payments")).await else { return };
        let payments = listed.body["payments"].as_array().cloned().unwrap_or_default();
        let Some(payment) = self.one_of(&payments) else { return };
        let path = format!("payments/{}/refund", payment["payment_id"].as_str().unwrap_or_default());
        let paid = payment["amount"]["amount"].as_u64().unwrap_or_default();
        let mut body = json!({ "reason": "asked for" });
        if self.once_in(2) {
            body["amount"] = json!(self.dice.between(1, paid.max(1)));
        }
        let refund = || Order::post(workspace, &path, self.new_key(), body.clone());
        let (one, other) = (refund(), refund());
        if self.once_in(3) {
            tokio::join!(biased; self.insist(&one), self.insist(&other));
        } else {
            self.insist(&one).await;
        }
    }

    /// Refunds a payment at Stripe, in part or whole, or opens a dispute. The refund may fail later. The dispute may
    /// begin as an inquiry, and may end more than once.
    pub(super) fn take_back(&self, act: Act) {
        let mut provider = self.payments.provider.lock().unwrap();
        let Some(payment) = self.one_of(&provider.payments()) else { return };
        let left = payment.amount_minor - payment.refunded_minor;
        let part = (left > 0 && self.once_in(2)).then(|| self.dice.between(1, left));
        let days = |most: u64| SignedDuration::from_secs(self.dice.between(60, most * 86_400) as i64);
        let timeline = &self.ground.timeline;
        if act == Act::Refund {
            let begins =
                if self.once_in(2) { StripeRefundStatus::Pending } else { StripeRefundStatus::Succeeded };
            if let Ok(refund) = provider.refund(&payment.payment_id, part, begins) {
                let ends =
                    if self.once_in(3) { StripeRefundStatus::Failed } else { StripeRefundStatus::Succeeded };
                timeline.put(self.now() + days(4), TimelineEvent::EndRefund { refund, status: ends });
            }
        } else {
            use StripeDisputeStatus::{
                Lost, NeedsResponse, UnderReview, WarningClosed, WarningNeedsResponse, Won,
            };
            let ends: &[StripeDisputeStatus] =
                self.one_of(&[&[Won][..], &[Lost], &[UnderReview, Won], &[Lost, Won]]).unwrap();
            let (begins, mut moves) =
                (self.one_of(&[NeedsResponse, WarningNeedsResponse]).unwrap(), ends.to_vec());
            if begins == WarningNeedsResponse {
                moves.insert(0, NeedsResponse);
                if self.once_in(3) {
                    moves = vec![WarningClosed];
                }
            }
            if let Ok(dispute) = provider.dispute(&payment.payment_id, part, begins) {
                moves.reverse();
                timeline.put(self.now() + days(6), TimelineEvent::MoveDispute { dispute, moves });
            }
        }
        drop(provider);
        self.payments.tell();
    }
}
