//! The stand-in payment provider: the part of Stripe's API that AI Credits calls, and the events that Stripe publishes.
//!
//! It is as strict as Stripe, and answers with Stripe's errors, so that a request that Stripe would refuse fails here
//! too. Time and ids come from [`Sources`] alone, so a simulation can replay a run.

mod amounts;
mod answering;
mod charges;
mod customers;
mod disputes;
mod errors;
mod events;
mod expanding;
mod failures;
mod form;
mod idempotency;
mod intent_form;
mod intents;
mod legacy;
mod lists;
mod memory;
mod methods;
mod payers;
mod played;
mod played_checkout;
mod recorded;
mod refunds;
mod routes;
mod session_form;
mod sessions;
mod setups;
#[cfg(test)]
mod tests;
mod versions;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use credits_payments::signature::Secret;
use credits_store::Sources;
use credits_store::error::Chain;

pub use answering::{Answered, ProviderRequest};
pub use charges::{ChargeSettlement, PlayedOutcome};
pub use disputes::StripeDisputeStatus;
pub use events::Delivery;
pub use failures::PlannedFailure;
pub use methods::MethodKind;
pub use payers::{PayerOutcome, Paying};
pub(crate) use played::{PlayedDispute, PlayedPayment, PlayedPaymentStatus, PlayedRefund};
pub(crate) use played_checkout::{CheckoutState, PlayedCheckout};
pub use recorded::RecordedRequest;
pub use refunds::StripeRefundStatus;
pub use sessions::{Session, SessionMode};
pub use versions::API_VERSION;

use events::RequestIds;
use failures::RemainingFailure;
use memory::Memory;
use recorded::Recorder;

use crate::{StackError, folder};

/// The stand-in for Stripe.
#[derive(Debug)]
pub struct StripeStandIn {
    memory: Memory,
    file: Option<PathBuf>,
    api_keys: Secret,
    webhook_secret: Secret,
    sources: Sources,
    recorder: Recorder,
    failures: Vec<RemainingFailure>,
    /// Idempotency keys whose first request is in flight.
    in_flight: BTreeSet<String>,
    /// The request being answered. The events that it causes name it.
    request: Option<RequestIds>,
    /// Whether every request is answered with 503.
    pub down: bool,
}

/// Why a control can't play an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlayError {
    /// No object has this id.
    #[error("no such {0}")]
    Unknown(&'static str),
    /// The object's state does not allow it.
    #[error("{0}")]
    State(&'static str),
    #[error("{0} is out of range")]
    Range(&'static str),
}

/// A succeeded payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The payment intent's id.
    pub payment_id: String,
    /// The purchase that the payment is for: the checkout's `client_reference_id`, or the charge's
    /// `metadata[purchase_id]`.
    pub purchase_id: String,
    /// The sum of the refunds, in the currency's smallest unit.
    pub refunded_minor: u64,
    /// The amount, in the currency's smallest unit.
    pub amount_minor: u64,
    /// The sum that disputes withhold, in the currency's smallest unit.
    pub withheld_minor: u64,
    /// Whether a refund of the payment has failed.
    pub has_failed_refund: bool,
    /// The ids that the application gave the refunds: `metadata[refund_id]`.
    pub refund_names: Vec<String>,
}

impl StripeStandIn {
    /// Opens the stand-in with the memory in its folder. `api_keys` holds one key, or several separated by spaces.
    pub fn open(
        folder: Option<&Path>,
        api_keys: Secret,
        webhook_secret: Secret,
        sources: Sources,
    ) -> Result<Self, StackError> {
        let file = folder.map(|folder| folder.join("provider.json"));
        let mut memory = match &file {
            Some(file) if file.exists() => legacy::read(&std::fs::read(file)?)?,
            _ => Memory::default(),
        };
        let begun = std::mem::take(&mut memory.delivering);
        memory.outbox.splice(0..0, begun);
        Ok(Self {
            memory,
            file,
            api_keys,
            webhook_secret,
            sources,
            recorder: Recorder::default(),
            failures: Vec::new(),
            in_flight: BTreeSet::new(),
            request: None,
            down: false,
        })
    }

    /// Returns a checkout session by its id.
    #[must_use]
    pub fn session(&self, id: &str) -> Option<&Session> {
        self.memory.sessions.get(id)
    }

    /// Returns all succeeded payments.
    #[must_use]
    pub fn payments(&self) -> Vec<Made> {
        let paid = self.memory.intents.values().filter(|intent| intent.is_succeeded());
        let purchase = |intent: &intents::StripeIntent| {
            let session = intent.session.as_ref().and_then(|id| self.memory.sessions.get(id));
            match session {
                Some(session) => session.client_reference_id.clone(),
                None => intent.metadata.get("purchase_id").cloned(),
            }
        };
        let refunded = |intent: &intents::StripeIntent| {
            let charge = intent.latest_charge.as_ref().and_then(|id| self.memory.charges.get(id));
            charge.map_or(0, |charge| charge.refunded_minor)
        };
        paid.map(|intent| Made {
            payment_id: intent.id.clone(),
            purchase_id: purchase(intent).unwrap_or_default(),
            refunded_minor: refunded(intent),
            amount_minor: intent.amount_minor,
            withheld_minor: self.withheld_minor(&intent.id),
            has_failed_refund: self.has_failed_refund(&intent.id),
            refund_names: self.refund_names(&intent.id),
        })
        .collect()
    }

    /// Returns one example of each kind of request that the application has sent.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.recorder.requests()
    }

    fn now(&self) -> i64 {
        self.sources.now().as_second()
    }

    fn new_id(&self, prefix: &str) -> String {
        self.sources.new_id(prefix).to_string()
    }

    /// Writes the memory to its file.
    fn keep(&self) {
        let Some(file) = &self.file else { return };
        let memory = serde_json::to_vec(&self.memory).map_err(StackError::from);
        if let Err(error) = memory.and_then(|memory| Ok(folder::keep(file, memory)?)) {
            let error = Chain(&error);
            tracing::error!(%error, "could not write the provider's memory to its file");
        }
    }
}
