//! Where people add credits: what a refusal points to, and where the payment provider sends payers back to (M11).

use crate::call::Call;

/// Where the page is that `account` serves.
const PAGE: &str = "/settings/ai-credits";

/// The address of a page to add credits on: the operator's own, or else ours at the address that was called.
#[derive(Debug, Clone)]
pub struct TopUpUrl(Option<String>);

impl TopUpUrl {
    /// The operator's own; `None` for ours.
    #[must_use]
    pub fn new(own: Option<String>) -> Self {
        Self(own)
    }

    /// Where the caller's people add credits.
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
    fn m11_without_a_page_of_the_operators_it_is_ours_at_the_address_that_was_called() {
        let mut event = HttpEvent::default();
        event.request_context.domain_name = Some("credits.example".to_owned());
        let call = Call::read(event, tokio::time::Instant::now());
        assert_eq!(TopUpUrl::new(None).of(&call), "https://credits.example/settings/ai-credits");
        let own = "https://hub.example/credits";
        assert_eq!(TopUpUrl::new(Some(own.to_owned())).of(&call), own);
    }
}
