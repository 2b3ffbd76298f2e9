//! `sluice check`: everything wrong with a configuration directory, and the tenants' own cases.

use std::path::PathBuf;

use super::output::{Failure, say};
use crate::config::{Layout, any_error};
use crate::snapshot;

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// Configuration directory
    #[arg(value_name = "DIR", default_value = super::DEFAULT_DIR)]
    dir: PathBuf,
}

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let shown = args.dir.display();
    if !args.dir.is_dir() {
        return Err(Failure::Message(format!(
            "{shown} is no directory; `sluice init {shown}` makes one"
        )));
    }
    let mut problems = snapshot::check(&args.dir).map_err(Failure::doing("reading the tenants"))?;
    if !any_error(&problems) {
        problems.extend(super::cases::run(&Layout::new(&args.dir))?);
    }
    for problem in &problems {
        say(&problem.to_string())?;
    }
    if any_error(&problems) { Err(Failure::Found) } else { Ok(()) }
}
