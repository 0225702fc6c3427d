//! A data folder of an older version: this version opens it and completes everything that was pending.

use std::path::{Path, PathBuf};

use credits_local::Options;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{NowForTests, World};

/// The time on the older stack's clock when it was stopped.
const STOPPED_AT: &str = "2026-12-30T05:36:50Z";

/// A copy of the folder, deleted when it is dropped.
struct Folder(PathBuf);

impl Folder {
    /// Copies the folder, and sets its clock to go on from [`STOPPED_AT`].
    fn copy() -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/before_strict_charges");
        let name = format!("ai-credits-upgrade-{}-{:?}", std::process::id(), std::thread::current().id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for file in std::fs::read_dir(source).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
        let ahead = STOPPED_AT.parse::<Timestamp>().unwrap().duration_since(Timestamp::now_for_tests());
        std::fs::write(folder.join("clock-offset-millis"), ahead.as_millis().to_string()).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

async fn opened() -> (World, Folder) {
    let folder = Folder::copy();
    let world = World::with(&Options { data: Some(folder.0.clone()), ..Options::default() }).await;
    (world, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_folder_opens_and_every_ledger_sums_to_its_balance() {
    let (world, _folder) = opened().await;
    world.drain().await;
    let verified = world.local(Method::POST, "/_local/verify", None).await;
    assert_eq!(verified["differences"], json!([]), "{verified}");
    let balance = world.balance("bought").await;
    assert_eq!(balance["available"], "5479.5", "600 of 1,000, 5,000 less 120.5, and 1,000 disputed");
    let invoices = world.get("/v1/workspaces/enterprise/invoices").await;
    assert!(!invoices["invoices"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn open_charges_of_an_older_folder_end_with_one_charge() {
    let (world, _folder) = opened().await;
    world.advance(16 * 60).await;
    let first = world.subscribed("first_0").await;
    assert_eq!((&first["status"], &first["pending_payment"]), (&json!("active"), &Value::Null));
    assert_eq!(world.subscribed("upgrade_0").await["tier"], "tier_10k");
    let charges = world.charges().await;
    let of = |workspace: &str| {
        charges.iter().filter(|charge| charge["metadata"]["workspace_id"] == workspace).count()
    };
    assert_eq!((of("first_0"), of("upgrade_0")), (1, 2), "the subscription was charged before the upgrade");
    world.reconciled("first_0").await;
    world.reconciled("upgrade_0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_of_an_older_folder_continue() {
    let (world, _folder) = opened().await;
    assert_eq!(world.subscribed("past_due").await["status"], "past_due");
    world.card_is("past_due", "succeeded").await;
    world.advance(6 * 86_400).await;
    for (workspace, status, tier) in [
        ("past_due", "active", "tier_2k"),
        ("active", "active", "tier_2k"),
        ("downgrading", "active", "tier_2k"),
        ("cancelling", "cancelled", "tier_10k"),
    ] {
        let kept = world.subscribed(workspace).await;
        assert_eq!((&kept["status"], &kept["tier"]), (&json!(status), &json!(tier)), "{workspace}");
        world.reconciled(workspace).await;
    }
    let renews_at = crate::subscribing::time(&world.subscribed("active").await["renews_at"]);
    world.advance_to(renews_at + SignedDuration::from_mins(1)).await;
    assert_eq!(world.subscribed("active").await["period"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkouts_and_refunds_of_an_older_folder_are_applied() {
    let (world, _folder) = opened().await;
    let pending = world.subscribed("pending").await;
    let checkout = pending["payment_action"]["checkout_id"].as_str().unwrap();
    assert_eq!(world.pay(checkout, "succeeded").await["status"], 200);
    assert_eq!(world.subscribed("pending").await["status"], "active");
    world.buy("bought", "pack_1k", "more").await;
    let balance = world.balance("bought").await;
    assert_eq!(balance["available"], "6479.5");
    let holding = world.balance("holding").await;
    assert_eq!((&holding["held"], &holding["available"]), (&json!("200"), &json!("800")));
    world.advance(2 * 86_400).await;
    let ended = world.balance("holding").await;
    assert_eq!((&ended["held"], &ended["available"]), (&json!("0"), &json!("949.75")));
}
