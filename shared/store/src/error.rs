//! Errors of the table and of stored items. Refusals are not among them: each operation has its own.

/// A failure of the table or of the store. A caller's mistake is never a fault, but a refusal of its operation.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Other writes to the same item or throttling by DynamoDB lasted until the attempts or the time ran out.
    #[error("the workspace is contended")]
    Contended,
    /// DynamoDB could not be reached, or it failed.
    #[error("the table is unavailable")]
    Unavailable(#[source] Box<aws_sdk_dynamodb::Error>),
    #[error("an item can't be read")]
    Corrupt(#[from] Corrupt),
}

/// A malformed item or request: a bug in this code, or an edit of the table by hand.
#[derive(Debug, thiserror::Error)]
pub enum Corrupt {
    #[error("attribute {0} is missing or malformed")]
    Attribute(&'static str),
    #[error("a document attribute is malformed")]
    Document(#[from] serde_dynamo::Error),
    /// A request lacks a field that the SDK requires.
    #[error("a request is incomplete")]
    Request(#[from] aws_sdk_dynamodb::error::BuildError),
    #[error("a balance can't be closed")]
    Close(#[from] credits_core::close::CloseError),
    #[error("a sum is out of range")]
    Sum(#[from] credits_core::credits::OutOfRange),
    #[error("an id that is made of others is too long")]
    DerivedId,
    #[error("a write is not an update")]
    NotAnUpdate,
    #[error("a ledger entry of expired holds names no hold")]
    NoExpiredHold,
    /// The database refused a posting for a condition that the posting does not have.
    #[error("a posting was refused for a condition that it does not have")]
    UnexpectedRefusal(#[source] credits_core::posting::Refusal),
    /// A transaction was cancelled with a code that only a bug can cause.
    #[error("a transaction was cancelled for {0}")]
    Cancelled(CancelCode),
}

/// A cancellation code of DynamoDB that points to a bug in this code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CancelCode {
    /// DynamoDB rejected an expression or a value.
    #[error("ValidationError")]
    Validation,
    #[error("ItemCollectionSizeLimitExceeded")]
    CollectionSize,
    #[error("an unknown code")]
    Unknown,
}

/// An error with all of its sources, for one line of the log. The `Display` of an error never repeats its source.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl Fault {
    pub(crate) fn unavailable(error: impl Into<aws_sdk_dynamodb::Error>) -> Self {
        Self::Unavailable(Box::new(error.into()))
    }
}
