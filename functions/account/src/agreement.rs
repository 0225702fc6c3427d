//! `/v1/workspaces/{workspace_id}/agreement`: the agreement with an Enterprise workspace (M8).

use credits_core::agreement::{Agreement, Commitment, Invoicing};
use credits_core::credits::{Amount, Credits};
use credits_core::price::{Currency, Price};
use credits_core::workspace::Plan;
use credits_runtime::fields::{Fields, count, parsed};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Store;
use serde_json::Value;

use crate::Account;

/// The highest price of a month's commitment, in minor units, and of a credit, in millionths of the major unit.
const MAX_MONEY: u64 = 1_000_000_000_000;

impl Account {
    pub(crate) async fn put_agreement(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        call.token_claims().demand_all_workspaces()?;
        let agreement = read_agreement(&call.json()?)?;
        let known = store.workspaces().get(&workspace).await?.ok_or_else(Problem::workspace_not_found)?;
        if known.profile.plan != Plan::Enterprise {
            return Err(Problem::agreement_forbidden());
        }
        let first = store.agreements().set(&workspace, &agreement).await?;
        Ok(if first { Answer::created(&agreement) } else { Answer::ok(&agreement) })
    }

    pub(crate) async fn agreement(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        call.token_claims().demand_all_workspaces()?;
        store.workspaces().get(&workspace).await?.ok_or_else(Problem::workspace_not_found)?;
        Ok(Answer::ok(&store.agreements().get(&workspace).await?.unwrap_or_else(Agreement::none)))
    }
}

fn read_agreement(body: &Value) -> Result<Agreement, Problem> {
    let mut fields = Fields::of(body)?;
    let credit_limit = fields.required("credit_limit", read_limit);
    let commitment = fields.nested("commitment", |commitment| {
        let monthly_credits = commitment.required("monthly_credits", parsed::<Amount>);
        if commitment.present("price").is_none() {
            commitment.refuse("price", "is required");
        }
        let price = commitment.nested("price", |price| {
            let amount = price.required("amount", |amount| count(amount, MAX_MONEY));
            let currency = price.required("currency", parsed::<Currency>);
            amount.zip(currency).map(|(amount_minor, currency)| Price { amount_minor, currency })
        });
        let both = monthly_credits.zip(price);
        both.map(|(monthly_credits, price)| Commitment { monthly_credits, price })
    });
    let invoicing = fields.nested("invoicing", |invoicing| {
        let price = invoicing.required("price_per_credit_micros", read_rate);
        let currency = invoicing.required("currency", parsed::<Currency>);
        price
            .zip(currency)
            .map(|(price_per_credit_micros, currency)| Invoicing { price_per_credit_micros, currency })
    });
    if let (Some(commitment), Some(invoicing)) = (&commitment, &invoicing)
        && commitment.price.currency != invoicing.currency
    {
        fields.refuse("invoicing.currency", "must be the commitment's: an invoice has one currency");
    }
    fields.finish(credit_limit.map(|credit_limit| Agreement { credit_limit, commitment, invoicing }))
}

fn read_limit(value: &Value) -> Result<Credits, String> {
    let limit: Credits = parsed(value)?;
    if limit.is_zero() {
        return Ok(limit);
    }
    Amount::new(limit).map(Amount::credits).map_err(|refused| refused.to_string())
}

fn read_rate(value: &Value) -> Result<u64, String> {
    let rate = count(value, MAX_MONEY)?;
    if rate == 0 { Err("must be above zero".to_owned()) } else { Ok(rate) }
}
