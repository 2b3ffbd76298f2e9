//! Both TLS legs of an intercepted flow: the tenant's authority and leafs towards the client,
//! verification and learned profiles towards the origin.

mod accept;
mod agreed;
mod authority;
mod bounded;
mod chain;
mod distrusted;
mod fault;
mod issuers;
mod leaf;
mod name;
mod opening;
mod origin;
mod own;
mod profile;
pub mod quic;
mod roots;
mod sessions;
mod suites;
mod verifier;
mod weakness;

pub use accept::{AcceptError, ClientTls, accept};
pub use authority::{Authority, AuthorityError, LeafError};
pub(crate) use bounded::Bounded;
pub use fault::{Fault, FaultAction, FaultSettings, Finding};
pub use leaf::{Leaf, client_facing};
pub use opening::{Opening, opening};
pub use origin::{OriginCertificate, OriginFacts, OriginTls, OriginTlsError, OriginTlsSettings};
pub use own::OwnAuthorities;
pub use profile::{Profile, ProfileKey, Profiles};
pub use roots::{RootSource, RootWarning, Roots};

#[cfg(test)]
mod hostile_clients;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
