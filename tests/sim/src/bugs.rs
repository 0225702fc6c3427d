//! Planted bugs: a run has at most one, chosen by its number. Each is a missing or wrong line of the store, planted in
//! its requests and responses, so that the deployed code contains nothing of them. Wrong calculations are patches
//! (`tests/sim/patches`).

use rust_decimal::Decimal;
use serde_json::{Value, json};

/// The number of a planted bug.
pub type Bug = u8;

/// A kind of planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Writes of items with this prefix lack the conditions that contain this text.
    NoCondition(&'static str, &'static str),
    /// Updates of items with this prefix lack the parts that contain this text.
    NotWritten(&'static str, &'static str),
    /// New items with this prefix lack this attribute.
    NoAttribute(&'static str, &'static str),
    /// A condition on a balance requires one credit less.
    OneLess,
    /// A change replaces the changes behind the fence instead of being appended.
    ChangesReplaced,
    /// A new balance's `expires_next` is a day late.
    DayLate,
    /// Each item of a transaction is a separate request; beginning with the last if true.
    Apart(bool),
    /// A balance is read, changed, and written without a condition.
    GetThenPut,
    /// A transaction token derived from the key replaces the condition that no entry exists.
    TokenForIdempotency,
    /// The cancellation reasons of a transaction are read in reverse order.
    ReasonsReversed,
    /// A conflict is treated as a failed condition.
    ConflictIsRefusal,
    /// A conflict beside a failed condition is ignored.
    ConflictNotSeen,
    /// A missing response is treated as success.
    NoAnswerIsSuccess,
    /// A 500 is treated as success.
    ServerErrorIsSuccess,
    /// Reads are eventually consistent.
    StaleReads,
    /// The time comes from a clock that is 15 minutes fast.
    FastClock,
    /// Events that the bus refused are treated as accepted.
    RefusedEventsHidden,
    /// Mails that SES refused are treated as sent.
    RefusedMailsHidden,
    /// Records that failed are treated as processed.
    FailedRecordsHidden,
    /// Requests to Stripe have no idempotency key.
    NoProviderKey,
    /// Every event of Stripe's is acknowledged, even if it failed.
    WebhookAlwaysTaken,
    /// All calls have the same fingerprint.
    SameFingerprint,
    /// Lanes are opened with a reserve of one credit, whatever the thresholds and the credit limit are.
    SmallReserve,
    /// Lanes end a day later than their balance is due.
    LanesOutliveDate,
    /// A settlement leaves its lanes where they are.
    LanesKept,
    /// The stream's records of lanes are lost.
    LaneRecordsLost,
    /// Refunds of debits update items with this prefix without the parts that contain this text.
    NotRefunded(&'static str, &'static str),
    /// Refunds of debits write items with this prefix without the conditions that contain this text.
    NoRefundCondition(&'static str, &'static str),
    /// This part of a refund returns as prepaid credits.
    ReturnedAsPrepaid(&'static str),
    /// A refund leaves what its epoch's payment has left as it is.
    PaymentKept,
    /// A close does not record how its epoch was paid.
    PaymentNotRecorded,
    /// Every refund takes its debit for one of the present epoch.
    PaymentNotFound,
}

/// The text that every condition contains.
const ANY: &str = "";

