//! Times the catalog: how long it takes to load, to name a host, and to classify a request.
#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::hint::black_box;
use std::time::Instant;

use policy::catalog::{Catalog, Problem, RequestView};

/// Batches of calls per figure, of which the fastest counts: others were disturbed.
const BATCHES: usize = 500;
const CALLS: u32 = 200;

/// Method, host, path, query, content type, body.
type Sample = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

const SAMPLES: &[Sample] = &[
    ("GET", "www.example.test", "/news/today", "", "", ""),
    ("PUT", "media.s3.eu-west-1.amazonaws.com", "/2026/report.pdf", "", "application/pdf", ""),
    ("GET", "github.com", "/acme/widget/blob/main/src/a.rs", "", "", ""),
    ("GET", "graph.microsoft.com", "/v1.0/me/drive/items/01AB/content", "", "", ""),
    ("POST", "acme.slack.com", "/api/chat.postMessage", "_x_id=1", "application/json", SLACK),
    ("POST", "api.github.com", "/graphql", "", "application/json", GRAPHQL),
];
const SLACK: &str = r#"{"channel":"C024BE91L","text":"hello"}"#;
const GRAPHQL: &str = r#"{"query":"mutation { addComment(input: {}) { clientMutationId } }"}"#;

fn main() -> Result<(), Vec<Problem>> {
    let started = Instant::now();
    let catalog = Catalog::builtin()?;
    println!("load {:>32.1?}", started.elapsed());
    each("site", || {
        black_box(catalog.site(black_box("a.b.media.s3.eu-west-1.amazonaws.com")));
    });
    for (method, host, path, query, media, body) in SAMPLES {
        let header = |name: &str| (name == "content-type").then_some(*media);
        let view =
            RequestView { method, host, path, query, header: &header, body: Some(body.as_bytes()) };
        each(&format!("{method} {host}"), || {
            black_box(catalog.classify(black_box(&view)));
        });
    }
    Ok(())
}

fn each(name: &str, call: impl Fn()) {
    let batch = || {
        let started = Instant::now();
        for _ in 0..CALLS {
            call();
        }
        started.elapsed() / CALLS
    };
    let best = (0..BATCHES).map(|_| batch()).min().unwrap_or_default();
    println!("{name:<40} {best:>8.0?}");
}
