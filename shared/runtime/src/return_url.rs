//! Return URLs: checks where a payer may be sent after a checkout.

use http::Uri;

/// The maximum length of a URL in characters. Stripe accepts 5,000.
const MAX_CHARACTERS: usize = 2_000;

/// The allowed origins, such as `https://app.example`.
#[derive(Debug, Clone, Default)]
pub struct ReturnOrigins(Vec<String>);

impl ReturnOrigins {
    /// Creates the list of allowed origins.
    #[must_use]
    pub fn new(origins: Vec<String>) -> Self {
        Self(origins)
    }

    /// Checks a URL from a request. It must be absolute, and on an allowed origin or on that of the page to add
    /// credits.
    pub fn check(&self, address: &str, page: &str) -> Result<String, String> {
        let said = "must be an address on an allowed origin (the setting RETURN_ORIGINS)";
        let origin = origin_of(address).ok_or(said)?;
        let allowed = self.0.iter().filter_map(|allowed| origin_of(allowed)).chain(origin_of(page));
        let known = allowed.into_iter().any(|allowed| allowed == origin);
        if known { Ok(address.to_owned()) } else { Err(said.to_owned()) }
    }
}

/// Returns the lowercase origin of an absolute URL. Returns `None` for a URL with user information.
fn origin_of(address: &str) -> Option<String> {
    let plain = address.bytes().all(|byte| byte.is_ascii_graphic()) && address.len() <= MAX_CHARACTERS;
    let without_fragment = address.split('#').next().filter(|_| plain)?;
    let uri: Uri = without_fragment.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?.as_str());
    let web = matches!(scheme, "https" | "http") && !authority.contains('@');
    web.then(|| format!("{scheme}://{authority}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::ReturnOrigins;

    #[test]
    fn only_urls_on_allowed_origins_are_accepted() {
        let origins = ReturnOrigins::new(vec!["https://app.example".to_owned()]);
        let page = "https://credits.example/settings/ai-credits";
        let taken = |address: &str| origins.check(address, page).is_ok();
        for address in [
            "https://app.example",
            "https://APP.example/billing?tab=1#top",
            "https://credits.example/anything",
        ] {
            assert!(taken(address), "{address}");
        }
        for address in [
            "https://evil.example/",
            "https://app.example.evil.example/",
            "https://app.example@evil.example/",
            "https://app.example:8443/",
            "http://app.example/",
            "//app.example/",
            "/billing",
            "javascript:alert(1)",
            "https://app.example/\nx",
            "",
        ] {
            assert!(!taken(address), "{address:?}");
        }
    }
}
