//! The command line: `cargo local [--port 8787] [--data DIR] [--catalogue FILE]`.

use std::path::PathBuf;
use std::process::ExitCode;

use credits_payments::signature::Secret;
use credits_runtime::Settings;
use credits_runtime::settings::SecretSetting;
use lexopt::{Arg, Parser, ValueExt};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::{Options, Stack, StackError};

const USAGE: &str = "cargo local [--port 8787] [--data DIR] [--catalogue FILE]

Runs the whole product on 127.0.0.1. In memory, unless --data names a folder, which a later start picks up again.
--catalogue tries other prices than infra/catalogue.json. STRIPE_WEBHOOK_SECRET is the secret that signs events
(whsec_local if unset).";

const PORT: u16 = 8787;

/// The workspace that is there from the start.
const DEMO: &str = "demo";

enum Asked {
    Usage,
    Serve(Options),
}

/// Runs the command.
#[must_use]
pub fn run() -> ExitCode {
    // The embedded database warns of every condition that fails, which is how a refusal is found.
    let shown = Targets::new().with_default(LevelFilter::WARN).with_target("dynoxide", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    tracing_subscriber::registry().with(lines.with_filter(shown)).init();
    match read_arguments(Parser::from_env()) {
        Ok(Asked::Usage) => say(USAGE),
        Ok(Asked::Serve(options)) => serve(&options),
        Err(error) => fail(&error),
    }
}

fn read_arguments(mut arguments: Parser) -> Result<Asked, lexopt::Error> {
    let mut options = Options { port: PORT, ..Options::default() };
    if let Ok(SecretSetting::Plain(secret)) = Settings.webhook_secret() {
        options.webhook_secret = Secret::new(secret.expose());
    }
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
            other => return Err(other.unexpected()),
        }
    }
    Ok(Asked::Serve(options))
}

fn serve(options: &Options) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let served = runtime.block_on(async {
        let stack = Stack::start(options).await?;
        say(&welcome(&stack).await?);
        tokio::signal::ctrl_c().await?;
        Ok::<_, StackError>(())
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// What a newcomer sees: the address, a token, and three lines that show the product.
async fn welcome(stack: &Stack) -> Result<String, StackError> {
    let url = stack.url();
    let token = stack.open_demo(DEMO).await?;
    let call = |path: &str, key: &str, body: &str| {
        format!(
            "curl -s {url}/v1/workspaces/{DEMO}/{path} -H \"Authorization: Bearer $TOKEN\" \
             -H 'Content-Type: application/json' -H 'Idempotency-Key: {key}' -d '{body}'"
        )
    };
    let top_up = call("top-ups", "top-up-1", r#"{"pack":"pack_1k"}"#);
    let consumer = r#""consumer":{"kind":"action","feature":"assistant","user_id":"ada"}"#;
    let units = |output: u32| format!(r#""units":{{"input_tokens":1200,"output_tokens":{output}}}"#);
    let debit = format!(r#"{{"operation":"text.generate",{},{consumer}}}"#, units(800));
    let dear = format!(r#"{{"operation":"reasoning.chain","model":"large",{},{consumer}}}"#, units(90_000));
    Ok(format!(
        "AI Credits is running at {url}\n\n\
         Workspace \"{DEMO}\" is there to try things in. A token for all workspaces:\n\n\
         export TOKEN={token}\n\n\
         1. Buy 1,000 credits, and play the payer; the provider's signed webhook puts them in the balance:\n\n\
         {top_up} | grep -o 'cs_[0-9a-f]*' | head -1 | xargs -I% curl -s {url}/_local/checkouts/%/pay \
         -d '{{\"outcome\":\"succeeded\"}}'\n\n\
         2. An AI call draws credits, priced by the rate card:\n\n\
         {}\n\n\
         3. A call that the balance doesn't cover is refused, and nothing is taken:\n\n\
         {}\n\n\
         Balance: curl -s {url}/v1/workspaces/{DEMO}/balance -H \"Authorization: Bearer $TOKEN\"\n\
         Ctrl-C stops it.",
        call("debits", "call-1", &debit),
        call("debits", "call-2", &dear),
    ))
}

#[expect(clippy::print_stdout, reason = "it is what the command says")]
fn say(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "it is what the command says")]
fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  because: {cause}");
        source = cause.source();
    }
    ExitCode::FAILURE
}
