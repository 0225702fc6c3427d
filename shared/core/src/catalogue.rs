//! The catalogue: packs, tiers, plans and the rate card, read from an operator's data file.

use serde::{Deserialize, Serialize};

use crate::credits::Amount;
use crate::id::Id;
use crate::price::{Currency, Price, Unchargeable};
use crate::rate_card::RateCard;
use crate::rate_cards::{RateCards, RateCardsError};
use crate::subscription::Terms;
use crate::workspace::Plan;

/// A fixed block of prepaid credits (M5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    pub pack: Id,
    pub credits: Amount,
    pub price: Price,
}

/// A size of monthly subscription (M6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    pub tier: Id,
    /// Granted at the start of each month.
    pub monthly_credits: Amount,
    /// The price of a month.
    pub price: Price,
}

impl From<&Tier> for Terms {
    fn from(tier: &Tier) -> Self {
        Self { tier: tier.tier.clone(), monthly_credits: tier.monthly_credits, price: tier.price }
    }
}

/// What a plan allows (M7, M13).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanTerms {
    pub plan: Plan,
    /// Whether workspaces on the plan may subscribe.
    pub subscription: bool,
    /// The maximum number of workflow runs that may start in a month; `None` is no limit.
    pub monthly_runs: Option<u64>,
}

/// The prices of packs, tiers and calls, and the terms of each plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    packs: Vec<Pack>,
    tiers: Vec<Tier>,
    plans: Vec<PlanTerms>,
    rate_cards: RateCards,
}

