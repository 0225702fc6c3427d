//! The recorded examples of requests.

use serde_json::json;

use super::{Desk, INTENTS, SESSIONS, checkout};

#[test]
fn one_example_is_kept_of_each_kind_of_request() {
    let mut desk = Desk::new();
    for top_up in ["top_1", "top_2"] {
        let id = desk.open(&checkout(&[("client_reference_id", Some(top_up))]));
        desk.get(&format!("{SESSIONS}/{id}"));
    }
    desk.get(&format!("{INTENTS}?limit=3"));
    desk.get(&format!("{INTENTS}?limit=4"));
    desk.post(SESSIONS, &checkout(&[("mode", Some("setup"))]));
    let requests = desk.provider.requests();
    let mut shown: Vec<String> = requests
        .iter()
        .map(|request| {
            format!("{} {} {}", request.method, request.path.rsplit('/').next().unwrap(), request.status)
        })
        .collect();
    shown.sort();
    assert_eq!(shown.len(), 4, "{shown:?}");
    let listed = requests.iter().find(|request| request.path == INTENTS).unwrap();
    assert_eq!(
        json!(listed),
        json!({
            "method": "GET", "path": "/v1/payment_intents", "query": [["limit", "3"]], "form": [],
            "version": "2026-10-28.endive", "status": 200,
        })
    );
}
