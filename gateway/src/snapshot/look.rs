//! One tenant as its files stand, for commands that look and change nothing.

use policy::Problem;

use super::lists::Lists;
use super::source::Source;
use super::{GatewayUnit, Tenant, gateway, tenant};
use crate::config::{Layout, any_error, sort};
use crate::ident::TenantName;

/// Loads gateway.yaml and one tenant from their live files. No last good copy stands in.
///
/// # Errors
/// Every mistake of both.
pub fn look(layout: &Layout, name: &TenantName) -> Result<(GatewayUnit, Tenant), Vec<Problem>> {
    let (unit, mut problems) = gateway::load(layout, Source::Live);
    let (tenant, found) = tenant::load(layout, &Lists::default(), name, Source::Live);
    problems.extend(found);
    sort(&mut problems);
    match (unit, tenant) {
        (Some(unit), Some(tenant)) if !any_error(&problems) => Ok((unit, tenant)),
        _ => Err(problems),
    }
}
