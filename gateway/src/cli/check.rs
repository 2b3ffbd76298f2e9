//! `sluice check`: everything wrong with a configuration directory.

use std::path::PathBuf;

use policy::Severity;

use super::output::{Failure, say};
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
    let problems = snapshot::check(&args.dir).map_err(Failure::doing("reading the tenants"))?;
    for problem in &problems {
        say(&problem.to_string())?;
    }
    let errors = problems.iter().any(|problem| problem.severity == Severity::Error);
    if errors { Err(Failure::Found) } else { Ok(()) }
}
