//! Every key of the table, in one place. Ids contain no `#`, so keys of different kinds never collide.
//!
//! | item | `pk` | `sk` | `index_pk` | `index_sk` |
//! | --- | --- | --- | --- | --- |
//! | workspace | `workspace#W` | `profile` | | |
//! | balance | `balance#W` | `balance` | `due#NN` while lanes are open | `TIME#W` |
//! | lane | `lane#W#N` | `lane` | | |
//! | ledger entry under a caller's key | `entry#W#key#K` | `entry` | `ledger#W`, or `ledger#W#NN` for a debit on a lane | `TIME#ENTRY` |
//! | ledger entry under an internal key | `entry#W#sys#K` | `entry` | `ledger#W` | `TIME#ENTRY` |
//! | caller's key without a ledger entry | `entry#W#key#K` | `entry` | | |
//! | running grants | `grant#W` | `running` | | |
//! | grant by the operator | `grant#W#G` | `grant` | `due#NN` if it expires | `TIME#…` |
//! | record of an ended allocation | `grant#W#G` | `ended` | | |
//! | purchase | `purchase#P` | `purchase` | `due#NN` while the sweep watches its checkout | `TIME#…` |
//! | subscription | `subscription#W` | `subscription` | `due#NN` while it runs | `TIME#…` |
//! | agreement | `agreement#W` | `agreement` | `due#NN` while it runs | `TIME#…` |
//! | how an epoch's use was paid | `paid#W` | `TIME#EPOCH` | | |
//! | version of own prices | `prices#W` | `VERSION` | | |
//! | invoice | `invoice#W` | `COUNT` | `due#NN` until it is numbered | `TIME#W` |
//! | last invoice number of the seller | `invoice_numbers#seller` | `last` | | |
//! | stored payment method | `card#W` | `card` | | |
//! | payment methods with disputes | `card#W` | `disputed` | | |
//! | hold | `hold#W#H` | `hold` | `holds#NN` while it is open | `W#TIME#END OF H` |
//! | run | `run#W#R` | `run` | `runs#W` | `TIME#R` |
//! | number of runs in a month | `allowance#W` | `runs#YYYY-MM` | | |
//! | a month's usage | `usage#W` | `YYYY-MM` | `checks` until it is checked | `TIME#W#YYYY-MM` |
//! | usage of a workflow, feature or person | `usage#W#YYYY-MM` | `workflow#KEY` | | |
//! | recount of a month | `recount#W#YYYY-MM` | `recount`, and `SLICE#NUMBER` for a part of its sums | | |
//! | alert settings | `alerts#W` | `alerts` | `due#NN` while an expiry notice lies ahead | `TIME#W` |
//! | automatic top-up | `auto_top_up#W` | `auto_top_up` | `due#NN` while it has a date | `TIME#W` |
//! | mail | `mail#M` | `mail` | | |
//! | mail address that gets no mails | `address#DIGEST` | `address` | | |
//! | failed runs | `failures#W` | `failures` | `digests` while some are not mailed | `TIME#W` |
//! | event that was counted | `fact#F` | `fact` | | |
//! | payment | `payment#P` | `payment` | `unmatched` while it is unmatched, or `payments#W` | `TIME#P` |
//! | payment that an operator resolved | `resolution#P` | `resolution` | `resolved` | `TIME#P` |
//! | refund that we owe | `refund#R` | `refund` | `due#NN` until Stripe has answered | `TIME#R` |
//!
//! A due item that fails too often moves to `stuck`. In `holds#NN` the holds of each workspace are together, so that a call
//! reads the expired holds of its own workspace only.
//!
//! Each ledger entry has its own partition, apart from the balance's: a partition takes 1,000 write units a second.
//! `TIME` is milliseconds since 1970 in 15 digits, so texts sort like numbers until the year 9999.

use std::borrow::Cow;

use credits_core::credits::{Credits, OutOfRange};
use credits_core::debit_refund::EpochPayment;
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
/// The index: ledger entries, due items, payments, runs and others, by time.
pub const INDEX: &str = "by_time";
/// The index's partition key.
pub const INDEX_PK: &str = "index_pk";
/// The index's sort key.
pub const INDEX_SK: &str = "index_sk";

/// The only document attribute that the index projects: an entry's cause, or a run.
pub const DETAIL: &str = "detail";

/// The index partition of payments that match no purchase.
pub const UNMATCHED: &str = "unmatched";

