//! The connection to AWS: one HTTP client whose connections all requests of a function share.
//!
//! It uses hyper and rustls with only the features that these requests need. The SDK's own client also supports HTTP/2
//! and proxies, and builds a connector with certificates for each service client. That was a tenth of the debit
//! function's size and a sixth of its start time (docs/benchmarks.md).

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::config::SharedHttpClient;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::ErrorKind;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{
    CaptureConnection, Connect, HttpConnector as TcpConnector, capture_connection,
};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tower::Service;
use tower::util::MapFuture;

use crate::settings::Settings;
use crate::start::StartError;

/// The root certificates of AWS's endpoints (Amazon Trust Services, Certificate authorities,
/// <https://www.amazontrust.com/repository/>). They are in DER, which parses fastest: every start parses them.
const AMAZON_ROOTS: [&[u8]; 5] = [
    include_bytes!("../certificates/amazon-root-ca-1.der"),
    include_bytes!("../certificates/amazon-root-ca-2.der"),
    include_bytes!("../certificates/amazon-root-ca-3.der"),
    include_bytes!("../certificates/amazon-root-ca-4.der"),
    include_bytes!("../certificates/starfield-services-root-g2.der"),
];

/// The timeout of a new connection, including the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

type Connecting = <HttpsConnector<TcpConnector> as Service<Uri>>::Future;

/// The pool of open connections, which also opens new ones.
#[derive(Debug)]
struct Connections<C> {
    client: Client<C, SdkBody>,
}

/// An HTTP client for the SDK that returns the same connector to each service client, whatever its settings.
#[derive(Debug)]
struct OneConnector(SharedHttpConnector);

impl HttpClient for OneConnector {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.0.clone()
    }
}

/// Creates the HTTP client for the AWS clients of a deployed function. It trusts only Amazon's roots, unless the
/// setting `TLS_ROOTS=native` selects the machine's.
pub fn https_client_of(settings: Settings) -> Result<SharedHttpClient, StartError> {
    // Loading the machine's certificates would be most of the start time.
    let roots = if settings.trusts_native_roots() { native_roots() } else { amazon_roots() };
    client_that_trusts(roots.ok_or(StartError::Part("trust store"))?)
}

/// Creates an HTTP client without TLS for AWS clients whose endpoint is on this machine.
#[must_use]
pub fn loopback_client() -> SharedHttpClient {
    client_over(tcp())
}

fn amazon_roots() -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in AMAZON_ROOTS {
        roots.add(CertificateDer::from_slice(certificate)).ok()?;
    }
    Some(roots)
}

/// Loads the machine's root certificates. Skips unreadable certificates, as other TLS clients do.
fn native_roots() -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let (read, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    (read > 0).then_some(roots)
}

fn client_that_trusts(roots: RootCertStore) -> Result<SharedHttpClient, StartError> {
    // Of rustls's providers, ring has the fastest start.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| StartError::Part("TLS configuration"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = tcp();
    tcp.enforce_http(false);
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
    Ok(client_over(MapFuture::new(https.wrap_connector(tcp), in_time)))
}

fn tcp() -> TcpConnector {
    let mut tcp = TcpConnector::new();
    // Without Nagle's algorithm a request is sent at once, and does not wait until the previous data is acknowledged.
    tcp.set_nodelay(true);
    tcp
}

fn client_over<C: Connect + Clone + fmt::Debug + Send + Sync + 'static>(way: C) -> SharedHttpClient {
    let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(way);
    SharedHttpClient::new(OneConnector(SharedHttpConnector::new(Connections { client })))
}

fn in_time(connecting: Connecting) -> Connecting {
    Box::pin(async { tokio::time::timeout(CONNECT_TIMEOUT, connecting).await? })
}

