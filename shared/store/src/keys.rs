//! Every key of the table, in one place. Ids hold no `#`, so no two kinds of item can meet.
//!
//! | item | `pk` | `sk` | `index_pk` | `index_sk` |
//! | --- | --- | --- | --- | --- |
//! | workspace | `workspace#W` | `profile` | | |
//! | balance | `balance#W` | `balance` | | |
//! | ledger entry under a caller's key | `entry#W#key#K` | `entry` | `ledger#W` | `TIME#ENTRY` |
//! | ledger entry of ours | `entry#W#sys#K` | `entry` | `ledger#W` | `TIME#ENTRY` |
//! | a key that stands for something else | `entry#W#key#K` | `entry` | | |
//! | grants that run | `grant#W` | `running` | | |
//! | grant by the operator | `grant#W#G` | `grant` | `due#NN` if it expires | `TIME#…` |
//! | record of an allocation that has ended | `grant#W#G` | `ended` | | |
//! | purchase | `purchase#P` | `purchase` | `due#NN` while its checkout is to be looked at | `TIME#…` |
//! | subscription | `subscription#W` | `subscription` | `due#NN` while it runs | `TIME#…` |
//! | agreement | `agreement#W` | `agreement` | `due#NN` while it runs | `TIME#…` |
//! | invoice | `invoice#W` | `COUNT` | `due#NN` until it is numbered | `TIME#W` |
//! | last invoice number of the seller | `invoice_numbers#seller` | `last` | | |
//! | stored payment method | `card#W` | `card` | | |
//! | payment methods with disputes | `card#W` | `disputed` | | |
//! | hold | `hold#W#H` | `hold` | `due#NN` while it is open | `TIME#END OF H` |
//! | run | `run#W#R` | `run` | `runs#W` | `TIME#R` |
//! | runs of a month | `allowance#W` | `runs#YYYY-MM` | | |
//! | a month's usage | `usage#W` | `YYYY-MM` | `checks` until it is checked | `TIME#W#YYYY-MM` |
//! | usage of a workflow, feature or person | `usage#W#YYYY-MM` | `workflow#KEY` | `usage#W#YYYY-MM#workflow` | `SIZE#KEY` |
//! | alert settings | `alerts#W` | `alerts` | | |
//! | automatic top-up | `auto_top_up#W` | `auto_top_up` | `due#NN` while it has a date | `TIME#W` |
//! | mail | `mail#M` | `mail` | | |
//! | address that is switched off | `address#DIGEST` | `address` | | |
//! | failed runs | `failures#W` | `failures` | `digests` while some are not mailed | `TIME#W` |
//! | a counted fact | `fact#F` | `fact` | | |
//! | payment | `payment#P` | `payment` | `unmatched` while it is, or `payments#W` | `TIME#P` |
//! | payment that an operator resolved | `resolution#P` | `resolution` | `resolved` | `TIME#P` |
//! | refund that we owe | `refund#R` | `refund` | `due#NN` until it is made | `TIME#R` |
//!
//! An entry is not in the balance's partition, and each has one of its own: a partition takes 1,000 write units a
//! second. `TIME` is milliseconds since 1970 in 15 digits, which sort as numbers do until the year 9999. `SIZE` is
//! millionths of a credit in 27 digits.

use std::borrow::Cow;

use credits_core::credits::{Credits, OutOfRange};
use credits_core::id::{Id, WorkspaceId};
use credits_core::month::Month;
use credits_core::usage::GroupBy;
use jiff::Timestamp;

use crate::digest::{hex, sha256};
use crate::idempotency::IdempotencyKey;

/// The table's partition key.
pub const PK: &str = "pk";
/// The table's sort key.
pub const SK: &str = "sk";
/// The index, which knows entries by time, and whatever else is due or has to be looked at.
pub const INDEX: &str = "by_time";
/// The index's partition key.
pub const INDEX_PK: &str = "index_pk";
/// The index's sort key.
pub const INDEX_SK: &str = "index_sk";

/// The one document attribute that the index keeps: an entry's cause, a run.
pub const DETAIL: &str = "detail";

/// The index partition of payments that fit nothing.
pub const UNMATCHED: &str = "unmatched";

/// The index partition of payments that fitted nothing until an operator resolved them.
pub const RESOLVED: &str = "resolved";

/// The index partition of failed runs that wait for a digest.
pub const DIGESTS: &str = "digests";

/// The index partition of months whose usage is to be checked against the ledger.
pub const CHECKS: &str = "checks";

/// The index partition of what keeps failing, and waits for an operator.
pub const STUCK: &str = "stuck";

