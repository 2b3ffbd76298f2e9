//! `sluice-load`: many synthetic clients at once, at a fixed rate or as fast as it goes.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod gauge;
mod histogram;
mod inside;
mod mix;
mod packets;
mod report;
mod run;
mod target;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Exit status: every request was answered.
const FINE: u8 = 0;
/// Some requests failed.
const PROBLEM: u8 = 1;
/// The command line cannot be served.
const WRONG_USAGE: u8 = 2;

/// Loads a Sluice gateway with synthetic clients.
///
/// Without --rate each stream sends its next request when the last is answered (closed loop). With
/// --rate requests start at fixed times whether or not the gateway keeps up (open loop), and latency
/// counts from the time a request was due, so that waiting in line is not hidden.
#[derive(Debug, Parser)]
#[command(name = "sluice-load", version)]
pub(crate) struct Options {
    /// Tunnel name and port, `gateway-T.D:PORT`; with --method explicit the listener's `host:port`
    #[arg(long)]
    gateway: String,
    /// Address to dial instead of resolving the name in --gateway
    #[arg(long, value_name = "IP")]
    address: Option<std::net::IpAddr>,
    /// Device certificate and key, as `sluice enroll` writes them
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// CA of the gateway's own certificate
    #[arg(long, value_name = "FILE")]
    tunnel_ca: Option<PathBuf>,
    /// The tenant's interception CA
    #[arg(long, value_name = "FILE")]
    intercept_ca: Option<PathBuf>,
    /// `proxy.url` of `sluice enroll`, for --method explicit; without it, the one beside --identity
    #[arg(long, value_name = "FILE")]
    proxy_url: Option<PathBuf>,
    /// Access method
    #[arg(long, value_enum, default_value_t = Method::Tls)]
    method: Method,
    /// Protocol towards the gateway; with http1 each stream is a tunnel of its own
    #[arg(long, value_enum, default_value_t = Version::Http2)]
    leg: Version,
    /// Protocol inside the intercepted TLS; http3 is over the tunnel's UDP
    #[arg(long, value_enum, default_value_t = InnerVersion::Http1)]
    inner: InnerVersion,
    /// Tunnels held at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tunnels: u32,
    /// Streams per tunnel; 0 only holds idle tunnels
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    streams: u32,
    /// Requests per second over all streams (open loop)
    #[arg(long, value_parser = positive)]
    rate: Option<f64>,
    /// Seconds of load once every stream is up
    #[arg(long, default_value = "10", value_parser = seconds)]
    duration: Duration,
    /// A mix of requests: lines of `WEIGHT METHOD URL [BODY_BYTES]`, `#` begins a comment
    #[arg(long, value_name = "FILE")]
    mix: Option<PathBuf>,
    /// What to fetch
    #[arg(long, required_unless_present = "mix")]
    url: Option<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Method {
    Tls,
    Quic,
    Dtls,
    Openconnect,
    Explicit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Version {
    Http1,
    Http2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InnerVersion {
    Http1,
    Http2,
    Http3,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("no runtime: {error}")),
    };
    // Sockets belong to a runtime.
    let context = runtime.enter();
    let target = match target::Target::new(&options) {
        Ok(target) => target,
        Err(why) => return refuse(&why),
    };
    let mix = match mix::Mix::of(options.mix.as_deref(), options.url.as_deref()) {
        Ok(mix) => mix,
        Err(why) => return refuse(&why),
    };
    let progress = std::io::stderr().is_terminal();
    drop(context);
    let outcome = runtime.block_on(run::run(&options, target, mix, progress));
    // Streams still waiting for an answer are not waited for.
    runtime.shutdown_background();
    let text = if options.json { report::json(&outcome) } else { report::table(&outcome) };
    if writeln!(std::io::stdout(), "{text}").is_err() {
        return ExitCode::from(PROBLEM);
    }
    ExitCode::from(if outcome.errors.is_empty() && outcome.up() { FINE } else { PROBLEM })
}

fn refuse(why: &str) -> ExitCode {
    // Nobody is left to tell where stderr is closed.
    writeln!(std::io::stderr(), "sluice-load: {why}").ok();
    ExitCode::from(WRONG_USAGE)
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("a number above 0".to_owned()),
    }
}

/// Longest run: a day.
const DURATION_S_MAX: f64 = 86_400.0;

fn seconds(text: &str) -> Result<Duration, String> {
    match text.trim_end_matches('s').parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= DURATION_S_MAX => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err("seconds, above 0 and at most 86400".to_owned()),
    }
}
