//! Where a request goes, as one canonical string per host and path: policy, dialling and log
//! see the same, whatever the spelling.

mod authority;
mod host;
mod ipv4;
mod path;
mod request;
mod script;

pub use authority::{Authority, AuthorityError};
pub use host::{Host, HostError};
pub use path::{CanonicalPath, PathMarks, canonical_path};
pub use request::{PathAndQuery, RequestTarget, Scheme, TargetError};
pub use script::is_mixed_script;

#[cfg(test)]
mod tests;
