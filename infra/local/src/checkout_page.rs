//! The page that a payer sees in place of Stripe's checkout page.

use crate::provider::{Session, SessionMode, in_major_units};

/// Renders a page with two buttons. Its texts come from our own functions, and are escaped nevertheless.
pub(crate) fn page(session: &Session) -> String {
    let (product, amount) = match session.mode {
        SessionMode::Payment => {
            let amount = in_major_units(session.amount_minor, &session.currency);
            (session.product.as_str(), format!("{} {amount}", session.currency.to_uppercase()))
        }
        SessionMode::Setup => ("Store a payment method", "Nothing to pay".to_owned()),
    };
    format!(
        r#"<!doctype html><html lang="en"><meta charset="utf-8"><title>Local checkout</title>
<body style="font-family:system-ui;max-width:28rem;margin:4rem auto">
<h1>{product}</h1><p>{amount}, at a stand-in payment provider: no money moves.</p>
<button onclick="pay('succeeded')">Pay</button> <button onclick="pay('declined')">Decline</button>
<p id="said" role="status"></p>
<p><a href="/_local/payments">Refunds and disputes of what was paid</a></p>
<script>
async function pay(outcome) {{
  const response = await fetch(location.pathname + '/pay', {{ method: 'POST', body: JSON.stringify({{ outcome }}) }});
  document.getElementById('said').textContent = outcome + ': the webhook answered ' + response.status;
}}
</script></body></html>"#,
        product = escaped(product),
        amount = escaped(&amount),
    )
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
