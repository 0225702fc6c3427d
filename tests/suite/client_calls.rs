//! AI calls through the client crate: held, settled on every exit, and never charged more than they used.

use ai_credits_client::{
    BoxError, Call, Client, Consumer, Error, HoldOrder, HoldStatus, LedgerEntryDetails, Overrun, SettleOrder,
    Used, Workspace,
};
use rust_decimal::Decimal;

use crate::world::World;

async fn acme(world: &World) -> Workspace {
    let token = world.token("acme", "credits:spend credits:read").await;
    Client::new(&world.stack.url(), token).unwrap().workspace("acme")
}

/// An order of a call that costs at most 3.5 credits.
fn order() -> HoldOrder {
    HoldOrder::of("text.generate", Consumer::action("assistant", "ada")).unit("output_tokens", 2_000)
}

/// The usage of a call that costs 0.8 credits.
fn used() -> Used {
    Used::from([("output_tokens", 200)])
}

fn credits(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// Waits until a hold is settled.
async fn settled(acme: &Workspace, hold_id: &str) {
    loop {
        match acme.get_hold(hold_id).await.unwrap().status {
            HoldStatus::Settled => return,
            status => assert_eq!(status, HoldStatus::Open),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ai_call_pays_what_it_used_once() {
    let world = World::with_packs(1).await;
    let acme = acme(&world).await;
    let call = acme.begin(&order().metadata("thread", "t-1")).idempotency_key("chat-1").await.unwrap();
    assert_eq!(call.hold().credits, credits("3.5"));
    assert_eq!(acme.get_balance().await.unwrap().held, credits("3.5"));
    // No rate prices tokens of audio, so they are counted as input.
    let used = [
        ("audio_input_tokens", 400),
        ("cached_input_tokens", 1_000),
        ("output_tokens", 200),
        ("tool_calls", 0),
    ];
    let ended = call.finish(Used::from(used).estimated()).await.unwrap();
    assert_eq!((ended.captured, ended.status), (credits("1.05"), HoldStatus::Settled));
    for again in [call.finish([("output_tokens", 2_000)]).await, call.clone().cancel().await] {
        assert_eq!(again.unwrap().captured, credits("1.05"), "it is settled already");
    }
    let repeated = acme.settle_hold(&call.hold().hold_id, &SettleOrder::default());
    let Err(Error::Refused(problem)) = repeated.idempotency_key("chat-1/settle").await else {
        panic!("the settlement has the key of the call")
    };
    assert_eq!(problem.code, "idempotency_key_reused");

    let mut entries = acme.list_ledger_entries().limit(1).items();
    let entry = entries.try_next().await.unwrap().unwrap();
    let LedgerEntryDetails::HoldSettled { line_metadata, .. } = entry.details else { panic!("{entry:?}") };
    let metadata = &line_metadata[0].metadata;
    assert_eq!((metadata["thread"].as_str(), metadata["usage"].as_str()), ("t-1", "estimated"));
    assert_eq!(entry.credits, credits("-1.05"));
    let entry = entries.try_next().await.unwrap().unwrap();
    assert!(matches!(entry.details, LedgerEntryDetails::TopUp { .. }), "{entry:?}");
    assert_eq!(entries.try_next().await.unwrap(), None);
    assert_eq!(world.reconciled("acme").await, ["top_up", "hold_settled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_charges_what_was_recorded_last() {
    let world = World::with_packs(1).await;
    let acme = acme(&world).await;
    let spawned = acme.clone();
    let answering = tokio::spawn(async move {
        let work = |call: Call| async move {
            call.record([("output_tokens", 7)]);
            call.record(used());
            Ok::<_, Error>("the answer")
        };
        spawned.gate(&order(), work).await
    });
    assert_eq!(answering.await.unwrap().unwrap(), "the answer");
    assert_eq!(world.available("acme").await, "999.2");

    for recorded in [Some(used()), None] {
        let work = |call: Call| async move {
            if let Some(used) = recorded {
                call.record(used);
            }
            Err::<(), BoxError>("the model is down".into())
        };
        assert_eq!(acme.gate(&order(), work).await.unwrap_err().to_string(), "the model is down");
    }
    let balance = acme.get_balance().await.unwrap();
    assert_eq!((balance.available, balance.held), (credits("998.4"), Decimal::ZERO));
    assert_eq!(world.reconciled("acme").await, ["top_up", "hold_settled", "hold_settled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_is_settled() {
    let world = World::with_packs(1).await;
    let acme = acme(&world).await;
    let unused = acme.begin(&order()).await.unwrap();
    let recorded = acme.begin(&order()).await.unwrap();
    recorded.record(used());
    let hold_ids = [&unused, &recorded].map(|call| call.hold().hold_id.clone());
    let clone = recorded.clone();
    drop((unused, recorded));
    settled(&acme, &hold_ids[0]).await;
    assert_eq!(acme.get_hold(&hold_ids[1]).await.unwrap().status, HoldStatus::Open, "a clone is left");
    drop(clone);
    settled(&acme, &hold_ids[1]).await;
    assert_eq!(world.available("acme").await, "999.2");
    assert_eq!(world.reconciled("acme").await, ["top_up", "hold_settled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_leaves_nothing_held() {
    let world = World::with_packs(1).await;
    let acme = acme(&world).await;
    // The futures are polled once, and dropped.
    tokio::select! {
        biased;
        call = acme.begin(&order()).idempotency_key("gone").into_future() => drop(call),
        () = std::future::ready(()) => {}
    }
    let replayed = acme.create_hold(&order()).idempotency_key("gone").await.unwrap();
    settled(&acme, &replayed.hold_id).await;

    let call = acme.begin(&order()).await.unwrap();
    tokio::select! {
        biased;
        ended = call.finish(used()) => drop(ended),
        () = std::future::ready(()) => {}
    }
    settled(&acme, &call.hold().hold_id).await;
    assert_eq!(world.available("acme").await, "999.2");
    assert_eq!(world.balance("acme").await["held"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_may_cost_more_than_its_hold_or_only_the_base() {
    let world = World::with_packs(1).await;
    let acme = acme(&world).await;
    let much = [("output_tokens", 1_000_000)];
    let refusing = acme.begin(&order()).overrun(Overrun::Refuse).await.unwrap();
    let Err(Error::InsufficientCredits(refusal)) = refusing.finish(much).await else {
        panic!("expected insufficient credits")
    };
    assert_eq!((refusal.required, refusal.available), (credits("1500.5"), credits("3.5")));
    // It can be settled with less, under the same key.
    assert_eq!(refusing.finish(used()).await.unwrap().captured, credits("0.8"));

    // A call that used nothing costs the base.
    for nothing in [vec![], vec![("images", 0)]] {
        assert_eq!(
            acme.begin(&order()).await.unwrap().finish(nothing).await.unwrap().captured,
            credits("0.5")
        );
    }

    let ended = acme.begin(&order()).await.unwrap().finish(much).await.unwrap();
    assert_eq!((ended.captured, ended.uncollected), (credits("998.2"), credits("502.3")));
    let Err(Error::InsufficientCredits(_)) = acme.begin(&order()).await else {
        panic!("a hold must be refused without credits")
    };
    assert_eq!(world.available("acme").await, "0");
}
