//! The HTTP clients of the SDK: hyper and rustls with ring, which starts faster than the SDK's default.

use aws_sdk_dynamodb::config::SharedHttpClient;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

/// Creates the HTTP client for the AWS clients of a deployed function. It trusts the machine's root certificates.
#[must_use]
pub fn https_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// Creates an HTTP client without TLS for AWS clients whose endpoint is on this machine.
#[must_use]
pub fn loopback_client() -> SharedHttpClient {
    Builder::new().build_http()
}
