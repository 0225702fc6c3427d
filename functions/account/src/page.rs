//! `GET /settings/ai-credits`: serves the settings page (M3, M9, M11, M15, M17) and its files.
//!
//! The files contain no data of a workspace, so they are served without a token. The page's script reads the token from
//! the URL's fragment, which browsers do not send, and calls the public API with it.

use credits_runtime::{Answer, Call, Problem};

use crate::Account;

/// Allows only what comes from the page's own origin, and nothing inline. The icon is a `data:` URL.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                                       img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

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
    "data.js" as SCRIPT,
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

impl Account {
    /// Serves the page's HTML.
    pub(crate) fn page(call: &Call) -> Answer {
        let page = include_str!("../page/index.html");
        Answer::file(call, "text/html; charset=utf-8", page)
            .with("content-security-policy", CONTENT_SECURITY_POLICY)
            .with("referrer-policy", "no-referrer")
    }

    /// Serves a file of the page. Other origins may load it, since the hub's own pages embed `prompt.js`.
    pub(crate) fn page_file(call: &Call) -> Result<Answer, Problem> {
        let asked = call.path_parameter("file");
        let file = FILES.into_iter().find(|(name, _, _)| *name == asked);
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

    use super::FILES;

    /// The maximum number of bytes that a first visit may load, before compression.
    const MAX_BYTES: usize = 100_000;

    #[test]
    fn the_page_is_smaller_than_100_kilobytes() {
        let page = include_str!("../page/index.html").len();
        let all = FILES.iter().map(|(_, _, body)| body.len()).sum::<usize>() + page;
        assert!(all < MAX_BYTES, "{all} bytes");
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
