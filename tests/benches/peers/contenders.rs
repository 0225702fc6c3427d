//! Several implementations of one task: debit a balance and write a ledger entry, once per key.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::batch::PricedCall;
use credits_core::consumer::Consumer;
use credits_core::id::WorkspaceId;
use credits_core::ledger::Cause;
use credits_core::rate_card::PriceVersion;
use credits_core::workspace::{Plan, Profile};
use credits_store::debits::DebitRefusal;
use credits_store::grants::{GrantOrder, Term};
use credits_store::{Claim, Fingerprint, Store};

use crate::measure::{Bench, Outcome, sources};

/// An implementation to measure.
pub trait Contender: Sized + Send + Sync + 'static {
    /// The label of the implementation in the report.
    const NAME: &'static str;

    /// Returns the name of a workspace of this implementation. All implementations share one table.
    fn workspace(name: &str) -> String {
        let own = Self::NAME.chars().filter(char::is_ascii_alphabetic);
        own.chain(['-']).chain(name.chars()).collect()
    }

    /// Creates a workspace with this many credits.
    fn begin(client: Client, workspace: &str, credits: u32) -> impl Future<Output = Self> + Send;

    /// Debits one credit under a key.
    fn debit(&self, key: &str) -> impl Future<Output = Outcome> + Send;

    /// Returns the remaining credits, and the number of ledger entries with these keys.
    fn end(&self, keys: &[String]) -> impl Future<Output = (i64, usize)> + Send;
}

/// The deployed store.
pub struct Ours {
    store: Store,
    client: Client,
    workspace: WorkspaceId,
}

impl Contender for Ours {
    const NAME: &'static str = "ours";

    async fn begin(client: Client, workspace: &str, credits: u32) -> Self {
        let store = Store::new(client.clone(), Bench::TABLE, sources());
        let workspace: WorkspaceId = workspace.parse().unwrap();
        let profile =
            Profile { name: "Acme".into(), plan: Plan::Team, billing_email: "billing@acme.example".into() };
        store.workspaces().put(&workspace, &profile).await.unwrap();
        let amount = credits.to_string().parse().unwrap();
        let grant = GrantOrder { amount, term: Term::Prepaid, reason: "bench".into() };
        store.grants().grant(&claim(&workspace, "grant"), &grant).await.unwrap();
        Self { store, client, workspace }
    }

    async fn debit(&self, key: &str) -> Outcome {
        let id = |text: &str| text.parse().unwrap();
        let consumer = Consumer::Action { feature: id("assistant"), user_id: id("ada") };
        let call = PricedCall::stated("text.generate".parse().unwrap(), consumer, "1".parse().unwrap());
        let (price, version) = (call.amount, PriceVersion::of("2026-11".parse().unwrap()));
        let (claim, cause) = (claim(&self.workspace, key), Cause::debit(call, version));
        match self.store.debits().debit(&claim, price, cause).await {
            Ok(_) => Outcome::Done,
            Err(DebitRefusal::Insufficient { .. }) => Outcome::Refused,
            Err(_) => Outcome::Failed,
        }
    }

    async fn end(&self, keys: &[String]) -> (i64, usize) {
        let balance = self.store.balances().get(&self.workspace).await.unwrap().unwrap();
        let left = balance.available().unwrap().to_string().parse().unwrap();
        let item = |key: &String| format!("entry#{}#key#{key}", self.workspace);
        (left, count(&self.client, keys.iter().map(item)).await)
    }
}

fn claim(workspace: &WorkspaceId, key: &str) -> Claim {
    let fingerprint = Fingerprint::of(&[key.as_bytes()]);
    Claim { workspace_id: workspace.clone(), key: key.parse().unwrap(), fingerprint }
}

/// A read, a decision, and a write without a condition: the naive implementation.
pub struct GetThenPut {
    client: Client,
    workspace: String,
}

impl Contender for GetThenPut {
    const NAME: &'static str = "get, then put";

    async fn begin(client: Client, workspace: &str, credits: u32) -> Self {
        put(&client, "balance", workspace, [("spendable", number(credits.into()))]).await;
        Self { client, workspace: workspace.to_owned() }
    }

    async fn debit(&self, key: &str) -> Outcome {
        let entry = format!("{}#{key}", self.workspace);
        if get(&self.client, "entry", &entry).await.is_some() {
            return Outcome::Done;
        }
        let left = spendable(&self.client, &self.workspace).await;
        if left < 1 {
            return Outcome::Refused;
        }
        put(&self.client, "balance", &self.workspace, [("spendable", number(left - 1))]).await;
        put(&self.client, "entry", &entry, [("credits", number(-1))]).await;
        Outcome::Done
    }