/// The index partition of unmatched payments that an operator has resolved.
pub const RESOLVED: &str = "resolved";

/// The index partition of failed runs that wait for a digest mail.
pub const DIGESTS: &str = "digests";

/// The index partition of months whose usage awaits the check against the ledger.
pub const CHECKS: &str = "checks";

/// The index partition of due items that keep failing and wait for an operator.
pub const STUCK: &str = "stuck";

/// The number of index partitions for due items, and of those for open holds. Several, so that none is hot.
pub const DUE_SHARDS: u8 = 8;

/// The number of index partitions for debits on lanes, of each workspace that has had lanes.
const LEDGER_SHARDS: u16 = 16;

/// The key of an item.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ItemKey {
    pub pk: String,
    pub sk: Cow<'static, str>,
}

impl ItemKey {
    /// Returns the key of a workspace's profile.
    #[must_use]
    pub fn workspace(workspace: &WorkspaceId) -> Self {
        Self::of(format!("workspace#{workspace}"), "profile")
    }

    #[must_use]
    pub fn balance(workspace: &WorkspaceId) -> Self {
        Self::of(format!("balance#{workspace}"), "balance")
    }

    /// Returns the key of a lane. Lanes of all generations with the same number share it.
    #[must_use]
    pub fn lane(workspace: &WorkspaceId, number: u16) -> Self {
        Self::of(format!("lane#{workspace}#{number}"), "lane")
    }

    /// Returns the key of the item under a caller's key.
    #[must_use]
    pub fn called(workspace: &WorkspaceId, key: &IdempotencyKey) -> Self {
        Self::entry(format!("entry#{workspace}#key#{}", key.as_str()))
    }

    /// Returns the key of the ledger entry under an internal key.
    #[must_use]
    pub fn ours(workspace: &WorkspaceId, key: &str) -> Self {
        Self::entry(format!("entry#{workspace}#sys#{key}"))
    }

    /// Returns the key of a ledger entry whose partition key is known.
    #[must_use]
    pub fn entry(pk: String) -> Self {
        Self::of(pk, "entry")
    }

    /// Returns the key of a grant by the operator.
    #[must_use]
    pub fn grant(workspace: &WorkspaceId, grant: &Id) -> Self {
        Self::of(format!("grant#{workspace}#{grant}"), "grant")
    }

    #[must_use]
    pub fn running_grants(workspace: &WorkspaceId) -> Self {
        Self::of(format!("grant#{workspace}"), "running")
    }

    /// Returns the key of the record of an ended allocation.
    #[must_use]
    pub fn ended_grant(workspace: &WorkspaceId, grant: &Id) -> Self {
        Self::of(format!("grant#{workspace}#{grant}"), "ended")
    }

    #[must_use]
    pub fn hold(workspace: &WorkspaceId, hold: &Id) -> Self {
        Self::of(format!("hold#{workspace}#{hold}"), "hold")
    }

    #[must_use]
    pub fn run(workspace: &WorkspaceId, run: &Id) -> Self {
        Self::of(format!("run#{workspace}#{run}"), "run")
    }

    /// Returns the key of the count of runs that a workspace has started in a month.
    #[must_use]
    pub fn allowance(workspace: &WorkspaceId, month: Month) -> Self {
        Self { pk: format!("allowance#{workspace}"), sk: format!("runs#{month}").into() }
    }

    #[must_use]
    pub fn purchase(purchase: &Id) -> Self {
        Self::of(format!("purchase#{purchase}"), "purchase")
    }

    #[must_use]
    pub fn subscription(workspace: &WorkspaceId) -> Self {
        Self::of(format!("subscription#{workspace}"), "subscription")
    }

    #[must_use]
    pub fn agreement(workspace: &WorkspaceId) -> Self {
        Self::of(format!("agreement#{workspace}"), "agreement")
    }

    /// Returns the key of how an epoch's use was paid.
    #[must_use]
    pub fn epoch_payment(workspace: &WorkspaceId, payment: &EpochPayment) -> Self {
        let place = position(payment.closed_at, &format!("{:012}", payment.epoch));
        Self { pk: Self::epoch_payments(workspace), sk: place.into() }
    }

    /// Returns the partition of how epochs were paid.
    #[must_use]
    pub fn epoch_payments(workspace: &WorkspaceId) -> String {
        format!("paid#{workspace}")
    }

