//! Sluice end to end: a real gateway process between synthetic or real clients and a scriptable
//! origin. A test's name is a promise; a case of the attack catalogue carries its id.

mod admin;
mod aside;
mod boringssl;
mod browser;
mod by_hand;
mod capture;
mod certificates;
mod configuration;
mod connections;
mod content;
mod countries;
mod curl;
mod dataexport;
mod datagrams;
mod differential;
mod dtls;
mod durability;
mod endings;
mod entry;
mod fidelity;
mod first_light;
mod grpc;
mod guard;
mod h1_probes;
mod h2_conformance;
mod h3i;
mod http;
mod http3_programs;
mod inner_http3;
mod inner_http3_list;
mod inner_http3_rules;
mod interop;
mod isolation;
mod kafka;
mod kafka_security;
mod kernel_tcp;
mod labels;
mod leaf;
mod load;
mod messages;
mod old_clients;
mod one_day;
mod openconnect;
mod packets;
mod pages;
mod paths;
mod policy;
mod programs;
mod psk_peers;
mod quic;
mod sdks;
mod shapes;
mod silence;
mod sink_faults;
mod sinks;
mod soak;
mod structure;
mod suites;
mod tenants;
mod transfer;
mod tunnels;
mod upgrade;
mod websocket;

use serde_json::Value;
use tests::client::message::Reply;
use tests::{ClientError, Gateway};

/// How a request that must not pass was answered: on CONNECT, or inside the intercepted stream.
#[derive(Debug)]
struct Denial {
    status: u16,
    text: String,
}

/// The gateway's own refusal; panics where the request passed or was merely cut.
fn denial(outcome: Result<Reply, ClientError>) -> Denial {
    match outcome {
        Ok(reply) if reply.status >= 400 => Denial { status: reply.status, text: reply.text() },
        Err(ClientError::Refused { status, body, .. }) => {
            Denial { status, text: String::from_utf8_lossy(&body).into_owned() }
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// The status that a request got, on CONNECT or inside; panics where it got none.
fn status(outcome: Result<Reply, ClientError>) -> u16 {
    match outcome {
        Ok(reply) => reply.status,
        Err(ClientError::Refused { status, .. }) => status,
        Err(error) => panic!("no answer: {error}"),
    }
}

/// Whether a record says `label`, as the reason of a block or of an end.
fn says(event: &Value, label: &str) -> bool {
    event["block_reason"] == label || event["error"] == label
}

/// Waits for the flow or transaction that ended for `label` on its way to `host`.
async fn await_denial(gateway: &Gateway, host: &str, label: &str) -> Value {
    let fits = |event: &Value| {
        says(event, label)
            && (event["host"] == host
                || event["url"].as_str().is_some_and(|url| url.contains(host))
                || event["dest_ip"] == host)
    };
    gateway.await_event("acme", fits).await
}
