//! Grants as attributes: of the running grants, of what waits in the balance, and of queued changes.

use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::claw_back::Clawed;
use credits_core::grant::{ExpiringGrant, GrantKind, NextGrant};

use crate::error::Corrupt;
use crate::table::attribute::{Item, Reader, credits, instant, map, text};

/// The unused credits of a grant that refunds and disputes have taken back.
pub(crate) const CLAWED_UNUSED: &str = "clawed_unused";

/// The credits that refunds and disputes have charged for the consumed part of a grant.
pub(crate) const CLAWED_CONSUMED: &str = "clawed_consumed";

pub(crate) fn grant_value(grant: &ExpiringGrant) -> AttributeValue {
    let mut value = Item::from([
        ("id".to_owned(), text(grant.grant_id.as_str())),
        ("kind".to_owned(), text(kind_name(grant.kind))),
        ("granted".to_owned(), credits(grant.granted.credits())),
        ("amount".to_owned(), credits(grant.amount)),
        ("expires".to_owned(), instant(grant.expires_at)),
    ]);
    if grant.clawed != Clawed::default() {
        value.insert(CLAWED_UNUSED.to_owned(), credits(grant.clawed.unused));
        value.insert(CLAWED_CONSUMED.to_owned(), credits(grant.clawed.consumed));
    }
    AttributeValue::M(value)
}

pub(crate) fn read_grant(value: &AttributeValue) -> Result<ExpiringGrant, Corrupt> {
    let reader = Reader(value.as_m().map_err(|_| Corrupt::Attribute("grants"))?);
    let kind = [GrantKind::Promotional, GrantKind::Commitment, GrantKind::Allocation]
        .into_iter()
        .find(|kind| Some(kind_name(*kind)) == reader.optional_text("kind"));
    Ok(ExpiringGrant {
        grant_id: reader.parsed("id")?,
        kind: kind.ok_or(Corrupt::Attribute("kind"))?,
        granted: reader.amount("granted")?,
        amount: reader.credits("amount")?,
        expires_at: reader.instant("expires")?,
        clawed: read_clawed(reader)?,
    })
}

/// Reads the credits that refunds and disputes have taken back of a grant; zero if the item has none.
fn read_clawed(reader: Reader<'_>) -> Result<Clawed, Corrupt> {
    if !reader.0.contains_key(CLAWED_UNUSED) {
        return Ok(Clawed::default());
    }
    Ok(Clawed { unused: reader.credits(CLAWED_UNUSED)?, consumed: reader.credits(CLAWED_CONSUMED)? })
}

pub(crate) fn next_value(next: &NextGrant) -> AttributeValue {
    map([("next", grant_value(&next.grant)), ("starts", instant(next.starts_at)), ("key", text(&next.key))])
}

pub(crate) fn read_next(value: &AttributeValue) -> Result<NextGrant, Corrupt> {
    let item = value.as_m().map_err(|_| Corrupt::Attribute("next"))?;
    let reader = Reader(item);
    let grant = read_grant(item.get("next").ok_or(Corrupt::Attribute("next"))?)?;
    Ok(NextGrant { starts_at: reader.instant("starts")?, key: reader.text("key")?.to_owned(), grant })
}

fn kind_name(kind: GrantKind) -> &'static str {
    match kind {
        GrantKind::Prepaid => "prepaid",
        GrantKind::Promotional => "promotional",
        GrantKind::Commitment => "commitment",
        GrantKind::Allocation => "allocation",
    }
}
