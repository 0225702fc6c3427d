//! The payments of the stand-in provider, and the buttons with which a person plays Stripe's dashboard and the banks.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::index::LocalPage;
use super::serving::{FormFields, PageError, PageNote};
use crate::provider::{
    ChargeSettlement, PlayError, PlayedDispute, PlayedPayment, PlayedPaymentStatus, PlayedRefund,
    StripeDisputeStatus, StripeRefundStatus, StripeStandIn,
};
use crate::provider_api::{deliver_outbox, provider};
use crate::state::Shared;

/// What a button of a payment plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Play {
    CompleteDebit,
    ReturnDebit,
    Refund,
    RefundHalf,
    RefundLater,
    CompleteRefund,
    FailRefund,
    Inquire,
    Dispute,
    Escalate,
    CloseInquiry,
    WinDispute,
    LoseDispute,
    WinAppeal,
}

/// A button: what it plays, and on which payment, refund or dispute.
#[derive(Debug, Serialize)]
struct PlayButton {
    play: Play,
    label: &'static str,
    id: String,
}

/// A payment, as a row of the table.
#[derive(Debug, Serialize)]
pub(super) struct PaymentRow {
    payment_id: String,
    description: String,
    amount: String,
    parts: Vec<PaymentPart>,
}

/// The payment itself, a refund or a dispute: its status, and what can follow.
#[derive(Debug, Serialize)]
struct PaymentPart {
    status: String,
    buttons: Vec<PlayButton>,
}

impl Play {
    fn label(self) -> &'static str {
        match self {
            Self::CompleteDebit => "Complete debit",
            Self::ReturnDebit => "Return debit",
            Self::Refund => "Refund",
            Self::RefundHalf => "Refund half",
            Self::RefundLater => "Refund later",
            Self::CompleteRefund => "Complete refund",
            Self::FailRefund => "Fail refund",
            Self::Inquire => "Inquire",
            Self::Dispute => "Dispute",
            Self::Escalate => "Escalate",
            Self::CloseInquiry => "Close inquiry",
            Self::WinDispute => "Win dispute",
            Self::LoseDispute => "Lose dispute",
            Self::WinAppeal => "Win appeal",
        }
    }

    fn on(self, id: &str) -> PlayButton {
        PlayButton { play: self, label: self.label(), id: id.to_owned() }
    }

    fn run(self, provider: &mut StripeStandIn, id: &str) -> Result<(), PlayError> {
        let refund =
            |provider: &mut StripeStandIn, amount, status| provider.refund(id, amount, status).map(drop);
        let dispute = |provider: &mut StripeStandIn, status| provider.dispute(id, None, status).map(drop);
        match self {
            Self::CompleteDebit => provider.settle(id, ChargeSettlement::Succeeded),
            Self::ReturnDebit => provider.settle(id, ChargeSettlement::Failed),
            Self::Refund => refund(provider, None, StripeRefundStatus::Succeeded),
            Self::RefundHalf => {
                let half = half_of(provider, id)?;
                refund(provider, Some(half), StripeRefundStatus::Succeeded)
            }
            Self::RefundLater => refund(provider, None, StripeRefundStatus::Pending),
            Self::CompleteRefund => provider.end_refund(id, StripeRefundStatus::Succeeded),
            Self::FailRefund => provider.end_refund(id, StripeRefundStatus::Failed),
            Self::Inquire => dispute(provider, StripeDisputeStatus::WarningNeedsResponse),
            Self::Dispute => dispute(provider, StripeDisputeStatus::NeedsResponse),
            Self::Escalate => provider.move_dispute(id, StripeDisputeStatus::NeedsResponse),
            Self::CloseInquiry => provider.move_dispute(id, StripeDisputeStatus::WarningClosed),
            Self::WinDispute | Self::WinAppeal => provider.move_dispute(id, StripeDisputeStatus::Won),
            Self::LoseDispute => provider.move_dispute(id, StripeDisputeStatus::Lost),
        }
    }
}