    /// Returns the key of a version of a workspace's own prices.
    #[must_use]
    pub fn own_prices(workspace: &WorkspaceId, version: u64) -> Self {
        Self { pk: format!("prices#{workspace}"), sk: format!("{version:012}").into() }
    }

    /// Returns the key of a workspace's invoice. `count` is 1 for its first invoice.
    #[must_use]
    pub fn invoice(workspace: &WorkspaceId, count: u64) -> Self {
        Self { pk: format!("invoice#{workspace}"), sk: format!("{count:06}").into() }
    }

    /// Returns the key of the counter with the last number of the seller's series of invoices.
    #[must_use]
    pub fn invoice_numbers() -> Self {
        Self::of("invoice_numbers#seller".to_owned(), "last")
    }

    /// Returns the key of a month's usage.
    #[must_use]
    pub fn usage(workspace: &WorkspaceId, month: Month) -> Self {
        Self { pk: format!("usage#{workspace}"), sk: month.to_string().into() }
    }

    /// Returns the key of a month's usage by one workflow, feature or person.
    #[must_use]
    pub fn group(workspace: &WorkspaceId, month: Month, group_by: GroupBy, key: &str) -> Self {
        Self { pk: Self::groups(workspace, month), sk: format!("{group_by}#{key}").into() }
    }

    /// Returns the partition of a month's groups that have their own items.
    #[must_use]
    pub fn groups(workspace: &WorkspaceId, month: Month) -> String {
        format!("usage#{workspace}#{month}")
    }

    /// Returns the key of a month's recount.
    #[must_use]
    pub fn recount(workspace: &WorkspaceId, month: Month) -> Self {
        Self::of(format!("recount#{workspace}#{month}"), "recount")
    }

    /// Returns the key of a part of this recount's sums.
    #[must_use]
    pub fn part(&self, slice: &str, number: u64) -> Self {
        Self { pk: self.pk.clone(), sk: format!("{slice}#{number}").into() }
    }

    /// Returns the key of the ledger entry that a balance names in `last`.
    #[must_use]
    pub fn named(workspace: &WorkspaceId, last: &str) -> Self {
        Self::entry(format!("entry#{workspace}#{last}"))
    }

    /// Returns the name of this entry in a balance's `last`: the partition key without its kind and workspace.
    #[must_use]
    pub fn name(&self) -> &str {
        self.pk.splitn(3, '#').nth(2).unwrap_or_default()
    }

    #[must_use]
    pub fn alerts(workspace: &WorkspaceId) -> Self {
        Self::of(format!("alerts#{workspace}"), "alerts")
    }

    #[must_use]
    pub fn auto_top_up(workspace: &WorkspaceId) -> Self {
        Self::of(format!("auto_top_up#{workspace}"), "auto_top_up")
    }

    /// Returns the key of a mail, whose id comes from the event that the mail reports.
    #[must_use]
    pub fn mail(mail_id: &str) -> Self {
        Self::of(format!("mail#{mail_id}"), "mail")
    }

    /// Returns the key of a mail address. The table knows an address by its digest only.
    #[must_use]
    pub fn address(address: &str) -> Self {
        let digest = hex(&sha256(&[address.to_ascii_lowercase().as_bytes()]));
        Self::of(format!("address#{digest}"), "address")
    }

    /// Returns the key of the failed runs that mails report.
    #[must_use]
    pub fn failures(workspace: &WorkspaceId) -> Self {
        Self::of(format!("failures#{workspace}"), "failures")
    }

    /// Returns the key of an event that was counted.
    #[must_use]
    pub fn fact(event_id: &str) -> Self {
        Self::of(format!("fact#{event_id}"), "fact")
    }

    /// Returns the key of a workspace's payment methods with disputes.
    #[must_use]
    pub fn disputed_methods(workspace: &WorkspaceId) -> Self {
        Self::of(format!("card#{workspace}"), "disputed")
    }

    /// Returns the key of a workspace's stored payment method.
    #[must_use]
    pub fn card(workspace: &WorkspaceId) -> Self {
        Self::of(format!("card#{workspace}"), "card")
    }

    #[must_use]
    pub fn payment(payment_id: &str) -> Self {
        Self::of(format!("payment#{payment_id}"), "payment")
    }
}

impl ItemKey {
    /// Returns the key of the item that lists a resolved payment.
    #[must_use]
    pub fn resolution(payment_id: &str) -> Self {
        Self::of(format!("resolution#{payment_id}"), "resolution")
    }

