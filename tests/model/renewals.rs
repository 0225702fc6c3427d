//! Many renewals due at once (M6): two concurrent sweeps that are stopped midway, and the sweeps that finish the work.

use std::collections::{BTreeMap, HashSet};

use aws_sdk_dynamodb::types::AttributeValue;
use credits_local::Stack;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::items::{TableItem, every_item, of_kind, put_all, renamed, text};

/// The largest page of the payment provider's list.
const MAX_PAGE_CHARGES: usize = 100;

/// The credits of a workspace after its renewal: a pack of 1,000 and a month of 2,000.
const RENEWED_CREDITS: &str = "3000";

/// The table requests of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepCost {
    /// The number of subscriptions that the sweep renewed.
    pub renewals: usize,
    /// The number of requests, by operation.
    pub operations: BTreeMap<String, usize>,
    /// The write units of all requests.
    pub write_units: f64,
}

/// The costs of the sweeps that renewed all subscriptions.
#[derive(Debug, Clone, PartialEq)]
pub struct RenewalCosts {
    /// The sweep before the renewal date, which charges the cards and grants the credits.
    pub charging: SweepCost,
    /// The sweep on the renewal date, which begins the new periods.
    pub beginning: SweepCost,
}

impl SweepCost {
    fn of(requests: &[Value], renewals: usize) -> Self {
        let mut cost = Self { renewals, operations: BTreeMap::new(), write_units: 0.0 };
        for request in requests.iter().filter(|request| request["function"] == "renewal") {
            *cost.operations.entry(request["operation"].as_str().unwrap().to_owned()).or_default() += 1;
            cost.write_units += request["write_units"].as_f64().unwrap();
        }
        cost
    }

    /// Returns the requests per renewal.
    #[must_use]
    pub fn requests_each(&self) -> f64 {
        self.operations.values().sum::<usize>() as f64 / self.renewals as f64
    }

    /// Returns the write units per renewal.
    #[must_use]
    pub fn write_units_each(&self) -> f64 {
        self.write_units / self.renewals as f64
    }
}

/// Subscribes this many workspaces, `acme` first, and returns the date on which all renew.
///
/// `acme` subscribes through the API. The other workspaces are copies of its items, because subscribing each would take
/// an hour.
pub async fn subscribe(stack: &Stack, workspaces: usize) -> Timestamp {
    let subscription = subscribe_acme(stack).await;
    let id = subscription["subscription_id"].as_str().unwrap();
    let items = every_item(stack).await;
    let kinds = ["workspace#", "balance#", "grant#", "card#", "subscription#"];
    let originals: Vec<&TableItem> = kinds.iter().flat_map(|kind| of_kind(&items, kind)).collect();
    let copies = (1..workspaces).flat_map(|number| {
        let workspace = format!("ws{number:05}");
        let names = BTreeMap::from([("acme", workspace.clone()), (id, format!("sub_{workspace}"))]);
        let due = credits_store::table::keys::due(&workspace.parse().unwrap());
        originals.iter().map(move |item| {
            let mut copy = renamed(item, &names);
            copy.entry("index_pk".to_owned()).and_modify(|shard| *shard = AttributeValue::S(due.clone()));
            copy
        })
    });
    put_all(stack, copies.collect()).await;
    subscription["renews_at"].as_str().unwrap().parse().unwrap()
}

/// Creates `acme` with the team plan, a stored card and a subscription, and returns the subscription.
async fn subscribe_acme(stack: &Stack) -> Value {
    let token = stack.token("*", "credits:read credits:manage").unwrap();
    let call = async |method: Method, path: &str, body: Value| {
        let path = format!("/v1/workspaces/acme{path}");
        let (status, body) = stack.call((method, &path), &token, "pack", Some(&body)).await.unwrap();
        assert_eq!(status, 201, "{path}: {body}");
        body
    };
    let profile = json!({ "name": "Acme", "plan": "team", "billing_email": "billing@acme.example" });
    call(Method::PUT, "", profile).await;
    let top_up = call(Method::POST, "/top-ups", json!({ "pack": "pack_1k" })).await;
    assert!(stack.pay(top_up["checkout_id"].as_str().unwrap()).await, "the pack is paid");
    call(Method::PUT, "/subscription", json!({ "tier": "tier_2k" })).await
}

