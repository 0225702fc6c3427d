//! The signer: AWS's signature version 4 for what a function asks DynamoDB for, at a third of the SDK's work.
//!
//! A day's signing key is made once a day, where the SDK makes it for each request, and digests are ring's, which is there
//! for TLS. It signs what DynamoDB's protocol is made of, a POST to `/` with its body in memory; whatever else there is
//! goes to the SDK's own signer. So does everything while our clock is off, since that one corrects for it.
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_runtime::auth::sigv4::{SCHEME_ID, SigV4Signer};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::{AuthScheme, AuthSchemeEndpointConfig, AuthSchemeId, Sign};
use aws_smithy_runtime_api::client::identity::{Identity, SharedIdentityResolver};
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::{GetIdentityResolver, RuntimeComponents};
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::Format;
use aws_types::SigningName;
use aws_types::region::SigningRegion;
use credits_store::digest::hex;
use http::HeaderValue;
use jiff::Timestamp;
use ring::{digest, hmac};

/// How far our clock may be from AWS's before the SDK's signer, which corrects for it, takes over. AWS refuses at five
/// minutes.
const MAX_SKEW: Duration = Duration::from_mins(4);

/// Signs a client's requests.
#[derive(Debug, Default)]
pub struct Signer {
    todays: Mutex<Option<DaysKey>>,
    skewed: Arc<AtomicBool>,
    sdks: SigV4Signer,
}

/// Looks whether our clock is AWS's, where AWS has refused something.
#[derive(Debug)]
pub struct ClockWatch {
    skewed: Arc<AtomicBool>,
}

/// The key of one day, for one access key in a region and for a service.
#[derive(Debug, Clone)]
struct DaysKey {
    access_key_id: String,
    /// `20261123/eu-central-1/dynamodb/aws4_request`.
    scope: String,
    key: hmac::Key,
}

impl Signer {
    /// What tells this signer that our clock is off.
    #[must_use]
    pub fn clock_watch(&self) -> ClockWatch {
        ClockWatch { skewed: Arc::clone(&self.skewed) }
    }

    /// The key of the day, made anew if the kept one is of another day or for something else.
    fn key_of(&self, credentials: &Credentials, date: &str, region: &str, service: &str) -> DaysKey {
        let mut todays = self.todays.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = todays.as_ref().filter(|kept| kept.is_for(credentials, date, region, service));
        if let Some(kept) = kept {
            return kept.clone();
        }
        todays.insert(DaysKey::derive(credentials, date, region, service)).clone()
    }

    /// Signs a request, if it is one of those that this signer knows.
    fn sign(
        &self,
        request: &mut HttpRequest,
        credentials: &Credentials,
        (region, service): (&str, &str),
        at: Timestamp,
    ) -> Result<Signed, BoxError> {
        let Some(host) = posted_to(request) else { return Ok(Signed::No) };
        let Some(body) = request.body().bytes() else { return Ok(Signed::No) };
        let body_digest = hex(digest::digest(&digest::SHA256, body).as_ref());
        let host = host.to_owned();
        let time = at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let headers = request.headers_mut();
        headers.try_insert("x-amz-date", time.clone())?;
        if let Some(token) = credentials.session_token() {
            let mut token = HeaderValue::from_str(token)?;
            token.set_sensitive(true);
            headers.try_insert("x-amz-security-token", token)?;
        }
        let (canonical, names) = canonical_request(request, &host, &body_digest);
        let date = time.get(..8).unwrap_or_default();
        let key = self.key_of(credentials, date, region, service);
        let canonical = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let to_sign = ["AWS4-HMAC-SHA256\n", &time, "\n", &key.scope, "\n", &canonical].concat();
        let signature = hex(hmac::sign(&key.key, to_sign.as_bytes()).as_ref());
        let id = key.access_key_id;
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={id}/{}, SignedHeaders={names}, Signature={signature}",
            key.scope
        );
        request.headers_mut().try_insert("authorization", authorization)?;
        Ok(Signed::Yes)
    }
}

/// Whether a request was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signed {
    Yes,
    No,
}

impl DaysKey {
    fn derive(credentials: &Credentials, date: &str, region: &str, service: &str) -> Self {
        let first = ["AWS4", credentials.secret_access_key()].concat();
        let first = hmac::Key::new(hmac::HMAC_SHA256, first.as_bytes());
        let key = [date, region, service, "aws4_request"].into_iter().fold(first, |key, part| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
        });
        let scope = [date, region, service, "aws4_request"].join("/");
        Self { access_key_id: credentials.access_key_id().to_owned(), scope, key }
    }

    fn is_for(&self, credentials: &Credentials, date: &str, region: &str, service: &str) -> bool {
        self.access_key_id == credentials.access_key_id()
            && self.scope.split('/').eq([date, region, service, "aws4_request"])
    }
}

