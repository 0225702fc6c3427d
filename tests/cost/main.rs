//! What a deployment costs: counts what calls request and write, and compares `docs/cost.md` with it.
//!
//! `AI_CREDITS_WRITE_COST=1 cargo test --test cost` writes the page. Without the variable the test fails if the page is not
//! up to date, or if a total exceeds its aim.
#![allow(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "a test may use plain arithmetic and unwrap; the code under test may not"
)]

mod counts;
mod page;
mod rates;
mod settings;

use std::path::Path;

/// The highest price of a million debits, in USD.
const MAX_MILLION: f64 = 5.50;
/// The highest price of a month without calls, beyond storage.
const MAX_MONTH: f64 = 5.00;

#[tokio::test(flavor = "multi_thread")]
async fn the_cost_page_is_up_to_date_and_below_its_aims() {
    let settings = settings::Settings::read();
    let counted = Box::pin(counts::Counts::of_a_stack(&settings)).await;
    let page = page::Page::of(&settings, &counted);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cost.md");
    #[expect(clippy::disallowed_methods, reason = "tests have no `Settings`")]
    if std::env::var_os("AI_CREDITS_WRITE_COST").is_some() {
        std::fs::write(&file, &page.text).unwrap();
    }
    for (of, total) in &page.millions {
        assert!(*total <= MAX_MILLION, "{of}: a million debits cost ${total:.2}");
    }
    assert!(page.month <= MAX_MONTH, "a month at rest costs ${:.2}", page.month);
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == page.text,
        "docs/cost.md is out of date: AI_CREDITS_WRITE_COST=1 cargo test --test cost"
    );
}
