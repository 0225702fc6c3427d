//! Invalid input: the problem that the contract names, with all field errors at once, and nothing written.

use reqwest::Method;
use serde_json::{Value, json};

use crate::openapi::calls;
use crate::world::{Answer, World, answer, consumer, taking};

const DEBITS: &str = "/v1/workspaces/acme/debits";

async fn refused_fields(world: &World, body: &Value) -> Vec<String> {
    let refused = world.debit("acme", "bad", body).await;
    refused.fields().into_iter().map(str::to_owned).collect()
}

async fn raw(world: &World, key: Option<&str>, media: Option<&str>, body: Vec<u8>) -> Answer {
    let mut request = world.bare(Method::POST, DEBITS).bearer_auth(world.token("*", "credits:spend").await);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    if let Some(media) = media {
        request = request.header("content-type", media);
    }
    answer(request.body(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_invalid_field_is_listed() {
    let world = World::with_packs(1).await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body =
            json!({ "operation": "text.generate", "units": { "input_tokens": 10 }, "consumer": consumer() });
        change(&mut body);
        body
    };
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!([]), vec![""]),
        (json!("text"), vec![""]),
        (json!({}), vec!["operation", "units", "consumer"]),
        (with(&|it| it["operation"] = json!("text.sing")), vec!["operation"]),
        (with(&|it| it["operation"] = json!(7)), vec!["operation"]),
        (with(&|it| it["operation"] = json!("text generate")), vec!["operation"]),
        (with(&|it| it["model"] = json!("huge")), vec!["model"]),
        (
            with(&|it| {
                it["operation"] = json!(5);
                it["model"] = json!("huge");
            }),
            vec!["operation", "model"],
        ),
        (with(&|it| it["credits"] = json!("1")), vec!["units"]),
        (with(&|it| it["units"] = json!({})), vec!["units.input_tokens"]),
        (with(&|it| it["units"] = json!([1])), vec!["units"]),
        (with(&|it| it["units"] = json!({ "input_tokens": -1 })), vec!["units.input_tokens"]),
        (with(&|it| it["units"] = json!({ "output_tokens": 1.5 })), vec!["units.output_tokens"]),
        (with(&|it| it["units"] = json!({ "records": "3" })), vec!["units.records"]),
        (with(&|it| it["units"] = json!({ "records": 1e30 })), vec!["units.records"]),
        (with(&|it| it["units"] = json!({ "records": u64::MAX })), vec!["units.records"]),
        (with(&|it| it["units"] = json!({ "pages": 1, "records": 1 })), vec!["units.pages"]),
        (with(&|it| it["units"] = json!({ "pages": 1, "images": 2 })), vec!["units.images", "units.pages"]),
        (with(&|it| it["units"] = json!({ "a b": 1 })), vec!["units.a b"]),
        (with(&|it| it["units"] = json!({ "records": null })), vec!["units.input_tokens"]),
        (with(&|it| it["metadata"] = json!("tag")), vec!["metadata"]),
        (with(&|it| it["metadata"] = json!({ "team": 7, "": "x" })), vec!["metadata.team"]),
        (with(&|it| it["metadata"] = json!({ "": "x" })), vec!["metadata"]),
        (with(&|it| it["metadata"] = json!({ "k": "v".repeat(512) })), vec!["metadata"]),
        (
            with(&|it| it["metadata"] = (0..11).map(|key| (key.to_string(), json!("v"))).collect()),
            vec!["metadata"],
        ),
        (with(&|it| it["consumer"] = json!("ada")), vec!["consumer"]),
        (with(&|it| it["consumer"] = json!({})), vec!["consumer.kind"]),
        (with(&|it| it["consumer"] = json!({ "feature": "f", "user_id": "u" })), vec!["consumer.kind"]),
        (
            with(&|it| it["consumer"]["kind"] = json!("robot")).also("consumer", &json!({ "kind": "robot" })),
            vec!["consumer.kind"],
        ),
        (with(&|it| it["consumer"]["user_id"] = json!("a b")), vec!["consumer.user_id"]),
        (with(&|it| it["consumer"]["user_id"] = json!("x".repeat(65))), vec!["consumer.user_id"]),
        (
            with(&|it| it["consumer"] = json!({ "kind": "workflow_step" })),
            vec!["consumer.workflow_id", "consumer.run_id", "consumer.step_id"],
        ),
        (with(&|it| it["consumer"]["run_id"] = json!("r")), vec!["consumer.run_id"]),
        (with(&|it| it["extra"] = json!(1)), vec!["extra"]),
        (
            json!({ "operation": "no.such", "model": "none", "units": { "records": -1 }, "consumer": { "kind": "bulk" }, "x": 1 }),
            vec!["units.records", "consumer.job_id", "consumer.feature", "operation", "model", "x"],
        ),
    ];
    for (body, fields) in cases {
        assert_eq!(refused_fields(&world, &body).await, fields, "{body}");
    }
    assert_eq!(world.reconciled("acme").await, ["top_up"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_are_positive_decimals_of_12_and_6_digits() {
    let world = World::with_packs(1).await;
    for credits in ["0", "-1", "0.0000001", "1e3", "1.50", "01", "", "NaN", "1000000000000"] {
        assert_eq!(refused_fields(&world, &taking(credits)).await, ["credits"], "{credits}");
    }
    let ten_to_the_30 = format!("1{}", "0".repeat(30));
    assert_eq!(refused_fields(&world, &taking(&ten_to_the_30)).await, ["credits"]);
    let mut number = taking("1");
    number["credits"] = json!(1);
    assert_eq!(refused_fields(&world, &number).await, ["credits"]);
    // The operation must be on the rate card even if the caller sets the credits.
    let mut unknown = taking("1");
    unknown["operation"] = json!("text.sing");
    assert_eq!(refused_fields(&world, &unknown).await, ["operation"]);
    assert_eq!(world.take("acme", "largest", "999999999999.999999").await.status, 402);
    assert_eq!(world.take("acme", "smallest", "0.000001").await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_bodies_and_media_types_are_validated() {
    let world = World::with_packs(1).await;
    let (json, body) = (Some("application/json"), taking("1").to_string().into_bytes());
    let long = "k".repeat(256);
    let cases = [
        (raw(&world, None, json, body.clone()).await, 400, "idempotency_key_missing"),
        (raw(&world, Some(""), json, body.clone()).await, 400, "idempotency_key_invalid"),
        (raw(&world, Some("a b"), json, body.clone()).await, 400, "idempotency_key_invalid"),
        (raw(&world, Some(&long), json, body.clone()).await, 400, "idempotency_key_invalid"),
        (raw(&world, Some("k"), json, b"{\"operation\":".to_vec()).await, 400, "malformed_json"),
        (raw(&world, Some("k"), json, Vec::new()).await, 400, "malformed_json"),
        (raw(&world, Some("k"), json, vec![0xff, 0xfe]).await, 400, "malformed_json"),
        (raw(&world, Some("k"), json, vec![b' '; 1024 * 1024]).await, 413, "body_too_large"),
        (raw(&world, Some("k"), Some("text/plain"), body.clone()).await, 415, "unsupported_media_type"),
        (raw(&world, Some("k"), None, body.clone()).await, 415, "unsupported_media_type"),
    ];
    for (refused, status, code) in cases {
        assert_eq!((refused.status, refused.body["code"].as_str()), (status, Some(code)));
    }
    let longest = "k".repeat(255);
    assert_eq!(raw(&world, Some(&longest), json, body).await.status, 201);
    assert_eq!(world.reconciled("acme").await, ["top_up", "debit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_workspace_is_not_found() {
    let world = World::new().await;
    for answer in [
        world.take("nobody", "k", "1").await,
        world.call(Method::POST, "/v1/workspaces/nobody/quotes", None, Some(&taking("1"))).await,
        world.call(Method::GET, "/v1/workspaces/nobody/balance", None, None).await,
        world.call(Method::GET, "/v1/workspaces/nobody/ledger", None, None).await,
        world.call(Method::GET, "/v1/workspaces/bad.id/balance", None, None).await,
    ] {
        assert_eq!((answer.status, answer.body["code"].as_str()), (404, Some("workspace_not_found")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_errors_of_a_workspace_profile_are_listed() {
    let world = World::new().await;
    let body =
        json!({ "name": " ", "plan": "gold", "billing_email": "a@b\r\nBcc: c@d.example", "logo": "x" });
    let refused = world.call(Method::PUT, "/v1/workspaces/acme", None, Some(&body)).await;
    assert_eq!(refused.fields(), vec!["name", "plan", "billing_email", "logo"]);
    let body = json!({ "name": "Acme", "plan": "pro", "billing_email": "a@acme.example" });
    let refused = world.call(Method::PUT, "/v1/workspaces/a.b", None, Some(&body)).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["field"]), (422, &json!("workspace_id")));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_errors_of_a_ledger_query_are_listed() {
    let world = World::with_packs(0).await;
    let path = "/v1/workspaces/acme/ledger?limit=0&cursor=%21&kind=gift&page=2";
    let refused = world.call(Method::GET, path, None, None).await;
    assert_eq!(refused.fields(), vec!["cursor", "kind", "limit", "page"]);
    for query in ["limit=1001", "limit=-1", "limit=ten", "cursor=", "cursor=Zm9v"] {
        let refused =
            world.call(Method::GET, &format!("/v1/workspaces/acme/ledger?{query}"), None, None).await;
        assert_eq!(refused.status, 422, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_members_are_listed_at_any_depth() {
    let world = World::with_packs(1).await;
    let body = br#"{"operation":"text.generate","credits":"1","credits":"2",
        "consumer":{"kind":"action","feature":"f","user_id":"ada","user_id":"eve"}}"#;
    let refused = raw(&world, Some("k"), Some("application/json"), body.to_vec()).await;
    assert_eq!(refused.fields(), ["consumer.user_id", "credits"]);
    assert_eq!(refused.body["errors"][0]["message"], "is given more than once");
    assert_eq!(world.reconciled("acme").await, ["top_up"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_query_parameters_are_refused_except_by_the_webhook() {
    let world = World::with_packs(1).await;
    let mut refused = 0;
    for call in calls() {
        let parts = call.path.split('/').map(|part| match part {
            "{workspace_id}" => "acme",
            variable if variable.starts_with('{') => "some-id",
            part => part,
        });
        let path = format!("{}?hello=1&limit_=2", parts.collect::<Vec<_>>().join("/"));
        let answer = world.call(call.method.clone(), &path, Some("k"), call.body.as_ref()).await;
        if call.path == "/v1/webhooks/stripe" {
            assert_eq!(answer.body["code"], "signature_invalid");
            continue;
        }
        assert_eq!(answer.fields(), ["hello", "limit_"], "{} {path}", call.method);
        refused += 1;
    }
    assert!(refused > 30, "{refused}");
    let page = world.bare(Method::GET, "/settings/ai-credits?top_up=done").send().await.unwrap();
    assert_eq!(page.status(), 200, "the hub may add parameters to the page's URL");
    assert_eq!(world.reconciled("acme").await, ["top_up"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn invisible_names_and_undeliverable_addresses_are_refused() {
    let world = World::with_packs(0).await;
    for name in ["\u{200B}\u{2060}", "\u{3164}", "Acme\u{202E}txt", "Acme\u{2067}", "Acme\u{85}"] {
        let body = json!({ "name": name, "plan": "pro", "billing_email": "a..b@acme.example" });
        let refused = world.call(Method::PUT, "/v1/workspaces/acme", None, Some(&body)).await;
        assert_eq!(refused.fields(), ["name", "billing_email"], "{name:?}");
        let grant = json!({ "credits": "1", "kind": "prepaid", "reason": name });
        let refused = world.call(Method::POST, "/v1/workspaces/acme/grants", Some("g"), Some(&grant)).await;
        assert_eq!(refused.fields(), ["reason"], "{name:?}");
    }
    let long = format!("{}@acme.example", "l".repeat(65));
    let alert = json!({ "low_balance": { "enabled": true, "threshold": "5", "recipients": ["a@acme.example", long] } });
    let refused = world.call(Method::PUT, "/v1/workspaces/acme/alerts", None, Some(&alert)).await;
    assert_eq!(refused.fields(), ["low_balance.recipients.1"]);
}

/// Sets a member of a JSON object and returns the object.
trait Also {
    fn also(self, member: &str, value: &Value) -> Self;
}

impl Also for Value {
    fn also(mut self, member: &str, value: &Value) -> Self {
        self[member] = value.clone();
        self
    }
}
