//! The command line of `cargo local` and its subcommands `demo`, `watch WORKSPACE`, `bulk`, `verify` and
//! `catalogue import`.

use std::process::ExitCode;

use credits_aws::sources::SystemClock;
use credits_store::Clock;
use lexopt::Parser;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::{Options, Stack, StackError, demo};

mod arguments;
mod bulk;
mod catalogue;
mod running;
mod verify;
mod watch;
mod welcome;

use arguments::{LocalCommand, USAGE};
use catalogue::PriceImport;

/// A command line that does not parse. The message contains its causes, so the error has no source.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misused(String);

/// Parses the command line and runs the command.
#[must_use]
pub fn run() -> ExitCode {
    // The embedded database logs a warning for each failed condition. A failed condition is a normal answer here.
    let shown = Targets::new().with_default(LevelFilter::WARN).with_target("dynoxide", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    tracing_subscriber::registry().with(lines.with_filter(shown)).init();
    let asked = match arguments::read(Parser::from_env()) {
        Ok(asked) => asked,
        Err(error) => return fail(&Misused(error.to_string())),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    runtime.block_on(async {
        match asked {
            LocalCommand::Usage => say(USAGE),
            LocalCommand::Serve(options) => ended(serve(&options).await),
            LocalCommand::Demo(options) => ended(Box::pin(live(options)).await),
            LocalCommand::Watch { port, workspace } => match watch::watch(port, &workspace).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error),
            },
            LocalCommand::Bulk { port, workspace, size } => match bulk::work(port, &workspace, size).await {
                Ok(text) => say(&text),
                Err(error) => fail(&error),
            },
            LocalCommand::Verify { port } => match verify::verify(port).await {
                Ok((true, text)) => say(&text),
                Ok((false, text)) => {
                    say(&text);
                    ExitCode::FAILURE
                }
                Err(error) => fail(&error),
            },
            LocalCommand::Import(order) => match catalogue::import(&order) {
                Ok(import) => show_import(&import),
                Err(error) => fail(&error),
            },
        }
    })
}

/// Prints the models to stdout and the rest to stderr. Fails if no model is imported.
#[expect(clippy::print_stderr, reason = "a report in stdout would be no JSON")]
fn show_import(import: &PriceImport) -> ExitCode {
    eprintln!("{}", import.report());
    if import.is_empty() { ExitCode::FAILURE } else { say(&import.models_json()) }
}

async fn serve(options: &Options) -> Result<(), StackError> {
    let stack = Stack::start(options).await?;
    let token = welcome::open_workspace(&stack).await?;
    say(&welcome::text(&stack, &token)?);
    Ok(tokio::signal::ctrl_c().await?)
}

/// Serves a stack whose workspace has half a year of history.
async fn live(options: Options) -> Result<(), StackError> {
    let now = SystemClock.now();
    let stack = Stack::start(&Options { begins_at: demo::born(now), ..options }).await?;
    say("Simulating half a year: three workflows, four people, a bulk job, a month without credits …");
    demo::live(&stack, now).await?;
    let token = welcome::open_workspace(&stack).await?;
    say(&welcome::text(&stack, &token)?);
    Ok(tokio::signal::ctrl_c().await?)
}

fn ended(served: Result<(), StackError>) -> ExitCode {
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

#[expect(clippy::print_stdout, reason = "the command prints its output")]
fn say(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "the command prints its errors")]
fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  because: {cause}");
        source = cause.source();
    }
    ExitCode::FAILURE
}
