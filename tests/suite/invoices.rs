//! Invoices: one series of numbers for the seller, and the status of each invoice (M8).

use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::id::WorkspaceId;
use credits_core::month::Month;
use jiff::SignedDuration;
use model::items::{every_item, of_kind, put_all};
use reqwest::Method;
use serde_json::{Value, json};

use crate::enterprise::{enterprise, invoicing};
use crate::table::{Table, TableFault, cancelled, failed};
use crate::world::{Answer, World};

const WORKSPACES: [&str; 3] = ["acme", "bolt", "cask"];

/// Starts a stack in which each workspace uses 50 credits that are invoiced.
async fn with_use() -> World {
    let world = World::new().await;
    for workspace in WORKSPACES {
        world.put_on_plan(workspace, "enterprise").await;
        let path = format!("/v1/workspaces/{workspace}/agreement");
        let agreed = world.call(Method::PUT, &path, None, Some(&invoicing("500"))).await;
        assert_eq!(agreed.status, 201);
        assert_eq!(world.take(workspace, "first", "50").await.status, 201);
    }
    world
}

impl World {
    async fn invoices_of(&self, workspace: &str) -> Vec<Value> {
        let path = format!("/v1/workspaces/{workspace}/invoices");
        self.get(&path).await["invoices"].as_array().unwrap().clone()
    }

    /// Reads the numbers of all invoices within the year, such as `000001`, in order.
    async fn numbers(&self) -> Vec<String> {
        let mut numbers = Vec::new();
        for workspace in WORKSPACES {
            let invoices = self.invoices_of(workspace).await;
            numbers.extend(invoices.iter().filter_map(|it| Some(it["number"].as_str()?[9..].to_owned())));
        }
        numbers.sort();
        numbers
    }

    async fn set_status(&self, key: &str, invoice_id: &Value, body: &Value) -> Answer {
        let path = format!("/v1/workspaces/acme/invoices/{}/status", invoice_id.as_str().unwrap());
        self.call(Method::POST, &path, Some(key), Some(body)).await
    }

    /// Ends the month and closes it by calls, so that its invoices are written but no sweep has numbered them.
    async fn closes_without_a_sweep(&self) {
        let end = Month::of(self.advance(0).await).end();
        self.stack.sleep_until(end + SignedDuration::from_mins(6)).unwrap();
        for workspace in WORKSPACES {
            let path = format!("/v1/workspaces/{workspace}/agreement");
            assert_eq!(self.call(Method::PUT, &path, None, Some(&invoicing("500"))).await.status, 200);
        }
    }
}

