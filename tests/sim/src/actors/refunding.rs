//! Refunds of debits, of calls of a batch and of captures.

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Actor;
use crate::call::Order;
use crate::world::KnownDebit;

/// The reasons of refunds.
const REASONS: [&str; 6] = ["provider_error", "timeout", "cancelled", "quality", "duplicate", "other"];

/// The number of debits that count as recent.
const RECENT: usize = 12;

impl Actor {
    /// Refunds one debit or several, with one call or with concurrent ones.
    pub(super) async fn refund_debits(&self, workspace: &'static str) {
        let Some(order) = self.refund_order(workspace) else { return };
        match self.dice.between(0, 9) {
            0 => {
                // The caller gives up and repeats the call while the first is still running.
                tokio::join!(biased; self.insist(&order), self.insist(&order));
            }
            1 | 2 => {
                // Several operators refund the same debit.
                let again = || Order { key: Some(self.new_key()), ..order.clone() };
                self.insist_together([order.clone(), again(), again()]).await;
            }
            3 | 4 => {
                // A close may come between what the refund reads and what it writes.
                let pause = Duration::from_millis(self.dice.between(0, 60));
                let beside = async {
                    tokio::time::sleep(pause).await;
                    if self.once_in(2) {
                        self.grant(workspace).await;
                    } else {
                        Box::pin(self.void(workspace)).await;
                    }
                };
                tokio::join!(biased; self.insist(&order), Box::pin(beside));
            }
            5 | 6 => {
                // Several debits, which may be of one epoch.
                let others = (0..3).filter_map(|_| self.refund_order(workspace));
                self.insist_together(iter::once(order.clone()).chain(others)).await;
            }
            _ => drop(self.insist(&order).await),
        }
        if self.once_in(4) {
            self.insist(&order).await;
        }
    }

    /// Makes several calls that begin within some milliseconds, so that some read what another one is about to change.
    async fn insist_together(&self, orders: impl IntoIterator<Item = Order>) {
        let mut calls = JoinSet::new();
        for order in orders {
            let (world, pause) = (Arc::clone(&self.world), Duration::from_millis(self.dice.between(0, 16)));
            calls.spawn(async move {
                tokio::time::sleep(pause).await;
                world.insist(&order).await
            });
        }
        calls.join_all().await;
    }

    /// Returns the refund of a random debit: of all that is left, of a part, or of more than there is.
    fn refund_order(&self, workspace: &str) -> Option<Order> {
        let debits = self.known.lock().unwrap().debits.get(workspace).cloned().unwrap_or_default();
        let recent = &debits[debits.len().saturating_sub(RECENT)..];
        let KnownDebit { debit_id, credits, lines, captures } =
            self.one_of(if self.once_in(2) { recent } else { &debits })?;
        let mut body = json!({ "reason": self.one_of(&REASONS)? });
        let mut most = credits;
        if !lines.is_empty() && self.once_in(2) {
            let line = self.dice.between(0, lines.len() as u64 - 1);
            body["line"] = json!(line);
            most = lines[line as usize];
        } else if !captures.is_empty() && self.once_in(2) {
            body["capture_id"] = json!(self.one_of(&captures)?);
        }
        if self.once_in(3) {
            body["note"] = json!("asked for by mail");
        }
        let micros = u64::try_from(most * Decimal::from(1_000_000)).unwrap_or_default().max(1);
        let part = match self.dice.between(0, 7) {
            0..=2 => None,
            3 => Some(micros + self.dice.between(1, 5_000_000)),
            4 => Some(micros),
            _ => Some(self.dice.between(1, micros)),
        };
        if let Some(part) = part {
            body["credits"] = Value::from(Decimal::new(part as i64, 6).normalize().to_string());
        }
        Some(Order::post(workspace, &format!("debits/{debit_id}/refund"), self.new_key(), body))
    }
}
