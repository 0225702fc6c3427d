//! The signature of an event: `t=<unix>,v1=<hex hmac-sha256 of "<t>.<raw body>">`.
//!
//! Source: <https://docs.stripe.com/webhooks/signature>, scheme `v1`. A header may have several `v1` signatures, and
//! several secrets may be active while one is rotated.

use std::fmt;

use hmac::{Hmac, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The maximum difference in seconds between the signature's time and ours, in either direction.
pub const TOLERANCE_SECONDS: u64 = 300;

/// The maximum number of signatures that are checked in one header. Stripe sends one for each active secret.
const MAX_SIGNATURES: usize = 16;

/// A secret string, such as a signing secret or an API key. Its `Debug` output hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// The error for an event whose signature is invalid. One error covers all reasons, so that a forger learns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature matches no active secret, or its time is out of tolerance")]
pub struct SignatureInvalid;

impl Secret {
    /// Wraps a secret string.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Splits a setting into its active secrets, which white space or commas separate.
    #[must_use]
    pub fn list(setting: &str) -> Vec<Self> {
        let separators = |c: char| c.is_whitespace() || c == ',';
        setting.split(separators).filter(|part| !part.is_empty()).map(Self::new).collect()
    }

    /// Returns the secret in plain text. Use it only to send it to its owner.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Verifies a signature header against the raw body, in constant time for each signature and secret.
pub fn verify(header: &str, body: &[u8], secrets: &[Secret], now: Timestamp) -> Result<(), SignatureInvalid> {
    let (time, signatures) = read_header(header).ok_or(SignatureInvalid)?;
    let signed_at: i64 = time.parse().map_err(|_| SignatureInvalid)?;
    if now.as_second().abs_diff(signed_at) > TOLERANCE_SECONDS {
        return Err(SignatureInvalid);
    }
    let mut fits = subtle::Choice::from(0);
    for secret in secrets {
        let expected = mac(secret, time, body)?;
        for signature in &signatures {
            fits |= expected.ct_eq(signature);
        }
    }
    if bool::from(fits) { Ok(()) } else { Err(SignatureInvalid) }
}

/// Builds the header that Stripe would send, for the local stack and for tests.
pub fn sign(body: &[u8], secret: &Secret, now: Timestamp) -> Result<String, SignatureInvalid> {
    let time = now.as_second().to_string();
    let signature = mac(secret, &time, body)?;
    let hex = signature.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    Ok(format!("t={time},v1={hex}"))
}

fn mac(secret: &Secret, time: &str, body: &[u8]) -> Result<[u8; 32], SignatureInvalid> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.0.as_bytes()).map_err(|_| SignatureInvalid)?;
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    Ok(mac.finalize().into_bytes().into())
}

/// Parses a header into the time as text and the signatures of version 1.
fn read_header(header: &str) -> Option<(&str, Vec<[u8; 32]>)> {
    let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
    let mut times = parts().filter(|(name, _)| *name == "t").map(|(_, time)| time);
    let (time, None) = (times.next()?, times.next()) else { return None };
    let canonical = !time.is_empty() && time.len() <= 12 && time.bytes().all(|byte| byte.is_ascii_digit());
    let signatures = parts().filter(|(name, _)| *name == "v1").filter_map(|(_, hex)| read_hex(hex));
    canonical.then(|| (time, signatures.take(MAX_SIGNATURES).collect()))
}

