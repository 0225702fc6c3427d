//! The notify function: sends mails through SES, for events from the bus and for digests on a schedule (M12, M15).
//!
//! One fact makes one mail, even if its event is redelivered: the function claims the mail by the fact's id before it
//! sends it. If SES does not accept the mail, the function fails. The event is then retried, and finally moves to the
//! dead-letter queue, so no mail is lost.

use aws_sdk_sesv2::Client;
use aws_sdk_sesv2::config::SharedHttpClient;
use aws_sdk_sesv2::config::interceptors::InterceptorContext;
use aws_sdk_sesv2::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_sesv2::error::ProvideErrorMetadata;
use aws_sdk_sesv2::types::{Body, Content, Destination, EmailContent, Message, MessageTag};
use credits_aws::connection::https_client;
use credits_aws::trace::RequestTracer;
use credits_aws::{Settings, StartError, dynamodb};
use credits_core::event::{Event, Fact, SOURCE};
use credits_core::id::WorkspaceId;
use credits_core::top_up_page::TopUpPage;
use credits_runtime::EventFunction;
use credits_store::error::Chain;
use credits_store::failures::Grouped;
use credits_store::mails::MailClaim;
use credits_store::table::keys::ItemKey;
use credits_store::{Fault, Store};
use serde_json::Value;
use tokio::time::Instant;

mod feedback;
pub mod letter;

use letter::{Letter, LetterDesk, Recipient, RenderError, RenderedLetter};

/// The sender of mails, and the page that they link to.
#[derive(Debug, Clone)]
pub struct MailSettings {
    /// The sender's address. SES must have verified it.
    pub from: String,
    /// The SES configuration set that publishes bounces and complaints.
    pub configuration_set: Option<String>,
    /// The page on which people add credits.
    pub top_up_page: TopUpPage,
}

/// The notify function with its store, its SES client and its templates.
#[derive(Debug)]
pub struct Notify {
    store: Store,
    ses: Client,
    desk: LetterDesk,
    settings: MailSettings,
}

/// Why an event was not handled, so that it has to be delivered again.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The event's source or shape is unknown. The error carries no cause, since that could quote the event's content.
    #[error("the event can't be read")]
    Unread,
    #[error("the event's workspace does not exist")]
    UnknownWorkspace,
    #[error("the store failed")]
    Store(#[from] Fault),
    #[error("the letter can't be rendered")]
    RenderError(#[from] RenderError),
    /// SES rejected the mail with this error code. Its message is left out, since it may name addresses.
    #[error("the mail was refused with {0}")]
    Refused(String),
    /// SES gave no clear answer, so it may have sent the mail.
    #[error("SES did not answer")]
    Unanswered,
    /// The request to SES lacks a required field.
    #[error("the mail is incomplete")]
    Incomplete(#[from] aws_sdk_sesv2::error::BuildError),
    /// Another invocation has claimed the mail. It may still fail, so this event has to be retried.
    #[error("the mail is being sent by another invocation")]
    Busy,
    /// The number of due digests that failed. A failed digest does not stop the others.
    #[error("{0} digests could not be sent")]
    Digests(usize),
}

impl Notify {
    /// Creates the function and parses its templates.
    pub fn new(store: Store, ses: Client, settings: MailSettings) -> Result<Self, StartError> {
        let desk =
            LetterDesk::new(settings.top_up_page.clone()).map_err(|_| StartError::Part("mail templates"))?;
        Ok(Self { store, ses, desk, settings })
    }

    /// Creates the deployed function from its settings.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let endpoint = settings.endpoint("AWS_ENDPOINT_URL_SESV2");
        let config = config(&settings.region()?, settings.credentials()?, endpoint, https_client());
        let ses = Client::from_conf(config.to_builder().interceptor(RequestTracer::new(settings)).build());
        let mail = MailSettings {
            from: settings.mail_from()?,
            configuration_set: settings.mail_configuration_set(),
            top_up_page: settings.top_up_page()?,
        };
        Self::new(dynamodb::store(settings)?, ses, mail)
    }

    async fn handle_fact(&self, store: &Store, event: &Event) -> Result<(), NotifyError> {
        let Some(workspace) = &event.workspace_id else { return Ok(()) };
        if let Fact::CreditsAdded { .. } = &event.fact {
            store.failures().end_spell(workspace).await?;
        }
        let Some(letter) = Letter::of(event) else { return Ok(()) };
        if let Fact::RunFailed { workflow_id, .. } = &event.fact
            && store.failures().group(workspace, workflow_id, &event.event_id).await? == Grouped::Counted
        {
            return Ok(());
        }
        self.send_once(store, workspace, &letter).await
    }

    async fn send_digests(&self, store: &Store) -> Result<(), NotifyError> {
        let mut failed = 0_usize;
        for key in store.failures().due_digests().await? {
            if let Err(error) = self.send_digest(store, &key).await {
                tracing::error!(item = key.pk, error = %Chain(&error), "a digest could not be sent");
                failed = failed.saturating_add(1);
            }
        }
        if failed == 0 { Ok(()) } else { Err(NotifyError::Digests(failed)) }
    }

    async fn send_digest(&self, store: &Store, key: &ItemKey) -> Result<(), NotifyError> {
        let Some(digest) = store.failures().take_digest(key).await? else { return Ok(()) };
        self.send_once(store, &digest.workspace_id, &Letter::of_digest(&digest)).await?;
        Ok(store.failures().digest_sent(&digest).await?)
    }

    /// Sends a letter, unless it was sent before.
    async fn send_once(
        &self,
        store: &Store,
        workspace: &WorkspaceId,
        letter: &Letter,
    ) -> Result<(), NotifyError> {
        let found = recipients(store, workspace, letter.recipient).await?;
        let (name, recipients) = found.ok_or(NotifyError::UnknownWorkspace)?;
        let written = self.desk.write(letter, workspace, &name)?;
        let claim = match store.mails().claim(&letter.mail_id).await? {
            MailClaim::Ours(claim) => claim,
            MailClaim::Sent => return Ok(()),
            MailClaim::Busy => return Err(NotifyError::Busy),
        };
        if recipients.is_empty() {
            tracing::info!(mail_id = letter.mail_id, "a mail has no recipient and is not sent");
        } else if let Err(error) = self.send(&letter.mail_id, recipients, written).await {
            metrics::counter!("MailsFailed").increment(1);
            // Without an answer SES may have sent the mail. The claim then stays until it expires, and blocks a retry.
            if !matches!(error, NotifyError::Unanswered) {
                store.mails().release(&letter.mail_id, &claim).await?;
            }
            return Err(error);
        } else {
            metrics::counter!("MailsSent").increment(1);
            tracing::info!(mail_id = letter.mail_id, "a mail was sent");
        }
        Ok(store.mails().sent(&letter.mail_id).await?)
    }

    async fn send(
        &self,
        mail_id: &str,
        recipients: Vec<String>,
        written: RenderedLetter,
    ) -> Result<(), NotifyError> {
        let content = |text: String| Content::builder().data(text).charset("UTF-8").build();
        let body = Body::builder().text(content(written.text)?).html(content(written.html)?).build();
        let message = Message::builder().subject(content(written.subject)?).body(body).build();
        let tag = MessageTag::builder().name(feedback::LETTER).value(mail_id).build()?;
        let request = self
            .ses
            .send_email()
            .email_tags(tag)
            .from_email_address(&self.settings.from)
            .set_configuration_set_name(self.settings.configuration_set.clone())
            .destination(Destination::builder().set_to_addresses(Some(recipients)).build())
            .content(EmailContent::builder().simple(message).build());
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.raw_response().is_some_and(|answer| answer.status().is_client_error()) => {
                Err(NotifyError::Refused(error.code().unwrap_or("no code").to_owned()))
            }
            Err(_) => Err(NotifyError::Unanswered),
        }
    }
}

