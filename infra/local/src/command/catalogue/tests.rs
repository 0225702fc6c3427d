use credits_core::catalogue::Catalogue;
use credits_core::id::Name;
use credits_core::rate_card::Prices;
use credits_core::units::Units;
use serde_json::{Value, json};

use super::{Conversion, PriceImport};

/// A list with a model of each kind.
const LIST: &str = r#"{
    "sample_spec": { "input_cost_per_token": 9.0, "mode": "one of: chat, image_generation" },
    "north-2": {
        "input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07, "cache_read_input_token_cost": 1.5E-8,
        "cache_creation_input_token_cost": 1.875e-07, "output_cost_per_reasoning_token": 7e-07,
        "input_cost_per_audio_token": 0.00001, "output_cost_per_audio_token": 2e-05,
        "input_cost_per_token_above_200k_tokens": 3e-07, "input_cost_per_token_batches": 0.0,
        "search_context_cost_per_query": { "search_context_size_low": 0.01 },
        "litellm_provider": "north", "mode": "chat", "max_tokens": 4096, "supports_reasoning": true
    },
    "painter-1": { "output_cost_per_image": 0.04, "input_cost_per_image": 0.001, "mode": "image_generation" },
    "listener-1": { "input_cost_per_second": 0.0001, "output_cost_per_second": 0.0, "mode": "audio_transcription" },
    "speaker-1": { "input_cost_per_character": 1.5e-05, "output_cost_per_character": null, "mode": "audio_speech" },
    "thinker-1": { "output_cost_per_token": 1e-06, "supports_reasoning": true },
    "free-1": { "input_cost_per_token": 0, "output_cost_per_token": 0.0 },
    "north/other": { "input_cost_per_token": 1e-06 },
    "ranker-1": { "input_cost_per_token": 0.0, "input_cost_per_query": 0.002 },
    "guard-1": { "mode": "moderation", "max_tokens": 512 },
    "negative-1": { "input_cost_per_token": -1e-06 },
    "text-1": { "input_cost_per_token": "NaN" },
    "fine-1": { "input_cost_per_token": 1e-15 },
    "dear-1": { "output_cost_per_image": 7143 },
    "long-1": { "input_cost_per_token": 1e-40 },
    "list-1": []
}"#;

fn import() -> PriceImport {
    let conversion = Conversion { markup: "1.4".parse().unwrap(), credit: "0.01".parse().unwrap() };
    PriceImport::of(LIST, conversion).unwrap()
}

fn rate(unit: &str, credits: &str, per: u64, amount: &str) -> Value {
    let cost = json!({ "amount": amount, "currency": "USD" });
    json!({ "unit": unit, "credits": credits, "per": per, "cost": cost })
}

#[test]
fn m02_each_class_gets_its_rate_with_the_markup() {
    let models: Vec<Value> = serde_json::from_str(&import().models_json()).unwrap();
    let rates = |name: &str| models.iter().find(|model| model["model"] == name).unwrap()["rates"].clone();
    let north = json!([
        rate("input_tokens", "21", 1_000_000, "0.15"),
        rate("output_tokens", "84", 1_000_000, "0.6"),
        rate("cached_input_tokens", "2.1", 1_000_000, "0.015"),
        rate("cache_write_tokens", "26.25", 1_000_000, "0.1875"),
        rate("reasoning_tokens", "98", 1_000_000, "0.7"),
        rate("audio_input_tokens", "1400", 1_000_000, "10"),
        rate("audio_output_tokens", "2800", 1_000_000, "20"),
    ]);
    assert_eq!(rates("north-2"), north);
    assert_eq!(rates("painter-1"), json!([rate("images", "5.6", 1, "0.04")]));
    assert_eq!(rates("listener-1"), json!([rate("seconds", "0.014", 1, "0.0001")]));
    assert_eq!(rates("speaker-1"), json!([rate("characters", "2100", 1_000_000, "15")]));
    let free = [rate("input_tokens", "0", 1_000_000, "0"), rate("output_tokens", "0", 1_000_000, "0")];
    assert_eq!(rates("free-1"), json!(free));
    assert_eq!((models.len(), &models[0]["multiplier"]), (6, &json!("1")));
}

/// Providers charge reasoning as output, and a call that states it must not get the operation's rate.
#[test]
fn reasoning_without_a_cost_costs_as_much_as_output() {
    let models: Vec<Value> = serde_json::from_str(&import().models_json()).unwrap();
    let thinker = models.iter().find(|model| model["model"] == "thinker-1").unwrap();
    let expected = json!([
        rate("output_tokens", "140", 1_000_000, "1"),
        rate("reasoning_tokens", "140", 1_000_000, "1")
    ]);
    assert_eq!(thinker["rates"], expected);
}

#[test]
fn report_names_each_field_and_model_that_is_not_imported() {
    insta::assert_snapshot!(import().report(), @r#"
    north-2: not imported: input_cost_per_token_above_200k_tokens, search_context_cost_per_query
    painter-1: not imported: input_cost_per_image
    dear-1: skipped: its cost of images comes to a rate above 1000000 credits
    fine-1: skipped: its cost of input_tokens is above 0, but comes to a rate that rounds to 0 credits
    guard-1: skipped: it has no cost of a unit that can be imported
    list-1: skipped: its entry is not an object
    long-1: skipped: input_cost_per_token is 1e-40, which has too many digits
    negative-1: skipped: input_cost_per_token is -1e-06, and must not be negative
    north/other: skipped: its name must be 1 to 64 characters of A-Z, a-z, 0-9, _, - and .
    ranker-1: skipped: it has no cost of a unit that can be imported, but costs input_cost_per_query
    text-1: skipped: input_cost_per_token is "NaN", and must be a number
    imported 6 models, skipped 9
    "#);
}

#[test]
fn shipped_catalogue_with_the_imported_models_prices_a_call() {
    let mut file: Value = serde_json::from_str(include_str!("../../../../catalogue.json")).unwrap();
    file["rate_card"]["models"] = serde_json::from_str(&import().models_json()).unwrap();
    let catalogue = Catalogue::parse(&file.to_string()).unwrap();
    let card = catalogue.rate_cards().iter().next().unwrap();
    let name = |text: &str| text.parse::<Name>().unwrap();
    let (operation, model) = (name("record.enrich"), name("north-2"));
    let rates = Prices { card, own: None }.rates(&operation, Some(&model)).unwrap();
    let counts = [("input_tokens", 1_000), ("cached_input_tokens", 4_000), ("output_tokens", 500)];
    let units: Units = counts.into_iter().map(|(unit, count)| (name(unit), count)).collect();
    // 1000 × 21 + 4000 × 2.1 + 500 × 84 millionths.
    assert_eq!(rates.price(&units).unwrap().to_string(), "0.0714");
}

#[test]
fn list_that_is_no_object_is_refused_with_its_line() {
    let conversion = Conversion { markup: "1".parse().unwrap(), credit: "1".parse().unwrap() };
    for (list, line) in [("[]", 1), ("{\n\"a\": { \"input_cost_per_token\": NaN }\n}", 2)] {
        assert_eq!(PriceImport::of(list, conversion).unwrap_err().line(), line, "{list}");
    }
    assert!(PriceImport::of("{}", conversion).unwrap().is_empty());
}
