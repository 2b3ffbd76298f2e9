//! The command line.

mod cases;
mod check;
mod enroll;
pub mod events;
mod events_line;
mod explain;
mod explain_text;
mod init;
mod inner_network;
mod lanes;
mod output;
mod paint;
mod recorded;
mod recorded_app;
mod recorded_line;
mod replay;
mod revoke;
mod schema;
mod serve;
mod templates;
mod tenant;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use output::Failure;

use crate::stream::packet::kernel::COMMAND;

/// What `--help` begins with: the crate's own description is for its developers.
const ABOUT: &str = "The data plane of a secure web gateway";

#[derive(Debug, Parser)]
#[command(name = "sluice", version, about = ABOUT, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the point of presence (also without any command)
    Serve(serve::ServeArgs),
    /// Write a commented configuration
    Init(init::InitArgs),
    /// Load everything and print every mistake
    Check(check::CheckArgs),
    /// Make or list tenants
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Issue a client certificate for a user's device
    Enroll(enroll::EnrollArgs),
    /// Revoke a certificate or a device
    Revoke(revoke::RevokeArgs),
    /// Read the event log
    Events(events::EventsArgs),
    /// Tell which rule decides a request, and why
    Explain(explain::ExplainArgs),
    /// Run recorded events against another policy
    Replay(replay::ReplayArgs),
    /// Print the JSON Schema of a configuration file
    Schema(schema::SchemaArgs),
    /// Make the network of inner connections: the gateway runs this by itself
    #[command(name = COMMAND, hide = true)]
    InnerNetwork(inner_network::NetworkArgs),
}

/// Where the configuration lies.
#[derive(Clone, Debug, clap::Args)]
struct ConfigArg {
    /// Configuration directory
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR)]
    config: PathBuf,
}

/// The directory used where none is named.
const DEFAULT_DIR: &str = "sluice-data";

/// Runs the command: 0 is fine, 1 means that what was asked found a problem, 2 is wrong usage.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { output::USAGE } else { 0 };
            // Nobody left to tell where the terminal is gone.
            let _printed = error.print();
            return ExitCode::from(code);
        }
    };
    let result = match arguments.command.unwrap_or(Command::Serve(arguments.serve)) {
        Command::Serve(args) => serve::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Tenant(command) => tenant::run(&command),
        Command::Enroll(args) => enroll::run(&args),
        Command::Revoke(args) => revoke::run(&args),
        Command::Events(args) => return events::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::InnerNetwork(args) => inner_network::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
