//! The keys that authorize calls.

use std::pin::Pin;
use std::sync::Arc;

use crate::error::{BoxError, Error};

type Answer = Pin<Box<dyn Future<Output = Result<String, BoxError>> + Send>>;

/// The API key or token that authorizes calls: a text, or a function that returns it.
#[derive(Clone)]
pub struct ApiKey(Source);

#[derive(Clone)]
enum Source {
    Fixed(String),
    Function(Arc<dyn Fn() -> Answer + Send + Sync>),
}

impl ApiKey {
    /// Takes the key from a function, which is called before each attempt. Use it for tokens that are short-lived.
    ///
    /// If the function fails, the call fails with [`Error::ApiKey`].
    pub fn from_fn<F, K>(function: F) -> Self
    where
        F: Fn() -> K + Send + Sync + 'static,
        K: Future<Output = Result<String, BoxError>> + Send + 'static,
    {
        Self(Source::Function(Arc::new(move || Box::pin(function()))))
    }

    pub(crate) async fn get(&self) -> Result<String, Error> {
        match &self.0 {
            Source::Fixed(key) => Ok(key.clone()),
            Source::Function(function) => function().await.map_err(Error::ApiKey),
        }
    }
}

impl From<&str> for ApiKey {
    fn from(key: &str) -> Self {
        Self::from(key.to_owned())
    }
}

impl From<String> for ApiKey {
    fn from(key: String) -> Self {
        Self(Source::Fixed(key))
    }
}
