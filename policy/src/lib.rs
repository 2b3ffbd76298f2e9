//! Decides: rules over facts that arrive over time, and the catalog of apps. Pure and total.

pub mod catalog;
mod check;
mod compile;
pub mod content;
mod contradiction;
pub mod decrypt;
pub mod error;
mod evaluate;
mod explain;
pub mod fact;
pub mod list;
mod parse;
mod pattern;
pub mod rule;
mod sample;
mod schema;
mod set;
pub mod verdict;
mod window;
pub mod yaml;

pub use check::{ACCESS_METHODS, INSPECTIONS, Vocabulary, check};
pub use compile::{Policy, Reference};
pub use error::{Position, Problem, Severity};
pub use explain::{Judged, KeyTrace, RuleTrace, Trace};
pub use pattern::{Form, Pattern};
pub use rule::{Action, PolicySource, Rule};
pub use sample::SAMPLE;
pub use schema::policy_schema;
pub use window::Window;
