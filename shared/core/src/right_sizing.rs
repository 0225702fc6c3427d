//! Right-sizing: a workspace's own months, replayed against every tier and pack of the catalogue (M17).
//!
//! Each replay starts with nothing and spends as M16 says: the month's allocation first, the prepaid buffer after it. A
//! pack is bought whenever the buffer would not cover a month, and what is left of one stays. Of the choices under which
//! nothing would have been refused, the cheapest is recommended.

use crate::catalogue::{Pack, Tier};
use crate::credits::{Credits, OutOfRange};
use crate::month::Month;
use crate::price::{Currency, Price};

/// What a month needed: what was consumed, and what was refused for want of credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The month.
    pub month: Month,
    /// What it needed.
    pub credits: Credits,
}

/// A tier, a pack, both, or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The subscription's tier.
    pub tier: Option<&'a Tier>,
    /// The pack of which the buffer is made.
    pub pack: Option<&'a Pack>,
}

/// What a choice would have cost, month by month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay<'a> {
    /// The choice.
    pub choice: Choice<'a>,
    /// Its months, in order.
    pub months: Vec<ReplayedMonth>,
    /// What all of it would have cost.
    pub price: Price,
}

/// A month of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayedMonth {
    /// The month.
    pub month: Month,
    /// What it needed.
    pub needed: Credits,
    /// What of it the allocation would have covered.
    pub from_allocation: Credits,
    /// What of it the buffer would have covered.
    pub from_prepaid: Credits,
    /// How many packs would have been bought.
    pub packs_bought: u64,
    /// What the month would have cost.
    pub price: Price,
}

/// All choices that would have covered every month, cheapest first, in one currency.
pub fn replays<'a>(
    needs: &[Need],
    (packs, tiers): (&'a [Pack], &'a [Tier]),
    currency: Currency,
) -> Result<Vec<Replay<'a>>, OutOfRange> {
    let packs: Vec<&Pack> = packs.iter().filter(|pack| pack.price.currency == currency).collect();
    let tiers: Vec<&Tier> = tiers.iter().filter(|tier| tier.price.currency == currency).collect();
    let with_none = |pack: &&'a Pack| Some(*pack);
    let mut replays = Vec::new();
    for tier in std::iter::once(None).chain(tiers.into_iter().map(Some)) {
        for pack in std::iter::once(None).chain(packs.iter().map(with_none)) {
            replays.extend(Choice { tier, pack }.replay(needs, currency)?);
        }
    }
    // A pack that is never bought is no part of the choice.
    replays.retain(|replay| replay.choice.pack.is_none() || replay.packs_bought() > 0);
    replays.sort_by_key(|replay| replay.price.amount_minor);
    Ok(replays)
}

impl<'a> Choice<'a> {
    /// Replays the months; `None` where something would have been refused.
    fn replay(self, needs: &[Need], currency: Currency) -> Result<Option<Replay<'a>>, OutOfRange> {
        let (mut buffer, mut total) = (Credits::ZERO, 0_u64);
        let mut months = Vec::new();
        let allocation = self.tier.map_or(Credits::ZERO, |tier| tier.monthly_credits.credits());
        let fee = self.tier.map_or(0, |tier| tier.price.amount_minor);
        for need in needs {
            let from_allocation = need.credits.min(allocation);
            let from_prepaid = need.credits.minus(from_allocation)?;
            let missing = from_prepaid.minus(buffer)?.or_zero();
            let Some((packs_bought, paid)) = self.buy(missing)? else { return Ok(None) };
            buffer = buffer.plus(self.bought(packs_bought)?)?.minus(from_prepaid)?;
            let amount_minor = fee.checked_add(paid).ok_or(OutOfRange)?;
            total = total.checked_add(amount_minor).ok_or(OutOfRange)?;
            let (month, needed, price) = (need.month, need.credits, Price { amount_minor, currency });
            months.push(ReplayedMonth { month, needed, from_allocation, from_prepaid, packs_bought, price });
        }
        Ok(Some(Replay { choice: self, months, price: Price { amount_minor: total, currency } }))
    }

    /// How many packs cover what is missing, and what they cost; `None` without a pack.
    fn buy(self, missing: Credits) -> Result<Option<(u64, u64)>, OutOfRange> {
        if missing.is_zero() {
            return Ok(Some((0, 0)));
        }
        let Some(pack) = self.pack else { return Ok(None) };
        let (missing, size) = (missing.micros()?, pack.credits.credits().micros()?);
        let whole = missing.checked_add(size).and_then(|sum| sum.checked_sub(1)).ok_or(OutOfRange)?;
        let count = whole.checked_div(size).and_then(|count| u64::try_from(count).ok()).ok_or(OutOfRange)?;
        let price = count.checked_mul(pack.price.amount_minor).ok_or(OutOfRange)?;
        Ok(Some((count, price)))
    }

    fn bought(self, packs: u64) -> Result<Credits, OutOfRange> {
        let Some(pack) = self.pack else { return Ok(Credits::ZERO) };
        let micros = pack.credits.credits().micros()?.checked_mul(i128::from(packs)).ok_or(OutOfRange)?;
        Credits::from_micros(micros)
    }
}

