//! `POST /v1/checkout/sessions`: its parameters, and their dependencies.

use serde_json::Value;

use super::StripeStandIn;
use super::amounts::{Charging, check_amount};
use super::errors::StripeRefusal;
use super::form::{EXPAND, Field, FieldKind, Form, field};
use super::sessions::{CustomerCreation, Session, SessionMode};
use super::setups::Setup;

/// The parameters that the stand-in supports.
const KNOWN: [Field; 31] = [
    EXPAND,
    field("mode", FieldKind::Choice(&["payment", "setup", "subscription"])),
    field("success_url", FieldKind::Url),
    field("cancel_url", FieldKind::Url),
    field("client_reference_id", FieldKind::Text(200)),
    field("customer", FieldKind::Text(255)),
    field("customer_email", FieldKind::Email),
    field("customer_creation", FieldKind::Choice(&["always", "if_required"])),
    field("customer_update[address]", FieldKind::Choice(&["auto", "never"])),
    field("customer_update[name]", FieldKind::Choice(&["auto", "never"])),
    field("customer_update[shipping]", FieldKind::Choice(&["auto", "never"])),
    field("currency", FieldKind::Currency),
    field("expires_at", FieldKind::Whole),
    field("metadata[*]", FieldKind::Metadata),
    field("adaptive_pricing[enabled]", FieldKind::Flag),
    field("automatic_tax[enabled]", FieldKind::Flag),
    field("tax_id_collection[enabled]", FieldKind::Flag),
    field("allow_promotion_codes", FieldKind::Flag),
    field("payment_intent_data[description]", FieldKind::Text(1_000)),
    field("payment_intent_data[metadata][*]", FieldKind::Metadata),
    field("payment_intent_data[setup_future_usage]", FieldKind::Choice(&["off_session", "on_session"])),
    field("setup_intent_data[description]", FieldKind::Text(1_000)),
    field("setup_intent_data[metadata][*]", FieldKind::Metadata),
    field("line_items[#][quantity]", FieldKind::Whole),
    field("line_items[#][price_data][currency]", FieldKind::Currency),
    field("line_items[#][price_data][unit_amount]", FieldKind::Whole),
    field(
        "line_items[#][price_data][tax_behavior]",
        FieldKind::Choice(&["exclusive", "inclusive", "unspecified"]),
    ),
    field("line_items[#][price_data][product_data][name]", FieldKind::Text(5_000)),
    field("line_items[#][price_data][product_data][description]", FieldKind::Text(40_000)),
    field("line_items[#][price_data][product_data][tax_code]", FieldKind::Text(5_000)),
    field("line_items[#][price_data][product_data][metadata][*]", FieldKind::Metadata),
];

/// The parameters that require payment mode.
const PAYMENT_ONLY: [&str; 6] = [
    "line_items",
    "payment_intent_data",
    "allow_promotion_codes",
    "automatic_tax",
    "tax_id_collection",
    "adaptive_pricing",
];

/// The allowed time from a session's creation to its expiry, in seconds.
const EXPIRES_AFTER: std::ops::RangeInclusive<i64> = 1_800..=86_400;

impl StripeStandIn {
    /// Handles `POST /v1/checkout/sessions`.
    pub(super) fn create_session(&mut self, body: &[u8], url: &str) -> Result<Value, StripeRefusal> {
        let form = Form::read(body, &KNOWN)?;
        let mode = mode(&form)?;
        let mut session = Session::new(self.new_id("cs"), self.now());
        session.mode = mode;
        form.required("success_url")?.clone_into(&mut session.success_url);
        check_customer_parameters(&form)?;
        read_expiry(&form, &mut session)?;
        match mode {
            SessionMode::Payment => read_payment(&form, &mut session)?,
            SessionMode::Setup => read_setup(&form, &mut session)?,
        }
        read_rest(&form, &mut session);
        self.check_customer(&form)?;
        if mode == SessionMode::Payment {
            check_amount(session.amount_minor, &session.currency, Charging::Checkout)?;
        }
        let object = self.expanded(session.object(Some(url)), &form)?;
        if let Some(id) = &session.setup_intent {
            let setup = Setup::new(id.clone(), session.created, form.metadata("setup_intent_data[metadata]"));
            self.memory.setups.insert(id.clone(), setup);
        }
        self.memory.expiring.insert((session.expires_at, session.id.clone()));
        self.memory.sessions.insert(session.id.clone(), session);
        self.keep();
        Ok(object)
    }

    /// Looks up the customer, and checks what tax requires of an existing one.
    fn check_customer(&self, form: &Form) -> Result<(), StripeRefusal> {
        let Some(id) = form.text("customer") else { return Ok(()) };
        let customer = self.existing_customer(id, "customer")?;
        let updates = |name: &str| form.text(&format!("customer_update[{name}]")) == Some("auto");
        let has_address = customer.has_address || updates("address") || updates("shipping");
        if form.is_true("automatic_tax[enabled]") && !has_address {
            let message = "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid \
                           address to the Customer or set `customer_update[address]` to 'auto' to save the billing \
                           address entered in Checkout to the Customer.";
            return Err(StripeRefusal::execution(message).code("customer_tax_location_invalid"));
        }
        if form.is_true("tax_id_collection[enabled]") && !updates("name") {
            let message = "Tax ID collection requires updating business name on the customer. To enable tax ID \
                           collection for an existing customer, please set `customer_update[name]` to `auto`.";
            return Err(StripeRefusal::execution(message));
        }
        Ok(())
    }
}

