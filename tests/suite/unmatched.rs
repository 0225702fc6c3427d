//! Unmatched payments: listed newest first, and resolved by the operator.

use reqwest::Method;
use serde_json::{Value, json};

use crate::table::{Table, TableFault};
use crate::world::{Answer, World, answer};

/// Returns a payment of `acme` for a top-up that does not exist.
fn stray(payment_id: &str) -> Value {
    let metadata = json!({ "workspace_id": "acme", "top_up_id": "top_none" });
    json!({ "id": payment_id, "amount": 1000, "amount_received": 1000, "currency": "usd", "metadata": metadata })
}

impl World {
    /// Sends an event that is signed by the stack's clock.
    async fn hears(&self, kind: &str, object: &Value) {
        let now = self.advance(0).await;
        assert_eq!(self.tell_at(kind, object, now).await.status, 200, "{kind}");
    }

    async fn listed(&self, query: &str) -> Vec<String> {
        let page = self.get(&format!("/v1/unmatched-payments{query}")).await;
        let payments = page["payments"].as_array().unwrap().iter();
        payments.map(|payment| payment["payment_id"].as_str().unwrap().to_owned()).collect()
    }

    async fn resolve(&self, payment_id: &str, resolution: &str, note: &str) -> Answer {
        let body = json!({ "resolution": resolution, "note": note });
        let path = format!("/v1/unmatched-payments/{payment_id}/resolve");
        self.call(Method::POST, &path, None, Some(&body)).await
    }

