//! The page to add credits: refusals link to it, and Stripe sends payers back to it (M11).

use credits_aws::Settings;

use crate::call::Call;

/// The path of the page that the function `account` serves.
const PAGE: &str = "/settings/ai-credits";

/// The URL of the page to add credits: the operator's, or else ours on the host of the request.
#[derive(Debug, Clone)]
pub struct TopUpUrl(Option<String>);

impl TopUpUrl {
    /// Creates the URL from the operator's own; `None` selects our page.
    #[must_use]
    pub fn new(own: Option<String>) -> Self {
        Self(own)
    }

    /// Creates the URL from the setting `TOP_UP_URL`.
    #[must_use]
    pub fn from_settings(settings: Settings) -> Self {
        Self(settings.own_top_up_url())
    }

    /// Returns the URL for a call.
    #[must_use]
    pub fn of(&self, call: &Call) -> String {
        self.0.clone().unwrap_or_else(|| format!("https://{}{PAGE}", call.domain_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::TopUpUrl;
    use crate::call::Call;
    use crate::event::HttpEvent;

    #[test]
    fn m11_default_page_is_ours_on_the_host_of_the_request() {
        let mut event = HttpEvent::default();
        event.request_context.domain_name = Some("credits.example".to_owned());
        let call = Call::from_event(event, tokio::time::Instant::now());
        assert_eq!(TopUpUrl::new(None).of(&call), "https://credits.example/settings/ai-credits");
        let own = "https://hub.example/credits";
        assert_eq!(TopUpUrl::new(Some(own.to_owned())).of(&call), own);
    }
}