fn series(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("{number:06}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_all_workspaces_share_one_series_of_invoice_numbers() {
    let world = with_use().await;
    world.next_month().await;
    assert_eq!(world.take("bolt", "second", "5").await.status, 201);
    let last = world.next_month().await;
    assert_eq!(world.numbers().await, series(4));
    let newest = &world.invoices_of("bolt").await[0];
    let number = newest["number"].as_str().unwrap();
    assert_eq!(number, format!("INV-{}-000004", last.to_zoned(jiff::tz::TimeZone::UTC).year()));
    let ready = world.events("InvoiceReady").await;
    assert_eq!(ready.len(), 4);
    assert_eq!((&ready[3]["number"], &ready[3]["lines"]), (&json!(number), &newest["lines"]));
    let subjects: Vec<String> =
        world.subjects().await.into_iter().filter(|it| it.starts_with("Invoice ")).collect();
    assert_eq!(subjects.len(), 4, "{subjects:?}");
    assert!(subjects.iter().any(|subject| subject.contains(number) && subject.ends_with("USD 0.05")));
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_an_invoice_is_published_when_the_sweep_numbers_it() {
    let world = with_use().await;
    world.closes_without_a_sweep().await;
    let invoice = &world.invoices_of("acme").await[0];
    assert_eq!((&invoice["number"], &invoice["status"]), (&Value::Null, &json!("open")));
    assert!(world.events("InvoiceReady").await.is_empty());
    world.sweep().await;
    assert_eq!(world.numbers().await, series(3));
    world.sweep().await;
    assert_eq!((world.numbers().await, world.events("InvoiceReady").await.len()), (series(3), 3));
}

/// Crashes, lost answers and concurrent sweeps leave no gap and use no number twice.
#[tokio::test(flavor = "multi_thread")]
async fn m08_failures_while_numbering_leave_no_gap() {
    let world = with_use().await;
    world.closes_without_a_sweep().await;
    let table = Table::of(&world);
    let of = |workspace: &str| workspace.parse::<WorkspaceId>().unwrap();
    // The last request of a function that crashes arrives or is lost.
    table.suffers([
        TableFault::AnswerLost,
        TableFault::RequestLost,
        cancelled(&["TransactionConflict", "None"]),
    ]);
    table.store.invoices().number_all(&of("acme")).await.unwrap();
    assert_eq!((world.numbers().await, table.transactions()), (series(1), 1), "a read finds the number");
    table.store.invoices().number_all(&of("bolt")).await.unwrap();
    assert_eq!((world.numbers().await, table.transactions()), (series(2), 4));
    table.suffers(std::iter::repeat_n(failed(500, "InternalServerError"), 100));
    assert!(table.store.invoices().number_all(&of("cask")).await.is_err());
    assert_eq!(world.numbers().await, series(2), "a failed write takes no number");
    table.suffers([]);
    // Two sweeps number one invoice at once, and a third finds it numbered.
    let (one, other) = (Table::of(&world), Table::of(&world));
    let of_cask = of("cask");
    let (first, second) =
        tokio::join!(one.store.invoices().number_all(&of_cask), other.store.invoices().number_all(&of_cask));
    first.and(second).unwrap();
    world.sweep().await;
    assert_eq!((world.numbers().await, world.events("InvoiceReady").await.len()), (series(3), 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_concurrent_numbering_leaves_no_gap() {
    let world = with_use().await;
    world.closes_without_a_sweep().await;
    let tables: Vec<Table> = WORKSPACES.iter().map(|_| Table::of(&world)).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for (table, workspace) in tables.iter().zip(WORKSPACES) {
        let store = table.store.clone();
        tasks.spawn(async move { store.invoices().number_all(&workspace.parse().unwrap()).await });
    }
    for numbered in tasks.join_all().await {
        numbered.unwrap();
    }
    assert_eq!(world.numbers().await, series(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_the_operator_sets_the_status_of_an_invoice() {
    let world = enterprise().await;
    world.agree(&invoicing("500")).await;
    world.use_of("a", "text.generate", "200").await;
    let month = Month::of(world.advance(0).await).to_string();
    world.next_month().await;
    let invoice = world.invoices().await.remove(0);
    let (id, before) = (&invoice["invoice_id"], world.balance("acme").await["version"].clone());
    let paid = json!({ "status": "paid", "note": "Bank transfer" });
    let answer = world.set_status("k1", id, &paid).await;
    let mut expected = invoice.clone();
    (expected["status"], expected["note"]) = (json!("paid"), json!("Bank transfer"));
    assert_eq!((answer.status, answer.replayed, &answer.body), (200, false, &expected));
    let void = json!({ "status": "void" });
    assert_eq!(world.set_status("k2", id, &void).await.body["note"], Value::Null);
    let replay = world.set_status("k1", id, &paid).await;
    assert_eq!(
        (replay.status, replay.replayed, &replay.body),
        (200, true, &expected),
        "a replay of the first answer"
    );
    assert_eq!(world.invoices().await[0]["status"], "void");
    let reused = world.set_status("k1", id, &void).await;
    assert_eq!((reused.status, reused.body["code"].as_str()), (409, Some("idempotency_key_reused")));
    assert_eq!(world.balance("acme").await["version"], before, "no credits move");
    // The history counts a void invoice as 0 and an open one in full.
    let history = async || {
        world.drain().await;
        let months = world.get("/v1/workspaces/acme/usage/history").await["months"].clone();
        let of = months.as_array().unwrap().iter().find(|it| it["month"] == json!(month)).cloned();
        of.unwrap()["paid"][0]["amount"].clone()
    };
    assert_eq!(history().await, 0);
    assert_eq!(world.set_status("k3", id, &json!({ "status": "open" })).await.status, 200);
    assert_eq!((history().await, world.events("InvoiceReady").await.len()), (json!(200), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_an_invoice_that_is_void_before_numbering_has_no_number() {
    let world = with_use().await;
    world.closes_without_a_sweep().await;
    let id = world.invoices_of("acme").await[0]["invoice_id"].clone();
    assert_eq!(world.set_status("v", &id, &json!({ "status": "void" })).await.body["number"], Value::Null);
    world.sweep().await;
    assert_eq!((world.numbers().await, world.events("InvoiceReady").await.len()), (series(2), 2));
    assert_eq!(world.set_status("o", &id, &json!({ "status": "open" })).await.body["number"], Value::Null);
    world.sweep().await;
    assert_eq!((world.numbers().await, world.events("InvoiceReady").await.len()), (series(3), 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_an_invalid_change_of_an_invoice_status_is_refused() {
    let world = with_use().await;
    world.next_month().await;
    let id = world.invoices_of("acme").await[0]["invoice_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/workspaces/acme/invoices/{id}/status");
    let body = json!({ "status": "paid" });
    let token = world.token("acme", "credits:manage").await;
    let own = world.bare(Method::POST, &path).bearer_auth(token).header("idempotency-key", "k").json(&body);
    assert_eq!(crate::world::answer(own).await.body["code"], "workspace_forbidden");
    let without = world.call(Method::POST, &path, None, Some(&body)).await;
    assert_eq!(without.body["code"], "idempotency_key_missing");
    let wrong = json!({ "status": "late", "note": "", "x": 1 });
    assert_eq!(
        world.call(Method::POST, &path, Some("k"), Some(&wrong)).await.fields(),
        ["status", "note", "x"]
    );
    assert_eq!(world.set_status("k", &json!("inv_2020-01"), &body).await.body["code"], "not_found");
    let nobodys = "/v1/workspaces/nobody/invoices/inv_2020-01/status";
    let unknown = world.call(Method::POST, nobodys, Some("k"), Some(&body)).await;
    assert_eq!(unknown.body["code"], "workspace_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_an_unreadable_invoice_is_postponed_and_blocks_no_other() {
    let world = with_use().await;
    world.closes_without_a_sweep().await;
    let items = every_item(&world.stack).await;
    let whole = of_kind(&items, "invoice#acme").next().unwrap().clone();
    let mut spoilt = whole.clone();
    spoilt.insert("invoice".into(), AttributeValue::S("spoilt".into()));
    put_all(&world.stack, vec![spoilt]).await;
    let failed = world.stack.fire("renewal", json!({})).await.unwrap_err();
    assert_eq!(failed, "0 due items were left, 1 postponed and 0 quarantined");
    put_all(&world.stack, vec![whole]).await;
    assert_eq!(world.numbers().await, series(2));
    world.sweep().await;
    assert_eq!(world.numbers().await, series(3));
}

/// A refund of use that was invoiced is credited on the next invoice; a refund within the month lowers its own invoice.
#[tokio::test(flavor = "multi_thread")]
async fn m08_a_refund_lowers_the_invoice_of_its_month_or_the_next() {
    let world = World::new().await;
    world.put_on_plan("acme", "enterprise").await;
    let agreed =
        world.call(Method::PUT, "/v1/workspaces/acme/agreement", None, Some(&invoicing("500"))).await;
    assert_eq!(agreed.status, 201);
    let debit = async |key: &str, credits: &str| {
        let debit = world.take("acme", key, credits).await;
        debit.body["debit_id"].as_str().unwrap().to_owned()
    };
    let refund = async |debit: &str, key: &str, credits: &str| {
        let path = format!("/v1/workspaces/acme/debits/{debit}/refund");
        let body = json!({ "credits": credits, "reason": "quality" });
        assert_eq!(world.call(Method::POST, &path, Some(key), Some(&body)).await.status, 201);
    };
    let billed = async || {
        let invoice = &world.invoices_of("acme").await[0];
        invoice["lines"].as_array().unwrap().iter().map(|line| line["credits"].clone()).collect::<Vec<_>>()
    };
    let first = debit("first", "50").await;
    refund(&first, "within", "8").await;
    world.next_month().await;
    assert_eq!(billed().await, [json!("42")], "50 less 8");
    refund(&first, "invoiced", "20").await;
    assert_eq!(world.available("acme").await, "20");
    debit("second", "30").await;
    world.next_month().await;
    assert_eq!(billed().await, [json!("10")], "30 less the 20 of the first month");
    world.drain().await;
    world.reconciled("acme").await;
}
