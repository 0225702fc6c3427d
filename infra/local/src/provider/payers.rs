//! Payers: what happens to a checkout when a payer uses its page.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::charges::Failing;
use super::customers::Customer;
use super::events::{Delivery, OutboxEvent};
use super::intents::{IntentStatus, StripeIntent};
use super::methods::MethodKind;
use super::sessions::{CustomerCreation, Session, SessionMode, SessionPaymentStatus, SessionStatus};
use super::setups::SetupStatus;
use super::{PlayError, StripeStandIn};

/// The outcome of a payer's attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayerOutcome {
    /// The payment succeeds. A bank debit is processing first.
    Succeeded,
    /// The method is declined. The checkout stays open.
    Declined,
    /// The payment is processing until it is settled.
    Processing,
}

/// A payer's attempt to pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paying {
    pub outcome: PayerOutcome,
    pub method: MethodKind,
    /// The discount of a promotion code, from 0 to 100 percent.
    pub discount_percent: u64,
    /// The tax on the discounted amount, from 0 to 100 percent.
    pub tax_percent: u64,
}

impl Paying {
    /// Creates an attempt with a card, without discount and tax.
    #[must_use]
    pub fn by_card(outcome: PayerOutcome) -> Self {
        Self { outcome, method: MethodKind::Card, discount_percent: 0, tax_percent: 0 }
    }

    fn is_delayed(&self) -> bool {
        self.method.is_delayed() || self.outcome == PayerOutcome::Processing
    }
}

impl StripeStandIn {
    /// Pays a checkout with a card. Returns the event of its end; `None` if the checkout is unknown or has expired.
    pub fn play(&mut self, id: &str, outcome: PayerOutcome) -> Option<Delivery> {
        self.pay(id, &Paying::by_card(outcome)).ok()
    }

    /// Ends a checkout and returns the event of its end. Other events go to the outbox. For a complete checkout it
    /// returns the event of the completion again.
    pub fn pay(&mut self, id: &str, paying: &Paying) -> Result<Delivery, PlayError> {
        self.expire_due();
        for (percent, name) in
            [(paying.discount_percent, "discount_percent"), (paying.tax_percent, "tax_percent")]
        {
            if percent > 100 {
                return Err(PlayError::Range(name));
            }
        }
        let session = self.memory.sessions.get(id).ok_or(PlayError::Unknown("checkout"))?.clone();
        let waiting = match (session.status, session.mode) {
            (SessionStatus::Expired, _) => return Err(PlayError::State("the checkout has expired")),
            (SessionStatus::Complete, _) => self.completed_again(session),
            (SessionStatus::Open, SessionMode::Payment) => self.pay_open(session, paying)?,
            (SessionStatus::Open, SessionMode::Setup) => self.set_up(session, paying),
        };
        let delivery = self.begin_delivery(waiting);
        self.keep();
        delivery.ok_or(PlayError::State("no secret signs events"))
    }

    fn completed_again(&mut self, session: Session) -> OutboxEvent {
        if let Some(completed) = &session.completed {
            return completed.clone();
        }
        let payment = session.payment_intent.clone().unwrap_or_default();
        self.complete(session, &payment)
    }

    fn pay_open(&mut self, mut session: Session, paying: &Paying) -> Result<OutboxEvent, PlayError> {
        add_up(&mut session, paying).ok_or(PlayError::Range("the amount"))?;
        if session.amount_minor == 0 {
            self.find_payer(&mut session);
            session.payment_status = SessionPaymentStatus::NoPaymentRequired;
            return Ok(self.complete(session, ""));
        }
        let payment = session.payment_intent.clone().unwrap_or_else(|| self.new_id("pi"));
        session.payment_intent = Some(payment.clone());
        if paying.outcome == PayerOutcome::Declined {
            let method = self.new_method(paying.method, None).id;
            self.attempt(&session, &payment, method);
            self.memory.sessions.insert(session.id.clone(), session);
            self.fail(&payment, Failing::Declined);
            return self.memory.outbox.pop().ok_or(PlayError::State("no event was made"));
        }
        let payer = self.find_payer(&mut session).filter(|_| session.setup_future_usage.is_some());
        let method = self.new_method(paying.method, payer.as_deref()).id;
        self.attempt(&session, &payment, method);
        if paying.is_delayed() {
            self.begin_processing(&payment);
        } else {
            self.succeed(&payment);
            session.payment_status = SessionPaymentStatus::Paid;
        }
        Ok(self.complete(session, &payment))
    }

