//! `POST /v1/payment_intents`: its parameters, and the outcome of the charge.

use serde_json::Value;

use super::StripeStandIn;
use super::amounts::{Charging, check_amount};
use super::charges::{ChargeSettlement, Failing, PlayedOutcome};
use super::errors::{ErrorType, Stage, StripeRefusal};
use super::failures::server_error;
use super::form::{EXPAND, Field, FieldKind, Form, field};
use super::intents::{IntentStatus, StripeIntent};
use super::methods::MethodKind;

/// The parameters that the stand-in supports.
const KNOWN: [Field; 14] = [
    EXPAND,
    field("amount", FieldKind::Whole),
    field("currency", FieldKind::Currency),
    field("customer", FieldKind::Text(255)),
    field("payment_method", FieldKind::Text(255)),
    field("off_session", FieldKind::Flag),
    field("confirm", FieldKind::Flag),
    field("error_on_requires_action", FieldKind::Flag),
    field("return_url", FieldKind::Url),
    field("automatic_payment_methods[enabled]", FieldKind::Flag),
    field("automatic_payment_methods[allow_redirects]", FieldKind::Choice(&["always", "never"])),
    field("description", FieldKind::Text(1_000)),
    field("receipt_email", FieldKind::Email),
    field("metadata[*]", FieldKind::Metadata),
];

/// The parameters that require `confirm`.
const CONFIRMING: [&str; 3] = ["off_session", "error_on_requires_action", "return_url"];

impl StripeStandIn {
    /// Handles `POST /v1/payment_intents`.
    pub(super) fn create_intent(&mut self, body: &[u8]) -> Result<Value, StripeRefusal> {
        let form = Form::read(body, &KNOWN)?;
        form.required("amount")?;
        form.required("currency")?;
        let amount = form.positive("amount")?.unwrap_or_default();
        check_confirmation(&form)?;
        let currency = form.text("currency").unwrap_or_default();
        check_amount(amount, currency, Charging::Intent)?;
        let mut intent = StripeIntent::new(self.new_id("pi"), amount, currency.to_owned(), self.now());
        intent.description = form.text("description").map(str::to_owned);
        intent.metadata = form.metadata("metadata");
        let kind = self.read_payer(&form, &mut intent)?;
        let outcome = self.outcome_for(&intent);
        if form.is_true("confirm") {
            check_outcome(outcome)?;
        }
        let id = intent.id.clone();
        self.memory.intents.insert(id.clone(), intent);
        if form.is_true("confirm") {
            let Some(kind) = kind else { return Err(without_method()) };
            self.confirm(&id, kind, outcome);
        }
        let ended = self.ended(&id, outcome);
        if outcome == PlayedOutcome::Declined && ended.is_ok() {
            // Stripe does not decline a bank debit at once. It is processing until the bank returns it.
            let settled = self.settle(&id, ChargeSettlement::Failed);
            settled.unwrap_or_else(|error| tracing::debug!(%error, "the intent was not confirmed"));
        }
        self.keep();
        self.expanded(ended?, &form)
    }

    /// Looks up the customer and the method, and checks that they belong together.
    fn read_payer(
        &self,
        form: &Form,
        intent: &mut StripeIntent,
    ) -> Result<Option<MethodKind>, StripeRefusal> {
        if let Some(id) = form.text("customer") {
            self.existing_customer(id, "customer")?;
            intent.customer = Some(id.to_owned());
        }
        let Some(id) = form.text("payment_method") else {
            return if form.is_true("confirm") { Err(without_method()) } else { Ok(None) };
        };
        let method = self.memory.methods.get(id);
        let method = method.ok_or_else(|| StripeRefusal::missing("PaymentMethod", id, "payment_method"))?;
        let message = match (&method.customer, &intent.customer) {
            (None, _) if method.is_detached => {
                "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, \
                 shared with a connected account without Customer attachment, or was detached from a Customer. It may \
                 not be used again. To use a PaymentMethod multiple times, you must attach it to a Customer first."
                    .to_owned()
            }
            (Some(owner), None) => format!(
                "The payment method supplied ({id}) belongs to the Customer {owner}. Please include the Customer in \
                 the `customer` parameter on the PaymentIntent."
            ),
            (owner, customer) if owner != customer => format!(
                "The PaymentMethod {id} does not belong to the Customer you supplied {}. Please use this PaymentMethod \
                 with the Customer that it belongs to instead.",
                customer.as_deref().unwrap_or_default()
            ),
            _ => {
                intent.method = Some(id.to_owned());
                intent.status = IntentStatus::RequiresConfirmation;
                return Ok(Some(method.kind));
            }
        };
        Err(StripeRefusal::execution(message).param("payment_method"))
    }

