//! The ledger: newest first, in pages, filtered by kind.

use serde_json::Value;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_any_size_join_to_the_whole_ledger() {
    let world = World::with_packs(2).await;
    for debit in 0..9 {
        world.take("acme", &debit.to_string(), "1").await;
    }
    let whole = world.entries("acme").await;
    assert_eq!(whole.len(), 11);
    let times: Vec<&str> = whole.iter().map(|entry| entry["at"].as_str().unwrap()).collect();
    let instant = |at: &&str| at.parse::<jiff::Timestamp>().unwrap();
    assert!(times.is_sorted_by_key(|at| std::cmp::Reverse(instant(at))), "{times:?}");
    for limit in [1, 2, 3, 10, 11, 12] {
        assert_eq!(pages(&world, &format!("limit={limit}"), limit).await, whole, "limit {limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_one_kind_join_to_all_of_that_kind() {
    let world = World::with_packs(2).await;
    for debit in 0..5 {
        world.take("acme", &debit.to_string(), "1").await;
    }
    let whole = world.entries("acme").await;
    for (kind, count) in [("debit", 5), ("top_up", 2), ("expiry", 0)] {
        let wanted: Vec<Value> = whole.iter().filter(|entry| entry["kind"] == kind).cloned().collect();
        assert_eq!(wanted.len(), count);
        for limit in [1, 2, 100] {
            assert_eq!(pages(&world, &format!("kind={kind}&limit={limit}"), limit).await, wanted);
        }
    }
}

async fn pages(world: &World, query: &str, limit: usize) -> Vec<Value> {
    let (mut entries, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("/v1/workspaces/acme/ledger?{query}{cursor}")).await;
        let of_page = page["entries"].as_array().unwrap();
        assert!(of_page.len() <= limit);
        entries.extend(of_page.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return entries,
        }
    }
}