/// Renews all subscriptions with two concurrent sweeps, which are stopped midway, and with later sweeps. Checks that
/// each subscription is charged once and granted once.
///
/// The first two sweeps are stopped by the number of charges and not by a clock, so their progress does not depend on
/// the machine's speed.
pub async fn renew_all(stack: &Stack, workspaces: usize) -> RenewalCosts {
    let http = reqwest::Client::new();
    let renews_at = subscribe(stack, workspaces).await;
    let before = charges(&http, stack).await.len();
    stack.sleep_until(renews_at - SignedDuration::from_mins(30)).unwrap();
    Box::pin(stop_midway(&http, stack)).await;
    let midway = charges(&http, stack).await.len() - before;
    assert!(midway > 0 && midway < workspaces, "{midway} of {workspaces} were charged at the stop");
    // After two minutes another sweep may take over a charge that the stopped sweeps have begun.
    stack.sleep_until(renews_at - SignedDuration::from_mins(20)).unwrap();
    let charging = cost_of_sweep(&http, stack, workspaces - midway).await;
    stack.fire("renewal", json!({})).await.unwrap();
    let all = charges(&http, stack).await;
    let purchases: HashSet<&str> =
        all.iter().map(|charge| charge["metadata"]["purchase_id"].as_str().unwrap()).collect();
    let charged = (all.len() - before, purchases.len() - before);
    assert_eq!(charged, (workspaces, workspaces), "each workspace is charged once");
    stack.sleep_until(renews_at + SignedDuration::from_mins(5)).unwrap();
    let beginning = cost_of_sweep(&http, stack, workspaces).await;
    assert_granted_once(&every_item(stack).await, workspaces);
    RenewalCosts { charging, beginning }
}

/// Starts two sweeps, and drops both when the payment provider lists a full page of charges.
async fn stop_midway(http: &reqwest::Client, stack: &Stack) {
    let sweeps = async { tokio::join!(stack.fire("renewal", json!({})), stack.fire("renewal", json!({}))) };
    tokio::select! {
        () = page_of_charges(http, stack) => {}
        _ = sweeps => panic!("the sweeps ended before they were stopped"),
    }
}

/// Waits until the payment provider lists a full page of charges.
async fn page_of_charges(http: &reqwest::Client, stack: &Stack) {
    while charges_after(http, stack, None).await["data"].as_array().unwrap().len() < MAX_PAGE_CHARGES {}
}

/// Returns all charges of stored methods at the stand-in payment provider, oldest first.
pub async fn charges(http: &reqwest::Client, stack: &Stack) -> Vec<Value> {
    let (mut charges, mut last) = (Vec::new(), None::<String>);
    loop {
        let page = charges_after(http, stack, last.as_deref()).await;
        let intents = page["data"].as_array().unwrap();
        // The payment of a checkout stores its method. A charge of a stored method does not.
        charges.extend(intents.iter().filter(|intent| intent["setup_future_usage"].is_null()).cloned());
        last = intents.last().map(|intent| intent["id"].as_str().unwrap().to_owned());
        if page["has_more"] != true {
            charges.reverse();
            return charges;
        }
    }
}

async fn charges_after(http: &reqwest::Client, stack: &Stack, last: Option<&str>) -> Value {
    let after = last.map(|last| format!("&starting_after={last}")).unwrap_or_default();
    let path = format!("/_local/provider/v1/payment_intents?limit={MAX_PAGE_CHARGES}{after}");
    let request = http.get(format!("{}{path}", stack.url())).bearer_auth("sk_local");
    request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
}

/// Fires a sweep that renews this many subscriptions, and returns its table requests.
async fn cost_of_sweep(http: &reqwest::Client, stack: &Stack, renewals: usize) -> SweepCost {
    let requests = format!("{}/_local/requests", stack.url());
    http.delete(&requests).send().await.unwrap();
    stack.fire("renewal", json!({})).await.unwrap();
    let requests: Vec<Value> = http.get(&requests).send().await.unwrap().json().await.unwrap();
    SweepCost::of(&requests, renewals)
}

/// Checks that each workspace is granted its second period once.
fn assert_granted_once(items: &[TableItem], workspaces: usize) {
    let mut grants: BTreeMap<String, usize> = BTreeMap::new();
    for entry in of_kind(items, "entry#").filter(|entry| text(entry, "pk").contains("#sys#payment#")) {
        let cause = entry["detail"].as_m().unwrap();
        let period = cause.get("period").and_then(|period| period.as_n().ok());
        if cause["kind"].as_s().unwrap() == "allocation" && period.is_some_and(|period| period == "2") {
            assert!(text(entry, "index_pk").starts_with("ledger#"), "the ledger lists the grant");
            let workspace = text(entry, "pk").split('#').nth(1).unwrap().to_owned();
            *grants.entry(workspace).or_default() += 1;
        }
    }
    assert_eq!(grants.len(), workspaces);
    assert!(grants.values().all(|grants| *grants == 1), "each workspace is granted once");
    for balance in of_kind(items, "balance#") {
        assert_eq!(balance["spendable"].as_n().unwrap(), RENEWED_CREDITS, "{}", text(balance, "pk"));
    }
}