    #[must_use]
    pub fn refund(refund: &Id) -> Self {
        Self::of(format!("refund#{refund}"), "refund")
    }

    fn of(pk: String, sk: &'static str) -> Self {
        Self { pk, sk: Cow::Borrowed(sk) }
    }
}

/// Returns the index partition of a workspace's ledger.
#[must_use]
pub fn ledger(workspace: &WorkspaceId) -> String {
    format!("ledger#{workspace}")
}

/// Returns the index partition of the debits on a lane. An index partition takes 1,000 write units a second, so the ledger of a
/// busy workspace has several.
#[must_use]
pub fn ledger_of_lane(workspace: &WorkspaceId, lane: u16) -> String {
    format!("ledger#{workspace}#{:02}", lane.checked_rem(LEDGER_SHARDS).unwrap_or_default())
}

/// Returns the index partitions of the debits on lanes.
pub fn ledger_shards(workspace: &WorkspaceId) -> impl Iterator<Item = String> {
    (0..LEDGER_SHARDS).map(move |shard| ledger_of_lane(workspace, shard))
}

/// Formats a position by size: millionths in 27 digits, where less than zero counts as zero, and a key that distinguishes
/// equal sizes.
pub(crate) fn size_position(credits: Credits, key: &str) -> Result<String, OutOfRange> {
    Ok(format!("{:027}#{key}", credits.or_zero().micros()?))
}

/// Parses the size and the key of a position by size.
pub(crate) fn read_size_position(position: &str) -> Option<(Credits, &str)> {
    let (micros, key) = position.split_once('#')?;
    let digits = micros.len() == 27 && micros.bytes().all(|byte| byte.is_ascii_digit());
    Some((Credits::from_micros(micros.parse().ok().filter(|_| digits)?).ok()?, key))
}

/// Returns the index partition of a workspace's payments.
#[must_use]
pub fn payments(workspace: &WorkspaceId) -> String {
    format!("payments#{workspace}")
}

/// Returns the index partition of a workspace's runs.
#[must_use]
pub fn runs(workspace: &WorkspaceId) -> String {
    format!("runs#{workspace}")
}

/// Returns the index partition of a workspace's due items.
#[must_use]
pub fn due(workspace: &WorkspaceId) -> String {
    due_shard(shard_of(workspace))
}

/// Returns the name of one of the index partitions of due items.
#[must_use]
pub fn due_shard(shard: u8) -> String {
    format!("due#{shard:02}")
}

/// Returns the index partition of a workspace's open holds.
#[must_use]
pub fn holds(workspace: &WorkspaceId) -> String {
    holds_shard(shard_of(workspace))
}

/// Returns the name of one of the index partitions of open holds.
#[must_use]
pub fn holds_shard(shard: u8) -> String {
    format!("holds#{shard:02}")
}

fn shard_of(workspace: &WorkspaceId) -> u8 {
    let digest = sha256(&[workspace.as_str().as_bytes()]);
    digest.first().copied().unwrap_or_default().checked_rem(DUE_SHARDS).unwrap_or_default()
}

/// Formats the index position of an open hold: its workspace, its expiry, and an id that distinguishes equal instants.
#[must_use]
pub fn hold_position(workspace: &WorkspaceId, expires_at: Timestamp, id: &str) -> String {
    format!("{workspace}#{}", position(expires_at, id))
}

/// Parses the workspace, the instant and the id of an open hold's index position.
#[must_use]
pub fn read_hold_position(position: &str) -> Option<(&str, Timestamp, &str)> {
    let (workspace, rest) = position.split_once('#')?;
    let (expires_at, id) = read_position(rest)?;
    Some((workspace, expires_at, id))
}

/// Formats an index position: an instant, and an id that distinguishes equal instants.
#[must_use]
pub fn position(at: Timestamp, id: &str) -> String {
    format!("{:015}#{id}", at.as_millisecond().max(0))
}

/// Parses the instant and the id of an index position.
#[must_use]
pub fn read_position(position: &str) -> Option<(Timestamp, &str)> {
    let (millis, id) = position.split_once('#')?;
    let digits = millis.len() == 15 && millis.bytes().all(|byte| byte.is_ascii_digit());
    let at = Timestamp::from_millisecond(millis.parse().ok().filter(|_| digits)?).ok()?;
    Some((at, id))
}
