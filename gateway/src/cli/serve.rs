//! `sluice serve`: runs the point of presence, and makes a first configuration where there is none.

use std::path::{Path, PathBuf};

use super::init;
use super::output::{Failure, warn};
use crate::config::Layout;
use crate::serve::{self, ServeError};
use crate::snapshot::{LoadError, Snapshot};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// Configuration directory; without one, ./sluice-data, made on the first start
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let dir = args.config.as_deref().unwrap_or_else(|| Path::new(super::DEFAULT_DIR));
    let layout = Layout::new(dir);
    let mut greeting = Vec::new();
    if !layout.gateway_yaml().exists() {
        if args.config.is_some() && !layout.last_good().join("gateway.yaml").exists() {
            let dir = dir.display();
            let what = format!("no gateway.yaml in {dir}; `sluice init {dir}` makes one");
            return Err(Failure::Message(what));
        }
        if args.config.is_none() {
            greeting = first_start(&layout)?;
        }
    }
    serve(dir, &greeting)
}

/// Makes the first configuration; the lines say how to use it.
fn first_start(layout: &Layout) -> Result<Vec<String>, Failure> {
    let made = init::first_start(layout)?;
    let mut lines =
        vec![format!("first start: configuration in {}", layout.root().display()), String::new()];
    lines.extend(made.enrolled.curl_lines(&made.gateway));
    lines.push(String::new());
    Ok(lines)
}

/// The word that says the gateway listens, on a line of its own for whoever waits for it.
const READY: &str = "ready";

fn serve(dir: &Path, greeting: &[String]) -> Result<(), Failure> {
    let ready = |_snapshot: &Snapshot| {
        greeting.iter().for_each(|line| warn(line));
        warn(READY);
    };
    serve::run(dir, ready).map_err(|error| match error {
        ServeError::Load(LoadError::Gateway(problems)) => Failure::Problems(problems),
        error => Failure::Message(error.to_string()),
    })
}
