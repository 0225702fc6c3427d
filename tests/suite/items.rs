//! Stored items keep the names of their attributes, since older items are in the table for good.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::types::AttributeValue;
use model::items::{TableItem, every_item, text};
use reqwest::Method;
use serde_json::json;

use crate::events::every_event_occurred;
use crate::world::World;

/// The width of a line of the snapshot.
const MAX_WIDTH: usize = 90;

/// Returns the kind of an item: the beginning of its key, and its sort key if that is a word.
fn kind_of(item: &TableItem) -> String {
    let (pk, sk) = (text(item, "pk"), text(item, "sk"));
    let prefix = pk.split('#').next().unwrap_or_default();
    let word = sk.split('#').next().unwrap_or_default();
    let is_word = !word.is_empty() && word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
    if is_word && word != prefix { format!("{prefix} {word}") } else { prefix.to_owned() }
}

/// Adds the paths of a value's members. Ids, months, words and other names that are not ours are written as `*`.
fn add_paths(value: &AttributeValue, path: &str, paths: &mut BTreeSet<String>) {
    match value {
        AttributeValue::M(members) => {
            let are_ours = ![
                "words",
                "closed",
                "operations",
                "breakdowns.consumer",
                "day",
                "none",
                "operation",
                "feature",
                "user",
            ]
            .iter()
            .any(|of_others| path.ends_with(of_others));
            for (name, member) in members {
                let name = if are_ours { shown(name) } else { "*" };
                add_paths(member, &format!("{path}.{name}"), paths);
            }
        }
        AttributeValue::L(values) => {
            for member in values {
                add_paths(member, &format!("{path}[]"), paths);
            }
        }
        _ => {
            paths.insert(path.to_owned());
        }
    }
}

/// Returns a name of ours, or `*` for an id or a month.
fn shown(name: &str) -> &str {
    if name.chars().any(|letter| letter.is_ascii_digit()) { "*" } else { name }
}

/// Breaks the paths of a kind of items into lines.
fn in_lines(kind: &str, paths: &BTreeSet<String>) -> String {
    let mut text = format!("{kind}:");
    let mut width = MAX_WIDTH;
    for path in paths {
        width += path.len() + 1;
        if width > MAX_WIDTH {
            text.push_str("\n   ");
            width = path.len();
        }
        text.push(' ');
        text.push_str(path);
    }
    text
}

/// Makes the items that no event needs: calls, holds, runs, a void and a resolved payment.
async fn make_the_rest(world: &World) {
    let grant = json!({ "credits": "5000", "kind": "promotional", "expires_at": "2099-01-01T00:00:00Z",
        "reason": "launch" });
    let granted = world.call(Method::POST, "/v1/workspaces/acme/grants", Some("grant"), Some(&grant)).await;
    assert_eq!(granted.status, 201, "{}", granted.body);
    let consumer = json!({ "kind": "bulk", "job_id": "job", "feature": "search", "user_id": "ada" });
    let priced = json!({ "operation": "text.generate", "model": "large", "consumer": consumer,
        "units": { "input_tokens": 1_200, "output_tokens": 800 } });
    assert_eq!(world.debit("acme", "priced", &priced).await.status, 201);
    // More features than the month's item takes.
    let mut lines = vec![priced.clone()];
    lines.extend((0..40).map(|feature| {
        let mut line = priced.clone();
        line["consumer"]["feature"] = json!(format!("feature-{feature}"));
        line["consumer"]["user_id"] = json!(format!("person-{feature}"));
        line
    }));
    let lines = json!({ "lines": lines });
    let path = "/v1/workspaces/acme/debits/batch";
    assert_eq!(world.call(Method::POST, path, Some("batch"), Some(&lines)).await.status, 201);
    let tagged = json!({ "operation": "text.generate", "units": { "cached_input_tokens": 5 }, "consumer": consumer,
        "metadata": { "team": "search" } });
    let tagged_batch =
        world.call(Method::POST, path, Some("tagged"), Some(&json!({ "lines": [tagged] }))).await;
    assert_eq!(tagged_batch.status, 201, "{}", tagged_batch.body);
    let debit = world.debit("acme", "refunded", &tagged).await.body;
    for debit in [&debit, &tagged_batch.body] {
        let path = format!("/v1/workspaces/acme/debits/{}/refund", debit["debit_id"].as_str().unwrap());
        let refund = json!({ "reason": "timeout", "note": "no answer" });
        let key = debit["debit_id"].as_str();
        assert_eq!(world.call(Method::POST, &path, key, Some(&refund)).await.status, 201);
    }
    let agreed = json!({ "multiplier": "0.9" });
    world.call(Method::PUT, "/v1/workspaces/acme/pricing", None, Some(&agreed)).await;
    world.debit("acme", "own", &priced).await;
    let hold = world.place("hold", "10").await;
    assert_eq!(world.capture(&hold, "capture", "1").await.status, 201);
    let settled = world.place("settled", "10").await;
    assert_eq!(world.settle(&settled, "settle", &json!({ "credits": "2" })).await.status, 200);
    let void = format!("/v1/workspaces/acme/grants/{}/void", granted.body["grant_id"].as_str().unwrap());
    let reason = json!({ "reason": "withdrawn" });
    assert_eq!(world.call(Method::POST, &void, Some("void"), Some(&reason)).await.status, 200);
    let resolution = json!({ "resolution": "granted", "note": "by hand" });
    let path = "/v1/unmatched-payments/pi_stray/resolve";
    assert_eq!(world.call(Method::POST, path, Some("resolve"), Some(&resolution)).await.status, 200);
    world.drain().await;
}

