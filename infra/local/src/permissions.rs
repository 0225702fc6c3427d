//! What functions ask of AWS, as a policy would have to allow it: for the comparison with what the template allows.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use serde::Serialize;
use serde_json::Value;

/// A permission that a function has made use of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Permission {
    /// Which function.
    pub function: String,
    /// Such as `dynamodb:GetItem`.
    pub action: String,
    /// `table`, the name of one of its indexes, or empty for another service.
    pub resource: String,
    /// What the partition key begins with, up to its `#`, or all of it where there is none.
    pub leading_key: String,
}

/// What one request to the database needs. The actions of a transaction are those of its parts
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html>).
pub(crate) fn of_request(function: &str, operation: &str, body: &Value) -> Vec<Permission> {
    let permission = |action: &str, resource: &str, key: &Value| Permission {
        function: function.to_owned(),
        action: format!("dynamodb:{action}"),
        resource: resource.to_owned(),
        leading_key: leading(key["S"].as_str().unwrap_or_default()),
    };
    match operation {
        "TransactWriteItems" => {
            let parts = body["TransactItems"].as_array().into_iter().flatten();
            parts.flat_map(|part| part.as_object().into_iter().flatten()).map(part_of(&permission)).collect()
        }
        "Query" => {
            let values = &body["ExpressionAttributeValues"];
            let key = values.get(":pk").or_else(|| values.get(":partition")).unwrap_or(&Value::Null);
            vec![permission("Query", body["IndexName"].as_str().unwrap_or("table"), key)]
        }
        "BatchGetItem" => {
            let tables = body["RequestItems"].as_object().into_iter().flatten();
            let keys = tables.flat_map(|(_, asked)| asked["Keys"].as_array().into_iter().flatten());
            keys.map(|key| permission("BatchGetItem", "table", &key["pk"])).collect()
        }
        "PutItem" => vec![permission("PutItem", "table", &body["Item"]["pk"])],
        operation => vec![permission(operation, "table", &body["Key"]["pk"])],
    }
}

/// What a request to another service needs; its signature's credential is the function's name.
pub(crate) fn of_caller(headers: &HeaderMap, action: &str) -> Option<Permission> {
    let signed = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (function, _) = signed.split_once("Credential=")?.1.split_once('/')?;
    let (function, action) = (function.to_owned(), action.to_owned());
    Some(Permission { function, action, resource: String::new(), leading_key: String::new() })
}

/// What a part of a transaction needs.
fn part_of<'a>(
    permission: &'a impl Fn(&str, &str, &Value) -> Permission,
) -> impl Fn((&'a String, &'a Value)) -> Permission {
    move |(kind, part)| match kind.as_str() {
        "Put" => permission("PutItem", "table", &part["Item"]["pk"]),
        "ConditionCheck" => permission("ConditionCheckItem", "table", &part["Key"]["pk"]),
        kind => permission(&format!("{kind}Item"), "table", &part["Key"]["pk"]),
    }
}

fn leading(key: &str) -> String {
    key.split_inclusive('#').next().unwrap_or_default().to_owned()
}
