//! Lists of rates: each entry has a name that is its own, as have its aliases.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::Name;

/// An entry of a list of rates.
pub trait Listed {
    fn name(&self) -> &Name;

    fn aliases(&self) -> &[Name] {
        &[]
    }
}

/// A list of rates, by name. In a file it is an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    entries: BTreeMap<Name, T>,
    /// The name that each alias stands for.
    aliases: BTreeMap<Name, Name>,
}

/// A name or an alias that a list has already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is listed twice, as a name or as an alias")]
pub struct ListedTwice(pub Name);

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), aliases: BTreeMap::new() }
    }
}

impl<T: Listed> Listing<T> {
    /// Adds an entry. Refuses a name or an alias that the list has already.
    pub fn add(&mut self, entry: T) -> Result<(), ListedTwice> {
        let name = entry.name().clone();
        self.check_new(&name)?;
        for alias in entry.aliases() {
            self.check_new(alias)?;
            if *alias == name || self.aliases.insert(alias.clone(), name.clone()).is_some() {
                return Err(ListedTwice(alias.clone()));
            }
        }
        self.entries.insert(name, entry);
        Ok(())
    }

    fn check_new(&self, name: &Name) -> Result<(), ListedTwice> {
        let is_taken = self.entries.contains_key(name) || self.aliases.contains_key(name);
        if is_taken { Err(ListedTwice(name.clone())) } else { Ok(()) }
    }
}

impl<T> Listing<T> {
    /// Returns the entry with a name or an alias.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&T> {
        self.entries.get(name).or_else(|| self.entries.get(self.aliases.get(name)?))
    }

    /// Returns the entries, by name.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.values()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<T: Listed + Clone> Listing<T> {
    /// Returns the list with the entries of another in place of those that it has under their names and aliases.
    #[must_use]
    pub fn replaced_by(&self, other: &Self) -> Self {
        let mut all = other.clone();
        for entry in self.entries.values().filter(|entry| other.get(entry.name().as_str()).is_none()) {
            all.aliases.extend(
                entry
                    .aliases()
                    .iter()
                    .filter(|alias| other.get(alias.as_str()).is_none())
                    .map(|alias| (alias.clone(), entry.name().clone())),
            );
            all.entries.insert(entry.name().clone(), entry.clone());
        }
        all
    }
}

impl<T: Listed> TryFrom<Vec<T>> for Listing<T> {
    type Error = ListedTwice;

    fn try_from(entries: Vec<T>) -> Result<Self, ListedTwice> {
        let mut listing = Self::default();
        entries.into_iter().try_for_each(|entry| listing.add(entry))?;
        Ok(listing)
    }
}

impl<T: Serialize> Serialize for Listing<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.entries.values())
    }
}

/// Checks each entry when it is read, so that an error has the line of what follows the entry.
impl<'de, T: Listed + Deserialize<'de>> Deserialize<'de> for Listing<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListingVisitor(PhantomData))
    }
}

struct ListingVisitor<T>(PhantomData<T>);

impl<'de, T: Listed + Deserialize<'de>> Visitor<'de> for ListingVisitor<T> {
    type Value = Listing<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Listing<T>, A::Error> {
        let mut listing = Listing::default();
        while let Some(entry) = entries.next_element()? {
            listing.add(entry).map_err(de::Error::custom)?;
        }
        Ok(listing)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::{Listed, ListedTwice, Listing};
    use crate::id::Name;

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    struct Entry(Name, Vec<Name>);

    impl Listed for Entry {
        fn name(&self) -> &Name {
            &self.0
        }

        fn aliases(&self) -> &[Name] {
            &self.1
        }
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn entry(text: &str, aliases: &[&str]) -> Entry {
        Entry(name(text), aliases.iter().map(|alias| name(alias)).collect())
    }

    #[test]
    fn names_and_aliases_find_their_entry_and_collide() {
        let listing = Listing::try_from(vec![entry("a", &["b", "c"]), entry("d", &[])]).unwrap();
        for known in ["a", "b", "c"] {
            assert_eq!(listing.get(known), Some(&entry("a", &["b", "c"])));
        }
        assert_eq!(listing.get("e"), None);
        for (more, twice) in [
            (entry("a", &[]), "a"),
            (entry("b", &[]), "b"),
            (entry("e", &["d"]), "d"),
            (entry("e", &["c"]), "c"),
            (entry("e", &["e"]), "e"),
            (entry("e", &["f", "f"]), "f"),
        ] {
            assert_eq!(listing.clone().add(more), Err(ListedTwice(name(twice))));
        }
    }

    #[test]
    fn error_of_a_file_has_the_line_of_the_second_entry() {
        let list = "[\n[\"a\", [\"b\"]],\n[\"b\", []],\n[\"c\", []]\n]";
        let refused = serde_json::from_str::<Listing<Entry>>(list).unwrap_err();
        // The parser reports the token after the entry.
        assert_eq!((refused.line(), refused.to_string().contains("b is listed twice")), (4, true));
    }

    #[test]
    fn entries_of_another_list_replace_those_with_their_names() {
        let listing = Listing::try_from(vec![entry("a", &["x", "y"]), entry("b", &["z"])]).unwrap();
        let other = Listing::try_from(vec![entry("x", &[]), entry("b", &["new"])]).unwrap();
        let both = listing.replaced_by(&other);
        let found = |text| both.get(text).map(|found| found.0.to_string());
        let names = ["a", "x", "y", "b", "z", "new"].map(found);
        let expected = [Some("a"), Some("x"), Some("a"), Some("b"), None, Some("b")];
        assert_eq!(names, expected.map(|name| name.map(str::to_owned)));
    }
}
