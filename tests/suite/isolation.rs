//! M1: nothing crosses from one workspace to another; and who may call what.

use reqwest::Method;
use serde_json::json;

use crate::world::{World, answer, taking};

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

#[tokio::test(flavor = "multi_thread")]
async fn m01_a_token_reaches_its_own_workspace_and_learns_nothing_of_others() {
    let world = World::with_packs(1).await;
    let token = world.token("other", "credits:spend credits:read credits:manage").await;
    let calls = [
        (Method::GET, "", None),
        (Method::GET, "/balance", None),
        (Method::GET, "/ledger", None),
        (Method::POST, "/debits", Some(taking("1"))),
        (Method::POST, "/quotes", Some(taking("1"))),
        (Method::POST, "/top-ups", Some(json!({ "pack": "pack_1k" }))),
    ];
    for (method, call, body) in calls {
        let mut refusals = Vec::new();
        for workspace in ["acme", "nobody", "bad.id"] {
            let path = format!("/v1/workspaces/{workspace}{call}");
            let request =
                world.bare(method.clone(), &path).bearer_auth(&token).header("idempotency-key", "k");
            let request = match &body {
                Some(body) => request.json(body),
                None => request,
            };
            let refused = answer(request).await;
            assert_eq!(
                (refused.status, refused.body["code"].as_str()),
                (403, Some("workspace_forbidden")),
                "{path}"
            );
            refusals.push(refused.body);
        }
        assert!(
            refusals.iter().all(|refusal| *refusal == refusals[0]),
            "whether it exists makes no difference"
        );
    }
    assert_eq!(world.reconciled("acme").await, ["top_up"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_needs_its_scope_and_a_workspace_is_made_by_the_hub_alone() {
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
async fn without_a_token_that_is_believed_the_answer_is_api_gateways_own_401() {
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
async fn a_workspace_is_made_once_and_changed_after_that() {
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
async fn m02_m07_the_catalogue_is_for_any_token() {
    let world = World::new().await;
    let token = world.token("acme", "").await;
    let shown = answer(world.bare(Method::GET, "/v1/catalog").bearer_auth(token)).await;
    assert_eq!(shown.status, 200);
    assert_eq!(
        shown.body["packs"][0],
        json!({ "pack": "pack_1k", "credits": "1000", "price": { "amount": 1000, "currency": "USD" } })
    );
    assert_eq!(shown.body["plans"][0], json!({ "plan": "free", "subscription": false, "monthly_runs": 100 }));
    assert_eq!(shown.body["rate_card"]["operations"].as_array().unwrap().len(), 7);
}
