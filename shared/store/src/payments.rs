//! Payments: what the provider tells becomes credits once, however often and in whatever order it is told.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::change::Change;
use credits_core::credits::{Amount, Credits};
use credits_core::enrolment::PaidPeriod;
use credits_core::grant::{ExpiringGrant, GrantKind, NextGrant};
use credits_core::ledger::Cause;
use credits_core::payment::{Granted, Mismatch, News, Payment, Step};
use credits_core::posting::Posting;
use credits_core::price::Currency;
use credits_core::purchase::{Goods, Purchase};
use jiff::Timestamp;

use crate::attribute::{Item, text};
use crate::error::{Corrupt, Fault};
use crate::keys::{INDEX, INDEX_PK, ItemKey, PK, UNMATCHED};
use crate::posting::{Order, Unposted};
use crate::transaction::Outcome;
use crate::{Store, enrolments, payment_item, purchases};

/// How many unmatched payments are shown at most, oldest first: they wait for an operator.
const MOST_SHOWN: i32 = 1_000;

/// What came of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It is all known already.
    Nothing,
    /// Something was granted, clawed back or kept.
    Settled,
    /// The payment fits nothing of ours, and is kept for an operator.
    Unmatched(Mismatch),
}

/// A payment that waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmatchedPayment {
    /// The provider's id.
    pub payment_id: String,
    /// What was paid, in minor units.
    pub amount_minor: u64,
    /// In which currency.
    pub currency: Currency,
    /// Why it fits nothing.
    pub reason: Mismatch,
    /// When it was first heard of.
    pub at: Timestamp,
}

/// What one transaction did for a payment.
enum Progress {
    /// Our side is what it ought to be.
    Done(Told),
    /// A step was taken, and another may follow.
    Stepped(Told),
    /// Another event of the same payment was faster.
    Overtaken,
}

impl Store {
    /// Merges an event into its payment, and does what follows from it, step by step, until nothing more does.
    ///
    /// Each step is one transaction on the payment's item, the balance and the ledger. A crash between two leaves the
    /// rest to the provider's next try, which finds what is still to be done.
    pub async fn tell(&self, payment_id: &str, news: &News) -> Result<Told, Fault> {
        let told = self.follow(payment_id, news).await?;
        match told {
            Told::Settled => metrics::counter!("PaymentsSettled").increment(1),
            Told::Unmatched(_) => metrics::counter!("PaymentsUnmatched").increment(1),
            Told::Nothing => {}
        }
        Ok(told)
    }

    async fn follow(&self, payment_id: &str, news: &News) -> Result<Told, Fault> {
        let mut attempts = self.attempts();
        let mut told = Told::Nothing;
        loop {
            match self.advance(payment_id, news).await? {
                Progress::Done(Told::Nothing) => return Ok(told),
                Progress::Done(last) => return Ok(last),
                Progress::Stepped(step) => told = step,
                Progress::Overtaken => attempts.after_conflict().await?,
            }
        }
    }

    /// The payments that fit nothing, oldest first.
    pub async fn unmatched_payments(&self) -> Result<Vec<UnmatchedPayment>, Fault> {
        let query = self
            .query()
            .index_name(INDEX)
            .limit(MOST_SHOWN)
            .key_condition_expression("#partition = :partition")
            .expression_attribute_names("#partition", INDEX_PK)
            .expression_attribute_values(":partition", text(UNMATCHED));
        let output = self.found(query).await?;
        let mut unmatched = Vec::new();
        for position in output.items() {
            // The index keeps keys and a ledger entry's few attributes; the rest is with the payment.
            let pk = position.get(PK).and_then(|pk| pk.as_s().ok()).ok_or(Corrupt::Attribute(PK))?;
            let key = ItemKey::payment(pk.trim_start_matches("payment#"));
            if let Some(item) = self.get(&key).await? {
                unmatched.extend(read_unmatched(&item)?);
            }
        }
        Ok(unmatched)
    }

