//! Grants that the operator makes, and their voids (M8).

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::{SignedDuration, Timestamp};
use model::items::{every_item, of_kind, put_all, text};
use reqwest::Method;
use serde_json::{Value, json};

use crate::subscribing::time;
use crate::world::{Answer, NowForTests, World};

fn in_hours(hours: i64) -> String {
    (Timestamp::now_for_tests() + SignedDuration::from_hours(hours)).to_string()
}

async fn grant(world: &World, key: &str, body: &Value) -> Answer {
    world.call(Method::POST, "/v1/workspaces/acme/grants", Some(key), Some(body)).await
}

async fn void(world: &World, key: &str, grant: &Answer) -> Answer {
    let path = format!("/v1/workspaces/acme/grants/{}/void", grant.body["grant_id"].as_str().unwrap());
    world.call(Method::POST, &path, Some(key), Some(&json!({ "reason": "a mistake" }))).await
}

fn promotional(credits: &str) -> Value {
    json!({ "credits": credits, "kind": "promotional", "expires_at": in_hours(24), "reason": "welcome" })
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_the_operator_grants_credits_with_and_without_expiry() {
    let world = World::with_packs(0).await;
    let prepaid = grant(&world, "a", &json!({ "credits": "10", "kind": "prepaid", "reason": "block" })).await;
    let expiring = promotional("5");
    let first = grant(&world, "b", &expiring).await;
    assert_eq!((prepaid.status, first.status), (201, 201), "{} {}", prepaid.body, first.body);
    let again = grant(&world, "b", &expiring).await;
    assert_eq!((again.status, again.replayed, &again.body), (200, true, &first.body));
    assert_eq!(grant(&world, "b", &promotional("6")).await.body["code"], "idempotency_key_reused");
    assert_eq!(world.take("acme", "some", "3").await.status, 201);
    let balance = world.balance("acme").await;
    assert_eq!((&balance["available"], &balance["prepaid"]), (&json!("12"), &json!("10")));
    let listed = &balance["grants"][0];
    assert_eq!((&listed["grant_id"], &listed["kind"]), (&first.body["grant_id"], &json!("promotional")));
    assert_eq!((&listed["granted"], &listed["remaining"]), (&json!("5"), &json!("2")));
    assert_eq!(world.reconciled("acme").await, ["grant", "grant", "debit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_a_void_takes_back_what_is_left_and_only_once() {
    let world = World::with_packs(1).await;
    let expiring = grant(&world, "expiring", &promotional("100")).await;
    world.take("acme", "some", "30").await;
    let taken = void(&world, "v1", &expiring).await;
    assert_eq!((taken.status, &taken.body["credits"]), (200, &json!("70")), "{}", taken.body);
    let again = void(&world, "v1", &expiring).await;
    assert_eq!((again.status, again.replayed, &again.body), (200, true, &taken.body));
    let twice = void(&world, "v2", &expiring).await;
    assert_eq!((twice.status, twice.body["code"].as_str()), (409, Some("grant_voided")));
    assert_eq!(world.available("acme").await, "1000");
    assert_eq!(world.reconciled("acme").await, ["top_up", "grant", "debit", "void"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_voiding_a_prepaid_grant_takes_what_prepaid_has_left() {
    let world = World::with_packs(0).await;
    let body = json!({ "credits": "100", "kind": "prepaid", "reason": "block" });
    let (first, second) = (grant(&world, "a", &body).await, grant(&world, "b", &body).await);
    world.take("acme", "some", "150").await;
    assert_eq!(void(&world, "v1", &first).await.body["credits"], "50");
    assert_eq!(void(&world, "v2", &second).await.body["credits"], "0");
    assert_eq!(world.available("acme").await, "0");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn advancing_the_stacks_clock_expires_grants() {
    let folder = crate::spending::Folder::new("clock");
    let options = credits_local::Options { data: Some(folder.path()), ..credits_local::Options::default() };
    let world = World::with(&options).await;
    world.put_workspace("acme").await;
    grant(&world, "a", &promotional("5")).await;
    assert_eq!(world.take("acme", "some", "2").await.status, 201);
    let advance = |seconds: i64| json!({ "advance_seconds": seconds });
    world.local(Method::POST, "/_local/clock", Some(&advance(24 * 3_600 + 1))).await;
    // The test reads the ledger first, because that call must close what is due by itself.
    let entries = world.entries("acme").await;
    assert_eq!((&entries[0]["kind"], &entries[0]["credits"]), (&json!("expiry"), &json!("-3")));
    assert_eq!(world.take("acme", "more", "1").await.status, 402);
    assert_eq!(world.reconciled("acme").await, ["grant", "debit", "expiry"]);
    let now = world.local(Method::POST, "/_local/clock", Some(&advance(0))).await["now"].clone();
    drop(world);
    let world = World::with(&options).await;
    let later = world.local(Method::POST, "/_local/clock", Some(&advance(0))).await["now"].clone();
    let instant = |now: &Value| now.as_str().unwrap().parse::<Timestamp>().unwrap();
    assert!(instant(&later) >= instant(&now), "the clock's offset is kept");
    let back = world.bare(Method::POST, "/_local/clock").json(&advance(-1));
    assert_eq!(crate::world::answer(back).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_or_unknown_grant_changes_nothing() {
    let world = World::with_packs(0).await;
    let wrong = [
        (json!({}), vec!["credits", "kind", "reason"]),
        (json!({ "credits": "0", "kind": "gift", "reason": "" }), vec!["credits", "kind", "reason"]),
        (
            json!({ "credits": "1", "kind": "prepaid", "expires_at": in_hours(1), "reason": "x" }),
            vec!["expires_at"],
        ),
        (json!({ "credits": "1", "kind": "commitment", "reason": "x" }), vec!["expires_at"]),
        (
            json!({ "credits": "1", "kind": "promotional", "expires_at": in_hours(-1), "reason": "x" }),
            vec!["expires_at"],
        ),
        (
            json!({ "credits": "1", "kind": "promotional", "expires_at": "soon", "reason": "x" }),
            vec!["expires_at"],
        ),
    ];
    for time in [
        "2099-12-31 00:00:00Z",
        "20991231T000000Z",
        "2099-12-31T00:00Z",
        "2099-12-31T00:00:00+01",
        "2099-12-31",
    ] {
        let mut body = promotional("1");
        body["expires_at"] = json!(time);
        assert_eq!(grant(&world, "k", &body).await.fields(), ["expires_at"], "{time}");
    }
    for (body, fields) in wrong {
        let refused = grant(&world, "k", &body).await;
        assert_eq!(refused.fields(), fields, "{body}");
    }
    let path = "/v1/workspaces/acme/grants/gr_none/void";
    let missing = world.call(Method::POST, path, Some("k"), Some(&json!({ "reason": "x" }))).await;
    assert_eq!((missing.status, missing.body["code"].as_str()), (404, Some("not_found")));
    let path = "/v1/workspaces/nobody/grants/gr_none/void";
    let nowhere = world.call(Method::POST, path, Some("k"), Some(&json!({ "reason": "x" }))).await;
    assert_eq!(nowhere.body["code"], "workspace_not_found");
    let own = world.token("acme", "credits:manage").await;
    let request = world.bare(Method::POST, "/v1/workspaces/acme/grants").bearer_auth(own);
    let refused = crate::world::answer(request.json(&promotional("5"))).await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (403, Some("workspace_forbidden")));
    assert!(world.entries("acme").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_only_grants_of_the_operator_can_be_voided() {
    let world = World::with_card().await;
    assert_eq!(world.subscribe("acme", "tier_2k").await.status, 201);
    let grant_id = async || world.balance("acme").await["grants"][0]["grant_id"].as_str().unwrap().to_owned();
    let void = async |grant: &str| {
        let path = format!("/v1/workspaces/acme/grants/{grant}/void");
        world.call(Method::POST, &path, Some(grant), Some(&json!({ "reason": "test" }))).await
    };
    let allocation = grant_id().await;
    let refused = void(&allocation).await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (409, &json!("grant_not_voidable")),
        "{}",
        refused.body
    );
    let renews_at = time(&world.subscribed("acme").await["renews_at"]);
    world.advance_to(renews_at).await;
    assert_ne!(grant_id().await, allocation);
    for grant in [allocation, grant_id().await] {
        assert_eq!(void(&grant).await.body["code"], "grant_not_voidable", "{grant} is listed in the ledger");
    }
    world.put_on_plan("acme", "enterprise").await;
    let commitment = json!({ "credit_limit": "0", "invoicing": null,
        "commitment": { "monthly_credits": "10", "price": { "amount": 500, "currency": "USD" } } });
    let agreed = world.call(Method::PUT, "/v1/workspaces/acme/agreement", None, Some(&commitment)).await;
    assert_eq!(agreed.status, 201);
    let grants = world.balance("acme").await["grants"].as_array().unwrap().clone();
    let commitment = grants.iter().find(|grant| grant["kind"] == "commitment").unwrap();
    assert_eq!(void(commitment["grant_id"].as_str().unwrap()).await.body["code"], "grant_not_voidable");
    for unknown in ["gr_0198f2c4a7b070008000000000000001", "gr_1", "nothing"] {
        assert_eq!(void(unknown).await.body["code"], "not_found", "{unknown}");
    }
    world.put_workspace("other").await;
    let path = format!("/v1/workspaces/other/grants/{}/void", grants[0]["grant_id"].as_str().unwrap());
    let elsewhere = world.call(Method::POST, &path, Some("k"), Some(&json!({ "reason": "test" }))).await;
    assert_eq!((elsewhere.status, &elsewhere.body["code"]), (404, &json!("not_found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_a_workspace_has_at_most_1000_expiring_grants() {
    let world = World::with_packs(0).await;
    let body = promotional("5");
    let first = grant(&world, "first", &body).await;
    // The other 999 grants are used up. A close would remove them, so the test writes the items itself.
    let items = every_item(&world.stack).await;
    let mut balance = of_kind(&items, "balance#acme").next().unwrap().clone();
    let mut running =
        of_kind(&items, "grant#acme").find(|item| text(item, "sk") == "running").unwrap().clone();
    let AttributeValue::L(grants) = running.get_mut("grants").unwrap() else { panic!("expected a list") };
    let mut used_up = grants[0].as_m().unwrap().clone();
    used_up.insert("amount".into(), AttributeValue::N("0".into()));
    grants.resize(1_000, AttributeValue::M(used_up));
    balance.insert("running_grants".into(), AttributeValue::N("1000".into()));
    put_all(&world.stack, vec![balance, running]).await;
    let refused = grant(&world, "second", &promotional("5")).await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (409, Some("too_many_grants")));
    let again = grant(&world, "first", &body).await;
    assert_eq!((again.status, again.replayed, &again.body), (200, true, &first.body));
    let prepaid = json!({ "credits": "10", "kind": "prepaid", "reason": "block" });
    assert_eq!(grant(&world, "prepaid", &prepaid).await.status, 201);
    world.advance(25 * 60 * 60).await;
    let later = json!({ "credits": "7", "kind": "promotional", "expires_at": "2099-01-01T00:00:00Z", "reason": "late" });
    assert_eq!(grant(&world, "later", &later).await.status, 201);
    assert_eq!(world.available("acme").await, "17");
}
