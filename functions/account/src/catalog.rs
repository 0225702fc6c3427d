//! `/v1/catalog`: packs, tiers, plans and the rate card, also with a workspace's own prices.

use std::borrow::Cow;

use credits_core::catalogue::{Catalogue, Pack, PlanTerms, Tier};
use credits_core::credit_rate::CreditRate;
use credits_core::id::WorkspaceId;
use credits_core::own_prices::OwnPrices;
use credits_core::rate_card::RateCard;
use credits_core::seller::Seller;
use credits_runtime::{Answer, Call, Problem, query};
use credits_store::Store;
use jiff::Timestamp;
use serde::Serialize;

use crate::Account;

#[derive(Debug, Serialize)]
struct CatalogueBody<'a> {
    packs: &'a [Pack],
    tiers: &'a [Tier],
    plans: &'a [PlanTerms],
    /// The rate card that is in effect, with the operations and models of the workspace.
    rate_card: Cow<'a, RateCard>,
    /// The rate cards that take effect later.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    later_rate_cards: Vec<Cow<'a, RateCard>>,
    /// The workspace's own prices; absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pricing: Option<PricingBody>,
    seller: Option<&'a Seller>,
}

#[derive(Debug, Serialize)]
struct PricingBody {
    version: u64,
    /// Every price is multiplied by it.
    multiplier: CreditRate,
}

impl Account {
    pub(crate) async fn catalog(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let own = match read_workspace(call)? {
            Some(workspace) => own_prices(store, &workspace).await?,
            None => None,
        };
        let body = CatalogueBody::of(&self.catalogue, own.as_ref(), store.now());
        Ok(Answer::ok(&CatalogueBody { seller: self.seller.as_ref(), ..body }))
    }
}

/// Reads the workspace whose prices are wanted. Refuses a token that is not for it.
fn read_workspace(call: &Call) -> Result<Option<WorkspaceId>, Problem> {
    let mut named = None;
    query::read(call.query(), |name, value| match name {
        "workspace" => {
            named = Some(value.to_owned());
            Ok(())
        }
        _ => query::unknown(),
    })?;
    named.map(|named| call.token_claims().workspace(&named)).transpose()
}

async fn own_prices(store: &Store, workspace: &WorkspaceId) -> Result<Option<OwnPrices>, Problem> {
    let version = store.own_prices().version(workspace).await?.ok_or_else(Problem::workspace_not_found)?;
    match version {
        Some(version) => Ok(Some(store.own_prices().get(workspace, version).await?)),
        None => Ok(None),
    }
}

impl<'a> CatalogueBody<'a> {
    fn of(catalogue: &'a Catalogue, own: Option<&OwnPrices>, now: Timestamp) -> Self {
        let shown = |card: &'a RateCard| own.map_or(Cow::Borrowed(card), |own| Cow::Owned(card.with(own)));
        let later = catalogue.rate_cards().iter().filter(|card| card.effective_from() > Some(now));
        Self {
            packs: catalogue.packs(),
            tiers: catalogue.tiers(),
            plans: catalogue.plans(),
            rate_card: shown(catalogue.rate_cards().at(now)),
            later_rate_cards: later.map(shown).collect(),
            pricing: own.map(|own| PricingBody { version: own.version, multiplier: own.multiplier }),
            seller: None,
        }
    }
}