    async fn advance(&self, payment_id: &str, news: &News) -> Result<Progress, Fault> {
        let item = self.get(&ItemKey::payment(payment_id)).await?;
        let known = item.as_ref().map(payment_item::read).transpose()?;
        let before = known.unwrap_or_else(|| Payment::unheard_of(payment_id, self.now()));
        let mut heard = before.clone();
        heard.hear(news);
        let kept = match heard.named_purchase().filter(|_| heard.granted.is_none()) {
            Some(id) => self.purchase(&id).await?,
            None => None,
        };
        let bought = kept.as_ref().map(|kept| (&kept.purchase, kept.paid_by.as_deref()));
        match (heard.next_step(bought).map_err(Corrupt::from)?, kept) {
            (Some(Step::Grant(granted)), Some(kept)) => {
                self.grant_purchase(heard, granted, kept.purchase).await
            }
            (Some(step), _) => self.take(heard, step).await,
            (None, _) => self.keep_news(&before, heard).await,
        }
    }

    /// Keeps what was told where nothing follows from it.
    async fn keep_news(&self, before: &Payment, heard: Payment) -> Result<Progress, Fault> {
        if heard != *before {
            let newly = heard.customer().filter(|_| before.customer().is_none());
            let card = heard.granted.as_ref().zip(newly).map(|(granted, customer)| {
                enrolments::first_card_write(&self.table, &granted.workspace_id, customer)
            });
            return self.keep(heard.clone(), card.transpose()?, Told::Settled).await;
        }
        // Told again at each redelivery: the first alarm may have been lost with its answer.
        let unmatched = heard.mismatch.filter(|_| heard.is_unmatched());
        Ok(Progress::Done(unmatched.map_or(Told::Nothing, Told::Unmatched)))
    }

    /// Grants what was bought: a pack joins the prepaid sum, a subscription's period becomes an allocation.
    async fn grant_purchase(
        &self,
        heard: Payment,
        granted: Granted,
        purchase: Purchase,
    ) -> Result<Progress, Fault> {
        let after = Step::Grant(granted.clone()).taken(&heard).map_err(Corrupt::from)?;
        let mut also = vec![purchases::paid_write(&self.table, &granted.purchase_id, &after.payment_id)?];
        if let Some(customer) = after.customer() {
            also.push(enrolments::card_write(&self.table, &granted.workspace_id, customer)?);
        }
        let amount = granted.credits;
        let (prefix, credits, listed) = ("pay", amount.credits(), true);
        if let Goods::Pack { pack, .. } = purchase.goods {
            let (top_up_id, payment_id) = (purchase.purchase_id, after.payment_id.clone());
            let cause = Cause::TopUp { top_up_id, pack, payment_id };
            let entry = PaymentEntry { prefix, cause, credits, listed };
            return self.settle(&granted, after, entry, &|_| Posting::top_up(amount), also).await;
        }
        let now = self.now();
        let read = self.enrolment(&granted.workspace_id).await?;
        let Ok((enrolment, paid)) = read.enrolment.paid(&purchase, now) else {
            return self.take(heard, Step::KeepUnmatched(Mismatch::MovedOn)).await;
        };
        also.push(enrolments::write_of(&self.table, &granted.workspace_id, read.version, &enrolment)?);
        let allocation = self.allocation(&granted, &after, paid, now);
        let listed = matches!(allocation.change, Change::Grant(_));
        let entry = PaymentEntry { prefix, cause: allocation.cause, credits, listed };
        self.settle(&granted, after, entry, &|_| Posting::change(allocation.change.clone()), also).await
    }

    /// A paid period's grant: at once, or where it was paid ahead, from its first second on.
    fn allocation(
        &self,
        granted: &Granted,
        payment: &Payment,
        paid: PaidPeriod,
        now: Timestamp,
    ) -> Allocation {
        let PaidPeriod { subscription_id, period, tier, starts_at, expires_at } = paid;
        let grant_id = self.sources.new_id("gr");
        let (granted_amount, amount) = (granted.credits, granted.credits.credits());
        let kind = GrantKind::Allocation;
        let grant =
            ExpiringGrant { grant_id: grant_id.clone(), kind, granted: granted_amount, amount, expires_at };
        let change = if starts_at > now {
            let key = payment_key(granted, payment, "pay").pk;
            Change::Next(NextGrant { starts_at, key, grant })
        } else {
            Change::Grant(grant)
        };
        Allocation {
            change,
            cause: Cause::Allocation { grant_id, subscription_id, period, tier, expires_at },
        }
    }

