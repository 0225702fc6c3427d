//! Letters: which facts are mailed, to whom, and with which text. Each letter has a text and an HTML template.

use std::cmp::Reverse;

use credits_core::auto_top_up::TopUpLimit;
use credits_core::claw_back::ClawBackReason;
use credits_core::credits::Credits;
use credits_core::event::{EndReason, Event, Fact};
use credits_core::id::WorkspaceId;
use credits_core::invoice::InvoiceLine;
use credits_core::ledger::EntryKind;
use credits_core::month::Month;
use credits_core::price::Price;
use credits_core::run::Trigger;
use credits_core::top_up_page::TopUpPage;
use credits_store::failures::Digest;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::value::Value;
use minijinja::{Environment, context};

/// The recipients of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipient {
    /// The workspace's billing contact.
    Billing,
    /// The recipients of the low-balance alert.
    AlertRecipients,
    /// The recipients of expiry notices.
    ExpiryRecipients,
}

/// A letter that is not rendered yet.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The event's id, or an id of the digest. Letters with the same id are one mail.
    pub mail_id: String,
    pub recipient: Recipient,
    template: &'static str,
    values: Value,
}

/// A rendered letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedLetter {
    /// One line, without control characters.
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// A template that can't be parsed or rendered. This is a bug.
#[derive(Debug, thiserror::Error)]
#[error("a mail template can't be rendered")]
pub struct RenderError(#[from] minijinja::Error);

/// The maximum number of workflows that a digest lists by name.
const MAX_LISTED: usize = 20;

/// The parsed templates, and the page that all letters link to.
#[derive(Debug)]
pub struct LetterDesk {
    templates: Environment<'static>,
    top_up_page: TopUpPage,
}

const TEMPLATES: [(&str, &str); 31] = [
    ("layout.html", include_str!("../templates/layout.html")),
    ("run_failed.txt", include_str!("../templates/run_failed.txt")),
    ("run_failed.html", include_str!("../templates/run_failed.html")),
    ("runs_failed.txt", include_str!("../templates/runs_failed.txt")),
    ("runs_failed.html", include_str!("../templates/runs_failed.html")),
    ("balance_low.txt", include_str!("../templates/balance_low.txt")),
    ("balance_low.html", include_str!("../templates/balance_low.html")),
    ("credits_expiring.txt", include_str!("../templates/credits_expiring.txt")),
    ("credits_expiring.html", include_str!("../templates/credits_expiring.html")),
    ("balance_exhausted.txt", include_str!("../templates/balance_exhausted.txt")),
    ("balance_exhausted.html", include_str!("../templates/balance_exhausted.html")),
    ("payment_failed.txt", include_str!("../templates/payment_failed.txt")),
    ("payment_failed.html", include_str!("../templates/payment_failed.html")),
    ("subscription_cancelled.txt", include_str!("../templates/subscription_cancelled.txt")),
    ("subscription_cancelled.html", include_str!("../templates/subscription_cancelled.html")),
    ("auto_top_up_off.txt", include_str!("../templates/auto_top_up_off.txt")),
    ("auto_top_up_off.html", include_str!("../templates/auto_top_up_off.html")),
    ("auto_top_up_limited.txt", include_str!("../templates/auto_top_up_limited.txt")),
    ("auto_top_up_limited.html", include_str!("../templates/auto_top_up_limited.html")),
    ("auto_top_up_unlimited.txt", include_str!("../templates/auto_top_up_unlimited.txt")),
    ("auto_top_up_unlimited.html", include_str!("../templates/auto_top_up_unlimited.html")),
    ("credits_clawed_back.txt", include_str!("../templates/credits_clawed_back.txt")),
    ("credits_clawed_back.html", include_str!("../templates/credits_clawed_back.html")),
    ("credits_returned.txt", include_str!("../templates/credits_returned.txt")),
    ("credits_returned.html", include_str!("../templates/credits_returned.html")),
    ("payment_action.txt", include_str!("../templates/payment_action.txt")),
    ("payment_action.html", include_str!("../templates/payment_action.html")),
    ("invoice.txt", include_str!("../templates/invoice.txt")),
    ("invoice.html", include_str!("../templates/invoice.html")),
    ("receipt.txt", include_str!("../templates/receipt.txt")),
    ("receipt.html", include_str!("../templates/receipt.html")),
];

impl Letter {
    /// Returns the letter for an event; `None` if no mail is sent for it.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        let (template, values) = match &event.fact {
            Fact::RunFailed { workflow_id, trigger, step_id, required, available, .. } => {
                // The person who started the run by hand sees it fail (M12).
                if *trigger == Trigger::Manual {
                    return None;
                }
                // The balance covered this step, but not the rest of its batch.
                let in_a_batch = required.credits() <= *available;
                ("run_failed", context! { workflow_id, step_id, required, available, in_a_batch })
            }
            Fact::CreditsLow { crossed_smaller: true, .. } => return None,
            Fact::CreditsLow { threshold, available, held, .. } => {
                ("balance_low", context! { threshold, available, held })
            }
            Fact::CreditsExpiring { credits, expires_at, days } => {
                let (date, expires) = (date(*expires_at), minute(*expires_at));
                ("credits_expiring", context! { credits, days, date, expires })
            }
            Fact::CreditsExhausted { available, held } => {
                // It is below zero after use of a credit limit or after a claw-back.
                ("balance_exhausted", context! { available => available.or_zero(), held })
            }
            Fact::RenewalFailed { tier, price, next_attempt_at, .. } => {
                let (price, next_attempt) = (price.to_string(), date(*next_attempt_at));
                ("payment_failed", context! { tier, price, next_attempt })
            }
            Fact::SubscriptionCancelled { tier, reason, .. } => {
                let payment_failed = *reason == EndReason::PaymentFailed;
                ("subscription_cancelled", context! { tier, payment_failed })
            }
            Fact::AutoTopUpLimited { limit, until, .. } => {
                let hourly = *limit == TopUpLimit::Hourly;
                ("auto_top_up_limited", context! { hourly, until => minute(*until) })
            }
            Fact::AutoTopUpUnlimited { .. } => ("auto_top_up_unlimited", context! {}),
            Fact::AutoTopUpSwitchedOff { declines, .. } => ("auto_top_up_off", context! { declines }),
            Fact::PaymentActionRequired { description, price, checkout_url, .. } => {
                ("payment_action", context! { description, price => price.to_string(), checkout_url })
            }
            Fact::InvoiceReady { number, month, lines, total, .. } => {
                let price = |amount_minor| Price { amount_minor, ..*total }.to_string();
                let line = |line: &InvoiceLine| context! { amount => price(line.amount_minor), ..Value::from_serialize(line) };
                let lines: Vec<Value> = lines.iter().map(line).collect();
                let (month, total, date) = (month_name(*month), total.to_string(), date(event.at));
                ("invoice", context! { number, month, lines, total, date })
            }
            Fact::PaymentReceived { purchase_id, description, credits, price, .. } => {
                let (price, date, reference) = (price.to_string(), date(event.at), purchase_id);
                ("receipt", context! { description, credits, price, date, reference })
            }
            Fact::CreditsClawedBack { payment_id, reason, credits, available, .. } => {
                let disputed = *reason == Some(ClawBackReason::Dispute);
                ("credits_clawed_back", context! { payment_id, disputed, credits, ..owned(*available) })
            }
            Fact::CreditsAdded { kind, credits, available, reason, .. }
                if *kind == EntryKind::ClawBackReversed =>
            {
                let disputed = *reason == Some(ClawBackReason::Dispute);
                ("credits_returned", context! { disputed, credits, ..owned(*available) })
            }
            Fact::CreditsAdded { .. }
            | Fact::CreditsUncollected { .. }
            | Fact::TopUpWanted { .. }
            | Fact::SubscriptionRenewed { .. }
            | Fact::PaymentUnmatched { .. } => return None,
        };
        let recipient = match event.fact {
            Fact::CreditsLow { .. } => Recipient::AlertRecipients,
            Fact::CreditsExpiring { .. } => Recipient::ExpiryRecipients,
            _ => Recipient::Billing,
        };
        Some(Self { mail_id: event.event_id.clone(), recipient, template, values })
    }

    /// Returns the letter about the runs that failed since the last mail: a row per workflow, most runs first.
    #[must_use]
    pub fn of_digest(digest: &Digest) -> Self {
        let Digest { workspace_id, since, count, by_workflow, .. } = digest;
        let mail_id = format!("digest-{workspace_id}-{}", since.as_millisecond());
        let mut failed: Vec<(&String, u64)> = by_workflow.iter().map(|(id, count)| (id, *count)).collect();
        failed.sort_by_key(|(_, count)| Reverse(*count));
        failed.truncate(MAX_LISTED);
        let others = failed.iter().fold(*count, |left, (_, count)| left.saturating_sub(*count));
        let only = failed.first().filter(|_| failed.len() == 1 && others == 0).map(|(id, _)| id);
        let row = |(workflow_id, count)| context! { workflow_id, count };
        let workflows: Vec<Value> = failed.iter().copied().map(row).collect();
        let runs = if *count == 1 { "run" } else { "runs" };
        let values = context! { count, runs, only, workflows, others, since => minute(*since) };
        Self { mail_id, recipient: Recipient::Billing, template: "runs_failed", values }
    }
}

