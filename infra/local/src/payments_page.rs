//! The page on which a person plays Stripe's dashboard and the bank: refunds, disputes, and their ends.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::checkout_page::escaped;
use crate::provider::{PlayedDispute, PlayedPayment, PlayedRefund, StripeDisputeStatus, StripeRefundStatus};

/// Renders the payments, with a button for each event that can follow.
pub(crate) fn page(payments: &[PlayedPayment]) -> String {
    let mut rows = String::new();
    for payment in payments {
        // Writing to a string can't fail.
        let _ = writeln!(
            rows,
            "<tr><td>{}</td><td>{}</td><td><code>{}</code></td><td>{}</td></tr>",
            escaped(&payment.description),
            escaped(&payment.amount),
            escaped(&payment.payment_id),
            actions(payment)
        );
    }
    if rows.is_empty() {
        rows.push_str("<tr><td colspan=\"4\">Nothing is paid yet.</td></tr>");
    }
    format!(
        r#"<!doctype html><html lang="en"><meta charset="utf-8"><title>Local payments</title>
<body style="font-family:system-ui;max-width:64rem;margin:4rem auto;line-height:1.6">
<h1>PaymentsDesk</h1><p>A stand-in for Stripe's dashboard and the banks: no money moves.</p>
<p id="said" role="status"></p>
<table style="width:100%;text-align:left;border-spacing:0 .75rem">
<thead><tr><th>Bought</th><th>Paid</th><th>Payment</th><th>What happens</th></tr></thead><tbody>
{rows}</tbody></table>
<script>
for (const button of document.querySelectorAll('button')) button.onclick = async () => {{
  const response = await fetch('/_local/' + button.dataset.path, {{ method: 'POST', body: button.dataset.body }});
  const answer = await response.json();
  if (response.ok) {{ sessionStorage.setItem('said', button.title + ': ' + answer.events.length + ' events were delivered'); location.reload(); }}
  else document.getElementById('said').textContent = button.title + ': ' + answer.message;
}};
document.getElementById('said').textContent = sessionStorage.getItem('said') ?? '';
sessionStorage.removeItem('said');
</script></body></html>"#
    )
}

fn actions(payment: &PlayedPayment) -> String {
    let (id, left) = (&payment.payment_id, payment.left_minor);
    let of = |what: &str| format!("payments/{id}/{what}");
    let mut actions = Vec::new();
    if left > 0 && !payment.is_charged_back {
        actions.push(button("Refund", &of("refund"), &json!({})));
        actions.push(button("Refund half", &of("refund"), &json!({ "amount": left.div_ceil(2) })));
        actions.push(button("Refund later", &of("refund"), &json!({ "status": "pending" })));
    }
    if payment.disputes.is_empty() {
        actions.push(button("Inquire", &of("dispute"), &json!({ "status": "warning_needs_response" })));
        actions.push(button("Dispute", &of("dispute"), &json!({})));
    }
    let refunds = payment.refunds.iter().map(of_refund);
    let disputes = payment.disputes.iter().map(of_dispute);
    std::iter::once(actions.join(" ")).chain(refunds).chain(disputes).collect::<Vec<_>>().join("<br>")
}

fn of_refund(refund: &PlayedRefund) -> String {
    let path = format!("refunds/{}", refund.refund_id);
    let (status, ends): (_, &[(&str, &str)]) = match refund.status {
        StripeRefundStatus::Pending => {
            ("pending", &[("Complete refund", "succeeded"), ("Fail refund", "failed")])
        }
        StripeRefundStatus::Succeeded => ("succeeded", &[("Fail refund", "failed")]),
        StripeRefundStatus::Failed => ("failed", &[]),
    };
    format!("Refund of {}, {status} {}", escaped(&refund.amount), moves(&path, ends))
}

fn of_dispute(dispute: &PlayedDispute) -> String {
    let path = format!("disputes/{}", dispute.dispute_id);
    let (status, ends): (_, &[(&str, &str)]) = match dispute.status {
        StripeDisputeStatus::WarningNeedsResponse | StripeDisputeStatus::WarningUnderReview => {
            ("Inquiry", &[("Escalate", "needs_response"), ("Close inquiry", "warning_closed")])
        }
        StripeDisputeStatus::WarningClosed => ("Inquiry, closed", &[]),
        StripeDisputeStatus::NeedsResponse | StripeDisputeStatus::UnderReview => {
            ("Dispute, open", &[("Win dispute", "won"), ("Lose dispute", "lost")])
        }
        StripeDisputeStatus::Won => ("Dispute, won", &[]),
        StripeDisputeStatus::Lost => ("Dispute, lost", &[("Win appeal", "won")]),
    };
    format!("{status} {}", moves(&path, ends))
}

fn moves(path: &str, ends: &[(&str, &str)]) -> String {
    let buttons = ends.iter().map(|(name, status)| button(name, path, &json!({ "status": status })));
    buttons.collect::<Vec<_>>().join(" ")
}

fn button(name: &str, path: &str, body: &Value) -> String {
    let (path, body) = (escaped(path), escaped(&body.to_string()));
    format!(r#"<button title="{name}" data-path="{path}" data-body="{body}">{name}</button>"#)
}
