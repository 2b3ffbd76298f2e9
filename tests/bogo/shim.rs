//! The DTLS 1.3 server of the gateway as BoGo's runner wants it: a program that is told by flags what to be,
//! and whose datagrams and clock come over a TCP connection. See README.md.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the runner reads it")]

mod flags;
mod wire;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::Config;
use gateway::tunnel::dtls::{Broken, DtlsIdentity, Engine, Modern, Output};
use gateway_proto::dtls::{DtlsHello, HelloReader, Progress, is_first_flight};

use flags::{Flags, Unsupported};
use wire::{Asked, Wire};

/// How the runner is told that a test is about what there is not.
const UNIMPLEMENTED: u8 = 89;
/// As the gateway's: see `tunnel/dtls/modern.rs`.
const HANDSHAKE_BYTES_MAX: usize = 1_200;
/// What the runner's tests of timers begin with, and the gateway too.
const RETRY_AFTER: Duration = Duration::from_millis(400);
/// The runner lets hours pass.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(86_400);
/// ECDSA on P-256 with SHA-256 and P-384 with SHA-384: what DTLS tunnels sign with.
const ECDSA: [u16; 2] = [0x0403, 0x0503];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "-is-handshaker-supported") {
        println!("No");
        return ExitCode::SUCCESS;
    }
    let outcome = Flags::read(&arguments).map_err(End::from).and_then(|flags| serve(&flags));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(End::Unimplemented(what)) => {
            note(&what);
            ExitCode::from(UNIMPLEMENTED)
        }
        Err(End::Failed(why)) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Keeps what a test lacks, for the table of docs/standards.md.
fn note(what: &str) {
    use std::io::Write as _;
    let Some(path) = std::env::var_os("BOGO_SHIM_NOTES") else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    if let Ok(mut file) = file {
        // One write, so that lines of several shims stay whole.
        drop(file.write_all(format!("{what}\n").as_bytes()));
    }
}

enum End {
    Unimplemented(String),
    Failed(String),
}

impl From<Unsupported> for End {
    fn from(unsupported: Unsupported) -> Self {
        Self::Unimplemented(unsupported.0)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        Self::Failed(broken.to_string())
    }
}

fn serve(flags: &Flags) -> Result<(), End> {
    let (identity, is_own) = flags.identity()?;
    let config = config(flags)?;
    // There are no sessions to resume: each connection is a new one.
    for number in 0..flags.connections {
        let wire = Wire::connect(flags.port, flags.ipv6, flags.shim_id)?;
        let now = Instant::now();
        let mut connection = Connection {
            config: Arc::clone(&config),
            identity: identity.clone(),
            shows_own: is_own,
            flags,
            wire,
            now,
            out: Output::default(),
            is_up: false,
        };
        connection.run().map_err(|end| match end {
            End::Failed(why) => End::Failed(format!("connection {number}: {why}")),
            unimplemented @ End::Unimplemented(_) => unimplemented,
        })?;
    }
    Ok(())
}

fn config(flags: &Flags) -> Result<Arc<Config>, End> {
    let mut builder = Config::builder()
        .mtu(flags.mtu.unwrap_or(HANDSHAKE_BYTES_MAX))
        .require_client_certificate(flags.client_certificate)
        // The runner's client expects a server that asks for no cookie.
        .use_server_cookie(false)
        .handshake_timeout(HANDSHAKE_TIME_MAX)
        // The engine's timers run for up to a quarter more or less than they are told, and the runner's time
        // passes in steps: so that each has run out at its step.
        .flight_start_rto(flags.retry_after.unwrap_or(RETRY_AFTER) * 4 / 5);
    if let Some(groups) = flags.groups()? {
        builder = builder.kx_groups(&groups);
    }
    builder.build().map(Arc::new).map_err(|error| End::Failed(error.to_string()))
}

struct Connection<'a> {
    config: Arc<Config>,
    identity: DtlsIdentity,
    /// The certificate that the test names is of a kind that DTLS tunnels do not have.
    shows_own: bool,
    flags: &'a Flags,
    wire: Wire,
    /// The runner's clock.
    now: Instant,
    out: Output,
    is_up: bool,
}