fn mode(form: &Form) -> Result<SessionMode, StripeRefusal> {
    match form.required("mode")? {
        "payment" => Ok(SessionMode::Payment),
        "setup" => Ok(SessionMode::Setup),
        _ => {
            Err(StripeRefusal::validation("The stand-in does not support `subscription` mode.").param("mode"))
        }
    }
}

fn check_customer_parameters(form: &Form) -> Result<(), StripeRefusal> {
    if form.has("customer") {
        for other in ["customer_email", "customer_creation"] {
            if form.has(other) {
                return Err(StripeRefusal::exclusive("customer", other));
            }
        }
    } else if form.has("customer_update") {
        let message = "`customer_update` can only be used with `customer`.";
        return Err(StripeRefusal::validation(message).param("customer_update"));
    }
    Ok(())
}

fn read_expiry(form: &Form, session: &mut Session) -> Result<(), StripeRefusal> {
    let Some(at) = form.whole("expires_at") else { return Ok(()) };
    let after = at.saturating_sub(session.created);
    if !EXPIRES_AFTER.contains(&after) {
        let bound = if after < *EXPIRES_AFTER.start() {
            "must be at least 30 minutes from"
        } else {
            "must be less than 24 hours from"
        };
        let message = format!("The `expires_at` timestamp {bound} Checkout Session creation.");
        return Err(StripeRefusal::validation(message).param("expires_at"));
    }
    session.expires_at = at;
    Ok(())
}

fn read_payment(form: &Form, session: &mut Session) -> Result<(), StripeRefusal> {
    if form.has("setup_intent_data") {
        return Err(not_in_mode("setup_intent_data", "payment"));
    }
    if !form.has("line_items") {
        return Err(StripeRefusal::required("line_items"));
    }
    let mut at = 0_u32;
    while at == 0 || form.has(&format!("line_items[{at}]")) {
        read_line_item(form, at, session)?;
        at = at.saturating_add(1);
    }
    if form.text("currency").is_some_and(|currency| currency != session.currency) {
        let message = "The currency of the session must be the currency of its prices.";
        return Err(StripeRefusal::validation(message).param("currency"));
    }
    session.amount_minor = session.amount_subtotal;
    Ok(())
}

fn read_line_item(form: &Form, at: u32, session: &mut Session) -> Result<(), StripeRefusal> {
    let name = |member: &str| format!("line_items[{at}]{member}");
    let currency = form.required(&name("[price_data][currency]"))?;
    let product = form.required(&name("[price_data][product_data][name]"))?;
    let unit = name("[price_data][unit_amount]");
    form.required(&unit)?;
    let quantity = name("[quantity]");
    form.required(&quantity)?;
    let quantity_of = form.positive(&quantity)?.unwrap_or_default();
    let Ok(unit_amount) = u64::try_from(form.whole(&unit).unwrap_or_default()) else {
        let refusal =
            StripeRefusal::validation("Invalid non-negative integer").code("parameter_invalid_integer");
        return Err(refusal.param(&unit));
    };
    if at > 0 && currency != session.currency {
        let message = "All line items must have the same currency.";
        return Err(StripeRefusal::validation(message).param("line_items"));
    }
    let sum = unit_amount.checked_mul(quantity_of).and_then(|item| item.checked_add(session.amount_subtotal));
    session.amount_subtotal = sum.unwrap_or(u64::MAX);
    currency.clone_into(&mut session.currency);
    if at == 0 {
        product.clone_into(&mut session.product);
    }
    Ok(())
}

fn read_setup(form: &Form, session: &mut Session) -> Result<(), StripeRefusal> {
    if let Some(name) = PAYMENT_ONLY.into_iter().find(|name| form.has(name)) {
        return Err(not_in_mode(name, "setup"));
    }
    form.required("currency")?.clone_into(&mut session.currency);
    session.payment_status = super::sessions::SessionPaymentStatus::NoPaymentRequired;
    session.setup_intent = Some(session.id.replacen("cs", "seti", 1));
    Ok(())
}

fn not_in_mode(name: &str, mode: &str) -> StripeRefusal {
    StripeRefusal::validation(format!("You can not pass `{name}` in `{mode}` mode.")).param(name)
}

fn read_rest(form: &Form, session: &mut Session) {
    let text = |name: &str| form.text(name).map(str::to_owned);
    session.cancel_url = text("cancel_url");
    session.client_reference_id = text("client_reference_id");
    session.customer = text("customer");
    session.customer_email = text("customer_email");
    session.customer_creation = match form.text("customer_creation") {
        Some("always") => CustomerCreation::Always,
        _ => CustomerCreation::IfRequired,
    };
    let updates = ["address", "name", "shipping"].into_iter();
    let updates = updates.filter(|name| form.text(&format!("customer_update[{name}]")) == Some("auto"));
    session.customer_update = updates.map(str::to_owned).collect();
    session.metadata = form.metadata("metadata");
    session.intent_metadata = form.metadata("payment_intent_data[metadata]");
    session.intent_description = text("payment_intent_data[description]");
    session.setup_future_usage = text("payment_intent_data[setup_future_usage]");
    session.automatic_tax = form.is_true("automatic_tax[enabled]");
    session.tax_id_collection = form.is_true("tax_id_collection[enabled]");
    session.allow_promotion_codes = form.is_true("allow_promotion_codes");
}
