//! `GET /settings/ai-credits`: serves the settings page (M3, M9, M11, M15, M17) and its files.
//!
//! The files contain no data of a workspace, so they are served without a token. The page's script reads the token from
//! the URL's fragment, which browsers do not send, and calls the public API with it.

use std::sync::LazyLock;

use credits_runtime::{Answer, Call, Problem};

use crate::Account;

/// The page's HTML. It names no embedding origin.
const HTML: &str = include_str!("../page/index.html");

/// The element of the HTML that names the embedding origins for the page's script.
const EMBEDDERS: &str = r#"<meta name="ai-credits-embedders" content="">"#;

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! files {
    ($($name:literal as $media_type:ident),* $(,)?) => {
        [$(($name, $media_type, include_str!(concat!("../page/", $name)))),*]
    };
}

/// The page's files apart from `index.html`: name, media type and content.
const FILES: [(&str, &str, &str); 35] = files![
    "page.js" as SCRIPT,
    "session.js" as SCRIPT,
    "brand.js" as SCRIPT,
    "router.js" as SCRIPT,
    "api.js" as SCRIPT,
    "loading.js" as SCRIPT,
    "format.js" as SCRIPT,
    "texts.js" as SCRIPT,
    "texts.en.js" as SCRIPT,
    "ui.js" as SCRIPT,
    "chart.js" as SCRIPT,
    "notices.js" as SCRIPT,
    "checkout.js" as SCRIPT,
    "overview.js" as SCRIPT,
    "balance.js" as SCRIPT,
    "blocked_runs.js" as SCRIPT,
    "usage.js" as SCRIPT,
    "usage_view.js" as SCRIPT,
    "usage_groups.js" as SCRIPT,
    "usage_history.js" as SCRIPT,
    "billing.js" as SCRIPT,
    "plan.js" as SCRIPT,
    "plan_change.js" as SCRIPT,
    "packs.js" as SCRIPT,
    "payment_method.js" as SCRIPT,
    "auto_top_up.js" as SCRIPT,
    "payments.js" as SCRIPT,
    "receipt.js" as SCRIPT,
    "agreement.js" as SCRIPT,
    "ledger.js" as SCRIPT,
    "alerts.js" as SCRIPT,
    "settings.js" as SCRIPT,
    "prompt.js" as SCRIPT,
    "preact.js" as SCRIPT,
    "style.css" as STYLE,
];

/// The files as they are served.
static SERVED: LazyLock<Vec<(&str, &str, String)>> = LazyLock::new(|| {
    // The library is minified already, and its comments are its licences.
    let body = |name, text: &str| if name == "preact.js" { text.to_owned() } else { without_comments(text) };
    FILES.into_iter().map(|(name, media_type, text)| (name, media_type, body(name, text))).collect()
});

/// Removes the lines that are only comments, and the indentation: a fifth of what a visitor would load.
fn without_comments(text: &str) -> String {
    let lines = text.lines().map(str::trim_start);
    let code =
        |line: &&str| !line.is_empty() && !["//", "/*", "* ", "*/"].iter().any(|mark| line.starts_with(mark));
    lines.filter(code).collect::<Vec<_>>().join("\n")
}

/// The settings page's HTML and its content security policy, for the origins that may embed it.
#[derive(Debug, Clone)]
pub struct SettingsPage {
    html: &'static str,
    policy: String,
}

impl Default for SettingsPage {
    fn default() -> Self {
        Self { html: HTML, policy: policy("") }
    }
}

impl SettingsPage {
    /// Creates the page that apps of these origins may embed and give tokens. An invalid origin is named in the error.
    pub fn embedded_by(origins: &[String]) -> Result<Self, String> {
        let invalid = origins.iter().find(|origin| !is_origin(origin));
        match invalid {
            Some(origin) => Err(format!("{origin} is not an origin such as https://app.example")),
            None if origins.is_empty() => Ok(Self::default()),
            None => {
                let list = origins.join(" ");
                let named = format!(r#"<meta name="ai-credits-embedders" content="{list}">"#);
                // The page lives as long as the process, which creates it once.
                let html = Box::leak(HTML.replace(EMBEDDERS, &named).into_boxed_str());
                Ok(Self { html, policy: policy(&format!(" {list}")) })
            }
        }
    }
}

/// Returns whether a text is a scheme, a host and at most a port. Nothing in it can end an attribute or a directive.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
    !host.is_empty() && host.bytes().all(plain)
}

