//! Alerts: a low balance (M15), and a workspace that is out of credits (M10).

use reqwest::Method;
use serde_json::{Value, json};

use crate::holds::placing;
use crate::world::World;

impl World {
    async fn is_exhausted(&self) -> bool {
        self.balance("acme").await["exhausted"].as_bool().unwrap()
    }

    /// Returns the subjects of all mails except receipts.
    async fn warnings(&self) -> Vec<String> {
        let subjects = self.subjects().await.into_iter();
        subjects.filter(|subject| !subject.starts_with("Receipt")).collect()
    }
}

const LOW: &str = "AI credits are running low in Acme";
const OUT: &str = "Acme is out of AI credits";

#[tokio::test(flavor = "multi_thread")]
async fn m15_a_hold_does_not_trigger_the_low_balance_alert() {
    let world = World::with_packs(1).await;
    world.alert_at("900", &["ops@acme.example"]).await;
    for number in 0..20 {
        let hold = world.place(&format!("hold-{number}"), "600").await;
        world.drain().await;
        assert_eq!(world.capture(&hold, &format!("capture-{number}"), "1").await.status, 201);
        assert_eq!(world.settle(&hold, &format!("settle-{number}"), &json!({})).await.status, 200);
        world.drain().await;
    }
    let whole = world.place("whole", "980").await;
    assert_eq!(world.warnings().await, [""; 0]);
    assert!(!world.is_exhausted().await);

    let settled = world.settle(&whole, "settle-whole", &json!({ "credits": "85" })).await;
    assert_eq!((settled.status, world.available("acme").await.as_str()), (200, "895"));
    assert_eq!(world.warnings().await, [LOW]);
    world.place("low", "600").await;
    assert_eq!(world.warnings().await, [LOW], "the balance was low already");
    let low = world.events("CreditsLow").await;
    assert_eq!((low.len(), &low[0]["available"], &low[0]["held"]), (1, &json!("895"), &json!("0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn m15_the_low_balance_mail_states_the_held_credits() {
    let world = World::with_packs(1).await;
    world.alert_at("900", &["ops@acme.example"]).await;
    world.place("hold", "600").await;
    world.take("acme", "debit", "100").await;
    let mails = world.mails().await;
    let text = mails.last().unwrap()["text"].as_str().unwrap();
    assert!(text.contains("has 300 AI credits available, and calls in progress hold 600 more"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn m15_an_alert_in_an_empty_new_workspace_sends_no_mail() {
    let world = World::with_packs(0).await;
    world.alert_at("100", &["ops@acme.example"]).await;
    assert_eq!((world.mails().await.len(), world.events("CreditsLow").await.len()), (0, 0));
    world.buy("acme", "pack_1k", "first").await;
    world.take("acme", "debit", "950").await;
    assert_eq!(world.warnings().await, [LOW]);
    let other =
        json!({ "low_balance": { "enabled": true, "threshold": "60", "recipients": ["ops@acme.example"] } });
    world.call(Method::PUT, "/v1/workspaces/acme/alerts", None, Some(&other)).await;
    assert_eq!(world.warnings().await, [LOW], "the balance was low already");
}

#[tokio::test(flavor = "multi_thread")]
async fn m15_an_addition_above_the_threshold_rearms_the_alert() {
    let world = World::with_packs(1).await;
    world.alert_at("1000.5", &["ops@acme.example"]).await;
    assert_eq!(world.warnings().await, [LOW]);
    let grant = |credits: &str| json!({ "credits": credits, "kind": "prepaid", "reason": "more" });
    let path = "/v1/workspaces/acme/grants";
    world.call(Method::POST, path, Some("below"), Some(&grant("0.4"))).await;
    assert_eq!(world.take("acme", "still-low", "0.1").await.status, 201);
    assert_eq!(world.warnings().await, [LOW]);
    world.call(Method::POST, path, Some("above"), Some(&grant("1"))).await;
    assert_eq!(world.take("acme", "low-again", "1").await.status, 201);
    assert_eq!(world.warnings().await, [LOW, LOW]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_an_exhausted_balance_is_mailed_once() {
    let world = World::with_packs(1).await;
    let hold = world.place("hold", "1000").await;
    assert!(!world.is_exhausted().await);
    assert_eq!(world.settle(&hold, "settle", &json!({ "credits": "1000" })).await.status, 200);
    world.take("acme", "more", "1").await;
    assert!(world.is_exhausted().await);
    let mails = world.mails().await;
    assert_eq!((mails.len(), mails[1]["subject"].as_str()), (2, Some(OUT)));
    assert!(mails[1]["text"].as_str().unwrap().contains("/settings/ai-credits"));
}

fn operations_of(requests: &[Value]) -> Vec<&str> {
    requests.iter().map(|it| it["operation"].as_str().unwrap()).collect()
}

/// A refused call exhausts a workspace if less than 1 % of the last addition is left. The debit function records this
/// by one more write, once until the next addition.
#[tokio::test(flavor = "multi_thread")]
async fn m10_exhaustion_is_recorded_once_per_addition() {
    let world = World::with_packs(1).await;
    world.take("acme", "most", "990").await;
    assert_eq!(world.take("acme", "at-one-percent", "11").await.status, 402);
    assert!(!world.is_exhausted().await);
    world.take("acme", "a-little", "0.5").await;

    let (refused, requests) = world.requests_of(world.take("acme", "noted", "11")).await;
    // Another call has changed the balance since it refused, so only the write can tell.
    let noting = ["BatchGetItem", "TransactWriteItems", "UpdateItem"];
    assert_eq!((refused.status, operations_of(&requests).as_slice()), (402, noting.as_slice()));
    let (refused, requests) = world.requests_of(world.take("acme", "later", "11")).await;
    let unnoted = ["BatchGetItem", "TransactWriteItems"];
    assert_eq!((refused.status, operations_of(&requests).as_slice()), (402, unnoted.as_slice()));
    assert_eq!(world.holds("", "hold", &placing("11", 60)).await.status, 402);
    assert!(world.is_exhausted().await);
    assert_eq!(world.take("acme", "rest", "9.5").await.status, 201);
    assert_eq!(world.take("acme", "nothing", "1").await.status, 402);
    assert_eq!(world.warnings().await, [OUT]);
    let exhausted = world.events("CreditsExhausted").await;
    assert_eq!((exhausted.len(), &exhausted[0]["available"]), (1, &json!("9.5")));

    world.buy("acme", "pack_1k", "more").await;
    assert!(!world.is_exhausted().await);
    world.take("acme", "again", "999").await;
    assert_eq!(world.take("acme", "noted-again", "2").await.status, 402);
    assert_eq!(world.warnings().await, [OUT, OUT]);
}

/// A refused hold and a refused batch record exhaustion as a refused debit does.
#[tokio::test(flavor = "multi_thread")]
async fn m10_an_expiring_grant_ends_exhaustion() {
    let world = World::with_packs(1).await;
    world.take("acme", "most", "995").await;
    assert_eq!(world.holds("", "hold", &placing("6", 60)).await.status, 402);
    assert_eq!((world.is_exhausted().await, world.warnings().await), (true, vec![OUT.to_owned()]));
    let until = world.advance(0).await + jiff::SignedDuration::from_hours(48);
    let until = jiff::Timestamp::from_second(until.as_second()).unwrap();
    let grant = json!({ "credits": "200", "kind": "promotional", "expires_at": until, "reason": "sorry" });
    let granted = world.call(Method::POST, "/v1/workspaces/acme/grants", Some("grant"), Some(&grant)).await;
    assert_eq!((granted.status, world.is_exhausted().await), (201, false));

    let line = |credits: &str| json!({ "operation": "text.generate", "credits": credits, "consumer": crate::world::consumer() });
    let batch = json!({ "lines": [line("203"), line("3")], "partial": true });
    let path = "/v1/workspaces/acme/debits/batch";
    assert_eq!(world.call(Method::POST, path, Some("part"), Some(&batch)).await.status, 201);
    assert!(!world.is_exhausted().await, "a part was taken, so the batch was not refused");
    let batch = json!({ "lines": [line("2.5"), line("2")], "partial": true });
    assert_eq!(world.call(Method::POST, path, Some("none"), Some(&batch)).await.status, 402);
    assert_eq!((world.is_exhausted().await, world.warnings().await.len()), (false, 1), "exactly 1 % is left");
    world.take("acme", "a-little", "0.1").await;
    assert_eq!(world.call(Method::POST, path, Some("noted"), Some(&batch)).await.status, 402);
    assert_eq!((world.is_exhausted().await, world.warnings().await.len()), (true, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_refusing_a_large_call_is_not_exhaustion() {
    let world = World::with_packs(1).await;
    assert_eq!(world.take("acme", "large", "5000").await.status, 402);
    assert_eq!((world.is_exhausted().await, world.warnings().await), (false, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_an_unused_credit_limit_prevents_exhaustion() {
    let world = World::with_packs(1).await;
    world.put_on_plan("acme", "enterprise").await;
    let agreement = json!({ "credit_limit": "2000", "commitment": null, "invoicing": null });
    let agreed = world.call(Method::PUT, "/v1/workspaces/acme/agreement", None, Some(&agreement)).await;
    assert_eq!(agreed.status, 201, "{}", agreed.body);
    world.take("acme", "own", "1500").await;
    assert_eq!(world.take("acme", "large", "1501").await.status, 402);
    assert_eq!((world.is_exhausted().await, world.warnings().await), (false, Vec::new()));
    world.take("acme", "limit", "1485").await;
    assert_eq!(world.take("acme", "above", "16").await.status, 402);
    assert_eq!((world.is_exhausted().await, world.warnings().await), (true, vec![OUT.to_owned()]));
    assert_eq!(world.take("acme", "rest", "15").await.status, 201);
    assert_eq!(world.warnings().await, [OUT]);
}
