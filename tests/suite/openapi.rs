//! `infra/openapi.json` compared with the code: its routes, its refusals, and every answer to every test.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use credits_local::template::{DEPLOYED, Template};
use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::World;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../infra/openapi.json")).unwrap());

/// A request of a test, and its response.
pub struct Exchange<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub asked: Option<Value>,
    pub status: u16,
    pub media_type: &'a str,
    pub answered: &'a Value,
}

/// Checks that the document allows an exchange. Ignores paths outside the document.
pub fn check(exchange: &Exchange<'_>) {
    let Exchange { method, path, asked, status, media_type, answered } = exchange;
    let Some((template, operation)) = operation(method, path) else { return };
    let media_type = media_type.split(';').next().unwrap_or_default();
    let response = resolved(&operation["responses"][status.to_string()]);
    assert!(response.is_object(), "{method} {template} answers {status}, which is not described: {answered}");
    if *status == 304 {
        return;
    }
    let content = &response["content"][media_type];
    assert!(content.is_object(), "{method} {template} answers {status} as {media_type}: {answered}");
    if media_type.ends_with("json") {
        conforms(&format!("{method} {template} {status} {media_type}"), &content["schema"], answered);
    }
    if let Some(asked) = asked.as_ref().filter(|_| *status < 300) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        conforms(&format!("{method} {template}"), schema, asked);
    }
}

fn conforms(name: &str, schema: &Value, value: &Value) {
    static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    let known = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
    let validator = known.unwrap_or_else(|| {
        let mut whole = schema.clone();
        whole["components"] = DOCUMENT["components"].clone();
        let made = Arc::new(jsonschema::draft202012::new(&whole).unwrap());
        VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Arc::clone(&made));
        made
    });
    let errors: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{error} at {}", error.instance_path)).collect();
    assert!(errors.is_empty(), "{name}: {errors:#?} in {value:#}");
}

