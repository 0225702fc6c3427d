//! Why a function could not start.

use crate::settings::SettingError;

/// The reason why a function can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is missing or invalid.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The catalogue file is invalid.
    #[error("the catalogue is invalid")]
    Catalogue(#[from] credits_core::catalogue::CatalogueError),
    /// A part of the function can't be created. Holds its name.
    #[error("the {0} can't be created")]
    Part(&'static str),
    /// A setting names an SSM parameter, which this build can't read. Holds the parameter's name.
    #[error(
        "the secret is in the SSM parameter {0}, and this build has no SSM client; build with the feature `ssm`"
    )]
    WithoutSsm(String),
    /// The asynchronous runtime can't be created.
    #[error("the asynchronous runtime can't be created")]
    Runtime(#[from] std::io::Error),
    #[error("lambda's runtime API failed")]
    Lambda(#[source] lambda_runtime::Error),
}
