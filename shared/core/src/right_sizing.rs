//! Right-sizing: replays a workspace's own months against each tier and each mix of packs of the catalogue (M17).
//!
//! Each replay starts with no credits and spends as M16 says: the month's allocation first, then the prepaid buffer.
//! Packs cover what the allocations don't cover. Their credits never expire, so only their sum counts: the mix of packs
//! that covers it at the lowest cost. Packs are bought when the buffer would not cover a month, the largest first. Of
//! the choices under which no call would have been refused, the cheapest is recommended.

use std::cmp::Reverse;

use crate::catalogue::{Pack, Tier};
use crate::credits::{Credits, OutOfRange};
use crate::month::Month;
use crate::price::{Currency, Price};

/// The maximum number of units that the search for the cheapest mix covers. More units are bought in packs of the best
/// rate.
const MAX_UNITS: u128 = 10_000;

/// The credits that a month needed: those consumed, and those of calls that were refused for insufficient credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    pub month: Month,
    pub credits: Credits,
}

/// A tier, a mix of packs, both, or neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice<'a> {
    pub tier: Option<&'a Tier>,
    /// The packs that make up the buffer, the largest first.
    pub mix: Vec<PackCount<'a>>,
}

/// A number of packs of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackCount<'a> {
    pub pack: &'a Pack,
    /// At least 1.
    pub count: u64,
}

/// What a choice would have cost, month by month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedChoice<'a> {
    pub choice: Choice<'a>,
    /// In the order of time.
    pub months: Vec<ReplayedMonth>,
    /// The price of all months together.
    pub price: Price,
}

/// A month of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayedMonth {
    pub month: Month,
    pub needed: Credits,
    /// The part of `needed` that the allocation would have covered.
    pub from_allocation: Credits,
    /// The part of `needed` that the buffer would have covered.
    pub from_prepaid: Credits,
    /// The number of packs that would have been bought in the month.
    pub packs_bought: u64,
    /// The month's fee for the tier, and the price of its packs.
    pub price: Price,
}

/// Returns the choices that would have covered each month, in one currency, cheapest first.
///
/// For each tier, and for none, these are the cheapest mix of packs and the mixes of packs of one size.
pub fn replays<'a>(
    needs: &[Need],
    packs: &'a [Pack],
    tiers: &'a [Tier],
    currency: Currency,
) -> Result<Vec<ReplayedChoice<'a>>, OutOfRange> {
    let mut packs: Vec<&Pack> = packs.iter().filter(|pack| pack.price.currency == currency).collect();
    packs.sort_by_key(|pack| Reverse(pack.credits));
    let tiers = tiers.iter().filter(|tier| tier.price.currency == currency).map(Some);
    let mut replays = Vec::new();
    for tier in std::iter::once(None).chain(tiers) {
        let beyond = needs.iter().map(|need| need.beyond(tier)).collect::<Result<Vec<_>, _>>()?;
        for mix in mixes(&packs, Credits::sum(beyond)?)? {
            replays.push(Choice { tier, mix }.replay(needs, currency)?);
        }
    }
    replays.sort_by_key(|replay: &ReplayedChoice<'_>| (replay.price.amount_minor, replay.packs_bought()));
    Ok(replays)
}

impl Need {
    /// Returns the credits that a tier's allocation doesn't cover.
    fn beyond(&self, tier: Option<&Tier>) -> Result<Credits, OutOfRange> {
        let allocation = tier.map_or(Credits::ZERO, |tier| tier.monthly_credits.credits());
        Ok(self.credits.minus(allocation)?.or_zero())
    }
}

/// Returns the mixes that cover an amount: the cheapest one, and those of one pack each.
fn mixes<'a>(packs: &[&'a Pack], missing: Credits) -> Result<Vec<Vec<PackCount<'a>>>, OutOfRange> {
    if missing.is_zero() {
        return Ok(vec![Vec::new()]);
    }
    let mut mixes: Vec<_> = cheapest_mix(packs, micros(missing)?)?.into_iter().collect();
    for pack in packs {
        let count = micros(missing)?.div_ceil(micros(pack.credits.credits())?);
        let single = vec![PackCount { pack, count: u64::try_from(count).map_err(|_| OutOfRange)? }];
        if !mixes.contains(&single) {
            mixes.push(single);
        }
    }
    Ok(mixes)
}

