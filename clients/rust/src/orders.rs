//! Writes orders.

use rust_decimal::Decimal;

use crate::schema::{Consumer, DebitOrder, HoldOrder, Overrun, Plan, SettleOrder, WorkspaceProfile};

/// The lifetime of a hold without another one, in seconds.
const TTL_SECONDS: u64 = 900;

impl DebitOrder {
    /// Creates an order for an operation of the rate card. It also needs a size: either counts of units, or a price in
    /// credits.
    #[must_use]
    pub fn of(operation: &str, consumer: Consumer) -> Self {
        let (model, units, credits, metadata) = Default::default();
        Self { consumer, credits, metadata, model, operation: operation.to_owned(), units }
    }
}

impl HoldOrder {
    /// Creates an order for calls of an operation of the rate card. It also needs a size: an upper bound of the counts
    /// of units, or credits. The hold expires after 15 minutes.
    #[must_use]
    pub fn of(operation: &str, consumer: Consumer) -> Self {
        let (model, units, credits, metadata) = Default::default();
        let (operation, ttl_seconds) = (operation.to_owned(), TTL_SECONDS);
        Self { consumer, credits, metadata, model, operation, ttl_seconds, units }
    }

    /// Sets when the hold expires, 1 to 86,400 seconds from now. Give it longer than the model may take.
    #[must_use]
    pub fn ttl_seconds(self, ttl_seconds: u64) -> Self {
        Self { ttl_seconds, ..self }
    }
}

impl SettleOrder {
    /// Sets what happens if the call costs more than the hold has left. By default it is refused.
    #[must_use]
    pub fn overrun(self, overrun: Overrun) -> Self {
        Self { overrun: Some(overrun), ..self }
    }
}

/// Writes the setters that orders have in common.
macro_rules! sized {
    ($($order:ty)+) => { $(impl $order {
        /// Sets the model, whose rates and multiplier on the rate card apply to the price.
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

        /// Sets credits, in place of units.
        #[must_use]
        pub fn credits(mut self, credits: Decimal) -> Self {
            self.units.clear();
            Self { credits: Some(credits.normalize()), ..self }
        }

        /// Adds a pair of texts that the ledger shows. An order has room for 10 pairs and 512 bytes.
        #[must_use]
        pub fn metadata(mut self, key: &str, value: &str) -> Self {
            self.metadata.insert(key.to_owned(), value.to_owned());
            self
        }
    })+ };
}

sized!(DebitOrder HoldOrder SettleOrder);

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

    /// Creates the consumer of a record of a bulk job.
    #[must_use]
    pub fn bulk(job_id: &str, feature: &str) -> Self {
        Self::Bulk { job_id: job_id.to_owned(), feature: feature.to_owned(), list_id: None, user_id: None }
    }
}

impl WorkspaceProfile {
    /// Creates a profile with the name that mails and the settings page show, and the address for receipts and invoices.
    #[must_use]
    pub fn of(name: &str, plan: Plan, billing_email: &str) -> Self {
        Self { name: name.to_owned(), plan, billing_email: billing_email.to_owned() }
    }
}