impl LetterDesk {
    /// Parses the templates.
    pub fn new(top_up_page: TopUpPage) -> Result<Self, RenderError> {
        let mut templates = Environment::new();
        for (name, source) in TEMPLATES {
            templates.add_template(name, source)?;
        }
        Ok(Self { templates, top_up_page })
    }

    /// Renders a letter for a workspace, which it calls by this name.
    pub fn write(
        &self,
        letter: &Letter,
        workspace: &WorkspaceId,
        name: &str,
    ) -> Result<RenderedLetter, RenderError> {
        let top_up_url = self.top_up_page.url_for(workspace.as_str());
        let common = context! { workspace => name, top_up_url };
        let values = context! { ..letter.values.clone(), ..common };
        let text = self.templates.get_template(&format!("{}.txt", letter.template))?.render(&values)?;
        let (subject, text) = text.split_once('\n').unwrap_or((&text, ""));
        let subject = one_line(subject);
        let html = self.templates.get_template(&format!("{}.html", letter.template))?;
        let html = html.render(context! { subject, ..values })?;
        Ok(RenderedLetter { subject, text: text.to_owned(), html })
    }
}

/// Replaces control characters with spaces, since a line break would end the mail's subject header.
fn one_line(subject: &str) -> String {
    subject.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// Returns the template values `available`, at least zero, and `debt`, which is absent unless the balance is negative.
fn owned(available: Option<Credits>) -> Value {
    let available = available.unwrap_or_default();
    let debt = available.negated().or_zero();
    context! { available => available.or_zero(), debt => (debt > Credits::ZERO).then_some(debt) }
}

fn date(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%-d %B %Y").to_string()
}

fn month_name(month: Month) -> String {
    month.start().to_zoned(TimeZone::UTC).strftime("%B %Y").to_string()
}

fn minute(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%-d %B %Y, %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests;
