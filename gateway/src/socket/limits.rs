//! Process limits: as many descriptors as allowed, no memory image for anybody.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// Raises the soft limit of open descriptors to the hard one and says what it is now.
#[must_use]
pub fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("the limit of open descriptors stays as it is: {error}");
    }
    getrlimit(Resource::Nofile).current
}

/// Plaintext and keys must not end up in a core dump or be read by another process of the user
/// (CASES SL-02).
pub fn refuse_core_dumps() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("core dumps cannot be turned off: {error}");
    }
}
