//! CONNECT-UDP (RFC 9298): UDP payloads between a client's pipe and one destination.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use gateway_proto::capsule::{CapsuleReader, udp_payload};
use gateway_proto::fields::Fields;
use gateway_proto::target::Host;
use policy::verdict::{DialPermit, Outcome};
use tokio::net::UdpSocket;

use super::bypass::unreachable_end;
use super::flow::{Flow, FlowEnd};
use super::pipe::{Asked, Inbound, Pipe};
use super::pop::Worker;
use super::reach;
use crate::event::Text;
use crate::exchange::Scheme;
use crate::ident::Blame;
use crate::snapshot::Tenant;
use crate::tunnel::Session;

/// A UDP association that is silent for this long is over (RFC 4787 asks for at least two
/// minutes).
pub(super) const IDLE_TIME_MAX: Duration = Duration::from_secs(120);
/// Largest UDP payload.
const DATAGRAM_BYTES_MAX: usize = 65_527;

/// Serves one CONNECT-UDP request for `path`.
pub(super) async fn serve(worker: Arc<Worker>, session: Arc<Session>, path: &[u8], asked: Asked) {
    let began = Instant::now();
    let Some((host, port)) = target_of(path) else {
        let why = super::refused::why(&worker, "bad_authority");
        return asked.refuse(400, &why).await;
    };
    let Some(flow) = Flow::datagrams(worker, Arc::clone(&session), host, port) else {
        return asked.reset();
    };
    let Some(tenant) = flow.tenant() else { return };
    let _counted = session.stream();
    let end = match open(&flow, &tenant).await {
        Err(end) => {
            let label = end.block_reason.or(end.error).unwrap_or("refused");
            let why = super::refused::why(&flow.worker, label);
            asked.refuse(403, &why).await;
            end
        }
        Ok(socket) => {
            let mut fields = Fields::new();
            fields.push("capsule-protocol", "?1");
            match asked.accept(&fields).await {
                Some(pipe) => tokio::select! {
                    end = relay(pipe, socket) => end,
                    () = session.ended.cancelled() => FlowEnd::ended("session_ended"),
                },
                None => FlowEnd::ended("client_reset"),
            }
        }
    };
    flow.record(&tenant, began, &end);
}

/// Host and port of the default template `/.well-known/masque/udp/{host}/{port}/` (RFC 9298
/// section 2).
fn target_of(path: &[u8]) -> Option<(Host, u16)> {
    let path = std::str::from_utf8(path).ok()?;
    let rest = path.strip_prefix("/.well-known/masque/udp/")?;
    let mut parts = rest.split('/');
    let host = percent_encoding::percent_decode_str(parts.next()?).decode_utf8().ok()?;
    let port = parts.next()?.parse().ok().filter(|port| *port != 0)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.into_owned() };
    Some((Host::parse(host.as_bytes()).ok()?, port))
}

pub(super) async fn open(flow: &Flow, tenant: &Tenant) -> Result<UdpSocket, FlowEnd> {
    let guard = flow.worker.pop.guard.load_full();
    guard
        .check_name(&flow.asked, flow.port)
        .map_err(|refused| FlowEnd::refused(refused.label(), Blame::Client))?;
    let mut subject = flow.unread(tenant, flow.asked.ip());
    let verdict = reach::ask(flow, tenant, &mut subject, &flow.target(Scheme::Https))
        .await
        .map_err(|error| unreachable_end(&error))?;
    let permit = match verdict.outcome {
        Outcome::Allow { permit, .. } => permit,
        Outcome::Block { rule, .. } => {
            let rule = rule.and_then(|it| tenant.policy.rule(it)).map(|it| Text::copied(&it.name));
            return Err(FlowEnd { rule, ..FlowEnd::refused("rule", Blame::Gateway) });
        }
        // There is no page on a datagram flow.
        Outcome::Coach(_) | Outcome::Redirect { .. } | Outcome::Pending(_) => {
            return Err(FlowEnd::refused("rule", Blame::Gateway));
        }
    };
    let address = match subject.address {
        Some(address) => address,
        None => first_address(flow, tenant).await?,
    };
    let target = SocketAddr::new(address, flow.port);
    guard
        .check_address(target)
        .map_err(|refused| FlowEnd::refused(refused.label(), Blame::Client))?;
    flow.seen.lock().address = Some(address);
    bind(&permit, target).await.map_err(|_| FlowEnd::refused("unreachable", Blame::Origin))
}

async fn first_address(flow: &Flow, tenant: &Tenant) -> Result<IpAddr, FlowEnd> {
    let addresses = reach::resolve(flow, tenant, &flow.target(Scheme::Https))
        .await
        .map_err(|error| unreachable_end(&error))?;
    addresses.first().copied().ok_or_else(|| FlowEnd::refused("dns_nodata", Blame::Origin))
}

/// A socket that only the target can answer.
async fn bind(_permit: &DialPermit, target: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = if target.is_ipv4() {
        (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(target).await?;
    Ok(socket)
}

/// Moves datagrams both ways until the client ends or nothing moves.
async fn relay(mut pipe: Pipe, socket: UdpSocket) -> FlowEnd {
    let mut inbox = BytesMut::new();
    let mut reader = CapsuleReader::new();
    let mut packet = vec![0; DATAGRAM_BYTES_MAX];
    let (mut up, mut down) = (0_u64, 0_u64);
    let (error, blame) = loop {
        let step = tokio::select! {
            inbound = pipe.next() => Step::Client(inbound),
            received = socket.recv(&mut packet) => Step::Datagram(received),
            () = tokio::time::sleep(IDLE_TIME_MAX) => break (Some("idle"), Some(Blame::Gateway)),
        };
        match step {
            Step::Client(Inbound::Payload(payload)) => {
                up += payload.len() as u64;
                // UDP may lose what the kernel does not take.
                drop(socket.send(&payload).await);
            }
            Step::Client(Inbound::Capsules(Ok(Some(chunk)))) => {
                inbox.extend_from_slice(&chunk);
                match forward(&mut reader, &mut inbox, &socket).await {
                    Some(bytes) => up += bytes,
                    None => break (Some("bad_capsule"), Some(Blame::Client)),
                }
            }
            Step::Client(Inbound::Capsules(Ok(None))) => break (None, None),
            Step::Client(Inbound::Capsules(Err(_))) => {
                break (Some("client_reset"), Some(Blame::Client));
            }
            Step::Datagram(Ok(length)) => {
                down += length as u64;
                if pipe.send(packet.get(..length).unwrap_or_default()).await.is_err() {
                    break (Some("client_reset"), Some(Blame::Client));
                }
            }
            // A refused port shows as an error once; UDP goes on.
            Step::Datagram(Err(_)) => {}
        }
    };
    FlowEnd { error, blame, ..FlowEnd::moved(up, down) }
}

enum Step {
    Client(Inbound),
    Datagram(std::io::Result<usize>),
}

/// Sends every whole datagram that has arrived; `None` where what came is no capsule.
async fn forward(
    reader: &mut CapsuleReader,
    inbox: &mut BytesMut,
    socket: &UdpSocket,
) -> Option<u64> {
    let mut bytes = 0;
    while let Some(datagram) = reader.datagram(inbox).ok()? {
        // Other contexts than zero were never agreed on (RFC 9298 section 4): dropped.
        if let Some(payload) = udp_payload(&datagram) {
            bytes += payload.len() as u64;
            // UDP may lose what the kernel does not take.
            drop(socket.send(&payload).await);
        }
    }
    Some(bytes)
}
