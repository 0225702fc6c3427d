//! Checkouts as the pages of `cargo local` show and pay them.

use serde::Serialize;

use super::amounts::priced;
use super::customers::PAYER_EMAIL;
use super::events::Delivery;
use super::methods::MethodKind;
use super::payers::add_up;
use super::sessions::{Session, SessionMode, SessionPaymentStatus, SessionStatus};
use super::{PayerOutcome, Paying, PlayError, StripeStandIn};

/// The tax that the page's payer pays if the seller collects tax.
const TAX_PERCENT: u64 = 20;

/// A checkout, with its amounts for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PlayedCheckout {
    pub id: String,
    pub state: CheckoutState,
    pub mode: SessionMode,
    pub workspace: String,
    pub product: String,
    /// The payer's email.
    pub email: String,
    pub subtotal: String,
    /// The tax and its percentage; absent without tax.
    pub tax: Option<String>,
    pub tax_percent: u64,
    pub total: String,
    /// Whether later charges use the payer's method.
    pub stores_method: bool,
    pub success_url: String,
    pub cancel_url: Option<String>,
}

/// The state of a checkout, as its payer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CheckoutState {
    Open,
    /// A bank debit waits for its end.
    Processing,
    Paid,
    /// Nothing was due: the payer's method is stored.
    Stored,
    Expired,
}

impl StripeStandIn {
    /// Returns a checkout; `None` if the id is unknown.
    pub(crate) fn played_checkout(&self, id: &str) -> Option<PlayedCheckout> {
        self.memory.sessions.get(id).map(|session| self.checkout_of(session))
    }

    /// Returns the open checkouts, newest first.
    pub(crate) fn open_checkouts(&self) -> Vec<PlayedCheckout> {
        let sessions = self.memory.sessions.values().rev();
        let open = sessions.filter(|session| session.status == SessionStatus::Open);
        open.map(|session| self.checkout_of(session)).collect()
    }

    /// Plays the payer of the page, who pays with a card. Returns `None` if the checkout is complete: unlike
    /// [`Self::pay`], it never delivers a completion again.
    pub(crate) fn pay_once(
        &mut self,
        id: &str,
        outcome: PayerOutcome,
    ) -> Result<Option<Delivery>, PlayError> {
        let session = self.memory.sessions.get(id).ok_or(PlayError::Unknown("checkout"))?;
        if session.status == SessionStatus::Complete {
            return Ok(None);
        }
        let paying = paying(session, outcome);
        self.pay(id, &paying).map(Some)
    }

    fn checkout_of(&self, session: &Session) -> PlayedCheckout {
        let mut due = session.clone();
        if session.status == SessionStatus::Open && session.mode == SessionMode::Payment {
            // An amount that overflows stays as it was. The payment itself refuses it.
            let _ = add_up(&mut due, &paying(session, PayerOutcome::Succeeded));
        }
        let amount = |minor| priced(minor, &session.currency);
        let customer = session.customer.as_ref().and_then(|id| self.memory.customers.get(id));
        let known = customer.map(|customer| customer.email.clone()).filter(|email| !email.is_empty());
        let email = session.customer_email.clone().or(known);
        PlayedCheckout {
            id: session.id.clone(),
            state: state(session),
            mode: session.mode,
            workspace: session.metadata.get("workspace_id").cloned().unwrap_or_default(),
            product: session.product.clone(),
            email: email.unwrap_or_else(|| PAYER_EMAIL.to_owned()),
            subtotal: amount(session.amount_subtotal),
            tax: (due.amount_tax > 0).then(|| amount(due.amount_tax)),
            tax_percent: TAX_PERCENT,
            total: amount(due.amount_minor),
            stores_method: session.mode == SessionMode::Setup || session.setup_future_usage.is_some(),
            success_url: session.success_url.replace("{CHECKOUT_SESSION_ID}", &session.id),
            cancel_url: session.cancel_url.clone(),
        }
    }
}

fn paying(session: &Session, outcome: PayerOutcome) -> Paying {
    let tax_percent = if session.automatic_tax { TAX_PERCENT } else { 0 };
    Paying { outcome, method: MethodKind::Card, discount_percent: 0, tax_percent }
}

fn state(session: &Session) -> CheckoutState {
    match (session.status, session.mode, session.payment_status) {
        (SessionStatus::Open, _, _) => CheckoutState::Open,
        (SessionStatus::Expired, _, _) => CheckoutState::Expired,
        (SessionStatus::Complete, SessionMode::Setup, _) => CheckoutState::Stored,
        (SessionStatus::Complete, SessionMode::Payment, SessionPaymentStatus::Unpaid) => {
            CheckoutState::Processing
        }
        (SessionStatus::Complete, SessionMode::Payment, _) => CheckoutState::Paid,
    }
}
