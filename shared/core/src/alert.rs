//! The low-balance alert, switched on in the settings (M15).

use serde::{Deserialize, Serialize};

use crate::credits::Amount;

/// When somebody is told that the balance is low, and who.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LowBalance {
    /// Whether it is switched on.
    pub enabled: bool,
    /// At or below which the balance is low; absent where it never was set.
    pub threshold: Option<Amount>,
    /// Who is told.
    pub recipients: Vec<String>,
}

impl LowBalance {
    /// As it is before anybody has set it.
    #[must_use]
    pub fn off() -> Self {
        Self { enabled: false, threshold: None, recipients: Vec::new() }
    }

    /// The threshold, while it is switched on.
    #[must_use]
    pub fn active_threshold(&self) -> Option<Amount> {
        self.threshold.filter(|_| self.enabled)
    }
}

#[cfg(test)]
mod tests {
    use super::LowBalance;

    #[test]
    fn m15_a_threshold_counts_while_the_alert_is_switched_on() {
        let on = LowBalance { enabled: true, threshold: "100".parse().ok(), ..LowBalance::off() };
        assert_eq!(on.active_threshold(), "100".parse().ok());
        assert_eq!(LowBalance { enabled: false, ..on }.active_threshold(), None);
    }
}
