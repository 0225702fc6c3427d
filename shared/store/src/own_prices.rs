//! Workspaces' own prices: each version is an item that never changes, and the balance names the present version.
//!
//! A debit's condition is on the version in the balance, so a function instance with old prices is refused by the write. It
//! then reads the present version, prices the call again, and remembers the version for the next call.

use credits_core::id::WorkspaceId;
use credits_core::own_prices::OwnPrices;
use credits_core::posting::Posting;

use crate::error::{Corrupt, Fault};
use crate::lanes::settings::SettingsWrite;
use crate::table::Store;
use crate::table::attribute::{Reader, keyed, text};
use crate::table::expression::Expression;
use crate::table::keys::{ItemKey, PK};

const PRICES: &str = "prices";

/// The own prices of workspaces.
#[derive(Debug, Clone, Copy)]
pub struct OwnPriceStore<'a> {
    pub(crate) store: &'a Store,
}

impl OwnPriceStore<'_> {
    /// Returns the workspace's present version; the inner `None` if it has no own prices, the outer if there is no workspace.
    pub async fn version(self, workspace: &WorkspaceId) -> Result<Option<Option<u64>>, Fault> {
        let stored = self.store.balances().read_stored(workspace).await?;
        Ok(stored.map(|balance| balance.pricing))
    }

    /// Returns a version of the workspace's own prices.
    pub async fn get(self, workspace: &WorkspaceId, version: u64) -> Result<OwnPrices, Fault> {
        let item = self.store.get(&ItemKey::own_prices(workspace, version)).await?;
        let item = item.ok_or(Corrupt::Attribute(PRICES))?;
        let prices = serde_json::from_str(Reader(&item).text(PRICES)?);
        Ok(prices.map_err(|_| Corrupt::Attribute(PRICES))?)
    }

    /// Sets the workspace's own prices, and returns them with their version; `None` if there is no workspace. Prices that are
    /// in effect already keep their version.
    ///
    /// From then on no call is debited with another version's prices. Open lanes are recalled.
    pub async fn set(self, workspace: &WorkspaceId, prices: &OwnPrices) -> Result<Option<OwnPrices>, Fault> {
        let mut attempts = self.store.attempts();
        loop {
            let Some(current) = self.version(workspace).await? else { return Ok(None) };
            if let Some(version) = current {
                let known = self.get(workspace, version).await?;
                if (OwnPrices { version, ..prices.clone() }) == known {
                    return Ok(Some(known));
                }
            }
            let version = current.unwrap_or_default().saturating_add(1);
            let next = OwnPrices { version, ..prices.clone() };
            let mut item = keyed(&ItemKey::own_prices(workspace, version));
            let json = serde_json::to_string(&next).map_err(|_| Corrupt::Attribute(PRICES))?;
            item.insert(PRICES.to_owned(), text(json));
            let put = Expression::new().when_absent(PK).put(&self.store.table, item)?;
            let posting = Posting::pricing(current, version);
            match self.store.lanes().post_settings(workspace, &posting, vec![put]).await? {
                SettingsWrite::Written => return Ok(Some(next)),
                SettingsWrite::NoBalance => return Ok(None),
                // Another caller has set prices, or an attempt whose response was lost. The next attempt finds out.
                SettingsWrite::Changed => attempts.retry_after_conflict().await?,
            }
        }
    }
}
