//! The in-process connections to the bus and to SES.

use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use credits_aws::intercept::answering_client;
use credits_local::bus::Bus;
use credits_local::mailbox::{Mailbox, Refused};
use credits_store::Clock as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::bugs::Wrong;
use crate::faults::WireFault;
use crate::timeline::TimelineEvent;
use crate::wire::Ground;

/// The bus and the mailbox, and the faults on the connections to them.
#[derive(Debug, Clone)]
pub struct Services {
    pub bus: Arc<Bus>,
    pub mailbox: Arc<Mailbox>,
    /// The accepted mails: the fact that each reports, and its time.
    pub told: Arc<Mutex<Vec<(String, Timestamp)>>>,
    /// The state that all connections share.
    pub ground: Arc<Ground>,
}

impl Services {
    /// Returns the connection to both.
    #[must_use]
    pub fn client(&self) -> SharedHttpClient {
        let services = self.clone();
        answering_client(move |request| services.clone().answer(request))
    }

    async fn answer(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let body = request.body().bytes().unwrap_or_default().to_vec();
        let is_mail = request.uri().contains("outbound-emails");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let (status, kind, answer) = if is_mail { self.mail(&body) } else { self.put(&body) };
        let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(answer.to_string()));
        if let Some(kind) = kind {
            response.headers_mut().insert("x-amzn-errortype", kind);
        }
        Ok(response)
    }

    /// Handles `PutEvents`.
    fn put(&self, body: &[u8]) -> (u16, Option<&'static str>, Value) {
        let Ground { faults, bugs, clock, .. } = &*self.ground;
        let mut asked: Value = serde_json::from_slice(body).unwrap();
        let entries = asked["Entries"].as_array_mut().unwrap();
        let all = entries.len();
        if faults.strikes(WireFault::BusInPart) {
            entries.truncate(faults.between(0, all as u64 - 1) as usize);
        }
        let taken = entries.len();
        let mut answer = self.bus.put(asked.to_string().as_bytes(), clock).unwrap();
        let refused = json!({ "ErrorCode": "InternalFailure", "ErrorMessage": "try again" });
        for _ in taken..all {
            let entry = if bugs.is(Wrong::RefusedEventsHidden) {
                json!({ "EventId": "none" })
            } else {
                refused.clone()
            };
            answer["Entries"].as_array_mut().unwrap().push(entry);
        }
        answer["FailedEntryCount"] = json!(all - taken);
        self.hand_over();
        (200, None, answer)
    }

    /// Handles `SendEmail`.
    fn mail(&self, body: &[u8]) -> (u16, Option<&'static str>, Value) {
        let Ground { faults, bugs, clock, .. } = &*self.ground;
        if faults.strikes(WireFault::MailThrottled) {
            if bugs.is(Wrong::RefusedMailsHidden) {
                return (200, None, json!({ "MessageId": "none" }));
            }
            let text = json!({ "message": "Maximum sending rate exceeded." });
            return (429, Some("TooManyRequestsException"), text);
        }
        match self.mailbox.take(body, clock) {
            Ok(taken) => {
                let fact = taken
                    .tags
                    .as_object()
                    .and_then(|tags| Some(tags.values().next()?[0].as_str()?.to_owned()));
                self.told.lock().unwrap().push((fact.unwrap_or_default(), clock.now()));
                let detail = json!({ "eventType": "Send", "mail": { "tags": taken.tags } });
                self.bus.publish("aws.ses", "Email Sent", &detail, clock);
                self.hand_over();
                (200, None, json!({ "MessageId": "simulated" }))
            }
            Err(Refused::TooFast) => unreachable!("only faults throttle mails"),
            Err(Refused::Unread(error)) => panic!("a request is not a `SendEmail`: {error}"),
        }
    }

    /// Schedules the delivery of the events that wait on the bus.
    fn hand_over(&self) {
        let Ground { faults, clock, timeline, .. } = &*self.ground;
        while let Some(waiting) = self.bus.next() {
            let event = TimelineEvent::Handed { function: waiting.function, event: waiting.event, tries: 0 };
            let at = clock.now() + SignedDuration::from_millis(faults.between(20, 2_000) as i64);
            if faults.strikes(WireFault::EventTwice) {
                let later = if faults.between(0, 1) == 0 { 0 } else { faults.between(0, 90_000) };
                timeline.put(at + SignedDuration::from_millis(later as i64), event.clone());
            }
            timeline.put(at, event);
        }
    }
}