/// Returns half of what is not refunded, rounded up.
fn half_of(provider: &StripeStandIn, id: &str) -> Result<u64, PlayError> {
    let payments = provider.played_payments();
    let payment = payments.iter().find(|payment| payment.payment_id == id);
    payment.map(|payment| payment.left_minor.div_ceil(2)).ok_or(PlayError::Unknown("payment"))
}

/// Handles a button of a payment.
pub(super) async fn play(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Response, PageError> {
    let fields = FormFields::read(&body);
    let (page, pressed): (LocalPage, _) = (fields.choice("page")?, fields.text("play"));
    let (play, id) = pressed.split_once(' ').ok_or(PageError::Field("play"))?;
    let play: Play = serde_json::from_value(play.into()).map_err(|_| PageError::Field("play"))?;
    let played = play.run(&mut provider(&shared), id);
    let label = play.label();
    if let Err(error) = played {
        return Ok(PageNote::problem(format!("{label}: {error}")).on(page.path(), "#payments"));
    }
    let events = deliver_outbox(&shared).await.len();
    shared.worker.drain(&shared).await;
    Ok(PageNote::done(format!("{label}: {events} events were delivered")).on(page.path(), "#payments"))
}

/// Returns the rows of the table.
pub(super) fn rows(payments: Vec<PlayedPayment>) -> Vec<PaymentRow> {
    let row = |payment: PlayedPayment| {
        let refunds = payment.refunds.iter().map(of_refund);
        let disputes = payment.disputes.iter().map(of_dispute);
        let parts = std::iter::once(of_payment(&payment)).chain(refunds).chain(disputes).collect();
        let PlayedPayment { payment_id, description, amount, .. } = payment;
        PaymentRow { payment_id, description, amount, parts }
    };
    payments.into_iter().map(row).collect()
}

fn of_payment(payment: &PlayedPayment) -> PaymentPart {
    let mut plays = Vec::new();
    let status = match payment.status {
        PlayedPaymentStatus::Processing => {
            plays.extend([Play::CompleteDebit, Play::ReturnDebit]);
            "Processing"
        }
        PlayedPaymentStatus::Succeeded if payment.is_charged_back => "Charged back",
        PlayedPaymentStatus::Succeeded if payment.left_minor == 0 => "Refunded",
        PlayedPaymentStatus::Succeeded => {
            plays.extend([Play::Refund, Play::RefundHalf, Play::RefundLater]);
            "Paid"
        }
    };
    if payment.status == PlayedPaymentStatus::Succeeded && payment.disputes.is_empty() {
        plays.extend([Play::Inquire, Play::Dispute]);
    }
    part(status.to_owned(), &plays, &payment.payment_id)
}

fn of_refund(refund: &PlayedRefund) -> PaymentPart {
    let (status, plays): (_, &[Play]) = match refund.status {
        StripeRefundStatus::Pending => ("pending", &[Play::CompleteRefund, Play::FailRefund]),
        StripeRefundStatus::Succeeded => ("succeeded", &[Play::FailRefund]),
        StripeRefundStatus::Failed => ("failed", &[]),
    };
    part(format!("Refund of {}, {status}", refund.amount), plays, &refund.refund_id)
}

fn of_dispute(dispute: &PlayedDispute) -> PaymentPart {
    let (status, plays): (_, &[Play]) = match dispute.status {
        StripeDisputeStatus::WarningNeedsResponse | StripeDisputeStatus::WarningUnderReview => {
            ("Inquiry", &[Play::Escalate, Play::CloseInquiry])
        }
        StripeDisputeStatus::WarningClosed => ("Inquiry, closed", &[]),
        StripeDisputeStatus::NeedsResponse | StripeDisputeStatus::UnderReview => {
            ("Dispute, open", &[Play::WinDispute, Play::LoseDispute])
        }
        StripeDisputeStatus::Won => ("Dispute, won", &[]),
        StripeDisputeStatus::Lost => ("Dispute, lost", &[Play::WinAppeal]),
    };
    part(status.to_owned(), plays, &dispute.dispute_id)
}

fn part(status: String, plays: &[Play], id: &str) -> PaymentPart {
    PaymentPart { status, buttons: plays.iter().map(|play| play.on(id)).collect() }
}
