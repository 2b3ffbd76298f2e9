//! Packet tunnels: sessions whose channels carry IP packets. Whatever the channel, the packets become
//! flows, and those go the way of all streams.

mod associations;
mod channel;
mod cstp;
mod dtls;
mod flows;
mod network;
mod path;
mod queries;
mod session;
mod table;

pub(super) use cstp::{Bootstrap, is_bootstrap, serve as bootstrap};
pub(super) use dtls::take as take_dtls;
pub(super) use network::{inner_network, start_kernel};
pub(super) use queries::Asker;
pub(super) use table::PacketTunnels;
