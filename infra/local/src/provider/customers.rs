//! Customers.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::StripeStandIn;
use super::errors::StripeRefusal;
use super::form::{EXPAND, Form};

/// The email that a payer enters if the session has none.
pub(super) const PAYER_EMAIL: &str = "payer@example.com";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Customer {
    pub id: String,
    pub created: i64,
    pub email: String,
    pub is_deleted: bool,
    /// Whether the customer has an address, which tax needs.
    pub has_address: bool,
    /// The attached methods, oldest first.
    pub methods: Vec<String>,
    /// The workspace in the metadata of the customer's sessions. Controls find the customer by it.
    pub workspace: String,
}

impl Customer {
    pub fn new(id: String, created: i64) -> Self {
        let email = PAYER_EMAIL.to_owned();
        let (methods, workspace) = (Vec::new(), String::new());
        Self { id, created, email, is_deleted: false, has_address: false, methods, workspace }
    }

    /// Returns the customer as a Stripe object.
    pub fn object(&self) -> Value {
        if self.is_deleted {
            return json!({ "id": self.id, "object": "customer", "deleted": true });
        }
        let address = json!({
            "city": "Berlin", "country": "DE", "line1": "Unter den Linden 1", "line2": null, "postal_code": "10117",
            "state": null,
        });
        json!({
            "id": self.id,
            "object": "customer",
            "address": self.has_address.then_some(address),
            "balance": 0,
            "created": self.created,
            "currency": null,
            "customer_account": null,
            "default_source": null,
            "delinquent": false,
            "description": null,
            "discount": null,
            "email": self.email,
            "invoice_prefix": "LOCAL",
            "invoice_settings": {
                "custom_fields": null, "default_payment_method": null, "footer": null, "rendering_options": null,
            },
            "livemode": false,
            "metadata": {},
            "name": null,
            "phone": null,
            "preferred_locales": [],
            "shipping": null,
            "tax_exempt": "none",
            "test_clock": null,
        })
    }
}

impl StripeStandIn {
    /// Handles `GET /v1/customers/{id}`.
    pub(super) fn read_customer(&self, id: &str, query: &[u8]) -> Result<Value, StripeRefusal> {
        let form = Form::read(query, &[EXPAND])?;
        let customer = self.memory.customers.get(id);
        let customer = customer.ok_or_else(|| StripeRefusal::missing("customer", id, "id").status(404))?;
        self.expanded(customer.object(), &form)
    }

    /// Handles `DELETE /v1/customers/{id}`.
    pub(super) fn delete_customer(
        &mut self,
        id: &str,
        query: &[u8],
        body: &[u8],
    ) -> Result<Value, StripeRefusal> {
        Form::read(query, &[])?;
        Form::read(body, &[])?;
        let before = self.existing_customer(id, "id").map_err(|refusal| refusal.status(404))?.object();
        let customer = self.memory.customers.get_mut(id);
        let methods = customer.map_or_else(Vec::new, |customer| {
            customer.is_deleted = true;
            std::mem::take(&mut customer.methods)
        });
        for method in methods {
            self.detach(&method);
        }
        self.emit("customer.deleted", &before, "");
        self.keep();
        self.read_customer(id, b"")
    }

    /// Returns a customer that has not been deleted.
    pub(super) fn existing_customer(&self, id: &str, param: &str) -> Result<&Customer, StripeRefusal> {
        let customer = self.memory.customers.get(id).filter(|customer| !customer.is_deleted);
        customer.ok_or_else(|| StripeRefusal::missing("customer", id, param))
    }
}