/// Returns the names of the attributes of each kind of item in the table.
async fn stored_names(world: &World) -> String {
    let mut kinds: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for item in every_item(&world.stack).await {
        let paths = kinds.entry(kind_of(&item)).or_default();
        for (name, value) in &item {
            add_paths(value, shown(name), paths);
        }
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, paths)| in_lines(kind, paths)).collect();
    kinds.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "the snapshot lists every attribute")]
async fn every_item_keeps_the_names_of_its_attributes() {
    let world = every_event_occurred().await;
    make_the_rest(&world).await;
    insta::assert_snapshot!(stored_names(&world).await, @r"
    agreement:
        index_pk index_sk pk sk standing.agreement.commitment standing.agreement.credit_limit
        standing.agreement.invoicing.currency standing.agreement.invoicing.price_per_credit_micros
        standing.committed_at standing.ends standing.grants standing.invoices standing.open
        version
    alerts:
        expiry.days[] expiry.enabled expiry.recipients[] low_balance.enabled
        low_balance.recipients[] low_balance.threshold low_balance.thresholds[].credits
        notices[].credits notices[].days notices[].expires_at pk sk version
    allowance runs:
        pk sk used
    auto_top_up:
        auto_top_up.bought.credits auto_top_up.bought.month auto_top_up.bought.top_ups
        auto_top_up.charge auto_top_up.charged_at[] auto_top_up.declines auto_top_up.gave_up
        auto_top_up.settings.enabled auto_top_up.settings.monthly_limit auto_top_up.settings.pack
        auto_top_up.settings.threshold auto_top_up.waits_until pk sk version
    balance:
        * added closed.*.dead closed.*.held credit_limit epoch expires_next held invoices_at last
        low_at low_further[] pk prepaid pricing sk spendable usage_marks used version
    card:
        chosen_at customer payment_method pk sk
    entry:
        credits detail.asked detail.consumer.feature detail.consumer.job_id detail.consumer.kind
        detail.consumer.user_id detail.debit_id detail.debited_at detail.expires_at
        detail.grant_id detail.grant_ids[] detail.grant_kind detail.hold_ids[] detail.kind
        detail.line_metadata[].line detail.line_metadata[].metadata.team detail.lines
        detail.metadata.team detail.model detail.month detail.note detail.operation
        detail.operations.* detail.pack detail.payment_id detail.period detail.pricing
        detail.pricing[] detail.rate_card detail.rate_cards[] detail.reason detail.refundable
        detail.refunded detail.refunded[].credits detail.refunded[].line
        detail.refunded[].operation detail.subscription_id detail.tier detail.top_up_id
        detail.uncollected detail.units.cached_input_tokens detail.units.input_tokens
        detail.units.output_tokens expires_at fingerprint hold_id index_pk index_sk limit
        lines.calls lines.consumers[] lines.models[] lines.operations[] lines.units[] pk
        purchase_id run.run_id run.started_at run.status run.trigger run.workflow_id sk unlisted
        used
    fact:
        pk role sk ttl
    failures:
        began_at index_pk index_sk pk sk spell_at ttl waiting workspace_id
    grant:
        granted index_pk index_sk pk sk term voided_under
    grant ended:
        clawed_consumed clawed_unused consumed pk sk
    grant running:
        epoch pk sk
    hold:
        captures[] credits end entry epoch expires_at index_pk index_sk pk pricing purpose
        remaining sk words.*
    invoice:
        invoice.invoice_id invoice.issued_at invoice.lines[].amount invoice.lines[].credits
        invoice.lines[].description invoice.month invoice.note invoice.number invoice.status
        invoice.total.amount invoice.total.currency pk sk version
    invoice_numbers last:
        last pk sk
    mail:
        claim claimed_until pk sent sk ttl
    paid:
        payment pk sk
    payment:
        amount_minor attempted.amount_minor attempted.currency attempted.named_purchase
        attempted.named_workspace attempted.status clawed claws credits currency customer
        first_heard_at grant_id granted_for_minor index_pk index_sk mismatch named_purchase
        named_workspace note paid_at payment_id payment_method pk purchase_id receipt_url
        refunds.by_id.*.amount_minor refunds.by_id.*.made_at refunds.by_id.*.status
        refunds.figure_at refunds.figure_minor refunds.latest_at resolution sale.credits
        sale.description sale.workspace_id sk source subtotal_minor version workspace_id
    prices:
        pk prices sk
    purchase:
        asks card.customer card.payment_method checkout_id checkout_url form.cancel_url
        form.customer form.email form.options.allow_promotion_codes form.options.automatic_tax
        form.options.tax_id_collection form.success_url paid_at paid_by pk purchase.begun_at
        purchase.goods.credits purchase.goods.goods purchase.goods.pack purchase.goods.period
        purchase.goods.subscription_id purchase.goods.terms.monthly_credits
        purchase.goods.terms.price.amount purchase.goods.terms.price.currency
        purchase.goods.terms.tier purchase.price.amount purchase.price.currency
        purchase.purchase_id purchase.workspace_id received_minor sk state
    resolution:
        index_pk index_sk pk sk
    run:
        balance_version detail.ended_at detail.failure.available detail.failure.code
        detail.failure.required detail.failure.step_id detail.run_id detail.started_at
        detail.status detail.trigger detail.workflow_id index_pk index_sk pk sk
    subscription:
        enrolment.action enrolment.charge enrolment.pending enrolment.purchases
        enrolment.subscription.anchor enrolment.subscription.before
        enrolment.subscription.cancel_at_period_end enrolment.subscription.declines.count
        enrolment.subscription.declines.first_at enrolment.subscription.declines.next_at
        enrolment.subscription.period enrolment.subscription.skipped enrolment.subscription.status
        enrolment.subscription.subscription_id enrolment.subscription.terms.monthly_credits
        enrolment.subscription.terms.price.amount enrolment.subscription.terms.price.currency
        enrolment.subscription.terms.tier enrolment.subscription.then
        enrolment.subscription.upgrades pk sk version
    usage:
        allocated blocked blocked_credits breakdowns.consumer.* breakdowns.day.*
        breakdowns.feature.* breakdowns.none.* breakdowns.operation.* breakdowns.user.*
        clawed_back consumed counted entries expired granted index_pk index_sk invoiced layout
        paid_USD pk refunded_USD sk topped_up uncollected voided
    usage feature:
        counted credits detail.count pk sk
    usage user:
        counted credits detail.count pk sk
    workspace profile:
        billing_email created_at name pk plan sk
    ");
}
