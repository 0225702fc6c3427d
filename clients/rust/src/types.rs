//! The types of requests and responses. Instants are strings in RFC 3339, so that you can parse them with any library.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered<T> {
    pub body: T,
    /// Whether this is the response of an earlier call under the same key.
    pub replayed: bool,
}

/// An AI call to pay for: its operation, its size, and its consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DebitOrder {
    operation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    units: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credits: Option<Decimal>,
    consumer: Consumer,
}

impl DebitOrder {
    /// Creates an order for an operation of the rate card. It also needs a size: either counts of units, or a price in
    /// credits.
    #[must_use]
    pub fn of(operation: &str, consumer: Consumer) -> Self {
        Self { operation: operation.to_owned(), model: None, units: BTreeMap::new(), credits: None, consumer }
    }

    /// Sets the model, whose multiplier on the rate card applies to the price.
    #[must_use]
    pub fn model(self, model: &str) -> Self {
        Self { model: Some(model.to_owned()), ..self }
    }

    /// Sets the count of a unit that the rate card prices, such as `input_tokens`.
    #[must_use]
    pub fn unit(mut self, unit: &str, count: u64) -> Self {
        self.units.insert(unit.to_owned(), count);
        self
    }

    /// Sets the price in credits, instead of units.
    #[must_use]
    pub fn credits(self, credits: Decimal) -> Self {
        Self { credits: Some(credits.normalize()), ..self }
    }
}

/// The consumer of an AI call's credits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Consumer {
    /// A step of a workflow run. If the step is refused for insufficient credits, its run is marked failed.
    WorkflowStep { workflow_id: String, run_id: String, step_id: String },
    /// An action of a person in the product.
    Action { feature: String, user_id: String },
    /// A record of a bulk job.
    Bulk {
        job_id: String,
        feature: String,
        /// The list that the job processes.
        #[serde(skip_serializing_if = "Option::is_none")]
        list_id: Option<String>,
        /// The person who started the job.
        #[serde(skip_serializing_if = "Option::is_none")]
        user_id: Option<String>,
    },
}

impl Consumer {
    /// Creates the consumer of a person's action in the product.
    #[must_use]
    pub fn action(feature: &str, user_id: &str) -> Self {
        Self::Action { feature: feature.to_owned(), user_id: user_id.to_owned() }
    }

    /// Creates the consumer of a step of a workflow run.
    #[must_use]
    pub fn workflow_step(workflow_id: &str, run_id: &str, step_id: &str) -> Self {
        Self::WorkflowStep {
            workflow_id: workflow_id.to_owned(),
            run_id: run_id.to_owned(),
            step_id: step_id.to_owned(),
        }
    }
}

/// A posted debit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Debit {
    pub debit_id: String,
    pub credits: Decimal,
    /// The version of the rate card that priced it.
    pub rate_card: String,
    pub posted_at: String,
}

/// The price of a call that was not made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Quote {
    pub credits: Decimal,
    /// The version of the rate card.
    pub rate_card: String,
    /// The workspace's own credits that it can spend.
    pub available: Decimal,
    /// `available` plus the credit limit.
    pub spendable: Decimal,
    /// Whether `spendable` covers the price now.
    pub affordable: bool,
}

/// A workspace's balance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Balance {
    /// The workspace's own credits that it can spend; below zero if it owes some.
    pub available: Decimal,
    /// `available` plus the credit limit.
    pub spendable: Decimal,
    /// Credits that never expire; below zero if the workspace owes some.
    pub prepaid: Decimal,
    pub consumed_this_month: Decimal,
    /// Increases with every change of the balance.
    pub version: u64,
    pub as_of: String,
}

/// The cause of a run's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A person. If the run fails for insufficient credits, no mail is sent.
    Manual,
    /// A schedule. If the run fails for insufficient credits, the billing contact gets a mail.
    Scheduled,
    /// An event. If the run fails for insufficient credits, the billing contact gets a mail.
    Event,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    Running,
    Succeeded,
    /// A step was refused for insufficient credits.
    Failed,
}

/// A workflow run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Run {
    pub run_id: String,
    pub workflow_id: String,
    pub trigger: Trigger,
    pub status: RunStatus,
}

/// A run that has just started, with the use of the plan's monthly runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StartedRun {
    #[serde(flatten)]
    pub run: Run,
    pub allowance: Allowance,
}

/// The use of the plan's monthly runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Allowance {
    /// The runs started this month.
    pub used: u64,
    /// The runs that the plan allows a month; `None` if it has no limit.
    pub limit: Option<u64>,
    /// When the next month begins.
    pub resets_at: String,
}

/// A checkout that waits to be paid.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TopUp {
    pub top_up_id: String,
    /// The credits that the payment adds.
    pub credits: Decimal,
    pub price: Price,
    /// The page on which a person pays.
    pub checkout_url: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Price {
    /// In minor units, such as cents.
    pub amount: u64,
    /// An ISO 4217 code, such as `USD`.
    pub currency: String,
}

/// A workspace as the hub registers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkspaceProfile {
    /// The name that mails and the settings page show.
    pub name: String,
    pub plan: Plan,
    /// The address for receipts, invoices and failed runs.
    pub billing_email: String,
}

/// A plan of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// Prepaid credits only.
    Free,
    /// The smallest plan with subscriptions.
    Starter,
    Team,
    Pro,
    /// The only plan with agreements.
    Enterprise,
}