impl Connection<'_> {
    fn run(&mut self) -> Result<(), End> {
        let (hello, flight) = self.hello()?;
        self.look_at(&hello)?;
        let modern =
            Modern::new(Arc::clone(&self.config), self.identity.clone(), self.now, &mut self.out)?;
        let mut engine = Engine::Modern(Box::new(modern));
        for datagram in flight {
            self.take(&mut engine, &datagram)?;
        }
        self.exchange(&mut engine)
    }

    /// What stands in front of the engine: the whole hello is read before there is one.
    fn hello(&mut self) -> Result<(Box<DtlsHello>, Vec<Vec<u8>>), End> {
        let mut reader = HelloReader::new();
        let mut flight = Vec::new();
        loop {
            match self.wire.next()? {
                Asked::Datagram(datagram) => {
                    if flight.is_empty() && !is_first_flight(&datagram) {
                        continue;
                    }
                    let progress = reader.push(&datagram);
                    flight.push(datagram);
                    match progress {
                        Progress::Done(hello) => return Ok((hello, flight)),
                        Progress::NeedMore => {}
                        Progress::NotHello(problem) => {
                            return Err(End::Failed(format!("no hello: {problem:?}")));
                        }
                    }
                }
                Asked::Wait(time) => {
                    self.wire.waited()?;
                    self.now += time;
                }
                Asked::Unsupported(what) => return Err(End::Unimplemented(what.to_owned())),
                Asked::Timeout(_) => {}
                Asked::End => return Err(End::Failed("no ClientHello".to_owned())),
            }
        }
    }

    /// Says where a test is about what DTLS tunnels do not have.
    fn look_at(&self, hello: &DtlsHello) -> Result<(), End> {
        let lacks = |what: &str| Err(End::Unimplemented(what.to_owned()));
        if !hello.offers_1_3() && self.flags.may_speak_1_2 {
            return lacks("a DTLS 1.2 client");
        }
        let signatures = &hello.hello.signature_algorithms;
        if self.shows_own && !ECDSA.iter().any(|ours| signatures.contains(ours)) {
            return lacks("a client that takes no ECDSA signature");
        }
        Ok(())
    }

    fn exchange(&mut self, engine: &mut Engine) -> Result<(), End> {
        loop {
            if self.out.connected && !self.is_up {
                self.is_up = true;
                self.begin(engine)?;
            }
            if self.out.closed || (self.is_up && self.flags.shuts_down) {
                engine.close(&mut self.out);
                return self.flush();
            }
            match self.wire.next()? {
                Asked::Datagram(datagram) => self.take(engine, &datagram)?,
                Asked::Wait(time) => {
                    self.wire.waited()?;
                    self.now += time;
                    self.out.wake = None;
                    let ticked = engine.tick(self.now, &mut self.out);
                    self.flush()?;
                    ticked?;
                }
                Asked::Timeout(expected) => self.check_timer(expected)?,
                Asked::Unsupported(what) => return Err(End::Unimplemented(what.to_owned())),
                Asked::End if self.is_up && !self.flags.must_hear_goodbye => return Ok(()),
                Asked::End => return Err(End::Failed("the runner went away".to_owned())),
            }
        }
    }

    fn begin(&mut self, engine: &mut Engine) -> Result<(), End> {
        if self.flags.writes_first {
            engine.send(b"hello", &mut self.out)?;
        }
        self.flush()
    }

    fn take(&mut self, engine: &mut Engine, datagram: &[u8]) -> Result<(), End> {
        let taken = engine.datagram(self.now, datagram, &mut self.out);
        if taken.is_ok() {
            // The answer that the runner waits for.
            for record in std::mem::take(&mut self.out.records) {
                let echo: Vec<u8> = record.iter().map(|byte| byte ^ 0xff).collect();
                if !echo.is_empty() {
                    engine.send(&echo, &mut self.out)?;
                }
            }
        }
        self.flush()?;
        Ok(taken?)
    }

    fn check_timer(&self, expected: Option<Duration>) -> Result<(), End> {
        let runs = self.out.wake.map(|at| at.saturating_duration_since(self.now));
        match (expected, runs) {
            (None, None) => Ok(()),
            (Some(expected), Some(runs)) if expected == runs => Ok(()),
            _ => Err(End::Failed(format!("the timer runs for {runs:?}, not {expected:?}"))),
        }
    }

    fn flush(&mut self) -> Result<(), End> {
        for datagram in self.out.datagrams.drain(..) {
            self.wire.send(&datagram)?;
        }
        Ok(())
    }
}
