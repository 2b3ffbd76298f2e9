//! Who: tenants, users, devices and the ids that tie records together.

mod authority;
mod basic;
mod certificate;
mod directory;
pub(crate) mod hex;
mod names;
pub(crate) mod random;
mod revocation;
mod token;

#[cfg(test)]
mod tests;

pub use authority::{AuthorityError, CaMaterial, Issued, Purpose};
pub use basic::{TokenTable, TokenUser, fresh_token, hash_token};
pub use certificate::{
    CertificateError, ClientIdentity, DEVICE_URI_PREFIX, valid_device, valid_user,
};
pub use directory::{DIRECTORY_BYTES_MAX, Directory, DirectoryProblem, Person};
pub use names::{AccessMethod, Blame, FlowId, SessionId, TenantName, TenantNameError, Who};
pub use revocation::RevocationList;
pub use token::{
    Channel, ChannelBinding, Expectations, Jwks, JwksError, TokenError, TokenIdentity,
};
