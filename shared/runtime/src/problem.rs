//! Problems: the only file that converts refusals to status codes, as `application/problem+json` (RFC 9457,
//! docs/api.md).
//!
//! A problem contains only public information. Internal causes are logged where the problem is created, and never sent.

use credits_core::agreement::{OtherCurrency, Priced};
use credits_core::credits::{CallPrice, Credits};
use credits_core::invoice::InvoiceTooLarge;
use credits_payments::event::EventError;
use credits_payments::signature::SignatureInvalid;
use credits_store::Fault;
use credits_store::agreements::AgreementRefusal;
use credits_store::debit_refunds::DebitRefundRefusal;
use credits_store::debits::DebitRefusal;
use credits_store::error::Chain;
use credits_store::grants::{GrantRefusal, VoidRefusal};
use credits_store::holds::HoldRefusal;
use credits_store::idempotency::ClaimRefusal;
use credits_store::invoices::InvoiceRefusal;
use credits_store::payments::unmatched::ResolveRefusal;
use credits_store::runs::{CompleteRefusal, StartRefusal};
use credits_store::workspaces::WorkspaceRefusal;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The error of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field's path, such as `units.output_tokens`; empty for the body itself.
    pub field: String,
    /// The requirement that the field violates, such as `must be an object`.
    pub message: String,
}

/// A refusal or failure, as the caller receives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    status: u16,
    code: &'static str,
    title: &'static str,
    detail: String,
    members: Map<String, Value>,
    retry_after_seconds: Option<u16>,
}

/// The action of automatic top-up for a refused call (M5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TopUpOfCall {
    /// Automatic top-up buys the packs that the call needs: the caller may retry.
    Started,
    /// Automatic top-up buys nothing for the call: the call needs more than three packs, or a limit is reached.
    Limit,
}

impl Problem {
    /// Builds a 400: the body is not JSON.
    #[must_use]
    pub fn malformed_json() -> Self {
        Self::new(400, "malformed_json", "Malformed JSON", "The body is not valid JSON.")
    }

    /// Builds a 400: the body is not valid base64, although its event says so. Its code is that of malformed JSON.
    #[must_use]
    pub fn malformed_base64() -> Self {
        Self::new(400, "malformed_json", "Malformed JSON", "The body is not valid base64.")
    }

    /// Builds a 400: the call has no idempotency key.
    #[must_use]
    pub fn idempotency_key_missing() -> Self {
        let detail = "This call needs an Idempotency-Key header.";
        Self::new(400, "idempotency_key_missing", "Idempotency key missing", detail)
    }

    /// Builds a 400: the idempotency key is invalid.
    #[must_use]
    pub fn idempotency_key_invalid() -> Self {
        let detail = "The Idempotency-Key must be 1 to 255 visible ASCII characters.";
        Self::new(400, "idempotency_key_invalid", "Idempotency key invalid", detail)
    }

    /// Builds a 403: the token lacks a scope.
    #[must_use]
    pub fn scope_missing(scope: &str) -> Self {
        Self::new(403, "scope_missing", "Scope missing", format!("The token lacks the scope {scope}."))
    }

    /// Builds a 403: the token is for another workspace, whether or not the named one exists.
    #[must_use]
    pub fn workspace_forbidden() -> Self {
        let detail = "The token is not for this call's workspace.";
        Self::new(403, "workspace_forbidden", "Workspace forbidden", detail)
    }

    /// Builds a 403: only workspaces on the Enterprise plan have agreements.
    #[must_use]
    pub fn agreement_forbidden() -> Self {
        let detail = "Only a workspace on the Enterprise plan can have an agreement.";
        Self::new(403, "agreement_forbidden", "Agreement forbidden", detail)
    }

    /// Builds a 404: the workspace does not exist.
    #[must_use]
    pub fn workspace_not_found() -> Self {
        let detail = "There is no workspace of this id.";
        Self::new(404, "workspace_not_found", "Workspace not found", detail)
    }

