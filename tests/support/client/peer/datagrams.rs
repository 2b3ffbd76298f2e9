//! The UDP port of the small gateway: DTLS 1.3 and OpenConnect's DTLS 1.2, told apart by the hello.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dimpl::{Config, Dtls, DtlsCertificate, Output};
use gateway_proto::dtls::{HelloReader, Progress, is_first_flight};
use gateway_proto::openconnect::frame::{Kind, put_dtls, read_dtls};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::{Command, Shared, Way};
use crate::client::carrier::lock;
use crate::client::packet::QUEUE_PACKETS;
use crate::client::secure::Event;
use crate::client::secure::psk12_server::Psk12Server;
use crate::pki::Chain;

/// How often timers of sessions are looked at.
const TICK: Duration = Duration::from_millis(20);

enum Session {
    Dtls13(Box<Dtls>),
    Psk12(Box<Psk12Server>),
}

pub(super) async fn serve(socket: UdpSocket, chain: Chain, shared: Arc<Shared>) {
    let config = Arc::new(Config::builder().build().unwrap());
    let certificate = DtlsCertificate {
        certificate: chain.certificates[0].to_vec(),
        private_key: chain.key.secret_der().to_vec(),
    };
    let (to_client, mut packets) = mpsc::channel::<(SocketAddr, Vec<u8>)>(QUEUE_PACKETS);
    let mut commands = shared.commands.subscribe();
    let mut sessions: HashMap<SocketAddr, Session> = HashMap::new();
    let mut tick = tokio::time::interval(TICK);
    let (mut buffer, mut plain) = (vec![0; 65_536], Vec::new());
    loop {
        let touched = tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                let Ok((length, peer)) = received else { continue };
                let datagram = &buffer[..length];
                // A second hello of the same handshake belongs to its session.
                if is_first_flight(datagram) && !sessions.contains_key(&peer) {
                    let begun = begin(datagram, &config, &certificate, &shared);
                    let Some(session) = begun else { continue };
                    sessions.insert(peer, session);
                }
                let Some(session) = sessions.get_mut(&peer) else { continue };
                session.handle(Some(datagram));
                vec![peer]
            }
            Some((peer, packet)) = packets.recv() => {
                let Some(session) = sessions.get_mut(&peer) else { continue };
                put_dtls(Kind::Data, &packet, &mut plain);
                session.send(&plain);
                vec![peer]
            }
            Ok(Command::Goodbye) = commands.recv() => {
                sessions.values_mut().for_each(Session::close);
                sessions.keys().copied().collect()
            }
            _ = tick.tick() => {
                sessions.values_mut().for_each(|session| session.handle(None));
                sessions.keys().copied().collect()
            }
        };
        for peer in touched {
            let Some(session) = sessions.get_mut(&peer) else { continue };
            let mut events = session.events();
            while !events.is_empty() {
                for event in events {
                    match event {
                        Event::Transmit(bytes) => drop(socket.send_to(&bytes, peer).await),
                        Event::Plain(bytes) => {
                            let way = Way::Datagrams(peer, to_client.clone());
                            *lock(&shared.way) = Some(way);
                            take(session, Bytes::from(bytes), &shared);
                        }
                        Event::Closed => lock(&shared.seen).goodbyes += 1,
                        Event::Connected | Event::Failed(_) => {}
                    }
                }
                events = session.events();
            }
        }
    }
}

fn begin(
    datagram: &[u8],
    config: &Arc<Config>,
    certificate: &DtlsCertificate,
    shared: &Shared,
) -> Option<Session> {
    let Progress::Done(hello) = HelloReader::new().push(datagram) else { return None };
    if hello.offers_1_3() {
        let now = Instant::now();
        let mut dtls = Dtls::new_13(Arc::clone(config), certificate.clone(), now);
        dtls.handle_timeout(now).unwrap();
        return Some(Session::Dtls13(Box::new(dtls)));
    }
    let app_id = hello.hello.session_id.as_slice().try_into().ok()?;
    let key = lock(&shared.keys).get::<[u8; 32]>(&app_id).copied()?;
    Some(Session::Psk12(Box::new(Psk12Server::new(key))))
}

fn take(session: &mut Session, plain: Bytes, shared: &Shared) {
    let frame = read_dtls(plain).unwrap();
    match frame.kind {
        Kind::Data => drop(shared.to_stack.try_send(frame.payload.to_vec())),
        Kind::DpdRequest => {
            let mut answer = Vec::new();
            put_dtls(Kind::DpdResponse, &frame.payload, &mut answer);
            session.send(&answer);
        }
        _ => {}
    }
}

impl Session {
    fn handle(&mut self, datagram: Option<&[u8]>) {
        let now = Instant::now();
        match self {
            Self::Dtls13(dtls) => {
                // A session that failed is left to the client's patience.
                dtls.handle_timeout(now).ok();
                if let Some(datagram) = datagram {
                    dtls.handle_packet(datagram).ok();
                }
            }
            Self::Psk12(session) => match datagram {
                Some(datagram) => session.handle_datagram(now, datagram),
                None => session.handle_timeout(now),
            },
        }
    }

    fn send(&mut self, plain: &[u8]) {
        match self {
            Self::Dtls13(dtls) => drop(dtls.send_application_data(plain)),
            Self::Psk12(session) => session.send(plain),
        }
    }

    fn close(&mut self) {
        match self {
            Self::Dtls13(dtls) => drop(dtls.close()),
            Self::Psk12(session) => session.close(),
        }
    }

    fn events(&mut self) -> Vec<Event> {
        let dtls = match self {
            Self::Psk12(session) => return session.events.drain(..).collect(),
            Self::Dtls13(dtls) => dtls,
        };
        let (mut events, mut buffer) = (Vec::new(), vec![0; 4_096]);
        loop {
            match dtls.poll_output(&mut buffer) {
                Output::Packet(bytes) => events.push(Event::Transmit(bytes.to_vec())),
                Output::ApplicationData(plain) => events.push(Event::Plain(plain.to_vec())),
                Output::CloseNotify => events.push(Event::Closed),
                Output::Timeout(_) => return events,
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                _ => {}
            }
        }
    }
}
