//! Expiry notices: mails some days before credits expire.

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::subscribing::time;
use crate::world::{Answer, World};

const PATH: &str = "/v1/workspaces/acme/alerts";
const DAY: SignedDuration = SignedDuration::from_hours(24);

impl World {
    async fn put_expiry(&self, expiry: Value) -> Answer {
        let alerts = json!({ "low_balance": { "enabled": false }, "expiry": expiry });
        self.call(Method::PUT, PATH, None, Some(&alerts)).await
    }

    async fn notices_on(&self, days: &[u16]) {
        let put =
            self.put_expiry(json!({ "enabled": true, "days": days, "recipients": ["ops@acme.example"] }));
        assert!(put.await.status < 300);
    }

    /// Grants promotional credits that end after some time, in whole seconds. Returns the end.
    async fn expiring(&self, key: &str, credits: &str, time: SignedDuration) -> Timestamp {
        let end = Timestamp::from_second((self.advance(0).await + time).as_second()).unwrap();
        let grant =
            json!({ "credits": credits, "kind": "promotional", "expires_at": end, "reason": "welcome" });
        let granted = self.call(Method::POST, "/v1/workspaces/acme/grants", Some(key), Some(&grant)).await;
        assert_eq!(granted.status, 201, "{}", granted.body);
        self.drain().await;
        end
    }

    /// Returns the days and the credits of each event so far.
    async fn noticed(&self) -> Vec<(u64, String)> {
        self.drain().await;
        let events = self.events("CreditsExpiring").await;
        let event = |it: &Value| (it["days"].as_u64().unwrap(), it["credits"].as_str().unwrap().to_owned());
        events.iter().map(event).collect()
    }
}

