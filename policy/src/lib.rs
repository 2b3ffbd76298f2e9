//! Decides: rules over facts that arrive over time, and the catalog of apps. Pure and total.

pub mod catalog;
mod check;
mod compile;
pub mod error;
mod evaluate;
pub mod fact;
mod parse;
mod pattern;
pub mod rule;
pub mod verdict;
mod window;
pub mod yaml;

pub use compile::Policy;
pub use error::{Position, Problem, Severity};
pub use pattern::{Form, Pattern};
pub use rule::{Action, PolicySource, Rule};
pub use window::Window;
