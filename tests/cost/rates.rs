//! The two rates of debits, and the batches of the stream that they make.

/// The hours of a month.
pub const HOURS: f64 = 730.0;
/// The workspaces that spend, each as often as the others.
pub const WORKSPACES: f64 = 1_000.0;
/// The partitions of a new on-demand table. Each is a shard of the stream.
pub const SHARDS: f64 = 4.0;
/// The records of a batch at most, as in the template.
const MAX_BATCH: f64 = 1_000.0;

/// A rate of debits.
pub struct Rate {
    pub name: &'static str,
    pub per_second: f64,
}

/// The batches of one shard.
pub struct Batches {
    /// Debits of a batch.
    pub debits: f64,
    /// Different workspaces in a batch, each of which is one write.
    pub workspaces: f64,
}

impl Rate {
    pub const ALL: [fn() -> Self; 2] = [Self::even, Self::heavy];

    fn even() -> Self {
        Self { name: "An even million debits a month", per_second: 1e6 / HOURS / 3_600.0 }
    }

    fn heavy() -> Self {
        Self { name: "A hundred debits a second", per_second: 100.0 }
    }

    /// Returns the batches of a reader that waits `window` seconds from a batch's first record.
    pub fn batches(&self, window: f64, parallel: f64) -> Batches {
        let readers = SHARDS * parallel;
        let debits = (self.per_second / readers).mul_add(window, 1.0).min(MAX_BATCH);
        let of_reader = WORKSPACES / readers;
        Batches { debits, workspaces: of_reader * (1.0 - (1.0 - 1.0 / of_reader).powf(debits)) }
    }
}