    /// Creates or replaces the intent of a session, with the payer's method.
    fn attempt(&mut self, session: &Session, payment: &str, method: String) {
        let (now, earlier) = (self.now(), self.memory.intents.get(payment));
        let created = earlier.map_or(now, |intent| intent.created);
        let mut intent = StripeIntent::of_session(session, payment.to_owned(), created);
        intent.method = Some(method);
        intent.status = IntentStatus::RequiresConfirmation;
        self.memory.intents.insert(payment.to_owned(), intent);
    }

    /// Stores a method for a session in setup mode.
    fn set_up(&mut self, mut session: Session, paying: &Paying) -> OutboxEvent {
        let id = session.setup_intent.clone().unwrap_or_default();
        if paying.outcome == PayerOutcome::Declined {
            if let Some(setup) = self.memory.setups.get_mut(&id) {
                setup.last_setup_error = Some(json!({
                    "type": "card_error", "code": Failing::Declined.code(),
                    "decline_code": Failing::Declined.decline_code(), "message": Failing::Declined.message(),
                }));
            }
            let object = self.memory.setups.get(&id).map(super::setups::Setup::object);
            return self.event("setup_intent.setup_failed", &object.unwrap_or_default(), &id);
        }
        let payer = self.find_payer(&mut session);
        let method = self.new_method(paying.method, payer.as_deref()).id;
        if let Some(setup) = self.memory.setups.get_mut(&id) {
            setup.customer = payer;
            setup.method = Some(method);
            setup.status = SetupStatus::Succeeded;
            setup.last_setup_error = None;
            let object = setup.object();
            self.emit("setup_intent.succeeded", &object, &id);
        }
        self.complete(session, &id)
    }

    /// Returns the customer of a session, and creates one if the session demands it. Returns `None` for a deleted
    /// customer, so that no method is stored.
    fn find_payer(&mut self, session: &mut Session) -> Option<String> {
        if session.customer.is_none() && session.customer_creation == CustomerCreation::Always {
            let mut customer = Customer::new(self.new_id("cus"), self.now());
            if let Some(email) = &session.customer_email {
                customer.email.clone_from(email);
            }
            customer.has_address = session.automatic_tax;
            session.customer = Some(customer.id.clone());
            let object = customer.object();
            self.memory.customers.insert(customer.id.clone(), customer);
            self.emit("customer.created", &object, "");
        }
        let customer = self.memory.customers.get_mut(session.customer.as_ref()?)?;
        if let Some(workspace) = session.metadata.get("workspace_id") {
            customer.workspace.clone_from(workspace);
        }
        customer.has_address |= session.customer_update.iter().any(|name| name == "address");
        (!customer.is_deleted).then(|| customer.id.clone())
    }

    fn complete(&mut self, mut session: Session, payment: &str) -> OutboxEvent {
        session.status = SessionStatus::Complete;
        self.memory.expiring.remove(&(session.expires_at, session.id.clone()));
        let waiting = self.event("checkout.session.completed", &session.object(None), payment);
        session.completed = Some(waiting.clone());
        self.memory.sessions.insert(session.id.clone(), session);
        waiting
    }
}

/// Computes a session's amounts from the discount and the tax, both rounded down.
pub(super) fn add_up(session: &mut Session, paying: &Paying) -> Option<()> {
    let percent = |amount: u64, percent: u64| amount.checked_mul(percent)?.checked_div(100);
    session.amount_discount = percent(session.amount_subtotal, paying.discount_percent)?;
    let rest = session.amount_subtotal.checked_sub(session.amount_discount)?;
    session.amount_tax = percent(rest, paying.tax_percent)?;
    session.amount_minor = rest.checked_add(session.amount_tax)?;
    Some(())
}
