//! Parsing of the command line.

use std::path::PathBuf;

use account::SettingsPage;
use credits_aws::Settings;
use credits_aws::settings::SecretSetting;
use credits_payments::signature::Secret;
use lexopt::{Arg, Parser, ValueExt};
use rust_decimal::Decimal;

use super::catalogue::{Conversion, ImportOrder};
use crate::conflicts::Conflicts;
use crate::demo::WORKSPACE;
use crate::{Options, OwnProvider};

pub(crate) const USAGE: &str = "cargo local [--port 8787] [--data DIR] [--catalogue FILE] [--provider URL] [--page-origins LIST] [--conflicts]
  runs the whole product on 127.0.0.1. Data stays in memory; with --data it is kept in DIR, and a later start reads it.
  --catalogue replaces the prices of infra/catalogue.json. STRIPE_WEBHOOK_SECRET is the secret that signs events
  (default: whsec_local).
  --provider charges at another server with Stripe's API, such as https://api.stripe.com in test mode, with the API key
  in STRIPE_API_KEY; deliver its events to /v1/webhooks/stripe.
  --page-origins lets the apps of these origins embed the settings page, such as \"http://localhost:3000\" (default: the
  environment's PAGE_ORIGINS).
  --conflicts lets transactions on one item cancel each other, as DynamoDB does, to see how a busy workspace behaves.
cargo local demo [the same options]
  runs the same stack with a workspace that has half a year of history.
cargo local watch WORKSPACE [--port 8787]
  shows a workspace's balance and its latest entries as they change. A stack must be running.
cargo local bulk [--records 1000] [--workers 32] [--holds 8] [WORKSPACE] [--port 8787]
  processes a list of records, paid from several holds at once, until the credits run out. A stack must be running.
cargo local verify [--port 8787]
  recomputes each balance and each month's usage from the ledger, and fails if one differs. A stack must be running.
cargo local catalogue import FILE --markup 1.4 --credit 0.01
  converts a list of providers' prices in the format of LiteLLM's model_prices_and_context_window.json to the models of a
  rate card, and prints them. --markup is the factor on each cost, and --credit the price of a credit in US dollars. What
  is not imported is listed on the error output, with the reason.";

const PORT: u16 = 8787;

/// The size of a bulk job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DemoSize {
    pub records: usize,
    pub workers: usize,
    pub holds: u8,
}

/// A parsed command line.
pub(crate) enum LocalCommand {
    /// Print the usage text.
    Usage,
    /// Start a stack.
    Serve(Options),
    /// Start a stack with the demo workspace.
    Demo(Options),
    /// Watch a workspace of the running stack.
    Watch { port: u16, workspace: String },
    /// Run a bulk job on the running stack.
    Bulk { port: u16, workspace: String, size: DemoSize },
    /// Verify the running stack.
    Verify { port: u16 },
    /// Convert a list of prices to models of the catalogue.
    Import(ImportOrder),
}

/// The options of `catalogue import`.
#[derive(Debug, Clone, Copy, Default)]
struct Margin {
    markup: Option<Decimal>,
    credit: Option<Decimal>,
}

impl Margin {
    fn import(self, file: &str) -> Result<LocalCommand, lexopt::Error> {
        match (self.markup, self.credit) {
            (Some(markup), Some(credit)) => {
                let conversion = Conversion { markup, credit };
                Ok(LocalCommand::Import(ImportOrder { file: PathBuf::from(file), conversion }))
            }
            _ => {
                Err("catalogue import needs --markup and --credit, such as --markup 1.4 --credit 0.01".into())
            }
        }
    }
}

/// Parses the value of an option that is a decimal above zero.
fn positive(option: &str, text: &str) -> Result<Decimal, lexopt::Error> {
    match Decimal::from_str_exact(text) {
        Ok(number) if number > Decimal::ZERO => Ok(number),
        _ => Err(format!("--{option} must be a decimal above zero, such as 1.4, and is {text}").into()),
    }
}

/// Returns the provider at this address, with the API key from the environment.
fn own_provider(base: String) -> Result<OwnProvider, lexopt::Error> {
    match Settings.provider_key() {
        Ok(SecretSetting::Plain(key)) => Ok(OwnProvider { base, key }),
        _ => Err("--provider needs the API key in STRIPE_API_KEY".into()),
    }
}

pub(crate) fn read(mut arguments: Parser) -> Result<LocalCommand, lexopt::Error> {
    let mut options = Options { port: PORT, ..Options::default() };
    if let Ok(SecretSetting::Plain(secret)) = Settings.webhook_secret() {
        options.webhook_secret = Secret::new(secret.expose());
    }
    let mut origins = Settings.page_origins();
    let mut words: Vec<String> = Vec::new();
    let mut size = DemoSize { records: 1_000, workers: 32, holds: 8 };
    let mut margin = Margin::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("port") => options.port = arguments.value()?.parse()?,
            Arg::Long("data") => options.data = Some(PathBuf::from(arguments.value()?)),
            Arg::Long("catalogue") => {
                let file = arguments.value()?;
                let read = std::fs::read_to_string(&file);
                options.catalogue = Some(read.map_err(|error| lexopt::Error::Custom(Box::new(error)))?);
            }
            Arg::Long("provider") => options.provider = Some(own_provider(arguments.value()?.string()?)?),
            Arg::Long("page-origins") => {
                origins = arguments.value()?.string()?.split_whitespace().map(str::to_owned).collect();
            }
            Arg::Long("conflicts") => options.conflicts = Conflicts::On,
            Arg::Long("records") => size.records = arguments.value()?.parse()?,
            Arg::Long("workers") => size.workers = arguments.value()?.parse()?,
            Arg::Long("holds") => size.holds = arguments.value()?.parse()?,
            Arg::Long("markup") => margin.markup = Some(positive("markup", &arguments.value()?.string()?)?),
            Arg::Long("credit") => margin.credit = Some(positive("credit", &arguments.value()?.string()?)?),
            Arg::Long("help") | Arg::Short('h') => return Ok(LocalCommand::Usage),
            Arg::Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected()),
        }
    }
    options.page = SettingsPage::embedded_by(&origins)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["catalogue", "import", file] = words.as_slice() {
        return margin.import(file);
    }
    named(&words, options, size)
}

/// Returns the command with these words.
fn named(words: &[&str], options: Options, size: DemoSize) -> Result<LocalCommand, lexopt::Error> {
    match words {
        [] => Ok(LocalCommand::Serve(options)),
        ["demo"] => Ok(LocalCommand::Demo(options)),
        ["watch", workspace] => {
            Ok(LocalCommand::Watch { port: options.port, workspace: (*workspace).to_owned() })
        }
        ["bulk"] => Ok(LocalCommand::Bulk { port: options.port, workspace: WORKSPACE.to_owned(), size }),
        ["bulk", workspace] => {
            Ok(LocalCommand::Bulk { port: options.port, workspace: (*workspace).to_owned(), size })
        }
        ["verify"] => Ok(LocalCommand::Verify { port: options.port }),
        ["catalogue", ..] => {
            Err("catalogue needs a file: cargo local catalogue import FILE --markup 1.4 --credit 0.01".into())
        }
        ["watch"] => Err("watch needs a workspace: cargo local watch WORKSPACE".into()),
        [command @ ("demo" | "watch" | "bulk" | "verify"), .., surplus] => {
            Err(format!("{command} does not accept {surplus}; run --help for usage").into())
        }
        [other, ..] => Err(format!("unknown command {other}; run --help for the commands").into()),
    }
}
