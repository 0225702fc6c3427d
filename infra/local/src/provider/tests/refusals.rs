//! Requests that the stand-in refuses, as Stripe does.

use serde_json::json;

use super::super::ProviderRequest;
use super::{Desk, INTENTS, REFUNDS, SESSIONS, SETUP, asked, charge, checkout, error, form, header};

/// Changes of a form, and the code and the parameter of the resulting error.
type Case = (&'static [(&'static str, Option<&'static str>)], &'static str, &'static str);

#[test]
fn a_wrong_key_and_a_missing_key_are_401() {
    let mut desk = Desk::new();
    for authorization in [None, Some("Bearer sk_other"), Some("sk_test")] {
        let answered = desk.ask(&ProviderRequest { authorization, ..asked("GET", INTENTS, b"") });
        assert_eq!(answered.status, 401, "{authorization:?}");
        assert_eq!(answered.body["error"]["type"], "invalid_request_error");
    }
}

#[test]
fn a_version_that_is_missing_or_unknown_is_400() {
    let mut desk = Desk::new();
    for version in [None, Some("2026-10-29.endive"), Some("2019-12-03"), Some("")] {
        let answered = desk.ask(&ProviderRequest { version, ..asked("GET", INTENTS, b"") });
        assert_eq!(answered.status, 400, "{version:?}");
    }
    let answered = desk.ask(&ProviderRequest { version: Some("2020-08-27"), ..asked("GET", INTENTS, b"") });
    assert_eq!((answered.status, header(&answered, "stripe-version")), (200, Some("2020-08-27")));
    assert!(header(&answered, "request-id").unwrap().starts_with("req_"));
}

#[test]
fn an_operator_reads_without_a_version_and_creates_nothing() {
    let mut desk = Desk::new();
    let mut operator = |method, path| {
        let asked = ProviderRequest { version: None, ..asked(method, path, b"") };
        desk.provider.answer_operator(&asked, "https://pay.example").status
    };
    assert_eq!(operator("GET", INTENTS), 200);
    assert_eq!(operator("DELETE", "/v1/customers/cus_1"), 404);
    assert_eq!(operator("POST", INTENTS), 400);
    assert_eq!(desk.provider.requests().len(), 1, "the operator's reads are not recorded");
}

#[test]
fn a_path_that_does_not_exist_is_404_without_a_code() {
    let mut desk = Desk::new();
    for path in
        ["/v1/payment_intent", "/v1/customers//payment_methods", "/v2/payment_intents", "/v1/refunds/"]
    {
        let answered = desk.get(path);
        assert_eq!((answered.status, error(&answered).1), (404, ""), "{path}");
    }
}

#[test]
fn an_unknown_id_in_the_path_is_404_resource_missing() {
    let mut desk = Desk::new();
    for (path, param) in [
        ("/v1/checkout/sessions/cs_no", "session"),
        ("/v1/payment_intents/pi_no", "intent"),
        ("/v1/customers/cus_no", "id"),
        ("/v1/customers/cus_no/payment_methods", "customer"),
        ("/v1/customers/cus_no/payment_methods/pm_no", "customer"),
        ("/v1/payment_methods/pm_no", "payment_method"),
        ("/v1/refunds/re_no", "refund"),
    ] {
        assert_eq!(error(&desk.get(path)), (404, "resource_missing", param), "{path}");
    }
    assert_eq!(error(&desk.delete("/v1/customers/cus_no")), (404, "resource_missing", "id"));
}

#[test]
fn a_checkout_with_wrong_parameters_is_400() {
    let cases: [Case; 26] = [
        (&[("payment_method_types[]", Some("card"))], "parameter_unknown", "payment_method_types"),
        (&[("payment_method_types[0]", Some("card"))], "parameter_unknown", "payment_method_types"),
        (&[("colour", Some("red"))], "parameter_unknown", "colour"),
        (&[("automatic_tax[on]", Some("true"))], "parameter_unknown", "automatic_tax[on]"),
        (
            &[("line_items[0][price_data][sum]", Some("1"))],
            "parameter_unknown",
            "line_items[0][price_data][sum]",
        ),
        (&[("mode", None)], "parameter_missing", "mode"),
        (&[("mode", Some("pay"))], "", "mode"),
        (&[("success_url", None)], "parameter_missing", "success_url"),
        (&[("success_url", Some("/ok"))], "url_invalid", "success_url"),
        (&[("cancel_url", Some("hub.example/back"))], "url_invalid", "cancel_url"),
        (&[("client_reference_id", Some(""))], "parameter_invalid_empty", "client_reference_id"),
        (&[("allow_promotion_codes", Some("yes"))], "", "allow_promotion_codes"),
        (&[("line_items[0][quantity]", Some("one"))], "parameter_invalid_integer", "line_items[0][quantity]"),
        (&[("line_items[0][quantity]", Some("0"))], "parameter_invalid_integer", "line_items[0][quantity]"),
        (&[("line_items[0][quantity]", None)], "parameter_missing", "line_items[0][quantity]"),
        (
            &[("line_items[0][price_data][unit_amount]", Some("9.00"))],
            "parameter_invalid_integer",
            "line_items[0][price_data][unit_amount]",
        ),
        (&[("line_items[0][price_data][currency]", Some("usx"))], "", "line_items[0][price_data][currency]"),
        (&[("line_items[0][price_data][currency]", Some("USD"))], "", "line_items[0][price_data][currency]"),
        (&[("line_items[0][price_data][unit_amount]", Some("49"))], "amount_too_small", ""),
        (&[("customer", Some("cus_no"))], "parameters_exclusive", "customer"),
        (&[("customer_creation", None), ("customer", Some("cus_no"))], "resource_missing", "customer"),
        (
            &[
                ("customer_creation", None),
                ("customer", Some("cus_no")),
                ("customer_email", Some("a@b.example")),
            ],
            "parameters_exclusive",
            "customer",
        ),
        (&[("customer_update[name]", Some("auto"))], "", "customer_update"),
        (&[("setup_intent_data[metadata][a]", Some("b"))], "", "setup_intent_data"),
        (&[("customer_email", Some("nobody"))], "email_invalid", "customer_email"),
        (&[("expand[]", Some("metadata"))], "", "expand[0]"),
    ];
    let mut desk = Desk::new();
    for (changes, code, param) in cases {
        let answered = desk.post(SESSIONS, &checkout(changes));
        assert_eq!(error(&answered), (400, code, param), "{changes:?}: {}", answered.body);
    }
    assert_eq!(desk.get(SESSIONS).body["data"], json!([]), "no session exists");
}

#[test]
fn an_error_has_the_members_that_apply() {
    let mut desk = Desk::new();
    let answered = desk.post(SESSIONS, &checkout(&[("colour", Some("red"))]));
    let request = header(&answered, "request-id").unwrap();
    let log = format!("https://dashboard.stripe.com/test/logs/{request}?t={}", super::START);
    assert_eq!(
        answered.body,
        json!({ "error": {
            "type": "invalid_request_error",
            "code": "parameter_unknown",
            "message": "Received unknown parameter: colour",
            "param": "colour",
            "doc_url": "https://stripe.com/docs/error-codes/parameter-unknown",
            "request_log_url": log,
        } })
    );
}

#[test]
fn metadata_has_limits() {
    let mut desk = Desk::new();
    let (long_key, long_value) = (format!("metadata[{}]", "k".repeat(41)), "v".repeat(501));
    let mut many = checkout(&[]);
    many.extend((0..50).map(|at| (format!("metadata[key_{at}]"), "v".to_owned())));
    for (form, param) in [
        (checkout(&[(&long_key, Some("v"))]), long_key.as_str()),
        (checkout(&[("metadata[a]", Some(&long_value))]), "metadata[a]"),
        (many, "metadata"),
    ] {
        assert_eq!(error(&desk.post(SESSIONS, &form)), (400, "", param));
    }
    let inner = "payment_intent_data[metadata][a]";
    assert_eq!(error(&desk.post(SESSIONS, &checkout(&[(inner, Some(&long_value))]))), (400, "", inner));
}

#[test]
fn a_setup_session_takes_no_payment_parameters() {
    let mut desk = Desk::new();
    assert_eq!(desk.post(SESSIONS, &form(&SETUP, &[])).status, 200);
    for (changes, code, param) in [
        (("payment_intent_data[description]", Some("x")), "", "payment_intent_data"),
        (("line_items[0][quantity]", Some("1")), "", "line_items"),
        (("allow_promotion_codes", Some("true")), "", "allow_promotion_codes"),
        (("currency", None), "parameter_missing", "currency"),
    ] {
        assert_eq!(error(&desk.post(SESSIONS, &form(&SETUP, &[changes]))), (400, code, param), "{changes:?}");
    }
}

#[test]
fn an_existing_customer_needs_updates_for_tax() {
    let mut desk = Desk::new();
    let (customer, _) = desk.customer();
    let existing = [("customer_creation", None), ("customer", Some(customer.as_str()))];
    let mut ask = |more: &[(&str, Option<&str>)]| {
        let changes: Vec<_> = existing.iter().chain(more).copied().collect();
        let answered = desk.post(SESSIONS, &checkout(&changes));
        (answered.status, error(&answered).1.to_owned())
    };
    let tax = ("automatic_tax[enabled]", Some("true"));
    let ids = ("tax_id_collection[enabled]", Some("true"));
    assert_eq!(ask(&[tax]), (400, "customer_tax_location_invalid".into()));
    assert_eq!(ask(&[ids]), (400, String::new()));
    let (address, name) =
        (("customer_update[address]", Some("auto")), ("customer_update[name]", Some("auto")));
    assert_eq!(ask(&[tax, address]), (200, String::new()));
    assert_eq!(ask(&[tax, ids, address, name]), (200, String::new()));
}

#[test]
fn expires_at_is_thirty_minutes_to_a_day_ahead() {
    let mut desk = Desk::new();
    for (ahead, status) in [(1_799, 400), (1_800, 200), (86_400, 200), (86_401, 400)] {
        let at = (super::START + ahead).to_string();
        assert_eq!(desk.post(SESSIONS, &checkout(&[("expires_at", Some(&at))])).status, status, "{ahead}");
    }
}

#[test]
fn a_charge_with_wrong_parameters_is_400() {
    let mut desk = Desk::new();
    let (customer, method) = desk.customer();
    let cases: [Case; 15] = [
        (&[("payment_method_types[]", Some("card"))], "parameter_unknown", "payment_method_types"),
        (&[("amount", None)], "parameter_missing", "amount"),
        (&[("amount", Some("0"))], "parameter_invalid_integer", "amount"),
        (&[("amount", Some("-900"))], "parameter_invalid_integer", "amount"),
        (&[("amount", Some("49"))], "amount_too_small", "amount"),
        (&[("amount", Some("100000000"))], "amount_too_large", "amount"),
        (&[("currency", None)], "parameter_missing", "currency"),
        (&[("currency", Some("xyz"))], "", "currency"),
        (&[("confirm", None)], "", "off_session"),
        (&[("off_session", Some("1"))], "", "off_session"),
        (&[("automatic_payment_methods[allow_redirects]", None)], "", "return_url"),
        (&[("customer", Some("cus_no"))], "resource_missing", "customer"),
        (&[("payment_method", Some("pm_no"))], "resource_missing", "payment_method"),
        (&[("payment_method", None)], "payment_intent_unexpected_state", ""),
        (&[("customer", None)], "", "payment_method"),
    ];
    for (changes, code, param) in cases {
        let answered = desk.post(INTENTS, &charge(&customer, &method, changes));
        assert_eq!(error(&answered), (400, code, param), "{changes:?}: {}", answered.body);
    }
    assert_eq!(desk.get(INTENTS).body["data"].as_array().unwrap().len(), 1, "only the checkout's intent");
}

#[test]
fn a_method_of_another_customer_is_400() {
    let mut desk = Desk::new();
    let ((customer, _), (_, method)) = (desk.customer(), desk.customer());
    let answered = desk.post(INTENTS, &charge(&customer, &method, &[]));
    assert_eq!(error(&answered), (400, "", "payment_method"));
}

#[test]
fn amounts_have_the_currencys_granularity_and_minimum() {
    let mut desk = Desk::new();
    let (customer, method) = desk.customer();
    for (currency, amount, code) in [
        ("huf", "17499", "amount_too_small"),
        ("huf", "17500", ""),
        ("jpy", "49", "amount_too_small"),
        ("kwd", "5124", "parameter_invalid_integer"),
        ("kwd", "5120", ""),
        ("isk", "550", "parameter_invalid_integer"),
        ("isk", "600", ""),
        ("ugx", "370001", "parameter_invalid_integer"),
    ] {
        let changes = [("currency", Some(currency)), ("amount", Some(amount))];
        let answered = desk.post(INTENTS, &charge(&customer, &method, &changes));
        let expected = if code.is_empty() { 200 } else { 400 };
        assert_eq!((answered.status, error(&answered).1), (expected, code), "{amount} {currency}");
    }
}

#[test]
fn lists_have_pages_of_ten_and_at_most_a_hundred() {
    let mut desk = Desk::new();
    for _ in 0..12 {
        desk.open(&checkout(&[]));
    }
    let first = desk.get(SESSIONS).body;
    assert_eq!((first["data"].as_array().unwrap().len(), &first["has_more"]), (10, &json!(true)));
    let last = first["data"][9]["id"].as_str().unwrap();
    let rest = desk.get(&format!("{SESSIONS}?limit=100&starting_after={last}")).body;
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["has_more"]), (2, &json!(false)));
    for (query, code, param) in [
        ("limit=0", "parameter_invalid_integer", "limit"),
        ("limit=101", "parameter_invalid_integer", "limit"),
        ("starting_after=cs_no", "resource_missing", "starting_after"),
        ("page=2", "parameter_unknown", "page"),
        ("status=paid", "", "status"),
    ] {
        assert_eq!(error(&desk.get(&format!("{SESSIONS}?{query}"))), (400, code, param), "{query}");
    }
}

#[test]
fn several_line_items_add_up() {
    let mut desk = Desk::new();
    let second = [
        ("line_items[1][quantity]", Some("2")),
        ("line_items[1][price_data][currency]", Some("usd")),
        ("line_items[1][price_data][unit_amount]", Some("50")),
        ("line_items[1][price_data][product_data][name]", Some("stamp")),
    ];
    assert_eq!(desk.post(SESSIONS, &checkout(&second)).body["amount_total"], 1_100);
    assert_eq!(error(&desk.post(REFUNDS, &Vec::new())), (400, "", ""));
}
