//! A top-up: a pack that is being bought, from the checkout to the payment (M5).

use serde::{Deserialize, Serialize};

use crate::credits::Amount;
use crate::id::{Id, WorkspaceId};
use crate::price::Price;

/// A pack on its way into a workspace. What was promised is kept with it: a later change of the catalogue changes
/// neither what it grants nor what has to be paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopUp {
    /// Its id, which the provider hands back as `client_reference_id`.
    pub top_up_id: Id,
    /// Whose it is.
    pub workspace_id: WorkspaceId,
    /// The pack that was chosen.
    pub pack: Id,
    /// What it will grant.
    pub credits: Amount,
    /// What it costs.
    pub price: Price,
    /// The provider's checkout, once it is open.
    pub checkout: Option<Checkout>,
    /// The payment that paid it.
    pub paid_by: Option<String>,
}

/// A checkout at the payment provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    /// The provider's id.
    pub checkout_id: String,
    /// Where the payer goes.
    pub checkout_url: String,
}
