//! Why a secret could not be read.

/// The reason why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// SSM did not return the parameter.
    #[cfg(feature = "ssm")]
    #[error("the parameter can't be read")]
    Unread(#[source] Box<aws_sdk_ssm::Error>),
    /// The parameter is empty.
    #[error("the parameter holds no secret")]
    Empty,
}
