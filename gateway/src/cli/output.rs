//! What commands print, and how they fail.

use std::io::{self, Write as _};
use std::process::ExitCode;

use policy::Problem;

/// Exit code for wrong usage.
pub(super) const USAGE: u8 = 2;
/// Exit code where what was asked found a problem.
const FOUND: u8 = 1;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// Mistakes in files, each with its place.
    Problems(Vec<Problem>),
    /// One sentence.
    Message(String),
    /// The command itself does not make sense.
    Usage(String),
    /// What was asked found something that is printed already.
    Found,
}

impl Failure {
    pub(super) fn message(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    /// Turns any error into a sentence that begins with what was being done.
    pub(super) fn doing<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> Self + use<E> {
        let what = what.to_owned();
        move |error| Self::Message(format!("{what}: {error}"))
    }

    /// Says it and gives the exit code.
    pub(super) fn report(self) -> ExitCode {
        let code = if matches!(self, Self::Usage(_)) { USAGE } else { FOUND };
        match self {
            Self::Found => {}
            Self::Message(text) | Self::Usage(text) => warn(&format!("sluice: {text}")),
            Self::Problems(problems) => {
                for problem in problems {
                    warn(&problem.to_string());
                }
            }
        }
        ExitCode::from(code)
    }
}

/// Prints a line for the user or a program to read.
///
/// # Errors
/// Where standard output is gone.
pub(super) fn say(text: &str) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{text}").or_else(|error| match error.kind() {
        // Whoever read has seen enough.
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Failure::Message(format!("standard output: {error}"))),
    })
}

/// Prints a line beside the command's output.
pub(super) fn warn(text: &str) {
    // Nobody left to tell where the terminal is gone.
    let _written = writeln!(io::stderr().lock(), "{text}");
}
