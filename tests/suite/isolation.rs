//! Isolation of workspaces (M1), and which token may make which call.

use std::collections::BTreeMap;

use model::items::{TableItem, every_item};
use reqwest::Method;
use serde_json::{Value, json};

use crate::openapi::{self, Described};
use crate::world::{World, answer};

#[tokio::test(flavor = "multi_thread")]
async fn m01_each_workspace_has_its_own_balance_ledger_and_keys() {
    let world = World::with_packs(1).await;
    world.put_workspace("other").await;
    assert_eq!(world.take("other", "k", "1").await.status, 402);
    assert_eq!(world.take("acme", "k", "1").await.status, 201);
    world.buy("other", "pack_1k", "pack-0").await;
    assert_eq!(world.take("other", "k", "2").await.status, 201);
    assert_eq!((world.available("acme").await, world.available("other").await), ("999".into(), "998".into()));
    assert_eq!(world.reconciled("acme").await, ["top_up", "debit"]);
    assert_eq!(world.reconciled("other").await, ["top_up", "debit"]);
}

/// Starts a stack in which `acme` has a pack, a grant and a run, and `other` has nothing. Returns the ids of the grant
/// and of the run.
async fn with_everything() -> (World, String, String) {
    let world = World::with_packs(1).await;
    world.put_workspace("other").await;
    let grant = json!({ "credits": "5", "kind": "prepaid", "reason": "welcome" });
    let grant = world.call(Method::POST, "/v1/workspaces/acme/grants", Some("grant"), Some(&grant)).await;
    let run = json!({ "workflow_id": "nightly", "trigger": "scheduled" });
    let run = world.call(Method::POST, "/v1/workspaces/acme/runs", Some("run"), Some(&run)).await;
    assert_eq!((grant.status, run.status), (201, 201));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (world, text(&grant.body["grant_id"]), text(&run.body["run_id"]))
}

/// Reads all items of the table except those of the workspace `other`, by partition and sort key.
async fn everything_else(world: &World) -> BTreeMap<[String; 2], TableItem> {
    world.drain().await;
    let items = every_item(&world.stack).await.into_iter();
    let keyed = items.map(|item| (["pk", "sk"].map(|key| item[key].as_s().unwrap().clone()), item));
    keyed.filter(|([pk, _], _)| !pk.contains("other")).collect()
}

