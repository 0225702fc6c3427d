//! Idempotency keys, under which a call is carried out only once.

use std::fmt;

use uuid::Uuid;

/// An idempotency key: 1 to 255 characters of visible ASCII. A key identifies the same call forever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Returns a random key, for a call that nothing else identifies.
    ///
    /// The client's own retries use the same key. [`Error::Unavailable`](crate::Error::Unavailable) returns it if no
    /// attempt had a final response.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4().to_string())
    }

    /// Returns the key under which the hold that was placed under this key is settled.
    pub(crate) fn of_settlement(&self) -> Self {
        Self(format!("{self}/settle"))
    }

    /// Returns the key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for IdempotencyKey {
    fn from(key: T) -> Self {
        Self(key.into())
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
