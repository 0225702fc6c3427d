//! Usage: breakdowns, history, right-sizing and the forecast, as the settings page requests them.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{World, answer, micros};

impl World {
    /// Reads the running month's usage by group: key → (credits, count).
    pub async fn usage_by(&self, workspace: &str, group_by: &str) -> BTreeMap<String, (String, u64)> {
        let usage = self.get(&format!("/v1/workspaces/{workspace}/usage?group_by={group_by}")).await;
        assert_eq!(usage["next_cursor"], Value::Null);
        let group = |group: &Value| {
            let key = group["key"].as_str().unwrap_or("null").to_owned();
            (key, (group["credits"].as_str().unwrap().to_owned(), group["count"].as_u64().unwrap()))
        };
        usage["groups"].as_array().unwrap().iter().map(group).collect()
    }

    async fn refused_fields(&self, path: &str) -> Vec<String> {
        let refused = self.call(Method::GET, path, None, None).await;
        refused.fields().into_iter().map(str::to_owned).collect()
    }
}

pub fn step(workflow: &str, credits: &str) -> Value {
    let consumer = json!({ "kind": "workflow_step", "workflow_id": workflow, "run_id": "r", "step_id": "s" });
    json!({ "operation": "text.extract", "credits": credits, "consumer": consumer })
}

fn bulk(feature: &str, user: Option<&str>, credits: &str) -> Value {
    let mut consumer = json!({ "kind": "bulk", "job_id": "j", "feature": feature });
    if let Some(user) = user {
        consumer["user_id"] = json!(user);
    }
    json!({ "operation": "record.enrich", "credits": credits, "consumer": consumer })
}

