//! The TLS of a QUIC tunnel: the whole ClientHello first, then the tenant by its SNI, then the
//! handshake with that tenant's configuration, as for TLS tunnels.

use std::any::Any;
use std::io::Cursor;
use std::sync::Arc;

use gateway_proto::client_hello::{ClientHello, HELLO_BYTES_MAX};
use parking_lot::Mutex;
use quinn::{ConnectionId, Side, TransportErrorCode, crypto};
use quinn_proto::TransportError;
use quinn_proto::transport_parameters::TransportParameters;
use rustls::AlertDescription;
use rustls::quic::{
    Connection, DirectionalKeys, KeyChange, Keys, Secrets, ServerConnection, Suite, Version,
};

use super::super::accept::{RefusalReason, TunnelConfig, refusal_of};
use crate::ident::{ClientIdentity, TenantName};
use crate::snapshot::{Snapshot, Tenant};

/// Finds a tenant's cached configuration.
pub type ConfigOf = Box<dyn Fn(&Arc<Tenant>) -> Arc<TunnelConfig> + Send + Sync>;

/// What every handshake needs.
pub struct Chooser {
    snapshot: Snapshot,
    config_of: ConfigOf,
    /// Knows the keys of Initial packets and the tags of Retry packets.
    plain: Arc<crypto::rustls::QuicServerConfig>,
    initial: Suite,
}

impl Chooser {
    /// # Errors
    /// Where the cryptography cannot be used.
    pub fn new(snapshot: Snapshot, config_of: ConfigOf) -> Result<Self, rustls::Error> {
        let lacks = || rustls::Error::General("no AES-128-GCM for QUIC".to_owned());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let suites = provider.cipher_suites.iter().filter_map(|suite| suite.tls13());
        let initial = suites
            .filter(|suite| suite.common.suite == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256)
            .find_map(|suite| suite.quic_suite())
            .ok_or_else(lacks)?;
        let plain = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
        let plain = crypto::rustls::QuicServerConfig::with_initial(Arc::new(plain), initial);
        Ok(Self { snapshot, config_of, plain: Arc::new(plain.map_err(|_| lacks())?), initial })
    }
}

/// What a handshake has shown so far.
#[derive(Default)]
pub struct Seen {
    pub tenant: Option<Arc<Tenant>>,
    pub refusal: Option<RefusalReason>,
    pub identity: Option<ClientIdentity>,
    pub kx: Option<String>,
}

impl Seen {
    /// The tenant's name, once it is known.
    #[must_use]
    pub fn tenant_name(&self) -> Option<TenantName> {
        self.tenant.as_ref().map(|tenant| tenant.name.clone())
    }
}

/// One connection's handshake, watched from outside.
pub(super) struct Meeting {
    pub chooser: Arc<Chooser>,
    pub seen: Arc<Mutex<Seen>>,
}

impl crypto::ServerConfig for Meeting {
    fn initial_keys(
        &self,
        version: u32,
        id: &ConnectionId,
    ) -> Result<crypto::Keys, crypto::UnsupportedVersion> {
        self.chooser.plain.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.chooser.plain.retry_tag(version, id, packet)
    }

    fn start_session(
        self: Arc<Self>,
        _version: u32,
        parameters: &TransportParameters,
    ) -> Box<dyn crypto::Session> {
        let mut ours = Vec::new();
        parameters.write(&mut ours);
        let stage = Stage::Hello { message: Vec::new(), parameters: ours };
        Box::new(Handshake { meeting: self, stage, next: None, told: false })
    }
}

enum Stage {
    /// The ClientHello comes, in one piece or many.
    Hello {
        message: Vec<u8>,
        parameters: Vec<u8>,
    },
    Running(Box<Connection>),
}

/// The TLS session of one connection.
struct Handshake {
    meeting: Arc<Meeting>,
    stage: Stage,
    next: Option<Secrets>,
    told: bool,
}

impl Handshake {
    fn running(&self) -> Option<&Connection> {
        match &self.stage {
            Stage::Hello { .. } => None,
            Stage::Running(connection) => Some(connection),
        }
    }

    /// Takes a part of the ClientHello; once it is whole, begins the tenant's handshake.
    fn hello(&mut self, bytes: &[u8]) -> Result<(), TransportError> {
        let Stage::Hello { message, parameters } = &mut self.stage else { return Ok(()) };
        message.extend_from_slice(bytes);
        let hello = match whole(message) {
            Ok(None) => return Ok(()),
            Ok(Some(hello)) => hello,
            Err(alert) => return Err(self.refuse(RefusalReason::BadFirstBytes, alert)),
        };
        let (message, parameters) = (std::mem::take(message), std::mem::take(parameters));
        let chooser = Arc::clone(&self.meeting.chooser);
        let named = hello.server_name().and_then(|name| chooser.snapshot.tenant_by_name(name));
        let Some(tenant) = named else {
            let alert = AlertDescription::UnrecognisedName;
            return Err(self.refuse(RefusalReason::UnknownTenant, alert));
        };
        self.meeting.seen.lock().tenant = Some(Arc::clone(&tenant));
        let config = (chooser.config_of)(&tenant).quic(&tenant, &chooser.snapshot);
        let config = config.map_err(|r| self.refuse(r, AlertDescription::InternalError))?;
        let connection = ServerConnection::new(config, Version::V1, parameters);
        let connection = connection.map_err(|error| {
            let reason = RefusalReason::Gateway(error.to_string());
            self.refuse(reason, AlertDescription::InternalError)
        })?;
        self.stage = Stage::Running(Box::new(Connection::Server(connection)));
        self.advance(&message)
    }

