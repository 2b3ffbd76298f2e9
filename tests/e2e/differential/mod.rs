//! The differential test: each shape direct and through the gateway, over each pair of HTTP versions;
//! what arrives is compared byte by byte.

mod accepted;
mod client;
mod hop;
mod origin;
mod seen;
pub mod shape;
mod wire1;
pub mod wire2;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tests::client::tls;
use tests::client::tunnel::{Tunnel, TunnelTo};
use tests::{BoxStream, Gateway, Origin};
use tokio::net::TcpStream;

use crate::shapes;
use accepted::{ACCEPTED, Place, View};
use client::{Line, Outcome};
use origin::Book;
use seen::Seen;
use shape::{Ends, Shape, V};

/// What the promise names: at least that many shapes.
const SHAPES_MIN: usize = 300;
/// A shape that takes longer waits for some time limit: it is told, to be looked at.
const SLOW: std::time::Duration = std::time::Duration::from_secs(1);
/// The origins' names.
const NAMES: [(V, &str); 2] = [(V::One, "one.test"), (V::Two, "two.test")];

/// One way from client to origin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Lane {
    mark: &'static str,
    one: bool,
    to_one: bool,
    through: bool,
}

impl Lane {
    const fn new(mark: &'static str, one: bool, to_one: bool, through: bool) -> Self {
        Self { mark, one, to_one, through }
    }

    fn client(self) -> V {
        if self.one { V::One } else { V::Two }
    }

    fn origin(self) -> V {
        if self.to_one { V::One } else { V::Two }
    }

    fn takes(self, shape: &Shape) -> bool {
        let (client, origin) = (self.client(), self.origin());
        if self.through {
            return shape.clients.contains(&client) && shape.origins.contains(&origin);
        }
        // Direct exchanges are what both views of their version are compared with.
        shape.clients.contains(&client) || shape.origins.contains(&origin)
    }
}

const DIRECT: [Lane; 2] =
    [Lane::new("d1", true, true, false), Lane::new("d2", false, false, false)];
const THROUGH: [Lane; 4] = [
    Lane::new("11", true, true, true),
    Lane::new("12", true, false, true),
    Lane::new("21", false, true, true),
    Lane::new("22", false, false, true),
];

/// What one exchange left at both ends.
struct Exchanged {
    response: Seen,
    requests: Vec<Seen>,
}

/// Opens connections of one lane.
struct Way {
    lane: Lane,
    authority: String,
    name: String,
    config: Arc<rustls::ClientConfig>,
    tunnel: Option<TunnelTo>,
    open: Option<Tunnel>,
}

impl Way {
    async fn connect(&mut self) -> Line {
        let stream: BoxStream = match &self.tunnel {
            None => {
                let port = self.authority.rsplit(':').next().expect("a port");
                let tcp =
                    TcpStream::connect(format!("127.0.0.1:{port}")).await.expect("the origin");
                tcp.set_nodelay(true).expect("a socket");
                Box::new(tcp)
            }
            Some(to) => {
                if self.open.is_none() {
                    self.open = Some(to.connect().await.expect("a tunnel"));
                }
                let tunnel = self.open.as_mut().expect("a tunnel");
                tunnel.open(&self.authority).await.expect("a stream")
            }
        };
        let stream = tls::connect(stream, &self.name, Arc::clone(&self.config)).await;
        let http2 = self.lane.client() == V::Two;
        Line::new(Box::new(stream.expect("a handshake")), http2).await.expect("a connection")
    }