    /// Builds a 404: the route or resource does not exist.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(404, "not_found", "Not found", "There is no such resource or call.")
    }

    /// Builds a 409: the idempotency key was used for another call.
    #[must_use]
    pub fn idempotency_key_reused() -> Self {
        let detail = "The Idempotency-Key was used before, for another call or another payload.";
        Self::new(409, "idempotency_key_reused", "Idempotency key reused", detail)
    }

    /// Builds a 413: the body is larger than 256 KiB.
    #[must_use]
    pub fn body_too_large() -> Self {
        Self::new(413, "body_too_large", "Body too large", "The body is larger than 256 KiB.")
    }

    /// Builds a 415: the `content-type` is not `application/json`.
    #[must_use]
    pub fn unsupported_media_type() -> Self {
        let detail = "The body must be application/json.";
        Self::new(415, "unsupported_media_type", "Unsupported media type", detail)
    }

    /// Builds a 422 with every error of a request.
    #[must_use]
    pub fn invalid_request(errors: &[FieldError]) -> Self {
        let detail = match errors {
            [one] => format!("{} {}.", one.field, one.message),
            many => format!("{} fields are not as they must be.", many.len()),
        };
        Self::new(422, "invalid_request", "Invalid request", detail.trim().to_owned())
            .with("errors", json!(errors))
    }

    /// Builds a 422 for one invalid field.
    #[must_use]
    pub fn invalid_field(field: &str, message: String) -> Self {
        Self::invalid_request(&[FieldError { field: field.to_owned(), message }])
    }

    /// Builds a 422: the refund exceeds what is left of the debit.
    #[must_use]
    fn exceeds_debit(refundable: Credits) -> Self {
        let detail = "The refund is more than what is left of the debit after earlier refunds.";
        Self::new(422, "exceeds_debit", "Exceeds debit", detail).with("refundable", json!(refundable))
    }

    /// Builds a 422: the refund exceeds what is left of the payment.
    #[must_use]
    pub fn exceeds_payment() -> Self {
        let detail = "That is more than is left of the payment to refund.";
        Self::new(422, "exceeds_payment", "Exceeds payment", detail)
    }

    /// Builds a 409: the payment is disputed, and the dispute decides about its money.
    #[must_use]
    pub fn payment_disputed() -> Self {
        let detail = "The payment is disputed, and the dispute decides about the money.";
        Self::new(409, "payment_disputed", "Payment disputed", detail)
    }

    /// Builds a 402: the balance does not cover the call (M11). It has what an app needs to show a prompt.
    #[must_use]
    pub fn insufficient_credits(required: CallPrice, available: Credits, top_up_url: &str) -> Self {
        let prompt = if available > Credits::ZERO {
            format!("This needs {required} AI credits and {available} are left. Add credits to go on.")
        } else {
            "Your workspace is out of AI credits. Add credits to go on.".to_owned()
        };
        let detail = format!("The call costs {required} credits, and {available} may be spent.");
        Self::insufficient(required, available, detail, &prompt, top_up_url)
    }

    /// Builds a 402: the hold keeps fewer credits than the call costs, whatever the balance.
    fn hold_short(required: CallPrice, kept: Credits, top_up_url: &str) -> Self {
        let prompt = format!("This needs {required} AI credits and {kept} are set aside for it.");
        let detail = format!(
            "The call costs {required} credits, and its hold keeps {kept}. With `extend` the balance pays the rest."
        );
        Self::insufficient(required, kept, detail, &prompt, top_up_url)
    }

    fn insufficient(
        required: CallPrice,
        available: Credits,
        detail: String,
        prompt: &str,
        top_up_url: &str,
    ) -> Self {
        let shortfall = required.credits().minus(available).unwrap_or(required.credits());
        Self::new(402, "insufficient_credits", "Insufficient credits", detail)
            .with("required", json!(required))
            .with("available", json!(available))
            .with("shortfall", json!(shortfall))
            .with("top_up_url", json!(top_up_url))
            .with("prompt", json!(prompt))
    }

    /// Builds a 503: concurrent calls write to the same workspace. The caller may retry after 1 s.
    #[must_use]
    pub fn contended() -> Self {
        let detail = "The workspace is busy. Try again with the same key: nothing is done twice.";
        Self::new(503, "contended", "Contended", detail).retry_after(1)
    }

    /// Builds a 503: a dependency, such as the table or Stripe, is unavailable. The caller may retry after 5 s.
    #[must_use]
    pub fn unavailable() -> Self {
        let detail = "The service can't answer now. Try again with the same key: nothing is done twice.";
        Self::new(503, "unavailable", "Unavailable", detail).retry_after(5)
    }

    /// Returns the HTTP status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the code, by which programs distinguish problems.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Returns after how many seconds the caller may retry.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u16> {
        self.retry_after_seconds
    }

    /// Returns the body, in the form of RFC 9457.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut body = json!({
            "type": format!("urn:ai-credits:problem:{}", self.code),
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        });
        if let Some(object) = body.as_object_mut() {
            object.extend(self.members.clone());
        }
        body
    }

    /// Converts the refusal of a debit.
    #[must_use]
    pub fn of_debit(refusal: DebitRefusal, top_up_url: &str) -> Self {
        match refusal {
            DebitRefusal::KeyReused => Self::idempotency_key_reused(),
            DebitRefusal::WorkspaceNotFound => Self::workspace_not_found(),
            DebitRefusal::Insufficient { required, balance } => {
                Self::insufficient_credits(required, balance.spendable, top_up_url)
            }
            DebitRefusal::OtherPrices(_) => Fault::Contended.into(),
            DebitRefusal::Fault(fault) => fault.into(),
        }
    }

    /// Converts the refusal of a capture or settlement.
    #[must_use]
    pub fn of_hold(refusal: HoldRefusal, top_up_url: &str) -> Self {
        match refusal {
            HoldRefusal::KeyReused => Self::idempotency_key_reused(),
            HoldRefusal::NotFound => Self::not_found(),
            HoldRefusal::AlreadyEnded(hold_id) => {
                let detail = "The hold was settled, or its time has run out.";
                Self::new(409, "hold_closed", "Hold closed", detail).with("hold_id", json!(hold_id))
            }
            HoldRefusal::Full => {
                let detail = "The hold has no room for another capture. Settle it, and place another.";
                Self::new(409, "hold_full", "Hold full", detail)
            }
            HoldRefusal::TooLarge => Self::invalid_request(&[FieldError {
                field: "extend".to_owned(),
                message: "would grow the hold above 12 integer digits".to_owned(),
            }]),
            HoldRefusal::TooManyCalls => Self::invalid_request(&[FieldError {
                field: "hold_ids".to_owned(),
                message: "have too many calls to be settled together".to_owned(),
            }]),
            HoldRefusal::Short { required, kept } => Self::hold_short(required, kept, top_up_url),
            HoldRefusal::Insufficient { line, available, .. } => {
                Self::insufficient_credits(line.amount, available, top_up_url)
            }
            HoldRefusal::OtherPrices(_) => Fault::Contended.into(),
            HoldRefusal::Fault(fault) => fault.into(),
        }
    }

    /// Adds the action of automatic top-up for the refused call, if automatic top-up is on.
    #[must_use]
    pub fn with_top_up(self, top_up: Option<TopUpOfCall>) -> Self {
        match top_up {
            Some(top_up) => self.with("top_up", json!(top_up)),
            None => self,
        }
    }

    fn new(status: u16, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { status, code, title, detail, members: Map::new(), retry_after_seconds: None }
    }

    fn with(mut self, member: &str, value: Value) -> Self {
        self.members.insert(member.to_owned(), value);
        self
    }

    fn retry_after(self, seconds: u16) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let error = Chain(&fault);
        if matches!(fault, Fault::Contended) {
            tracing::warn!(%error, "gave up on a contended workspace");
            return Self::contended();
        }
        tracing::error!(%error, "the store failed");
        Self::unavailable()
    }
}

