//! Moves datagrams as they are, for as long as policy lets them.

use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;

use super::watch::{Step, Watch};
use super::{REFUSED, refusal};
use crate::ident::Blame;
use crate::serve::bypass::{still_bypassed, withdrawn};
use crate::serve::flow::{Flow, FlowEnd};
use crate::stream::Datagrams;

/// A UDP association that is silent for this long is over (RFC 4787 asks for at least two minutes).
const IDLE_TIME_MAX: Duration = Duration::from_secs(120);

/// Relays until nothing moves; `first` has come already. Gives the datagram that was refused, where
/// that ended it.
pub(super) async fn relay(
    flow: &Flow,
    mut datagrams: Datagrams,
    first: Vec<Bytes>,
    socket: &UdpSocket,
    mut watch: Watch,
) -> (FlowEnd, Option<Bytes>) {
    // One byte more than can be sent on tells what is too long.
    let mut buffer = vec![0; datagrams.size_max + 1];
    let (mut up, mut down) = (0_u64, 0_u64);
    for datagram in first {
        up += send(socket, &datagram).await;
    }
    let mut withdrawn = Box::pin(withdrawn(flow, || still_bypassed(flow)));
    let ended = |error, blame, up, down| FlowEnd { error, blame, ..FlowEnd::moved(up, down) };
    loop {
        tokio::select! {
            datagram = datagrams.inbox.recv() => {
                let Some(datagram) = datagram else { return (ended(None, None, up, down), None) };
                match watch.step(datagram, flow.port) {
                    Step::Pass(passed) => for datagram in passed {
                        up += send(socket, &datagram).await;
                    },
                    Step::Refuse(why, datagram) => {
                        drop(refusal(flow, why, Blame::Gateway));
                        let end = ended(Some(REFUSED), Some(Blame::Gateway), up, down);
                        return (end, Some(datagram));
                    }
                }
            }
            received = socket.recv(&mut buffer) => {
                // A refused port shows as an error once; UDP goes on.
                let Ok(length) = received else { continue };
                down += length as u64;
                let sent = datagrams.outbox.send(buffer.get(..length).unwrap_or_default());
                if let Err(dropped) = sent {
                    flow.worker.pop.metrics.packet_dropped(dropped.label());
                }
            }
            () = &mut withdrawn => {
                let label = match flow.session.ended.is_cancelled() {
                    true => "session_ended",
                    false => "withdrawn",
                };
                return (ended(Some(label), Some(Blame::Gateway), up, down), None);
            }
            () = tokio::time::sleep(IDLE_TIME_MAX) => {
                return (ended(Some("idle"), Some(Blame::Gateway), up, down), None);
            }
        }
    }
}

async fn send(socket: &UdpSocket, datagram: &[u8]) -> u64 {
    // UDP may lose what the kernel does not take.
    drop(socket.send(datagram).await);
    datagram.len() as u64
}
