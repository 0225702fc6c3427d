//! Subscriptions as they are kept: one item a workspace, written whole under its version, and found when it is due.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::enrolment::Enrolment;
use credits_core::id::WorkspaceId;
use credits_core::purchase::{Card, Purchase};

use crate::Store;
use crate::attribute::{Item, Reader, text};
use crate::error::{Corrupt, Fault};
use crate::expression::Expression;
use crate::keys::ItemKey;
use crate::purchases::begin_write;
use crate::versioned::{self, Kept};

/// The attribute that holds all of it.
const ENROLMENT: &str = "enrolment";

/// What a workspace has of subscriptions, and the version under which it may be changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Versioned {
    /// What it has; nothing, where nothing was ever written.
    pub enrolment: Enrolment,
    /// How often it was written.
    pub version: u64,
}

impl Store {
    /// What the workspace has of subscriptions.
    pub async fn enrolment(&self, workspace: &WorkspaceId) -> Result<Versioned, Fault> {
        let item = self.get(&ItemKey::subscription(workspace)).await?;
        Ok(item.as_ref().map(read).transpose()?.unwrap_or_default())
    }

    /// Writes a change, if nobody has written since; says whether it is written.
    pub async fn change_enrolment(
        &self,
        workspace: &WorkspaceId,
        read: &Versioned,
        after: &Enrolment,
    ) -> Result<bool, Fault> {
        let write = write_of(&self.table, workspace, read.version, after)?;
        self.written(vec![write]).await
    }

    /// Keeps a purchase together with the change that points to it, before the provider is asked; says whether both
    /// are written.
    pub async fn begin_purchase(
        &self,
        read: &Versioned,
        after: &Enrolment,
        purchase: &Purchase,
        card: Option<&Card>,
    ) -> Result<bool, Fault> {
        let change = write_of(&self.table, &purchase.workspace_id, read.version, after)?;
        self.written(vec![change, begin_write(&self.table, purchase, card)?]).await
    }

    /// The provider's id of the customer whose card is stored.
    pub async fn customer(&self, workspace: &WorkspaceId) -> Result<Option<String>, Fault> {
        let item = self.get(&ItemKey::card(workspace)).await?;
        Ok(item.as_ref().map(|item| Reader(item).text("customer").map(str::to_owned)).transpose()?)
    }
}

/// The write of all of it, if it is still at the version that was read.
pub(crate) fn write_of(
    table: &str,
    workspace: &WorkspaceId,
    read_version: u64,
    after: &Enrolment,
) -> Result<TransactWriteItem, Corrupt> {
    let kept = Kept {
        workspace,
        key: ItemKey::subscription(workspace),
        name: ENROLMENT,
        value: after,
        read_version,
        due_at: after.next_due(),
    };
    kept.write(table)
}

/// The write that keeps the customer whose card has paid.
pub(crate) fn card_write(
    table: &str,
    workspace: &WorkspaceId,
    customer: &str,
) -> Result<TransactWriteItem, Corrupt> {
    Expression::new().set("customer", text(customer)).update(table, &ItemKey::card(workspace))
}

/// The same where it is told long after: a card that was stored since is not replaced.
pub(crate) fn first_card_write(
    table: &str,
    workspace: &WorkspaceId,
    customer: &str,
) -> Result<TransactWriteItem, Corrupt> {
    Expression::new().set_once("customer", text(customer)).update(table, &ItemKey::card(workspace))
}

/// The enrolment of an item.
pub(crate) fn read(item: &Item) -> Result<Versioned, Corrupt> {
    let (enrolment, version) = versioned::read(item, ENROLMENT)?;
    Ok(Versioned { enrolment, version })
}
