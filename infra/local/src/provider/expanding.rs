//! The expansion of references: `expand[]` replaces an id by the object.

use serde_json::{Value, json};

use super::StripeStandIn;
use super::errors::StripeRefusal;
use super::form::Form;

/// The members that can be expanded.
const EXPANDABLE: [&str; 7] =
    ["payment_intent", "latest_charge", "payment_method", "customer", "setup_intent", "charge", "line_items"];

/// The largest depth of a path.
const MAX_DEPTH: usize = 4;

impl StripeStandIn {
    /// Replaces the references that the form's `expand` lists.
    pub(super) fn expanded(&self, mut object: Value, form: &Form) -> Result<Value, StripeRefusal> {
        for (at, path) in form.expand().iter().enumerate() {
            let parts: Vec<&str> = path.split('.').collect();
            if parts.len() > MAX_DEPTH || !self.expand(&mut object, &parts) {
                let refusal =
                    StripeRefusal::validation(format!("This property cannot be expanded ({path})."));
                return Err(refusal.param(&format!("expand[{at}]")));
            }
        }
        Ok(object)
    }

    /// Replaces the references at a path. Returns whether the path leads to expandable members.
    fn expand(&self, value: &mut Value, path: &[&str]) -> bool {
        let Some((head, rest)) = path.split_first() else { return true };
        if *head == "data" && value["object"] == "list" {
            let Some(items) = value["data"].as_array_mut() else { return false };
            return !rest.is_empty() && items.iter_mut().all(|item| self.expand(item, rest));
        }
        if *head == "line_items" && value["object"] == "checkout.session" {
            let items = value["id"].as_str().and_then(|id| self.line_items(id)).unwrap_or_default();
            value["line_items"] = items;
            return rest.is_empty();
        }
        if !EXPANDABLE.contains(head) {
            return false;
        }
        let Some(member) = value.get_mut(*head) else { return false };
        if let Some(object) = member.as_str().and_then(|id| self.object(id)) {
            *member = object;
        }
        !member.is_object() || self.expand(member, rest)
    }

    /// Returns an object by its id.
    fn object(&self, id: &str) -> Option<Value> {
        let memory = &self.memory;
        match id.split_once('_')?.0 {
            "pi" => memory.intents.get(id).map(super::intents::StripeIntent::object),
            "ch" => memory.charges.get(id).map(super::charges::Charge::object),
            "pm" => memory.methods.get(id).map(super::methods::Method::object),
            "cus" => memory.customers.get(id).map(super::customers::Customer::object),
            "seti" => memory.setups.get(id).map(super::setups::Setup::object),
            _ => None,
        }
    }

    fn line_items(&self, session: &str) -> Option<Value> {
        let session = self.memory.sessions.get(session)?;
        let item = json!({
            "id": session.id.replacen("cs", "li", 1),
            "object": "item",
            "adjustable_quantity": null,
            "amount_discount": session.amount_discount,
            "amount_subtotal": session.amount_subtotal,
            "amount_tax": session.amount_tax,
            "amount_total": session.amount_minor,
            "currency": session.currency,
            "description": session.product,
            "metadata": null,
            "price": null,
            "quantity": 1,
        });
        let url = format!("/v1/checkout/sessions/{}/line_items", session.id);
        Some(json!({ "object": "list", "url": url, "has_more": false, "data": [item] }))
    }
}