/// Returns the cheapest mix that covers `missing` millionths of a credit; `None` without packs.
///
/// With all packs as multiples of a unit, `cost(n) = min over packs of (price + cost(n − size))` is the lowest cost of
/// `n` units. Above [`MAX_UNITS`], packs of the best rate are set aside first.
///
/// Let the pack with the best rate have `b` units. Among any `b` packs, the sizes of some add up to a multiple of `b`.
/// Packs of the best rate replace these at no higher cost. So a cheapest mix has fewer than `b` other packs. Setting
/// packs aside changes nothing if those other packs have no more units than the search covers.
fn cheapest_mix<'a>(packs: &[&'a Pack], missing: u128) -> Result<Option<Vec<PackCount<'a>>>, OutOfRange> {
    let Some(search) = Search::of(packs)? else { return Ok(None) };
    let units = missing.div_ceil(search.unit);
    let best = search.sizes.get(search.best_rate).copied().ok_or(OutOfRange)?;
    let set_aside = units.saturating_sub(MAX_UNITS).div_ceil(best);
    let left = units.saturating_sub(set_aside.checked_mul(best).ok_or(OutOfRange)?);
    let mut counts = search.counts(left)?;
    let count = counts.get_mut(search.best_rate).ok_or(OutOfRange)?;
    *count = u64::try_from(set_aside).ok().and_then(|more| count.checked_add(more)).ok_or(OutOfRange)?;
    let mix = packs.iter().zip(counts).map(|(pack, count)| PackCount { pack, count });
    Ok(Some(mix.filter(|of| of.count > 0).collect()))
}

/// The packs, as the search for the cheapest mix uses them.
struct Search<'p> {
    packs: &'p [&'p Pack],
    /// Millionths of a credit per unit: the greatest common divisor of all packs.
    unit: u128,
    /// Units per pack.
    sizes: Vec<u128>,
    /// The index of the pack with the lowest price per credit.
    best_rate: usize,
}

impl<'p> Search<'p> {
    fn of(packs: &'p [&'p Pack]) -> Result<Option<Self>, OutOfRange> {
        let sizes = packs.iter().map(|pack| micros(pack.credits.credits())).collect::<Result<Vec<_>, _>>()?;
        let unit = sizes.iter().copied().fold(0, greatest_common_divisor);
        // Compares price / size without a division.
        let rates = packs.iter().zip(&sizes).enumerate();
        let best_rate = rates.min_by(|(_, (one, one_size)), (_, (other, other_size))| {
            let one = u128::from(one.price.amount_minor).saturating_mul(**other_size);
            one.cmp(&u128::from(other.price.amount_minor).saturating_mul(**one_size))
        });
        let Some((best_rate, _)) = best_rate else { return Ok(None) };
        let sizes = sizes.into_iter().map(|size| size.checked_div(unit).ok_or(OutOfRange));
        let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Self { packs, unit, sizes, best_rate }))
    }

    /// Returns the number of each pack that together cover `units` at the lowest cost.
    fn counts(&self, units: u128) -> Result<Vec<u64>, OutOfRange> {
        let units = usize::try_from(units).map_err(|_| OutOfRange)?;
        let sizes: Vec<usize> =
            self.sizes.iter().map(|size| usize::try_from(*size).unwrap_or(units)).collect();
        let mut costs = vec![0_u64];
        let mut last_packs = vec![0_usize];
        for covered in 1..=units {
            let cost = |(place, size): (usize, &usize)| {
                let before = *costs.get(covered.saturating_sub(*size))?;
                Some((before.checked_add(self.packs.get(place)?.price.amount_minor)?, place))
            };
            let (cost, place) = sizes.iter().enumerate().filter_map(cost).min().ok_or(OutOfRange)?;
            costs.push(cost);
            last_packs.push(place);
        }
        let (mut counts, mut left) = (vec![0_u64; sizes.len()], units);
        while left > 0 {
            let place = last_packs.get(left).copied().ok_or(OutOfRange)?;
            let count = counts.get_mut(place).ok_or(OutOfRange)?;
            *count = count.saturating_add(1);
            left = left.saturating_sub(sizes.get(place).copied().ok_or(OutOfRange)?);
        }
        Ok(counts)
    }
}

fn greatest_common_divisor(one: u128, other: u128) -> u128 {
    other.checked_rem(one).map_or(other, |rest| greatest_common_divisor(rest, one))
}

fn micros(credits: Credits) -> Result<u128, OutOfRange> {
    u128::try_from(credits.micros()?).map_err(|_| OutOfRange)
}

