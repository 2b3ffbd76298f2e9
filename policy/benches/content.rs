//! Prints how fast content profiles are searched: each kind over prose, over digits, and over what is made
//! to take long; and that twice the text takes twice the time.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use policy::content::{ProfileSource, Profiles, Text};

const BYTES: usize = 1 << 20;
const ROUNDS: usize = 5;

/// Nested repetition: what makes an automaton that goes back take for ever.
const PATTERN: &str = r"(?:[a-z]+)+-[0-9]{4}";

fn main() {
    let entities = [
        "aws-access-key",
        "email-address",
        "github-token",
        "google-api-key",
        "iban",
        "jwt",
        "openai-key",
        "payment-card",
        "private-key",
        "slack-token",
        "stripe-key",
        "us-ssn",
    ];
    let texts = [
        ("prose", repeated("The quick brown fox jumps over the lazy dog, again. ")),
        ("digits", repeated("4111 1111 1111 1112 ")),
        ("one long word", repeated("a")),
        ("no end of addresses", repeated("a.b@c.d-")),
    ];
    println!("MB/s over 1 MiB (and the time of 2 MiB, in times that of 1)");
    for (name, text) in &texts {
        println!("{name}:");
        for entity in entities {
            let entities = [entity.to_owned()];
            let source =
                ProfileSource { name: "p", entities: &entities, ..ProfileSource::default() };
            told(entity, source, text);
        }
        let patterns = [PATTERN.to_owned()];
        told(
            PATTERN,
            ProfileSource { name: "p", patterns: &patterns, ..ProfileSource::default() },
            text,
        );
        let terms: Vec<String> =
            (0..10_000).map(|number| format!("term number {number}")).collect();
        told(
            "10,000 terms",
            ProfileSource { name: "p", terms: &terms, ..ProfileSource::default() },
            text,
        );
    }
}

fn repeated(text: &str) -> Vec<u8> {
    text.bytes().cycle().take(2 * BYTES).collect()
}

fn told(name: &str, source: ProfileSource<'_>, text: &[u8]) {
    let profiles = Profiles::compile([source]).unwrap();
    let one = fastest(&profiles, text.get(..BYTES).unwrap());
    let two = fastest(&profiles, text);
    let rate = 1e-6 * BYTES as f64 / one.as_secs_f64();
    println!("  {name:24} {rate:8.0} ({:.2})", two.as_secs_f64() / one.as_secs_f64());
}

fn fastest(profiles: &Profiles, text: &[u8]) -> Duration {
    let mut fastest = Duration::MAX;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        black_box(profiles.search(&Text::of(b"", black_box(text))));
        fastest = fastest.min(begun.elapsed());
    }
    fastest
}
