//! What the command line asks for.

use std::path::PathBuf;

use credits_payments::signature::Secret;
use credits_runtime::Settings;
use credits_runtime::settings::SecretSetting;
use lexopt::{Arg, Parser, ValueExt};

use crate::demo::WORKSPACE;
use crate::{Options, OwnProvider};

pub(crate) const USAGE: &str = "cargo local [--port 8787] [--data DIR] [--catalogue FILE] [--provider URL]
  runs the whole product on 127.0.0.1. In memory, unless --data names a folder, which a later start picks up again.
  --catalogue tries other prices than infra/catalogue.json. STRIPE_WEBHOOK_SECRET is the secret that signs events
  (whsec_local if unset).
  --provider charges at another server that speaks Stripe's API, such as https://api.stripe.com in test mode, with the
  key that STRIPE_API_KEY holds; its events are taken at /v1/webhooks/stripe.
cargo local demo [the same options]
  the same, with a workspace that has lived for half a year.
cargo local watch WORKSPACE [--port 8787]
  shows a workspace's balance and its last entries as they change, at a stack that runs.
cargo local bulk [--records 1000] [--workers 32] [--holds 8] [WORKSPACE] [--port 8787]
  works through a list of records at a stack that runs, paid from holds side by side, until the credits run out.
cargo local verify [--port 8787]
  adds every ledger up anew, at a stack that runs, and fails where a balance or a month's usage differs.";

const PORT: u16 = 8787;

/// How large a bulk job is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub records: usize,
    pub workers: usize,
    pub holds: u8,
}

/// What is asked for.
pub(crate) enum Asked {
    /// How to ask.
    Usage,
    /// A stack.
    Serve(Options),
    /// A stack with something in it.
    Demo(Options),
    /// A workspace of a stack that runs.
    Watch { port: u16, workspace: String },
    /// A bulk job at a stack that runs.
    Bulk { port: u16, workspace: String, size: Size },
    /// The verification of a stack that runs.
    Verify { port: u16 },
}

/// The provider at this address, with the key of the environment.
fn own_provider(base: String) -> Result<OwnProvider, lexopt::Error> {
    match Settings.provider_key() {
        Ok(SecretSetting::Plain(key)) => Ok(OwnProvider { base, key }),
        _ => Err("--provider needs the API key in STRIPE_API_KEY".into()),
    }
}

pub(crate) fn read(mut arguments: Parser) -> Result<Asked, lexopt::Error> {
    let mut options = Options { port: PORT, ..Options::default() };
    if let Ok(SecretSetting::Plain(secret)) = Settings.webhook_secret() {
        options.webhook_secret = Secret::new(secret.expose());
    }
    let mut words: Vec<String> = Vec::new();
    let mut size = Size { records: 1_000, workers: 32, holds: 8 };
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
            Arg::Long("records") => size.records = arguments.value()?.parse()?,
            Arg::Long("workers") => size.workers = arguments.value()?.parse()?,
            Arg::Long("holds") => size.holds = arguments.value()?.parse()?,
            Arg::Long("help") | Arg::Short('h') => return Ok(Asked::Usage),
            Arg::Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected()),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => Ok(Asked::Serve(options)),
        ["demo"] => Ok(Asked::Demo(options)),
        ["watch", workspace] => Ok(Asked::Watch { port: options.port, workspace: (*workspace).to_owned() }),
        ["bulk"] => Ok(Asked::Bulk { port: options.port, workspace: WORKSPACE.to_owned(), size }),
        ["bulk", workspace] => {
            Ok(Asked::Bulk { port: options.port, workspace: (*workspace).to_owned(), size })
        }
        ["verify"] => Ok(Asked::Verify { port: options.port }),
        ["watch"] => Err("watch which workspace? cargo local watch WORKSPACE".into()),
        [command @ ("demo" | "watch" | "bulk" | "verify"), .., surplus] => {
            Err(format!("{command} doesn't take {surplus}; --help shows what it takes").into())
        }
        [other, ..] => Err(format!("{other} is no command of this program; --help shows them").into()),
    }
}
