//! The command line: one program, the window without arguments, commands with them.
//!
//! Every command works without a display. It ends with 0 when done, with 1 and
//! one message on stderr when something failed, with 2 for wrong arguments.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the command line answers on the terminal"
)]

mod bench;
mod devices;
mod draw;
mod eval;
mod finetune;
mod import;
mod lab;
mod memory;
mod merge;
mod models;
mod place;
mod places;
mod rebuild;
mod report;
mod serve;
mod start;
mod trace;
mod train;
mod values;
mod window;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::memory::{Keeps, keep_blocks};

/// What to log, as `debug` or `infinity_engine=trace`.
const LOG_VARIABLE: &str = "INFINITY_LOG";

/// Draws pictures from words on your own computer, coarse to fine.
///
/// Without a command it opens the window. The commands need no display.
#[derive(Parser)]
#[command(
    name = "infinity",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  infinity                                        open the window
  infinity draw \"a red house, green hills\"        draw one picture into this folder
  infinity devices                                what it could compute on, and why it chose what it did

Exit status: 0 done, 1 failed (the reason is on stderr), 2 wrong arguments.
$INFINITY_LOG=debug says more about what happens."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    window: window::Args,
}

#[derive(Subcommand)]
enum Command {
    Draw(draw::Args),
    Rebuild(rebuild::Args),
    Import(import::Args),
    Devices(devices::Args),
    #[command(visible_alias = "serve-device")]
    Serve(serve::Args),
    Train(train::Args),
    Finetune(finetune::Args),
    Merge(merge::Args),
    Eval(eval::Args),
    Trace(trace::Args),
    Bench(bench::Args),
    Lab(lab::Args),
    Memory(memory::Args),
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// The arguments contradict each other; ends with 2.
    #[error("{0}")]
    Usage(String),
    /// Something failed; ends with 1.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl CliError {
    /// A failure with a sentence of its own.
    fn failed(message: impl Into<String>) -> Self {
        Self::Failed(anyhow::Error::msg(message.into()))
    }
}

macro_rules! failed_from {
    ($($error:ty),*) => {
        $(impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                // These say their cause themselves.
                Self::failed(error.to_string())
            }
        })*
    };
}

failed_from!(
    infinity_engine::api::EngineError,
    crate::recipe::RecipeError
);

/// Ends a command quietly, as others do, when whoever reads its lines has seen enough (`infinity memory | head -1`).
fn end_with_the_pipe() {
    #[cfg(unix)]
    #[expect(unsafe_code, reason = "signals have no safe name")]
    // SAFETY: the default of the system; called before other threads start.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log();
    keep_blocks(match &cli.command {
        Some(Command::Train(_) | Command::Finetune(_)) => Keeps::ForTraining,
        Some(Command::Bench(args)) if args.trains() => Keeps::ForTraining,
        _ => Keeps::ForDrawing,
    });
    let goes_on = matches!(
        cli.command,
        None | Some(Command::Serve(_) | Command::Train(_) | Command::Finetune(_))
    );
    if !goes_on {
        end_with_the_pipe();
    }
    // Of the window's threads only the engine's computes, and that has its own.
    let _helpers = cli.command.is_some().then(infinity_engine::Helpers::here);
    let result = match cli.command {
        None => window::run(cli.window),
        Some(Command::Draw(args)) => draw::run(&args),
        Some(Command::Rebuild(args)) => rebuild::run(&args),
        Some(Command::Import(args)) => import::run(&args),
        Some(Command::Devices(args)) => {
            devices::run(&args);
            Ok(())
        }
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Train(args)) => train::run(&args),
        Some(Command::Finetune(args)) => finetune::run(&args),
        Some(Command::Merge(args)) => merge::run(&args),
        Some(Command::Eval(args)) => eval::run(&args),
        Some(Command::Trace(args)) => trace::run(&args),
        Some(Command::Bench(args)) => bench::run(&args),
        Some(Command::Lab(args)) => lab::run(&args),
        Some(Command::Memory(args)) => memory::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError::Usage(message)) => {
            let kind = clap::error::ErrorKind::ArgumentConflict;
            let error = Cli::command().error(kind, message);
            // Without a terminal to write to there is nobody to tell.
            let _printed = error.print();
            ExitCode::from(2)
        }
        Err(CliError::Failed(error)) => {
            eprintln!("infinity: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs go to stderr: warnings of this program, or what the variable asks for.
fn start_log() {
    let wanted = std::env::var(LOG_VARIABLE)
        .ok()
        .and_then(|text| text.parse::<Targets>().ok());
    let usual = || {
        let warn = tracing::level_filters::LevelFilter::WARN;
        Targets::new()
            .with_target("infinity", warn)
            .with_target("infinity_engine", warn)
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .without_time();
    // A second logger would only mean that one is there already.
    let _set = tracing_subscriber::registry()
        .with(wanted.unwrap_or_else(usual))
        .with(lines)
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        Cli::command().debug_assert();
    }
}
