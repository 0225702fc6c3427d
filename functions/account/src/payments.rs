//! `GET /v1/workspaces/{workspace_id}/payments`: lists the workspace's payments, newest first.

use credits_core::credits::Amount;
use credits_core::payment::{Payment, PaymentStatus};
use credits_core::price::Price;
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Store;
use credits_store::table::index::Cursor;
use jiff::Timestamp;
use serde::Serialize;

use crate::cursor::CursorScope;
use crate::{Account, query};

/// The payments on a page if the call names no limit.
const PAGE: u16 = 50;

/// The maximum number of payments on a page.
const MAX_PAGE: u16 = 100;

/// The longest id that Stripe assigns.
const MAX_PAYMENT_ID_BYTES: usize = 255;

#[derive(Debug, Serialize)]
struct PaymentsBody {
    payments: Vec<PaymentBody>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct PaymentBody {
    payment_id: String,
    at: Timestamp,
    description: String,
    amount: Price,
    refunded: Price,
    credits: Amount,
    status: PaymentStatus,
    receipt_url: Option<String>,
}

impl Account {
    pub(crate) async fn payments(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        let (limit, after) = read_query(call)?;
        store.workspaces().get(&workspace).await?.ok_or_else(Problem::workspace_not_found)?;
        let page = store.payments().list(&workspace, limit.into(), after.as_ref()).await?;
        let payments = page.items.into_iter().filter_map(PaymentBody::of).collect();
        let next_cursor = page.next.as_ref().map(|next| listing(call).write_position(next));
        Ok(Answer::ok(&PaymentsBody { payments, next_cursor }))
    }
}

/// Returns the payment id of the path. An empty one, or one longer than Stripe assigns, names no payment.
pub(crate) fn named_payment(call: &Call) -> Result<&str, Problem> {
    let payment_id = call.path_parameter("payment_id");
    match payment_id.len() {
        1..=MAX_PAYMENT_ID_BYTES => Ok(payment_id),
        _ => Err(Problem::not_found()),
    }
}

fn read_query(call: &Call) -> Result<(u16, Option<Cursor>), Problem> {
    let (mut limit, mut after) = (PAGE, None);
    query::read(call.query(), |name, value| {
        match name {
            "limit" => limit = query::whole_number(value, 1..=MAX_PAGE)?,
            "cursor" => after = Some(listing(call).read_position(value).map_err(|error| error.to_string())?),
            _ => return query::unknown(),
        }
        Ok(())
    })?;
    Ok((limit, after))
}

/// Returns the listing that a cursor must belong to.
fn listing(call: &Call) -> CursorScope<'_> {
    CursorScope { name: "payments", workspace: call.unchecked_workspace_id() }
}

impl PaymentBody {
    /// Returns the body for a payment; `None` if its status, its amount or its purchase is not known.
    fn of(payment: Payment) -> Option<Self> {
        let (status, amount) = (payment.status()?, payment.amount()?);
        let refunded = Price { amount_minor: payment.refunded_minor(), ..amount };
        let sale = payment.sale?;
        let at = payment.paid.as_ref().and_then(|paid| paid.at).unwrap_or(payment.first_heard_at);
        Some(Self {
            payment_id: payment.payment_id,
            at,
            description: sale.description,
            refunded,
            amount,
            credits: sale.credits,
            status,
            receipt_url: payment.receipt_url,
        })
    }
}
