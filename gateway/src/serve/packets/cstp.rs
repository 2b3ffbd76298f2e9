//! OpenConnect's bootstrap, and its channel inside TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use gateway_proto::fields::Fields;
use gateway_proto::http1::RequestHead;
use gateway_proto::openconnect::frame::{Frame, Kind, put_cstp, take_cstp};
use gateway_proto::openconnect::{
    AUTH_COMPLETE, AppId, DtlsOffer, TUNNEL_TARGET, TunnelReply, TunnelRequest,
};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

use super::path::MTU_MIN;
use super::session::{self, AWAY_TIME_MAX, Attached, Made, PacketSession, open};
use super::table::{Device, Offer};
use crate::ident::{AccessMethod, ClientIdentity, random};
use crate::serve::pop::{TunnelGuard, Worker};
use crate::snapshot::Tenant;
use crate::stream::packet::Sources;
use crate::tunnel::accept::TunnelTls;
use crate::tunnel::http1::{self, First};

/// An idle side asks whether the other lives, as often as this; after three times it is gone.
pub(super) const DPD: Duration = Duration::from_secs(10);
/// A client whose NAT forgets it says something this often.
const KEEPALIVE_S: u32 = 30;
/// Keys are renewed by a new connection once a day.
const REKEY_S: u32 = 86_400;
/// What a client says before it has a tunnel is an XML form of a few KB.
const FORM_BYTES_MAX: u64 = 64 << 10;
const FORM_TIME_MAX: Duration = Duration::from_secs(10);
/// Packets written between two looks at everything else.
const BATCH: usize = 64;
/// Answers that wait to be written; a client that asks faster than it reads loses some.
const ANSWERS_MAX: usize = 16;
/// An Ethernet path, for clients that do not say.
const PATH_BYTES: u16 = 1_500;
/// The longest cookie that is taken for one of ours.
const COOKIE_BYTES_MAX: usize = 128;

/// Whether a first request is one of OpenConnect's.
pub(in crate::serve) fn is_bootstrap(head: &RequestHead) -> bool {
    if head.method.as_ref() == b"CONNECT" {
        return head.target.as_ref() == TUNNEL_TARGET;
    }
    let agent = head.fields.text("user-agent").unwrap_or_default();
    let speaks = head.fields.has("x-transcend-version")
        || head.fields.has("x-aggregate-auth")
        || agent.contains("AnyConnect");
    speaks && matches!(head.method.as_ref(), b"POST" | b"GET") && head.target.starts_with(b"/")
}

/// A connection that has begun OpenConnect's bootstrap.
pub(in crate::serve) struct Bootstrap {
    pub(in crate::serve) tls: Box<TlsStream<TcpStream>>,
    pub(in crate::serve) tenant: Arc<Tenant>,
    /// From the client's certificate, which is all that authenticates it.
    pub(in crate::serve) identity: ClientIdentity,
    pub(in crate::serve) facts: TunnelTls,
    pub(in crate::serve) peer: SocketAddr,
}

/// Serves it to its end.
pub(in crate::serve) async fn serve(
    worker: Arc<Worker>,
    mut it: Bootstrap,
    mut first: First,
    counted: TunnelGuard,
) {
    loop {
        if first.head.method.as_ref() == b"CONNECT" {
            return tunnel(worker, it, &first, counted).await;
        }
        if authenticated(&mut it.tls, &first).await.is_none() {
            return;
        }
        let next = tokio::select! {
            next = http1::first(&mut it.tls) => next,
            () = worker.pop.draining.cancelled() => return,
        };
        match next {
            Ok(next) if is_bootstrap(&next.head) => first = next,
            _ => return,
        }
    }
}