impl From<ClaimRefusal> for Problem {
    fn from(refusal: ClaimRefusal) -> Self {
        match refusal {
            ClaimRefusal::KeyReused => Self::idempotency_key_reused(),
            ClaimRefusal::WorkspaceNotFound => Self::workspace_not_found(),
            ClaimRefusal::Fault(fault) => fault.into(),
        }
    }
}

impl From<GrantRefusal> for Problem {
    fn from(refusal: GrantRefusal) -> Self {
        match refusal {
            GrantRefusal::TooMany => {
                let detail = "The workspace has as many expiring grants as it may. Grant prepaid credits, or wait until one expires.";
                Self::new(409, "too_many_grants", "Too many grants", detail)
            }
            GrantRefusal::Claim(refusal) => refusal.into(),
        }
    }
}

impl From<VoidRefusal> for Problem {
    fn from(refusal: VoidRefusal) -> Self {
        match refusal {
            VoidRefusal::KeyReused => Self::idempotency_key_reused(),
            VoidRefusal::WorkspaceNotFound => Self::workspace_not_found(),
            VoidRefusal::GrantNotFound => Self::not_found(),
            VoidRefusal::NotVoidable => {
                let detail = "The grant is a subscription's allocation or a commitment, and no operator's. Refund its payment, or change the agreement.";
                Self::new(409, "grant_not_voidable", "Grant not voidable", detail)
            }
            VoidRefusal::Voided => {
                Self::new(409, "grant_voided", "Grant voided", "The grant was voided before.")
            }
            VoidRefusal::Fault(fault) => fault.into(),
        }
    }
}

