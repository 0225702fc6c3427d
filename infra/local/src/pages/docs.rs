//! The documents of the repository, as plain text.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};

use super::serving::PageError;

/// The folder of the documents. `cargo local` runs in the repository that it was built from.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");

/// Returns the names of the documents, sorted. Without the repository there are none.
pub(super) fn names() -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(FOLDER) else { return Vec::new() };
    let names = folder.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| is_document(name)).collect();
    names.sort();
    names
}

fn is_document(name: &str) -> bool {
    std::path::Path::new(name).extension().is_some_and(|extension| extension == "md")
}

/// Serves a document.
pub(super) async fn show(Path(asked): Path<String>) -> Result<Response, PageError> {
    let name = names().into_iter().find(|name| *name == asked).ok_or(PageError::Unknown("document"))?;
    let text = std::fs::read_to_string(format!("{FOLDER}/{name}"));
    let text = text.map_err(|error| PageError::Failed(error.to_string()))?;
    Ok(([("content-type", "text/plain; charset=utf-8")], text).into_response())
}
