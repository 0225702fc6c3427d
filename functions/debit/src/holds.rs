//! `/v1/workspaces/{workspace_id}/holds`: places holds, captures calls from them, and settles them (M4).

use credits_core::batch::PricedCall;
use credits_core::hold::Hold;
use credits_core::id::{Id, Name};
use credits_core::metadata::Metadata;
use credits_core::own_prices::OtherPrices;
use credits_core::rate_card::Prices;
use credits_core::units::Units;
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::KeyUse;
use credits_store::Store;
use credits_store::debits::DebitRefusal;
use credits_store::holds::capture::{CaptureOrder, Captured};
use credits_store::holds::settle::{FinalCapture, SettleOrder, Settled};
use credits_store::holds::{HoldOrder, HoldRefusal, NamedHolds, OnExcess, Placed};
use credits_store::{Claim, Fault};
use serde_json::{Value, json};

use crate::DebitFunction;
use crate::hold_request::{self, HoldBody, HoldSize, SettlementBody};
use crate::prices::Unanswered;
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
        read: fn(&Value, Prices<'_>) -> Result<HoldBody, Problem>,
    ) -> Result<Placed, Problem> {
        let workspace = call.workspace(Scope::Spend)?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let (workspace, body, claim) = (&workspace, &body, &claim);
        let placed = self.with_prices(store, workspace, |prices| async move {
            let prices = prices.prices();
            let HoldBody { amount, priced_with, count, lasts, purpose, unpriced } = read(body, prices)?;
            let named = NamedHolds { count, purpose: &purpose };
            let (Some(amount), None) = (amount, &unpriced) else {
                let problem = unpriced.unwrap_or_else(Problem::unavailable);
                // A retry of a call that was made while the prices still had a price for it gets its first answer.
                let before = store.holds().placed_before(claim, named, amount).await?;
                return before.ok_or(Unanswered::Unpriced(problem));
            };
            let order = HoldOrder { amount, priced_with, lasts, named };
            match store.holds().place(claim, order).await {
                Ok(placed) => Ok(placed),
                Err(DebitRefusal::OtherPrices(other)) => Err(Unanswered::OtherPrices(other)),
                Err(refusal) => {
                    let (operation, consumer) = (purpose.operation.clone(), purpose.consumer.clone());
                    let line = PricedCall::stated(operation, consumer, amount.into());
                    let lines = vec![line; usize::from(count.unwrap_or(1))];
                    Err(self.problem_for(call, store, workspace, &lines, refusal).await?.into())
                }
            }
        });
        let placed = placed.await?;
        if placed.key_use == KeyUse::First {
            metrics::counter!("HoldsPlaced").increment(u64::try_from(placed.holds.len()).unwrap_or(u64::MAX));
        }
        Ok(placed)
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
        let (workspace, hold_id, body, claim) = (&workspace, &hold_id, &body, &claim);
        let captured = self.with_prices(store, workspace, |prices| async move {
            let prices = prices.prices();
            let (line, on_excess) = match hold_request::read_capture(body, prices)? {
                PricedBody::Priced(capture) => capture,
                PricedBody::Unpriced(problem) => {
                    if let Some(captured) = store.holds().captured_before(claim, hold_id).await? {
                        return Ok(captured);
                    }
                    // A capture has the prices that its hold was placed with, which this instance may not know.
                    let hold = store.holds().get(workspace, hold_id).await?;
                    let current = hold.map(|hold| hold.purpose.priced_by.pricing);
                    return Err(match current.filter(|current| *current != prices.version().pricing) {
                        Some(current) => Unanswered::OtherPrices(OtherPrices { current }),
                        None => Unanswered::Problem(problem),
                    });
                }
            };
            let order =
                CaptureOrder { hold_id, line: &line, priced_by: &prices.version().of_call(&line), on_excess };
            match store.holds().capture(claim, order).await {
                Ok(captured) => Ok(captured),
                Err(HoldRefusal::OtherPrices(other)) => Err(Unanswered::OtherPrices(other)),
                Err(refusal) => Err(self.hold_problem_for(call, store, workspace, refusal).await?.into()),
            }
        });
        let Captured { capture_id, amount, remaining, key_use } = captured.await?;
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
        let SettlementBody { last, metadata, on_excess } = hold_request::read_settlement(&body)?;
        let hold_ids = &[hold_id];
        let settled = match last {
            None => self.settle(call, store, &claim, SettleOrder::of(hold_ids)).await?,
            Some(HoldSize::Credits(amount)) => {
                let price = amount.into();
                let last = FinalCapture { price, model: None, priced_by: None, metadata, on_excess };
                self.settle(call, store, &claim, SettleOrder::of(hold_ids).with(&last)).await?
            }
            Some(HoldSize::Units { units, model }) => {
                let (model, metadata) = (model.as_ref(), metadata.as_ref());
                let last = LastCall { units: &units, model, metadata, on_excess };
                self.settle_by_units(call, store, &claim, hold_ids, last).await?
            }
        };
        let hold = settled.holds.first().ok_or_else(Problem::unavailable)?;
        let answer = shown(hold)?;
        Ok(Answer::changed_once(settled.key_use, &answer))
    }

    pub(crate) async fn settle_holds(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Spend)?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let hold_ids = hold_request::read_hold_ids(&body)?;
        let settled = self.settle(call, store, &claim, SettleOrder::of(&hold_ids)).await?;
        let answer = json!({ "holds": all_shown(&settled.holds)? });
        Ok(Answer::changed_once(settled.key_use, &answer))
    }

    /// Settles a hold with a last call in units, priced by the operation of the hold and the prices that are in effect now.
    async fn settle_by_units(
        &self,
        call: &Call,
        store: &Store,
        claim: &Claim,
        hold_ids: &[Id; 1],
        last: LastCall<'_>,
    ) -> Result<Settled, Problem> {
        let LastCall { units, model, metadata, on_excess } = last;
        let holds = match store.holds().read_all(&claim.workspace_id, hold_ids).await {
            Ok(holds) => holds,
            Err(refusal) => {
                return Err(self.hold_problem_for(call, store, &claim.workspace_id, refusal).await?);
            }
        };
        let [hold] = holds.as_slice() else { return Err(Problem::unavailable()) };
        let (holds, operation) = (holds.as_slice(), &hold.purpose.operation);
        let settled = self.with_prices(store, &claim.workspace_id, |prices| async move {
            let prices = prices.prices();
            let (price, priced_by, model) = match hold_request::price_last(units, model, operation, prices) {
                Ok(last) => last,
                // A retry of a call that was settled while the prices still had a price for it gets its first answer.
                Err(problem) => {
                    let before = store.holds().settled_before(claim, holds).await?;
                    return before.ok_or(Unanswered::Unpriced(problem));
                }
            };
            let (priced_by, metadata) = (Some(priced_by), metadata.cloned());
            let last = FinalCapture { price, model, priced_by, metadata, on_excess };
            let order = SettleOrder { first_read: Some(holds), ..SettleOrder::of(hold_ids).with(&last) };
            match store.holds().settle(claim, order).await {
                Ok(settled) => Ok(settled),
                Err(HoldRefusal::OtherPrices(other)) => Err(Unanswered::OtherPrices(other)),
                Err(refusal) => {
                    Err(self.hold_problem_for(call, store, &claim.workspace_id, refusal).await?.into())
                }
            }
        });
        settled.await
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

/// The last call of a settlement, in units.
#[derive(Debug, Clone, Copy)]
struct LastCall<'a> {
    units: &'a Units,
    model: Option<&'a Name>,
    metadata: Option<&'a Metadata>,
    on_excess: OnExcess,
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
