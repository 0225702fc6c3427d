//! The bodies of the calls.

use serde_json::{Value, json};

use super::{Actor, LARGE};
use crate::call::Order;

impl Actor {
    pub(super) fn debit_body(&self) -> Value {
        let micros = self.dice.between(1, 60_000_000);
        let credits = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        let credits = credits.trim_end_matches('0').trim_end_matches('.').to_owned();
        json!({ "operation": "text.classify", "credits": credits, "consumer": self.consumer() })
    }

    pub(super) fn priced_body(&self) -> Value {
        let units = json!({ "input_tokens": self.dice.between(0, 20_000), "output_tokens": self.dice.between(1, 4_000) });
        let model = self.one_of(&["small", "standard", "large"]).unwrap();
        json!({ "operation": "text.generate", "model": model, "units": units, "consumer": self.consumer() })
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
