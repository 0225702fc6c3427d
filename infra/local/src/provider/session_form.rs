//! `POST /v1/checkout/sessions`: its parameters, and their dependencies.

use serde_json::Value;

use super::Provider;
use super::amounts::{Charging, check_amount};
use super::errors::ProviderRefusal;
use super::form::{EXPAND, Field, Form, Kind, field};
use super::sessions::{CustomerCreation, Mode, Session};
use super::setups::Setup;

/// The parameters that the stand-in supports.
const KNOWN: [Field; 31] = [
    EXPAND,
    field("mode", Kind::Choice(&["payment", "setup", "subscription"])),
    field("success_url", Kind::Url),
    field("cancel_url", Kind::Url),
    field("client_reference_id", Kind::Text(200)),
    field("customer", Kind::Text(255)),
    field("customer_email", Kind::Email),
    field("customer_creation", Kind::Choice(&["always", "if_required"])),
    field("customer_update[address]", Kind::Choice(&["auto", "never"])),
    field("customer_update[name]", Kind::Choice(&["auto", "never"])),
    field("customer_update[shipping]", Kind::Choice(&["auto", "never"])),
    field("currency", Kind::Currency),
    field("expires_at", Kind::Whole),
    field("metadata[*]", Kind::Metadata),
    field("adaptive_pricing[enabled]", Kind::Flag),
    field("automatic_tax[enabled]", Kind::Flag),
    field("tax_id_collection[enabled]", Kind::Flag),
    field("allow_promotion_codes", Kind::Flag),
    field("payment_intent_data[description]", Kind::Text(1_000)),
    field("payment_intent_data[metadata][*]", Kind::Metadata),
    field("payment_intent_data[setup_future_usage]", Kind::Choice(&["off_session", "on_session"])),
    field("setup_intent_data[description]", Kind::Text(1_000)),
    field("setup_intent_data[metadata][*]", Kind::Metadata),
    field("line_items[#][quantity]", Kind::Whole),
    field("line_items[#][price_data][currency]", Kind::Currency),
    field("line_items[#][price_data][unit_amount]", Kind::Whole),
    field(
        "line_items[#][price_data][tax_behavior]",
        Kind::Choice(&["exclusive", "inclusive", "unspecified"]),
    ),
    field("line_items[#][price_data][product_data][name]", Kind::Text(5_000)),
    field("line_items[#][price_data][product_data][description]", Kind::Text(40_000)),
    field("line_items[#][price_data][product_data][tax_code]", Kind::Text(5_000)),
    field("line_items[#][price_data][product_data][metadata][*]", Kind::Metadata),
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

impl Provider {
    /// Handles `POST /v1/checkout/sessions`.
    pub(super) fn create_session(&mut self, body: &[u8], url: &str) -> Result<Value, ProviderRefusal> {
        let form = Form::read(body, &KNOWN)?;
        let mode = mode(&form)?;
        let mut session = Session::new(self.new_id("cs"), self.now());
        session.mode = mode;
        form.required("success_url")?.clone_into(&mut session.success_url);
        check_customer_parameters(&form)?;
        read_expiry(&form, &mut session)?;
        match mode {
            Mode::Payment => read_payment(&form, &mut session)?,
            Mode::Setup => read_setup(&form, &mut session)?,
        }
        read_rest(&form, &mut session);
        self.check_customer(&form)?;
        if mode == Mode::Payment {
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
    fn check_customer(&self, form: &Form) -> Result<(), ProviderRefusal> {
        let Some(id) = form.text("customer") else { return Ok(()) };
        let customer = self.existing_customer(id, "customer")?;
        let updates = |name: &str| form.text(&format!("customer_update[{name}]")) == Some("auto");
        let has_address = customer.has_address || updates("address") || updates("shipping");
        if form.is_true("automatic_tax[enabled]") && !has_address {
            let message = "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid \
                           address to the Customer or set `customer_update[address]` to 'auto' to save the billing \
                           address entered in Checkout to the Customer.";
            return Err(ProviderRefusal::execution(message).code("customer_tax_location_invalid"));
        }
        if form.is_true("tax_id_collection[enabled]") && !updates("name") {
            let message = "Tax ID collection requires updating business name on the customer. To enable tax ID \
                           collection for an existing customer, please set `customer_update[name]` to `auto`.";
            return Err(ProviderRefusal::execution(message));
        }
        Ok(())
    }
}

fn mode(form: &Form) -> Result<Mode, ProviderRefusal> {
    match form.required("mode")? {
        "payment" => Ok(Mode::Payment),
        "setup" => Ok(Mode::Setup),
        _ => {
            Err(ProviderRefusal::validation("The stand-in does not support `subscription` mode.")
                .param("mode"))
        }
    }
}

fn check_customer_parameters(form: &Form) -> Result<(), ProviderRefusal> {
    if form.has("customer") {
        for other in ["customer_email", "customer_creation"] {
            if form.has(other) {
                return Err(ProviderRefusal::exclusive("customer", other));
            }
        }
    } else if form.has("customer_update") {
        let message = "`customer_update` can only be used with `customer`.";
        return Err(ProviderRefusal::validation(message).param("customer_update"));
    }
    Ok(())
}

fn read_expiry(form: &Form, session: &mut Session) -> Result<(), ProviderRefusal> {
    let Some(at) = form.whole("expires_at") else { return Ok(()) };
    let after = at.saturating_sub(session.created);
    if !EXPIRES_AFTER.contains(&after) {
        let bound = if after < *EXPIRES_AFTER.start() {
            "must be at least 30 minutes from"
        } else {
            "must be less than 24 hours from"
        };
        let message = format!("The `expires_at` timestamp {bound} Checkout Session creation.");
        return Err(ProviderRefusal::validation(message).param("expires_at"));
    }
    session.expires_at = at;
    Ok(())
}

fn read_payment(form: &Form, session: &mut Session) -> Result<(), ProviderRefusal> {
    if form.has("setup_intent_data") {
        return Err(not_in_mode("setup_intent_data", "payment"));
    }
    if !form.has("line_items") {
        return Err(ProviderRefusal::required("line_items"));
    }
    let mut at = 0_u32;
    while at == 0 || form.has(&format!("line_items[{at}]")) {
        read_line_item(form, at, session)?;
        at = at.saturating_add(1);
    }
    if form.text("currency").is_some_and(|currency| currency != session.currency) {
        let message = "The currency of the session must be the currency of its prices.";
        return Err(ProviderRefusal::validation(message).param("currency"));
    }
    session.amount_minor = session.amount_subtotal;
    Ok(())
}

fn read_line_item(form: &Form, at: u32, session: &mut Session) -> Result<(), ProviderRefusal> {
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
            ProviderRefusal::validation("Invalid non-negative integer").code("parameter_invalid_integer");
        return Err(refusal.param(&unit));
    };
    if at > 0 && currency != session.currency {
        let message = "All line items must have the same currency.";
        return Err(ProviderRefusal::validation(message).param("line_items"));
    }
    let sum = unit_amount.checked_mul(quantity_of).and_then(|item| item.checked_add(session.amount_subtotal));
    session.amount_subtotal = sum.unwrap_or(u64::MAX);
    currency.clone_into(&mut session.currency);
    if at == 0 {
        product.clone_into(&mut session.product);
    }
    Ok(())
}

fn read_setup(form: &Form, session: &mut Session) -> Result<(), ProviderRefusal> {
    if let Some(name) = PAYMENT_ONLY.into_iter().find(|name| form.has(name)) {
        return Err(not_in_mode(name, "setup"));
    }
    form.required("currency")?.clone_into(&mut session.currency);
    session.payment_status = super::sessions::PaymentStatus::NoPaymentRequired;
    session.setup_intent = Some(session.id.replacen("cs", "seti", 1));
    Ok(())
}

fn not_in_mode(name: &str, mode: &str) -> ProviderRefusal {
    ProviderRefusal::validation(format!("You can not pass `{name}` in `{mode}` mode.")).param(name)
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