/// The host that a request is posted to, as HTTP names it: without the port that its scheme has anyway. Nothing if it is
/// not a POST to `/`.
fn posted_to(request: &HttpRequest) -> Option<&str> {
    let (scheme, rest) = request.uri().split_once("://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let usual_port = if scheme == "https" { ":443" } else { ":80" };
    let plain = path.is_empty() && request.method() == "POST" && !authority.contains(['?', '@']);
    plain.then(|| authority.strip_suffix(usual_port).unwrap_or(authority))
}

/// The canonical request, and the names of the headers that it signs: the host, the media type and all of AWS's own.
fn canonical_request(request: &HttpRequest, host: &str, body_digest: &str) -> (String, String) {
    let mut signed: Vec<(&str, &str)> = request
        .headers()
        .iter()
        .filter(|(name, _)| *name == "content-type" || name.starts_with("x-amz-"))
        .collect();
    signed.push(("host", host));
    signed.sort_unstable();
    let mut canonical = String::with_capacity(1_024);
    canonical.push_str("POST\n/\n\n");
    for (name, value) in &signed {
        canonical.extend([*name, ":", value.trim(), "\n"]);
    }
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    canonical.extend(["\n", &names, "\n", body_digest]);
    (canonical, names)
}

impl Sign for Signer {
    fn sign_http_request(
        &self,
        request: &mut HttpRequest,
        identity: &Identity,
        endpoint: AuthSchemeEndpointConfig<'_>,
        components: &RuntimeComponents,
        bag: &ConfigBag,
    ) -> Result<(), BoxError> {
        let region = bag.load::<SigningRegion>().map(AsRef::as_ref);
        let service = bag.load::<SigningName>().map(AsRef::as_ref);
        let known = identity.data::<Credentials>().zip(region.zip(service));
        if let Some((credentials, scope)) = known.filter(|_| !self.skewed.load(Ordering::Relaxed)) {
            let at = components.time_source().unwrap_or_default().now().try_into()?;
            if self.sign(request, credentials, scope, at)? == Signed::Yes {
                return Ok(());
            }
        }
        self.sdks.sign_http_request(request, identity, endpoint, components, bag)
    }
}

impl AuthScheme for Signer {
    fn scheme_id(&self) -> AuthSchemeId {
        SCHEME_ID
    }

    fn identity_resolver(&self, resolvers: &dyn GetIdentityResolver) -> Option<SharedIdentityResolver> {
        resolvers.identity_resolver(SCHEME_ID)
    }

    fn signer(&self) -> &dyn Sign {
        self
    }
}

#[dyn_dispatch_hint]
impl Intercept for ClockWatch {
    fn name(&self) -> &'static str {
        "ClockWatch"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response();
        if answer.status().is_success() {
            return Ok(());
        }
        let date = answer.headers().get("date").map(|date| DateTime::from_str(date, Format::HttpDate));
        if let Some(Ok(date)) = date {
            let theirs = Timestamp::from_second(date.secs())?;
            let ours = Timestamp::try_from(components.time_source().unwrap_or_default().now())?;
            let skew = ours.duration_since(theirs).unsigned_abs();
            self.skewed.store(skew > MAX_SKEW, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::SystemTime;

    use aws_credential_types::Credentials;
    use aws_sdk_dynamodb::config::retry::RetryConfig;
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
    use aws_sigv4::sign::v4::SigningParams;
    use aws_smithy_async::time::StaticTimeSource;
    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };
    use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
    use aws_smithy_types::body::SdkBody;
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::{Signed, Signer};
    use crate::start::dynamodb_config;

    const TARGET: &str = "DynamoDB_20120810.TransactWriteItems";

    fn request(uri: &str, body: &str) -> HttpRequest {
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method("POST").unwrap();
        request.set_uri(uri.to_owned()).unwrap();
        for (name, value) in [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", TARGET)] {
            request.headers_mut().insert(name, value);
        }
        request
    }

    /// What the SDK's own crate signs.
    fn as_the_sdk_signs(
        request: &HttpRequest,
        credentials: &Credentials,
        region: &str,
        at: Timestamp,
    ) -> String {
        let identity = credentials.clone().into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name("dynamodb")
            .time(SystemTime::from(at))
            .settings(SigningSettings::default())
            .build()
            .unwrap();
        let body = SignableBody::Bytes(request.body().bytes().unwrap());
        let signable =
            SignableRequest::new(request.method(), request.uri(), request.headers().iter(), body).unwrap();
        let (instructions, _) = sign(signable, &params.into()).unwrap().into_parts();
        let authorization = instructions.headers().find(|(name, _)| *name == "authorization");
        authorization.unwrap().1.to_owned()
    }

    proptest! {
        #[test]
        fn a_signature_is_the_one_that_the_sdk_would_make(
            body in ".{0,3000}",
            host in "[a-z0-9.-]{1,30}(:[1-9][0-9]{1,3})?",
            https: bool,
            region in "[a-z0-9-]{1,15}",
            (id, secret, token) in ("[A-Z0-9]{4,20}", "[A-Za-z0-9/+]{1,40}", proptest::option::of("[!-~]{1,400}")),
            seconds in 0_i64..4_000_000_000,
        ) {
            let uri = format!("http{}://{host}/", if https { "s" } else { "" });
            prop_assume!(uri.parse::<http::Uri>().is_ok());
            let at = Timestamp::from_second(seconds).unwrap();
            let credentials = Credentials::new(id, secret, token, None, "test");
            let mut ours = request(&uri, &body);
            let theirs = as_the_sdk_signs(&ours, &credentials, &region, at);
            let signer = Signer::default();
            prop_assert_eq!(signer.sign(&mut ours, &credentials, (&region, "dynamodb"), at).unwrap(), Signed::Yes);
            prop_assert_eq!(ours.headers().get("authorization").unwrap(), theirs);
        }
    }

    #[test]
    fn a_key_is_made_anew_for_another_day_and_another_access_key() {
        let signer = Signer::default();
        let credentials = |id: &str| Credentials::new(id, "secret", None, None, "test");
        let key =
            |id: &str, date: &str| signer.key_of(&credentials(id), date, "eu-central-1", "dynamodb").scope;
        assert_eq!(key("one", "20261123"), "20261123/eu-central-1/dynamodb/aws4_request");
        assert_eq!(key("one", "20261124"), "20261124/eu-central-1/dynamodb/aws4_request");
        key("two", "20261124");
        assert_eq!(signer.todays.lock().unwrap().as_ref().unwrap().access_key_id, "two");
    }

    /// A table whose clock is ten minutes ahead, and which refuses what is not signed by it.
    #[derive(Debug, Clone, Default)]
    struct Ahead(Arc<Mutex<Vec<String>>>);

    const OURS: &str = "2026-11-23T12:00:00Z";

    impl HttpConnector for Ahead {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let signed_at = request.headers().get("x-amz-date").unwrap().to_owned();
            self.0.lock().unwrap().push(signed_at);
            let refusal = SdkBody::from(r#"{"__type":"InvalidSignatureException"}"#);
            let mut answer = HttpResponse::new(400.try_into().unwrap(), refusal);
            answer.headers_mut().insert("date", "Mon, 23 Nov 2026 12:10:00 GMT");
            HttpConnectorFuture::ready(Ok(answer))
        }
    }

    #[tokio::test]
    async fn who_was_refused_since_their_clock_is_off_signs_by_the_clock_of_aws() {
        let ahead = Ahead::default();
        let connector = ahead.clone();
        let credentials = Credentials::new("id", "secret", None, None, "test");
        let http = http_client_fn(move |_, _| SharedHttpConnector::new(connector.clone()));
        let signer = Signer::default();
        let config = dynamodb_config("eu-central-1", credentials, Some("http://table".to_owned()), http)
            .to_builder()
            .retry_config(RetryConfig::disabled())
            .time_source(StaticTimeSource::new(OURS.parse::<Timestamp>().unwrap().into()))
            .interceptor(signer.clock_watch())
            .push_auth_scheme(signer)
            .build();
        let client = aws_sdk_dynamodb::Client::from_conf(config);
        for _ in 0..2 {
            client.describe_limits().send().await.unwrap_err();
        }
        assert_eq!(*ahead.0.lock().unwrap(), ["20261123T120000Z", "20261123T121000Z"]);
    }

    #[test]
    fn what_is_not_a_post_to_the_root_is_left_to_the_sdk() {
        let credentials = Credentials::new("id", "secret", None, None, "test");
        for uri in ["https://one.example/path", "https://one.example/?query"] {
            let mut request = request(uri, "{}");
            let signed =
                Signer::default().sign(&mut request, &credentials, ("eu", "dynamodb"), Timestamp::UNIX_EPOCH);
            assert_eq!(signed.unwrap(), Signed::No);
            assert_eq!(request.headers().get("authorization"), None);
        }
    }
}
