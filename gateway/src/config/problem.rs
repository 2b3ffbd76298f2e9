//! What is wrong in a configuration file, where, and what was expected instead.

use std::fmt;

/// A place in a file: both numbers count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path as the user would type it, relative to the configuration directory.
    pub file: String,
    pub at: Position,
    /// What was found.
    pub what: String,
    /// What was expected; empty where `what` says all there is.
    pub expected: String,
}

impl Problem {
    /// A problem with a file as a whole.
    #[must_use]
    pub fn of_file(file: &str, what: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::at(file, Position { line: 1, column: 1 }, what, expected)
    }

    /// A problem at a place.
    #[must_use]
    pub fn at(
        file: &str,
        at: Position,
        what: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self { file: file.to_owned(), at, what: what.into(), expected: expected.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, at, what, expected } = self;
        write!(formatter, "{file}:{}:{}: {what}", at.line, at.column)?;
        if expected.is_empty() { Ok(()) } else { write!(formatter, ", expected {expected}") }
    }
}

impl std::error::Error for Problem {}
