//! The rate cards of a catalogue, each with the instant from which it prices calls (M2).

use std::fmt;

use jiff::Timestamp;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::id::Name;
use crate::rate_card::RateCard;

/// One rate card, or several that take effect one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateCards {
    /// Prices calls before the date of any other card, too.
    first: RateCard,
    /// The other cards, by their date.
    later: Vec<RateCard>,
}

/// Why rate cards can't be used together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateCardsError {
    #[error("rate_cards must not be empty")]
    Empty,
    #[error("the rate card {0} has no effective_from, which each of several rate cards needs")]
    Undated(Name),
    #[error("the rate cards {0} and {1} have the same effective_from")]
    SameDate(Name, Name),
    #[error("two rate cards have the version {0}")]
    SameVersion(Name),
    #[error("the rate card {0} has an effective_from; list it in rate_cards instead")]
    Dated(Name),
}

impl RateCards {
    /// Makes the only rate card of a catalogue, which is in effect at any time.
    pub fn only(card: RateCard) -> Result<Self, RateCardsError> {
        match card.effective_from() {
            Some(_) => Err(RateCardsError::Dated(card.version().clone())),
            None => Ok(Self { first: card, later: Vec::new() }),
        }
    }

    /// Returns the newest card that is in effect at an instant. The first card also prices calls before its own date.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> &RateCard {
        let in_effect = |card: &&RateCard| card.effective_from().is_none_or(|from| from <= now);
        self.later.iter().rev().find(in_effect).unwrap_or(&self.first)
    }

    /// Returns all cards, by their date.
    pub fn iter(&self) -> impl Iterator<Item = &RateCard> {
        std::iter::once(&self.first).chain(&self.later)
    }

    fn add(&mut self, card: RateCard) -> Result<(), RateCardsError> {
        check_dated(&card)?;
        if self.iter().any(|known| known.version() == card.version()) {
            return Err(RateCardsError::SameVersion(card.version().clone()));
        }
        if let Some(same) = self.iter().find(|known| known.effective_from() == card.effective_from()) {
            return Err(RateCardsError::SameDate(same.version().clone(), card.version().clone()));
        }
        let later = if card.effective_from() < self.first.effective_from() {
            std::mem::replace(&mut self.first, card)
        } else {
            card
        };
        let place = self.later.partition_point(|known| known.effective_from() < later.effective_from());
        self.later.insert(place, later);
        Ok(())
    }
}

fn check_dated(card: &RateCard) -> Result<(), RateCardsError> {
    card.effective_from().map(drop).ok_or_else(|| RateCardsError::Undated(card.version().clone()))
}

/// Checks each card when it is read, so that an error has the line of what follows the card.
impl<'de> Deserialize<'de> for RateCards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RateCardsVisitor)
    }
}

struct RateCardsVisitor;

impl<'de> Visitor<'de> for RateCardsVisitor {
    type Value = RateCards;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rate cards")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut cards: A) -> Result<RateCards, A::Error> {
        let first: RateCard =
            cards.next_element()?.ok_or_else(|| de::Error::custom(RateCardsError::Empty))?;
        check_dated(&first).map_err(de::Error::custom)?;
        let mut all = RateCards { first, later: Vec::new() };
        while let Some(card) = cards.next_element()? {
            all.add(card).map_err(de::Error::custom)?;
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::RateCards;

    fn card(version: &str, from: &str) -> String {
        format!(r#"{{"version": "{version}", {from} "operations": [], "models": []}}"#)
    }

    fn dated(version: &str, day: &str) -> String {
        card(version, &format!(r#""effective_from": "{day}T00:00:00Z","#))
    }

    fn cards(cards: &[String]) -> Result<RateCards, serde_json::Error> {
        serde_json::from_str(&format!("[\n{}\n]", cards.join(",\n")))
    }

    #[test]
    fn newest_card_in_effect_prices_a_call() {
        let days = ["2027-02-01", "2027-01-01", "2027-03-01"];
        let all = cards(&days.map(|day| dated(day, day))).unwrap();
        let at = |instant: &str| all.at(instant.parse::<Timestamp>().unwrap()).version().to_string();
        for (instant, version) in [
            ("2026-12-31T23:59:59Z", "2027-01-01"),
            ("2027-01-31T23:59:59.999Z", "2027-01-01"),
            ("2027-02-01T00:00:00Z", "2027-02-01"),
            ("2027-03-01T00:00:00Z", "2027-03-01"),
            ("2030-01-01T00:00:00Z", "2027-03-01"),
        ] {
            assert_eq!(at(instant), version, "{instant}");
        }
    }

    #[test]
    fn cards_that_cannot_be_told_apart_are_refused_with_their_line() {
        for (list, line, reason) in [
            (vec![], 2, "rate_cards must not be empty"),
            (vec![card("a", "")], 2, "the rate card a has no effective_from"),
            (
                vec![dated("a", "2027-01-01"), dated("b", "2027-01-01")],
                3,
                "the rate cards a and b have the same",
            ),
            (
                vec![dated("a", "2027-01-01"), dated("a", "2027-01-02")],
                3,
                "two rate cards have the version a",
            ),
        ] {
            let refused = cards(&list).unwrap_err();
            assert!(refused.to_string().contains(reason), "{refused}");
            assert!(refused.line().abs_diff(line) <= 1, "{refused}");
        }
    }
}
