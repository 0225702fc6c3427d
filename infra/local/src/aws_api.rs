//! The stand-ins for AWS's HTTP APIs: `EventBridge` under `/_local/eventbridge`, and SES under `/_local/ses`. Further
//! calls show the events and mails that they received.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;

use crate::gateway::{json_response, message};
use crate::mailbox::Refused;
use crate::permissions;
use crate::reply::{ControlReply, read, reply};
use crate::state::Shared;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    count: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Feedback {
    address: String,
    kind: ServiceKind,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ServiceKind {
    Bounce,
    Complaint,
}

/// Returns the routes of the stand-ins.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_local/eventbridge/", post(put_events))
        .route("/_local/eventbridge", post(put_events))
        .route("/_local/ses/v2/email/outbound-emails", post(send_email))
        .route("/_local/mail", get(mails))
        .route("/_local/mail/{number}", get(mail))
        .route("/_local/mail/refusals", post(refuse_mails))
        .route("/_local/mail/silences", post(silence_mails))
        .route("/_local/mail/feedback", post(give_feedback))
        .route("/_local/events", get(events))
        .route("/_local/dead-letters", get(dead_letters))
}

async fn put_events(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> ControlReply {
    shared.wire.note(permissions::of_caller(&headers, "events:PutEvents"));
    match shared.bus.put(&body, &*shared.clock) {
        Ok(answer) => reply(json_response(StatusCode::OK, &answer)),
        Err(error) => reply(message(StatusCode::BAD_REQUEST, &error.to_string())),
    }
}

async fn send_email(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> ControlReply {
    shared.wire.note(permissions::of_caller(&headers, "ses:SendEmail"));
    match shared.mailbox.take(&body, &*shared.clock) {
        Ok(taken) => {
            let detail = json!({ "eventType": "Send", "mail": { "tags": taken.tags } });
            shared.bus.publish("aws.ses", "Email Sent", &detail, &*shared.clock);
            if taken.answered {
                reply(json_response(StatusCode::OK, &json!({ "MessageId": "local" })))
            } else {
                reply(message(StatusCode::INTERNAL_SERVER_ERROR, "accepted, but the answer is withheld"))
            }
        }
        Err(Refused::TooFast) => {
            let mut answer = reply(json_response(
                StatusCode::TOO_MANY_REQUESTS,
                &json!({ "message": "Maximum sending rate exceeded." }),
            ));
            let kind = axum::http::HeaderValue::from_static("TooManyRequestsException");
            answer.headers_mut().insert("x-amzn-errortype", kind);
            answer
        }
        Err(Refused::Unread(error)) => reply(message(StatusCode::BAD_REQUEST, &error.to_string())),
    }
}

async fn mails(State(shared): State<Arc<Shared>>) -> ControlReply {
    reply(json_response(StatusCode::OK, &json!(shared.mailbox.mails())))
}

/// Shows a mail's HTML in a browser. The first mail has the number 1.
async fn mail(State(shared): State<Arc<Shared>>, Path(number): Path<usize>) -> ControlReply {
    let mails = shared.mailbox.mails();
    match number.checked_sub(1).and_then(|at| mails.get(at)) {
        Some(mail) => Html(mail.html.clone()).into_response(),
        None => reply(message(StatusCode::NOT_FOUND, "no such mail")),
    }
}

async fn refuse_mails(State(shared): State<Arc<Shared>>, body: Bytes) -> ControlReply {
    let Count { count } = match read(&body) {
        Ok(refusals) => refusals,
        Err(refusal) => return *refusal,
    };
    shared.mailbox.refuse(count);
    reply(json_response(StatusCode::OK, &json!({ "count": count })))
}

async fn silence_mails(State(shared): State<Arc<Shared>>, body: Bytes) -> ControlReply {
    let Count { count } = match read(&body) {
        Ok(silences) => silences,
        Err(refusal) => return *refusal,
    };
    shared.mailbox.be_silent(count);
    reply(json_response(StatusCode::OK, &json!({ "count": count })))
}

/// Publishes the event that SES publishes for a permanent bounce or for a complaint.
async fn give_feedback(State(shared): State<Arc<Shared>>, body: Bytes) -> ControlReply {
    let Feedback { address, kind } = match read(&body) {
        Ok(feedback) => feedback,
        Err(refusal) => return *refusal,
    };
    let recipients = json!([{ "emailAddress": address }]);
    let (name, detail) = match kind {
        ServiceKind::Bounce => {
            let bounce = json!({ "bounceType": "Permanent", "bouncedRecipients": recipients });
            ("Email Bounced", json!({ "eventType": "Bounce", "bounce": bounce }))
        }
        ServiceKind::Complaint => {
            let complaint = json!({ "complainedRecipients": recipients });
            ("Email Complaint Received", json!({ "eventType": "Complaint", "complaint": complaint }))
        }
    };
    shared.bus.publish("aws.ses", name, &detail, &*shared.clock);
    reply(json_response(StatusCode::OK, &json!({ "told": name })))
}

async fn events(State(shared): State<Arc<Shared>>) -> ControlReply {
    reply(json_response(StatusCode::OK, &json!(shared.bus.shown())))
}

async fn dead_letters(State(shared): State<Arc<Shared>>) -> ControlReply {
    reply(json_response(StatusCode::OK, &json!(shared.bus.dead())))
}