/// All bugs, each with a seed that finds it in 300 acts. A bug's number is its position, counted from 1.
pub const ALL: [(&str, Wrong, u64); 74] = [
    ("the usual get-then-put", Wrong::GetThenPut, 1),
    ("a debit's amount is no condition", Wrong::NoCondition("balance#", "spendable"), 1),
    ("a debit may take a credit more than there is", Wrong::OneLess, 1),
    ("a debit does not look at the fence", Wrong::NoCondition("balance#", "expires_next"), 3),
    ("a close has no guard", Wrong::NoCondition("balance#", "version"), 3),
    ("a close writes its grants under no epoch", Wrong::NoAttribute("grant#", "epoch"), 1),
    ("a hold ends in another epoch than it was read in", Wrong::NoCondition("balance#", "epoch"), 4),
    ("what earlier holds keep is not compared", Wrong::NoCondition("balance#", "#closed"), 4),
    ("a credit limit is granted and not kept", Wrong::NotWritten("balance#", "#credit_limit"), 1),
    ("the version stays", Wrong::NotWritten("balance#", "version"), 1),
    ("what is used is not counted", Wrong::NotWritten("balance#", "used"), 1),
    ("prepaid credits are not counted", Wrong::NotWritten("balance#", "prepaid"), 1),
    ("what is held is not counted", Wrong::NotWritten("balance#", "held"), 1),
    ("the month is not counted", Wrong::NotWritten("balance#", "c2"), 1),
    ("no fence is raised", Wrong::NotWritten("balance#", "expires_next"), 1),
    ("changes behind the fence replace each other", Wrong::ChangesReplaced, 1),
    ("what falls due does so a day late", Wrong::DayLate, 1),
    ("an entry is written over another", Wrong::NoCondition("entry#", "attribute_not_exists(pk)"), 1),
    ("an entry is not in the ledger", Wrong::NoAttribute("entry#", "index_pk"), 1),
    ("a close does not list what it completes", Wrong::NotWritten("entry#", "#index_pk"), 1),
    ("two requests where one transaction stood", Wrong::Apart(false), 1),
    ("two requests, the entry first", Wrong::Apart(true), 1),
    ("a token is taken for idempotency", Wrong::TokenForIdempotency, 2),
    ("a call is taken for another under its own key", Wrong::SameFingerprint, 1),
    ("the reasons are read in the wrong order", Wrong::ReasonsReversed, 1),
    ("a conflict passes for a refusal", Wrong::ConflictIsRefusal, 1),
    ("a conflict beside a refusal is not seen", Wrong::ConflictNotSeen, 1),
    ("no answer passes for success", Wrong::NoAnswerIsSuccess, 1),
    ("a 500 passes for success", Wrong::ServerErrorIsSuccess, 2),
    ("reads are eventually consistent", Wrong::StaleReads, 11),
    ("grants expire by a fast clock", Wrong::FastClock, 7),
    ("a rollup without its watermark", Wrong::NoCondition("usage#", "#counted"), 6),
    ("records that failed pass for processed", Wrong::FailedRecordsHidden, 1),
    ("events that the bus refused pass for taken", Wrong::RefusedEventsHidden, 1),
    ("mails that were refused pass for sent", Wrong::RefusedMailsHidden, 2),
    ("a mail is claimed by everybody", Wrong::NoCondition("mail#", ANY), 1),
    ("a fact is counted again", Wrong::NoCondition("fact#", ANY), 1),
    ("a capture takes more than the hold keeps", Wrong::NoCondition("hold#", "#remaining"), 3),
    ("a capture is written twice", Wrong::NoCondition("hold#", "contains"), 4),
    ("an ended hold is captured", Wrong::NoCondition("hold#", "#end"), 7),
    ("a hold is captured after its time", Wrong::NoCondition("hold#", "#expires"), 1),
    ("a hold is never swept", Wrong::NoAttribute("hold#", "index_pk"), 1),
    ("the provider is asked without a key", Wrong::NoProviderKey, 6),
    ("an event of the provider's is always acknowledged", Wrong::WebhookAlwaysTaken, 2),
    ("a purchase is paid twice", Wrong::NoCondition("purchase#", ANY), 2),
    ("a subscription is written over another", Wrong::NoCondition("subscription#", ANY), 10),
    ("a subscription is never renewed", Wrong::NoAttribute("subscription#", "index_pk"), 1),
    ("a run ends twice", Wrong::NoCondition("run#", ANY), 1),
    ("a void is written without a guard", Wrong::NoCondition("grant#", ANY), 1),
    ("an automatic top-up is written over another", Wrong::NoCondition("auto_top_up#", ANY), 11),
    (
        "a failed run is mailed alone and not counted with others",
        Wrong::NotWritten("failures#", "#waiting"),
        1,
    ),
    ("a lane takes debits after its end", Wrong::NoCondition("lane#", "#ends_at"), 1),
    ("a lane takes more than it has left", Wrong::NoCondition("lane#", "#left"), 1),
    ("a balance settles lanes that it does not list", Wrong::NoCondition("balance#", "#lanes_"), 4),
    ("lanes are opened without their generation", Wrong::NoCondition("balance#", "#lane_generation"), 28),
    ("a lane does not count what it has spent", Wrong::NotWritten("lane#", "#spent"), 1),
    ("a lane keeps what it has spent", Wrong::NotWritten("lane#", "#left"), 1),
    ("a lane's writes are not counted", Wrong::NotWritten("lane#", "#writes"), 1),
    ("a lane's month is not counted", Wrong::NotWritten("lane#", "c2"), 1),
    ("a rollup without the watermarks of lanes", Wrong::NoCondition("usage#", "#lanes_counted"), 3),
    ("the reserve is smaller than a threshold", Wrong::SmallReserve, 1),
    ("lanes outlive the date of their balance", Wrong::LanesOutliveDate, 3),
    ("a settlement keeps its lanes", Wrong::LanesKept, 1),
    ("the records of lanes are lost", Wrong::LaneRecordsLost, 1),
    ("what was refunded is not noted in its debit", Wrong::NotRefunded("entry#", "#refunded"), 1),
    ("a refund does not look at earlier ones", Wrong::NoRefundCondition("entry#", "#refunded"), 1),
    ("a refund is written twice under one key", Wrong::NoRefundCondition("entry#", ANY), 1),
    ("a refund leaves the consumption of its month", Wrong::NotRefunded("balance#", "c2"), 1),
    ("a refund is missing in the breakdowns", Wrong::NotRefunded("balance#", "#usage_marks"), 1),
    ("credits of a running grant return as prepaid", Wrong::ReturnedAsPrepaid("to_grants"), 1),
    ("expired credits return as prepaid", Wrong::ReturnedAsPrepaid("expired"), 2),
    ("a refund of an earlier epoch is taken from the present use", Wrong::PaymentNotFound, 1),
    ("a refund leaves its epoch's payment as it is", Wrong::PaymentKept, 1),
    ("a close does not record how its epoch was paid", Wrong::PaymentNotRecorded, 1),
];