/// Finds the operation of a method and a path, and its path in the document.
fn operation(method: &str, path: &str) -> Option<(&'static str, &'static Value)> {
    let fits = |template: &str| {
        let (wanted, given): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        let same = |(wanted, given): (&&str, &&str)| wanted.starts_with('{') || wanted == given;
        wanted.len() == given.len() && wanted.iter().zip(&given).all(same)
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let found = paths
        .iter()
        .find(|(template, operations)| fits(template) && operations.get(method.to_lowercase()).is_some());
    found.map(|(template, operations)| (template.as_str(), &operations[method.to_lowercase()]))
}

fn resolved(value: &Value) -> &Value {
    match value["$ref"].as_str() {
        Some(reference) => DOCUMENT.pointer(reference.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

#[tokio::test]
async fn the_document_is_public_and_has_exactly_the_deployed_routes() {
    let world = World::new().await;
    let served = world.bare(Method::GET, "/v1/openapi.json").send().await.unwrap();
    let tag = served.headers()["etag"].clone();
    assert_eq!(served.json::<Value>().await.unwrap(), *DOCUMENT);
    let again = world.bare(Method::GET, "/v1/openapi.json").header("if-none-match", tag);
    assert_eq!(again.send().await.unwrap().status(), 304);

    let routes = Template::parse(DEPLOYED).unwrap().routes().unwrap();
    let deployed: BTreeSet<(String, bool)> =
        routes.into_iter().map(|route| (route.key, route.needs_token)).collect();
    let described: BTreeSet<(String, bool)> = DOCUMENT["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, operations)| operations.as_object().unwrap().iter().map(move |it| (path, it)))
        .map(|(path, (method, operation))| {
            let open = ["/v1/openapi.json", "/v1/webhooks/stripe"].contains(&path.as_str());
            assert_eq!(
                open,
                operation["security"][0].get("token").is_none() && operation["security"].is_array()
            );
            (format!("{} {path}", method.to_uppercase()), !open)
        })
        .collect();
    let pages = |key: &str| key.starts_with("GET /settings/");
    let deployed: BTreeSet<_> = deployed.into_iter().filter(|(key, _)| !pages(key)).collect();
    assert_eq!(described, deployed);
}

#[test]
fn the_docs_list_the_calls_of_the_document() {
    let mut table = vec!["| call | scope | what |".to_owned(), "| --- | --- | --- |".to_owned()];
    for (path, operations) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let security = &operation["security"];
            let scope = match (security[0]["token"][0].as_str(), security.as_array().map(Vec::is_empty)) {
                (Some(scope), _) => format!("`{scope}`"),
                (None, None) => "any token".to_owned(),
                (None, Some(true)) => "none".to_owned(),
                (None, Some(false)) => "a signature".to_owned(),
            };
            let described = operation["description"].as_str().unwrap_or_default();
            let all = if described.contains("all workspaces") { ", all workspaces" } else { "" };
            let (call, what) = (format!("{} {path}", method.to_uppercase()), operation["summary"].as_str());
            table.push(format!(
                "| `{}` | {scope}{all} | {} |",
                call.replace("workspace_id", "w"),
                what.unwrap()
            ));
        }
    }
    let table = table.join("\n");
    assert!(include_str!("../../docs/api.md").contains(&table), "docs/api.md must have this table:\n{table}");
}

#[test]
fn the_document_has_exactly_the_refusals_of_the_code() {
    let code = include_str!("../../shared/runtime/src/problem.rs");
    let quoted = |text: &str| text.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let made: BTreeSet<(String, String, String)> = code
        .split("Self::new(")
        .skip(1)
        .filter(|made| made.starts_with(|first: char| first.is_ascii_digit()))
        .map(|made| (made[..3].to_owned(), quoted(made)[0].clone(), quoted(made)[1].clone()))
        .collect();
    let described = DOCUMENT["components"]["examples"].as_object().unwrap().iter().map(|(code, example)| {
        let example = &example["value"];
        let text = |member: &str| example[member].as_str().unwrap().to_owned();
        assert_eq!(*code, text("code"));
        (example["status"].to_string(), code.clone(), text("title"))
    });
    assert_eq!(described.collect::<BTreeSet<_>>(), made);
}

#[test]
fn every_example_matches_its_schema() {
    let mut checked = 0;
    examples(&DOCUMENT, "#", &mut checked);
    assert!(checked > 60, "{checked}");
}

fn examples(value: &Value, at: &str, checked: &mut u32) {
    if let (Some(schema), Some(example)) = (value.get("schema"), value.get("example")) {
        conforms(at, schema, example);
        *checked += 1;
    }
    if let (Some(schema), Some(named)) = (value.get("schema"), value["examples"].as_object()) {
        for (name, example) in named {
            conforms(at, schema, &resolved(example)["value"]);
            assert!(!name.is_empty());
            *checked += 1;
        }
    }
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| examples(member, &format!("{at}/{name}"), checked));
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(item, value)| examples(value, &format!("{at}/{item}"), checked));
        }
        _ => {}
    }
}

#[test]
fn an_undocumented_field_fails_the_check() {
    let example = &DOCUMENT["paths"]["/v1/workspaces/{workspace_id}/balance"]["get"]["responses"]["200"];
    let mut balance = example["content"]["application/json"]["example"].clone();
    let exchange = |answered: &Value| {
        let path = "/v1/workspaces/acme/balance";
        check(&Exchange {
            method: "GET",
            path,
            asked: None,
            status: 200,
            media_type: "application/json",
            answered,
        });
    };
    exchange(&balance);
    balance["extra"] = json!(1);
    assert!(std::panic::catch_unwind(|| exchange(&balance)).is_err());
    balance.as_object_mut().unwrap().remove("extra");
    balance["available"] = json!("1.50");
    assert!(std::panic::catch_unwind(|| exchange(&balance)).is_err());
}

/// A call of the document: its method, its path template, and an example of its body.
pub struct Described {
    pub method: Method,
    pub path: String,
    pub body: Option<Value>,
}

/// Returns every call of the document.
pub fn calls() -> Vec<Described> {
    let paths = DOCUMENT["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, operations)| {
        operations.as_object().unwrap().iter().map(move |(method, operation)| (path, method, operation))
    });
    operations
        .map(|(path, method, operation)| {
            let content = &operation["requestBody"]["content"]["application/json"];
            let first = content["examples"].as_object().and_then(|named| named.values().next());
            let example = first.map(|example| &resolved(example)["value"]).or(content.get("example"));
            Described {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                body: example.cloned(),
            }
        })
        .collect()
}