impl<C: Connect + Clone + fmt::Debug + Send + Sync + 'static> HttpConnector for Connections<C> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let connection = capture_connection(&mut request);
        if let Some(capture) = request.extensions().get::<CaptureSmithyConnection>() {
            capture.set_connection_retriever(move || poisonable(&connection));
        }
        let answered = self.client.request(request);
        HttpConnectorFuture::new(async move {
            let response = answered.await.map_err(connector_error)?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// Lets the SDK discard a connection after a failure, so that a retry opens another.
fn poisonable(connection: &CaptureConnection) -> Option<ConnectionMetadata> {
    connection.connection_metadata().as_ref()?;
    let connection = connection.clone();
    let poison = move || {
        if let Some(connected) = connection.connection_metadata().as_ref() {
            connected.poison();
        }
    };
    Some(ConnectionMetadata::builder().proxied(false).poison_fn(poison).build())
}

fn connector_error(error: legacy::Error) -> ConnectorError {
    let as_its_kind = kind_of(&error);
    as_its_kind(error.into())
}

/// Returns the kind of a failure, by which the SDK and the store decide whether to retry.
fn kind_of(error: &legacy::Error) -> fn(BoxError) -> ConnectorError {
    if source_of::<tokio::time::error::Elapsed>(error).is_some() {
        return ConnectorError::timeout;
    }
    let of_http = source_of::<hyper::Error>(error);
    if of_http.is_some_and(hyper::Error::is_user) {
        return ConnectorError::user;
    }
    let is_closed = of_http.is_some_and(|error| error.is_closed() || error.is_canceled());
    if is_closed || error.is_connect() || source_of::<std::io::Error>(error).is_some() {
        return ConnectorError::io;
    }
    if of_http.is_some_and(hyper::Error::is_incomplete_message) {
        return |error| ConnectorError::other(error, Some(ErrorKind::TransientError));
    }
    |error| ConnectorError::other(error, None)
}

/// Returns the first error of a type in a chain of sources.
fn source_of<'error, E: Error + 'static>(error: &'error (dyn Error + 'static)) -> Option<&'error E> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
    use aws_sdk_dynamodb::error::SdkError;
    use aws_smithy_runtime_api::client::result::DispatchFailure;
    use rcgen::CertifiedKey;
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    const TABLES: &str = "HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{\"TableNames\":[]}";
    const BROKEN: &str = "HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\n{}";

    /// A TLS endpoint with its own certificate. It sends the given responses in order, and none after the last.
    struct Endpoint {
        url: String,
        certificate: CertificateDer<'static>,
        connections: Arc<AtomicUsize>,
    }

    impl Endpoint {
        async fn that_answers(answers: &'static [&'static str]) -> Self {
            let CertifiedKey { cert, key_pair } =
                rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let certificate = cert.der().clone();
            let key = PrivateKeyDer::try_from(key_pair.serialize_der()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let tls = tls.unwrap().with_no_client_auth().with_single_cert(vec![certificate.clone()], key);
            let (tls, listener) =
                (TlsAcceptor::from(Arc::new(tls.unwrap())), TcpListener::bind("127.0.0.1:0").await.unwrap());
            let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
            let connections = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&connections);
            tokio::spawn(async move {
                let mut answers = answers.iter();
                while let Ok((tcp, _)) = listener.accept().await {
                    counted.fetch_add(1, Ordering::Relaxed);
                    if let Ok(stream) = tls.accept(tcp).await {
                        serve(stream, &mut answers).await;
                    }
                }
            });
            Self { url, certificate, connections }
        }

        fn roots(&self) -> RootCertStore {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate.clone()).unwrap();
            roots
        }
    }

    /// Serves the requests of one connection. Closes the connection without a response if the next response is empty.
    async fn serve(
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        answers: &mut impl Iterator<Item = &&'static str>,
    ) {
        let mut request = Vec::new();
        while let Ok(1..) = stream.read_buf(&mut request).await {
            if !request.ends_with(b"{}") {
                continue;
            }
            request.clear();
            match answers.next() {
                Some(answer) if !answer.is_empty() => stream.write_all(answer.as_bytes()).await.unwrap(),
                _ => return,
            }
        }
    }

    fn dynamodb(url: &str, http_client: SharedHttpClient, attempts: u32) -> aws_sdk_dynamodb::Client {
        let retries = aws_sdk_dynamodb::config::retry::RetryConfig::standard()
            .with_max_attempts(attempts)
            .with_initial_backoff(Duration::ZERO);
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-central-1"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .endpoint_url(url)
            .http_client(http_client)
            .retry_config(retries);
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// Lists tables and returns the failure.
    async fn failure(client: &aws_sdk_dynamodb::Client) -> DispatchFailure {
        match client.list_tables().send().await.unwrap_err() {
            SdkError::DispatchFailure(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn all_requests_share_a_connection() {
        let endpoint = Endpoint::that_answers(&[TABLES, TABLES, TABLES]).await;
        let http_client = client_that_trusts(endpoint.roots()).unwrap();
        for _ in 0..3 {
            let client = dynamodb(&endpoint.url, http_client.clone(), 1);
            assert_eq!(client.list_tables().send().await.unwrap().table_names(), [""; 0]);
        }
        assert_eq!(endpoint.connections.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_endpoint_without_an_amazon_certificate_is_refused() {
        let endpoint = Endpoint::that_answers(&[TABLES]).await;
        let client = dynamodb(&endpoint.url, client_that_trusts(amazon_roots().unwrap()).unwrap(), 1);
        let refused = failure(&client).await;
        assert!(refused.is_io(), "{refused:?}");
        let refused = refused.as_connector_error().unwrap();
        let why = std::iter::successors(Some(refused as &dyn Error), |&error| error.source());
        assert!(why.map(ToString::to_string).any(|why| why.contains("UnknownIssuer")), "{refused:?}");
    }

    #[test]
    fn all_amazon_roots_are_loaded() {
        assert_eq!(amazon_roots().unwrap().len(), AMAZON_ROOTS.len());
    }

    #[tokio::test]
    async fn a_retry_after_a_server_error_takes_another_connection() {
        let endpoint = Endpoint::that_answers(&[BROKEN, TABLES]).await;
        let client = dynamodb(&endpoint.url, client_that_trusts(endpoint.roots()).unwrap(), 2);
        client.list_tables().send().await.unwrap();
        assert_eq!(endpoint.connections.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_request_is_retried_after_its_connection_closed() {
        let endpoint = Endpoint::that_answers(&["", TABLES]).await;
        let client = dynamodb(&endpoint.url, client_that_trusts(endpoint.roots()).unwrap(), 2);
        client.list_tables().send().await.unwrap();
    }

    #[tokio::test]
    async fn a_closed_port_fails_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let refused = failure(&dynamodb(&url, loopback_client(), 1)).await;
        assert!(refused.is_io(), "{refused:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_without_response_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let client = dynamodb(&url, client_that_trusts(amazon_roots().unwrap()).unwrap(), 1);
        let began = tokio::time::Instant::now();
        let refused = failure(&client).await;
        assert!(refused.is_timeout(), "{refused:?}");
        assert_eq!(began.elapsed().as_secs(), CONNECT_TIMEOUT.as_secs());
    }
}