impl From<DebitRefundRefusal> for Problem {
    fn from(refusal: DebitRefundRefusal) -> Self {
        match refusal {
            DebitRefundRefusal::KeyReused => Self::idempotency_key_reused(),
            DebitRefundRefusal::WorkspaceNotFound => Self::workspace_not_found(),
            DebitRefundRefusal::DebitNotFound => Self::not_found(),
            DebitRefundRefusal::LineNotFound => {
                Self::invalid_field("line", "is not the index of a call of this debit".to_owned())
            }
            DebitRefundRefusal::CaptureNotFound => {
                Self::invalid_field("capture_id", "is not a capture of this debit".to_owned())
            }
            DebitRefundRefusal::ExceedsDebit { refundable } => Self::exceeds_debit(refundable),
            DebitRefundRefusal::Fault(fault) => fault.into(),
        }
    }
}

impl From<AgreementRefusal> for Problem {
    fn from(refusal: AgreementRefusal) -> Self {
        match refusal {
            AgreementRefusal::WorkspaceNotFound => Self::workspace_not_found(),
            AgreementRefusal::OtherCurrency(OtherCurrency { owed, refused }) => {
                let field = match refused {
                    Priced::Commitment => "commitment.price.currency",
                    Priced::Invoicing => "invoicing.currency",
                };
                let message = format!("must be {owed} until the commitment of this month is invoiced");
                Self::invalid_request(&[FieldError { field: field.to_owned(), message }])
            }
            AgreementRefusal::InvoiceTooLarge(InvoiceTooLarge { credits }) => {
                Self::invalid_request(&[FieldError {
                    field: "invoicing.price_per_credit_micros".to_owned(),
                    message: format!(
                        "must be lower: the limits that are agreed allow a debt of {credits} credits, which an invoice could not say"
                    ),
                }])
            }
            AgreementRefusal::Fault(fault) => fault.into(),
        }
    }
}

impl From<InvoiceRefusal> for Problem {
    fn from(refusal: InvoiceRefusal) -> Self {
        match refusal {
            InvoiceRefusal::KeyReused => Self::idempotency_key_reused(),
            InvoiceRefusal::NotFound => Self::not_found(),
            InvoiceRefusal::Fault(fault) => fault.into(),
        }
    }
}

impl From<ResolveRefusal> for Problem {
    fn from(refusal: ResolveRefusal) -> Self {
        let resolved = |detail: String| Self::new(409, "payment_resolved", "Payment resolved", detail);
        match refusal {
            ResolveRefusal::NotFound => Self::not_found(),
            ResolveRefusal::Granted => resolved("The payment fits a purchase, and is granted.".to_owned()),
            ResolveRefusal::Resolved(known) => {
                let resolution = json!(known.resolution);
                let said = resolution.as_str().unwrap_or_default();
                resolved(format!("The payment was resolved before, as {said}."))
                    .with("resolution", resolution)
            }
            ResolveRefusal::Fault(fault) => fault.into(),
        }
    }
}

impl From<WorkspaceRefusal> for Problem {
    fn from(refusal: WorkspaceRefusal) -> Self {
        match refusal {
            WorkspaceRefusal::WorkspaceNotFound => Self::workspace_not_found(),
            WorkspaceRefusal::Fault(fault) => fault.into(),
        }
    }
}

impl From<StartRefusal> for Problem {
    fn from(refusal: StartRefusal) -> Self {
        match refusal {
            StartRefusal::KeyReused => Self::idempotency_key_reused(),
            StartRefusal::WorkspaceNotFound => Self::workspace_not_found(),
            StartRefusal::AllowanceExhausted(allowance) => {
                let detail = "The plan's workflow runs of this month are used up.";
                Self::new(403, "run_allowance_exhausted", "Run allowance exhausted", detail)
                    .with("used", json!(allowance.used))
                    .with("limit", json!(allowance.limit))
                    .with("resets_at", json!(allowance.resets_at))
            }
            StartRefusal::Fault(fault) => fault.into(),
        }
    }
}

impl From<CompleteRefusal> for Problem {
    fn from(refusal: CompleteRefusal) -> Self {
        match refusal {
            CompleteRefusal::KeyReused => Self::idempotency_key_reused(),
            CompleteRefusal::RunNotFound => Self::not_found(),
            CompleteRefusal::Closed => Self::new(409, "run_closed", "Run closed", "The run has ended."),
            CompleteRefusal::Fault(fault) => fault.into(),
        }
    }
}