impl EventFunction for Notify {
    type Error = NotifyError;

    async fn handle(&self, event: Value, deadline: Instant) -> Result<Value, NotifyError> {
        let store = self.store.until(deadline);
        if event.get("schedule").is_some() {
            self.send_digests(&store).await?;
        } else if event["source"] == "aws.ses" {
            // The response to the request may have been lost, or the invocation may have died before it recorded it.
            if let Some(mail_id) = feedback::sent(&event) {
                store.mails().sent(mail_id).await?;
            }
            for (address, reason) in feedback::addresses(&event) {
                tracing::info!(reason, "an address was switched off");
                store.mails().switch_off_address(&address, reason).await?;
            }
        } else if event["source"] == SOURCE {
            let event = serde_json::from_value(event["detail"].clone()).map_err(|_| NotifyError::Unread)?;
            self.handle_fact(&store, &event).await?;
        } else {
            return Err(NotifyError::Unread);
        }
        Ok(Value::Null)
    }
}

/// Returns the workspace's name and the addresses that a letter goes to; `None` if the workspace does not exist.
async fn recipients(
    store: &Store,
    workspace: &WorkspaceId,
    recipient: Recipient,
) -> Result<Option<(String, Vec<String>)>, Fault> {
    let Some(known) = store.workspaces().get(workspace).await? else { return Ok(None) };
    let named = match recipient {
        Recipient::Billing => vec![known.profile.billing_email],
        Recipient::AlertRecipients => {
            let alert = store.alerts().get(workspace).await?.map(|alerts| alerts.low_balance);
            alert.filter(|alert| alert.enabled).map(|alert| alert.recipients).unwrap_or_default()
        }
        Recipient::ExpiryRecipients => {
            let expiry = store.alerts().get(workspace).await?.map(|alerts| alerts.expiry);
            expiry.filter(|expiry| expiry.enabled).map(|expiry| expiry.recipients).unwrap_or_default()
        }
    };
    let mut recipients = Vec::new();
    for address in named {
        if !store.mails().is_switched_off(&address).await? {
            recipients.push(address);
        }
    }
    Ok(Some((known.profile.name, recipients)))
}

/// Returns the configuration of an SES client.
#[must_use]
pub fn config(
    region: &str,
    credentials: aws_sdk_sesv2::config::Credentials,
    endpoint: Option<String>,
    http_client: SharedHttpClient,
) -> aws_sdk_sesv2::Config {
    let mut config = aws_sdk_sesv2::Config::builder()
        .behavior_version(aws_sdk_sesv2::config::BehaviorVersion::latest())
        .region(aws_sdk_sesv2::config::Region::new(region.to_owned()))
        .credentials_provider(credentials)
        .http_client(http_client)
        .timeout_config(dynamodb::timeouts())
        .retry_config(aws_sdk_sesv2::config::retry::RetryConfig::standard().with_max_attempts(3))
        .retry_classifier(OnlyWhatWasRefused);
    config.set_endpoint_url(endpoint);
    config.build()
}

/// A retry classifier that forbids a retry unless SES answered with a 4xx status: otherwise SES may have sent the mail.
#[derive(Debug)]
struct OnlyWhatWasRefused;

impl ClassifyRetry for OnlyWhatWasRefused {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match context.response() {
            Some(answer) if answer.status().is_client_error() => RetryAction::NoActionIndicated,
            _ => RetryAction::RetryForbidden,
        }
    }

    fn name(&self) -> &'static str {
        "OnlyWhatWasRefused"
    }
}
