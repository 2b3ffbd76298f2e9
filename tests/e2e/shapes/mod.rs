//! The shapes of the differential test, as tables.

mod bodies;
mod fields;
mod requests;
mod responses;
mod timing;

use crate::differential::shape::Shape;

/// Every shape. The order is that of the requests on a connection, so neighbours test each other.
pub fn all() -> Vec<Shape> {
    let mut all = requests::shapes();
    all.extend(fields::shapes());
    all.extend(bodies::shapes());
    all.extend(responses::shapes());
    all.extend(timing::shapes());
    let mut names: Vec<_> = all.iter().map(|shape| shape.name.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|two| two[0] == two[1]);
    assert!(twice.is_none(), "two shapes have the name {twice:?}");
    all
}
