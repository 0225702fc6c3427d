//! Setup intents, with which a checkout in setup mode stores a method.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Setup {
    pub id: String,
    pub created: i64,
    pub metadata: BTreeMap<String, String>,
    pub customer: Option<String>,
    pub method: Option<String>,
    pub status: SetupStatus,
    pub last_setup_error: Option<Value>,
}

/// The status of a setup intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SetupStatus {
    RequiresPaymentMethod,
    Succeeded,
}

impl Setup {
    pub fn new(id: String, created: i64, metadata: BTreeMap<String, String>) -> Self {
        let status = SetupStatus::RequiresPaymentMethod;
        Self { id, created, metadata, customer: None, method: None, status, last_setup_error: None }
    }

    /// Returns the setup intent as a Stripe object.
    pub fn object(&self) -> Value {
        json!({
            "id": self.id,
            "object": "setup_intent",
            "allowed_payment_method_types": null,
            "application": null,
            "automatic_payment_methods": null,
            "cancellation_reason": null,
            "client_secret": format!("{}_secret", self.id),
            "created": self.created,
            "customer": self.customer,
            "customer_account": null,
            "description": null,
            "excluded_payment_method_types": null,
            "flow_directions": null,
            "last_setup_error": self.last_setup_error,
            "latest_attempt": null,
            "livemode": false,
            "mandate": null,
            "metadata": self.metadata,
            "next_action": null,
            "on_behalf_of": null,
            "payment_method": self.method,
            "payment_method_configuration_details": null,
            "payment_method_options": {},
            "payment_method_types": ["card", "link", "sepa_debit", "us_bank_account"],
            "single_use_mandate": null,
            "status": self.status,
            "usage": "off_session",
        })
    }
}
