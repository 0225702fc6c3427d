//! Checks that the README shows the examples, which `check` runs against a stack.

use std::path::Path;

#[test]
fn the_readme_shows_the_examples() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = include_str!("../README.md");
    let samples = readme.split("```rust,no_run\n").skip(1).map(|rest| rest.split("\n```\n").next().unwrap());
    let names = ["first", "gate", "begin", "errors", "outage", "ledger"];
    assert_eq!(samples.clone().count(), names.len());
    for (name, sample) in names.into_iter().zip(samples) {
        let example = std::fs::read_to_string(root.join(format!("examples/{name}.rs"))).unwrap();
        let (_, shown) = example.split_once("\n\n").unwrap();
        assert_eq!(sample, shown.trim_end(), "examples/{name}.rs");
    }
}
