//! Watermarks of usage: up to which write of the balance, and of each lane, an item counts.
//!
//! The stream delivers the writes of one item in order, but those of a balance and its lanes in any order. So there is one
//! mark for each. Lanes of all generations with one number are one item, and their marks `(generation, writes)` only grow.

use std::collections::BTreeMap;

use crate::error::Corrupt;
use crate::table::attribute::{Item, Reader, number, text};
use crate::table::expression::Expression;

/// The version of the balance up to which an item counts.
const COUNTED: &str = "counted";

/// The writes of lanes up to which an item counts; absent if it counts none.
const LANES_COUNTED: &str = "lanes_counted";

/// The generation up to which a repair has counted all lanes; absent if none has.
const GENERATION_COUNTED: &str = "generation_counted";

/// A write of a balance or a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// The version of the balance after the write.
    Balance(u64),
    Lane {
        number: u16,
        generation: u64,
        /// The number of the lane's writes, this one included.
        writes: u64,
    },
}

/// The writes that an item counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Counted {
    /// The version of the balance; `None` if the item counts no consumption.
    version: Option<u64>,
    /// The generation and the writes, by lane number.
    lanes: BTreeMap<u16, (u64, u64)>,
    generation: u64,
}

impl Counted {
    /// Everything up to a version of a balance without open lanes, and up to its generation of lanes.
    pub fn all_until(version: u64, generation: u64) -> Self {
        Self { version: Some(version), lanes: BTreeMap::new(), generation }
    }

    /// Returns whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.version.is_none()
    }

    /// Returns whether a write is counted.
    pub fn has(&self, mark: Mark) -> bool {
        match mark {
            Mark::Balance(version) => self.version.is_some_and(|counted| version <= counted),
            Mark::Lane { number, generation, writes } => {
                generation <= self.generation
                    || self.lanes.get(&number).is_some_and(|counted| (generation, writes) <= *counted)
            }
        }
    }

    /// Returns the marks after another write is counted. The caller counts the writes of one item in order.
    #[must_use]
    pub fn and(mut self, mark: Mark) -> Self {
        self.version.get_or_insert_default();
        match mark {
            Mark::Balance(version) => self.version = self.version.max(Some(version)),
            Mark::Lane { number, generation, writes } => {
                let counted = self.lanes.entry(number).or_default();
                *counted = (*counted).max((generation, writes));
            }
        }
        self
    }

    pub fn read(item: &Item) -> Result<Self, Corrupt> {
        let reader = Reader(item);
        let lanes = reader.optional_text(LANES_COUNTED).unwrap_or_default().split_whitespace().map(read_lane);
        Ok(Self {
            version: reader.optional_number(COUNTED)?,
            lanes: lanes.collect::<Option<_>>().ok_or(Corrupt::Attribute(LANES_COUNTED))?,
            generation: reader.optional_number(GENERATION_COUNTED)?.unwrap_or_default(),
        })
    }

    /// Adds the marks to an update.
    pub fn set(&self, mut write: Expression) -> Expression {
        if let Some(version) = self.version {
            write = write.set(COUNTED, number(version));
        }
        if !self.lanes.is_empty() {
            write = write.set(LANES_COUNTED, text(self.lanes_text()));
        }
        if self.generation > 0 {
            write = write.set(GENERATION_COUNTED, number(self.generation));
        }
        write
    }

    /// Adds the condition that the item still has these marks.
    pub fn unchanged(&self, write: Expression) -> Expression {
        let write = match self.version {
            Some(version) => write.when(COUNTED, "=", number(version)),
            None => write.when_absent(COUNTED),
        };
        if self.lanes.is_empty() {
            write.when_absent(LANES_COUNTED)
        } else {
            write.when(LANES_COUNTED, "=", text(self.lanes_text()))
        }
    }

    /// Adds the condition that the item has at most the marks of a repair.
    pub fn not_beyond(&self, write: Expression) -> Expression {
        let version = self.version.unwrap_or_default();
        write.when_absent_or(COUNTED, "<=", number(version))
    }

    fn lanes_text(&self) -> String {
        let lane =
            |(number, (generation, writes)): (&u16, &(u64, u64))| format!("{number}:{generation}:{writes}");
        self.lanes.iter().map(lane).collect::<Vec<_>>().join(" ")
    }
}

fn read_lane(lane: &str) -> Option<(u16, (u64, u64))> {
    let mut parts = lane.split(':');
    let number = parts.next()?.parse().ok()?;
    Some((number, (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use aws_sdk_dynamodb::types::AttributeValue;

    use super::{COUNTED, Counted, LANES_COUNTED, Mark};

    fn lane(number: u16, generation: u64, writes: u64) -> Mark {
        Mark::Lane { number, generation, writes }
    }

    #[test]
    fn a_mark_counts_the_earlier_writes_of_its_own_item() {
        let counted = Counted::default().and(lane(2, 5, 9)).and(Mark::Balance(40));
        for (mark, is_counted) in [
            (lane(2, 5, 9), true),
            (lane(2, 4, 100), true),
            (lane(2, 5, 10), false),
            (lane(2, 6, 1), false),
            (lane(3, 1, 1), false),
            (Mark::Balance(40), true),
            (Mark::Balance(41), false),
        ] {
            assert_eq!(counted.has(mark), is_counted, "{mark:?}");
        }
        let repaired = Counted::all_until(50, 5);
        assert!(repaired.has(lane(7, 5, 1_000)) && !repaired.has(lane(2, 6, 1)));
    }

    #[test]
    fn marks_are_read_as_they_were_written() {
        let counted = Counted::default().and(lane(2, 5, 9)).and(lane(256, 1, 70_000));
        let item = HashMap::from([
            (COUNTED.to_owned(), AttributeValue::N("0".to_owned())),
            (LANES_COUNTED.to_owned(), AttributeValue::S(counted.lanes_text())),
        ]);
        assert_eq!(Counted::read(&item).unwrap(), counted);
        assert_eq!(counted.lanes_text(), "2:5:9 256:1:70000");
    }
}
