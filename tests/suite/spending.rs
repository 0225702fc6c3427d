//! Debits and quotes: prices (M2), consumers (M4), refusals (M11), and one debit per key.

use std::sync::Arc;

use credits_core::catalogue::Catalogue;
use credits_core::credit_rate::CreditRate;
use credits_local::Options;
use credits_runtime::catalogue::DEPLOYED;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{World, consumer, taking};

#[tokio::test(flavor = "multi_thread")]
async fn m02_every_operation_and_model_is_priced_by_the_formula() {
    let world = World::with_packs(0).await;
    world.buy("acme", "pack_25k", "pack").await;
    let catalogue = Catalogue::parse(DEPLOYED).unwrap();
    let card = catalogue.rate_cards().iter().next().unwrap();
    let (input, output, records) = (1_237_i128, 891_i128, 3_i128);
    let mut calls = 0;
    for rate in card.operations().iter() {
        let models = card.models().iter().map(|model| (Some(model.model.to_string()), model.multiplier));
        let one = "1".parse().unwrap();
        for (model, multiplier) in models.chain([(None, one)]) {
            // The formula of `rate_card` in infra/openapi.json, in integers of 10^-15 credits, rounded up once to 10^-6.
            let micros = |rate: CreditRate| rate.credits().micros().unwrap();
            let exact = (1_000 * micros(rate.base)
                + input * micros(rate.per_1k_input_tokens.unwrap())
                + output * micros(rate.per_1k_output_tokens.unwrap())
                + 1_000 * records * micros(rate.per_record.unwrap()))
                * micros(multiplier);
            let expected =
                credits_core::credits::Credits::from_micros((exact + 999_999_999) / 1_000_000_000).unwrap();
            let units = json!({ "input_tokens": input, "output_tokens": output, "records": records });
            let body = json!({ "operation": rate.operation, "model": model, "units": units, "consumer": consumer() });
            let quote = world.call(Method::POST, "/v1/workspaces/acme/quotes", None, Some(&body)).await;
            let debit = world.debit("acme", &format!("call-{calls}"), &body).await;
            assert_eq!((quote.status, debit.status), (200, 201), "{}", debit.body);
            assert_eq!(quote.body["credits"], expected.to_string());
            assert_eq!(debit.body["credits"], expected.to_string());
            assert_eq!(debit.body["rate_card"], card.version().to_string());
            calls += 1;
        }
    }
    assert_eq!(calls, 40);
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_no_model_has_multiplier_1_an_unknown_one_is_refused() {
    let world = World::with_packs(1).await;
    let body = |model: Option<&str>| json!({ "operation": "text.classify", "model": model, "units": { "records": 1 }, "consumer": consumer() });
    let (plain, standard) = (
        world.debit("acme", "a", &body(None)).await,
        world.debit("acme", "b", &body(Some("standard"))).await,
    );
    assert_eq!(plain.body["credits"], standard.body["credits"]);
    assert_eq!(world.debit("acme", "c", &body(Some("huge"))).await.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn m04_all_three_kinds_of_consumer_draw_credits() {
    let world = World::with_packs(1).await;
    let consumers = [
        json!({ "kind": "workflow_step", "workflow_id": "wf_1", "run_id": "run_1", "step_id": "step_1" }),
        json!({ "kind": "action", "feature": "draft", "user_id": "ada" }),
        json!({ "kind": "bulk", "job_id": "job_1", "feature": "enrich", "list_id": "list_1", "user_id": "ada" }),
        json!({ "kind": "bulk", "job_id": "job_2", "feature": "enrich" }),
    ];
    for (key, consumer) in consumers.iter().enumerate() {
        let body = json!({ "operation": "record.enrich", "units": { "records": 4 }, "consumer": consumer });
        let debit = world.debit("acme", &key.to_string(), &body).await;
        assert_eq!((debit.status, &debit.body["consumer"]), (201, consumer));
        assert_eq!(debit.body["credits"], "1");
    }
    let kept: Vec<Value> =
        world.entries("acme").await.into_iter().map(|entry| entry["consumer"].clone()).collect();
    assert!(consumers.iter().all(|consumer| kept.contains(consumer)));
    assert_eq!(world.available("acme").await, "996");
}

#[tokio::test(flavor = "multi_thread")]
async fn m11_a_refusal_at_zero_has_what_a_prompt_needs() {
    let world = World::with_packs(1).await;
    assert_eq!(world.take("acme", "all", "1000").await.status, 201);
    let refused = world.take("acme", "more", "0.000001").await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (402, Some("insufficient_credits")));
    assert_eq!(refused.body["required"], "0.000001");
    assert_eq!(refused.body["available"], "0");
    assert_eq!(refused.body["shortfall"], "0.000001");
    assert!(refused.body["top_up_url"].as_str().unwrap().ends_with("/settings/ai-credits"));
    assert!(refused.body["prompt"].as_str().unwrap().ends_with("Add credits to go on."));
    assert_eq!(world.available("acme").await, "0");
    // A refusal does not use up its key: the same key can succeed after a top-up.
    world.buy("acme", "pack_1k", "next").await;
    let later = world.take("acme", "more", "0.000001").await;
    assert_eq!((later.status, later.replayed), (201, false));
    assert_eq!(world.reconciled("acme").await, ["top_up", "debit", "top_up", "debit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_replays_its_first_answer_and_refuses_another_call() {
    let world = World::with_packs(1).await;
    let first = world.take("acme", "run#1/step:2", "3.4").await;
    let again = world.take("acme", "run#1/step:2", "3.4").await;
    assert_eq!((first.status, again.status), (201, 200));
    assert_eq!((first.replayed, again.replayed), (false, true));
    assert_eq!(first.body, again.body);
    // The order of members and white space do not change the payload's fingerprint.
    let reordered = world
        .bare(Method::POST, "/v1/workspaces/acme/debits")
        .bearer_auth(world.token("acme", "credits:spend").await);
    let text = r#"{ "consumer":{"user_id":"ada","feature":"assistant","kind":"action"}, "credits":"3.4","operation":"text.generate" }"#;
    let reordered = reordered
        .header("idempotency-key", "run#1/step:2")
        .header("content-type", "application/json; charset=utf-8");
    assert_eq!(crate::world::answer(reordered.body(text)).await.status, 200);
    let other = world.take("acme", "run#1/step:2", "3.5").await;
    assert_eq!((other.status, other.body["code"].as_str()), (409, Some("idempotency_key_reused")));
    let top_up = world.open_top_up("acme", "pack_1k", "run#1/step:2").await;
    assert_eq!(top_up.body["code"], "idempotency_key_reused");
    let taken_by_a_top_up = world.take("acme", "pack-0", "1").await;
    assert_eq!(taken_by_a_top_up.body["code"], "idempotency_key_reused");
    assert_eq!(world.available("acme").await, "996.6");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_answered_even_at_zero() {
    let world = World::with_packs(1).await;
    let first = world.take("acme", "all", "1000").await;
    let again = world.take("acme", "all", "1000").await;
    assert_eq!((again.status, again.replayed, &again.body), (200, true, &first.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_answered_if_the_price_is_no_longer_on_the_card() {
    let folder = Folder::new("replay");
    let mut options = Options { data: Some(folder.path()), ..Options::default() };
    let body = json!({ "operation": "text.classify", "units": { "records": 1 }, "consumer": consumer() });
    let world = World::with(&options).await;
    world.put_workspace("acme").await;
    world.buy("acme", "pack_1k", "pack").await;
    let first = world.debit("acme", "call", &body).await;
    drop(world);
    options.catalogue =
        Some(DEPLOYED.replace("text.classify", "text.classify.v2").replace("pack_1k", "pack_1k_v2"));
    let world = World::with(&options).await;
    let again = world.debit("acme", "call", &body).await;
    assert_eq!((again.status, again.replayed, &again.body), (200, true, &first.body));
    let new = world.debit("acme", "other", &body).await;
    assert_eq!((new.status, &new.body["errors"][0]["field"]), (422, &json!("operation")));
    assert_eq!(world.open_top_up("acme", "pack_1k", "pack").await.status, 200);
    assert_eq!(world.open_top_up("acme", "pack_1k", "new").await.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_debits_of_64_tasks_spend_exactly_the_balance() {
    let world = Arc::new(World::with_packs(5).await);
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let mut statuses = Vec::new();
                for call in 0..200 {
                    statuses.push(world.take("acme", &format!("{task}-{call}"), "1").await.status);
                }
                statuses
            })
        })
        .collect();
    let mut statuses = Vec::new();
    for task in tasks {
        statuses.extend(task.await.unwrap());
    }
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(201), count(402), statuses.len()), (5_000, 7_800, 12_800));
    let balance = world.balance("acme").await;
    assert_eq!((&balance["available"], &balance["consumed_this_month"]), (&json!("0"), &json!("5000")));
    assert_eq!(world.reconciled("acme").await.len(), 5_005);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_sent_by_32_tasks_is_one_debit() {
    let world = Arc::new(World::with_packs(1).await);
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.take("acme", "once", "2").await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 200 && answer.replayed).count(), 31);
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    assert_eq!(world.available("acme").await, "998");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_states_the_cost_of_a_debit_and_writes_nothing() {
    let world = World::with_packs(1).await;
    let quote = |credits: &'static str| {
        let world = &world;
        async move {
            world.call(Method::POST, "/v1/workspaces/acme/quotes", None, Some(&taking(credits))).await.body
        }
    };
    let affordable = quote("1000").await;
    assert_eq!((&affordable["affordable"], &affordable["available"]), (&json!(true), &json!("1000")));
    assert_eq!(quote("1000.000001").await["affordable"], false);
    let (_, requests) = world.requests_of(quote("5")).await;
    assert!(requests.iter().all(|request| request["operation"] == "GetItem"), "{requests:?}");
    assert_eq!(world.entries("acme").await.len(), 1);
}

/// A temporary folder, deleted when it is dropped.
pub struct Folder(std::path::PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ai-credits-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.0.clone()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
