//! Configuration files: what they may say, and every mistake in them with its place.

mod check;
mod fault;
mod gateway;
mod layout;
mod lists;
mod load;
mod problem;
mod reader;
mod restart;
mod restrict;
mod scalar;
mod schema;
mod sink;
mod suggest;
mod tenant;

#[cfg(test)]
mod docs;
#[cfg(test)]
mod tests;

pub use fault::{
    AddressAction, BypassAction, Decryption, FaultAction, FrontingAction, MalformedAction,
    QuicAction,
};
pub use gateway::{
    Admin, AdminTls, Events, GatewayConfig, Inner, InnerTcp, Limits, Listen, Origin, Resolver,
    Roots, WhenFull,
};
pub use layout::{Layout, Secrecy, is_exposed, make_folder, read_text, write_atomically};
pub use lists::{DomainListFile, Format};
pub use load::{ReadFailure, read_gateway, read_revocations};
pub use restrict::{Restrict, Restrictions};
pub use scalar::{
    ByteSize, HostName, HostPattern, Malformed, MemoryLimit, NameServer, Network, PortRange,
    TokenHash,
};
pub use schema::{gateway_schema, tenant_schema};
pub use sink::{
    SaslMechanism, Sink, SinkBatch, SinkCompression, SinkFilter, SinkFormat, SinkKind, SinkSasl,
    SinkTls,
};
pub use tenant::{
    Binding, Claims, Content, Decrypt, EventToken, Identity, Instances, Named, Notice, Privacy,
    Profile, Require, TenantConfig, TenantEvents, TenantLimits, TenantOrigin, UserToken,
};

pub(crate) use check::{gateway as check_gateway, tenant as check_tenant};
pub(crate) use layout::{sync_below, write_many_atomically};
pub(crate) use load::parse_revocations;
pub(crate) use problem::{FIRST, any_error, problem, sort};
pub(crate) use reader::{Read, position, read};
