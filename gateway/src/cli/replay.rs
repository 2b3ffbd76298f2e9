//! `sluice replay`: what another policy would have decided about recorded events.

use std::path::PathBuf;

use super::output::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// Recorded events, NDJSON
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    events: Vec<PathBuf>,
    /// The policy to try
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// One JSON object per change
    #[arg(long)]
    json: bool,
}

pub(super) fn run(_args: &ReplayArgs) -> Result<(), Failure> {
    Err(Failure::message("replay is not available"))
}
