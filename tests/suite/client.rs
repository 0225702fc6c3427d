//! The client crate against the stack, also over failing connections.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ai_credits_client::{
    BulkJob, Client, Consumer, DebitOrder, Error, Plan, Retry, RunStatus, Trigger, Workspace,
    WorkspaceProfile,
};
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::world::World;

/// The job has 10,000 records, 32 workers and 8 holds. The workspace has credits for 7,777 records.
#[tokio::test(flavor = "multi_thread")]
async fn m04_a_bulk_job_does_exactly_the_records_it_can_pay_for() {
    let world = World::new().await;
    world.put_workspace("acme").await;
    let grant = json!({ "credits": "7777", "kind": "prepaid", "reason": "test" });
    let granted = world.call(Method::POST, "/v1/workspaces/acme/grants", Some("g"), Some(&grant)).await;
    assert_eq!(granted.status, 201);
    let token = world.token("acme", "credits:spend credits:read").await;
    let workspace = Client::new(&world.stack.url(), token).unwrap().workspace("acme");
    let job = BulkJob::of("job-1", "enrichment", "record.enrich", Decimal::ONE).side_by_side(32, 8);
    let most = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let report = workspace
        .bulk(&job, (0..10_000).collect(), move |_: usize| {
            let seen = Arc::clone(&seen);
            async move {
                seen.1.fetch_max(seen.0.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                seen.0.fetch_sub(1, Ordering::SeqCst);
                let consumer = Consumer::bulk("job-1", "enrichment");
                Ok::<_, Infallible>(DebitOrder::of("record.enrich", consumer).credits(Decimal::ONE))
            }
        })
        .await;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert_eq!((report.done.len(), report.left.len(), report.spent), (7_777, 2_223, Decimal::from(7_777)));
    assert_eq!(report.done, (0..7_777).collect::<Vec<_>>());
    assert!(matches!(report.stopped, Some(Error::InsufficientCredits(_))));
    assert!((2..=32).contains(&most.1.load(Ordering::SeqCst)), "{most:?}");
    let balance = world.balance("acme").await;
    assert_eq!((&balance["available"], &balance["held"]), (&json!("0"), &json!("0")));
    assert_eq!(balance["consumed_this_month"], "7777");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_records_cost_nothing_and_free_their_credits() {
    let world = World::with_packs(1).await;
    let token = world.token("acme", "credits:spend credits:read").await;
    let workspace = Client::new(&world.stack.url(), token).unwrap().workspace("acme");
    let job = BulkJob::of("job-2", "enrichment", "record.enrich", Decimal::from(10)).side_by_side(4, 2);
    // A record may cost 10 credits and costs 4, so 1,000 credits pay for 250 records. The holds first allow for 100.
    let report = workspace
        .bulk(&job, (0..300).collect(), |record: usize| async move {
            if record % 50 == 7 {
                return Err("the model is down");
            }
            Ok(DebitOrder::of("record.enrich", Consumer::action("a", "b")).credits(Decimal::from(4)))
        })
        .await;
    let failed: Vec<usize> = report.failed.iter().map(|(place, _)| *place).collect();
    assert!(failed.starts_with(&[7]) && failed.len() >= 5, "{failed:?}");
    assert_eq!(report.done.len() + failed.len() + report.left.len(), 300);
    assert_eq!(report.spent, Decimal::from(report.done.len() * 4));
    let left = Decimal::from(1_000) - report.spent;
    assert!(left < Decimal::from(10), "{left} credits are left");
    assert_eq!(world.available("acme").await, left.to_string());
    assert_eq!(world.balance("acme").await["held"], "0");
    world.reconciled("acme").await;
}

/// The way in which a connection through the proxy fails.
#[derive(Debug, Clone, Copy)]
enum ClientFault {
    /// It is closed before the request is forwarded.
    Refused,
    /// It is closed after the stack has executed the request, and before the answer.
    Unanswered,
    /// The proxy answers 503, as API Gateway does.
    Unavailable,
    /// The proxy answers 503, and asks for a pause that is longer than the deadline.
    Closed,
    /// It is closed before the last bytes of the answer.
    BrokenOff,
}

/// Starts a proxy to the stack whose first connections fail, one fault each. Returns its URL and its connection count.
async fn failing(world: &World, faults: Vec<ClientFault>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (port, made) = (world.stack.port(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&made);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let fault = faults.get(counted.fetch_add(1, Ordering::SeqCst)).copied();
            tokio::spawn(pass_on(near, port, fault));
        }
    });
    (address, made)
}

