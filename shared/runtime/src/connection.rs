//! The way to AWS: one HTTP client whose connections all requests of a function share.
//!
//! The SDK makes a connector, with its certificates, for each client that is put together, to see whether it could, and
//! another one for the requests. Here the first that is asked for serves them all: that is a sixth of a start, and a
//! fiftieth of each invocation (docs/benchmarks.md).

use std::sync::OnceLock;

use aws_sdk_dynamodb::config::SharedHttpClient;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use crate::settings::Settings;
use crate::start::StartError;

/// The roots of what AWS's endpoints present (Amazon Trust Services, Certificate authorities).
const AMAZON_ROOTS: &[u8] = include_bytes!("../certificates/amazon-roots.pem");

/// rustls on ring, whose start costs the least.
const RUSTLS: Provider = Provider::Rustls(CryptoMode::Ring);

/// A client that makes one connector, by the settings of whoever asks first: all our clients of AWS have the same.
#[derive(Debug)]
struct OneConnector {
    client: SharedHttpClient,
    connector: OnceLock<SharedHttpConnector>,
}

impl HttpClient for OneConnector {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.connector.get_or_init(|| self.client.http_connector(settings, components)).clone()
    }
}

/// The HTTP client of a deployed function's AWS clients: it trusts Amazon's roots alone, unless it is told to trust the
/// machine's.
pub fn https_client_of(settings: Settings) -> Result<SharedHttpClient, StartError> {
    if settings.trusts_native_roots() {
        return Ok(https_client());
    }
    // Reading the machine's certificates is most of what a start would cost.
    let roots = TrustStore::empty().with_pem_certificate(AMAZON_ROOTS);
    let context = TlsContext::builder().with_trust_store(roots).build();
    let context = context.map_err(|_| StartError::Part("trust store"))?;
    Ok(one_connector(Builder::new().tls_provider(RUSTLS).tls_context(context).build_https()))
}

/// The HTTP client of AWS clients that trusts what the machine does.
#[must_use]
pub fn https_client() -> SharedHttpClient {
    one_connector(Builder::new().tls_provider(RUSTLS).build_https())
}

fn one_connector(client: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(OneConnector { client, connector: OnceLock::new() })
}
