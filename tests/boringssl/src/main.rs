//! A DTLS 1.3 client by BoringSSL: pings the gateway's inner address through a tunnel, renews its keys on
//! the way, and says what was agreed.
//!
//!     boringssl-peer GATEWAY NAME CLIENT_PEM CA_PEM PINGS KEY_UPDATES
//!
//! Exit status 0 means that every ping was answered, 1 that not, 2 wrong usage.

mod ping;

use std::io::{self, ErrorKind, Read, Write};
use std::net::UdpSocket;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use boring::ssl::{
    HandshakeError, SslConnector, SslFiletype, SslMethod, SslStream, SslVerifyMode, SslVersion,
};
use foreign_types::ForeignTypeRef;

/// A read looks up this often.
const LOOK: Duration = Duration::from_millis(200);
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
const ANSWER_MAX: Duration = Duration::from_secs(5);

const DATA: u8 = 0;
const DPD_REQUEST: u8 = 3;
const DPD_RESPONSE: u8 = 4;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [gateway, name, client, ca, pings, updates] = arguments.as_slice() else {
        eprintln!("usage: boringssl-peer GATEWAY NAME CLIENT_PEM CA_PEM PINGS KEY_UPDATES");
        return ExitCode::from(2);
    };
    let (Ok(pings), Ok(updates)) = (pings.parse(), updates.parse()) else {
        return ExitCode::from(2);
    };
    match connect(gateway, name, client, ca).and_then(|tunnel| use_it(tunnel, pings, updates)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A connected socket, one datagram to a read or write.
struct Datagrams(UdpSocket);

impl Read for Datagrams {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer)
    }
}

impl Write for Datagrams {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.0.send(datagram)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn connect(gateway: &str, name: &str, client: &str, ca: &str) -> io::Result<SslStream<Datagrams>> {
    let mut builder = SslConnector::builder(SslMethod::dtls())?;
    builder.set_min_proto_version(Some(SslVersion::DTLS1_3))?;
    builder.set_max_proto_version(Some(SslVersion::DTLS1_3))?;
    builder.set_verify(SslVerifyMode::PEER);
    builder.set_ca_file(ca)?;
    builder.set_certificate_file(client, SslFiletype::PEM)?;
    builder.set_private_key_file(client, SslFiletype::PEM)?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(gateway)?;
    socket.set_read_timeout(Some(LOOK))?;
    let begun = Instant::now();
    let mut handshake = builder.build().connect(name, Datagrams(socket));
    loop {
        match handshake {
            Ok(stream) => return Ok(stream),
            Err(HandshakeError::WouldBlock(under_way)) if begun.elapsed() < HANDSHAKE_MAX => {
                handshake = under_way.handshake();
            }
            Err(HandshakeError::WouldBlock(_)) => {
                return Err(io::Error::other("no handshake in time"));
            }
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
    }
}

fn use_it(mut tunnel: SslStream<Datagrams>, pings: u16, updates: u16) -> io::Result<()> {
    let ssl = tunnel.ssl();
    let cipher = ssl.current_cipher().map(|it| it.name().to_owned()).unwrap_or_default();
    println!("agreed on {} with {cipher}", ssl.version_str());
    let every = if updates == 0 { u16::MAX } else { (pings / (updates + 1)).max(1) };
    let mut renewed = 0;
    for number in 1..=pings {
        if number % every == 0 && renewed < updates {
            renew_keys(&tunnel)?;
            renewed += 1;
        }
        let record = [&[DATA], ping::request(number).as_slice()].concat();
        tunnel.write_all(&record)?;
        await_answer(&mut tunnel, number)?;
    }
    println!("{pings} pings answered, keys renewed {renewed} times");
    tunnel.shutdown().map(drop).map_err(|error| io::Error::other(error.to_string()))
}

fn await_answer(tunnel: &mut SslStream<Datagrams>, number: u16) -> io::Result<()> {
    let begun = Instant::now();
    let mut record = [0; 4096];
    while begun.elapsed() < ANSWER_MAX {
        let length = match tunnel.read(&mut record) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        match record[..length].split_first() {
            Some((&DATA, packet)) if ping::answers(packet, number) => return Ok(()),
            // With the same bytes: the gateway measures the path by them.
            Some((&DPD_REQUEST, _)) => {
                record[0] = DPD_RESPONSE;
                tunnel.write_all(&record[..length])?;
            }
            _ => {}
        }
    }
    Err(io::Error::other(format!("ping {number} was not answered")))
}

/// New keys for what goes out, and a question after new ones for what comes in.
fn renew_keys(tunnel: &SslStream<Datagrams>) -> io::Result<()> {
    let ssl = tunnel.ssl().as_ptr();
    #[expect(unsafe_code, reason = "the safe interface leaves SSL_key_update out")]
    // SAFETY: the pointer is that of a connection that lives as long as `tunnel`, and no other thread has it.
    let done = unsafe { boring_sys::SSL_key_update(ssl, boring_sys::SSL_KEY_UPDATE_REQUESTED) };
    if done == 1 { Ok(()) } else { Err(io::Error::other("keys cannot be renewed now")) }
}
