//! The bodies of the calls.

use serde_json::{Value, json};

use super::{Actor, LARGE};
use crate::call::Order;

impl Actor {
    pub(super) fn debit_body(&self) -> Value {
        let micros = self.dice.between(1, 60_000_000);
        let credits = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        let credits = credits.trim_end_matches('0').trim_end_matches('.').to_owned();
        let mut body =
            json!({ "operation": "text.classify", "credits": credits, "consumer": self.consumer() });
        if self.once_in(8) {
            body["metadata"] = json!({ "request": self.dice.between(0, 999).to_string(), "team": "search" });
        }
        body
    }

    pub(super) fn priced_body(&self) -> Value {
        let (operation, units) = self.call_in_units();
        let mut body = json!({ "operation": operation, "units": units, "consumer": self.consumer() });
        if let Some(model) = self.model() {
            body["model"] = json!(model);
        }
        body
    }

    /// Draws an operation and counts of units that it has rates for.
    pub(super) fn call_in_units(&self) -> (&'static str, Value) {
        let count = |most| self.dice.between(0, most);
        let text = json!({ "input_tokens": count(20_000), "output_tokens": self.dice.between(1, 4_000) });
        match self.dice.between(0, 5) {
            0 => ("image.generate", json!({ "images": self.dice.between(1, 3) })),
            1 => ("speech.transcribe", json!({ "seconds": count(600), "audio_input_tokens": count(5_000) })),
            2 => (
                "reasoning.chain",
                json!({ "reasoning_tokens": count(3_000), "tool_calls": count(4), "records": 1 }),
            ),
            3 => {
                let mut units = text;
                units["cached_input_tokens"] = json!(count(30_000));
                units["cache_write_tokens"] = json!(count(2_000));
                ("text.generate", units)
            }
            _ => ("text.generate", text),
        }
    }

    /// Draws a model, one of its aliases, or none.
    pub(super) fn model(&self) -> Option<&'static str> {
        self.one_of(&[Some("small"), Some("standard"), Some("large"), Some("large-2026"), Some("tiny"), None])
            .flatten()
    }

    pub(super) fn consumer(&self) -> Value {
        match self.dice.between(0, 2) {
            0 => {
                json!({ "kind": "action", "feature": format!("f{}", self.dice.between(0, 3)), "user_id": "ann" })
            }
            1 => json!({ "kind": "bulk", "job_id": "job", "feature": "enrichment" }),
            _ => json!({ "kind": "workflow_step", "workflow_id": "w1", "run_id": "r1", "step_id": "s1" }),
        }
    }

    pub(super) fn hold_body(&self) -> Value {
        json!({
            "credits": self.dice.between(1, 120).to_string(), "operation": "record.enrich",
            "ttl_seconds": self.dice.between(1, 86_400), "consumer": self.consumer(),
        })
    }

    /// Returns the body of a hold in units.
    pub(super) fn priced_hold_body(&self) -> Value {
        let mut body = self.priced_body();
        body["ttl_seconds"] = json!(self.dice.between(1, 86_400));
        body
    }

    /// Returns the body of a settlement in units, with what happens if its price exceeds the hold.
    pub(super) fn priced_settlement(&self) -> Value {
        let units = json!({ "input_tokens": self.dice.between(0, 9_000) });
        let mut body =
            json!({ "units": units, "overrun": self.one_of(&["refuse", "extend", "take_available"]) });
        if let Some(model) = self.model() {
            body["model"] = json!(model);
        }
        body
    }

    pub(super) fn agreement(&self) -> Order {
        let commitment = json!({ "monthly_credits": "300", "price": { "amount": 3_000, "currency": "USD" } });
        let invoicing = json!({ "price_per_credit_micros": 10_000, "currency": "USD" });
        let body = json!({
            "credit_limit": self.dice.between(0, 500).to_string(),
            "commitment": if self.once_in(2) { commitment } else { Value::Null },
            "invoicing": if self.once_in(2) { invoicing } else { Value::Null },
        });
        Order::put(LARGE, "agreement", body)
    }
}
