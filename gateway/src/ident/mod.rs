//! Who: tenants, users, devices and the ids that tie records together.

mod names;

pub use names::{AccessMethod, Blame, FlowId, SessionId, TenantName, TenantNameError, Who};
