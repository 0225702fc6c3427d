//! `/v1/workspaces/{workspace_id}/holds`: places holds, captures calls from them, and settles them (M4).

use credits_core::batch::PricedCall;
use credits_core::hold::Hold;
use credits_core::id::Id;
use credits_core::rate_card::RateCard;
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::KeyUse;
use credits_store::Store;
use credits_store::holds::capture::{CaptureOrder, Captured};
use credits_store::holds::settle::{SettleOrder, Settled};
use credits_store::holds::{HoldOrder, Placed};
use credits_store::{Claim, Fault};
use serde_json::{Value, json};

use crate::DebitFunction;
use crate::hold_request::{self, HoldBody};
use crate::request::PricedBody;
use crate::response::{CaptureAnswer, HoldAnswer};

impl DebitFunction {
    pub(crate) async fn place_hold(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let placed = self.place(call, store, hold_request::read_hold).await?;
        let hold = placed.holds.first().ok_or_else(Problem::unavailable)?;
        Ok(Answer::created_once(placed.key_use, &shown(hold)?))
    }

    pub(crate) async fn place_holds(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let placed = self.place(call, store, hold_request::read_holds).await?;
        Ok(Answer::created_once(placed.key_use, &json!({ "holds": all_shown(&placed.holds)? })))
    }

    async fn place(
        &self,
        call: &Call,
        store: &Store,
        read: fn(&Value, &RateCard) -> Result<HoldBody, Problem>,
    ) -> Result<Placed, Problem> {
        let workspace = call.workspace(Scope::Spend)?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let card = self.catalogue.rate_card();
        let HoldBody { amount, count, lasts, purpose, unpriced } = read(&body, card)?;
        let order = HoldOrder { amount, count, lasts, purpose: &purpose };
        if let Some(problem) = unpriced {
            // A retry of a call that was made while the rate card still had the operation gets its first answer.
            return store.holds().placed_before(&claim, order).await?.ok_or(problem);
        }
        match store.holds().place(&claim, order).await {
            Ok(placed) => {
                if placed.key_use == KeyUse::First {
                    metrics::counter!("HoldsPlaced").increment(u64::from(count.unwrap_or(1)));
                }
                Ok(placed)
            }
            Err(refusal) => {
                let (operation, consumer) = (purpose.operation.clone(), purpose.consumer.clone());
                let line = PricedCall { operation, model: None, units: None, consumer, amount };
                let lines = vec![line; usize::from(count.unwrap_or(1))];
                Err(self.problem_for(call, store, &workspace, &lines, refusal).await?)
            }
        }
    }

    pub(crate) async fn get_hold(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Read)?;
        let hold = store.holds().get(&workspace, &named_hold(call)?).await?;
        Ok(Answer::ok(&shown(&hold.ok_or_else(Problem::not_found)?)?))
    }

    pub(crate) async fn capture(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Spend)?;
        let hold_id = named_hold(call)?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let card = self.catalogue.rate_card();
        let captured = match hold_request::read_capture(&body, card)? {
            PricedBody::Priced((line, on_excess)) => {
                let order =
                    CaptureOrder { hold_id: &hold_id, line: &line, rate_card: card.version(), on_excess };
                match store.holds().capture(&claim, order).await {
                    Ok(captured) => captured,
                    Err(refusal) => {
                        return Err(self.hold_problem_for(call, store, &workspace, refusal).await?);
                    }
                }
            }
            PricedBody::Unpriced(problem) => {
                store.holds().captured_before(&claim, &hold_id).await?.ok_or(problem)?
            }
        };
        let Captured { capture_id, amount, remaining, key_use } = captured;
        if key_use == KeyUse::First {
            metrics::counter!("Captures").increment(1);
        }
        Ok(Answer::created_once(key_use, &CaptureAnswer { capture_id, credits: amount, remaining }))
    }

    pub(crate) async fn settle_hold(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Spend)?;
        let hold_id = named_hold(call)?;
        let body = call.json_if_any()?;
        let claim = call.claim(&workspace, &body)?;
        let final_capture = hold_request::read_settlement(&body)?;
        let order = SettleOrder { hold_ids: &[hold_id], final_capture };
        let settled = self.settle(call, store, &claim, order).await?;
        let hold = settled.holds.first().ok_or_else(Problem::unavailable)?;
        let answer = shown(hold)?;
        Ok(Answer::changed_once(settled.key_use, &answer))
    }

    pub(crate) async fn settle_holds(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Spend)?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let hold_ids = hold_request::read_hold_ids(&body)?;
        let order = SettleOrder { hold_ids: &hold_ids, final_capture: None };
        let settled = self.settle(call, store, &claim, order).await?;
        let answer = json!({ "holds": all_shown(&settled.holds)? });
        Ok(Answer::changed_once(settled.key_use, &answer))
    }

    async fn settle(
        &self,
        call: &Call,
        store: &Store,
        claim: &Claim,
        order: SettleOrder<'_>,
    ) -> Result<Settled, Problem> {
        match store.holds().settle(claim, order).await {
            Ok(settled) => Ok(settled),
            Err(refusal) => Err(self.hold_problem_for(call, store, &claim.workspace_id, refusal).await?),
        }
    }
}

fn named_hold(call: &Call) -> Result<Id, Problem> {
    call.path_parameter("hold_id").parse().map_err(|_| Problem::not_found())
}

fn shown(hold: &Hold) -> Result<HoldAnswer<'_>, Fault> {
    HoldAnswer::of(hold).map_err(|sum| Fault::Corrupt(sum.into()))
}

fn all_shown(holds: &[Hold]) -> Result<Vec<HoldAnswer<'_>>, Fault> {
    holds.iter().map(shown).collect()
}
