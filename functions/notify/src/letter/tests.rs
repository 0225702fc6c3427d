use super::{Letter, LetterDesk, Recipient};
use credits_core::auto_top_up::TopUpLimit;
use credits_core::claw_back::ClawBackReason;
use credits_core::credits::Credits;
use credits_core::event::{EndReason, Event, Fact};
use credits_core::id::WorkspaceId;
use credits_core::invoice::InvoiceLine;
use credits_core::ledger::EntryKind;
use credits_core::price::Price;
use credits_core::run::Trigger;
use credits_core::top_up_page::TopUpPage;

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

fn acme() -> WorkspaceId {
    "acme".parse().unwrap()
}

fn price() -> Price {
    Price { amount_minor: 1600, currency: "USD".parse().unwrap() }
}

/// Returns events for which a mail is sent, in a fixed order.
fn all_events() -> Vec<Event> {
    let (subscription_id, tier) = ("sub_1".parse().unwrap(), "tier_2k".parse().unwrap());
    let cancelled = |reason| Fact::SubscriptionCancelled {
        subscription_id: "sub_1".parse().unwrap(),
        tier: "tier_2k".parse().unwrap(),
        reason,
    };
    vec![
        failed(Trigger::Scheduled),
        event(Fact::CreditsLow {
            crossed_smaller: false,
            threshold: "100".parse().unwrap(),
            available: "30".parse().unwrap(),
            held: "60".parse().unwrap(),
        }),
        event(Fact::CreditsExhausted { available: "0.05".parse().unwrap(), held: Credits::ZERO }),
        event(Fact::CreditsExpiring {
            credits: "20".parse().unwrap(),
            expires_at: "2026-11-24T11:05:00Z".parse().unwrap(),
            days: 1,
        }),
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
    LetterDesk::new(TopUpPage::at("https://hub.test/settings?org={workspace}".to_owned())).unwrap()
}

#[test]
fn letters_have_a_subject_and_a_link_in_text_and_html() {
    let mut subjects = Vec::new();
    for event in all_events() {
        let written = desk().write(&Letter::of(&event).unwrap(), &acme(), "Acme").unwrap();
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
    20 AI credits of Acme expire on 24 November 2026
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
    let written = desk().write(&Letter::of(&failed(Trigger::Event)).unwrap(), &acme(), "Acme").unwrap();
    insta::assert_snapshot!(written.text.trim(), @r"
    Hello,

    A run of the workflow weekly-report in Acme failed because the workspace does not have enough AI credits.

    Step summarize needs 3.4 credits, and 1.2 are available. The steps before it are not affected.

    Failed runs are not retried. After you add credits, the workflow runs again at its next trigger, and you can start this run again by hand. If more runs fail, one mail lists them together, at most once an hour.

    Add credits: https://hub.test/settings?org=acme
    ");
    assert!(Letter::of(&failed(Trigger::Manual)).is_none(), "a manual run sends no mail");
}

#[test]
fn m15_low_and_exhausted_letters_say_how_much_is_left() {
    let text = |event: &Event| {
        let written = desk().write(&Letter::of(event).unwrap(), &acme(), "Acme").unwrap();
        written.text.trim().to_owned()
    };
    let [_, low, exhausted, ..] = &all_events()[..] else { panic!("fewer than 3 events") };
    insta::assert_snapshot!([text(low), text(exhausted)].join("\n---\n"), @r"
    Hello,

    Acme has 30 AI credits available, and calls in progress hold 60 more. Your alert is set to 100 credits.

    Add credits now so that your workflows keep running: https://hub.test/settings?org=acme
    ---
    Hello,

    Acme is out of AI credits: 0.05 are available. A workflow run fails at the first step that needs more, and AI actions are refused until you add credits.

    After you add credits, workflows run again at their next trigger. Failed runs are not retried.

    Add credits: https://hub.test/settings?org=acme
    ");
}

#[test]
fn m05_claw_back_letter_says_what_was_taken_and_what_is_left() {
    let text = |event: &Event| desk().write(&Letter::of(event).unwrap(), &acme(), "Acme").unwrap().text;
    insta::assert_snapshot!(text(&clawed_back("500")).trim(), @r"
    Hello,

    1000 AI credits were taken back from Acme because a payment is disputed (pi_1).

    500 credits are left. If the payment stands after the dispute, the credits are returned. If automatic top-up was on, it is paused until you switch it on again.

    Your balance and payments: https://hub.test/settings?org=acme
    ");
    assert!(text(&clawed_back("-200")).contains("now owes 200 credits"));
    assert!(text(&limited(TopUpLimit::Hourly)).contains("three times within an hour"));
    assert!(text(&limited(TopUpLimit::Monthly)).contains("reached its monthly limit"));
}

#[test]
fn expiry_letter_says_when_how_much_expires() {
    let expiring = |days| {
        let expires_at = "2027-01-08T09:30:00Z".parse().unwrap();
        event(Fact::CreditsExpiring { credits: "150.5".parse().unwrap(), expires_at, days })
    };
    let written = desk().write(&Letter::of(&expiring(7)).unwrap(), &acme(), "Acme").unwrap();
    assert_eq!(written.subject, "150.5 AI credits of Acme expire on 8 January 2027");
    insta::assert_snapshot!(written.text.trim(), @r"
    Hello,

    150.5 AI credits of Acme expire in 7 days, on 8 January 2027, 09:30 UTC. What is used until then is drawn from them first. The rest is lost.

    Your balance: https://hub.test/settings?org=acme
    ");
    assert!(written.html.contains("in 7 days") && written.html.contains("See your balance"));
    let tomorrow = desk().write(&Letter::of(&expiring(1)).unwrap(), &acme(), "Acme").unwrap();
    assert!(tomorrow.text.contains("expire tomorrow, on"));
}

#[test]
fn m08_invoice_letter_lists_commitment_and_usage() {
    let invoice = all_events().pop().unwrap();
    let written = desk().write(&Letter::of(&invoice).unwrap(), &acme(), "Acme").unwrap();
    insta::assert_snapshot!(written.text.trim(), @r"
    Hello,

    This is the invoice of Acme for October 2026.

    Monthly commitment, days 16 to 31 of 31: 2580.645162 credits, USD 258.06
    text.generate: 300.5 credits, USD 2.40
    Total: USD 260.46
    Invoice number: INV-2026-000123
    Date: 23 November 2026

    Your invoices: https://hub.test/settings?org=acme
    ");
    assert!(written.html.contains("text.generate") && written.html.contains("USD 2.40"));
}

#[test]
fn only_letters_of_alerts_go_to_alert_recipients() {
    for event in all_events() {
        let recipient = match event.fact {
            Fact::CreditsLow { .. } => Recipient::AlertRecipients,
            Fact::CreditsExpiring { .. } => Recipient::ExpiryRecipients,
            _ => Recipient::Billing,
        };
        assert_eq!(Letter::of(&event).unwrap().recipient, recipient);
    }
}

#[test]
fn a_workspace_name_injects_no_header_and_no_html() {
    let low = &all_events()[1];
    let written =
        desk().write(&Letter::of(low).unwrap(), &acme(), "<b>Acme</b>\r\nBcc: x@y.example").unwrap();
    assert!(!written.subject.contains(['\r', '\n']), "{:?}", written.subject);
    assert!(!written.html.contains("<b>Acme") && written.html.contains("&lt;b&gt;Acme"));
}
