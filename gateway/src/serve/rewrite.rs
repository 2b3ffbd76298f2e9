//! What the gateway changes in a request before it is sent: headers that rules and
//! tenant restrictions set.

use bytes::Bytes;
use policy::verdict::RuleIndex;

use crate::exchange::Request;
use crate::snapshot::Tenant;

/// Applies `set_headers` rules and takes out what only concerns the gateway.
pub(super) fn request(tenant: &Tenant, request: &mut Request, rules: &[RuleIndex]) {
    request.fields.remove("proxy-authorization");
    request.fields.remove("proxy-connection");
    // Vendors' tenant restrictions, in place of any copy of the client's own.
    for (name, value) in tenant.config.restrict.headers(&request.host.text()) {
        request.fields.remove(name);
        request.fields.push(name, value);
    }
    // The rule that stands first wins, so it is applied last.
    for rule in rules.iter().rev() {
        let Some(rule) = tenant.policy.rule(*rule) else { continue };
        for (name, value) in &rule.headers {
            request.fields.remove(name);
            request.fields.push(
                Bytes::copy_from_slice(name.as_bytes()),
                Bytes::copy_from_slice(value.as_bytes()),
            );
        }
    }
}