/// Returns the policy: only what comes from the page's own origin, and nothing inline. The icon is a `data:` URL. Apps that
/// embed the page may also provide its logo, and answer its requests for a token.
fn policy(apps: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'{apps}; img-src 'self' data:{apps}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'self'{apps}"
    )
}

impl Account {
    /// Serves the page's HTML.
    pub(crate) fn page(&self, call: &Call) -> Answer {
        Answer::file(call, "text/html; charset=utf-8", self.page.html)
            .with("content-security-policy", &self.page.policy)
            .with("referrer-policy", "no-referrer")
    }

    /// Serves a file of the page. Other origins may load it, since the hub's own pages embed `prompt.js`.
    pub(crate) fn page_file(call: &Call) -> Result<Answer, Problem> {
        let asked = call.path_parameter("file");
        let file = SERVED.iter().find(|(name, _, _)| *name == asked);
        let (_, media_type, body) = file.ok_or_else(Problem::not_found)?;
        Ok(Answer::file(call, media_type, body)
            .with("access-control-allow-origin", "*")
            .with("cross-origin-resource-policy", "cross-origin"))
    }

    /// Serves the `OpenAPI` document of the API.
    pub(crate) fn openapi(call: &Call) -> Answer {
        let document = include_str!("../../../infra/openapi.json");
        Answer::file(call, "application/json", document).with("access-control-allow-origin", "*")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use credits_core::currency::Currency;

    use super::{EMBEDDERS, FILES, HTML, SERVED, SettingsPage};

    /// The maximum number of bytes of all files, before compression.
    const MAX_BYTES: usize = 160_000;

    #[test]
    fn all_files_of_the_page_are_smaller_than_160_kilobytes() {
        let all = SERVED.iter().map(|(_, _, body)| body.len()).sum::<usize>() + HTML.len();
        assert!(all < MAX_BYTES, "{all} bytes");
    }

    #[test]
    fn every_file_that_a_script_imports_is_served() {
        for (name, _, body) in FILES {
            for import in body.split("'./").skip(1) {
                let imported = import.split('\'').next().unwrap();
                assert!(FILES.iter().any(|(known, _, _)| *known == imported), "{name} imports {imported}");
            }
        }
    }

    #[test]
    fn only_allowed_origins_may_embed_the_page() {
        assert!(HTML.contains(EMBEDDERS));
        let origins = |list: &[&str]| list.iter().map(|&origin| origin.to_owned()).collect::<Vec<_>>();
        let page =
            SettingsPage::embedded_by(&origins(&["https://app.example", "http://127.0.0.1:3000"])).unwrap();
        assert!(page.html.contains(r#"content="https://app.example http://127.0.0.1:3000">"#));
        assert!(page.policy.ends_with("frame-ancestors 'self' https://app.example http://127.0.0.1:3000"));
        assert!(SettingsPage::default().policy.ends_with("frame-ancestors 'self'"));
        for invalid in [
            "*",
            "https://",
            "app.example",
            "https://app.example/",
            "https://*.example",
            "https://a;b",
            "https://a\"b",
        ] {
            assert!(SettingsPage::embedded_by(&origins(&[invalid])).is_err(), "{invalid}");
        }
    }

    /// Parses the currencies of `format.js` with their minor digits, from lines such as `  3: 'BHD IQD',`.
    fn listed_digits() -> BTreeMap<String, u32> {
        let list = include_str!("../page/format.js").split("MINOR_DIGITS = {").nth(1).unwrap();
        let lines = list.split('}').next().unwrap().lines().filter_map(|line| line.split_once(": '"));
        let codes = |(digits, codes): (&str, &str)| {
            let digits: u32 = digits.trim().parse().unwrap();
            let codes = codes.trim_end_matches("',").split(' ').map(str::to_owned);
            codes.map(|code| (code, digits)).collect::<Vec<_>>()
        };
        lines.flat_map(codes).collect()
    }

    #[test]
    fn the_page_knows_the_digits_of_every_currency() {
        let listed = listed_digits();
        assert!(!listed.is_empty() && listed.values().all(|digits| *digits != 2), "{listed:?}");
        let letters = || 'A'..='Z';
        for first in letters() {
            for (second, third) in letters().flat_map(|second| letters().map(move |third| (second, third))) {
                let code: String = [first, second, third].iter().collect();
                let digits = code.parse::<Currency>().unwrap().minor_digits();
                assert_eq!(listed.get(&code).copied().unwrap_or(2), digits, "{code}");
            }
        }
    }
}