    fn advance(&mut self, bytes: &[u8]) -> Result<(), TransportError> {
        let Stage::Running(connection) = &mut self.stage else { return Ok(()) };
        if let Err(error) = connection.read_hs(bytes) {
            let alert = connection.alert().unwrap_or(AlertDescription::HandshakeFailure);
            return Err(self.refuse(refusal_of(&error), alert));
        }
        if !connection.is_handshaking() && !self.told {
            let mut seen = self.meeting.seen.lock();
            seen.kx = connection
                .negotiated_key_exchange_group()
                .map(|group| format!("{:?}", group.name()));
            if let Some(leaf) = connection.peer_certificates().and_then(<[_]>::first) {
                match ClientIdentity::from_der(leaf) {
                    Ok(identity) => seen.identity = Some(identity),
                    Err(_) => {
                        drop(seen);
                        let alert = AlertDescription::BadCertificate;
                        return Err(self.refuse(RefusalReason::BadCertificate, alert));
                    }
                }
            }
        }
        Ok(())
    }

    fn refuse(&self, reason: RefusalReason, alert: AlertDescription) -> TransportError {
        let code = TransportErrorCode::crypto(alert.into());
        let error = TransportError { code, frame: None, reason: reason.to_string() };
        self.meeting.seen.lock().refusal = Some(reason);
        error
    }
}

/// The ClientHello, once all of it is there.
fn whole(message: &[u8]) -> Result<Option<ClientHello>, AlertDescription> {
    let (length, body) = match message {
        [] | [1] | [1, _] | [1, _, _] => return Ok(None),
        [1, high, middle, low, body @ ..] => {
            (usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low), body)
        }
        _ => return Err(AlertDescription::UnexpectedMessage),
    };
    if length > HELLO_BYTES_MAX {
        return Err(AlertDescription::DecodeError);
    }
    let Some(body) = body.get(..length) else { return Ok(None) };
    ClientHello::parse(body).map(Some).map_err(|_| AlertDescription::DecodeError)
}

impl crypto::Session for Handshake {
    fn initial_keys(&self, id: &ConnectionId, side: Side) -> crypto::Keys {
        let side = match side {
            Side::Client => rustls::Side::Client,
            Side::Server => rustls::Side::Server,
        };
        keys(self.meeting.chooser.initial.keys(id, side, Version::V1))
    }

    /// All that is to be known is in [`Seen`].
    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.told.then(|| Box::new(()) as Box<dyn Any>)
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        None
    }

    /// 0-RTT is off: what it carries could be replayed.
    fn early_crypto(&self) -> Option<(Box<dyn crypto::HeaderKey>, Box<dyn crypto::PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.running().is_none_or(|connection| connection.is_handshaking())
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        match &self.stage {
            Stage::Hello { .. } => self.hello(bytes)?,
            Stage::Running(_) => self.advance(bytes)?,
        }
        let done = !self.told && !crypto::Session::is_handshaking(self);
        self.told |= done;
        Ok(done)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let theirs = self.running().and_then(|connection| connection.quic_transport_parameters());
        let Some(theirs) = theirs else { return Ok(None) };
        Ok(Some(TransportParameters::read(Side::Server, &mut Cursor::new(theirs))?))
    }

    fn write_handshake(&mut self, out: &mut Vec<u8>) -> Option<crypto::Keys> {
        let Stage::Running(connection) = &mut self.stage else { return None };
        match connection.write_hs(out)? {
            KeyChange::Handshake { keys: changed } => Some(keys(changed)),
            KeyChange::OneRtt { keys: changed, next } => {
                self.next = Some(next);
                Some(keys(changed))
            }
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<crypto::KeyPair<Box<dyn crypto::PacketKey>>> {
        let keys = self.next.as_mut()?.next_packet_keys();
        Some(crypto::KeyPair { local: Box::new(keys.local), remote: Box::new(keys.remote) })
    }

    /// Only clients get Retry packets.
    fn is_valid_retry(&self, _id: &ConnectionId, _header: &[u8], _payload: &[u8]) -> bool {
        false
    }

    fn export_keying_material(
        &self,
        out: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), crypto::ExportKeyingMaterialError> {
        let connection = self.running().ok_or(crypto::ExportKeyingMaterialError)?;
        connection
            .export_keying_material(out, label, Some(context))
            .map(|_| ())
            .map_err(|_| crypto::ExportKeyingMaterialError)
    }
}

fn keys(keys: Keys) -> crypto::Keys {
    let Keys { local, remote } = keys;
    let DirectionalKeys { header: local_header, packet: local_packet, .. } = local;
    let DirectionalKeys { header: remote_header, packet: remote_packet, .. } = remote;
    crypto::Keys {
        header: crypto::KeyPair { local: Box::new(local_header), remote: Box::new(remote_header) },
        packet: crypto::KeyPair { local: Box::new(local_packet), remote: Box::new(remote_packet) },
    }
}
