//! The embedded database, called without a socket: takes a request's body, and returns a status and a body.

use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An embedded database in memory.
#[derive(Clone)]
pub struct Embedded(Database);

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Embedded")
    }
}

impl Default for Embedded {
    fn default() -> Self {
        Self(Database::memory().unwrap())
    }
}

impl Embedded {
    /// Executes an operation. Returns the status and the body.
    #[must_use]
    pub fn answer(&self, operation: &str, body: &str) -> (u16, String) {
        let db = &self.0;
        match operation {
            "BatchGetItem" => called(body, |asked| db.batch_get_item(asked)),
            "CreateTable" => called(body, |asked| db.create_table(asked)),
            "DescribeTable" => called(body, |asked| db.describe_table(asked)),
            "DeleteItem" => called(body, |asked| db.delete_item(asked)),
            "GetItem" => called(body, |asked| db.get_item(asked)),
            "PutItem" => called(body, |asked| db.put_item(asked)),
            "Query" => called(body, |asked| db.query(asked)),
            "Scan" => called(body, |asked| db.scan(asked)),
            "TransactWriteItems" => called(body, |asked| db.transact_write_items(asked)),
            "UpdateItem" => called(body, |asked| db.update_item(asked)),
            other => panic!("the model does not support {other}"),
        }
    }
}

fn called<A: DeserializeOwned, R: Serialize>(
    body: &str,
    call: impl FnOnce(A) -> Result<R, DynoxideError>,
) -> (u16, String) {
    match call(serde_json::from_str(body).unwrap()) {
        Ok(answer) => (200, serde_json::to_string(&answer).unwrap()),
        Err(error) => (error.status_code(), error.to_json()),
    }
}
