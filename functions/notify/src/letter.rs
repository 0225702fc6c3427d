//! Letters: what a fact becomes for whom, and how it reads. One template for its text and one for its HTML.

use credits_core::event::{EndReason, Event, Fact};
use credits_core::run::Trigger;
use credits_store::failures::Digest;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::value::Value;
use minijinja::{Environment, context};

/// To whom a letter goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The workspace's billing contact.
    Billing,
    /// Those whom the low-balance alert names.
    AlertRecipients,
}

/// A letter, before it is written.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Names the fact that it tells.
    pub mail_id: String,
    /// To whom it goes.
    pub reader: Reader,
    template: &'static str,
    values: Value,
}

/// A letter as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its subject, on one line.
    pub subject: String,
    /// As text.
    pub text: String,
    /// As HTML.
    pub html: String,
}

/// A template that can't be filled in: a defect of ours.
#[derive(Debug, thiserror::Error)]
#[error("a letter can't be written")]
pub struct Unwritten(#[from] minijinja::Error);

/// The templates.
#[derive(Debug)]
pub struct Desk {
    templates: Environment<'static>,
    top_up_url: String,
}

const TEMPLATES: [(&str, &str); 15] = [
    ("layout.html", include_str!("../templates/layout.html")),
    ("run_failed.txt", include_str!("../templates/run_failed.txt")),
    ("run_failed.html", include_str!("../templates/run_failed.html")),
    ("runs_failed.txt", include_str!("../templates/runs_failed.txt")),
    ("runs_failed.html", include_str!("../templates/runs_failed.html")),
    ("balance_low.txt", include_str!("../templates/balance_low.txt")),
    ("balance_low.html", include_str!("../templates/balance_low.html")),
    ("balance_exhausted.txt", include_str!("../templates/balance_exhausted.txt")),
    ("balance_exhausted.html", include_str!("../templates/balance_exhausted.html")),
    ("payment_failed.txt", include_str!("../templates/payment_failed.txt")),
    ("payment_failed.html", include_str!("../templates/payment_failed.html")),
    ("subscription_cancelled.txt", include_str!("../templates/subscription_cancelled.txt")),
    ("subscription_cancelled.html", include_str!("../templates/subscription_cancelled.html")),
    ("receipt.txt", include_str!("../templates/receipt.txt")),
    ("receipt.html", include_str!("../templates/receipt.html")),
];

impl Letter {
    /// The letter of an event, if anybody is written to about it.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        let (template, values) = match &event.fact {
            Fact::RunFailed { workflow_id, trigger, step_id, required, available, .. } => {
                // A person who started a run sees it fail (M12).
                if *trigger == Trigger::Manual {
                    return None;
                }
                ("run_failed", context! { workflow_id, step_id, required, available })
            }
            Fact::CreditsLow { threshold, available } => ("balance_low", context! { threshold, available }),
            Fact::CreditsExhausted { available } => ("balance_exhausted", context! { available }),
            Fact::RenewalFailed { tier, price, next_attempt_at, .. } => {
                let (price, next_attempt) = (price.to_string(), date(*next_attempt_at));
                ("payment_failed", context! { tier, price, next_attempt })
            }
            Fact::SubscriptionCancelled { tier, reason, .. } => {
                let payment_failed = *reason == EndReason::PaymentFailed;
                ("subscription_cancelled", context! { tier, payment_failed })
            }
            Fact::PaymentReceived { purchase_id, description, credits, price, .. } => {
                let (price, date, reference) = (price.to_string(), date(event.at), purchase_id);
                ("receipt", context! { description, credits, price, date, reference })
            }
            Fact::CreditsAdded { .. }
            | Fact::SubscriptionRenewed { .. }
            | Fact::InvoiceReady { .. }
            | Fact::PaymentUnmatched { .. } => return None,
        };
        let low = matches!(event.fact, Fact::CreditsLow { .. });
        let reader = if low { Reader::AlertRecipients } else { Reader::Billing };
        Some(Self { mail_id: event.event_id.clone(), reader, template, values })
    }

    /// The letter of the runs that failed within an hour after one was told.
    #[must_use]
    pub fn of_digest(digest: &Digest) -> Self {
        let Digest { workspace_id, workflow_id, began_at, waiting, .. } = digest;
        let mail_id = format!("digest-{workspace_id}-{workflow_id}-{}", began_at.as_millisecond());
        let since = minute(*began_at);
        let values = context! { workflow_id, count => waiting, since };
        Self { mail_id, reader: Reader::Billing, template: "runs_failed", values }
    }
}

impl Desk {
    /// Reads the templates.
    pub fn new(top_up_url: String) -> Result<Self, Unwritten> {
        let mut templates = Environment::new();
        for (name, source) in TEMPLATES {
            templates.add_template(name, source)?;
        }
        Ok(Self { templates, top_up_url })
    }

    /// Writes a letter of a workspace.
    pub fn write(&self, letter: &Letter, workspace: &str) -> Result<Written, Unwritten> {
        let common = context! { workspace, top_up_url => self.top_up_url };
        let values = context! { ..letter.values.clone(), ..common };
        let text = self.templates.get_template(&format!("{}.txt", letter.template))?.render(&values)?;
        let (subject, text) = text.split_once('\n').unwrap_or((&text, ""));
        let subject = one_line(subject);
        let html = self.templates.get_template(&format!("{}.html", letter.template))?;
        let html = html.render(context! { subject, ..values })?;
        Ok(Written { subject, text: text.to_owned(), html })
    }
}

/// A subject without anything that could end a header.
fn one_line(subject: &str) -> String {
    subject.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

fn date(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%-d %B %Y").to_string()
}

fn minute(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%-d %B %Y, %H:%M UTC").to_string()
}