async fn pass_on(mut near: TcpStream, port: u16, fault: Option<ClientFault>) {
    let mut request = vec![0; 64 * 1024];
    let length = near.read(&mut request).await.unwrap_or(0);
    match fault {
        Some(ClientFault::Refused) => {}
        Some(fault @ (ClientFault::Unavailable | ClientFault::Closed)) => {
            let pause = if matches!(fault, ClientFault::Closed) { "retry-after: 3600\r\n" } else { "" };
            let answer = format!(
                "HTTP/1.1 503 Service Unavailable\r\n{pause}content-length: 0\r\nconnection: close\r\n\r\n"
            );
            drop(near.write_all(answer.as_bytes()).await);
        }
        fault => {
            let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            far.write_all(&request[..length]).await.unwrap();
            let mut answer = vec![0; 64 * 1024];
            let length = far.read(&mut answer).await.unwrap_or(0);
            if matches!(fault, Some(ClientFault::BrokenOff)) {
                drop(near.write_all(&answer[..length.saturating_sub(8)]).await);
            } else if fault.is_none() {
                near.write_all(&answer[..length]).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
            }
        }
    }
}

fn quick() -> Retry {
    Retry { first_pause: Duration::from_millis(1), ..Retry::default() }
}

async fn workspace(world: &World, base: &str) -> Workspace {
    let token = world.token("*", "credits:spend credits:read credits:manage").await;
    Client::new(base, token).unwrap().with_retry(quick()).workspace("acme")
}

fn order(credits: i64) -> DebitOrder {
    DebitOrder::of("text.generate", Consumer::action("assistant", "ada")).credits(Decimal::from(credits))
}

