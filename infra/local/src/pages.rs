//! The pages of `cargo local`: the index at `/`, the payments, and the checkout.
//!
//! They are HTML with links and forms, so they work without JavaScript. A form answers with a redirect, so a reload
//! never sends it again.

mod checkout;
mod docs;
mod forms;
mod index;
mod payments;
mod serving;
mod workspaces;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::{get, post};

use crate::state::Shared;

/// Returns the routes of the pages.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", get(index::show))
        .route("/_local/payments", get(index::show_payments))
        .route("/_local/checkouts/{checkout_id}", get(checkout::show).post(checkout::submit))
        .route("/_local/pages/{file}", get(serving::file))
        .route("/_local/docs/{file}", get(docs::show))
        .route("/_local/forms/open", post(workspaces::open))
        .route("/_local/forms/workspace", post(workspaces::create))
        .route("/_local/forms/clock", post(forms::advance_clock))
        .route("/_local/forms/payment", post(payments::play))
        .route("/_local/forms/charges", post(forms::decide_charges))
        .route("/_local/forms/outage", post(forms::set_outage))
        .route_layer(from_fn(serving::refuse_other_sites))
}
