//! Purchases: everything that a payment can be for, stored before a person is asked to pay (M5, M6).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::credits::Amount;
use crate::id::{Id, WorkspaceId};
use crate::price::Price;

/// The credits and price of a period. A subscription keeps its terms until it is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub tier: Id,
    /// The credits that each period starts with.
    pub monthly_credits: Amount,
    pub price: Price,
}

/// A purchase with its terms. A later change of the catalogue changes neither what it grants nor what it costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purchase {
    /// Payments name this id, and Stripe's idempotency keys are derived from it.
    pub purchase_id: Id,
    pub workspace_id: WorkspaceId,
    pub goods: Goods,
    pub price: Price,
    pub begun_at: Timestamp,
}

/// What a purchase grants once it is paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "goods", rename_all = "snake_case")]
pub enum Goods {
    /// A fixed block of prepaid credits (M5); the purchase is a top-up.
    Pack { pack: Id, credits: Amount },
    /// A period of a subscription (M6).
    Period {
        /// A new subscription if the period is 1.
        subscription_id: Id,
        /// The number of the subscription's period, from 1.
        period: u64,
        /// The terms of the period.
        terms: Terms,
    },
    /// The rest of a period at a higher tier.
    Upgrade {
        subscription_id: Id,
        /// The number of the running period.
        period: u64,
        /// The terms of the higher tier.
        terms: Terms,
        /// The credits added to the running period.
        credits: Amount,
    },
}

/// A checkout at Stripe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    /// Stripe's id of the checkout session.
    pub checkout_id: String,
    /// The page on which the payer pays.
    pub checkout_url: String,
}

/// A stored payment method, which is charged while the customer is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMethod {
    /// Stripe's id of the customer.
    pub customer: String,
    /// Stripe's id of the payment method.
    pub payment_method: String,
}

/// The fields of a checkout form besides its purchase. The form is stored with the purchase before Stripe is called, so
/// that a retry sends the same form under the same idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckoutForm {
    /// Stripe's id of the customer who pays; Stripe creates a customer if it is absent.
    pub customer: Option<String>,
    /// Prefills the form if there is no customer yet.
    pub email: Option<String>,
    /// Stripe sends the payer to this URL after the payment.
    pub success_url: String,
    /// Stripe sends the payer to this URL if the payer cancels.
    pub cancel_url: String,
    /// The options that the operator has switched on.
    #[serde(default)]
    pub options: CheckoutOptions,
}

/// Options that an operator can switch on for checkouts of packs. They have the names of Stripe's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckoutOptions {
    /// Stripe Tax is added to the price.
    pub automatic_tax: bool,
    /// Payers may enter a tax id.
    pub tax_id_collection: bool,
    /// Payers may enter a promotion code.
    pub allow_promotion_codes: bool,
}

impl Goods {
    /// Returns the credits that the goods grant.
    #[must_use]
    pub fn credits(&self) -> Amount {
        match self {
            Self::Pack { credits, .. } | Self::Upgrade { credits, .. } => *credits,
            Self::Period { terms, .. } => terms.monthly_credits,
        }
    }

    /// Returns the text that the payer reads on the checkout's page and the receipt.
    #[must_use]
    pub fn description(&self) -> String {
        match self {
            Self::Pack { credits, .. } => format!("{credits} AI credits"),
            Self::Period { terms, .. } => format!("{} AI credits a month", terms.monthly_credits),
            Self::Upgrade { terms, .. } => {
                format!("Upgrade to {} AI credits a month", terms.monthly_credits)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Goods, Terms};

    #[test]
    fn description_names_the_goods() {
        let terms = || Terms {
            tier: "tier_2k".parse().unwrap(),
            monthly_credits: "2000".parse().unwrap(),
            price: crate::price::Price { amount_minor: 1600, currency: "USD".parse().unwrap() },
        };
        let (subscription_id, credits) = ("sub_1".parse().unwrap(), "500".parse().unwrap());
        let pack = Goods::Pack { pack: "pack".parse().unwrap(), credits };
        assert_eq!(pack.description(), "500 AI credits");
        let period = Goods::Period { subscription_id, period: 1, terms: terms() };
        assert_eq!(period.description(), "2000 AI credits a month");
        let subscription_id = "sub_1".parse().unwrap();
        let upgrade = Goods::Upgrade { subscription_id, period: 1, terms: terms(), credits };
        assert_eq!(upgrade.description(), "Upgrade to 2000 AI credits a month");
    }
}
