//! The handling of a request: authorization, idempotency, and the headers of each response.

use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use credits_payments::signature::Secret;
use serde_json::Value;

use super::errors::{ErrorType, Stage, StripeRefusal};
use super::events::RequestIds;
use super::failures::Planned;
use super::form::Form;
use super::idempotency::{KeptAnswer, SavedAnswer};
use super::routes::Endpoint;
use super::versions::{API_VERSION, is_known};
use super::{StripeStandIn, idempotency};
use crate::gateway::json_response;

/// A request to the provider.
#[derive(Debug, Clone, Copy)]
pub struct ProviderRequest<'a> {
    pub method: &'a str,
    /// The path, beginning with `/v1`.
    pub path: &'a str,
    pub query: &'a str,
    pub authorization: Option<&'a str>,
    pub version: Option<&'a str>,
    pub key: Option<&'a str>,
    pub body: &'a [u8],
}

/// A response of the stand-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    pub status: u16,
    pub body: Value,
    pub headers: Vec<(&'static str, String)>,
}

impl Answered {
    /// Converts the response for HTTP.
    #[must_use]
    pub fn into_response(self) -> Response<Vec<u8>> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json_response(status, &self.body);
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}

/// The result of a request, without its headers.
struct Reached {
    status: u16,
    body: Value,
    replay: Replay,
}

/// Whether the response is that of an earlier request with the same key.
enum Replay {
    No,
    /// It is. Holds the earlier request's id, if known.
    Of(Option<String>),
}

impl StripeStandIn {
    /// Answers a request of the application. The page of a checkout has its address below `checkouts_url`.
    pub fn answer(&mut self, asked: &ProviderRequest<'_>, checkouts_url: &str) -> Answered {
        let answered = self.respond(asked, checkouts_url);
        self.recorder.record(asked, answered.status);
        answered
    }

    /// Answers a request of the stack's operator, who reads objects and plays a payer that detaches a method. A request
    /// without a version uses the newest, like an account's default version. It is not recorded, because the
    /// application did not send it.
    pub fn answer_operator(&mut self, asked: &ProviderRequest<'_>, checkouts_url: &str) -> Answered {
        let is_operators = Endpoint::of(asked.method, asked.path).is_some_and(Endpoint::is_operators);
        if asked.version.is_some() || !is_operators {
            return self.answer(asked, checkouts_url);
        }
        self.respond(&ProviderRequest { version: Some(API_VERSION), ..*asked }, checkouts_url)
    }

    fn respond(&mut self, asked: &ProviderRequest<'_>, checkouts_url: &str) -> Answered {
        self.expire_due();
        let id = self.new_id("req");
        let key = asked.key.filter(|_| asked.method == "POST");
        self.request = Some(RequestIds { id: id.clone(), key: key.map(str::to_owned) });
        let result = self.result(&ProviderRequest { key, ..*asked }, &id, checkouts_url);
        self.request = None;
        let mut headers =
            vec![("request-id", id), ("stripe-version", asked.version.unwrap_or(API_VERSION).to_owned())];
        headers.extend(key.map(|key| ("idempotency-key", key.to_owned())));
        if let Replay::Of(first) = result.replay {
            headers.push(("idempotent-replayed", "true".to_owned()));
            headers.extend(first.map(|first| ("original-request", first)));
        }
        Answered { status: result.status, body: result.body, headers }
    }

    fn result(&mut self, asked: &ProviderRequest<'_>, id: &str, checkouts_url: &str) -> Reached {
        let now = self.now();
        let refused = |refusal: StripeRefusal| Reached {
            status: refusal.status,
            body: refusal.body(id, now),
            replay: Replay::No,
        };
        let endpoint = match self.admit(asked) {
            Ok(endpoint) => endpoint,
            Err(refusal) => return refused(refusal),
        };
        let kept = asked.key.map(|key| self.kept_answer(key, asked.path, asked.body));
        match kept.transpose().map(Option::flatten) {
            Err(refusal) => refused(refusal),
            Ok(Some(kept)) => self.again(kept, checkouts_url),
            Ok(None) => {
                let executed = match self.planned_failure(Stage::Execution, asked.path, asked.key) {
                    Some(planned) => Err(self.fail_as_planned(planned, endpoint, asked, checkouts_url)),
                    None => self.execute(endpoint, asked, checkouts_url),
                };
                let is_kept = executed.as_ref().err().is_none_or(|refusal| refusal.stage == Stage::Execution);
                let result = match executed {
                    Ok(body) => Reached { status: 200, body, replay: Replay::No },
                    Err(refusal) => refused(refusal),
                };
                if let Some(key) = asked.key.filter(|_| is_kept) {
                    self.keep_answer(
                        key,
                        KeptAnswer {
                            path: asked.path.to_owned(),
                            form: idempotency::canonical(super::form::pairs(asked.body)),
                            at: now,
                            request: Some(id.to_owned()),
                            kept: SavedAnswer::Whole { status: result.status, body: result.body.clone() },
                        },
                    );
                }
                result
            }
        }
    }

