#![expect(clippy::unwrap_used, reason = "tests")]

use policy::decrypt::DecryptSource;

use super::*;

const FIRST: &str = "t13d1516h2_8daaf6152771_e5627efa2ab1";
/// The same program with a ticket: one extension more.
const RESUMING: &str = "t13d1517h2_8daaf6152771_b0da82dd1658";
const OTHER: &str = "t13d3112h1_e8f1e7e78f70_1f22a2ca17c4";

fn met<'a>(host: &'a str, device: Option<&'a str>, ja4: &'a str) -> Encounter<'a> {
    Encounter { host, port: 443, user: "alice@acme.test", device, app: None, ja4: Some(ja4) }
}

fn laptop() -> Encounter<'static> {
    met("pinned.test", Some("laptop-1"), FIRST)
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn one_refusal_passes_nothing_and_two_pass_one_program_of_one_device_at_one_host() {
    let (pinned, now) = (Pinned::default(), Instant::now());
    assert!(!pinned.learn(&laptop(), Sign::Refused, now));
    assert!(!pinned.passes(&laptop(), now));
    assert!(pinned.learn(&laptop(), Sign::Refused, now + SECOND));
    assert!(pinned.passes(&laptop(), now + SECOND));
    assert!(pinned.passes(&met("pinned.test", Some("laptop-1"), RESUMING), now + SECOND));
    for other in [
        met("pinned.test", Some("laptop-1"), OTHER),
        met("pinned.test", Some("laptop-2"), FIRST),
        met("pinned.test", None, FIRST),
        met("other.test", Some("laptop-1"), FIRST),
        Encounter { port: 8443, ..laptop() },
        Encounter { ja4: None, ..laptop() },
    ] {
        assert!(!pinned.passes(&other, now + SECOND), "{other:?}");
    }
    assert!(!Pinned::default().passes(&laptop(), now + SECOND), "another tenant's memory");
}

#[test]
fn it_takes_three_closed_connections_with_none_used_between() {
    let (pinned, now) = (Pinned::default(), Instant::now());
    pinned.learn(&laptop(), Sign::Closed, now);
    pinned.learn(&laptop(), Sign::Closed, now);
    pinned.trusts(&laptop());
    pinned.learn(&laptop(), Sign::Closed, now);
    pinned.learn(&laptop(), Sign::Closed, now);
    assert!(!pinned.passes(&laptop(), now));
    pinned.learn(&laptop(), Sign::Closed, now);
    assert!(pinned.passes(&laptop(), now));
}

#[test]
fn signs_far_apart_are_not_added_up_and_a_pass_ends() {
    let (pinned, now) = (Pinned::default(), Instant::now());
    pinned.learn(&laptop(), Sign::Refused, now);
    let later = now + LEARNING_TIME_MAX + SECOND;
    pinned.learn(&laptop(), Sign::Refused, later);
    assert!(!pinned.passes(&laptop(), later));
    pinned.learn(&laptop(), Sign::Refused, later);
    assert!(pinned.passes(&laptop(), later + PASS_TIME - SECOND));
    assert!(!pinned.passes(&laptop(), later + PASS_TIME));
    pinned.learn(&laptop(), Sign::Refused, later + PASS_TIME);
    assert!(!pinned.passes(&laptop(), later + PASS_TIME), "learned from the start again");
}

#[test]
fn what_is_remembered_is_bounded() {
    let (pinned, now) = (Pinned::default(), Instant::now());
    for number in 0..3 * PROGRAMS_MAX {
        let host = format!("h{number}.test");
        pinned.learn(&met(&host, Some("laptop-1"), FIRST), Sign::Refused, now);
        let met = met(&host, Some("laptop-1"), FIRST);
        pinned.note(&met, Reason::ClientPinned, false, SystemTime::now());
    }
    pinned.programs.run_pending_tasks();
    pinned.sightings.run_pending_tasks();
    assert!(pinned.programs.entry_count() <= PROGRAMS_MAX);
    assert!(pinned.all().len() as u64 <= SIGHTINGS_MAX);
}

#[test]
fn a_sighting_is_counted_by_host_device_and_reason() {
    let (pinned, now) = (Pinned::default(), SystemTime::now());
    pinned.note(&laptop(), Reason::ClientPinned, false, now);
    pinned.note(&met("pinned.test", Some("laptop-1"), OTHER), Reason::ClientPinned, true, now);
    pinned.note(&laptop(), Reason::NotHttp, false, now);
    pinned.note(&met("pinned.test", Some("laptop-2"), FIRST), Reason::ClientPinned, false, now);
    let all = pinned.all();
    assert_eq!(all.len(), 3);
    let first = all.first().unwrap();
    assert_eq!((first.count, first.passed, first.ja4.as_deref()), (2, 1, Some(OTHER)));
}

#[test]
fn every_suggested_rule_is_one() {
    let pinned = Pinned::default();
    for (host, port) in
        [("pinned.test", 443), ("mail.test", 993), ("192.0.2.1", 443), ("2001:db8::1", 8443)]
    {
        let met = Encounter { port, ..met(host, Some("laptop-1"), FIRST) };
        pinned.note(&met, Reason::NotHttp, false, SystemTime::now());
    }
    for sighting in pinned.all() {
        let file = format!("decrypt:\n  rules:\n{}", sighting.suggested_rule());
        let rules = DecryptSource::find("tenant.yaml", &file).unwrap().compile("tenant.yaml");
        assert!(rules.is_ok(), "{file}: {rules:?}");
    }
}
