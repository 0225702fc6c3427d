//! The page on which people add credits: refusals and mails link to it, and Stripe sends payers back to it (M11).

/// The path of our own page on the API's origin.
const OWN_PATH: &str = "/settings/ai-credits";

/// What stands for the workspace's id in the page's URL.
const WORKSPACE: &str = "{workspace}";

/// The page on which people add credits. Its URL may have a query, and may contain `{workspace}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopUpPage(String);

impl TopUpPage {
    /// Returns the operator's own page.
    #[must_use]
    pub fn at(url: String) -> Self {
        Self(url)
    }

    /// Returns our page on an origin, such as `https://credits.example`.
    #[must_use]
    pub fn on_origin(origin: &str) -> Self {
        Self(format!("{}{OWN_PATH}", origin.trim_end_matches('/')))
    }

    /// Returns the page's URL with `{workspace}` in place of a workspace's id.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.0
    }

    /// Returns the page's URL for a workspace. A workspace's id needs no escaping in a URL.
    #[must_use]
    pub fn url_for(&self, workspace: &str) -> String {
        self.0.replace(WORKSPACE, workspace)
    }
}

#[cfg(test)]
mod tests {
    use super::TopUpPage;

    #[test]
    fn m11_url_names_the_workspace_wherever_it_stands() {
        let page = TopUpPage::at("https://hub.example/{workspace}/credits?org={workspace}&tab=1".to_owned());
        assert_eq!(page.url_for("acme"), "https://hub.example/acme/credits?org=acme&tab=1");
        let own = TopUpPage::on_origin("https://credits.example/");
        assert_eq!(own.url_for("acme"), "https://credits.example/settings/ai-credits");
    }
}
