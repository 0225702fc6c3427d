//! The URL of the page to add credits, for a call (M11).

use credits_aws::Settings;
use credits_core::top_up_page::TopUpPage;

use crate::call::Call;

/// The page to add credits: the one of the settings, or else ours on the host of the request.
#[derive(Debug, Clone)]
pub struct TopUpUrl(Option<TopUpPage>);

impl TopUpUrl {
    /// Creates the URL from the page of the settings; `None` selects our page on the host of the request.
    #[must_use]
    pub fn new(page: Option<TopUpPage>) -> Self {
        Self(page)
    }

    /// Creates the URL from the settings `TOP_UP_URL` and `PUBLIC_URL`.
    #[must_use]
    pub fn from_settings(settings: Settings) -> Self {
        Self(settings.top_up_page().ok())
    }

    /// Returns the URL for the workspace that the call names.
    ///
    /// Without a setting, the host is the one by which API Gateway was called. Behind a proxy of your own that is not
    /// the host that people see, so set `PUBLIC_URL` there.
    #[must_use]
    pub fn of(&self, call: &Call) -> String {
        let ours = || TopUpPage::on_origin(&format!("https://{}", call.domain_name()));
        self.0.clone().unwrap_or_else(ours).url_for(call.unchecked_workspace_id())
    }
}

#[cfg(test)]
mod tests {
    use credits_core::top_up_page::TopUpPage;

    use super::TopUpUrl;
    use crate::call::Call;
    use crate::event::HttpEvent;

    #[test]
    fn m11_page_of_the_settings_comes_before_the_host_of_the_request() {
        let mut event = HttpEvent::default();
        event.request_context.domain_name = Some("abc.execute-api.example".to_owned());
        event.path_parameters = Some([("workspace_id".to_owned(), "acme".to_owned())].into());
        let call = Call::from_event(event, tokio::time::Instant::now());
        assert_eq!(TopUpUrl::new(None).of(&call), "https://abc.execute-api.example/settings/ai-credits");
        let public = TopUpUrl::new(Some(TopUpPage::on_origin("https://credits.example")));
        assert_eq!(public.of(&call), "https://credits.example/settings/ai-credits");
        let own = TopUpUrl::new(Some(TopUpPage::at("https://hub.example/{workspace}/credits".to_owned())));
        assert_eq!(own.of(&call), "https://hub.example/acme/credits");
    }
}
