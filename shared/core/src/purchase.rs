//! Purchases: all that a payment can be for, kept before anybody is asked to pay (M5, M6).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::credits::Amount;
use crate::id::{Id, WorkspaceId};
use crate::price::Price;
use crate::subscription::Terms;

/// Something that is being bought. What was promised is kept with it: a later change of the catalogue changes neither
/// what it grants nor what has to be paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purchase {
    /// Its id, which is the provider's idempotency key, and what a payment names.
    pub purchase_id: Id,
    /// Whose it is.
    pub workspace_id: WorkspaceId,
    /// What is bought.
    pub goods: Goods,
    /// What it costs.
    pub price: Price,
    /// When it was begun.
    pub begun_at: Timestamp,
}

/// What a purchase grants once it is paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "goods", rename_all = "snake_case")]
pub enum Goods {
    /// A fixed block of prepaid credits (M5); the purchase is a top-up.
    Pack {
        /// The pack that was chosen.
        pack: Id,
        /// What it grants.
        credits: Amount,
    },
    /// A period of a subscription (M6).
    Period {
        /// Which subscription; a new one where the period is 1.
        subscription_id: Id,
        /// Which of its periods, from 1.
        period: u64,
        /// At which tier.
        terms: Terms,
    },
    /// The rest of a period at a higher tier.
    Upgrade {
        /// Which subscription.
        subscription_id: Id,
        /// In which of its periods.
        period: u64,
        /// To which tier.
        terms: Terms,
        /// What it adds to the running period.
        credits: Amount,
    },
}

/// A checkout at the payment provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    /// The provider's id.
    pub checkout_id: String,
    /// Where the payer goes.
    pub checkout_url: String,
}

/// A stored payment method: what is charged while the customer is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMethod {
    /// Stripe's id of the customer.
    pub customer: String,
    /// Stripe's id of the payment method.
    pub payment_method: String,
}

/// What a checkout's form says besides its purchase. It is stored with the purchase before Stripe is called, so that a
/// retry sends the same form under the same idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckoutForm {
    /// The customer who pays; Stripe makes a new one if absent.
    pub customer: Option<String>,
    /// The address that the form is prefilled with where there is no customer yet.
    pub email: Option<String>,
    /// Where Stripe sends the payer after paying.
    pub success_url: String,
    /// Where Stripe sends the payer who turns back.
    pub cancel_url: String,
    /// What the operator has switched on.
    #[serde(default)]
    pub options: CheckoutOptions,
}

/// What an operator can switch on for checkouts of packs: tax and promotion codes (Stripe's parameters of the same names).
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
    /// What it grants.
    #[must_use]
    pub fn credits(&self) -> Amount {
        match self {
            Self::Pack { credits, .. } | Self::Upgrade { credits, .. } => *credits,
            Self::Period { terms, .. } => terms.monthly_credits,
        }
    }

    /// What a payer reads on the checkout's page and the receipt.
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
    use super::Goods;
    use crate::subscription::Terms;

    #[test]
    fn a_payer_reads_what_is_bought() {
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
