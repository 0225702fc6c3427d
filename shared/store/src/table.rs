//! The table: its keys and index, the values of attributes, expressions, reads and transactions.

pub(crate) mod attribute;
pub(crate) mod expression;
pub mod index;
pub mod keys;
pub(crate) mod reads;
pub(crate) mod transaction;
