#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// What of one profile is in a body.
fn found(
    entities: &[&str],
    terms: &[&str],
    patterns: &[&str],
    (kind, body): (&str, &[u8]),
) -> Vec<(String, u64)> {
    let (entities, terms, patterns) = (texts(entities), texts(terms), texts(patterns));
    let source = ProfileSource {
        name: "p",
        entities: &entities,
        terms: &terms,
        patterns: &patterns,
        min_count: None,
    };
    let profiles = Profiles::compile([source]).unwrap();
    let hits = profiles.search(&Text::of(kind.as_bytes(), body));
    hits.into_iter().map(|hit| (hit.entity.into_string(), hit.count)).collect()
}

fn one(entity: &str, count: u64) -> Vec<(String, u64)> {
    vec![(entity.to_owned(), count)]
}

const CARD: &str = "4111 1111 1111 1111";

#[test]
fn entities_are_found_however_the_body_is_written() {
    let percents = CARD.replace(' ', "+").replace('4', "%34");
    let escapes: String = CARD.chars().map(|it| format!("\\u{:04x}", u32::from(it))).collect();
    let wide: Vec<u8> = "\u{feff}pay "
        .encode_utf16()
        .chain(CARD.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    for (kind, body) in [
        ("text/plain", format!("pay {CARD}!").into_bytes()),
        ("application/x-www-form-urlencoded; charset=utf-8", format!("n={percents}").into_bytes()),
        ("application/json", format!("{{\"n\":\"a\\n{CARD}\\n\"}}").into_bytes()),
        ("application/json", format!("{{\"n\":\"{escapes}\"}}").into_bytes()),
        ("", wide),
    ] {
        let text = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(
            found(&["payment-card"], &[], &[], (kind, &body)),
            one("payment-card", 1),
            "{text}"
        );
    }
}

#[test]
fn each_entity_has_an_example() {
    let body = format!(
        "AKIAIOSFODNN7EXAMPLE alice@acme.test ghp_{a36} AIza{a35} DE89 3704 0044 0532 0130 00\n\
         eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.{a36} sk-proj-{a36} 5555555555554444\n\
         -----BEGIN OPENSSH PRIVATE KEY----- xoxb-{a36} sk_live_{a36} 536-90-4399",
        a36 = "a".repeat(36),
        a35 = "a".repeat(35),
    );
    for entity in ENTITIES {
        let hits = found(&[entity.name], &[], &[], ("text/plain", body.as_bytes()));
        assert_eq!(hits, one(entity.name, 1), "{}", entity.name);
    }
}

#[test]
fn what_only_looks_like_one_is_none() {
    let body = "4111 1111 1111 1112, x4111111111111111x, 41111111111111110000000, 000-12-3456, \
                DE89 3704 0044 0532 0130 01, AKIAIOSFODNN7EXAMPL, alice@acme";
    for entity in ENTITIES {
        assert_eq!(found(&[entity.name], &[], &[], ("", body.as_bytes())), [], "{}", entity.name);
    }
}

#[test]
fn terms_are_words_whatever_their_case() {
    let body = "Project\n  APOLLO, apollos; ÄRGER ärgerlich; c++ and c+++";
    let count = |term: &str| found(&[], &[term], &[], ("", body.as_bytes()));
    assert_eq!(count("project apollo"), one("terms", 1));
    assert_eq!(count("apollo"), one("terms", 1));
    assert_eq!(count("ärger"), one("terms", 1));
    assert_eq!(count("C++"), one("terms", 2));
    assert_eq!(count("apoll"), []);
}

#[test]
fn a_profile_counts_from_its_fewest_hits_on() {
    let terms = texts(&["secret"]);
    let source =
        ProfileSource { name: "p", terms: &terms, min_count: Some(3), ..Default::default() };
    let profiles = Profiles::compile([source]).unwrap();
    let hits = |body: &str| profiles.search(&Text::of(b"", body.as_bytes())).len();
    assert_eq!((hits("secret secret"), hits("secret secret secret")), (0, 1));
}

#[test]
fn mistakes_are_told_with_their_places() {
    let (entities, patterns) = (texts(&["payment-cards"]), texts(&["a", "(", "x*", "(?=a)"]));
    let terms = texts(&["a", " "]);
    let source = ProfileSource {
        name: "p",
        entities: &entities,
        terms: &terms,
        patterns: &patterns,
        min_count: None,
    };
    let mistakes = Profiles::compile([source, ProfileSource { name: "q", ..Default::default() }]);
    let told: Vec<_> = mistakes.unwrap_err().into_iter().map(|it| (it.field, it.what)).collect();
    assert_eq!(
        told,
        [
            (Some(("entities", 0)), "no entity is named `payment-cards`".to_owned()),
            (Some(("terms", 1)), "an empty term".to_owned()),
            (Some(("patterns", 1)), "error: unclosed group".to_owned()),
            (Some(("patterns", 2)), "it matches nothing at all".to_owned()),
            (
                Some(("patterns", 3)),
                "error: look-around, including look-ahead and look-behind, is not supported"
                    .to_owned()
            ),
            (None, "a profile that looks for nothing".to_owned()),
        ]
    );
}

#[test]
fn pictures_and_archives_are_no_text() {
    for body in [&b"PK\x03\x04\x14\x00\x08"[..], b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"] {
        assert!(!Text::of(b"", body).is_text());
    }
    assert!(Text::of(b"", "Grüße\n\tan alle".as_bytes()).is_text());
}

const KINDS: &[&str] = &["", "application/json", "application/x-www-form-urlencoded"];

proptest! {
    #[test]
    fn any_bytes_are_searched(kind in prop::sample::select(KINDS), body in prop::collection::vec(any::<u8>(), 0..200)) {
        let names: Vec<_> = ENTITIES.iter().map(|entity| entity.name).collect();
        found(&names, &["a", "äb"], &["[a-z]{3}"], (kind, &body));
    }

    #[test]
    fn escapes_hide_nothing(text in "[ -~äöü€𝄞]{0,40}") {
        let json = serde_json::to_string(&text).unwrap();
        let reading = Text::of(b"application/json", json.as_bytes());
        let plain = reading.readings().last().unwrap();
        prop_assert_eq!(std::str::from_utf8(plain).unwrap(), format!("\"{text}\""));
    }
}
