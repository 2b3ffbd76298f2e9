//! JSON Schemas of the configuration files, for editors and `sluice schema`.

use super::{GatewayConfig, TenantConfig};

/// The schema of gateway.yaml.
#[must_use]
pub fn gateway_schema() -> serde_json::Value {
    schemars::schema_for!(GatewayConfig).to_value()
}

/// The schema of tenant.yaml.
#[must_use]
pub fn tenant_schema() -> serde_json::Value {
    schemars::schema_for!(TenantConfig).to_value()
}
