//! Letters: which facts are mailed, to whom, and with which text. Each letter has a text and an HTML template.

use std::cmp::Reverse;

use credits_core::auto_top_up::TopUpLimit;
use credits_core::claw_back::ClawBackReason;
use credits_core::credits::Credits;
use credits_core::event::{EndReason, Event, Fact};
use credits_core::invoice::InvoiceLine;
use credits_core::ledger::EntryKind;
use credits_core::month::Month;
use credits_core::price::Price;
use credits_core::run::Trigger;
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
    top_up_url: String,
}

const TEMPLATES: [(&str, &str); 29] = [
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
            Fact::CreditsLow { threshold, available, held } => {
                ("balance_low", context! { threshold, available, held })
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
            | Fact::TopUpWanted { .. }
            | Fact::SubscriptionRenewed { .. }
            | Fact::PaymentUnmatched { .. } => return None,
        };
        let low = matches!(event.fact, Fact::CreditsLow { .. });
        let recipient = if low { Recipient::AlertRecipients } else { Recipient::Billing };
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
    pub fn new(top_up_url: String) -> Result<Self, RenderError> {
        let mut templates = Environment::new();
        for (name, source) in TEMPLATES {
            templates.add_template(name, source)?;
        }
        Ok(Self { templates, top_up_url })
    }

    /// Renders a letter for the workspace with this name.
    pub fn write(&self, letter: &Letter, workspace: &str) -> Result<RenderedLetter, RenderError> {
        let common = context! { workspace, top_up_url => self.top_up_url };
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
mod tests {
    use super::{Letter, LetterDesk, Recipient};
    use credits_core::auto_top_up::TopUpLimit;
    use credits_core::claw_back::ClawBackReason;
    use credits_core::credits::Credits;
    use credits_core::event::{EndReason, Event, Fact};
    use credits_core::invoice::InvoiceLine;
    use credits_core::ledger::EntryKind;
    use credits_core::price::Price;
    use credits_core::run::Trigger;

    fn event(fact: Fact) -> Event {
        let at = "2026-11-23T12:00:00Z".parse().unwrap();
        Event { event_id: "e1".into(), workspace_id: Some("acme".parse().unwrap()), version: 7, at, fact }
    }

    fn failed(trigger: Trigger) -> Event {
        event(Fact::RunFailed {
            run_id: "run_1".parse().unwrap(),
            workflow_id: "weekly-report".parse().unwrap(),
            trigger,
            step_id: "summarize".parse().unwrap(),
            required: "3.4".parse().unwrap(),
            available: "1.2".parse().unwrap(),
        })
    }

    fn price() -> Price {
        Price { amount_minor: 1600, currency: "USD".parse().unwrap() }
    }

    /// Returns events for which a mail is sent, in a fixed order.
    fn told() -> Vec<Event> {
        let (subscription_id, tier) = ("sub_1".parse().unwrap(), "tier_2k".parse().unwrap());
        let cancelled = |reason| Fact::SubscriptionCancelled {
            subscription_id: "sub_1".parse().unwrap(),
            tier: "tier_2k".parse().unwrap(),
            reason,
        };
        vec![
            failed(Trigger::Scheduled),
            event(Fact::CreditsLow {
                threshold: "100".parse().unwrap(),
                available: "30".parse().unwrap(),
                held: "60".parse().unwrap(),
            }),
            event(Fact::CreditsExhausted { available: "0.05".parse().unwrap(), held: Credits::ZERO }),
            event(Fact::RenewalFailed {
                subscription_id,
                tier,
                price: price(),
                declines: 1,
                next_attempt_at: "2026-11-24T11:05:00Z".parse().unwrap(),
            }),
            event(cancelled(EndReason::PaymentFailed)),
            event(cancelled(EndReason::Cancelled)),
            event(Fact::PaymentReceived {
                purchase_id: "top_1".parse().unwrap(),
                payment_id: "pi_1".into(),
                description: "1000 AI credits".into(),
                credits: "1000".parse().unwrap(),
                price: price(),
            }),
            clawed_back("500"),
            clawed_back("-200"),
            event(Fact::CreditsAdded {
                entry_id: "rev_1".parse().unwrap(),
                kind: EntryKind::ClawBackReversed,
                credits: "1000".parse().unwrap(),
                available: "800".parse().ok(),
                reason: Some(ClawBackReason::Dispute),
            }),
            limited(TopUpLimit::Hourly),
            limited(TopUpLimit::Monthly),
            event(Fact::AutoTopUpUnlimited { pack: "pack_1k".parse().unwrap() }),
            event(Fact::AutoTopUpSwitchedOff { pack: "pack_1k".parse().unwrap(), declines: 3 }),
            event(Fact::PaymentActionRequired {
                purchase_id: "top_2".parse().unwrap(),
                description: "1000 AI credits".into(),
                price: price(),
                checkout_url: "https://checkout.test/cs_1".into(),
            }),
            event(Fact::InvoiceReady {
                invoice_id: "inv_2026-10".parse().unwrap(),
                number: "INV-2026-000123".parse().unwrap(),
                month: "2026-10".parse().unwrap(),
                lines: vec![
                    invoice_line("Monthly commitment, days 16 to 31 of 31", "2580.645162", 25_806),
                    invoice_line("text.generate", "300.5", 240),
                ],
                total: Price { amount_minor: 26_046, ..price() },
            }),
        ]
    }

    fn clawed_back(available: &str) -> Event {
        event(Fact::CreditsClawedBack {
            entry_id: "claw_1".parse().unwrap(),
            payment_id: "pi_1".into(),
            reason: Some(ClawBackReason::Dispute),
            credits: "1000".parse().unwrap(),
            available: available.parse().ok(),
        })
    }

    fn limited(limit: TopUpLimit) -> Event {
        let until = "2026-11-23T12:42:00Z".parse().unwrap();
        event(Fact::AutoTopUpLimited { pack: "pack_1k".parse().unwrap(), limit, until })
    }

    fn invoice_line(description: &str, credits: &str, amount_minor: u64) -> InvoiceLine {
        InvoiceLine { description: description.to_owned(), credits: credits.parse().unwrap(), amount_minor }
    }

    fn desk() -> LetterDesk {
        LetterDesk::new("https://hub.test/settings".into()).unwrap()
    }

    #[test]
    fn letters_have_a_subject_and_a_link_in_text_and_html() {
        let mut subjects = Vec::new();
        for event in told() {
            let written = desk().write(&Letter::of(&event).unwrap(), "Acme").unwrap();
            let link = if matches!(event.fact, Fact::PaymentActionRequired { .. }) {
                "checkout.test/cs_1"
            } else {
                "hub.test/settings"
            };
            assert!(written.text.contains(&format!("https://{link}")), "{}", written.text);
            // The template engine escapes a slash as well. A browser decodes it.
            assert!(written.html.contains(&link.replace('/', "&#x2f;")) && written.html.contains("<h1"));
            assert!(!written.text.contains("{{") && !written.html.contains("{%"));
            subjects.push(written.subject);
        }
        insta::assert_snapshot!(subjects.join("\n"), @r"
        A run of weekly-report failed: out of AI credits
        AI credits are running low in Acme
        Acme is out of AI credits
        The payment for your AI credits was declined
        Your AI credits subscription has ended
        Your AI credits subscription has ended
        Receipt: 1000 AI credits, USD 16.00
        1000 AI credits were taken back from Acme
        1000 AI credits were taken back from Acme
        1000 AI credits were returned to Acme
        Automatic top-up of Acme waits until 23 November 2026, 12:42 UTC
        Automatic top-up of Acme waits until 23 November 2026, 12:42 UTC
        Automatic top-up of Acme has no monthly limit
        Automatic top-up of your AI credits is off
        Please confirm a payment for your AI credits
        Invoice INV-2026-000123 for October 2026: USD 260.46
        ");
    }

    #[test]
    fn m12_failed_run_letter_says_what_failed_and_what_to_do() {
        let written = desk().write(&Letter::of(&failed(Trigger::Event)).unwrap(), "Acme").unwrap();
        insta::assert_snapshot!(written.text.trim(), @r"
        Hello,

        A run of the workflow weekly-report in Acme failed because the workspace does not have enough AI credits.

        Step summarize needs 3.4 credits, and 1.2 are available. The steps before it are not affected.

        Failed runs are not retried. After you add credits, the workflow runs again at its next trigger, and you can start this run again by hand. If more runs fail, one mail lists them together, at most once an hour.

        Add credits: https://hub.test/settings
        ");
        assert!(Letter::of(&failed(Trigger::Manual)).is_none(), "a manual run sends no mail");
    }

    #[test]
    fn m15_low_and_exhausted_letters_say_how_much_is_left() {
        let text = |event: &Event| {
            let written = desk().write(&Letter::of(event).unwrap(), "Acme").unwrap();
            written.text.trim().to_owned()
        };
        let [_, low, exhausted, ..] = &told()[..] else { panic!("fewer than 3 events") };
        insta::assert_snapshot!([text(low), text(exhausted)].join("\n---\n"), @r"
        Hello,

        Acme has 30 AI credits available, and calls in progress hold 60 more. Your alert is set to 100 credits.

        Add credits now so that your workflows keep running: https://hub.test/settings
        ---
        Hello,

        Acme is out of AI credits: 0.05 are available. A workflow run fails at the first step that needs more, and AI actions are refused until you add credits.

        After you add credits, workflows run again at their next trigger. Failed runs are not retried.

        Add credits: https://hub.test/settings
        ");
    }

    #[test]
    fn m05_claw_back_letter_says_what_was_taken_and_what_is_left() {
        let text = |event: &Event| desk().write(&Letter::of(event).unwrap(), "Acme").unwrap().text;
        insta::assert_snapshot!(text(&clawed_back("500")).trim(), @r"
        Hello,

        1000 AI credits were taken back from Acme because a payment is disputed (pi_1).

        500 credits are left. If the payment stands after the dispute, the credits are returned. If automatic top-up was on, it is paused until you switch it on again.

        Your balance and payments: https://hub.test/settings
        ");
        assert!(text(&clawed_back("-200")).contains("now owes 200 credits"));
        assert!(text(&limited(TopUpLimit::Hourly)).contains("three times within an hour"));
        assert!(text(&limited(TopUpLimit::Monthly)).contains("reached its monthly limit"));
    }

    #[test]
    fn m08_invoice_letter_lists_commitment_and_usage() {
        let invoice = told().pop().unwrap();
        let written = desk().write(&Letter::of(&invoice).unwrap(), "Acme").unwrap();
        insta::assert_snapshot!(written.text.trim(), @r"
        Hello,

        This is the invoice of Acme for October 2026.

        Monthly commitment, days 16 to 31 of 31: 2580.645162 credits, USD 258.06
        text.generate: 300.5 credits, USD 2.40
        Total: USD 260.46
        Invoice number: INV-2026-000123
        Date: 23 November 2026

        Your invoices: https://hub.test/settings
        ");
        assert!(written.html.contains("text.generate") && written.html.contains("USD 2.40"));
    }

    #[test]
    fn only_the_low_balance_letter_goes_to_alert_recipients() {
        for event in told() {
            let low = matches!(event.fact, Fact::CreditsLow { .. });
            let recipient = if low { Recipient::AlertRecipients } else { Recipient::Billing };
            assert_eq!(Letter::of(&event).unwrap().recipient, recipient);
        }
    }

    #[test]
    fn a_workspace_name_injects_no_header_and_no_html() {
        let low = &told()[1];
        let written = desk().write(&Letter::of(low).unwrap(), "<b>Acme</b>\r\nBcc: x@y.example").unwrap();
        assert!(!written.subject.contains(['\r', '\n']), "{:?}", written.subject);
        assert!(!written.html.contains("<b>Acme") && written.html.contains("&lt;b&gt;Acme"));
    }
}
