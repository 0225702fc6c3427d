//! Why template.yaml can't be read.

/// Why the template can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("template.yaml is not valid YAML")]
    Yaml(#[from] yaml_rust2::ScanError),
    #[error("template.yaml has no {0}")]
    Missing(&'static str),
}