/// Over how many index partitions what is due is spread, so that none is hot.
pub const DUE_SHARDS: u8 = 8;

/// The key of an item.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ItemKey {
    /// Its partition key.
    pub pk: String,
    /// Its sort key.
    pub sk: Cow<'static, str>,
}

impl ItemKey {
    /// A workspace's profile.
    #[must_use]
    pub fn workspace(workspace: &WorkspaceId) -> Self {
        Self::of(format!("workspace#{workspace}"), "profile")
    }

    /// A workspace's balance.
    #[must_use]
    pub fn balance(workspace: &WorkspaceId) -> Self {
        Self::of(format!("balance#{workspace}"), "balance")
    }

    /// What stands under a caller's key.
    #[must_use]
    pub fn called(workspace: &WorkspaceId, key: &IdempotencyKey) -> Self {
        Self::entry(format!("entry#{workspace}#key#{}", key.as_str()))
    }

    /// What stands under a key of ours.
    #[must_use]
    pub fn ours(workspace: &WorkspaceId, key: &str) -> Self {
        Self::entry(format!("entry#{workspace}#sys#{key}"))
    }

    /// A ledger entry whose partition key is known.
    #[must_use]
    pub fn entry(pk: String) -> Self {
        Self::of(pk, "entry")
    }

    /// A grant by the operator.
    #[must_use]
    pub fn grant(workspace: &WorkspaceId, grant: &Id) -> Self {
        Self::of(format!("grant#{workspace}#{grant}"), "grant")
    }

    /// The grants that run.
    #[must_use]
    pub fn running_grants(workspace: &WorkspaceId) -> Self {
        Self::of(format!("grant#{workspace}"), "running")
    }

    /// The record of an allocation that has ended.
    #[must_use]
    pub fn ended_grant(workspace: &WorkspaceId, grant: &Id) -> Self {
        Self::of(format!("grant#{workspace}#{grant}"), "ended")
    }

    /// A hold.
    #[must_use]
    pub fn hold(workspace: &WorkspaceId, hold: &Id) -> Self {
        Self::of(format!("hold#{workspace}#{hold}"), "hold")
    }

    /// A run.
    #[must_use]
    pub fn run(workspace: &WorkspaceId, run: &Id) -> Self {
        Self::of(format!("run#{workspace}#{run}"), "run")
    }

    /// How many runs a workspace has started in a month.
    #[must_use]
    pub fn allowance(workspace: &WorkspaceId, month: Month) -> Self {
        Self { pk: format!("allowance#{workspace}"), sk: format!("runs#{month}").into() }
    }

    /// A purchase.
    #[must_use]
    pub fn purchase(purchase: &Id) -> Self {
        Self::of(format!("purchase#{purchase}"), "purchase")
    }

    /// A workspace's subscription.
    #[must_use]
    pub fn subscription(workspace: &WorkspaceId) -> Self {
        Self::of(format!("subscription#{workspace}"), "subscription")
    }

    /// A workspace's agreement.
    #[must_use]
    pub fn agreement(workspace: &WorkspaceId) -> Self {
        Self::of(format!("agreement#{workspace}"), "agreement")
    }

    /// A workspace's first, second, third … invoice.
    #[must_use]
    pub fn invoice(workspace: &WorkspaceId, count: u64) -> Self {
        Self { pk: format!("invoice#{workspace}"), sk: format!("{count:06}").into() }
    }

    /// The last number of the seller's series of invoices.
    #[must_use]
    pub fn invoice_numbers() -> Self {
        Self::of("invoice_numbers#seller".to_owned(), "last")
    }

    /// A month's usage.
    #[must_use]
    pub fn usage(workspace: &WorkspaceId, month: Month) -> Self {
        Self { pk: format!("usage#{workspace}"), sk: month.to_string().into() }
    }

    /// A month's usage by one workflow, feature or person.
    #[must_use]
    pub fn group(workspace: &WorkspaceId, month: Month, group_by: GroupBy, key: &str) -> Self {
        Self { pk: format!("usage#{workspace}#{month}"), sk: format!("{group_by}#{key}").into() }
    }

    /// The ledger entry that a balance names as its last.
    #[must_use]
    pub fn named(workspace: &WorkspaceId, last: &str) -> Self {
        Self::entry(format!("entry#{workspace}#{last}"))
    }

    /// What a balance calls the entry that stands under this key.
    #[must_use]
    pub fn name(&self) -> &str {
        self.pk.splitn(3, '#').nth(2).unwrap_or_default()
    }

    /// A workspace's alert settings.
    #[must_use]
    pub fn alerts(workspace: &WorkspaceId) -> Self {
        Self::of(format!("alerts#{workspace}"), "alerts")
    }