#[test]
fn the_docs_show_the_tested_samples() {
    let readmes = [
        ("ts", include_str!("../../clients/typescript/README.md")),
        ("python", include_str!("../../clients/python/README.md")),
        ("rust", include_str!("../../clients/rust/README.md")),
    ];
    for (language, readme) in readmes {
        // CI runs the samples of the READMEs.
        let (_, after) = readme.split_once(&format!("```{language}")).unwrap();
        let sample = after.split_once('\n').unwrap().1.split("```").next().unwrap();
        let shown = format!("```{language}\n{sample}```");
        for page in [include_str!("../../docs/clients.md"), include_str!("../../README.md")] {
            assert!(page.contains(&shown), "docs/clients.md and README.md must show:\n{shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_spends_and_reads_its_refusals() {
    let world = World::new().await;
    let acme = workspace(&world, &world.stack.url()).await;
    let token = world.token("*", "credits:manage").await;
    let credits = Client::new(&world.stack.url(), token).unwrap();
    let profile = WorkspaceProfile::of("Acme", Plan::Team, "billing@acme.example");
    assert_eq!(credits.put_workspace("acme", &profile).await.unwrap().workspace_id, "acme");
    let top_up = acme.create_top_up("pack_1k").await.unwrap();
    assert_eq!((top_up.credits, top_up.price.amount), (Decimal::from(1_000), 1_000));
    world.pay(top_up.checkout_url.rsplit('/').next().unwrap(), "succeeded").await;

    let run = acme.create_run("nightly", &Trigger::Manual).await.unwrap().run;
    let step = Consumer::workflow_step("nightly", &run.run_id, "write");
    let priced = DebitOrder::of("text.generate", step.clone())
        .model("standard")
        .unit("input_tokens", 1_200)
        .unit("output_tokens", 800);
    let quote = acme.create_quote(&priced).await.unwrap();
    assert!(quote.affordable);
    let debit = acme.create_debit(&priced).idempotency_key("step-1").answered().await.unwrap();
    assert_eq!((debit.body.credits, debit.replayed), (quote.credits, false));
    let again = acme.create_debit(&priced).idempotency_key("step-1").answered().await.unwrap();
    assert_eq!((&again.body, again.replayed), (&debit.body, true));
    let left = Decimal::from(1_000) - debit.body.credits;
    assert_eq!(acme.get_balance().await.unwrap().available, left);

    let dear = DebitOrder::of("text.generate", step).credits(Decimal::from(5_000));
    let Err(Error::InsufficientCredits(refusal)) = acme.create_debit(&dear).await else {
        panic!("expected insufficient credits")
    };
    assert_eq!((refusal.required, refusal.available), (Decimal::from(5_000), left));
    assert_eq!(refusal.shortfall, Decimal::from(5_000) - left);
    assert!(refusal.prompt.contains("5000") && refusal.top_up_url.starts_with("http"), "{refusal:?}");
    assert_eq!(acme.get_run(&run.run_id).await.unwrap().status, RunStatus::Failed);

    let second = acme.create_run("nightly", &Trigger::Event).await.unwrap().run;
    assert_eq!(acme.complete_run(&second.run_id).await.unwrap().status, RunStatus::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_their_reason_and_fields() {
    let world = World::with_packs(1).await;
    let acme = workspace(&world, &world.stack.url()).await;
    acme.create_debit(&order(1)).idempotency_key("k").await.unwrap();
    let Err(Error::Refused(problem)) = acme.create_debit(&order(2)).idempotency_key("k").await else {
        panic!("expected a 409")
    };
    assert_eq!((problem.status, problem.code.as_str()), (409, "idempotency_key_reused"));
    let run = |workflow| acme.create_run(workflow, &Trigger::Event);
    let Err(Error::Refused(problem)) = run("nightly").idempotency_key("").await else {
        panic!("expected a 400 for the empty key")
    };
    assert_eq!((problem.status, problem.code.as_str()), (400, "idempotency_key_invalid"));
    let Err(Error::Refused(problem)) = run("no spaces").await else {
        panic!("expected a 422 for the workflow id")
    };
    assert_eq!((problem.status, problem.errors[0].field.as_str()), (422, "workflow_id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_failing_connections_is_executed_once() {
    let world = World::with_packs(1).await;
    let faults =
        vec![ClientFault::Refused, ClientFault::BrokenOff, ClientFault::Unanswered, ClientFault::Unavailable];
    let (base, made) = failing(&world, faults).await;
    let acme = workspace(&world, &base).await;
    let debit = acme.create_debit(&order(10)).answered().await.unwrap();
    assert!(debit.replayed, "the second attempt was executed");
    assert_eq!(made.load(Ordering::SeqCst), 5);
    assert_eq!(world.available("acme").await, "990");
    assert_eq!(world.reconciled("acme").await, ["top_up", "debit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_call_can_be_retried_with_its_key() {
    let world = World::with_packs(1).await;
    let (base, _) = failing(&world, vec![ClientFault::Unanswered, ClientFault::Closed]).await;
    let acme = workspace(&world, &base).await;
    let Err(Error::Unavailable(unavailable)) = acme.create_debit(&order(10)).await else {
        panic!("expected two attempts without a final response")
    };
    assert_eq!(unavailable.attempts, 2);
    let key = unavailable.idempotency_key.unwrap();
    assert!(acme.create_debit(&order(10)).idempotency_key(key).answered().await.unwrap().replayed);
    assert_eq!(world.available("acme").await, "990");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_token_is_refused_without_a_retry() {
    let world = World::with_packs(1).await;
    let (base, made) = failing(&world, Vec::new()).await;
    let acme = Client::new(&base, "nonsense").unwrap().workspace("acme");
    let Err(Error::Refused(problem)) = acme.get_balance().await else { panic!("expected a 401") };
    assert_eq!((problem.status, problem.code.as_str()), (401, "unauthorized"));
    assert_eq!(made.load(Ordering::SeqCst), 1);
}
