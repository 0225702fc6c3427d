//! The catalogue: packs, tiers, plans and the rate card, as an operator's data file states them.

use serde::{Deserialize, Serialize, Serializer};

use crate::credits::Amount;
use crate::id::{Id, Name};
use crate::price::Price;
use crate::rate_card::{ModelRate, OperationRate, RateCard, RateCardError};
use crate::subscription::Terms;
use crate::workspace::Plan;

/// A fixed block of prepaid credits (M5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// The pack's id.
    pub pack: Id,
    /// What it grants.
    pub credits: Amount,
    /// What it costs.
    pub price: Price,
}

/// A size of monthly subscription (M6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// The tier's id.
    pub tier: Id,
    /// What each month starts with.
    pub monthly_credits: Amount,
    /// What a month costs.
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
    /// The plan.
    pub plan: Plan,
    /// Whether a monthly subscription can be had.
    pub subscription: bool,
    /// How many workflow runs a month may start; `None` is no limit.
    pub monthly_runs: Option<u64>,
}

/// All that has a price, and what each plan allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Catalogue {
    packs: Vec<Pack>,
    tiers: Vec<Tier>,
    plans: Vec<PlanTerms>,
    rate_card: RateCard,
}

/// Why a catalogue file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// It is not JSON of the catalogue's shape.
    #[error("the catalogue can't be read")]
    Shape(#[from] serde_json::Error),
    /// Its rate card is wrong.
    #[error("the catalogue's rate card can't be used")]
    RateCard(#[from] RateCardError),
    /// A pack or tier stands in it twice.
    #[error("{0} stands in the catalogue twice")]
    Twice(Id),
    /// A pack or tier costs nothing, so no payment could be told from none.
    #[error("{0} has a price of zero")]
    Free(Id),
    /// A plan is missing, stands in it twice, or allows no run at all.
    #[error("the catalogue must state the terms of each plan once, with a run a month or more")]
    Plans,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueFile {
    packs: Vec<Pack>,
    tiers: Vec<Tier>,
    plans: Vec<PlanTerms>,
    rate_card: RateCardFile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateCardFile {
    version: Name,
    operations: Vec<OperationRate>,
    models: Vec<ModelRate>,
}

impl Catalogue {
    /// Reads and checks a catalogue file.
    pub fn parse(json: &str) -> Result<Self, CatalogueError> {
        let file: CatalogueFile = serde_json::from_str(json)?;
        let RateCardFile { version, operations, models } = file.rate_card;
        let rate_card = RateCard::new(version, operations, models)?;
        let catalogue = Self { packs: file.packs, tiers: file.tiers, plans: file.plans, rate_card };
        catalogue.check_names()?;
        Ok(catalogue)
    }

    /// The rate card.
    #[must_use]
    pub fn rate_card(&self) -> &RateCard {
        &self.rate_card
    }

    /// All packs.
    #[must_use]
    pub fn packs(&self) -> &[Pack] {
        &self.packs
    }

    /// All tiers.
    #[must_use]
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// The pack of that id.
    #[must_use]
    pub fn pack(&self, id: &Id) -> Option<&Pack> {
        self.packs.iter().find(|pack| pack.pack == *id)
    }

    /// The tier of that id.
    #[must_use]
    pub fn tier(&self, id: &Id) -> Option<&Tier> {
        self.tiers.iter().find(|tier| tier.tier == *id)
    }

    /// Whether a plan may subscribe (M7).
    #[must_use]
    pub fn allows_subscription(&self, plan: Plan) -> bool {
        self.terms(plan).is_some_and(|terms| terms.subscription)
    }

    /// What a plan allows. Every plan has its terms: a catalogue without them isn't read.
    #[must_use]
    pub fn terms(&self, plan: Plan) -> Option<&PlanTerms> {
        self.plans.iter().find(|terms| terms.plan == plan)
    }

    fn check_names(&self) -> Result<(), CatalogueError> {
        let packs = self.packs.iter().map(|pack| (&pack.pack, pack.price));
        let mut priced = packs.chain(self.tiers.iter().map(|tier| (&tier.tier, tier.price)));
        if let Some((free, _)) = priced.find(|(_, price)| price.amount_minor == 0) {
            return Err(CatalogueError::Free(free.clone()));
        }
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

/// Writes a map as the list of its values, which is how the catalogue shows its rates.
pub(crate) fn values<K, V: Serialize, S: Serializer>(
    map: &std::collections::BTreeMap<K, V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map.values())
}
