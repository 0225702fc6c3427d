//! The in-process connection to the payment provider, and the delivery of its events.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use credits_local::provider::{
    ChargeSettlement, PlannedFailure, PlayedOutcome, ProviderRequest, StripeStandIn,
};
use credits_payments::transport::{Answering, Transport, Unreachable};
use credits_store::Clock as _;
use jiff::SignedDuration;
use model::Dice;
use serde_json::Value;

use crate::bugs::Wrong;
use crate::faults::WireFault;
use crate::timeline::TimelineEvent;
use crate::wire::Ground;

/// The address below which checkouts are shown.
const CHECKOUTS_URL: &str = "http://hub.example/checkouts";

/// The stand-in provider, and the faults on the connection to it.
#[derive(Debug)]
pub struct Payments {
    pub provider: Mutex<StripeStandIn>,
    /// The state that all connections share.
    pub ground: Arc<Ground>,
}

/// The connection to the provider that the functions get.
#[derive(Debug)]
pub struct Way(pub Arc<Payments>);

impl Transport for Way {
    fn send(&self, request: reqwest::Request) -> Answering<'_> {
        Box::pin(async move { self.0.answer(&request).await })
    }
}

impl Payments {
    async fn answer(&self, request: &reqwest::Request) -> Result<reqwest::Response, Unreachable> {
        let Ground { faults, trace, bugs, .. } = &*self.ground;
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let what = format!("{} {}", request.method(), request.url().path());
        tokio::time::sleep(Duration::from_millis(faults.between(80, 400))).await;
        if faults.strikes(WireFault::ProviderDown) {
            trace.line(&format!("  provider: {what} is not delivered"));
            return Err(Unreachable::Unanswered);
        }
        let failure = self.planned_failure();
        let asked = ProviderRequest {
            method: request.method().as_str(),
            path: request.url().path(),
            query: request.url().query().unwrap_or_default(),
            authorization: header("authorization"),
            version: header("stripe-version"),
            key: header("idempotency-key").filter(|_| !bugs.is(Wrong::NoProviderKey)),
            body: request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default(),
        };
        let answered = {
            let mut provider = self.provider.lock().unwrap();
            if let Some(failure) = &failure {
                provider.plan_failure(failure);
            }
            provider.answer(&asked, CHECKOUTS_URL)
        };
        trace.line(&format!("  provider: {what} answers {}", answered.status));
        self.tell();
        if request.method() == "POST" && faults.strikes(WireFault::ChargeUnanswered) {
            trace.line(&format!("  provider: {what}: the answer is lost"));
            return Err(Unreachable::Unanswered);
        }
        Ok(reqwest::Response::from(answered.into_response()))
    }

    /// Draws whether the next request fails at Stripe, and how.
    fn planned_failure(&self) -> Option<PlannedFailure> {
        let faults = &self.ground.faults;
        let (status, executed) = if faults.strikes(WireFault::ProviderFails) {
            (500, faults.between(0, 1) == 0)
        } else if faults.strikes(WireFault::ProviderBusy) {
            ([409, 429][faults.between(0, 1) as usize], false)
        } else {
            return None;
        };
        Some(PlannedFailure {
            path: None,
            status,
            count: 1,
            kept: None,
            executed: Some(executed),
            lost: None,
        })
    }

    /// Schedules the deliveries of the events that Stripe has published. A payment that is processing is settled one to
    /// 120 hours later.
    pub fn tell(&self) {
        let Ground { faults, timeline, clock, .. } = &*self.ground;
        let outbox = self.provider.lock().unwrap().take_outbox();
        for delivery in outbox {
            let event: Value = serde_json::from_str(&delivery.body).unwrap();
            if event["type"] == "payment_intent.processing" {
                let at = clock.now() + SignedDuration::from_hours(faults.between(1, 120) as i64);
                timeline.put(at, TimelineEvent::Settle { payment: delivery.payment_id });
            }
            self.put_down(delivery.body);
        }
    }

    /// Settles a payment that is processing. One in four fails.
    pub fn settle(&self, payment: &str, dice: &Dice) {
        let settlement =
            if dice.between(1, 4) == 1 { ChargeSettlement::Failed } else { ChargeSettlement::Succeeded };
        let settled = self.provider.lock().unwrap().settle(payment, settlement);
        self.ground.trace.line(&format!("  Stripe: {payment} settles as {settlement:?}: {settled:?}"));
        self.tell();
    }

    /// Deletes a customer, as in Stripe's dashboard.
    pub fn delete_customer(&self, customer: &str) {
        let asked = ProviderRequest {
            method: "DELETE",
            path: &format!("/v1/customers/{customer}"),
            query: "",
            authorization: Some("Bearer sk"),
            version: None,
            key: None,
            body: b"",
        };
        self.provider.lock().unwrap().answer_operator(&asked, CHECKOUTS_URL);
        self.tell();
    }

    /// Sets the outcome of the next charges of a workspace's stored method.
    pub fn decide(&self, workspace: &str, outcome: PlayedOutcome) {
        self.provider.lock().unwrap().decide(workspace, outcome);
    }

    /// Schedules the delivery of an event: within seconds, or up to three days later, and sometimes twice.
    pub fn put_down(&self, body: String) {
        let Ground { faults, timeline, clock, .. } = &*self.ground;
        let wait = || {
            let late = faults.strikes(WireFault::WebhookLate);
            let seconds = if late { faults.between(60, 3 * 86_400) } else { faults.between(0, 5) };
            SignedDuration::from_secs(seconds as i64)
        };
        if faults.strikes(WireFault::WebhookTwice) {
            timeline.put(clock.now() + wait(), TimelineEvent::Webhook { body: body.clone(), tries: 0 });
        }
        timeline.put(clock.now() + wait(), TimelineEvent::Webhook { body, tries: 0 });
    }
}
