//! Idempotency: the caller's key and the call that used it first.

use std::fmt;
use std::str::FromStr;

use credits_core::id::WorkspaceId;

use crate::digest::{Sha256, sha256_of_each};
use crate::error::Fault;

/// A caller's idempotency key: 1 to 255 visible ASCII characters (docs/api.md).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

/// The error for a text that is not an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key is 1 to 255 visible ASCII characters")]
pub struct InvalidKey;

/// A digest of a call's method, path and payload. A key is refused if it comes again with another fingerprint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(Sha256);

/// A call under its key. Once the call succeeds, the key stands for it permanently.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The workspace within which the key is unique.
    pub workspace_id: WorkspaceId,
    pub key: IdempotencyKey,
    pub fingerprint: Fingerprint,
}

/// Whether a call was the first under its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// The call did what it says.
    First,
    /// An earlier call under the key did it, and the caller gets that call's answer.
    Replay,
}

impl KeyUse {
    /// Returns `First` if the call itself made what is answered.
    #[must_use]
    pub fn first_if(own: bool) -> Self {
        if own { Self::First } else { Self::Replay }
    }
}

/// Why a call under a key is refused, if only the key and the workspace can be wrong.
#[derive(Debug, thiserror::Error)]
pub enum ClaimRefusal {
    #[error("the idempotency key was used for another call")]
    KeyReused,
    #[error("the workspace does not exist")]
    WorkspaceNotFound,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl IdempotencyKey {
    /// Returns the key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if visible && (1..=255).contains(&text.len()) { Ok(Self(text.to_owned())) } else { Err(InvalidKey) }
    }
}

impl Fingerprint {
    /// Hashes a call's parts, each with its length, so that the boundaries between parts count.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        Self(sha256_of_each(parts))
    }

    /// Returns the digest.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}

#[cfg(test)]
mod tests {
    use super::{Fingerprint, IdempotencyKey};

    #[test]
    fn a_key_is_1_to_255_visible_ascii_characters() {
        assert!(
            "a".repeat(255).parse::<IdempotencyKey>().is_ok()
                && "run#1/step:2".parse::<IdempotencyKey>().is_ok()
        );
        for bad in [String::new(), "a".repeat(256), "a b".into(), "ä".into(), "a\n".into()] {
            assert!(bad.parse::<IdempotencyKey>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parts_with_other_boundaries_have_another_fingerprint() {
        assert_ne!(Fingerprint::of(&[b"ab", b"c"]), Fingerprint::of(&[b"a", b"bc"]));
    }
}