impl Replay<'_> {
    /// How many packs would have been bought in all.
    #[must_use]
    pub fn packs_bought(&self) -> u64 {
        self.months.iter().fold(0, |sum, month| sum.saturating_add(month.packs_bought))
    }
}

#[cfg(test)]
mod tests {
    use super::{Need, replays};
    use crate::catalogue::Catalogue;

    const CATALOGUE: &str = include_str!("../../../infra/catalogue.json");

    fn needs(credits: &[&str]) -> Vec<Need> {
        let mut month: crate::month::Month = "2026-01".parse().unwrap();
        let need = |credits: &&str| {
            let need = Need { month, credits: credits.parse().unwrap() };
            month = crate::month::Month::of(month.end());
            need
        };
        credits.iter().map(need).collect()
    }

    /// The cheapest choice: its tier, its pack, what was bought of it, and the price.
    fn cheapest(credits: &[&str]) -> String {
        let catalogue = Catalogue::parse(CATALOGUE).unwrap();
        let all =
            replays(&needs(credits), (catalogue.packs(), catalogue.tiers()), "USD".parse().unwrap()).unwrap();
        let best = all.first().unwrap();
        let tier = best.choice.tier.map_or("-".to_owned(), |tier| tier.tier.to_string());
        let pack = best.choice.pack.map_or("-".to_owned(), |pack| pack.pack.to_string());
        format!("{tier} {pack}×{} {}", best.packs_bought(), best.price)
    }

    #[test]
    fn m17_the_cheapest_choice_that_refuses_nothing_is_recommended() {
        // 300 a month: one pack lasts for three of them.
        assert_eq!(cheapest(&["300", "300", "300"]), "- pack_1k×1 USD 10.00");
        // Steady use just below a tier.
        assert_eq!(cheapest(&["1900", "2000", "1800"]), "tier_2k -×0 USD 48.00");
        // The allocation first, the buffer after it (M16): 200 + 600 beyond it are one pack.
        assert_eq!(cheapest(&["2200", "2600", "2000"]), "tier_2k pack_1k×1 USD 58.00");
        assert_eq!(cheapest(&["40000", "48000", "0.000001"]), "- pack_25k×4 USD 800.00");
        assert_eq!(cheapest(&["0", "0"]), "- -×0 USD 0.00");
    }

    #[test]
    fn a_replay_covers_every_month_and_adds_up() {
        let catalogue = Catalogue::parse(CATALOGUE).unwrap();
        let needs = needs(&["2200.5", "0", "12000.000001"]);
        let all = replays(&needs, (catalogue.packs(), catalogue.tiers()), "USD".parse().unwrap()).unwrap();
        assert!(all.is_sorted_by_key(|replay| replay.price.amount_minor));
        for replay in &all {
            for (month, need) in replay.months.iter().zip(&needs) {
                assert_eq!(month.from_allocation.plus(month.from_prepaid).unwrap(), need.credits);
            }
            let sum: u64 = replay.months.iter().map(|month| month.price.amount_minor).sum();
            assert_eq!(sum, replay.price.amount_minor);
        }
        let none = replays(&needs, (catalogue.packs(), catalogue.tiers()), "EUR".parse().unwrap()).unwrap();
        assert!(none.is_empty(), "nothing is sold in euros");
    }

    #[test]
    fn a_pack_that_would_never_be_bought_is_no_part_of_a_choice() {
        let catalogue = Catalogue::parse(CATALOGUE).unwrap();
        let all =
            replays(&needs(&["0"]), (catalogue.packs(), catalogue.tiers()), "USD".parse().unwrap()).unwrap();
        assert!(!all.is_empty() && all.iter().all(|replay| replay.choice.pack.is_none()));
    }
}
