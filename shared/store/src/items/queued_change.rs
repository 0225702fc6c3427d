//! Changes that wait for the next close, as the balance holds them. The attribute that names a change tells its kind.

use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::change::{Change, QueuedChange};
use credits_core::credits::{Amount, Credits};
use credits_core::debit_refund::{PaidByGrant, ReturnedCredits};
use credits_core::grant::ExpiringGrant;
use credits_core::id::Id;
use jiff::Timestamp;

use crate::error::Corrupt;
use crate::items::grant_value::{grant_value, next_value, read_grant, read_next};
use crate::table::attribute::{Item, Reader, credits, instant, map, text};

pub(crate) fn change_value(queued: &QueuedChange) -> AttributeValue {
    let mut value = match &queued.change {
        Change::Grant(grant) => map([("grant", grant_value(grant))]),
        Change::ClawBack(amount) => map([("claw_back", credits(amount.credits()))]),
        Change::ClawBackTo { key, grant_id, target } => {
            map([("claw_back_of", text(grant_id.as_str())), ("key", text(key)), ("target", credits(*target))])
        }
        Change::Void { key, grant_id, prepaid } => {
            let prepaid = prepaid.map_or(Credits::ZERO, Amount::credits);
            map([("void", text(grant_id.as_str())), ("key", text(key)), ("prepaid", credits(prepaid))])
        }
        Change::Next(next) => next_value(next),
        Change::Withdraw { key, grant_ids } => {
            let ids = grant_ids.iter().map(|grant_id| text(grant_id.as_str())).collect();
            map([("withdraw", AttributeValue::L(ids)), ("key", text(key))])
        }
        Change::Reduce { key, grant_id, by } => {
            map([("reduce", text(grant_id.as_str())), ("key", text(key)), ("by", credits(by.credits()))])
        }
        Change::Return { refund_id, returned } => returned_value(refund_id, returned),
        Change::Invoicing(Some(first_at)) => map([("invoicing", instant(*first_at))]),
        Change::Invoicing(None) => map([("invoicing", AttributeValue::Null(true))]),
    };
    if let AttributeValue::M(attributes) = &mut value {
        attributes.insert("at".to_owned(), instant(queued.at));
    }
    value
}

fn returned_value(refund_id: &Id, returned: &ReturnedCredits) -> AttributeValue {
    map([
        ("return_of", text(refund_id.as_str())),
        (
            "to_grants",
            AttributeValue::L(returned.grants.iter().map(|part| grant_value(&part.grant())).collect()),
        ),
        ("to_prepaid", credits(returned.prepaid)),
        ("expired", credits(returned.expired)),
    ])
}

fn read_returned(reader: Reader<'_>) -> Result<ReturnedCredits, Corrupt> {
    let part = |value: &AttributeValue| {
        let ExpiringGrant { grant_id, kind, granted, amount: credits, expires_at, .. } = read_grant(value)?;
        Ok(PaidByGrant { grant_id, kind, granted, expires_at, credits })
    };
    Ok(ReturnedCredits {
        grants: reader.list("to_grants")?.iter().map(part).collect::<Result<_, Corrupt>>()?,
        prepaid: reader.credits("to_prepaid")?,
        expired: reader.credits("expired")?,
    })
}

pub(crate) fn read_queued(value: &AttributeValue) -> Result<QueuedChange, Corrupt> {
    let item = value.as_m().map_err(|_| Corrupt::Attribute("changes"))?;
    // An older version wrote changes without a time. Such a change comes before every date that has passed since.
    let at = Reader(item).optional_instant("at")?.unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(QueuedChange { at, change: read_change(value, item)? })
}

fn read_change(value: &AttributeValue, item: &Item) -> Result<Change, Corrupt> {
    let reader = Reader(item);
    if let Some(grant) = item.get("grant") {
        return Ok(Change::Grant(read_grant(grant)?));
    }
    if item.contains_key("claw_back") {
        return Ok(Change::ClawBack(reader.amount("claw_back")?));
    }
    if item.contains_key("claw_back_of") {
        let grant_id = reader.parsed("claw_back_of")?;
        let (key, target) = (reader.text("key")?.to_owned(), reader.credits("target")?);
        return Ok(Change::ClawBackTo { key, grant_id, target });
    }
    if item.contains_key("next") {
        return Ok(Change::Next(read_next(value)?));
    }
    if item.contains_key("return_of") {
        return Ok(Change::Return {
            refund_id: reader.parsed("return_of")?,
            returned: read_returned(reader)?,
        });
    }
    if item.contains_key("withdraw") {
        let ids = reader.list("withdraw")?.iter().map(|id| id.as_s().ok()?.parse().ok());
        let grant_ids = ids.collect::<Option<_>>().ok_or(Corrupt::Attribute("withdraw"))?;
        return Ok(Change::Withdraw { key: reader.text("key")?.to_owned(), grant_ids });
    }
    if item.contains_key("reduce") {
        let (key, grant_id) = (reader.text("key")?.to_owned(), reader.parsed("reduce")?);
        return Ok(Change::Reduce { key, grant_id, by: reader.amount("by")? });
    }
    if let Some(first_at) = item.get("invoicing") {
        let ends = first_at.is_null();
        return Ok(Change::Invoicing(if ends { None } else { Some(reader.instant("invoicing")?) }));
    }
    let prepaid = Amount::new(reader.credits("prepaid")?).ok();
    Ok(Change::Void { key: reader.text("key")?.to_owned(), grant_id: reader.parsed("void")?, prepaid })
}
