//! h3i, the HTTP/3 tester of quiche, as a client: asks a gateway's server a list of questions and says which were not
//! answered as they must be.
//!
//!     h3i-peer tunnel|inside HOST:PORT ADDRESS...
//!
//! Each question is asked over a connection of its own, at the addresses in turn.
//! `tunnel` is a server of CONNECT alone that wants a token, `inside` one of all methods. Exit status 0 means that every
//! answer was right, 1 that not, 2 wrong usage.

mod questions;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use h3i::actions::h3::{Action, StreamEvent, StreamEventType, WaitType};
use h3i::client::connection_summary::ConnectionSummary;
use h3i::client::sync_client;
use h3i::config::Config;
use h3i::frame::H3iFrame;
use h3i::quiche::ConnectionError;

use questions::{Answer, Question, REQUEST, Server, questions};

/// Violations of the connection show within this time.
const PATIENCE: Duration = Duration::from_secs(2);
const SILENCE_MAX_MS: u64 = 10_000;
const NO_ERROR: u64 = 0x100;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, authority, addresses @ ..] = arguments.as_slice() else { return usage() };
    let server = match mode.as_str() {
        "tunnel" => Server::Tunnel,
        "inside" => Server::Inside,
        _ => return usage(),
    };
    if addresses.is_empty() {
        return usage();
    }
    let asked = questions(server, authority);
    // A name twice would hide one of the two.
    let names: BTreeSet<_> = asked.iter().map(|question| question.name).collect();
    assert_eq!(names.len(), asked.len());
    let count = asked.len();
    let wrong: Vec<String> = asked
        .into_iter()
        .zip(addresses.iter().cycle())
        .filter_map(|(question, address)| ask(address, authority, question).err())
        .collect();
    for one in &wrong {
        eprintln!("{one}");
    }
    println!("{} of {count} answered as they must be", count - wrong.len());
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("usage: h3i-peer tunnel|inside HOST:PORT ADDRESS...");
    ExitCode::from(2)
}

fn ask(address: &str, authority: &str, question: Question) -> Result<(), String> {
    let Question { name, mut actions, answer } = question;
    let wait = match answer {
        Answer::Status(_) | Answer::Reset(_) => {
            let event_type = StreamEventType::Headers;
            WaitType::StreamEvent(StreamEvent { stream_id: REQUEST, event_type })
        }
        Answer::Closed(_) => WaitType::WaitDuration(PATIENCE),
    };
    actions.push(Action::FlushPackets);
    actions.push(Action::Wait { wait_type: wait });
    let error = ConnectionError { is_app: true, error_code: NO_ERROR, reason: Vec::new() };
    actions.push(Action::ConnectionClose { error });
    let config = Config::new()
        .with_host_port(authority.to_owned())
        .with_connect_to(address.to_owned())
        .verify_peer(false)
        .with_idle_timeout(SILENCE_MAX_MS);
    let summary = sync_client::connect(config, actions, None)
        .map_err(|error| format!("{name}: {error:?}"))?;
    let got = answer_of(&summary);
    if got == Some(answer) { Ok(()) } else { Err(format!("{name}: {got:x?}, not {answer:x?}")) }
}

/// The end of the connection, or else of the request.
fn answer_of(summary: &ConnectionSummary) -> Option<Answer> {
    if let Some(error) = summary.conn_close_details.peer_error() {
        return Some(Answer::Closed(error.error_code));
    }
    summary.stream_map.stream(REQUEST).into_iter().find_map(|frame| match frame {
        H3iFrame::Headers(head) => {
            let status = head.status_code()?;
            Some(Answer::Status(String::from_utf8_lossy(status).parse().ok()?))
        }
        H3iFrame::ResetStream(reset) => Some(Answer::Reset(reset.error_code)),
        H3iFrame::QuicheH3(_) => None,
    })
}