/// The planted bug of a run, if any.
#[derive(Debug, Default)]
pub struct Bugs(Option<Wrong>);

impl Bugs {
    /// Creates the state for a bug's number.
    #[must_use]
    pub fn planted(bug: Option<Bug>) -> Self {
        Self(bug.map(|bug| ALL[usize::from(bug) - 1].1))
    }

    /// Returns whether this bug is planted.
    #[must_use]
    pub fn is(&self, wrong: Wrong) -> bool {
        self.0 == Some(wrong)
    }

    /// Returns whether a transaction's items are separate requests, and if so whether the last comes first.
    #[must_use]
    pub fn apart(&self) -> Option<bool> {
        if let Some(Wrong::Apart(reversed)) = self.0 { Some(reversed) } else { None }
    }

    /// Applies the bug to a request.
    #[must_use]
    pub fn in_request(&self, mut body: Value) -> Value {
        let Some(wrong) = self.0 else { return body };
        if wrong == Wrong::StaleReads && body["ConsistentRead"] == true {
            body["ConsistentRead"] = json!(false);
        }
        if let Some(writes) = body["TransactItems"].as_array_mut().filter(|_| wrong == Wrong::LanesKept) {
            writes.retain(|action| !pk_of(&action["Delete"]).starts_with("lane#"));
        }
        if let Some(writes) =
            body["TransactItems"].as_array_mut().filter(|_| wrong == Wrong::PaymentNotRecorded)
        {
            writes.retain(|action| !pk_of(&action["Put"]).starts_with("paid#"));
        }
        let of = body["ExpressionAttributeValues"][":pk"]["S"].as_str().unwrap_or_default();
        if wrong == Wrong::PaymentNotFound && of.starts_with("paid#") {
            body["ExpressionAttributeValues"][":sk"] = json!({ "S": "~" });
        }
        if refunds_debit(&body) {
            for_each_write(&mut body, |write| in_refund(wrong, &pk_of(write), write));
        }
        let mut token = None;
        for_each_write(&mut body, |write| {
            let pk = pk_of(write);
            in_write(wrong, &pk, write);
            if pk.starts_with("entry#") && write["Item"].is_object() {
                token = Some(pk);
            }
        });
        if let Some(key) = token.filter(|_| wrong == Wrong::TokenForIdempotency) {
            body["ClientRequestToken"] = json!(key);
        }
        body
    }

