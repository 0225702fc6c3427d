//! The item of a workspace's alert settings, which is due while an expiry notice lies ahead.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::alert::AlertSettings;
use credits_core::expiry::{ExpiryNotice, ExpirySettings};
use credits_core::id::WorkspaceId;
use jiff::Timestamp;

use crate::error::Corrupt;
use crate::table::attribute::{Item, Reader, keyed, number, text};
use crate::table::expression::Expression;
use crate::table::keys::{INDEX_PK, INDEX_SK, ItemKey, due, position, read_position};

const LOW_BALANCE: &str = "low_balance";

/// The settings of expiry notices; absent if they were never set.
const EXPIRY: &str = "expiry";

/// The latest expiry notices; absent if there are none.
const NOTICES: &str = "notices";

/// The version of the item; absent in items of an older version of the product.
const VERSION: &str = "version";

/// Alert settings and expiry notices as they were read, or are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredAlerts {
    pub settings: AlertSettings,
    /// The expiry notices that must not be repeated.
    pub notices: Vec<ExpiryNotice>,
    /// When the sweep looks for expiry notices.
    pub due_at: Option<Timestamp>,
    /// 0 if there was no item, or one without a version.
    pub version: u64,
}

impl StoredAlerts {
    /// Returns the state of a workspace that never had settings.
    pub fn new() -> Self {
        Self { settings: AlertSettings::off(), notices: Vec::new(), due_at: None, version: 0 }
    }
}

/// Builds the write of the next state, on the condition that the stored version is still the one that was read.
pub(crate) fn write_of(
    table: &str,
    workspace: &WorkspaceId,
    next: &StoredAlerts,
) -> Result<TransactWriteItem, Corrupt> {
    let mut item = keyed(&ItemKey::alerts(workspace));
    let AlertSettings { low_balance, expiry } = &next.settings;
    item.insert(LOW_BALANCE.into(), serde_dynamo::to_attribute_value(low_balance)?);
    if *expiry != ExpirySettings::off() {
        item.insert(EXPIRY.into(), serde_dynamo::to_attribute_value(expiry)?);
    }
    if !next.notices.is_empty() {
        item.insert(NOTICES.into(), serde_dynamo::to_attribute_value(&next.notices)?);
    }
    if let Some(due_at) = next.due_at {
        item.insert(INDEX_PK.into(), text(due(workspace)));
        item.insert(INDEX_SK.into(), text(position(due_at, workspace.as_str())));
    }
    item.insert(VERSION.into(), number(next.version.saturating_add(1)));
    let unchanged = match next.version {
        0 => Expression::new().when_absent(VERSION),
        version => Expression::new().when(VERSION, "=", number(version)),
    };
    unchanged.put(table, item)
}

pub(crate) fn read(item: &Item) -> Result<StoredAlerts, Corrupt> {
    let reader = Reader(item);
    let low_balance = item.get(LOW_BALANCE).cloned().ok_or(Corrupt::Attribute(LOW_BALANCE))?;
    let expiry = item.get(EXPIRY).cloned().map(serde_dynamo::from_attribute_value).transpose()?;
    Ok(StoredAlerts {
        settings: AlertSettings {
            low_balance: serde_dynamo::from_attribute_value(low_balance)?,
            expiry: expiry.unwrap_or_else(ExpirySettings::off),
        },
        notices: read_notices(item)?,
        due_at: reader.optional_text(INDEX_SK).and_then(read_position).map(|(due_at, _)| due_at),
        version: reader.optional_number(VERSION)?.unwrap_or_default(),
    })
}

/// Reads the notices only, for the stream.
pub(crate) fn read_notices(item: &Item) -> Result<Vec<ExpiryNotice>, Corrupt> {
    let notices = item.get(NOTICES).cloned().map(serde_dynamo::from_attribute_value).transpose()?;
    Ok(notices.unwrap_or_default())
}