    fn outcome_for(&self, intent: &StripeIntent) -> PlayedOutcome {
        let customer = intent.customer.as_ref().and_then(|id| self.memory.customers.get(id));
        let workspace = customer.map(|customer| &customer.workspace).or(intent.metadata.get("workspace_id"));
        let outcome = workspace.and_then(|workspace| self.memory.outcomes.get(workspace));
        outcome.copied().unwrap_or(PlayedOutcome::Succeeded)
    }

    fn confirm(&mut self, id: &str, kind: MethodKind, outcome: PlayedOutcome) {
        match outcome {
            PlayedOutcome::AuthenticationRequired => self.fail(id, Failing::AuthenticationRequired),
            PlayedOutcome::Processing => self.begin_processing(id),
            _ if kind.is_delayed() => self.begin_processing(id),
            PlayedOutcome::Declined => self.fail(id, Failing::Declined),
            _ => self.succeed(id),
        }
    }

    /// Returns the response to a confirmed charge.
    fn ended(&self, id: &str, outcome: PlayedOutcome) -> Result<Value, StripeRefusal> {
        let Some(intent) = self.memory.intents.get(id) else { return Err(server_error()) };
        if let Some(error) = &intent.last_payment_error {
            return Err(declined(error, intent.object()));
        }
        if outcome == PlayedOutcome::ServerErrorCharged {
            return Err(server_error());
        }
        Ok(intent.object())
    }
}

/// Returns the error of a declined charge: the intent's error, with the intent.
fn declined(error: &Value, intent: Value) -> StripeRefusal {
    let message = error["message"].as_str().unwrap_or_default();
    let mut refusal = StripeRefusal::new(ErrorType::Card, Stage::Execution, message).status(402);
    for name in ["code", "decline_code", "charge", "payment_method"] {
        if let Some(value) = error.get(name) {
            refusal = refusal.member(name, value.clone());
        }
    }
    refusal.member("payment_intent", intent)
}

fn check_outcome(outcome: PlayedOutcome) -> Result<(), StripeRefusal> {
    match outcome {
        PlayedOutcome::ServerError => Err(server_error()),
        PlayedOutcome::Refused => {
            Err(StripeRefusal::execution("Your account cannot currently make charges."))
        }
        _ => Ok(()),
    }
}

fn without_method() -> StripeRefusal {
    let message = "You cannot confirm this PaymentIntent because it's missing a payment method. To confirm the \
                   PaymentIntent with a customer's payment method, specify a payment method attached to the customer.";
    StripeRefusal::execution(message).code("payment_intent_unexpected_state")
}

fn check_confirmation(form: &Form) -> Result<(), StripeRefusal> {
    if !form.is_true("confirm") {
        return match CONFIRMING.into_iter().find(|name| form.has(name)) {
            Some(name) => {
                let message = format!(
                    "The parameter `{name}` cannot be passed when creating a PaymentIntent unless `confirm` is set to true."
                );
                Err(StripeRefusal::validation(message).param(name))
            }
            None => Ok(()),
        };
    }
    let methods = |name: &str| form.text(&format!("automatic_payment_methods[{name}]"));
    if form.has("automatic_payment_methods") && methods("enabled").is_none() {
        return Err(StripeRefusal::required("automatic_payment_methods[enabled]"));
    }
    if methods("allow_redirects") != Some("never") && !form.has("return_url") {
        let message = "This PaymentIntent is configured to accept payment methods enabled in your Dashboard. Because \
                       some of these payment methods might redirect your customer off of your page, you must provide a \
                       `return_url`. If you don't want to accept redirect-based payment methods, set \
                       `automatic_payment_methods[enabled]` to `true` and \
                       `automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents and Payment \
                       Intents.";
        return Err(StripeRefusal::validation(message).param("return_url"));
    }
    Ok(())
}
