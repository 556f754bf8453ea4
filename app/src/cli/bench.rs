//! stub
use super::CliError;
/// stub
#[derive(clap::Args)]
pub(super) struct Args {}
pub(super) fn run(_args: &Args) -> Result<(), CliError> { Ok(()) }
