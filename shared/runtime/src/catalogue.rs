//! The deployed catalogue: the operator's data file, which is compiled in.

use credits_aws::settings::SettingError;
use credits_core::catalogue::{Catalogue, CatalogueError};
use credits_core::purchase::CheckoutOptions;

/// The content of the operator's file, `infra/catalogue.json`.
pub const DEPLOYED: &str = include_str!("../../../infra/catalogue.json");

/// Parses the deployed catalogue.
pub fn deployed() -> Result<Catalogue, CatalogueError> {
    Catalogue::parse(DEPLOYED)
}

/// Refuses Stripe Tax with a catalogue that sells subscriptions: Stripe Tax is part of checkouts, and off-session
/// charges carry no tax.
pub fn check_tax(catalogue: &Catalogue, options: CheckoutOptions) -> Result<(), SettingError> {
    let sells_subscriptions = !catalogue.tiers().is_empty();
    if options.automatic_tax && sells_subscriptions {
        return Err(SettingError(
            "CHECKOUT_OPTIONS: automatic_tax (with it the catalogue can have no tiers: off-session charges carry no tax)",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn m02_m05_m07_shipped_catalogue_is_complete() {
        super::deployed().unwrap();
        let shipped: serde_json::Value = serde_json::from_str(super::DEPLOYED).unwrap();
        let names = |list: &serde_json::Value, key: &str| -> Vec<String> {
            list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&shipped["packs"], "pack"), ["pack_1k", "pack_5k", "pack_25k"]);
        assert_eq!(names(&shipped["tiers"], "tier"), ["tier_2k", "tier_10k", "tier_50k"]);
        assert_eq!(names(&shipped["plans"], "plan"), ["free", "starter", "team", "pro", "enterprise"]);
        assert_eq!(names(&shipped["rate_card"]["models"], "model"), ["small", "standard", "large"]);
        let operations = names(&shipped["rate_card"]["operations"], "operation");
        for operation in
            ["text.classify", "text.extract", "text.summarize", "text.generate", "document.generate"]
        {
            assert!(operations.contains(&operation.to_owned()));
        }
    }
}
