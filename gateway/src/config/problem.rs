//! Makes the problems that this crate finds in files, in the form that policies report theirs.

use policy::{Position, Problem, Severity};

/// The beginning of a file, for what is wrong with all of it.
pub(crate) const FIRST: Position = Position { line: 1, column: 1 };

/// A mistake at a place.
pub(crate) fn problem(
    file: &str,
    at: Position,
    what: impl Into<String>,
    expected: impl Into<String>,
) -> Problem {
    Problem {
        file: file.to_owned(),
        line: at.line,
        column: at.column,
        what: what.into(),
        expected: expected.into(),
        severity: Severity::Error,
    }
}

/// Whether any of them keeps the file from being put in force.
pub(crate) fn any_error(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}

/// In the order in which a person works through files.
pub(crate) fn sort(problems: &mut [Problem]) {
    problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
}
