//! `/v1/workspaces/{workspace_id}/pricing`: the prices that an operator has agreed with a workspace (M2).

use credits_core::credit_rate::{CreditRate, InvalidPer, Per};
use credits_core::id::Name;
use credits_core::own_prices::OwnPrices;
use credits_core::price_list::{Listed, Listing};
use credits_core::rate_card::{ModelRate, OperationRate, UnitRate};
use credits_runtime::fields::{Fields, parsed};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Store;
use serde_json::Value;

use crate::Account;

/// The maximum number of operations, of models, and of the rates or aliases of one of them.
const MAX_LISTED: usize = 500;

impl Account {
    pub(crate) async fn put_pricing(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        call.token_claims().demand_all_workspaces()?;
        let prices = read_prices(&call.json()?)?;
        let prices = store.own_prices().set(&workspace, &prices).await?;
        Ok(Answer::ok(&prices.ok_or_else(Problem::workspace_not_found)?))
    }

    pub(crate) async fn pricing(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        call.token_claims().demand_all_workspaces()?;
        let version =
            store.own_prices().version(&workspace).await?.ok_or_else(Problem::workspace_not_found)?;
        let prices = match version {
            Some(version) => store.own_prices().get(&workspace, version).await?,
            None => OwnPrices::none(),
        };
        Ok(Answer::ok(&prices))
    }
}

fn read_prices(body: &Value) -> Result<OwnPrices, Problem> {
    let mut fields = Fields::of(body)?;
    let multiplier = fields.optional("multiplier", parsed::<CreditRate>);
    let operations = read_listing(&mut fields, "operations", read_operation);
    let models = read_listing(&mut fields, "models", read_model);
    let multiplier = multiplier.unwrap_or(CreditRate::ONE);
    let both = operations.zip(models);
    fields.finish(both.map(|(operations, models)| OwnPrices { version: 0, multiplier, operations, models }))
}

/// Reads an optional list of entries with different names.
fn read_listing<'a, T: Listed>(
    fields: &mut Fields<'a>,
    name: &'static str,
    read: impl FnMut(&mut Fields<'a>) -> Option<T>,
) -> Option<Listing<T>> {
    let is_empty = fields.present(name).is_none_or(|value| value.as_array().is_some_and(Vec::is_empty));
    if is_empty {
        return Some(Listing::default());
    }
    let mut listing = Listing::default();
    for (place, entry) in fields.list(name, MAX_LISTED, read)?.into_iter().enumerate() {
        if let Err(twice) = listing.add(entry) {
            fields.refuse(&format!("{name}.{place}"), twice.to_string());
        }
    }
    Some(listing)
}

fn read_operation(fields: &mut Fields<'_>) -> Option<OperationRate> {
    let operation = fields.required("operation", parsed::<Name>);
    let base = fields.optional("base", parsed::<CreditRate>);
    let per_1k_input_tokens = fields.optional("per_1k_input_tokens", parsed::<CreditRate>);
    let per_1k_output_tokens = fields.optional("per_1k_output_tokens", parsed::<CreditRate>);
    let per_record = fields.optional("per_record", parsed::<CreditRate>);
    let rates = read_listing(fields, "rates", read_rate);
    Some(OperationRate {
        operation: operation?,
        base: base.unwrap_or_default(),
        per_1k_input_tokens,
        per_1k_output_tokens,
        per_record,
        rates: rates?,
    })
}

fn read_model(fields: &mut Fields<'_>) -> Option<ModelRate> {
    let model = fields.required("model", parsed::<Name>);
    let multiplier = fields.optional("multiplier", parsed::<CreditRate>);
    let rates = read_listing(fields, "rates", read_rate);
    let aliases = fields.optional("aliases", |value| {
        let said = || format!("must be an array of at most {MAX_LISTED} names");
        let names = value.as_array().filter(|names| names.len() <= MAX_LISTED).ok_or_else(said)?;
        names.iter().map(parsed::<Name>).collect::<Result<Vec<Name>, _>>()
    });
    let multiplier = multiplier.unwrap_or(CreditRate::ONE);
    Some(ModelRate { model: model?, multiplier, rates: rates?, aliases: aliases.unwrap_or_default() })
}

fn read_rate(fields: &mut Fields<'_>) -> Option<UnitRate> {
    let unit = fields.required("unit", parsed::<Name>);
    let credits = fields.required("credits", parsed::<CreditRate>);
    let per = fields.required("per", |value| {
        let units = value.as_u64().and_then(|units| Per::try_from(units).ok());
        units.ok_or_else(|| InvalidPer.to_string())
    });
    Some(UnitRate { unit: unit?, credits: credits?, per: per?, cost: None })
}
