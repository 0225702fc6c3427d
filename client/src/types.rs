//! What is sent and what is answered. Instants are texts as RFC 3339 has them, for whichever library reads them.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// An answer, and whether it is that of an earlier call under the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered<T> {
    /// The answer.
    pub body: T,
    /// Whether an earlier call had carried it out.
    pub replayed: bool,
}

/// What an AI call used, and for whom.
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
    /// An operation of the rate card.
    #[must_use]
    pub fn of(operation: &str, consumer: Consumer) -> Self {
        Self { operation: operation.to_owned(), model: None, units: BTreeMap::new(), credits: None, consumer }
    }

    /// With a model of the rate card, which may cost a multiple.
    #[must_use]
    pub fn model(self, model: &str) -> Self {
        Self { model: Some(model.to_owned()), ..self }
    }

    /// With so many of a unit, such as `input_tokens`, which the rate card prices.
    #[must_use]
    pub fn unit(mut self, unit: &str, count: u64) -> Self {
        self.units.insert(unit.to_owned(), count);
        self
    }

    /// With a price of the caller's own, instead of units.
    #[must_use]
    pub fn credits(self, credits: Decimal) -> Self {
        Self { credits: Some(credits.normalize()), ..self }
    }
}

/// Who or what an AI call was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Consumer {
    /// A step of a workflow run. Refused for want of credits, its run has failed.
    WorkflowStep {
        /// The workflow.
        workflow_id: String,
        /// The run.
        run_id: String,
        /// The step.
        step_id: String,
    },
    /// What a person did in the product.
    Action {
        /// The feature.
        feature: String,
        /// The person.
        user_id: String,
    },
    /// A part of a larger job.
    Bulk {
        /// The job.
        job_id: String,
        /// The feature that it is of.
        feature: String,
        /// The list that it works through.
        #[serde(skip_serializing_if = "Option::is_none")]
        list_id: Option<String>,
        /// The person who started it.
        #[serde(skip_serializing_if = "Option::is_none")]
        user_id: Option<String>,
    },
}

impl Consumer {
    /// What a person did in the product.
    #[must_use]
    pub fn action(feature: &str, user_id: &str) -> Self {
        Self::Action { feature: feature.to_owned(), user_id: user_id.to_owned() }
    }

    /// A step of a workflow run.
    #[must_use]
    pub fn workflow_step(workflow_id: &str, run_id: &str, step_id: &str) -> Self {
        Self::WorkflowStep {
            workflow_id: workflow_id.to_owned(),
            run_id: run_id.to_owned(),
            step_id: step_id.to_owned(),
        }
    }
}

/// Credits that were drawn.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Debit {
    /// Its id.
    pub debit_id: String,
    /// What it cost.
    pub credits: Decimal,
    /// The rate card's version that priced it.
    pub rate_card: String,
    /// When it was posted.
    pub posted_at: String,
}

/// What a call would cost.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Quote {
    /// Its price.
    pub credits: Decimal,
    /// The rate card's version.
    pub rate_card: String,
    /// What there is.
    pub available: Decimal,
    /// What may be spent, with a credit limit.
    pub spendable: Decimal,
    /// Whether it could be paid now.
    pub affordable: bool,
}

/// What a workspace has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Balance {
    /// What it owns and may spend.
    pub available: Decimal,
    /// `available` with the credit limit.
    pub spendable: Decimal,
    /// What never expires.
    pub prepaid: Decimal,
    /// What was consumed this month.
    pub consumed_this_month: Decimal,
    /// Grows with each change.
    pub version: u64,
    /// When it was read.
    pub as_of: String,
}

/// What starts a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A person.
    Manual,
    /// A schedule. If it fails for want of credits, people get a mail.
    Scheduled,
    /// Something that happened.
    Event,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It runs.
    Running,
    /// It has succeeded.
    Succeeded,
    /// A step could not be paid.
    Failed,
}

/// A workflow run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Run {
    /// Its id.
    pub run_id: String,
    /// Its workflow.
    pub workflow_id: String,
    /// What started it.
    pub trigger: Trigger,
    /// How far it is.
    pub status: RunStatus,
}

/// A run that has just started, and what is left of the plan's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StartedRun {
    /// The run.
    #[serde(flatten)]
    pub run: Run,
    /// The plan's runs of the month.
    pub allowance: Allowance,
}

/// The plan's runs of the month.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Allowance {
    /// How many have started.
    pub used: u64,
    /// How many may; unlimited if absent.
    pub limit: Option<u64>,
    /// When the next month begins.
    pub resets_at: String,
}

/// A checkout that waits to be paid.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TopUp {
    /// Its id.
    pub top_up_id: String,
    /// What will be added.
    pub credits: Decimal,
    /// What it costs.
    pub price: Price,
    /// Where a person pays.
    pub checkout_url: String,
}

/// A price.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Price {
    /// In minor units, such as cents.
    pub amount: u64,
    /// Such as `USD`.
    pub currency: String,
}

/// What the hub tells of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkspaceProfile {
    /// Its name, as mails show it.
    pub name: String,
    /// Its plan.
    pub plan: Plan,
    /// Where receipts and failures are told.
    pub billing_email: String,
}

/// A plan of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// Prepaid credits only.
    Free,
    /// The first with subscriptions.
    Starter,
    /// For a team.
    Team,
    /// For a larger one.
    Pro,
    /// With agreements.
    Enterprise,
}