    async fn take(&self, heard: Payment, step: Step) -> Result<Progress, Fault> {
        let after = step.taken(&heard).map_err(Corrupt::from)?;
        match step {
            Step::KeepUnmatched(mismatch) => self.keep(after, None, Told::Unmatched(mismatch)).await,
            // It is granted with the purchase that it names.
            Step::Grant(_) => Err(Corrupt::Attribute("purchase").into()),
            Step::ClawBack(granted, amount) => {
                let cause = Cause::ClawBack { payment_id: after.payment_id.clone() };
                let credits = amount.credits().negated();
                let entry = PaymentEntry { prefix: "claw", cause, credits, listed: true };
                self.settle(&granted, after, entry, &|_| claw_back(amount), Vec::new()).await
            }
            Step::Reverse(granted, amount) => {
                let cause = Cause::ClawBackReversed { payment_id: after.payment_id.clone() };
                let entry = PaymentEntry { prefix: "rev", cause, credits: amount.credits(), listed: true };
                self.settle(&granted, after, entry, &|_| Posting::top_up(amount), Vec::new()).await
            }
        }
    }

    /// Writes the payment, and the card that is newly known, without a movement of credits.
    async fn keep(
        &self,
        payment: Payment,
        card: Option<TransactWriteItem>,
        told: Told,
    ) -> Result<Progress, Fault> {
        let payment = payment_item::write_of(&self.table, &next_version(payment))?;
        match self.transact(std::iter::once(payment).chain(card).collect()).await? {
            Outcome::Written => Ok(Progress::Done(told)),
            Outcome::Cancelled(_) | Outcome::Unknown(_) => Ok(Progress::Overtaken),
        }
    }

    /// Writes the payment together with the balance and the ledger entry of the step.
    async fn settle(
        &self,
        granted: &Granted,
        payment: Payment,
        entry: PaymentEntry,
        posting: &(dyn Fn(Timestamp) -> Posting + Sync),
        mut also: Vec<TransactWriteItem>,
    ) -> Result<Progress, Fault> {
        also.push(payment_item::write_of(&self.table, &next_version(payment.clone()))?);
        let fenced = matches!(entry.cause, Cause::ClawBack { .. } | Cause::Allocation { .. });
        let order = Order {
            workspace: &granted.workspace_id,
            key: payment_key(granted, &payment, entry.prefix),
            fingerprint: None,
            entry_id: self.sources.new_id(entry.prefix),
            credits: entry.credits,
            cause: entry.cause,
            listed: entry.listed,
            posting,
            also,
        };
        match self.post(order).await {
            Ok(_) => {
                if fenced {
                    self.settle_fence(&granted.workspace_id).await;
                }
                // What was told before its payment may ask for another step.
                let more = payment.next_step(None).map_err(Corrupt::from)?.is_some();
                Ok(if more { Progress::Stepped(Told::Settled) } else { Progress::Done(Told::Settled) })
            }
            Err(Unposted::Fault(fault)) => Err(fault),
            Err(Unposted::NoBalance | Unposted::Insufficient { .. }) => {
                Err(Corrupt::Attribute("balance").into())
            }
            Err(Unposted::AlsoRefused | Unposted::KeyTaken(_)) => Ok(Progress::Overtaken),
        }
    }
}

/// The ledger entry of a step.
struct PaymentEntry {
    prefix: &'static str,
    cause: Cause,
    credits: Credits,
    listed: bool,
}

/// What a paid period comes to.
struct Allocation {
    change: Change,
    cause: Cause,
}

/// The key of a step's entry: a payment grants once, and each claw-back has a number.
fn payment_key(granted: &Granted, payment: &Payment, prefix: &str) -> ItemKey {
    let key = format!("payment#{}#{prefix}{}", payment.payment_id, payment.claws);
    ItemKey::ours(&granted.workspace_id, &key)
}

fn claw_back(amount: Amount) -> Posting {
    Posting::change(Change::ClawBack(amount))
}

fn next_version(payment: Payment) -> Payment {
    Payment { version: payment.version.saturating_add(1), ..payment }
}

fn read_unmatched(item: &Item) -> Result<Option<UnmatchedPayment>, Corrupt> {
    let payment = payment_item::read(item)?;
    // The index may be behind: it is matched by now.
    if !payment.is_unmatched() {
        return Ok(None);
    }
    let known = payment.paid.zip(payment.mismatch);
    Ok(known.map(|(paid, reason)| UnmatchedPayment {
        payment_id: payment.payment_id,
        amount_minor: paid.amount_minor,
        currency: paid.currency,
        reason,
        at: payment.first_heard_at,
    }))
}