impl<'a> Choice<'a> {
    /// Replays the months, all of which the choice covers.
    fn replay(self, needs: &[Need], currency: Currency) -> Result<ReplayedChoice<'a>, OutOfRange> {
        let (mut buffer, mut total) = (Credits::ZERO, 0_u64);
        let (mut months, mut unbought) = (Vec::new(), self.mix.clone());
        let fee = self.tier.map_or(0, |tier| tier.price.amount_minor);
        for need in needs {
            let from_prepaid = need.beyond(self.tier)?;
            let from_allocation = need.credits.minus(from_prepaid)?;
            let bought = buy(&mut unbought, from_prepaid.minus(buffer)?.or_zero())?;
            buffer = buffer.plus(bought.credits)?.minus(from_prepaid)?;
            let amount_minor = fee.checked_add(bought.amount_minor).ok_or(OutOfRange)?;
            total = total.checked_add(amount_minor).ok_or(OutOfRange)?;
            let (month, needed, price) = (need.month, need.credits, Price { amount_minor, currency });
            let packs_bought = bought.packs;
            months.push(ReplayedMonth { month, needed, from_allocation, from_prepaid, packs_bought, price });
        }
        Ok(ReplayedChoice { choice: self, months, price: Price { amount_minor: total, currency } })
    }
}

/// The packs that a month buys.
#[derive(Default)]
struct PacksBought {
    credits: Credits,
    packs: u64,
    amount_minor: u64,
}

