//! What CONNECT-UDP rides on: capsules on a stream, and QUIC datagrams beside it.

use bytes::{Bytes, BytesMut};
use gateway_proto::capsule::write_udp;
use gateway_proto::fields::Fields;
use tokio::io::AsyncWriteExt;

use crate::tunnel::mux::{self, MuxStream};
use crate::tunnel::quic::{self, Datagrams, QuicStream};

/// A request for datagrams that waits for its answer.
pub(super) enum Asked {
    Mux(mux::Responder),
    Quic(Box<quic::Responder>),
}

/// The way of datagrams to a client and from it.
pub(super) enum Pipe {
    Mux(MuxStream),
    Quic(Box<QuicStream>, Datagrams),
}

/// What came from the client.
pub(super) enum Inbound {
    /// A piece of the capsule stream; `None` at its end.
    Capsules(std::io::Result<Option<Bytes>>),
    /// One UDP payload.
    Payload(Bytes),
}

impl Asked {
    /// Answers that it will not be.
    pub(super) async fn refuse(self, status: u16, fields: &Fields) {
        match self {
            Self::Mux(responder) => responder.finish(status, fields, Bytes::new()),
            // A client that went away needs no answer.
            Self::Quic(responder) => drop(responder.finish(status, fields, Bytes::new()).await),
        }
    }

    /// Breaks the stream off.
    pub(super) fn reset(self) {
        match self {
            Self::Mux(responder) => responder.reset(mux::Code::INTERNAL_ERROR),
            Self::Quic(responder) => responder.reset(quic::Code::INTERNAL_ERROR),
        }
    }

    /// Answers that it is open; `None` where the client has gone away.
    pub(super) async fn accept(self, fields: &Fields) -> Option<Pipe> {
        match self {
            Self::Mux(responder) => Some(Pipe::Mux(responder.respond(200, fields))),
            Self::Quic(responder) => {
                // A client may send datagrams right behind its request.
                let datagrams = responder.datagrams();
                let stream = responder.respond(200, fields).await.ok()?;
                Some(Pipe::Quic(Box::new(stream), datagrams))
            }
        }
    }
}

impl Pipe {
    pub(super) async fn next(&mut self) -> Inbound {
        match self {
            Self::Mux(stream) => Inbound::Capsules(stream.read_chunk().await),
            Self::Quic(stream, datagrams) => tokio::select! {
                payload = datagrams.next() => Inbound::Payload(payload),
                chunk = stream.read_chunk() => Inbound::Capsules(chunk),
            },
        }
    }

    /// Sends one UDP payload to the client.
    pub(super) async fn send(&mut self, payload: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Mux(stream) => stream.write_chunk(capsule(payload)).await,
            // What is too long for a packet goes by the stream: an answer of DNS may be.
            Self::Quic(stream, datagrams) => {
                if datagrams.are_taken() && datagrams.send(payload) {
                    return Ok(());
                }
                stream.write_chunk(capsule(payload)).await
            }
        }
    }

    /// Ends our direction.
    pub(super) async fn finish(self) {
        // The client may be gone; there is nobody to tell.
        match self {
            Self::Mux(stream) => drop(stream.finish(&Fields::new())),
            Self::Quic(mut stream, _) => drop(stream.shutdown().await),
        }
    }
}

fn capsule(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 16);
    write_udp(payload, &mut out);
    out.freeze()
}
