//! The items of the table: how each is written and read.

pub(crate) mod alerts_item;
pub(crate) mod balance_item;
pub(crate) mod batch_item;
pub(crate) mod consumer_code;
pub(crate) mod ended_grants;
pub(crate) mod entry_item;
pub(crate) mod grant_value;
pub(crate) mod hold_item;
pub(crate) mod lane_item;
pub(crate) mod payment_item;
pub(crate) mod queued_change;
pub(crate) mod running_grants;
pub(crate) mod subscription_item;
pub(crate) mod usage_item;
pub(crate) mod versioned;
