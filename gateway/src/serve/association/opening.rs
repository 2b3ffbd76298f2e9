//! What a QUIC client says first: its ClientHello, out of the datagrams that it may take several of.

use std::time::Duration;

use bytes::Bytes;
use gateway_proto::client_hello::ClientHello;
use gateway_proto::quic_initial::{InitialProblem, InitialReader, Progress, version_negotiation};
use tokio::time::timeout;

use crate::serve::flow::Flow;
use crate::stream::Datagrams;

/// A hello comes in one flight, and what is lost of it again within seconds.
const HELLO_TIME_MAX: Duration = Duration::from_secs(10);
/// Datagrams until the hello is whole: the longest fits fifteen.
const DATAGRAMS_MAX: usize = 16;
/// Offers of the version that we know; a client takes the first.
const NEGOTIATIONS_MAX: usize = 8;

/// How a connection begins.
pub(super) enum Opening {
    Hello {
        hello: Box<ClientHello>,
        /// What was read, to be read again by whoever serves or relays it.
        raw: Vec<Bytes>,
        reader: Box<InitialReader>,
    },
    /// Not as a connection does; with the last datagram.
    Broken { label: &'static str, last: Bytes },
    /// The client or its session has ended.
    Ended,
}

/// Reads until the hello is whole.
pub(super) async fn read(flow: &Flow, datagrams: &mut Datagrams, first: Bytes) -> Opening {
    let mut last = first.clone();
    tokio::select! {
        opening = timeout(HELLO_TIME_MAX, advance(datagrams, first, &mut last)) => opening,
        () = flow.session.ended.cancelled() => Ok(Opening::Ended),
    }
    .unwrap_or(Opening::Broken { label: "quic_hello_timeout", last })
}

async fn advance(datagrams: &mut Datagrams, first: Bytes, last: &mut Bytes) -> Opening {
    let mut reader = InitialReader::new();
    let (mut raw, mut negotiations) = (Vec::new(), 0);
    let mut next = Some(first);
    while let Some(datagram) = next {
        *last = datagram.clone();
        match reader.push(&datagram) {
            Progress::Done(hello) => {
                raw.push(datagram);
                return Opening::Hello { hello, raw, reader: Box::new(reader) };
            }
            Progress::NeedMore => raw.push(datagram),
            Progress::NotInitial(InitialProblem::Version) if negotiations < NEGOTIATIONS_MAX => {
                negotiations += 1;
                if let Some(offer) = version_negotiation(&datagram) {
                    let _lost = datagrams.outbox.send(&offer);
                }
            }
            // Strays of another connection do not harm this one.
            Progress::NotInitial(InitialProblem::Sealed | InitialProblem::NotLong)
                if !raw.is_empty() => {}
            Progress::NotInitial(problem) => {
                return Opening::Broken { label: problem.label(), last: datagram };
            }
        }
        if raw.len() >= DATAGRAMS_MAX {
            return Opening::Broken { label: InitialProblem::TooLong.label(), last: last.clone() };
        }
        next = datagrams.inbox.recv().await;
    }
    Opening::Ended
}