    async fn with_strays(count: usize) -> Self {
        let world = Self::with_packs(0).await;
        for number in 0..count {
            world.hears("payment_intent.succeeded", &stray(&format!("pi_{number}"))).await;
            world.advance(1).await;
        }
        world
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unmatched_payments_are_listed_newest_first_in_pages() {
    let world = World::with_strays(7).await;
    let newest_first: Vec<String> = (0..7).rev().map(|number| format!("pi_{number}")).collect();
    assert_eq!(world.listed("").await, newest_first);
    for limit in [1, 3, 7] {
        let (mut joined, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = world.get(&format!("/v1/unmatched-payments?status=open&limit={limit}{cursor}")).await;
            let payments = page["payments"].as_array().unwrap().clone();
            assert!(payments.len() <= limit);
            joined.extend(payments.iter().map(|it| it["payment_id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(joined, newest_first, "limit {limit}");
    }
    let mut shown = world.get("/v1/unmatched-payments?limit=1").await["payments"][0].take();
    assert!(shown["at"].take().is_string());
    assert_eq!(
        shown,
        json!({ "payment_id": "pi_6", "amount": 1000, "currency": "USD", "reason": "unknown_top_up", "at": null,
            "workspace_id": "acme", "status": "open", "resolution": null, "note": null })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolved_payment_stays_resolved() {
    let world = World::with_strays(3).await;
    let first = world.resolve("pi_1", "granted", "1,000 by hand").await;
    assert_eq!((first.status, &first.body["status"]), (200, &json!("resolved")), "{}", first.body);
    let again = world.resolve("pi_1", "granted", "said twice").await;
    assert_eq!((again.status, &again.body), (200, &first.body), "the first note stays");
    let other = world.resolve("pi_1", "refunded", "no").await;
    assert_eq!((other.status, other.body["code"].as_str()), (409, Some("payment_resolved")));
    assert_eq!(other.body["resolution"], "granted");
    assert_eq!(world.resolve("pi_2", "ignored", "a test").await.status, 200);
    assert_eq!(world.listed("?status=open").await, ["pi_0"]);
    assert_eq!(world.listed("?status=resolved").await, ["pi_2", "pi_1"]);
    assert_eq!(
        world.get("/v1/unmatched-payments?status=resolved&limit=1").await["payments"][0]["note"],
        "a test"
    );
    assert_eq!(Table::of(&world).store.unmatched_payments().count().await.unwrap(), 1);
    // A redelivery of its event changes nothing.
    world.hears("payment_intent.succeeded", &stray("pi_1")).await;
    assert_eq!(world.listed("").await, ["pi_0"]);
}

/// An event that matches the payment to a top-up grants nothing after the operator has resolved it.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_granted_by_hand_is_not_granted_again() {
    let world = World::with_packs(0).await;
    let top_up = world.open_top_up("acme", "pack_1k", "order").await.body;
    world.hears("payment_intent.succeeded", &stray("pi_late")).await;
    assert_eq!(world.resolve("pi_late", "granted", "by hand").await.status, 200);
    let metadata = json!({ "workspace_id": "acme", "top_up_id": top_up["top_up_id"] });
    let session = json!({ "id": top_up["checkout_id"], "payment_intent": "pi_late", "payment_status": "paid",
        "amount_total": 1000, "currency": "usd", "client_reference_id": top_up["top_up_id"], "metadata": metadata });
    world.hears("checkout.session.completed", &session).await;
    assert_eq!((world.available("acme").await.as_str(), world.listed("").await.len()), ("0", 0));
    let payments = world.get("/v1/workspaces/acme/payments").await;
    assert_eq!(payments["payments"][0]["payment_id"], "pi_late", "its workspace sees the payment");
    assert_eq!(world.listed("?status=resolved").await, ["pi_late"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_or_refunded_payment_is_no_longer_open() {
    let world = World::with_strays(2).await;
    let top_up = world.open_top_up("acme", "pack_1k", "order").await.body;
    let mut fits = stray("pi_0");
    fits["metadata"]["top_up_id"] = top_up["top_up_id"].clone();
    world.hears("payment_intent.succeeded", &fits).await;
    let refund = json!({ "id": "ch_1", "payment_intent": "pi_1", "amount": 1000, "amount_refunded": 1000, "currency": "usd" });
    world.hears("charge.refunded", &refund).await;
    assert_eq!((world.listed("").await.len(), world.available("acme").await.as_str()), (0, "1000"));
    let granted = world.resolve("pi_0", "granted", "late").await;
    assert_eq!((granted.status, granted.body["code"].as_str()), (409, Some("payment_resolved")));
    assert_eq!(world.resolve("pi_1", "refunded", "at Stripe").await.status, 200);
    assert_eq!(world.listed("?status=resolved").await, ["pi_1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolution_with_a_lost_answer_is_stored_once() {
    let world = World::with_strays(1).await;
    let table = Table::of(&world);
    table.suffers([TableFault::RequestLost, TableFault::AnswerLost]);
    let resolved = credits_core::payment::Resolved {
        resolution: credits_core::payment::Resolution::Ignored,
        note: "a test".to_owned(),
    };
    let payment = table.store.unmatched_payments().resolve("pi_0", &resolved).await.unwrap();
    assert_eq!((payment.resolved, table.transactions()), (Some(resolved), 2));
    assert_eq!(world.listed("?status=resolved").await, ["pi_0"]);
}

/// The alarm for unmatched payments needs this count.
#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_counts_open_unmatched_payments() {
    let world = World::with_packs(0).await;
    let counted = || {
        let used = world.stack.permissions_used().into_iter().map(|used| json!(used));
        used.filter(|it| it["function"] == "renewal" && it["leading_key"] == "unmatched").count()
    };
    assert_eq!(counted(), 0);
    world.sweep().await;
    assert_eq!(counted(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_resolutions_and_queries_are_refused() {
    let world = World::with_strays(3).await;
    world.buy("acme", "pack_1k", "fits").await;
    let paid = world.get("/v1/workspaces/acme/payments").await["payments"][0]["payment_id"].clone();
    let fits = world.resolve(paid.as_str().unwrap(), "ignored", "why").await;
    assert_eq!((fits.status, fits.body["code"].as_str()), (409, Some("payment_resolved")));
    for unknown in ["pi_none", &"p".repeat(300)] {
        let refused = world.resolve(unknown, "ignored", "why").await;
        assert_eq!((refused.status, refused.body["code"].as_str()), (404, Some("not_found")), "{unknown}");
    }
    let path = "/v1/unmatched-payments/pi_0/resolve";
    let wrong =
        world.call(Method::POST, path, None, Some(&json!({ "resolution": "paid", "by": "me" }))).await;
    assert_eq!(wrong.fields(), ["resolution", "note", "by"]);
    let cursor =
        world.get("/v1/unmatched-payments?limit=1").await["next_cursor"].as_str().unwrap().to_owned();
    for (query, field) in [
        ("status=closed".to_owned(), "status"),
        ("limit=0".to_owned(), "limit"),
        ("limit=1001".to_owned(), "limit"),
        ("page=2".to_owned(), "page"),
        ("cursor=abc".to_owned(), "cursor"),
        (format!("status=resolved&cursor={cursor}"), "cursor"),
    ] {
        let refused = world.call(Method::GET, &format!("/v1/unmatched-payments?{query}"), None, None).await;
        assert_eq!(refused.fields(), [field], "{query}");
    }
    for (workspace, scope, code) in
        [("acme", "credits:manage", "workspace_forbidden"), ("*", "credits:read", "scope_missing")]
    {
        let token = world.token(workspace, scope).await;
        let body = json!({ "resolution": "ignored", "note": "mine" });
        let refused = answer(world.bare(Method::POST, path).bearer_auth(token).json(&body)).await;
        assert_eq!((refused.status, refused.body["code"].as_str()), (403, Some(code)));
    }
    assert_eq!(world.listed("").await.len(), 3);
}
