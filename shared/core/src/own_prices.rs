//! A workspace's own prices, which apply in place of the rate card's.

use serde::{Deserialize, Serialize};

use crate::credit_rate::CreditRate;
use crate::price_list::Listing;
use crate::rate_card::{ModelRate, OperationRate};

/// The prices that a call or a lane was priced with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PricedWith {
    /// The rate card alone.
    RateCard,
    /// This version of the workspace's own prices.
    OwnPrices(u64),
}

impl From<Option<u64>> for PricedWith {
    fn from(version: Option<u64>) -> Self {
        version.map_or(Self::RateCard, Self::OwnPrices)
    }
}

/// The workspace's own prices are others than those that a call was priced with. The caller prices it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the workspace's own prices have changed")]
pub struct OtherPrices {
    /// The present version; `None` if the workspace has no own prices.
    pub current: Option<u64>,
}

/// The prices that an operator has agreed with one workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnPrices {
    /// The version: 1 for the workspace's first own prices, and one more for each change.
    pub version: u64,
    /// The factor by which every price is multiplied.
    pub multiplier: CreditRate,
    /// Operations that replace those of the rate card with the same name.
    pub operations: Listing<OperationRate>,
    /// Models that replace those of the rate card with the same name.
    pub models: Listing<ModelRate>,
}

impl OwnPrices {
    /// Returns the prices of a workspace that has no own prices, with the version 0.
    #[must_use]
    pub fn none() -> Self {
        let (operations, models) = (Listing::default(), Listing::default());
        Self { version: 0, multiplier: CreditRate::ONE, operations, models }
    }
}