fn read_hex(hex: &str) -> Option<[u8; 32]> {
    let digits = hex.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|nibble| u8::try_from(nibble).ok());
        *byte = nibble(*high)?.checked_mul(16)?.checked_add(nibble(*low)?)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Secret, sign, verify};
    use jiff::Timestamp;

    const BODY: &[u8] = b"{\"id\":\"evt_1\"}";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    #[test]
    fn signature_is_valid_within_300_seconds_either_way() {
        let secret = Secret::new("whsec_a");
        let header = sign(BODY, &secret, at(0)).unwrap();
        for seconds in [-300, 0, 300] {
            assert_eq!(verify(&header, BODY, std::slice::from_ref(&secret), at(seconds)), Ok(()));
        }
        for seconds in [-301, 301, 600, -600] {
            assert!(verify(&header, BODY, std::slice::from_ref(&secret), at(seconds)).is_err());
        }
    }

    #[test]
    fn any_active_secret_and_any_of_several_signatures_verifies() {
        let secrets = Secret::list("whsec_new, whsec_old");
        let old = sign(BODY, &secrets[1], at(0)).unwrap();
        assert_eq!(verify(&old, BODY, &secrets, at(1)), Ok(()));
        let foreign = sign(BODY, &Secret::new("whsec_other"), at(0)).unwrap();
        let both = format!("{foreign},{},v0=00", old.split_once(',').unwrap().1);
        assert_eq!(verify(&both, BODY, &secrets, at(1)), Ok(()));
        assert!(verify(&foreign, BODY, &secrets, at(1)).is_err());
        assert!(verify(&old, BODY, &[], at(1)).is_err());
    }

    #[test]
    fn body_or_header_altered_by_one_byte_is_refused() {
        let secret = [Secret::new("whsec_a")];
        let header = sign(BODY, &secret[0], at(0)).unwrap();
        for at_byte in 0..BODY.len() {
            let mut body = BODY.to_vec();
            body[at_byte] ^= 1;
            assert!(verify(&header, &body, &secret, at(0)).is_err());
        }
        for at_byte in 0..header.len() {
            let mut altered = header.clone().into_bytes();
            altered[at_byte] ^= 1;
            let altered = String::from_utf8(altered).unwrap();
            assert!(verify(&altered, BODY, &secret, at(0)).is_err(), "{altered}");
        }
        for odd in
            ["", "t=", "t=1790000000", "v1=00", "t=1790000000,t=1790000000,v1=00", "t=+1790000000,v1=0"]
        {
            assert!(verify(odd, BODY, &secret, at(0)).is_err(), "{odd}");
        }
    }
    /// Returns whether a header has the signed time and signature, whatever else it has.
    fn is_authentic(header: &str, time: &str, hex: &str) -> bool {
        let parts: Vec<_> = header.split(',').filter_map(|part| part.trim().split_once('=')).collect();
        let times: Vec<_> = parts.iter().filter(|(name, _)| *name == "t").collect();
        let hexes = parts.iter().filter(|(name, _)| *name == "v1");
        matches!(times[..], [(_, only)] if *only == time)
            && hexes.into_iter().any(|it| it.1.eq_ignore_ascii_case(hex))
    }

    /// Flips a bit, removes, duplicates, inserts or swaps bytes, or truncates the text.
    fn mutate(text: &mut Vec<u8>, random: &mut impl FnMut(usize) -> usize) {
        if text.is_empty() {
            return;
        }
        let (here, there) = (random(text.len()), random(text.len()));
        match random(6) {
            0 => text[here] ^= 1 << random(7),
            1 => drop(text.remove(here)),
            2 => text.insert(here, text[there]),
            3 => text.swap(here, there),
            4 => text.insert(here, b"=,t v1+-0fF"[random(11)]),
            _ => text.truncate(here.max(1)),
        }
    }

    #[test]
    fn a_million_forgeries_are_refused() {
        let secrets = [Secret::new("whsec_a"), Secret::new("whsec_b")];
        let header = sign(BODY, &secrets[1], at(0)).unwrap();
        let (time, hex) = header.split_once(',').unwrap();
        let (time, hex) = (&time[2..], &hex[3..]);
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % u64::try_from(below.max(1)).unwrap()).unwrap()
        };
        let mut accepted = 0;
        for _ in 0..1_000_000 {
            let (mut forged, mut body) = (header.clone().into_bytes(), BODY.to_vec());
            for _ in 0..=random(3) {
                mutate(if random(3) == 0 { &mut body } else { &mut forged }, &mut random);
            }
            let forged = String::from_utf8_lossy(&forged).into_owned();
            if verify(&forged, &body, &secrets, at(0)).is_ok() {
                assert!(body == BODY && is_authentic(&forged, time, hex), "{forged}");
                accepted += 1;
            }
        }
        assert!(accepted > 0, "no mutation kept the signed time, body and signature");
    }
}
