//! Automatic top-up for a refused call: the debit function records the packs that the call needs, and the renewal
//! function buys them on the next stream event or sweep (M5).

use credits_core::call_top_up::{CallTopUp, RefusedCall};
use credits_core::id::WorkspaceId;
use credits_runtime::problem::TopUpOfCall;
use credits_store::error::{Chain, Corrupt};
use credits_store::{Fault, Store};

use crate::DebitFunction;

/// The maximum number of times that the settings are read because another caller changes them at the same time.
const MAX_ATTEMPTS: usize = 3;

impl DebitFunction {
    /// Starts automatic top-up for a refused call, and returns what the refusal says about it; `None` if it is off.
    ///
    /// A failure is logged and returns `None`: the call is refused in any case, and its retry starts the top-up.
    pub(crate) async fn top_up_for(
        &self,
        store: &Store,
        workspace: &WorkspaceId,
        call: RefusedCall,
    ) -> Option<TopUpOfCall> {
        match self.start_top_up(store, workspace, call).await {
            Ok(top_up) => top_up,
            Err(fault) => {
                tracing::warn!(%workspace, error = %Chain(&fault), "automatic top-up was not started for a call");
                None
            }
        }
    }

    async fn start_top_up(
        &self,
        store: &Store,
        workspace: &WorkspaceId,
        call: RefusedCall,
    ) -> Result<Option<TopUpOfCall>, Fault> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(read) = store.auto_top_ups().get(workspace).await? else { return Ok(None) };
            let pack = read.kept.settings.pack.as_ref().and_then(|pack| self.catalogue.pack(pack));
            let Some(pack) = pack else { return Ok(None) };
            let decided = read.kept.for_call(call, pack.credits, store.now()).map_err(Corrupt::from)?;
            let after = match decided {
                CallTopUp::Off => return Ok(None),
                CallTopUp::Started => return Ok(Some(TopUpOfCall::Started)),
                CallTopUp::Limit => return Ok(Some(TopUpOfCall::Limit)),
                CallTopUp::Start(after) => after,
            };
            if !store.payment_methods().has_chargeable_method(workspace).await? {
                return Ok(None);
            }
            if store.auto_top_ups().change(workspace, &read, &after).await? {
                return Ok(Some(TopUpOfCall::Started));
            }
        }
        Err(Fault::Contended)
    }
}
