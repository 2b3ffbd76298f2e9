//! Decides: rules over facts that arrive over time, and the catalog of apps. Pure and total.

pub mod catalog;
pub mod fact;
pub mod verdict;
