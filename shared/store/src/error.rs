//! What can go wrong between us and the table, apart from a refusal.

/// The call could not be carried out. What a caller did wrong is never a fault; each operation has its refusals.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Others kept writing to the same item, or DynamoDB throttled, until the attempts or the time ran out.
    #[error("the workspace is contended")]
    Contended,
    /// DynamoDB could not be reached, or failed.
    #[error("the table is unavailable")]
    Unavailable(#[source] Box<aws_sdk_dynamodb::Error>),
    /// An item is not as we write it.
    #[error("an item can't be read")]
    Corrupt(#[from] Corrupt),
}

/// An item that is not as we write it: a defect of ours, or a hand in the table.
#[derive(Debug, thiserror::Error)]
pub enum Corrupt {
    /// An attribute is missing or of another type.
    #[error("attribute {0} is missing or malformed")]
    Attribute(&'static str),
    /// A document attribute can't be read or written.
    #[error("a document attribute is malformed")]
    Document(#[from] serde_dynamo::Error),
    /// A request was not put together as the SDK wants it.
    #[error("a request is incomplete")]
    Request(#[from] aws_sdk_dynamodb::error::BuildError),
    /// The balance can't be closed.
    #[error("a balance can't be closed")]
    Close(#[from] credits_core::close::CloseError),
    /// A sum leaves its range.
    #[error("a sum is out of range")]
    Sum(#[from] credits_core::credits::OutOfRange),
    /// An id that is made of others is not one.
    #[error("an id that is made of others is too long")]
    DerivedId,
    /// A write that is sent as an update is none.
    #[error("a write is no update")]
    NotAnUpdate,
    /// A transaction was cancelled for a reason that none of ours can have.
    #[error("a transaction was cancelled for {0}")]
    Cancelled(CancelCode),
}

/// A cancellation code of DynamoDB's that points to a defect of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CancelCode {
    /// An expression or value was refused.
    #[error("ValidationError")]
    Validation,
    /// An item collection grew too large.
    #[error("ItemCollectionSizeLimitExceeded")]
    CollectionSize,
    /// A code that we don't know.
    #[error("an unknown code")]
    Unknown,
}

/// An error with all that it stems from, for a log's one line: `Display` of an error never repeats its source.
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
