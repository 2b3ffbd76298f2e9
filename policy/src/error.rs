//! What is wrong with a file, where, and what was expected there.

use std::fmt;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file is in force all the same; it probably does not do what its author wants.
    Warning,
    /// The file is not put in force.
    Error,
}

/// One mistake in one file.
///
/// Shown as `file:line:column: what, expected …`; a warning says so after its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// From 1; 0 where no line is to blame.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// Lower case, no full stop, what the file says in backticks.
    pub what: String,
    /// Completes "expected …"; empty where there is nothing to add.
    pub expected: String,
    pub severity: Severity,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.what)?;
        if !self.expected.is_empty() {
            write!(f, ", expected {}", self.expected)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// Where something stands in a file. Both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

/// All problems of one file, in the order they were found.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    file: String,
    found: Vec<Problem>,
    errors: usize,
}

impl Problems {
    #[must_use]
    pub fn new(file: &str) -> Self {
        Self { file: file.to_owned(), found: Vec::new(), errors: 0 }
    }

    pub fn error(&mut self, at: Position, what: impl Into<String>, expected: impl Into<String>) {
        self.add(at, what.into(), expected.into(), Severity::Error);
    }

    pub fn warning(&mut self, at: Position, what: impl Into<String>, expected: impl Into<String>) {
        self.add(at, what.into(), expected.into(), Severity::Warning);
    }

    /// Takes over what another stage found.
    pub fn extend(&mut self, found: impl IntoIterator<Item = Problem>) {
        for problem in found {
            self.push(problem);
        }
    }

    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// In the order of the file.
    #[must_use]
    pub fn into_vec(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|problem| (problem.line, problem.column));
        self.found
    }

    fn add(&mut self, at: Position, what: String, expected: String, severity: Severity) {
        let file = self.file.clone();
        let Position { line, column } = at;
        self.push(Problem { file, line, column, what, expected, severity });
    }

    fn push(&mut self, problem: Problem) {
        self.errors += usize::from(problem.severity == Severity::Error);
        self.found.push(problem);
    }
}

/// ", did you mean …" material: the candidate nearest to `name`, if one is near enough to be a
/// slip of the pen (at most a third of its letters differ).
#[must_use]
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let name = name.to_lowercase();
    let allowed = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&name, candidate, allowed), candidate))
        .filter(|&(distance, _)| distance <= allowed)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance (insert, delete, replace, swap neighbours); more than `limit` may be any number
/// above it. Names longer than a line are not compared.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    const LONGEST: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > limit || a.len().max(b.len()) > LONGEST {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let replace = at(&above, j) + usize::from(x != y);
            let mut best = replace.min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(&y) && b.get(j - 1) == Some(&x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(usize::MAX)
}
