//! A local token issuer, and API Gateway's checks of a token: signature, issuer, audience and expiry.
//!
//! A deployed API accepts the tokens of the company's own issuer, which sign with RSA. Here issuer and verifier are the
//! same process, so HMAC with one secret key suffices. HMAC needs three lines with `hmac`; a JWT library would add RSA
//! and elliptic curves to the first build.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;

const ISSUER: &str = "http://127.0.0.1/_local";
const AUDIENCE: &str = "ai-credits-local";
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
/// The default lifetime of a token: ten years. Moving the stack's clock ahead by months must not end it.
const USUAL_TTL_SECONDS: i64 = 10 * 365 * 24 * 60 * 60;

/// The content of a token to issue.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenOrder {
    /// A workspace's id, or `*` for all.
    pub workspace: String,
    /// The scopes, separated by spaces.
    pub scope: String,
    /// The lifetime in seconds. A negative one makes an expired token.
    pub ttl_seconds: Option<i64>,
}

/// An issuer of tokens, which also verifies them.
#[derive(Debug)]
pub struct Issuer {
    key: [u8; 32],
}

impl Issuer {
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// Issues a token. Returns `None` if the lifetime is out of range.
    #[must_use]
    pub fn issue(&self, order: &TokenOrder, now: Timestamp) -> Option<String> {
        let issued = now.as_second();
        let expires = issued.checked_add(order.ttl_seconds.unwrap_or(USUAL_TTL_SECONDS))?;
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "iat": issued, "exp": expires,
            "scope": order.scope, "workspace": order.workspace,
        });
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.mac(&signed)?.finalize().into_bytes();
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Verifies an `Authorization` header. Returns the claims as text, as API Gateway passes them on.
    #[must_use]
    pub fn verify(&self, authorization: &str, now: Timestamp) -> Option<HashMap<String, String>> {
        let token = authorization.strip_prefix("Bearer ").unwrap_or(authorization);
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        self.mac(signed)?.verify_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let ours = header["alg"] == "HS256" && claims["iss"] == ISSUER && claims["aud"] == AUDIENCE;
        let current = now.as_second() < claims["exp"].as_i64()?;
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let texts = claims.as_object()?.iter().map(|(name, value)| (name.clone(), text(value)));
        (ours && current).then(|| texts.collect())
    }

    fn mac(&self, signed: &str) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(signed.as_bytes());
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::{Issuer, TokenOrder};
    use jiff::Timestamp;

    #[test]
    fn a_token_is_valid_until_it_expires_or_is_changed() {
        let (issuer, now) = (Issuer::new([7; 32]), Timestamp::from_second(1_790_000_000).unwrap());
        let order =
            TokenOrder { workspace: "acme".into(), scope: "credits:read".into(), ttl_seconds: Some(60) };
        let token = issuer.issue(&order, now).unwrap();
        assert_eq!(issuer.verify(&format!("Bearer {token}"), now).unwrap()["workspace"], "acme");
        assert!(issuer.verify(&token, Timestamp::from_second(1_790_000_060).unwrap()).is_none());
        assert!(Issuer::new([8; 32]).verify(&token, now).is_none());
        let (head, _) = token.split_once('.').unwrap();
        for odd in ["", "Bearer", "a.b.c", &format!("{head}.e30."), &token.replace('.', "")] {
            assert!(issuer.verify(odd, now).is_none(), "{odd}");
        }
    }
}