    async fn end(&self, keys: &[String]) -> (i64, usize) {
        ended(&self.client, &self.workspace, keys).await
    }
}

/// The requests of AWS Lambda Powertools' idempotency layer around a handler: it writes a claim, runs the handler, and
/// completes the claim.
pub struct Powertools {
    client: Client,
    workspace: String,
}

impl Contender for Powertools {
    const NAME: &'static str = "Powertools' sequence, in Rust";

    async fn begin(client: Client, workspace: &str, credits: u32) -> Self {
        put(&client, "balance", workspace, [("spendable", number(credits.into()))]).await;
        Self { client, workspace: workspace.to_owned() }
    }

    async fn debit(&self, key: &str) -> Outcome {
        let claim = format!("{}#{key}", self.workspace);
        let claimed = self
            .client
            .put_item()
            .table_name(Bench::TABLE)
            .set_item(Some(item("claim", &claim, [("status", text("INPROGRESS")), ("expiry", number(1))])))
            .condition_expression("attribute_not_exists(pk)")
            .send()
            .await;
        if claimed.is_err() {
            let known = get(&self.client, "claim", &claim).await;
            let done = known.is_some_and(|claim| claim["status"].as_s().is_ok_and(|it| it == "COMPLETED"));
            // A call in progress is refused, and the caller must retry.
            return if done { Outcome::Done } else { Outcome::Failed };
        }
        let taken = self
            .client
            .update_item()
            .table_name(Bench::TABLE)
            .set_key(Some(item("balance", &self.workspace, [])))
            .update_expression("SET spendable = spendable - :one")
            .condition_expression("spendable >= :one")
            .expression_attribute_values(":one", number(1))
            .send()
            .await;
        if taken.is_err() {
            let claim = Some(item("claim", &claim, []));
            self.client.delete_item().table_name(Bench::TABLE).set_key(claim).send().await.unwrap();
            return Outcome::Refused;
        }
        put(&self.client, "entry", &claim, [("credits", number(-1))]).await;
        self.client
            .update_item()
            .table_name(Bench::TABLE)
            .set_key(Some(item("claim", &claim, [])))
            .update_expression("SET #status = :done, answer = :answer")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":done", text("COMPLETED"))
            .expression_attribute_values(":answer", text(r#"{"debit_id":"deb_1","credits":"1"}"#))
            .send()
            .await
            .unwrap();
        Outcome::Done
    }

    async fn end(&self, keys: &[String]) -> (i64, usize) {
        ended(&self.client, &self.workspace, keys).await
    }
}

async fn ended(client: &Client, workspace: &str, keys: &[String]) -> (i64, usize) {
    let item = |key: &String| format!("peers#entry#{workspace}#{key}");
    (spendable(client, workspace).await, count(client, keys.iter().map(item)).await)
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

type Item = HashMap<String, AttributeValue>;

fn item<const N: usize>(kind: &str, id: &str, attributes: [(&str, AttributeValue); N]) -> Item {
    let mut item: Item = attributes.map(|(name, value)| (name.to_owned(), value)).into();
    item.insert("pk".into(), AttributeValue::S(format!("peers#{kind}#{id}")));
    item.insert("sk".into(), text(kind));
    item
}

async fn put<const N: usize>(client: &Client, kind: &str, id: &str, attributes: [(&str, AttributeValue); N]) {
    let item = Some(item(kind, id, attributes));
    client.put_item().table_name(Bench::TABLE).set_item(item).send().await.unwrap();
}

async fn get(client: &Client, kind: &str, id: &str) -> Option<Item> {
    let asked = client.get_item().table_name(Bench::TABLE).set_key(Some(item(kind, id, [])));
    asked.consistent_read(true).send().await.unwrap().item
}

async fn spendable(client: &Client, workspace: &str) -> i64 {
    get(client, "balance", workspace).await.unwrap()["spendable"].as_n().unwrap().parse().unwrap()
}

/// Returns how many of these items exist.
async fn count(client: &Client, pks: impl Iterator<Item = String>) -> usize {
    let mut found = 0;
    for pk in pks {
        let key = HashMap::from([("pk".to_owned(), AttributeValue::S(pk)), ("sk".to_owned(), text("entry"))]);
        let asked = client.get_item().table_name(Bench::TABLE).set_key(Some(key)).consistent_read(true);
        found += usize::from(asked.send().await.unwrap().item.is_some());
    }
    found
}