    /// Applies the bug to a response.
    #[must_use]
    pub fn in_answer(&self, (status, text): (u16, String)) -> (u16, String) {
        let Some(wrong) = self.0 else { return (status, text) };
        if wrong == Wrong::ServerErrorIsSuccess && status == 500 {
            return (200, "{}".to_owned());
        }
        let mut answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let Some(reasons) = answer["CancellationReasons"].as_array_mut() else { return (status, text) };
        match wrong {
            Wrong::ReasonsReversed => reasons.reverse(),
            Wrong::ConflictIsRefusal => {
                for reason in reasons.iter_mut().filter(|reason| reason["Code"] == "TransactionConflict") {
                    reason["Code"] = json!("ConditionalCheckFailed");
                }
            }
            Wrong::ConflictNotSeen => {
                if reasons.iter().any(|reason| reason["Code"] == "ConditionalCheckFailed") {
                    for reason in reasons.iter_mut().filter(|reason| reason["Code"] == "TransactionConflict")
                    {
                        *reason = json!({ "Code": "None" });
                    }
                }
            }
            _ => return (status, text),
        }
        (status, answer.to_string())
    }
}

fn in_write(wrong: Wrong, pk: &str, write: &mut Value) {
    match wrong {
        Wrong::NoCondition(prefix, part) if pk.starts_with(prefix) => {
            keep_conditions(write, |condition| !condition.contains(part));
        }
        Wrong::NotWritten(prefix, part) if pk.starts_with(prefix) => {
            keep_parts(write, |it| !it.contains(part));
        }
        Wrong::NoAttribute(prefix, name) if pk.starts_with(prefix) && write["Item"].is_object() => {
            write["Item"].as_object_mut().unwrap().remove(name);
        }
        Wrong::TokenForIdempotency if pk.starts_with("entry#") => {
            keep_conditions(write, |condition| !condition.contains("attribute_not_exists(pk)"));
        }
        Wrong::OneLess if pk.starts_with("balance#") => {
            if let Some(asked) = write["ExpressionAttributeValues"][":when_spendable"]["N"].as_str() {
                let less = asked.parse::<Decimal>().unwrap() - Decimal::ONE;
                write["ExpressionAttributeValues"][":when_spendable"]["N"] = json!(less.to_string());
            }
        }
        Wrong::DayLate if pk.starts_with("balance#") && write["Item"].is_object() => {
            let due: i64 = write["Item"]["expires_next"]["N"].as_str().unwrap().parse().unwrap();
            write["Item"]["expires_next"]["N"] = json!((due + 86_400_000).to_string());
        }
        Wrong::ChangesReplaced if pk.starts_with("balance#") => {
            if let Some(update) = write["UpdateExpression"].as_str() {
                let replaced = update.replace("list_append(#changes, :changes)", ":changes");
                write["UpdateExpression"] = json!(replaced);
            }
        }
        Wrong::SmallReserve if write["ExpressionAttributeValues"][":lanes_reserve"].is_object() => {
            let values = &mut write["ExpressionAttributeValues"];
            let reserve: Decimal = values[":lanes_reserve"]["N"].as_str().unwrap().parse().unwrap();
            let taken: Decimal = values[":spendable"]["N"].as_str().unwrap().parse().unwrap();
            values[":lanes_reserve"] = json!({ "N": "1" });
            values[":spendable"] = json!({ "N": (taken + reserve - Decimal::ONE).to_string() });
        }
        Wrong::LanesOutliveDate if pk.starts_with("lane#") && write["Item"].is_object() => {
            for name in ["ends_at", "hard_end"] {
                let end: i64 = write["Item"][name]["N"].as_str().unwrap().parse().unwrap();
                write["Item"][name]["N"] = json!((end + 86_400_000).to_string());
            }
        }
        Wrong::SameFingerprint if write["Item"]["fingerprint"].is_object() => {
            write["Item"]["fingerprint"] = json!({ "B": "c2FtZQ==" });
        }
        _ => {}
    }
}

/// Returns whether a request writes a refund of a debit.
fn refunds_debit(body: &Value) -> bool {
    let writes = body["TransactItems"].as_array().into_iter().flatten();
    let mut kinds = writes.map(|action| &action["Put"]["Item"]["detail"]["M"]["kind"]["S"]);
    kinds.any(|kind| kind == "debit_refund")
}

