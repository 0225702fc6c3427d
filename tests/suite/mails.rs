//! Mails and events that follow from committed writes, each sent once (M12, M15).

use credits_local::Options;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::spending::Folder;
use crate::subscribing::time;
use crate::world::World;

impl World {
    pub async fn drain(&self) {
        let drained = self.local(Method::POST, "/_local/drain", None).await;
        assert_eq!(drained["drained"], true, "the stream or the bus can't be drained");
    }

    /// Drains the stream and the bus, and returns all mails that were sent.
    pub async fn mails(&self) -> Vec<Value> {
        self.drain().await;
        self.local(Method::GET, "/_local/mail", None).await.as_array().unwrap().clone()
    }

    pub async fn subjects(&self) -> Vec<String> {
        self.mails().await.iter().map(|mail| mail["subject"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn events(&self, name: &str) -> Vec<Value> {
        self.drain().await;
        let events = self.local(Method::GET, "/_local/events", None).await;
        let events = events.as_array().unwrap().iter().filter(|event| event["detail-type"] == name);
        events.map(|event| event["detail"].clone()).collect()
    }

    pub async fn alert_at(&self, threshold: &str, recipients: &[&str]) -> u16 {
        let low_balance = json!({ "enabled": true, "threshold": threshold, "recipients": recipients });
        let path = "/v1/workspaces/acme/alerts";
        self.call(Method::PUT, path, None, Some(&json!({ "low_balance": low_balance }))).await.status
    }

    /// Starts a run whose step is refused for insufficient credits.
    async fn failing_run(&self, key: &str, workflow: &str, trigger: &str) {
        let start = json!({ "workflow_id": workflow, "trigger": trigger });
        let run = self.call(Method::POST, "/v1/workspaces/acme/runs", Some(key), Some(&start)).await;
        let consumer = json!({ "kind": "workflow_step", "workflow_id": workflow,
            "run_id": run.body["run_id"], "step_id": "summarize" });
        let body = json!({ "operation": "text.generate", "credits": "5000", "consumer": consumer });
        assert_eq!(self.debit("acme", &format!("{key}-step"), &body).await.status, 402);
    }

    /// Returns the time of each mail about failed runs, and the number of runs that it reports.
    async fn failure_mails(&self) -> Vec<(Timestamp, usize)> {
        let mails = self.mails().await.into_iter();
        let failures = mails.filter(|mail| mail["subject"].as_str().unwrap().contains("failed"));
        let read = |mail: Value| {
            let count = mail["subject"].as_str().unwrap().split(' ').next().unwrap().parse();
            (time(&mail["at"]), count.unwrap_or(1))
        };
        failures.map(read).collect()
    }
}

const HOUR: i64 = 3_600;

fn to(mail: &Value) -> Vec<&str> {
    mail["to"].as_array().unwrap().iter().map(|to| to.as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_paid_top_up_has_one_receipt() {
    let world = World::with_packs(1).await;
    let mails = world.mails().await;
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0]["subject"], "Receipt: 1000 AI credits, USD 10.00");
    assert_eq!(to(&mails[0]), ["billing@acme.example"]);
    assert!(mails[0]["html"].as_str().unwrap().contains("USD 10.00"));
    assert_eq!(world.events("CreditsAdded").await[0]["credits"], "1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn m15_a_low_balance_is_mailed_once_per_crossing() {
    let world = World::with_packs(1).await;
    assert_eq!(world.alert_at("100", &["ops@acme.example", "cto@acme.example"]).await, 201);
    world.take("acme", "a", "850").await;
    assert_eq!(world.mails().await.len(), 1, "150 credits are left");
    world.take("acme", "b", "60").await;
    let mails = world.mails().await;
    assert_eq!(mails.last().unwrap()["subject"], "AI credits are running low in Acme");
    assert_eq!(to(mails.last().unwrap()), ["ops@acme.example", "cto@acme.example"]);
    assert!(mails.last().unwrap()["text"].as_str().unwrap().contains("90"));
    world.take("acme", "c", "10").await;
    assert_eq!(world.mails().await.len(), 2, "it was low before");
    world.buy("acme", "pack_1k", "again").await;
    world.take("acme", "d", "1000").await;
    let low = world.events("CreditsLow").await;
    assert_eq!(low.len(), 2);
    assert_eq!(low[1]["version"], world.balance("acme").await["version"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m15_switching_an_alert_on_below_its_threshold_sends_one_mail() {
    let world = World::with_packs(1).await;
    assert_eq!(world.alert_at("2000", &["ops@acme.example"]).await, 201);
    assert_eq!(world.alert_at("2000", &["ops@acme.example"]).await, 200);
    let low = "AI credits are running low in Acme".to_owned();
    assert_eq!(world.subjects().await.into_iter().filter(|subject| *subject == low).count(), 1);
    let off = json!({ "low_balance": { "enabled": false } });
    assert_eq!(world.call(Method::PUT, "/v1/workspaces/acme/alerts", None, Some(&off)).await.status, 200);
    world.take("acme", "a", "10").await;
    assert_eq!(world.events("CreditsLow").await.len(), 1);
    assert_eq!(world.get("/v1/workspaces/acme/alerts").await["low_balance"]["enabled"], json!(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_settings_of_an_alert_are_refused() {
    let world = World::with_packs(0).await;
    let many: Vec<String> = (0..50).map(|number| format!("ops{number}@acme.example")).collect();
    for (body, fields) in [
        (json!({}), vec!["low_balance"]),
        (
            json!({ "low_balance": { "enabled": "yes", "threshold": 5, "recipients": "a@b.example" } }),
            vec!["low_balance.enabled", "low_balance.threshold", "low_balance.recipients"],
        ),
        (
            json!({ "low_balance": { "enabled": true, "threshold": "-1", "recipients": ["no address"], "x": 1 } }),
            vec!["low_balance.threshold", "low_balance.recipients.0", "low_balance.x"],
        ),
        (
            json!({ "low_balance": { "enabled": true, "threshold": "0.0000001", "recipients": many } }),
            vec!["low_balance.threshold", "low_balance.recipients"],
        ),
        (
            json!({ "low_balance": { "enabled": true, "threshold": "5", "recipients": [] } }),
            vec!["low_balance.recipients"],
        ),
    ] {
        let refused = world.call(Method::PUT, "/v1/workspaces/acme/alerts", None, Some(&body)).await;
        assert_eq!(refused.fields(), fields, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m12_a_failed_scheduled_run_is_mailed_a_manual_one_is_not() {
    let world = World::with_packs(0).await;
    world.failing_run("manual", "weekly-report", "manual").await;
    assert_eq!(world.mails().await.len(), 0);
    world.failing_run("scheduled", "weekly-report", "scheduled").await;
    let mails = world.mails().await;
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0]["subject"], "A run of weekly-report failed: out of AI credits");
    assert_eq!(to(&mails[0]), ["billing@acme.example"]);
    assert_eq!(world.events("RunFailed").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn m12_further_failures_within_an_hour_are_counted_in_one_mail() {
    let world = World::with_packs(0).await;
    for run in 0..5 {
        world.failing_run(&format!("run-{run}"), "weekly-report", "scheduled").await;
    }
    assert_eq!(world.subjects().await, ["A run of weekly-report failed: out of AI credits"]);
    world.advance(3_600 + 300).await;
    let mails = world.subjects().await;
    assert_eq!(mails.last().unwrap(), "4 more runs of weekly-report failed: out of AI credits");
    world.advance(7_200).await;
    assert_eq!(world.mails().await.len(), 2);
    world.failing_run("later", "weekly-report", "scheduled").await;
    assert_eq!(world.mails().await.len(), 3, "the first of a new hour is mailed at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn m12_failures_of_many_workflows_are_listed_in_one_digest() {
    let world = World::with_packs(0).await;
    world.failing_run("first", "first", "scheduled").await;
    for run in 0..7 {
        let workflow = ["triage", "report", "triage"][run % 3];
        world.failing_run(&format!("run-{run}"), workflow, "event").await;
    }
    for number in 0..25 {
        world.failing_run(&format!("other-{number}"), &format!("other-{number}"), "scheduled").await;
    }
    assert_eq!(world.mails().await.len(), 1);
    world.advance(HOUR + 300).await;
    let mails = world.mails().await;
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[1]["subject"], "32 more runs failed in Acme: out of AI credits");
    let (text, html) = (mails[1]["text"].as_str().unwrap(), mails[1]["html"].as_str().unwrap());
    assert!(text.contains("\n- triage: 5\n- report: 2\n- other-0: 1\n"), "{text}");
    assert!(text.contains("\n- other workflows: 7\n"), "twenty workflows are listed: {text}");
    assert!(text.contains("/settings/ai-credits"));
    assert!(html.contains("<strong>triage</strong>: 5") && html.contains("See the failed runs"), "{html}");
}

#[tokio::test(flavor = "multi_thread")]
async fn m12_a_storm_of_failures_sends_at_most_one_mail_an_hour() {
    let world = World::with_packs(0).await;
    world.put_on_plan("acme", "pro").await;
    for run in 0..40 {
        world.failing_run(&format!("run-{run}"), &format!("workflow-{}", run % 9), "scheduled").await;
        world.drain().await;
        world.advance(HOUR / 5).await;
    }
    world.advance(2 * HOUR).await;
    let mails = world.failure_mails().await;
    assert!((8..=10).contains(&mails.len()), "{mails:?}");
    let gaps = mails.windows(2).map(|pair| pair[1].0.duration_since(pair[0].0));
    // The mailbox stamps a mail some milliseconds after the function has read the clock.
    assert!(gaps.min().unwrap() > SignedDuration::from_secs(3_599), "{mails:?}");
    assert_eq!(mails.iter().map(|(_, runs)| runs).sum::<usize>(), 40);
}

/// The interval grows from an hour to a day and a week. An addition of credits resets it to an hour.
#[tokio::test(flavor = "multi_thread")]
async fn m12_mails_about_lasting_failures_become_rarer() {
    let world = World::with_packs(1).await;
    world.put_on_plan("acme", "enterprise").await;
    for run in 0..48 {
        world.failing_run(&format!("run-{run}"), "report", "scheduled").await;
        world.drain().await;
        world.advance(4 * HOUR).await;
    }
    let before = world.failure_mails().await;
    // Eight days: six mails on the first day, then one a day, and none after a week.
    assert!((12..=14).contains(&before.len()), "{before:?}");
    world.advance(8 * 24 * HOUR).await;
    let all = world.failure_mails().await;
    assert_eq!((all.len(), all.iter().map(|(_, runs)| runs).sum::<usize>()), (before.len() + 1, 48));

    world.failing_run("later", "report", "scheduled").await;
    world.advance(2 * HOUR).await;
    assert_eq!(world.failure_mails().await.len(), all.len(), "it waits for the weekly mail");
    world.buy("acme", "pack_1k", "more").await;
    world.drain().await;
    world.advance(300).await;
    let mails = world.failure_mails().await;
    assert_eq!(mails.len(), all.len() + 1, "an addition ends the weekly interval");
    world.advance(HOUR).await;
    world.failing_run("again", "report", "scheduled").await;
    assert_eq!(world.failure_mails().await.len(), mails.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn m12_a_digest_that_ses_refuses_is_sent_later() {
    let world = World::with_packs(0).await;
    for run in 0..3 {
        world.failing_run(&format!("run-{run}"), "report", "scheduled").await;
    }
    assert_eq!(world.mails().await.len(), 1);
    let refuse = |count: u64| json!({ "count": count });
    world.local(Method::POST, "/_local/mail/refusals", Some(&refuse(100))).await;
    world.advance(HOUR + 300).await;
    assert_eq!(world.mails().await.len(), 1);
    world.failing_run("meanwhile", "triage", "scheduled").await;
    assert_eq!(world.mails().await.len(), 1);
    world.local(Method::POST, "/_local/mail/refusals", Some(&refuse(0))).await;
    world.advance(300).await;
    let subjects = world.subjects().await;
    assert_eq!(subjects[1..], ["2 more runs of report failed: out of AI credits"]);
    world.advance(HOUR + 300).await;
    let subjects = world.subjects().await;
    assert_eq!(subjects[2..], ["1 more run of triage failed: out of AI credits"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_that_ses_throttles_are_retried_or_dead_lettered() {
    let world = World::with_packs(0).await;
    let refuse = |count: u64| json!({ "count": count });
    // The SDK makes three attempts in each invocation.
    world.local(Method::POST, "/_local/mail/refusals", Some(&refuse(4))).await;
    world.buy("acme", "pack_1k", "one").await;
    assert_eq!(world.mails().await.len(), 1);
    world.local(Method::POST, "/_local/mail/refusals", Some(&refuse(100))).await;
    world.buy("acme", "pack_1k", "two").await;
    assert_eq!(world.mails().await.len(), 1);
    let dead = world.local(Method::GET, "/_local/dead-letters", None).await;
    assert_eq!(dead[0]["event"]["detail-type"], "PaymentReceived");
    assert_eq!(dead.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_ses_sent_without_an_answer_is_not_sent_again() {
    let world = World::with_packs(0).await;
    world.local(Method::POST, "/_local/mail/silences", Some(&json!({ "count": 1 }))).await;
    world.buy("acme", "pack_1k", "one").await;
    assert_eq!(world.mails().await.len(), 1);
    // Its claim has expired, but an event of SES has reported the mail as sent.
    world.advance(3_600).await;
    let received = world.events("PaymentReceived").await[0].clone();
    let again = json!({ "source": "ai-credits", "detail-type": "PaymentReceived", "detail": received });
    assert!(world.stack.fire("notify", again).await.is_ok());
    assert_eq!(world.mails().await.len(), 1);
    assert_eq!(world.local(Method::GET, "/_local/dead-letters", None).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mail_is_sent_to_an_address_that_bounced() {
    let world = World::with_packs(1).await;
    world.alert_at("5000", &["gone@acme.example", "ops@acme.example"]).await;
    let bounce = json!({ "address": "GONE@acme.example", "kind": "bounce" });
    world.drain().await;
    world.local(Method::POST, "/_local/mail/feedback", Some(&bounce)).await;
    world.drain().await;
    world.alert_at("1", &["gone@acme.example", "ops@acme.example"]).await;
    world.buy("acme", "pack_1k", "one").await;
    world.alert_at("6000", &["gone@acme.example", "ops@acme.example"]).await;
    let mails = world.mails().await;
    let low: Vec<_> =
        mails.iter().filter(|mail| mail["subject"].as_str().unwrap().contains("running low")).collect();
    assert_eq!(to(low[0]), ["gone@acme.example", "ops@acme.example"]);
    assert_eq!(to(low.last().unwrap()), ["ops@acme.example"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_can_inject_neither_html_nor_headers() {
    let world = World::with_packs(0).await;
    let body = json!({ "name": "<script>alert(1)</script> & Söhne", "plan": "team", "billing_email": "a@b.example" });
    world.call(Method::PUT, "/v1/workspaces/acme", None, Some(&body)).await;
    world.failing_run("run", "weekly-report", "event").await;
    let mail = &world.mails().await[0];
    let html = mail["html"].as_str().unwrap();
    assert!(!html.contains("<script>") && html.contains("&lt;script&gt;"), "{html}");
    assert!(!mail["subject"].as_str().unwrap().contains(['\r', '\n']));
    let with_break =
        json!({ "name": "Acme\r\nBcc: x@y.example", "plan": "team", "billing_email": "a@b.example" });
    let refused = world.call(Method::PUT, "/v1/workspaces/acme", None, Some(&with_break)).await;
    assert_eq!(refused.fields(), ["name"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_declined_renewals_and_the_end_are_mailed() {
    let world = World::with_card().await;
    let renews_at = time(&world.subscribe("acme", "tier_2k").await.body["renews_at"]);
    world.card_is("acme", "declined").await;
    world.advance_to(renews_at).await;
    let subscribed = world.subscribed("acme").await;
    assert_eq!((&subscribed["status"], &subscribed["period"]), (&json!("past_due"), &json!(1)));
    assert_eq!(
        world.mails().await.last().unwrap()["subject"],
        "The payment for your AI credits was declined"
    );
    assert_eq!(world.take("acme", "buffer", "900").await.status, 201, "prepaid credits stay spendable");
    world.advance(6 * 86_400).await;
    assert_eq!(world.subscribed("acme").await["status"], "cancelled");
    let subjects = world.subjects().await;
    let declined = subjects.iter().filter(|subject| subject.contains("declined")).count();
    assert_eq!((declined, subjects.last().unwrap().as_str()), (3, "Your AI credits subscription has ended"));
    assert_eq!(world.events("RenewalFailed").await.len(), 3);
    assert_eq!(world.events("SubscriptionCancelled").await[0]["reason"], "payment_failed");
    assert_eq!(world.kinds("acme").await, ["top_up 1000", "allocation 2000", "expiry -2000", "debit -900"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_a_half_written_mail_can_be_opened_again() {
    let folder = Folder::new("half-a-mail");
    let options = Options { data: Some(folder.path()), ..Options::default() };
    let world = World::with(&options).await;
    world.put_workspace("acme").await;
    world.buy("acme", "pack_1k", "one").await;
    world.drain().await;
    let before = world.mails().await;
    drop(world);
    let file = folder.path().join("mail.jsonl");
    let kept = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{kept}{}", &kept[..kept.len() / 2])).unwrap();
    for (start, key) in ["two", "three"].into_iter().enumerate() {
        let world = World::with(&options).await;
        assert_eq!(world.mails().await.len(), before.len() + start);
        world.buy("acme", "pack_1k", key).await;
        world.drain().await;
        assert_eq!(world.mails().await[0], before[0]);
    }
}