    /// A workspace's automatic top-up.
    #[must_use]
    pub fn auto_top_up(workspace: &WorkspaceId) -> Self {
        Self::of(format!("auto_top_up#{workspace}"), "auto_top_up")
    }

    /// A mail, by the fact that it tells.
    #[must_use]
    pub fn mail(mail_id: &str) -> Self {
        Self::of(format!("mail#{mail_id}"), "mail")
    }

    /// A mail address, which is known by its digest alone.
    #[must_use]
    pub fn address(address: &str) -> Self {
        let digest = hex(&sha256(&[address.to_ascii_lowercase().as_bytes()]));
        Self::of(format!("address#{digest}"), "address")
    }

    /// The mails about failed runs.
    #[must_use]
    pub fn failures(workspace: &WorkspaceId) -> Self {
        Self::of(format!("failures#{workspace}"), "failures")
    }

    /// A fact that was counted.
    #[must_use]
    pub fn fact(event_id: &str) -> Self {
        Self::of(format!("fact#{event_id}"), "fact")
    }

    /// A workspace's payment methods with disputes.
    #[must_use]
    pub fn disputed_methods(workspace: &WorkspaceId) -> Self {
        Self::of(format!("card#{workspace}"), "disputed")
    }

    /// A workspace's stored payment method.
    #[must_use]
    pub fn card(workspace: &WorkspaceId) -> Self {
        Self::of(format!("card#{workspace}"), "card")
    }

    /// A payment.
    #[must_use]
    pub fn payment(payment_id: &str) -> Self {
        Self::of(format!("payment#{payment_id}"), "payment")
    }
}

impl ItemKey {
    /// The place of a resolved payment in the index.
    #[must_use]
    pub fn resolution(payment_id: &str) -> Self {
        Self::of(format!("resolution#{payment_id}"), "resolution")
    }

    /// A refund that we owe.
    #[must_use]
    pub fn refund(refund: &Id) -> Self {
        Self::of(format!("refund#{refund}"), "refund")
    }

    fn of(pk: String, sk: &'static str) -> Self {
        Self { pk, sk: Cow::Borrowed(sk) }
    }
}

/// The index partition of a workspace's ledger.
#[must_use]
pub fn ledger(workspace: &WorkspaceId) -> String {
    format!("ledger#{workspace}")
}

/// The index partition of a breakdown's groups, by size.
#[must_use]
pub fn groups(workspace: &WorkspaceId, month: Month, group_by: GroupBy) -> String {
    format!("usage#{workspace}#{month}#{group_by}")
}

/// An index position: a size, which is never below zero, and what sets apart those that share it.
pub(crate) fn size_position(credits: Credits, key: &str) -> Result<String, OutOfRange> {
    Ok(format!("{:027}#{key}", credits.or_zero().micros()?))
}

/// The size and the key of an index position.
pub(crate) fn read_size_position(position: &str) -> Option<(Credits, &str)> {
    let (micros, key) = position.split_once('#')?;
    let digits = micros.len() == 27 && micros.bytes().all(|byte| byte.is_ascii_digit());
    Some((Credits::from_micros(micros.parse().ok().filter(|_| digits)?).ok()?, key))
}

/// The index partition of a workspace's payments.
#[must_use]
pub fn payments(workspace: &WorkspaceId) -> String {
    format!("payments#{workspace}")
}

/// The index partition of a workspace's runs.
#[must_use]
pub fn runs(workspace: &WorkspaceId) -> String {
    format!("runs#{workspace}")
}

/// The index partition in which a workspace's due items stand.
#[must_use]
pub fn due(workspace: &WorkspaceId) -> String {
    let digest = sha256(&[workspace.as_str().as_bytes()]);
    due_shard(digest.first().copied().unwrap_or_default().checked_rem(DUE_SHARDS).unwrap_or_default())
}

/// One of the index partitions of due items.
#[must_use]
pub fn due_shard(shard: u8) -> String {
    format!("due#{shard:02}")
}

/// An index position: an instant, and what sets apart those that share it.
#[must_use]
pub fn position(at: Timestamp, id: &str) -> String {
    format!("{:015}#{id}", at.as_millisecond().max(0))
}

/// The instant and the id of an index position.
#[must_use]
pub fn read_position(position: &str) -> Option<(Timestamp, &str)> {
    let (millis, id) = position.split_once('#')?;
    let digits = millis.len() == 15 && millis.bytes().all(|byte| byte.is_ascii_digit());
    let at = Timestamp::from_millisecond(millis.parse().ok().filter(|_| digits)?).ok()?;
    Some((at, id))
}
