//! Prints how long a verdict takes, at several sizes of policy, beside the reference evaluator.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use policy::Policy;
use policy::fact::{Fact, Facts, Gate, Key, Value};

/// How long each figure is measured.
const SPAN: Duration = Duration::from_millis(400);

/// Runs between two looks at the clock.
const BATCH: u32 = 16;

/// Rules of four shapes, as tenants write them: many names and apps, few keys each.
fn policy(rules: usize) -> Policy {
    let mut text = String::from("version: 1\nrules:\n");
    for n in 0..rules {
        let (group, app, port) = (n % 97, n % 211, 1024 + n % 5000);
        let rule = match n % 4 {
            0 => format!("{{ domain: [\"*.site{n}.test\", site{n}.test] }}, action: block"),
            1 => format!(
                "{{ app: app-{app}, activity: [upload, share], group: {{ not: [group-{group}] }}, \
                 instance: {{ not: [corporate] }} }}, action: block"
            ),
            2 => format!("{{ category: [category-{app}], dlp: [profile-{group}] }}, action: block"),
            _ => format!(
                "{{ dest_ip: 10.{}.{}.0/24, dest_port: {port} }}, action: block",
                n / 256 % 256,
                n % 256
            ),
        };
        writeln!(text, "  - {{ name: r{n}, match: {rule} }}").unwrap();
    }
    Policy::load("bench.yaml", &text).unwrap()
}

fn facts() -> Facts<'static> {
    let mut facts = Facts::new();
    let texts = [
        (Key::User, "alice@acme.test"),
        (Key::Device, "laptop-17"),
        (Key::DeviceClass, "managed"),
        (Key::Os, "linux"),
        (Key::AccessMethod, "tls"),
        (Key::SourceCountry, "DE"),
        (Key::Domain, "files.example.test"),
        (Key::DestCountry, "US"),
        (Key::App, "app-17"),
        (Key::Url, "https://files.example.test/upload/2026/report.pdf?session=abc"),
        (Key::Activity, "upload"),
        (Key::Method, "POST"),
        (Key::ContentType, "application/pdf"),
        (Key::FileType, "pdf"),
        (Key::FileName, "report.pdf"),
    ];
    for (key, text) in texts {
        facts.set(key, Fact::Known(Value::Text(text)));
    }
    facts.set(Key::Group, Fact::Known(Value::Texts(&["staff", "group-3", "group-17", "berlin"])));
    facts.set(Key::Category, Fact::Known(Value::Texts(&["cloud-storage"])));
    facts.set(Key::Instance, Fact::Known(Value::Texts(&["corporate", "acme-1"])));
    facts.set(Key::DestIp, Fact::Known(Value::Address("192.0.2.7".parse().unwrap())));
    facts.set(Key::DestPort, Fact::Known(Value::Number(443)));
    facts.set(Key::Risk, Fact::Known(Value::Number(20)));
    facts.set(Key::Dlp, Fact::Known(Value::Texts(&[])));
    facts.set(Key::Threat, Fact::Inapplicable);
    facts
}

/// The same exchange before anything but its name is known.
fn early() -> Facts<'static> {
    let all = facts();
    let mut facts = Facts::new();
    for key in Key::ALL.into_iter().filter(|key| key.gate() == Gate::Connect) {
        facts.set(key, all.fact(key));
    }
    facts
}

/// Nanoseconds of one run, the best of the batches: what the machine can do undisturbed.
fn time(mut run: impl FnMut()) -> f64 {
    let begun = Instant::now();
    let mut best = Duration::MAX;
    while begun.elapsed() < SPAN {
        let batch = Instant::now();
        for _ in 0..BATCH {
            run();
        }
        best = best.min(batch.elapsed());
    }
    best.as_secs_f64() * 1e9 / f64::from(BATCH)
}

fn main() {
    println!(
        "{:>7} {:>14} {:>14} {:>16} {:>10}",
        "rules", "head, ns", "connect, ns", "reference, ns", "load, ms"
    );
    let (facts, early) = (facts(), early());
    for rules in [5, 10, 100, 1_000, 10_000] {
        let begun = Instant::now();
        let policy = policy(rules);
        let load = begun.elapsed().as_secs_f64() * 1e3;
        let head = time(|| drop(black_box(policy.judge(Gate::RequestHead, black_box(&facts)))));
        let connect = time(|| drop(black_box(policy.connect(black_box(&early)))));
        let slow = policy.reference();
        let reference = time(|| drop(black_box(slow.judge(Gate::RequestHead, black_box(&facts)))));
        println!("{rules:>7} {head:>14.0} {connect:>14.0} {reference:>16.0} {load:>10.1}");
    }
}
