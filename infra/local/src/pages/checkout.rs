//! The page that a payer sees in place of Stripe's checkout page.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use minijinja::context;
use serde::Deserialize;

use super::serving::{FormFields, PageError, PageNote, page, redirect};
use crate::provider::{CheckoutState, Delivery, PayerOutcome, PlayError};
use crate::provider_api::provider;
use crate::state::Shared;
use crate::worker::deliver;

/// A button of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CheckoutChoice {
    Pay,
    Decline,
    /// The bank asks the payer to approve the payment.
    Authenticate,
    Approve,
    Reject,
}

/// Shows a checkout: the form, the bank's question, or the end.
pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, PageError> {
    let checkout = provider(&shared).played_checkout(&id).ok_or(PageError::Unknown("checkout"))?;
    let (note, step) = (PageNote::of(&uri), FormFields::read(uri.query().unwrap_or_default().as_bytes()));
    let template = match checkout.state {
        CheckoutState::Open => "checkout.html",
        _ => "checkout_end.html",
    };
    let targets = [checkout.success_url.as_str()];
    let at_bank = step.text("step") == "bank";
    page(template, context! { checkout, note, at_bank }, &targets)
}

/// Handles a button of the page.
pub(super) async fn submit(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, PageError> {
    let own = format!("/_local/checkouts/{id}");
    let (outcome, declined) = match FormFields::read(&body).choice("choice")? {
        CheckoutChoice::Authenticate => return Ok(redirect(&format!("{own}?step=bank"))),
        CheckoutChoice::Pay | CheckoutChoice::Approve => (PayerOutcome::Succeeded, ""),
        CheckoutChoice::Decline => (PayerOutcome::Declined, "Your card was declined. Try another card."),
        CheckoutChoice::Reject => {
            (PayerOutcome::Declined, "Your bank did not approve the payment. Nothing was charged.")
        }
    };
    let played = provider(&shared).pay_once(&id, outcome);
    let delivery = match played {
        Ok(Some(delivery)) => delivery,
        // The page then says that the checkout is already paid, or that it has expired.
        Ok(None) | Err(PlayError::State(_)) => return Ok(redirect(&own)),
        Err(error @ (PlayError::Unknown(_) | PlayError::Range(_))) => {
            return Err(PageError::Failed(error.to_string()));
        }
    };
    let status = deliver_all(&shared, delivery).await?;
    if outcome == PayerOutcome::Declined {
        return Ok(PageNote::problem(declined).on(&own, ""));
    }
    if !status.is_success() {
        let answered =
            format!("The webhook answered {status}. Stripe would send the event again for three days.");
        return Ok(PageNote::problem(answered).on(&own, ""));
    }
    let checkout = provider(&shared).played_checkout(&id).ok_or(PageError::Unknown("checkout"))?;
    Ok(redirect(&checkout.success_url))
}

/// Delivers the event of the checkout's end and everything that follows from it, so that the next page shows it.
///
/// A task does it: after a double click the browser drops the first request, and hyper then drops its handler.
async fn deliver_all(shared: &Arc<Shared>, delivery: Delivery) -> Result<StatusCode, PageError> {
    let shared = Arc::clone(shared);
    let delivered = tokio::spawn(async move {
        let status = deliver(&shared, delivery).await.status();
        shared.worker.drain(&shared).await;
        status
    });
    delivered.await.map_err(|error| PageError::Failed(error.to_string()))
}