/// Answers the request for a form: none is needed.
async fn authenticated(tls: &mut TlsStream<TcpStream>, first: &First) -> Option<()> {
    let length: u64 = match first.head.fields.text("content-length") {
        Some(length) => length.parse().ok().filter(|length| *length <= FORM_BYTES_MAX)?,
        None => 0,
    };
    let rest = length.saturating_sub(first.rest.len() as u64);
    let mut form = Vec::new();
    // Nothing in it matters; left unread it would reset the connection under the answer.
    timeout(FORM_TIME_MAX, (&mut *tls).take(rest).read_to_end(&mut form)).await.ok()?.ok()?;
    let cookie = hex(&random::bytes::<32>()?);
    let mut fields = Fields::new();
    fields.push("Content-Type", "text/xml");
    fields.push("Content-Length", AUTH_COMPLETE.len().to_string());
    fields.push("X-Transcend-Version", "1");
    fields.push("Set-Cookie", format!("webvpn={cookie}; Secure; HttpOnly"));
    http1::answer(tls, 200, &fields, AUTH_COMPLETE.as_bytes()).await.ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes or finds the session, and runs this channel of it.
async fn tunnel(worker: Arc<Worker>, mut it: Bootstrap, first: &First, counted: TunnelGuard) {
    let request = TunnelRequest::read(&first.head.fields);
    let sound = |cookie: &&String| {
        (1..=COOKIE_BYTES_MAX).contains(&cookie.len())
            && cookie.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let Some(cookie) = request.token.as_ref().filter(sound) else {
        return refuse(&mut it.tls, 401, "no session cookie").await;
    };
    let mtu = mtu(&request, it.peer);
    let Some(packets) = session(&worker, &it, &request, cookie, mtu, counted).await else {
        return refuse(&mut it.tls, 503, "no more tunnels").await;
    };
    let attached = packets.attach();
    let offered = request.psk_negotiate.then(|| offer(&worker, &packets, &it.tls)).flatten();
    let dtls = offered.as_ref().map(|(app_id, _)| DtlsOffer {
        app_id: *app_id,
        port: worker.pop.udp_port,
        mtu,
    });
    let reply = TunnelReply {
        ipv4: request.ipv4.then(|| packets.lease.ipv4()),
        ipv6: request.ipv6.then(|| packets.lease.ipv6()),
        dns: name_servers(&worker, &request),
        mtu,
        base_mtu: request.base_mtu.unwrap_or(PATH_BYTES),
        dpd_s: u32::try_from(DPD.as_secs()).unwrap_or(u32::MAX),
        keepalive_s: KEEPALIVE_S,
        rekey_s: REKEY_S,
        disconnected_s: u32::try_from(AWAY_TIME_MAX.as_secs()).unwrap_or(u32::MAX),
        dtls,
    };
    if http1::answer(&mut it.tls, 200, &reply.fields(), b"").await.is_ok() {
        packets.tls_up(attached.channel, mtu);
        run(&attached, *it.tls, first.rest.clone()).await;
        packets.tls_down(attached.channel);
    }
}

fn name_servers(worker: &Worker, request: &TunnelRequest) -> Vec<std::net::IpAddr> {
    let own = worker.pop.packets.pool.own();
    own.into_iter().filter(|it| if it.is_ipv4() { request.ipv4 } else { request.ipv6 }).collect()
}

/// What fits into a DTLS record on the client's path.
fn mtu(request: &TunnelRequest, peer: SocketAddr) -> u16 {
    /// UDP; header, nonce and tag of the record; the frame's type.
    const AROUND: u16 = 8 + 13 + 8 + 16 + 1;
    let ip = if peer.ip().to_canonical().is_ipv4() { 20 } else { 40 };
    let path = request.base_mtu.unwrap_or(PATH_BYTES);
    let fits = path.saturating_sub(ip + AROUND);
    request.mtu.map_or(fits, |asked| asked.max(MTU_MIN).min(fits)).max(MTU_MIN)
}

/// The session that the cookie names; one of the same device that lost its DTLS; or a new one. The
/// certificate says whose it is, so that a cookie of a gateway that is gone is good here too.
async fn session(
    worker: &Arc<Worker>,
    it: &Bootstrap,
    request: &TunnelRequest,
    cookie: &str,
    mtu: u16,
    counted: TunnelGuard,
) -> Option<Arc<PacketSession>> {
    let tunnels = &worker.pop.packets;
    let device = Device { tenant: it.tenant.name.clone(), serial: Arc::clone(&it.identity.serial) };
    if let Some(known) = tunnels.find(&device, |session| session.has_cookie(cookie)) {
        return Some(known);
    }
    let mut over_dtls = tunnels.of(&device);
    over_dtls.retain(|session| !session.has_a_cookie());
    if let Some(lost) = session::silent(over_dtls).await {
        lost.take_cookie(cookie);
        return Some(lost);
    }
    let lease = tunnels.pool.lease(&request.previous)?;
    let way = (it.peer, AccessMethod::Openconnect);
    let (session, device) = open(worker, &it.tenant, it.identity.clone(), &it.facts, way)?;
    let sources = Sources::assigned(vec![lease.ipv4().into(), lease.ipv6().into()]);
    let made = Made { session, lease, device, cookie: Some(cookie.to_owned()), sources, mtu };
    Some(PacketSession::start(worker, &it.tenant, made, counted))
}

/// Offers a DTLS channel with a key that only the two ends of this TLS connection know.
fn offer(
    worker: &Worker,
    packets: &Arc<PacketSession>,
    tls: &TlsStream<TcpStream>,
) -> Option<(AppId, super::table::OfferGuard)> {
    let mut key = Zeroizing::new([0; 32]);
    let (_, connection) = tls.get_ref();
    connection.export_keying_material(&mut *key, b"EXPORTER-openconnect-psk", None).ok()?;
    let app_id: AppId = random::bytes()?;
    let offer = Offer { session: Arc::downgrade(packets), key };
    Some((app_id, worker.pop.packets.offer(app_id, offer)))
}

async fn refuse(tls: &mut TlsStream<TcpStream>, status: u16, reason: &'static str) {
    let mut fields = Fields::new();
    fields.push("X-Reason", reason);
    fields.push("Content-Length", "0");
    fields.push("Connection", "close");
    drop(http1::answer(tls, status, &fields, b"").await);
    drop(tls.shutdown().await);
}

/// Moves packets until one side ends the channel.
async fn run(attached: &Attached, tls: TlsStream<TcpStream>, rest: Bytes) {
    let (reader, writer) = tokio::io::split(tls);
    let (answers, to_answer) = mpsc::channel(ANSWERS_MAX);
    let heard = Mutex::new(Instant::now());
    let packets = &attached.session;
    let said_goodbye = tokio::select! {
        said = read(attached, reader, rest, &answers, &heard) => said,
        () = write(attached, writer, to_answer, &heard) => false,
        () = packets.over.cancelled() => false,
    };
    if said_goodbye {
        packets.session.ended.cancel();
    }
}

/// Reads frames; true where the client said goodbye.
async fn read(
    attached: &Attached,
    mut reader: ReadHalf<TlsStream<TcpStream>>,
    rest: Bytes,
    answers: &mpsc::Sender<Frame>,
    heard: &Mutex<Instant>,
) -> bool {
    let mut buffer = BytesMut::from(rest.as_ref());
    loop {
        loop {
            let Ok(frame) = take_cstp(&mut buffer) else { return false };
            let Some(frame) = frame else { break };
            match frame.kind {
                Kind::Data => attached.session.packet(attached.channel, &frame.payload),
                Kind::DpdRequest => {
                    let answer = Frame { kind: Kind::DpdResponse, payload: frame.payload };
                    drop(answers.try_send(answer));
                }
                Kind::Disconnect | Kind::Terminate => return true,
                Kind::DpdResponse | Kind::KeepAlive => {}
                // Nobody was offered compression.
                Kind::Compressed => return false,
            }
        }
        match reader.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(_) => *heard.lock() = Instant::now(),
        }
    }
}

/// Writes packets, answers, and a question where the client is silent; ends where it stays so.
async fn write(
    attached: &Attached,
    mut writer: WriteHalf<TlsStream<TcpStream>>,
    mut answers: mpsc::Receiver<Frame>,
    heard: &Mutex<Instant>,
) {
    let Attached { session, channel } = attached;
    let mut packets = Vec::new();
    let mut looks = interval(DPD);
    let mut record = BytesMut::new();
    loop {
        let frame = tokio::select! {
            () = session.link.take(*channel, BATCH, &mut packets) => None,
            Some(answer) = answers.recv() => Some(answer),
            _ = looks.tick() => {
                let silence = heard.lock().elapsed();
                if silence > 3 * DPD {
                    return;
                }
                if silence < DPD {
                    continue;
                }
                Some(Frame { kind: Kind::DpdRequest, payload: Bytes::new() })
            }
        };
        let frames = frame.iter().map(|frame| (frame.kind, frame.payload.as_ref()));
        let data = packets.iter().map(|packet| (Kind::Data, packet.as_slice()));
        for (kind, payload) in frames.chain(data) {
            // One frame to a record: clients pass over everything else. What the TLS library holds back
            // goes out first, or the next frame could find room for a part of itself only.
            record.clear();
            put_cstp(kind, payload, &mut record);
            if writer.write_all(&record).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
        packets.clear();
        session.stack.resume();
    }
}
