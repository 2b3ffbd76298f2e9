//! The process that makes the network of inner connections; it ends when that is handed over.

use ipnet::{Ipv4Net, Ipv6Net};

use super::output::Failure;
use crate::stream::packet::kernel;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct NetworkArgs {
    ipv4: Ipv4Net,
    ipv6: Ipv6Net,
}

pub(super) fn run(args: &NetworkArgs) -> Result<(), Failure> {
    kernel::make(args.ipv4, args.ipv6)
        .map_err(|error| Failure::Message(format!("standard input is no gateway: {error}")))
}
