//! Generates `src/schema.rs` from the description of the API, and compares it with the committed file.
#![allow(clippy::unwrap_used, reason = "a test fails if the description has another form")]

mod items;
mod schemas;

use std::path::Path;

use serde_json::Value;
use typify::{TypeSpace, TypeSpaceSettings};

/// If this is set in the environment, the file is written in place of being compared.
const UPDATE: &str = "AI_CREDITS_UPDATE_SCHEMA";

const HEADER: &str = "\
//! The types of the API. Instants, days and months are strings, so that you can parse them with any library.
//!
//! `tests/schema` generates this file from `infra/openapi.json`.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

";

/// The modules whose types the file imports, or which the prelude has.
const IMPORTED: [&str; 5] =
    ["::std::string::", "::std::option::", "::std::vec::", "::std::collections::", "::rust_decimal::"];

#[test]
#[expect(clippy::disallowed_methods, reason = "the setting is of this test alone")]
fn the_types_are_those_of_the_api() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let description = std::fs::read_to_string(root.join("../../infra/openapi.json")).unwrap();
    let types = generated(&serde_json::from_str(&description).unwrap());
    let file = root.join("src/schema.rs");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&file, &types).unwrap();
    }
    let same = types == std::fs::read_to_string(&file).unwrap();
    assert!(
        same,
        "src/schema.rs differs from infra/openapi.json; run this test with {UPDATE}=1 to update it"
    );
}

/// Returns the text of the file.
fn generated(description: &Value) -> String {
    let mut settings = TypeSpaceSettings::default();
    settings.with_map_type("::std::collections::BTreeMap");
    settings.with_replacement("Decimal", "::rust_decimal::Decimal", std::iter::empty());
    let mut space = TypeSpace::new(&settings);
    space.add_root_schema(serde_json::from_value(schemas::of(description)).unwrap()).unwrap();
    let file = items::plain(syn::parse2(space.to_stream()).unwrap());
    let mut text = prettyplease::unparse(&file);
    for module in IMPORTED {
        text = text.replace(module, "");
    }
    format!("{HEADER}{}", text.replace("\n}\n", "\n}\n\n").trim_end()) + "\n"
}
