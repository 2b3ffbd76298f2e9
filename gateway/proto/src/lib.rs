//! Understands bytes: everything a stranger sends is parsed here, without I/O, clock or panic.

pub mod fields;

pub mod dns;
pub mod dtls;
pub mod dtls12;
pub mod openconnect;
pub mod packet;
pub mod sniff;
pub mod tcp;
pub mod udp;

pub mod quic_frames;
pub mod quic_initial;
mod ranges;

pub mod client_hello;
pub mod ja4;

pub mod target;

pub mod http1;

pub mod capsule;
pub mod grpc;
pub mod multipart;
pub mod websocket;
pub mod websocket_message;

pub mod h2;
pub mod h3;