/// Buys missing credits from the packs of a mix that are not bought yet, the largest first.
fn buy(unbought: &mut [PackCount<'_>], missing: Credits) -> Result<PacksBought, OutOfRange> {
    let mut bought = PacksBought::default();
    for of in unbought {
        let (size, missing) = (of.pack.credits.credits(), missing.minus(bought.credits)?.or_zero());
        let wanted = micros(missing)?.div_ceil(micros(size)?);
        let count = of.count.min(u64::try_from(wanted).map_err(|_| OutOfRange)?);
        of.count = of.count.saturating_sub(count);
        let credits = size.micros()?.checked_mul(i128::from(count)).ok_or(OutOfRange)?;
        bought.credits = bought.credits.plus(Credits::from_micros(credits)?)?;
        bought.packs = bought.packs.saturating_add(count);
        let price = count.checked_mul(of.pack.price.amount_minor);
        bought.amount_minor =
            price.and_then(|price| bought.amount_minor.checked_add(price)).ok_or(OutOfRange)?;
    }
    Ok(bought)
}

impl ReplayedChoice<'_> {
    /// Returns the number of packs that would have been bought in all months.
    #[must_use]
    pub fn packs_bought(&self) -> u64 {
        self.months.iter().fold(0, |sum, month| sum.saturating_add(month.packs_bought))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Need, PackCount, mixes, replays};
    use crate::catalogue::{Catalogue, Pack};
    use crate::credits::Credits;
    use crate::price::Price;

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

    fn shown(mix: &[PackCount<'_>]) -> String {
        let parts: Vec<String> = mix.iter().map(|of| format!("{}×{}", of.count, of.pack.credits)).collect();
        parts.join(" + ")
    }

    /// Returns the cheapest choice as text: its tier, its packs and its price.
    fn cheapest(credits: &[&str]) -> String {
        let catalogue = Catalogue::parse(CATALOGUE).unwrap();
        let all =
            replays(&needs(credits), catalogue.packs(), catalogue.tiers(), "USD".parse().unwrap()).unwrap();
        let best = all.first().unwrap();
        let tier = best.choice.tier.map_or("-".to_owned(), |tier| tier.monthly_credits.to_string());
        format!("{tier} | {} | {}", shown(&best.choice.mix), best.price)
    }

    #[test]
    fn m17_cheapest_choice_that_covers_every_month_comes_first() {
        // 300 credits a month: one pack lasts for three months.
        assert_eq!(cheapest(&["300", "300", "300"]), "- | 1×1000 | USD 10.00");
        // Steady use just below a tier.
        assert_eq!(cheapest(&["1900", "2000", "1800"]), "2000 |  | USD 48.00");
        // The allocation comes first, then the buffer (M16): one pack covers the 200 + 600 credits beyond it.
        assert_eq!(cheapest(&["2200", "2600", "2000"]), "2000 | 1×1000 | USD 58.00");
        assert_eq!(cheapest(&["0", "0"]), "- |  | USD 0.00");
    }

    #[test]
    fn m17_mix_of_packs_is_cheaper_than_one_size() {
        assert_eq!(cheapest(&["5500"]), "- | 1×5000 + 1×1000 | USD 55.00");
        assert_eq!(cheapest(&["100", "0", "5300"]), "- | 1×5000 + 1×1000 | USD 55.00");
        assert_eq!(cheapest(&["26000"]), "- | 1×25000 + 1×1000 | USD 210.00");
        // Four packs of 5,000 and four of 1,000 would cost USD 220.00.
        assert_eq!(cheapest(&["24000"]), "- | 1×25000 | USD 200.00");
        assert_eq!(cheapest(&["40000", "48000", "0.000001"]), "- | 3×25000 + 2×5000 + 4×1000 | USD 730.00");
        // Far above what the search covers: most credits are bought at the best rate.
        assert_eq!(cheapest(&["100000000000"]), "50000 | 3999998×25000 | USD 799999900.00");
    }

    #[test]
    fn replay_covers_every_month_and_adds_up() {
        let catalogue = Catalogue::parse(CATALOGUE).unwrap();
        let needs = needs(&["2200.5", "0", "12000.000001"]);
        let all = replays(&needs, catalogue.packs(), catalogue.tiers(), "USD".parse().unwrap()).unwrap();
        assert!(all.is_sorted_by_key(|replay| replay.price.amount_minor));
        for replay in &all {
            for (month, need) in replay.months.iter().zip(&needs) {
                assert_eq!(month.from_allocation.plus(month.from_prepaid).unwrap(), need.credits);
            }
            let sum: u64 = replay.months.iter().map(|month| month.price.amount_minor).sum();
            assert_eq!(sum, replay.price.amount_minor);
            let packs: u64 = replay.choice.mix.iter().map(|of| of.count).sum();
            assert_eq!(packs, replay.packs_bought(), "each pack of a choice is bought");
        }
        let none = replays(&needs, catalogue.packs(), catalogue.tiers(), "EUR".parse().unwrap()).unwrap();
        assert!(none.is_empty(), "nothing is sold in euros");
    }

    #[test]
    fn choice_has_no_pack_that_would_never_be_bought() {
        let catalogue = Catalogue::parse(CATALOGUE).unwrap();
        let all =
            replays(&needs(&["0"]), catalogue.packs(), catalogue.tiers(), "USD".parse().unwrap()).unwrap();
        assert!(!all.is_empty() && all.iter().all(|replay| replay.choice.mix.is_empty()));
    }

    fn pack(credits: u32, amount_minor: u64) -> Pack {
        let price = Price { amount_minor, currency: "USD".parse().unwrap() };
        Pack {
            pack: format!("pack_{credits}").parse().unwrap(),
            credits: credits.to_string().parse().unwrap(),
            price,
        }
    }

    /// Returns the lowest cost, found by trying each number of each pack.
    fn by_trial(packs: &[Pack], missing: i64) -> u64 {
        let Some((pack, others)) = packs.split_first() else {
            return if missing <= 0 { 0 } else { u64::MAX };
        };
        let size: i64 = pack.credits.to_string().parse().unwrap();
        let most = (missing.max(0) + size - 1) / size;
        let with = |count: i64| {
            let paid = pack.price.amount_minor * count.unsigned_abs();
            by_trial(others, missing - count * size).saturating_add(paid)
        };
        (0..=most).map(with).min().unwrap()
    }

    proptest! {
        /// No mix that covers the need is cheaper than the first one, whatever the packs cost.
        #[test]
        fn no_mix_is_cheaper(
            sizes in prop::collection::btree_set(1..30_u32, 1..4),
            prices in prop::collection::vec(1..50_u64, 3),
            missing in 1..90_i64,
        ) {
            let packs: Vec<Pack> = sizes.iter().zip(prices).map(|(size, price)| pack(*size, price)).collect();
            let sold: Vec<&Pack> = packs.iter().collect();
            let needed: Credits = missing.to_string().parse().unwrap();
            let all = mixes(&sold, needed).unwrap();
            let price = |mix: &Vec<PackCount<'_>>| mix.iter().map(|of| of.count * of.pack.price.amount_minor).sum();
            let credits = |mix: &Vec<PackCount<'_>>| {
                let of = |of: &PackCount<'_>| of.pack.credits.credits().micros().unwrap() * i128::from(of.count);
                mix.iter().map(of).sum::<i128>()
            };
            prop_assert!(all.iter().all(|mix| credits(mix) >= needed.micros().unwrap()));
            let first: u64 = price(&all[0]);
            prop_assert_eq!(first, by_trial(&packs, missing), "{}", shown(&all[0]));
        }
    }
}