fn notice(days: u64, credits: &str) -> (u64, String) {
    (days, credits.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_are_announced_once_for_each_configured_day() {
    let world = World::with_packs(0).await;
    world.notices_on(&[30, 7, 1]).await;
    let end = world.expiring("first", "100", DAY * 40).await;
    world.advance_to(end - DAY * 30 - SignedDuration::from_mins(1)).await;
    assert_eq!(world.noticed().await, []);
    world.advance_to(end - DAY * 30 + SignedDuration::from_mins(20)).await;
    assert_eq!(world.noticed().await, [notice(30, "100")]);
    world.take("acme", "some", "60").await;
    world.advance_to(end - DAY * 7 + SignedDuration::from_mins(20)).await;
    world.sweep().await;
    assert_eq!(world.noticed().await, [notice(30, "100"), notice(7, "40")]);
    world.take("acme", "rest", "40").await;
    world.advance_to(end + DAY).await;
    assert_eq!(world.noticed().await.len(), 2, "nothing was left a day ahead");

    let mut mails = world.mails().await;
    mails.retain(|mail| mail["subject"].as_str().unwrap().contains("expire on"));
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0]["to"], json!(["ops@acme.example"]));
    assert!(mails[0]["subject"].as_str().unwrap().starts_with("100 AI credits of Acme expire on "));
    let event = &world.events("CreditsExpiring").await[1];
    assert_eq!(event["expires_at"], json!(end));
    assert_eq!(event["event_id"], json!(format!("expiring-acme-{}-7", end.as_millisecond())));
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_that_end_together_have_one_notice() {
    let world = World::with_packs(0).await;
    let end = world.expiring("first", "100", DAY * 10).await;
    let grant = json!({ "credits": "50.5", "kind": "promotional", "expires_at": end, "reason": "more" });
    world.call(Method::POST, "/v1/workspaces/acme/grants", Some("second"), Some(&grant)).await;
    world.expiring("later", "5", DAY * 12).await;
    world.notices_on(&[7]).await;
    world.advance_to(end - DAY * 7 + SignedDuration::from_mins(20)).await;
    assert_eq!(world.noticed().await, [notice(7, "150.5")]);
    world.advance_to(end).await;
    assert_eq!(world.noticed().await, [notice(7, "150.5"), notice(7, "5")]);
}

/// A notice is at most a day late: neither new settings nor a new grant announce what has passed.
#[tokio::test(flavor = "multi_thread")]
async fn days_that_have_passed_are_not_announced() {
    let world = World::with_packs(0).await;
    let hour = SignedDuration::from_hours(1);
    world.expiring("late", "10", DAY * 6 - hour).await;
    world.expiring("just", "20", DAY * 6 + hour).await;
    world.notices_on(&[7, 2]).await;
    world.sweep().await;
    assert_eq!(world.noticed().await, [notice(7, "20")]);
    world.expiring("too-late", "30", DAY * 5).await;
    world.sweep().await;
    assert_eq!(world.noticed().await, [notice(7, "20")]);

    let off = json!({ "enabled": false, "days": [7, 2], "recipients": ["ops@acme.example"] });
    assert_eq!(world.put_expiry(off).await.status, 200);
    world.advance_to(world.advance(0).await + DAY * 2).await;
    world.notices_on(&[7, 2]).await;
    world.sweep().await;
    assert_eq!(world.noticed().await, [notice(7, "20")]);
    world.advance_to(world.advance(0).await + DAY * 3).await;
    assert_eq!(world.noticed().await[1..], [notice(2, "30"), notice(2, "10"), notice(2, "20")]);
}

/// The settings don't forget what was sent, and a switched-off sweep repeats nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_notice_is_not_repeated_by_settings_grants_or_sweeps() {
    let world = World::with_packs(0).await;
    world.notices_on(&[7]).await;
    let end = world.expiring("first", "10", DAY * 8).await;
    world.advance_to(end - DAY * 7 + SignedDuration::from_mins(20)).await;
    assert_eq!(world.noticed().await.len(), 1);
    world.notices_on(&[7, 3]).await;
    world.notices_on(&[7]).await;
    world.expiring("other", "10", DAY * 20).await;
    for _ in 0..3 {
        world.sweep().await;
    }
    assert_eq!((world.noticed().await.len(), world.mails().await.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allocation_is_announced_only_after_cancellation() {
    let world = World::with_card().await;
    world.notices_on(&[7, 1]).await;
    let renews_at = time(&world.subscribe("acme", "tier_2k").await.body["renews_at"]);
    world.advance_to(renews_at + DAY).await;
    assert_eq!(world.noticed().await, []);
    let ends_at = time(&world.subscribed("acme").await["renews_at"]);
    world.advance_to(ends_at - DAY * 3).await;
    assert_eq!(world.subscription(Method::DELETE, "acme", None).await.status, 200);
    world.advance_to(ends_at + DAY).await;
    assert_eq!(world.noticed().await, [notice(1, "2000")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_without_expiry_leave_it_unchanged() {
    let world = World::with_packs(0).await;
    let off = json!({ "enabled": false, "days": [30, 7, 1], "recipients": [] });
    assert_eq!(world.get(PATH).await["expiry"], off);
    let low = json!({ "low_balance": { "enabled": false } });
    let put = world.call(Method::PUT, PATH, None, Some(&low)).await;
    assert_eq!((put.status, &put.body["expiry"]), (201, &off));
    let on = json!({ "enabled": true, "days": [365, 14], "recipients": ["ops@acme.example"] });
    assert_eq!(world.put_expiry(on.clone()).await.body["expiry"], on);
    let put = world.call(Method::PUT, PATH, None, Some(&low)).await;
    assert_eq!((put.status, &put.body["expiry"]), (200, &on));
    assert_eq!(world.get(PATH).await["expiry"], on);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_expiry_settings_are_refused_all_at_once() {
    let world = World::with_packs(0).await;
    for (expiry, fields) in [
        (json!(5), vec!["expiry"]),
        (json!({}), vec!["expiry.enabled", "expiry.recipients"]),
        (json!({ "enabled": true, "days": [], "recipients": [] }), vec!["expiry.days", "expiry.recipients"]),
        (
            json!({ "enabled": true, "days": [0, 366, 1.5, "7"], "recipients": ["x"] }),
            vec!["expiry.days.0", "expiry.days.1", "expiry.days.2", "expiry.days.3", "expiry.recipients.0"],
        ),
        (json!({ "enabled": false, "days": [7, 1, 7] }), vec!["expiry.days.2"]),
        (
            json!({ "enabled": false, "days": [1, 2, 3, 4, 5, 6], "hours": 1 }),
            vec!["expiry.days", "expiry.hours"],
        ),
    ] {
        let refused = world.put_expiry(expiry.clone()).await;
        assert_eq!(refused.fields(), fields, "{expiry}");
    }
}