/// Why a catalogue file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The file is not JSON of the catalogue's shape.
    #[error("the catalogue can't be read")]
    Shape(#[from] serde_json::Error),
    /// The rate cards can't be used together.
    #[error(transparent)]
    RateCards(#[from] RateCardsError),
    /// The file has none of `rate_card` and `rate_cards`, or both.
    #[error("the catalogue must have either rate_card or rate_cards")]
    NoRateCard,
    /// Two packs or tiers have the same id.
    #[error("the catalogue has more than one pack or tier with the id {0}")]
    Twice(Id),
    /// A pack or tier has a price of zero, so a payment for it would look like no payment.
    #[error("{0} has a price of zero")]
    Free(Id),
    /// Stripe can't charge the price of a pack or tier.
    #[error("the price of {id} can't be charged: {reason}")]
    Unchargeable { id: Id, reason: Unchargeable },
    /// A plan is missing, is listed twice, or allows no run at all.
    #[error("the catalogue must state the terms of each plan once, with monthly_runs above zero or null")]
    Plans,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueFile {
    packs: Vec<Pack>,
    tiers: Vec<Tier>,
    plans: Vec<PlanTerms>,
    rate_card: Option<RateCard>,
    rate_cards: Option<RateCards>,
}

impl Catalogue {
    /// Parses and checks a catalogue file.
    pub fn parse(json: &str) -> Result<Self, CatalogueError> {
        let file: CatalogueFile = serde_json::from_str(json)?;
        let rate_cards = match (file.rate_card, file.rate_cards) {
            (Some(card), None) => RateCards::only(card)?,
            (None, Some(cards)) => cards,
            _ => return Err(CatalogueError::NoRateCard),
        };
        let catalogue = Self { packs: file.packs, tiers: file.tiers, plans: file.plans, rate_cards };
        catalogue.check_prices()?;
        catalogue.check_names()?;
        Ok(catalogue)
    }

    #[must_use]
    pub fn rate_cards(&self) -> &RateCards {
        &self.rate_cards
    }

    #[must_use]
    pub fn packs(&self) -> &[Pack] {
        &self.packs
    }

    #[must_use]
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    #[must_use]
    pub fn plans(&self) -> &[PlanTerms] {
        &self.plans
    }

    /// Returns the currency of the first price, tiers before packs; `None` if the catalogue sells nothing.
    #[must_use]
    pub fn currency(&self) -> Option<Currency> {
        let tiers = self.tiers.iter().map(|tier| tier.price);
        tiers.chain(self.packs.iter().map(|pack| pack.price)).map(|price| price.currency).next()
    }

    /// Returns the pack with an id.
    #[must_use]
    pub fn pack(&self, id: &Id) -> Option<&Pack> {
        self.packs.iter().find(|pack| pack.pack == *id)
    }

    /// Returns the tier with an id.
    #[must_use]
    pub fn tier(&self, id: &Id) -> Option<&Tier> {
        self.tiers.iter().find(|tier| tier.tier == *id)
    }

    /// Returns whether workspaces on a plan may subscribe (M7).
    #[must_use]
    pub fn allows_subscription(&self, plan: Plan) -> bool {
        self.terms(plan).is_some_and(|terms| terms.subscription)
    }

    /// Returns what a plan allows. Every plan has terms: [`Self::parse`] refuses a catalogue without them.
    #[must_use]
    pub fn terms(&self, plan: Plan) -> Option<&PlanTerms> {
        self.plans.iter().find(|terms| terms.plan == plan)
    }

    fn check_prices(&self) -> Result<(), CatalogueError> {
        let packs = self.packs.iter().map(|pack| (&pack.pack, pack.price));
        for (id, price) in packs.chain(self.tiers.iter().map(|tier| (&tier.tier, tier.price))) {
            if price.amount_minor == 0 {
                return Err(CatalogueError::Free(id.clone()));
            }
            let unchargeable = |reason| CatalogueError::Unchargeable { id: id.clone(), reason };
            price.check_chargeable().map_err(unchargeable)?;
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), CatalogueError> {
        let mut ids: Vec<&Id> = self.packs.iter().map(|pack| &pack.pack).collect();
        ids.extend(self.tiers.iter().map(|tier| &tier.tier));
        ids.sort();
        if let Some([twice, _]) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(CatalogueError::Twice((*twice).clone()));
        }
        let mut plans: Vec<Plan> = self.plans.iter().map(|terms| terms.plan).collect();
        plans.sort();
        let no_runs = self.plans.iter().any(|terms| terms.monthly_runs == Some(0));
        if plans == Plan::ALL && !no_runs { Ok(()) } else { Err(CatalogueError::Plans) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Catalogue, CatalogueError};
    use crate::workspace::Plan;

    fn catalogue() -> Value {
        let usd = |amount: u64| json!({ "amount": amount, "currency": "USD" });
        let plans = Plan::ALL.map(|plan| {
            let subscribes = plan == Plan::Team;
            json!({ "plan": plan, "subscription": subscribes, "monthly_runs": if subscribes { Some(5) } else { None } })
        });
        json!({
            "packs": [
                { "pack": "pack_1", "credits": "1", "price": usd(100) },
                { "pack": "pack_2", "credits": "2", "price": usd(200) },
            ],
            "tiers": [
                { "tier": "tier_1", "monthly_credits": "1", "price": usd(100) },
                { "tier": "tier_2", "monthly_credits": "2", "price": usd(200) },
            ],
            "plans": plans,
            "rate_card": {
                "version": "v1",
                "operations": [{
                    "operation": "email.send", "base": "1",
                    "per_1k_input_tokens": "0", "per_1k_output_tokens": "0", "per_record": "0",
                }],
                "models": [],
            },
        })
    }

    fn read(catalogue: &Value) -> Result<Catalogue, CatalogueError> {
        Catalogue::parse(&catalogue.to_string())
    }

    #[test]
    fn packs_tiers_and_terms_are_found_by_id() {
        let catalogue = read(&catalogue()).unwrap();
        assert_eq!(catalogue.pack(&"pack_2".parse().unwrap()).unwrap().credits.to_string(), "2");
        assert_eq!(catalogue.pack(&"tier_2".parse().unwrap()), None);
        assert_eq!(catalogue.tier(&"tier_2".parse().unwrap()).unwrap().monthly_credits.to_string(), "2");
        assert_eq!(catalogue.tier(&"pack_2".parse().unwrap()), None);
        for plan in Plan::ALL {
            let subscribes = plan == Plan::Team;
            assert_eq!(catalogue.allows_subscription(plan), subscribes);
            let terms = catalogue.terms(plan).unwrap();
            assert_eq!((terms.plan, terms.monthly_runs), (plan, subscribes.then_some(5)));
        }
    }

    #[test]
    fn duplicate_ids_and_zero_prices_are_refused_by_id() {
        let mut twice = catalogue();
        twice["tiers"][1]["tier"] = json!("pack_2");
        assert!(matches!(read(&twice), Err(CatalogueError::Twice(id)) if id.as_str() == "pack_2"));
        for (list, name) in [("packs", "pack_2"), ("tiers", "tier_2")] {
            let mut free = catalogue();
            free[list][1]["price"]["amount"] = json!(0);
            assert!(matches!(read(&free), Err(CatalogueError::Free(id)) if id.as_str() == name));
        }
    }

    #[test]
    fn price_that_stripe_cannot_charge_is_refused_with_reason() {
        for (list, name, amount, currency, reason) in [
            ("packs", "pack_2", 10_000, "HUF", "HUF 100.00 is below Stripe's minimum charge of HUF 175.00"),
            ("tiers", "tier_2", 1_605, "KWD", "KWD 1.605 is not a multiple of KWD 0.010, as Stripe requires"),
            ("tiers", "tier_1", 1_000, "IQD", "Stripe does not charge IQD"),
        ] {
            let mut unchargeable = catalogue();
            let index = usize::from(name.ends_with('2'));
            unchargeable[list][index]["price"] = json!({ "amount": amount, "currency": currency });
            let refused = read(&unchargeable).unwrap_err();
            assert_eq!(refused.to_string(), format!("the price of {name} can't be charged: {reason}"));
        }
    }

    #[test]
    fn each_plan_needs_terms_once_with_at_least_one_run() {
        let mut missing = catalogue();
        missing["plans"].as_array_mut().unwrap().pop();
        let mut twice = catalogue();
        twice["plans"][1] = twice["plans"][0].clone();
        let mut none = catalogue();
        none["plans"][0]["monthly_runs"] = json!(0);
        for refused in [missing, twice, none] {
            assert!(matches!(read(&refused), Err(CatalogueError::Plans)));
        }
    }
}