fn in_refund(wrong: Wrong, pk: &str, write: &mut Value) {
    match wrong {
        Wrong::NotRefunded(prefix, part) if pk.starts_with(prefix) => {
            keep_parts(write, |it| !it.contains(part));
        }
        Wrong::NoRefundCondition(prefix, part) if pk.starts_with(prefix) => {
            keep_conditions(write, |condition| !condition.contains(part));
        }
        Wrong::PaymentKept if pk.starts_with("paid#") => {
            let values = &mut write["ExpressionAttributeValues"];
            values[":payment"] = values[":when_payment"].clone();
        }
        Wrong::ReturnedAsPrepaid(part) if pk.starts_with("balance#") => {
            if write["ExpressionAttributeValues"][":changes"].is_null() {
                return;
            }
            let change = &mut write["ExpressionAttributeValues"][":changes"]["L"][0]["M"];
            let of = |value: &Value| value["N"].as_str().unwrap().parse::<Decimal>().unwrap();
            let moved = match part {
                "expired" => of(&change["expired"]),
                _ => {
                    change["to_grants"]["L"].as_array().unwrap().iter().map(|it| of(&it["M"]["amount"])).sum()
                }
            };
            change[part] = if part == "expired" { json!({ "N": "0" }) } else { json!({ "L": [] }) };
            change["to_prepaid"] = json!({ "N": (of(&change["to_prepaid"]) + moved).to_string() });
        }
        _ => {}
    }
}

fn for_each_write(body: &mut Value, mut change: impl FnMut(&mut Value)) {
    if let Some(writes) = body["TransactItems"].as_array_mut() {
        for write in writes.iter_mut().flat_map(|action| action.as_object_mut().unwrap().values_mut()) {
            change(write);
        }
        // A condition check without a condition is removed, and so is an update that changes nothing.
        writes.retain(|action| {
            action.get("ConditionCheck").is_none_or(|it| it["ConditionExpression"].is_string())
                && action.get("Update").is_none_or(|it| it["UpdateExpression"] != "")
        });
    } else if body["Item"].is_object() || body["UpdateExpression"].is_string() {
        change(body);
    }
}

fn pk_of(write: &Value) -> String {
    let key = if write["Item"].is_object() { &write["Item"] } else { &write["Key"] };
    key["pk"]["S"].as_str().unwrap_or_default().to_owned()
}

fn keep_conditions(write: &mut Value, keep: impl Fn(&str) -> bool) {
    let Some(condition) = write["ConditionExpression"].as_str().map(str::to_owned) else { return };
    let kept: Vec<&str> = condition.split(" AND ").filter(|condition| keep(condition)).collect();
    if kept.is_empty() {
        let write = write.as_object_mut().unwrap();
        write.remove("ConditionExpression");
        write.remove("ReturnValuesOnConditionCheckFailure");
    } else {
        write["ConditionExpression"] = json!(kept.join(" AND "));
    }
    forget_unused(write);
}

fn keep_parts(write: &mut Value, keep: impl Fn(&str) -> bool) {
    let Some(update) = write["UpdateExpression"].as_str().map(str::to_owned) else { return };
    let mut kept = Vec::new();
    let starts: Vec<usize> =
        ["SET ", "ADD ", "REMOVE "].iter().filter_map(|word| update.find(word)).collect();
    for (place, start) in starts.iter().enumerate() {
        let clause = &update[*start..starts.get(place + 1).copied().unwrap_or(update.len())];
        let (word, parts) = clause.split_once(' ').unwrap();
        let parts: Vec<&str> = parts.trim().split(", ").filter(|part| keep(part)).collect();
        if !parts.is_empty() {
            kept.push(format!("{word} {}", parts.join(", ")));
        }
    }
    write["UpdateExpression"] = json!(kept.join(" "));
    forget_unused(write);
}

/// Removes names and values that no expression uses, because the table refuses them.
fn forget_unused(write: &mut Value) {
    let used = format!("{} {} ", text(write, "ConditionExpression"), text(write, "UpdateExpression"));
    let is_used = |name: &str| {
        let mut rest = used.as_str();
        while let Some(at) = rest.find(name) {
            rest = &rest[at + name.len()..];
            if !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_') {
                return true;
            }
        }
        false
    };
    for kind in ["ExpressionAttributeNames", "ExpressionAttributeValues"] {
        let Some(names) = write[kind].as_object_mut() else { continue };
        names.retain(|name, _| is_used(name));
        if names.is_empty() {
            write.as_object_mut().unwrap().remove(kind);
        }
    }
}

fn text<'a>(write: &'a Value, name: &str) -> &'a str {
    write[name].as_str().unwrap_or_default()
}
