//! The AWS permissions that the functions' requests need. Tests compare them with the policies in the template.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use serde::Serialize;
use serde_json::Value;

/// A permission that a request of a function needed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Permission {
    pub function: String,
    /// The action, such as `dynamodb:GetItem`.
    pub action: String,
    /// `table`, the name of an index, or empty for another service.
    pub resource: String,
    /// The start of the partition key up to and including its `#`, or the whole key if it has none.
    pub leading_key: String,
}

/// Returns the permissions that one request to the database needs. A transaction needs the actions of its parts
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

/// Returns the permission that a request to another service needs. The credential in its signature names the function.
pub(crate) fn of_caller(headers: &HeaderMap, action: &str) -> Option<Permission> {
    let signed = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (function, _) = signed.split_once("Credential=")?.1.split_once('/')?;
    let (function, action) = (function.to_owned(), action.to_owned());
    Some(Permission { function, action, resource: String::new(), leading_key: String::new() })
}

/// Returns the permission that one part of a transaction needs.
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