    /// Fails a request as a control has planned. If planned, executes the request first.
    fn fail_as_planned(
        &mut self,
        planned: Planned,
        endpoint: Endpoint<'_>,
        asked: &ProviderRequest<'_>,
        url: &str,
    ) -> StripeRefusal {
        let published = self.memory.outbox.len();
        if planned.is_executed {
            drop(self.execute(endpoint, asked, url));
        }
        if planned.is_lost {
            self.memory.outbox.truncate(published);
        }
        planned.refusal
    }

    /// Returns the answer that is kept under a key.
    fn again(&self, kept: KeptAnswer, checkouts_url: &str) -> Reached {
        let replay = Replay::Of(kept.request);
        let (status, body) = match kept.kept {
            SavedAnswer::Whole { status, body } => (status, body),
            SavedAnswer::Object(id) => self.kept_object(&id, checkouts_url),
        };
        Reached { status, body, replay }
    }

    /// Refuses a request without a valid API key or version, to an unknown path, or during an outage.
    fn admit<'a>(&mut self, asked: &ProviderRequest<'a>) -> Result<Endpoint<'a>, StripeRefusal> {
        if self.down {
            let refusal = StripeRefusal::new(ErrorType::Api, Stage::Validation, "Service unavailable");
            return Err(refusal.status(503));
        }
        let key = asked.authorization.and_then(|header| header.strip_prefix("Bearer "));
        let Some(key) = key.filter(|key| !key.is_empty()) else {
            let message = "You did not provide an API key. You need to provide your API key in the Authorization \
                           header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').";
            return Err(StripeRefusal::validation(message).status(401));
        };
        if !Secret::list(self.api_keys.expose()).iter().any(|known| known.expose() == key) {
            let shown = key.get(..3).unwrap_or_default();
            return Err(
                StripeRefusal::validation(format!("Invalid API Key provided: {shown}****")).status(401)
            );
        }
        check_version(asked.version)?;
        let Some(endpoint) = Endpoint::of(asked.method, asked.path) else {
            let message = format!(
                "Unrecognized request URL ({}: {}). Please see https://stripe.com/docs or we can help at \
                 https://support.stripe.com/.",
                asked.method, asked.path
            );
            return Err(StripeRefusal::validation(message).status(404));
        };
        match self.planned_failure(Stage::Validation, asked.path, asked.key) {
            Some(planned) => Err(planned.refusal),
            None => Ok(endpoint),
        }
    }

    fn execute(
        &mut self,
        endpoint: Endpoint<'_>,
        asked: &ProviderRequest<'_>,
        url: &str,
    ) -> Result<Value, StripeRefusal> {
        let (query, body) = (asked.query.as_bytes(), asked.body);
        if asked.method == "POST" {
            Form::read(query, &[])?;
        }
        match endpoint {
            Endpoint::CreateSession => self.create_session(body, url),
            Endpoint::ListSessions => self.list_sessions(query, url),
            Endpoint::ReadSession(id) => self.read_session(id, query, url),
            Endpoint::ExpireSession(id) => self.expire_session(id, body),
            Endpoint::CreateIntent => self.create_intent(body),
            Endpoint::ListIntents => self.list_intents(query),
            Endpoint::ReadIntent(id) => self.read_intent(id, query),
            Endpoint::ReadCustomer(id) => self.read_customer(id, query),
            Endpoint::DeleteCustomer(id) => self.delete_customer(id, query, body),
            Endpoint::ListCustomerMethods(id) => self.list_customer_methods(id, query),
            Endpoint::ReadCustomerMethod { customer, method } => {
                self.read_customer_method(customer, method, query)
            }
            Endpoint::ReadMethod(id) => self.read_method(id, query),
            Endpoint::DetachMethod(id) => self.detach_method(id, body),
            Endpoint::CreateRefund => self.create_refund(body),
            Endpoint::ListRefunds => self.list_refunds(query),
            Endpoint::ReadRefund(id) => self.read_refund(id, query),
        }
    }
}

fn check_version(version: Option<&str>) -> Result<(), StripeRefusal> {
    match version {
        Some(version) if is_known(version) => Ok(()),
        Some(version) => Err(StripeRefusal::validation(format!("Invalid Stripe API version: {version}"))),
        None => {
            let message = format!(
                "No Stripe-Version header. Stripe would use the account's default version; our code must pin one, \
                 such as {API_VERSION}."
            );
            Err(StripeRefusal::validation(message))
        }
    }
}
