//! What comes out of a session's inner network: each connection, association and query finds its server.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use gateway_proto::target::Host;
use tokio::sync::{Semaphore, mpsc};

use super::associations;
use super::queries;
use super::session::PacketSession;
use crate::serve::decide;
use crate::serve::flow::Flow;
use crate::stream::Io;
use crate::stream::packet::Opened;

/// Queries of one session under way: a page asks for a few dozen names at once.
const QUERIES_MAX: usize = 128;

/// Serves a session's flows until it ends.
pub(super) async fn run<T>(packets: Arc<PacketSession>, opened: mpsc::Receiver<Opened>) -> T {
    let stack = Arc::clone(&packets.stack);
    tokio::join!(stack.run_timers(), accept(packets, opened));
    std::future::pending().await
}

async fn accept(packets: Arc<PacketSession>, mut opened: mpsc::Receiver<Opened>) {
    let querying = Arc::new(Semaphore::new(QUERIES_MAX));
    while let Some(opened) = opened.recv().await {
        let tasks = packets.worker().pop.tasks.clone();
        let packets = Arc::clone(&packets);
        match opened {
            Opened::Tcp { destination, stream, .. } => {
                tasks.spawn(connection(packets, destination, stream));
            }
            Opened::Udp { source, destination, inbox } => {
                tasks.spawn(associations::serve(packets, source, destination, inbox));
            }
            Opened::Query { source, destination, query } => {
                // A client asks again where too many are under way.
                let Ok(permit) = Arc::clone(&querying).try_acquire_owned() else { continue };
                tasks.spawn(async move {
                    if let Some(answer) = queries::Asker::of(&packets).answer(&query, true).await
                        && let Err(dropped) =
                            packets.stack.send_datagram(destination, source, &answer)
                    {
                        packets.dropped(dropped);
                    }
                    drop(permit);
                });
            }
        }
    }
}

/// Serves one inner connection.
async fn connection(packets: Arc<PacketSession>, destination: SocketAddr, stream: Io) {
    if destination.port() == queries::PORT {
        let ended = packets.session.ended.clone();
        tokio::select! {
            () = queries::over_tcp(&packets, stream) => {}
            () = ended.cancelled() => {}
        }
        return;
    }
    if let Some(flow) = flow_to(&packets, destination) {
        decide::serve(flow, stream, Bytes::new()).await;
    }
}

/// The flow to an address: under the name that the client asked for it by.
pub(super) fn flow_to(packets: &PacketSession, destination: SocketAddr) -> Option<Flow> {
    let worker = Arc::clone(packets.worker());
    let session = Arc::clone(&packets.session);
    let address = destination.ip();
    if worker.pop.packets.pool.own().contains(&address) {
        let gateway = worker.pop.snapshot.gateway();
        let notice = Host::parse(gateway.config.notice.as_str().as_bytes()).ok()?;
        return Flow::new(worker, session, notice, destination.port());
    }
    let name = packets.names.of(address);
    let flow = Flow::new(worker, session, Host::Ip(address), destination.port())?;
    Some(match name {
        Some(name) => flow.named(name, address),
        None => flow,
    })
}
