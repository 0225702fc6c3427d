//! Workspaces: created by the hub, each with its own balance from the start (M1).

use credits_core::balance::Balance;
use credits_core::id::WorkspaceId;
use credits_core::workspace::{Profile, Workspace};

use crate::error::{Corrupt, Fault};
use crate::items::balance_item;
use crate::table::Store;
use crate::table::attribute::{Item, Reader, instant, keyed, text};
use crate::table::expression::Expression;
use crate::table::keys::{ItemKey, PK};
use crate::table::transaction::TransactionOutcome;

/// A workspace after a put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    pub workspace: Workspace,
    /// Whether this call created it.
    pub created: bool,
}

/// Why a workspace's setting is not stored.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceRefusal {
    #[error("the workspace does not exist")]
    WorkspaceNotFound,
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Workspaces.
#[derive(Debug, Clone, Copy)]
pub struct WorkspaceStore<'a> {
    pub(crate) store: &'a Store,
}

impl WorkspaceStore<'_> {
    /// Creates the workspace and its empty balance, or updates its profile.
    pub async fn put(self, id: &WorkspaceId, profile: &Profile) -> Result<Put, Fault> {
        let mut attempts = self.store.attempts();
        loop {
            let known = self.get(id).await?;
            let created = known.is_none();
            let created_at = known.map_or_else(|| self.store.now(), |known| known.created_at);
            let workspace = Workspace { workspace_id: id.clone(), profile: profile.clone(), created_at };
            match self.store.transact(self.writes(&workspace, created)?).await? {
                TransactionOutcome::Written => return Ok(Put { workspace, created }),
                TransactionOutcome::Unknown(error) => attempts.retry_after_failure(error).await?,
                // Another call has created the workspace meanwhile, or is doing so.
                TransactionOutcome::Cancelled(_) => attempts.retry_after_conflict().await?,
            }
        }
    }

    /// Returns the workspace with this id.
    pub async fn get(self, id: &WorkspaceId) -> Result<Option<Workspace>, Fault> {
        let item = self.store.get(&ItemKey::workspace(id)).await?;
        Ok(item.as_ref().map(|item| read(id, item)).transpose()?)
    }

    fn writes(
        self,
        workspace: &Workspace,
        created: bool,
    ) -> Result<Vec<aws_sdk_dynamodb::types::TransactWriteItem>, Corrupt> {
        if !created {
            let Profile { name, plan, billing_email } = &workspace.profile;
            let update = Expression::new()
                .set("name", text(name))
                .set("plan", text(plan.as_str()))
                .set("billing_email", text(billing_email))
                .when_exists();
            return Ok(vec![update.update(&self.store.table, &ItemKey::workspace(&workspace.workspace_id))?]);
        }
        let balance = balance_item::item_of(&workspace.workspace_id, &Balance::default());
        Ok(vec![
            Expression::new().when_absent(PK).put(&self.store.table, item_of(workspace))?,
            Expression::new().when_absent(PK).put(&self.store.table, balance)?,
        ])
    }
}

fn item_of(workspace: &Workspace) -> Item {
    let mut item = keyed(&ItemKey::workspace(&workspace.workspace_id));
    let Profile { name, plan, billing_email } = &workspace.profile;
    item.insert("name".into(), text(name));
    item.insert("plan".into(), text(plan.as_str()));
    item.insert("billing_email".into(), text(billing_email));
    item.insert("created_at".into(), instant(workspace.created_at));
    item
}

fn read(id: &WorkspaceId, item: &Item) -> Result<Workspace, Corrupt> {
    let reader = Reader(item);
    let profile = Profile {
        name: reader.text("name")?.to_owned(),
        plan: reader.parsed("plan")?,
        billing_email: reader.text("billing_email")?.to_owned(),
    };
    Ok(Workspace { workspace_id: id.clone(), profile, created_at: reader.instant("created_at")? })
}
