//! What the command line asks for.

use std::path::PathBuf;

use credits_payments::signature::Secret;
use credits_runtime::Settings;
use credits_runtime::settings::SecretSetting;
use lexopt::{Arg, Parser, ValueExt};

use crate::Options;

pub(crate) const USAGE: &str = "cargo local [--port 8787] [--data DIR] [--catalogue FILE]
  runs the whole product on 127.0.0.1. In memory, unless --data names a folder, which a later start picks up again.
  --catalogue tries other prices than infra/catalogue.json. STRIPE_WEBHOOK_SECRET is the secret that signs events
  (whsec_local if unset).
cargo local demo [the same options]
  the same, with a workspace that has lived for half a year.
cargo local watch WORKSPACE [--port 8787]
  shows a workspace's balance and its last entries as they change, at a stack that runs.
cargo local verify [--port 8787]
  adds every ledger up anew, at a stack that runs, and fails where a balance or a month's usage differs.";

const PORT: u16 = 8787;

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
    /// The verification of a stack that runs.
    Verify { port: u16 },
}

pub(crate) fn read(mut arguments: Parser) -> Result<Asked, lexopt::Error> {
    let mut options = Options { port: PORT, ..Options::default() };
    if let Ok(SecretSetting::Plain(secret)) = Settings.webhook_secret() {
        options.webhook_secret = Secret::new(secret.expose());
    }
    let mut words: Vec<String> = Vec::new();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("port") => options.port = arguments.value()?.parse()?,
            Arg::Long("data") => options.data = Some(PathBuf::from(arguments.value()?)),
            Arg::Long("catalogue") => {
                let file = arguments.value()?;
                let read = std::fs::read_to_string(&file);
                options.catalogue = Some(read.map_err(|error| lexopt::Error::Custom(Box::new(error)))?);
            }
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
        ["verify"] => Ok(Asked::Verify { port: options.port }),
        ["watch"] => Err("watch which workspace? cargo local watch WORKSPACE".into()),
        [other, ..] => Err(format!("{other} is no command of this program; --help shows them").into()),
    }
}
