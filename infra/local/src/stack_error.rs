//! Why a stack could not start or serve.

use credits_aws::StartError;
use credits_core::catalogue::CatalogueError;

use crate::template::TemplateError;

/// Why a stack did not start, or an operation on it failed.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    #[error("a file or socket operation failed")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// A file in the stack's folder is not valid JSON of the expected form.
    #[error("a file in the stack's folder is damaged")]
    Memory(#[from] serde_json::Error),
    #[error("the table can't be read")]
    Table(#[from] credits_store::Fault),
    /// The named part can't be created.
    #[error("could not set up the {0}")]
    Part(&'static str),
}
