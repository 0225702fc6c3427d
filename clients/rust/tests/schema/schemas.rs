//! Selects the schemas of the types that the client offers, and rewrites them as typify needs them.

use serde_json::{Map, Value, json};

/// The types that the client offers. Those of their fields follow.
const OFFERED: [&str; 23] = [
    "Balance",
    "Batch",
    "Capture",
    "Catalogue",
    "Debit",
    "DebitOrder",
    "DebitRefund",
    "DebitRefundReason",
    "History",
    "Hold",
    "HoldOrder",
    "Holds",
    "Ledger",
    "Profile",
    "Quote",
    "Run",
    "Runs",
    "SettleOrder",
    "StartedRun",
    "TopUp",
    "TopUpStatus",
    "Usage",
    "Workspace",
];

/// Names of types: in place of a schema's, or for the type of a field, or for the type of a list's items.
const NAMES: [(&str, &str); 27] = [
    ("Balance.forecast[]", "Forecast"),
    ("Balance.forecast[].status", "ForecastStatus"),
    ("Balance.grants[]", "ExpiringGrant"),
    ("Balance.grants[].kind", "ExpiringGrantKind"),
    ("Batch.lines[]", "BatchLine"),
    ("Catalogue.packs[]", "Pack"),
    ("Catalogue.plans[]", "PlanTerms"),
    ("Catalogue.tiers[]", "Tier"),
    ("ClawBackEntry.reason", "ClawBackReason"),
    ("ClawBackReversedEntry.reason", "ClawBackReason"),
    ("DebitEntry.refunded", "Refunded"),
    ("GrantEntry.grant_kind", "GrantKind"),
    ("History.months[]", "HistoryMonth"),
    ("History.recommendation.alternatives[]", "Alternative"),
    ("History.recommendation.months[]", "RecommendedMonth"),
    ("LineMetadata[]", "LineMetadata"),
    ("PackMix[]", "PackCount"),
    ("Profile", "WorkspaceProfile"),
    ("RefundedLines[]", "RefundedLine"),
    ("Run.status", "RunStatus"),
    ("Run.trigger", "Trigger"),
    ("SettleOrder.overrun", "Overrun"),
    ("StartedRun.allowance", "Allowance"),
    ("TopUpStatus.status", "TopUpState"),
    ("Usage.groups[]", "UsageGroup"),
    ("Usage.other", "UsageOther"),
    ("Workspace", "WorkspaceDetails"),
];

/// The texts that are decimals.
const DECIMALS: [&str; 3] = ["Amount", "Credits", "Limit"];

/// The fields that all ledger entries have.
const COMMON: [&str; 3] = ["entry_id", "credits", "at"];

struct Selection<'a> {
    schemas: &'a Map<String, Value>,
    definitions: Map<String, Value>,
}

/// Returns a schema whose definitions are those of the types.
pub(crate) fn of(description: &Value) -> Value {
    let schemas = description["components"]["schemas"].as_object().unwrap();
    let definitions = Map::from_iter([("Decimal".to_owned(), json!({ "type": "string" }))]);
    let mut selection = Selection { schemas, definitions };
    for name in OFFERED {
        selection.referenced(name);
    }
    json!({ "definitions": selection.definitions })
}