impl From<SignatureInvalid> for Problem {
    fn from(invalid: SignatureInvalid) -> Self {
        tracing::warn!(%invalid, "an event has an invalid signature");
        let detail = "The signature does not match the body, the time or any active secret.";
        Self::new(400, "signature_invalid", "Signature invalid", detail)
    }
}

impl From<credits_aws::secrets::SecretError> for Problem {
    fn from(unread: credits_aws::secrets::SecretError) -> Self {
        let error = Chain(&unread);
        tracing::error!(%error, "a secret could not be read");
        Self::unavailable()
    }
}

#[cfg(feature = "provider")]
impl From<credits_payments::provider::ProviderError> for Problem {
    fn from(failed: credits_payments::provider::ProviderError) -> Self {
        let error = Chain(&failed);
        tracing::error!(%error, "the payment provider failed");
        Self::unavailable()
    }
}

#[cfg(feature = "provider")]
impl From<credits_billing::BillingFault> for Problem {
    fn from(fault: credits_billing::BillingFault) -> Self {
        match fault {
            credits_billing::BillingFault::Store(fault) => fault.into(),
            credits_billing::BillingFault::Provider(error) => error.into(),
        }
    }
}

#[cfg(feature = "provider")]
impl From<credits_billing::subscribe::SubscribeRefusal> for Problem {
    fn from(refusal: credits_billing::subscribe::SubscribeRefusal) -> Self {
        use credits_billing::subscribe::SubscribeRefusal as Refusal;
        match refusal {
            Refusal::WorkspaceNotFound => Self::workspace_not_found(),
            Refusal::NoSubscription => Self::not_found(),
            Refusal::UnknownTier => {
                let message = "is not a tier of the catalogue".to_owned();
                Self::invalid_request(&[FieldError { field: "tier".to_owned(), message }])
            }
            Refusal::PlanForbids => {
                let detail = "The workspace's plan has prepaid credits only.";
                Self::new(403, "plan_forbids_subscription", "Plan forbids subscription", detail)
            }
            Refusal::PriceChanged(due_now) => {
                let detail = format!("{due_now} would be charged now. Nothing was charged.");
                Self::new(409, "price_changed", "Price changed", detail).with("due_now", json!(due_now))
            }
            Refusal::Declined(reason) => {
                let detail = "The stored payment method was declined, and nothing has changed.";
                Self::new(402, "payment_declined", "Payment declined", detail).with("reason", json!(reason))
            }
            Refusal::Fault(fault) => fault.into(),
        }
    }
}

#[cfg(feature = "provider")]
impl From<credits_billing::MethodRefusal> for Problem {
    fn from(refusal: credits_billing::MethodRefusal) -> Self {
        use credits_billing::MethodRefusal as Refusal;
        match refusal {
            Refusal::WorkspaceNotFound => Self::workspace_not_found(),
            Refusal::InUse => {
                let detail = "A subscription renews with this payment method, or a charge of it is open. Cancel the subscription first, or store another method.";
                Self::new(409, "payment_method_in_use", "Payment method in use", detail)
            }
            Refusal::NothingSold => Self::not_found(),
            Refusal::Fault(fault) => fault.into(),
        }
    }
}

impl From<EventError> for Problem {
    fn from(unread: EventError) -> Self {
        // The source of the error may repeat the event's data, so it is not logged.
        tracing::error!(error = %unread, "a signed event could not be read");
        match unread {
            EventError::Json(_) => Self::malformed_json(),
            EventError::Members(bad) => {
                let errors =
                    bad.into_iter().map(|bad| FieldError { field: bad.field, message: bad.message.into() });
                Self::invalid_request(&errors.collect::<Vec<_>>())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Problem;

    #[test]
    fn m11_insufficient_credits_has_what_an_app_prompt_needs() {
        let problem = Problem::insufficient_credits(
            "3.4".parse().unwrap(),
            "1.2".parse().unwrap(),
            "https://hub.test/settings/ai-credits",
        );
        insta::assert_json_snapshot!(problem.body(), @r#"
        {
          "available": "1.2",
          "code": "insufficient_credits",
          "detail": "The call costs 3.4 credits, and 1.2 may be spent.",
          "prompt": "This needs 3.4 AI credits and 1.2 are left. Add credits to go on.",
          "required": "3.4",
          "shortfall": "2.2",
          "status": 402,
          "title": "Insufficient credits",
          "top_up_url": "https://hub.test/settings/ai-credits",
          "type": "urn:ai-credits:problem:insufficient_credits"
        }
        "#);
    }
}