fn assert_same(before: &BTreeMap<[String; 2], TableItem>, after: &BTreeMap<[String; 2], TableItem>) {
    let changed: Vec<_> = after.iter().filter(|(key, item)| before.get(*key) != Some(item)).collect();
    assert!(changed.is_empty() && before.len() == after.len(), "{changed:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn m01_a_token_of_another_workspace_reads_and_changes_nothing() {
    let (world, grant_id, run_id) = with_everything().await;
    let token = world.token("other", "credits:spend credits:read credits:manage credits:refund").await;
    let before = everything_else(&world).await;
    let mut tried = 0;
    for Described { method, path, body } in openapi::calls() {
        if ["/v1/catalog", "/v1/openapi.json", "/v1/webhooks/stripe"].contains(&path.as_str()) {
            continue;
        }
        let mut refusals = Vec::new();
        for workspace in ["acme", "nobody", "bad.id", "*", "ACME", "acme%00", "other%2F..%2Facme"] {
            let path = path.replace("{workspace_id}", workspace);
            let path = path.replace("{grant_id}", &grant_id).replace("{run_id}", &run_id);
            let request =
                world.bare(method.clone(), &path).bearer_auth(&token).header("idempotency-key", "k");
            let request = match &body {
                Some(body) => request.json(body),
                None => request,
            };
            let refused = answer(request).await;
            let code = refused.body["code"].as_str();
            assert_eq!((refused.status, code), (403, Some("workspace_forbidden")), "{method} {path}");
            refusals.push(refused.body);
        }
        assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{path}: the refusals differ");
        tried += 1;
    }
    assert_eq!(tried, openapi::calls().len() - 3);
    assert_same(&before, &everything_else(&world).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn m01_ids_of_another_workspace_are_not_found() {
    let (world, grant_id, run_id) = with_everything().await;
    let before = everything_else(&world).await;
    let own = "/v1/workspaces/other";
    let step = json!({ "kind": "workflow_step", "workflow_id": "nightly", "run_id": run_id, "step_id": "s" });
    let step = json!({ "operation": "text.generate", "credits": "5", "consumer": step });
    assert_eq!(world.debit("other", "step", &step).await.status, 402);
    let cursor = world.get("/v1/workspaces/acme/ledger?limit=1").await["next_cursor"].clone();
    for (theirs, nobodys) in [(run_id.as_str(), "run_0"), (grant_id.as_str(), "grt_0")] {
        let mut answers = Vec::new();
        for id in [theirs, nobodys] {
            let void = format!("{own}/grants/{id}/void");
            let (reason, empty) = (json!({ "reason": "mine" }), json!({}));
            answers.push([
                world.call(Method::GET, &format!("{own}/runs/{id}"), None, None).await,
                world.call(Method::POST, &format!("{own}/runs/{id}/complete"), Some("k"), Some(&empty)).await,
                world.call(Method::POST, &void, Some("v"), Some(&reason)).await,
            ]);
        }
        for (theirs, nobodys) in answers[0].iter().zip(&answers[1]) {
            assert_eq!((theirs.status, &theirs.body), (404, &nobodys.body));
        }
    }
    let path = format!("{own}/ledger?cursor={}", cursor.as_str().unwrap());
    let page = world.call(Method::GET, &path, None, None).await;
    assert!(page.status == 422 || page.body["entries"] == json!([]), "{}", page.body);
    assert_same(&before, &everything_else(&world).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_needs_its_scope_and_only_the_hub_makes_workspaces() {
    let world = World::with_packs(1).await;
    let calls = [
        (Method::POST, "/v1/workspaces/acme/debits", "credits:read credits:manage"),
        (Method::POST, "/v1/workspaces/acme/quotes", "credits:read"),
        (Method::GET, "/v1/workspaces/acme/balance", "credits:spend credits:manage"),
        (Method::GET, "/v1/workspaces/acme/ledger", "credits:spend"),
        (Method::GET, "/v1/workspaces/acme", ""),
        (Method::POST, "/v1/workspaces/acme/top-ups", "credits:spend credits:read"),
        (Method::PUT, "/v1/workspaces/acme", "credits:read credits:managed"),
    ];
    for (method, path, scope) in calls {
        let token = world.token("acme", scope).await;
        let refused = answer(world.bare(method, path).bearer_auth(token)).await;
        assert_eq!((refused.status, refused.body["code"].as_str()), (403, Some("scope_missing")), "{path}");
    }
    let own = world.token("acme", "credits:manage").await;
    let body = json!({ "name": "Acme", "plan": "enterprise", "billing_email": "me@acme.example" });
    let refused = answer(world.bare(Method::PUT, "/v1/workspaces/acme").bearer_auth(own).json(&body)).await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (403, Some("workspace_forbidden")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_token_gets_the_401_of_api_gateway() {
    let world = World::with_packs(0).await;
    let expired = world.token_for("*", "credits:read", -1).await;
    let path = "/v1/workspaces/acme/balance";
    let requests = [
        world.bare(Method::GET, path),
        world.bare(Method::GET, path).header("authorization", "Bearer nonsense"),
        world.bare(Method::GET, path).bearer_auth(expired),
    ];
    for request in requests {
        let refused = answer(request).await;
        assert_eq!((refused.status, refused.body), (401, json!({ "message": "Unauthorized" })));
    }
    let nowhere = answer(world.bare(Method::GET, "/v1/nothing")).await;
    assert_eq!((nowhere.status, nowhere.body), (404, json!({ "message": "Not Found" })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_put_changes_the_workspace() {
    let world = World::new().await;
    let put = world.put_workspace("acme").await;
    assert_eq!(put.status, 201);
    let body = json!({ "name": "Acme & Sons", "plan": "pro", "billing_email": "new@acme.example" });
    let changed = world.call(Method::PUT, "/v1/workspaces/acme", None, Some(&body)).await;
    assert_eq!((changed.status, &changed.body["plan"]), (200, &json!("pro")));
    assert_eq!(changed.body["created_at"], put.body["created_at"]);
    assert_eq!(world.get("/v1/workspaces/acme").await, changed.body);
    let missing = world.call(Method::GET, "/v1/workspaces/nobody", None, None).await;
    assert_eq!((missing.status, missing.body["code"].as_str()), (404, Some("workspace_not_found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_m07_any_token_reads_the_catalogue() {
    let world = World::new().await;
    let token = world.token("acme", "").await;
    let shown = answer(world.bare(Method::GET, "/v1/catalog").bearer_auth(token)).await;
    assert_eq!(shown.status, 200);
    assert_eq!(
        shown.body["packs"][0],
        json!({ "pack": "pack_1k", "credits": "1000", "price": { "amount": 1000, "currency": "USD" } })
    );
    assert_eq!(shown.body["plans"][0], json!({ "plan": "free", "subscription": false, "monthly_runs": 100 }));
    assert_eq!(shown.body["rate_card"]["operations"].as_array().unwrap().len(), 10);
}