impl Selection<'_> {
    /// Returns what stands for a reference: one to a type, which is defined with it, or a text, number, list or map.
    fn referenced(&mut self, schema: &str) -> Value {
        // Requests may have null in place of an absent field. They are written without.
        let schema = schema.strip_suffix("Asked").unwrap_or(schema);
        if DECIMALS.contains(&schema) {
            return reference("Decimal");
        }
        let body = &self.schemas[schema];
        if body["type"] == "string" && body["enum"].is_null() {
            return json!({ "type": "string" });
        }
        if ["properties", "enum", "oneOf"].iter().all(|key| body[key].is_null()) {
            return self.shape(body, schema);
        }
        let name = name_of(schema).unwrap_or(schema);
        if !self.definitions.contains_key(name) {
            self.definitions.insert(name.to_owned(), Value::Null);
            let definition = self.definition(schema);
            self.definitions.insert(name.to_owned(), definition);
        }
        reference(name)
    }

    /// Returns the type of a schema with a name.
    fn definition(&mut self, schema: &str) -> Value {
        let body = &self.schemas[schema];
        let definition = match body["oneOf"].as_array() {
            Some(members) => {
                let names = members.iter().map(target);
                let members: Vec<_> = names.map(|name| self.shape(&self.schemas[name], name)).collect();
                let union = if body["discriminator"].is_object() {
                    json!({ "oneOf": members })
                } else {
                    merged(&members)
                };
                described(union, body)
            }
            None => self.shape(body, schema),
        };
        match schema {
            "LedgerEntry" => self.split_entry(definition),
            "StartedRun" => self.split_run(definition),
            _ => definition,
        }
    }

    /// Gives the fields that all entries have to a struct, and leaves the others to the enum of its `details`.
    fn split_entry(&mut self, mut entry: Value) -> Value {
        let mut common = json!({ "type": "object", "properties": {}, "required": COMMON });
        for member in entry["oneOf"].as_array_mut().unwrap() {
            for name in COMMON {
                common["properties"][name] = remove(member, name);
            }
        }
        let common = described(common, &entry);
        self.definitions.insert("LedgerEntryDetails".to_owned(), entry);
        with(common, "details", "LedgerEntryDetails")
    }

    /// Gives the fields of a run to a field `run`.
    fn split_run(&mut self, mut started: Value) -> Value {
        let run = self.schemas["Run"]["properties"].as_object().unwrap();
        run.keys().for_each(|name| drop(remove(&mut started, name)));
        with(started, "run", "Run")
    }

    /// Returns a schema with only what decides about its type and documents it.
    fn shape(&mut self, schema: &Value, path: &str) -> Value {
        let mut shape = Map::new();
        for (key, value) in schema.as_object().unwrap() {
            let (key, kept) = match key.as_str() {
                "type" | "description" | "required" => (key.as_str(), value.clone()),
                // Numbers may get other values without notice.
                "enum" if value[0].is_string() => ("enum", value.clone()),
                "const" if path.rsplit('.').next() == Some("kind") => ("enum", json!([value])),
                "items" => ("items", self.simplified(value, &format!("{path}[]"))),
                "additionalProperties" if value.is_object() => (key.as_str(), self.simplified(value, path)),
                "anyOf" => {
                    let choices = value.as_array().unwrap().iter();
                    ("anyOf", choices.map(|choice| self.simplified(choice, path)).collect())
                }
                "properties" => ("properties", self.fields(schema, path)),
                _ => continue,
            };
            shape.insert(key.to_owned(), kept);
        }
        if schema["type"] == "integer" || schema["type"][0] == "integer" {
            // All numbers are counts, indexes and sizes.
            shape.insert("minimum".to_owned(), json!(0));
        }
        Value::Object(shape)
    }

    /// Returns the fields of an object. One that may be absent is not null either.
    fn fields(&mut self, object: &Value, path: &str) -> Value {
        let required = object["required"].as_array().cloned().unwrap_or_default();
        let fields = object["properties"].as_object().unwrap().iter().map(|(name, field)| {
            let field = self.simplified(field, &format!("{path}.{name}"));
            let is_required = required.iter().any(|required| required == name);
            (name.clone(), if is_required { field } else { without_null(field) })
        });
        fields.collect()
    }

    /// Returns the type of a field, a list's items or a choice.
    fn simplified(&mut self, schema: &Value, path: &str) -> Value {
        if schema["$ref"].is_string() {
            return described(self.referenced(target(schema)), schema);
        }
        let shape = self.shape(schema, path);
        // A choice between a type and null does not have the type's name.
        let null = json!({ "type": "null" });
        let is_choice =
            *schema == null || schema["anyOf"].as_array().is_some_and(|choices| choices.contains(&null));
        let Some(name) = name_of(path).filter(|_| !is_choice) else { return shape };
        self.definitions.insert(name.to_owned(), without_null(shape));
        reference(name)
    }
}

/// Returns one type for orders that differ in whether the rate card or the caller prices them.
fn merged(orders: &[Value]) -> Value {
    let mut merged = orders[0].clone();
    for order in &orders[1..] {
        for (name, field) in order["properties"].as_object().unwrap() {
            merged["properties"][name] = field.clone();
        }
        let required = order["required"].as_array().unwrap();
        merged["required"].as_array_mut().unwrap().retain(|name| required.contains(name));
    }
    merged
}

/// Removes the null that stands for an absent field.
fn without_null(mut field: Value) -> Value {
    let null = [json!("null"), json!({ "type": "null" }), Value::Null];
    for key in ["type", "anyOf", "enum"] {
        let Some(choices) = field[key].as_array_mut() else { continue };
        choices.retain(|choice| !null.contains(choice));
        if key == "anyOf" && choices.len() == 1 {
            let only = choices.remove(0);
            field = described(only, &field);
        }
    }
    field
}

/// Returns an object with a required field.
fn with(mut object: Value, field: &str, name: &str) -> Value {
    object["properties"][field] = reference(name);
    object["required"].as_array_mut().unwrap().push(json!(field));
    object
}

/// Removes a required field from an object, and returns it.
fn remove(object: &mut Value, field: &str) -> Value {
    object["required"].as_array_mut().unwrap().retain(|name| name != field);
    object["properties"].as_object_mut().unwrap().remove(field).unwrap()
}

/// Returns a schema with the description of another one.
fn described(mut schema: Value, by: &Value) -> Value {
    if let Some(description) = by.get("description") {
        schema["description"] = description.clone();
    }
    schema
}

/// Returns the name of the schema that a reference means.
fn target(reference: &Value) -> &str {
    reference["$ref"].as_str().unwrap().rsplit('/').next().unwrap()
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/definitions/{name}") })
}

fn name_of(path: &str) -> Option<&'static str> {
    NAMES.iter().find(|(schema, _)| *schema == path).map(|(_, name)| *name)
}