    async fn run(mut self, shapes: Arc<Vec<Shape>>, book: Arc<Book>) -> BTreeMap<usize, Exchanged> {
        let mut done = BTreeMap::new();
        let mut line = None;
        for (index, shape) in shapes.iter().enumerate() {
            if !self.lane.takes(shape) {
                continue;
            }
            let mark = format!("{index}.{}", self.lane.mark);
            let mut on = match line.take() {
                Some(line) => line,
                None => self.connect().await,
            };
            let begun = std::time::Instant::now();
            let Outcome { seen, goes_on } = on.exchange(shape, &self.authority, &mark).await;
            if goes_on {
                line = Some(on);
            } else {
                drop(on);
            }
            let requests = book.seen(&mark).await;
            if begun.elapsed() > SLOW {
                println!("slow: {} on lane {}: {:?}", shape.name, self.lane.mark, begun.elapsed());
            }
            done.insert(index, Exchanged { response: seen, requests });
        }
        done
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_arrives_as_it_does_direct() {
    let shapes = Arc::new(shapes::all());
    assert!(shapes.len() >= SHAPES_MIN, "{} shapes", shapes.len());
    let book = Book::new(Arc::clone(&shapes));
    let base = Origin::start().await;
    let gateway = Gateway::start(&base);
    let mut ports = BTreeMap::new();
    for (version, name) in NAMES {
        let port = origin::listen(version, name, base.pki(), Arc::clone(&book)).await;
        ports.insert(name, port);
    }
    let to = gateway.browser().tunnel_to().expect("a tunnel");
    let alice = gateway.alice();
    let mut running = Vec::new();
    for lane in DIRECT.into_iter().chain(THROUGH) {
        let (_, name) = NAMES[usize::from(lane.origin() == V::Two)];
        let trusted =
            if lane.through { alice.intercept_ca_pem.clone() } else { base.pki().roots_pem() };
        let config = tls::config(&trusted, None, &[lane.client().alpn()]).expect("TLS");
        let way = Way {
            lane,
            authority: format!("{name}:{}", ports[name]),
            name: name.to_owned(),
            config: Arc::new(config),
            tunnel: lane.through.then(|| to.clone()),
            open: None,
        };
        let running_way = way.run(Arc::clone(&shapes), Arc::clone(&book));
        running.push((lane, tokio::spawn(running_way)));
    }
    let mut lanes = BTreeMap::new();
    for (lane, run) in running {
        lanes.insert(lane, run.await.expect("a lane"));
    }
    let mut judge = Judge { failures: Vec::new(), used: BTreeSet::new(), compared: 0 };
    for lane in THROUGH {
        for (index, through) in &lanes[&lane] {
            let of = |version: V| &lanes[&DIRECT[usize::from(version == V::Two)]][index];
            judge.compare(&shapes[*index], lane, of(lane.origin()), of(lane.client()), through);
        }
    }
    judge.verdict(shapes.len());
}

/// Collects what differs.
struct Judge {
    failures: Vec<String>,
    /// Names of accepted differences that were met.
    used: BTreeSet<&'static str>,
    compared: usize,
}

impl Judge {
    fn compare(
        &mut self,
        shape: &Shape,
        lane: Lane,
        to_origin: &Exchanged,
        to_client: &Exchanged,
        through: &Exchanged,
    ) {
        self.compared += 1;
        let place = |view| Place { shape, client: lane.client(), origin: lane.origin(), view };
        let title = format!("{} over {:?} to {:?}", shape.name, lane.client(), lane.origin());
        if let Some((name, status)) = shape.refused {
            let refused = through.response.what == status.to_string();
            // What the origin answers wrongly it was asked; nothing else may reach it.
            if refused && (through.requests.is_empty() || shape.response.raw.is_some()) {
                self.used.insert(name);
            } else {
                self.failures.push(format!(
                    "{title}: not refused with {status} but {}, the origin saw {}",
                    through.response.what,
                    through.requests.len()
                ));
            }
            return;
        }
        let (direct, seen) = (&to_origin.requests, &through.requests);
        if direct.len() != seen.len() {
            let got = &through.response;
            self.failures.push(format!(
                "{title}: the origin saw {} requests direct, {} through; the client got `{}` {:?} {}",
                direct.len(),
                seen.len(),
                got.what,
                got.end,
                seen::show(&got.body[..got.body.len().min(200)])
            ));
            return;
        }
        for (direct, seen) in direct.iter().zip(seen) {
            self.differ(&title, &place(View::Origin), direct, seen);
        }
        // Who gave up does not look at the answer.
        if shape.request.ends == Ends::Properly {
            self.differ(&title, &place(View::Client), &to_client.response, &through.response);
        }
    }

    fn differ(&mut self, title: &str, place: &Place<'_>, direct: &Seen, through: &Seen) {
        let (mut direct, mut through) = (hop::stripped(direct), hop::stripped(through));
        let mut left = direct.differences(&through);
        for accepted in ACCEPTED {
            if left.is_empty() {
                return;
            }
            (accepted.level)(place, &mut direct, &mut through);
            let now = direct.differences(&through);
            if now != left && now.len() <= left.len() {
                self.used.insert(accepted.name);
            }
            left = now;
        }
        if !left.is_empty() {
            let view = place.view;
            self.failures
                .push(format!("{title}, the {view:?}'s view:\n    {}", left.join("\n    ")));
        }
    }

    fn verdict(self, shapes: usize) {
        println!("{shapes} shapes, {} exchanges through the gateway compared", self.compared);
        let mut failures = self.failures;
        for (name, ..) in accepted::rows() {
            if !self.used.contains(name) {
                failures.push(format!("no shape shows the accepted difference `{name}`"));
            }
        }
        let count = failures.len();
        assert!(failures.is_empty(), "{count} differences:\n{}", failures.join("\n"));
    }
}

#[test]
fn accepted_differences_are_those_of_the_document() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/standards.md");
    let text = std::fs::read_to_string(path).expect("docs/standards.md");
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let section = text.split("## Accepted differences").nth(1).expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let documented: Vec<String> =
        section.lines().filter(|line| line.starts_with("| `")).map(squeeze).collect();
    let coded: Vec<String> = accepted::rows()
        .map(|(name, what, reason)| squeeze(&format!("| `{name}` | {what} | {reason} |")))
        .collect();
    assert_eq!(
        coded,
        documented,
        "the table of docs/standards.md should be:\n{}",
        coded.join("\n")
    );
}