fn groups(of: &[(&str, &str, u64)]) -> BTreeMap<String, (String, u64)> {
    of.iter().map(|(key, credits, count)| ((*key).to_owned(), ((*credits).to_owned(), *count))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn m09_usage_is_grouped_by_each_dimension() {
    let world = World::with_packs(1).await;
    for (key, debit) in [
        ("a", step("onboarding", "1.5")),
        ("b", step("onboarding", "2")),
        ("c", step("scoring", "0.25")),
        ("d", bulk("enrich", Some("bob"), "10")),
        ("e", bulk("enrich", None, "5")),
    ] {
        assert_eq!(world.debit("acme", key, &debit).await.status, 201);
        // A replay is not counted.
        assert_eq!(world.debit("acme", key, &debit).await.status, 200);
    }
    assert_eq!(world.take("acme", "f", "0.000001").await.status, 201);
    world.drain().await;

    let wanted = [
        ("workflow", groups(&[("onboarding", "3.5", 2), ("scoring", "0.25", 1), ("null", "15.000001", 3)])),
        ("feature", groups(&[("enrich", "15", 2), ("assistant", "0.000001", 1), ("null", "3.75", 3)])),
        (
            "operation",
            groups(&[
                ("text.extract", "3.75", 3),
                ("record.enrich", "15", 2),
                ("text.generate", "0.000001", 1),
            ]),
        ),
        ("consumer", groups(&[("workflow_step", "3.75", 3), ("bulk", "15", 2), ("action", "0.000001", 1)])),
        ("user", groups(&[("bob", "10", 1), ("ada", "0.000001", 1), ("null", "8.75", 4)])),
    ];
    for (group_by, wanted) in wanted {
        assert_eq!(world.usage_by("acme", group_by).await, wanted, "{group_by}");
    }
    let days = world.usage_by("acme", "day").await;
    assert_eq!(days.into_values().collect::<Vec<_>>(), [("18.750001".to_owned(), 6)]);
    let usage = world.get("/v1/workspaces/acme/usage").await;
    assert_eq!((&usage["total"], &usage["group_by"]), (&json!("18.750001"), &json!("workflow")));
    let keys: Vec<&Value> = usage["groups"].as_array().unwrap().iter().map(|group| &group["key"]).collect();
    assert_eq!(keys, [&Value::Null, &json!("onboarding"), &json!("scoring")], "largest first");
}

#[tokio::test(flavor = "multi_thread")]
async fn m03_the_running_months_total_includes_every_debit() {
    let world = World::with_packs(1).await;
    for debit in 1..=5 {
        world.take("acme", &debit.to_string(), "2.5").await;
        let total = world.get("/v1/workspaces/acme/usage").await["total"].clone();
        assert_eq!(micros([&total]), 2_500_000 * debit);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_are_listed_in_pages_with_the_rest_as_other() {
    let world = World::with_packs(1).await;
    for workflow in 0..23 {
        let credits = format!("{}", 1 + workflow % 7);
        let debit = step(&format!("wf-{workflow:02}"), &credits);
        world.debit("acme", &format!("k{workflow}"), &debit).await;
    }
    world.take("acme", "none", "4").await;
    world.drain().await;
    let whole = world.get("/v1/workspaces/acme/usage?limit=1000").await;
    assert_eq!((whole["groups"].as_array().unwrap().len(), &whole["other"]), (24, &Value::Null));
    let credits: Vec<i128> =
        whole["groups"].as_array().unwrap().iter().map(|group| micros([&group["credits"]])).collect();
    assert!(credits.is_sorted_by(|a, b| a >= b), "{credits:?}");
    for limit in [1, 5, 12, 24] {
        let (mut joined, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/workspaces/acme/usage?limit={limit}{cursor}");
            let page = world.get(&path).await;
            joined.extend(page["groups"].as_array().unwrap().iter().cloned());
            let Some(next) = page["next_cursor"].as_str() else {
                assert_eq!(page["other"], Value::Null);
                break;
            };
            let shown = micros(joined.iter().map(|group| &group["credits"]));
            assert_eq!(shown + micros([&page["other"]["credits"]]), micros([&page["total"]]));
            assert_eq!(joined.len() as u64 + page["other"]["count"].as_u64().unwrap(), 24);
            cursor = format!("&cursor={next}");
        }
        assert_eq!(&joined, whole["groups"].as_array().unwrap(), "limit {limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_queries_are_refused_by_field() {
    let world = World::with_packs(1).await;
    world.put_workspace("other").await;
    for debit in 0..3 {
        world.debit("acme", &debit.to_string(), &step(&format!("wf{debit}"), "1")).await;
        world.debit("other", &debit.to_string(), &step(&format!("wf{debit}"), "1")).await;
    }
    world.drain().await;
    for (query, fields) in [
        ("month=2026-13", vec!["month"]),
        ("month=0000-01", vec!["month"]),
        ("month=2026-1", vec!["month"]),
        ("month=soon", vec!["month"]),
        ("month=2999-01", vec!["month"]),
        ("group_by=mood", vec!["group_by"]),
        ("cursor=abc&limit=0", vec!["limit"]),
        ("limit=1000000000", vec!["limit"]),
        ("limit=-1", vec!["limit"]),
        ("limit=%2B5", vec!["limit"]),
        ("group_by=&page=2", vec!["group_by", "page"]),
    ] {
        assert_eq!(
            world.refused_fields(&format!("/v1/workspaces/acme/usage?{query}")).await,
            fields,
            "{query}"
        );
    }
    for query in ["months=0", "months=25", "months=x", "months=1000000000"] {
        let refused = world.refused_fields(&format!("/v1/workspaces/acme/usage/history?{query}")).await;
        assert_eq!(refused, ["months"]);
    }
    for query in ["limit=0", "limit=1000000000", "limit=1001"] {
        assert_eq!(world.refused_fields(&format!("/v1/workspaces/acme/ledger?{query}")).await, ["limit"]);
    }
    // A cursor is valid only for the query that returned it.
    let usage =
        world.get("/v1/workspaces/acme/usage?limit=1").await["next_cursor"].as_str().unwrap().to_owned();
    let ledger =
        world.get("/v1/workspaces/acme/ledger?limit=1").await["next_cursor"].as_str().unwrap().to_owned();
    let altered = format!("{}{}", &usage[..usage.len() - 2], if usage.ends_with("AA") { "BB" } else { "AA" });
    for path in [
        format!("other/usage?cursor={usage}"),
        format!("acme/usage?cursor={usage}&group_by=feature"),
        format!("acme/usage?cursor={usage}&month=2026-01"),
        format!("acme/usage?cursor={altered}"),
        format!("acme/usage?cursor={ledger}"),
        format!("acme/ledger?cursor={usage}"),
        format!("other/ledger?cursor={ledger}"),
        format!("acme/runs?cursor={ledger}"),
    ] {
        assert_eq!(world.refused_fields(&format!("/v1/workspaces/{path}")).await, ["cursor"], "{path}");
    }
    assert_eq!(world.call(Method::GET, "/v1/workspaces/ghost/usage", None, None).await.status, 404);
    assert_eq!(world.call(Method::GET, "/v1/workspaces/ghost/usage/history", None, None).await.status, 404);
    let token = world.token("acme", "credits:spend").await;
    let denied = world.bare(Method::GET, "/v1/workspaces/acme/usage").bearer_auth(&token);
    assert_eq!(answer(denied).await.body["code"], "scope_missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_as_csv_has_no_formulas() {
    let world = World::with_packs(1).await;
    for (key, workflow) in [("a", "-cmd"), ("b", "report"), ("c", "--x")] {
        world.debit("acme", key, &step(workflow, "1.25")).await;
    }
    let grant =
        json!({ "credits": "5", "kind": "prepaid", "reason": "=HYPERLINK(\"http://x\"), \"quoted\"" });
    world.call(Method::POST, "/v1/workspaces/acme/grants", Some("g"), Some(&grant)).await;
    let token = world.token("acme", "credits:read").await;
    let mut path = "/v1/workspaces/acme/ledger?limit=2".to_owned();
    let (mut lines, mut pages) = (Vec::new(), 0);
    loop {
        let request = world.bare(Method::GET, &path).bearer_auth(&token).header("accept", "text/csv");
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8");
        assert!(response.headers()["content-disposition"].to_str().unwrap().contains("ledger-acme.csv"));
        let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        let text = response.text().await.unwrap();
        lines.extend(text.split("\r\n").skip(1).filter(|line| !line.is_empty()).map(str::to_owned));
        pages += 1;
        let Some(link) = link else { break };
        let (next, rel) = link.split_once(">; ").unwrap();
        assert_eq!(rel, "rel=\"next\"");
        next.strip_prefix('<').unwrap().clone_into(&mut path);
    }
    assert_eq!((lines.len(), pages), (5, 3));
    let all = lines.join("\n");
    assert!(all.contains(",\"'=HYPERLINK(\"\"http://x\"\"), \"\"quoted\"\"\""), "{all}");
    assert!(all.contains(",'-cmd,") && all.contains(",'--x,") && all.contains(",-1.25,"), "{all}");
    for (accept, media_type) in [
        ("TEXT/CSV", "text/csv; charset=utf-8"),
        ("text/csv;q=0.9, application/json;q=0.8", "text/csv; charset=utf-8"),
        ("text/csv;q=0, application/json", "application/json"),
        ("text/csv; header=present; q=0.5, */*", "application/json"),
    ] {
        let request = world.bare(Method::GET, "/v1/workspaces/acme/ledger").bearer_auth(&token);
        let response = request.header("accept", accept).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], media_type, "{accept}");
    }
    let too_many = world.bare(Method::GET, "/v1/workspaces/acme/ledger?limit=10001").bearer_auth(&token);
    assert_eq!(answer(too_many.header("accept", "text/csv")).await.fields(), ["limit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m17_history_lists_each_month_and_the_cheapest_choice() {
    let world = World::new().await;
    let body = json!({ "name": "Acme", "plan": "team", "billing_email": "billing@acme.example" });
    world.call(Method::PUT, "/v1/workspaces/acme", None, Some(&body)).await;
    let first = world.get("/v1/workspaces/acme/usage/history").await;
    assert_eq!((first["months"].as_array().unwrap().len(), &first["recommendation"]), (1, &Value::Null));
    assert!(first["note"].as_str().unwrap().contains("too early"), "{first}");

    // Three months need 1,500 credits each. Packs cover the first two. The third has too few credits and refuses.
    let mut months = Vec::new();
    for month in 0..3 {
        for pack in 0..2 {
            if month < 2 {
                world.buy("acme", "pack_1k", &format!("pack-{month}-{pack}")).await;
            }
        }
        months.push(world.get("/v1/workspaces/acme/usage").await["month"].as_str().unwrap().to_owned());
        let taken = world.take("acme", &format!("use-{month}"), "1500").await;
        assert_eq!(taken.status, if month < 2 { 201 } else { 402 });
        if month == 2 {
            let start = json!({ "workflow_id": "report", "trigger": "event" });
            let run =
                world.call(Method::POST, "/v1/workspaces/acme/runs", Some("run"), Some(&start)).await.body;
            let mut step = step("report", "1500");
            step["consumer"]["run_id"] = run["run_id"].clone();
            assert_eq!(world.debit("acme", "blocked", &step).await.status, 402);
        }
        world.advance(31 * 86_400).await;
    }
    world.drain().await;
    let history = world.get("/v1/workspaces/acme/usage/history?months=24").await;
    let found: BTreeMap<&str, &Value> = history["months"]
        .as_array()
        .unwrap()
        .iter()
        .map(|month| (month["month"].as_str().unwrap(), month))
        .collect();
    assert!(history["months"][0]["month"].as_str() > history["months"][1]["month"].as_str(), "newest first");
    for (place, month) in months.iter().enumerate() {
        let of = found[month.as_str()];
        let (consumed, topped_up, blocked) = if place < 2 { ("1500", "2000", 0) } else { ("0", "0", 1) };
        assert_eq!(
            (&of["consumed"], &of["topped_up"], &of["blocked"]),
            (&json!(consumed), &json!(topped_up), &json!(blocked)),
            "{of}"
        );
    }
    let running = world.get("/v1/workspaces/acme/usage/history?months=1").await;
    assert!(running["note"].as_str().unwrap().contains("two months or more"), "{running}");
    let recommendation = &history["recommendation"];
    // 4,500 credits were needed, those of refused steps included. Of the tiers and packs, one pack_5k is the cheapest.
    assert_eq!(recommendation["paid"], json!({ "amount": 4000, "currency": "USD" }), "{history}");
    let needed = micros(recommendation["months"].as_array().unwrap().iter().map(|month| &month["needed"]));
    assert_eq!(needed, 4_500_000_000);
    assert_eq!(recommendation["pack"], "pack_5k");
    assert_eq!(recommendation["price"], json!({ "amount": 4500, "currency": "USD" }));
    assert_eq!(recommendation["mix"], json!([{ "pack": "pack_5k", "credits": "5000", "count": 1 }]));
    let reason = recommendation["reason"].as_str().unwrap();
    let said = "months that have ended the workspace needed 4500 credits, those of refused steps included. 5000 credits \
                once would have covered all of it for USD 45.00; USD 40.00 was paid. That is USD 5.00 above what was paid, \
                because 500 credits were of steps that were refused and not charged.";
    assert!(reason.ends_with(said), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn m03_the_balance_forecasts_the_day_on_which_credits_run_out() {
    let world = World::with_packs(1).await;
    assert_eq!(world.balance("acme").await["forecast"], json!([]), "no whole day has passed");
    for day in 0..4 {
        world.take("acme", &day.to_string(), "100").await;
        world.advance(86_400).await;
    }
    world.drain().await;
    let forecast = world.balance("acme").await["forecast"].clone();
    assert_eq!(forecast[0]["credits_per_day"], "100", "{forecast}");
    assert_eq!((&forecast[0]["days"], &forecast[1]["days"]), (&json!(7), &json!(28)));
    let as_of: jiff::Timestamp = world.balance("acme").await["as_of"].as_str().unwrap().parse().unwrap();
    let runs_out: jiff::civil::Date = forecast[0]["runs_out_on"].as_str().unwrap().parse().unwrap();
    assert_eq!((runs_out - as_of.to_zoned(jiff::tz::TimeZone::UTC).date()).get_days(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn m03_at_zero_the_forecast_says_out_of_credits() {
    let world = World::with_packs(1).await;
    world.take("acme", "all", "1000").await;
    for _ in 0..2 {
        world.advance(30 * 86_400).await;
        world.drain().await;
        let forecast = world.balance("acme").await["forecast"].clone();
        for pace in forecast.as_array().unwrap() {
            let said = (&pace["status"], &pace["runs_out_on"]);
            assert_eq!(said, (&json!("out_of_credits"), &Value::Null), "whatever the pace: {forecast}");
        }
        assert_eq!(forecast.as_array().unwrap().len(), 2);
    }
    world.buy("acme", "pack_1k", "more").await;
    assert_eq!(world.balance("acme").await["forecast"][0]["status"], "lasts");
}

/// A commitment is granted again each month, so its credits do not run out at the month's end.
#[tokio::test(flavor = "multi_thread")]
async fn m08_the_forecast_includes_the_next_months_commitment() {
    let world = crate::enterprise::enterprise().await;
    world.next_month().await;
    let committed = json!({ "credit_limit": "0", "invoicing": null,
        "commitment": { "monthly_credits": "900", "price": { "amount": 100, "currency": "USD" } } });
    world.agree(&committed).await;
    assert_eq!(world.use_of("a", "text.generate", "20").await, 201);
    world.advance(86_400).await;
    world.drain().await;
    assert_eq!(world.balance("acme").await["forecast"][0]["status"], "lasts");
}
