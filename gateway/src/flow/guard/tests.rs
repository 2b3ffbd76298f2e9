#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;

/// A guard as configured by default, listening on `listening`, with `opened` networks.
fn guard(listening: &[&str], opened: &[&str]) -> Guard {
    Guard::new(GuardSettings {
        listening: listening.iter().map(|text| text.parse().unwrap()).collect(),
        allow_private: opened.iter().map(|text| text.parse().unwrap()).collect(),
        connect_ports: vec![1..=24, 26..=65535],
    })
}

fn ask(guard: &Guard, host: &str, port: u16) -> Result<(), Refused> {
    match Host::parse(host.as_bytes()) {
        Ok(host) => guard.check_name(&host, port),
        Err(error) => panic!("`{host}`: {error}"),
    }
}

const EVERYTHING: [&str; 2] = ["0.0.0.0/0", "::/0"];

#[test]
fn public_destinations_pass() {
    let guard = guard(&["0.0.0.0:8443"], &[]);
    for host in [
        "example.com",
        "1.1.1.1",
        "8.8.8.8",
        "172.32.0.1",
        "100.128.0.1",
        "192.0.1.1",
        "9.255.255.255",
        "223.255.255.255",
        "[2606:4700::1111]",
        "[2a00:1450::1]",
        "[::ffff:8.8.8.8]",
        "[64:ff9b::808:808]",
        "[2002:808:808::1]",
    ] {
        assert_eq!(ask(&guard, host, 443), Ok(()), "{host}");
    }
}

#[test]
fn sd_01_loopback_and_unspecified_are_refused() {
    let guard = guard(&[], &[]);
    for host in [
        "127.0.0.1",
        "127.255.255.254",
        "[::1]",
        "localhost",
        "a.localhost",
        "LOCALHOST.",
        "0.0.0.0",
        "0.1.2.3",
        "[::]",
    ] {
        assert_eq!(ask(&guard, host, 443), Err(Refused::Private), "{host}");
    }
    assert_eq!(Refused::Private.label(), "private_destination");
}

#[test]
fn sd_02_every_range_that_is_not_public_is_refused_from_end_to_end() {
    let guard = guard(&[], &[]);
    for host in [
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "169.254.0.0",
        "169.254.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.0",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.0",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.255",
        "[fc00::]",
        "[fdff:ffff::1]",
        "[fe80::1]",
        "[febf::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[100::1]",
        "[2001:db8::1]",
        "[3fff::1]",
        "[2001::1]",
        "[5f00::1]",
        "[4000::1]",
        "[64:ff9b:1::1]",
        "[1::1]",
    ] {
        assert_eq!(ask(&guard, host, 443), Err(Refused::Private), "{host}");
    }
}

#[test]
fn sd_03_metadata_services_are_refused_whatever_is_opened() {
    let guard = guard(&[], &EVERYTHING);
    for host in [
        "169.254.169.254",
        "169.254.170.2",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "[fd00:ec2::254]",
        "[fd20:ce::254]",
        "metadata.google.internal",
        "METADATA.google.internal.",
        "metadata",
        "[::ffff:169.254.169.254]",
        "[::169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
    ] {
        assert_eq!(ask(&guard, host, 80), Err(Refused::Metadata), "{host}");
    }
}

#[test]
fn sd_04_no_spelling_or_wrapping_of_a_private_address_passes() {
    let guard = guard(&[], &[]);
    for host in [
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[2002:a00:1::1]",
        "[::ffff:0:127.0.0.1]",
        "[2a00:1450::5efe:a00:1]",
        "[2a00:1450::200:5efe:a00:1]",
        "[fe80::5efe:8.8.8.8]",
        "[2001:0:a00:1::f5ff:fffe]",
    ] {
        assert_eq!(ask(&guard, host, 443), Err(Refused::Private), "{host}");
    }
}

#[test]
fn sd_05_the_answer_counts_not_the_name() {
    let guard = guard(&[], &[]);
    assert_eq!(ask(&guard, "innocent.test", 443), Ok(()));
    let answer: SocketAddr = "10.1.2.3:443".parse().unwrap();
    assert_eq!(guard.check_address(answer), Err(Refused::Private));
}

#[test]
fn sd_14_the_gateways_own_sockets_are_refused_even_in_an_opened_network() {
    let opened = ["127.0.0.0/8", "::1/128"];
    let guard = guard(&["0.0.0.0:8443", "[::]:8443", "127.0.0.1:9901", "192.0.2.7:3128"], &opened);
    for (host, port) in [
        ("127.0.0.1", 8443),
        ("127.9.9.9", 8443),
        ("[::1]", 8443),
        ("[::ffff:127.0.0.1]", 8443),
        ("0.0.0.0", 8443),
        ("127.0.0.1", 9901),
        ("192.0.2.7", 3128),
        ("[64:ff9b::192.0.2.7]", 3128),
    ] {
        assert_eq!(ask(&guard, host, port), Err(Refused::OwnAddress), "{host}:{port}");
    }
    assert_eq!(ask(&guard, "127.0.0.1", 8444), Ok(()), "every other port stays open");
    assert_eq!(ask(&guard, "127.0.0.2", 9901), Ok(()), "another address of the network too");
    assert_eq!(ask(&guard, "1.1.1.1", 8443), Ok(()), "a stranger's 8443 is no business of ours");
}

#[test]
fn an_opened_network_opens_itself_and_nothing_else() {
    let guard = guard(&[], &["10.1.0.0/16", "fd12::/32"]);
    for host in ["10.1.2.3", "[::ffff:10.1.2.3]", "[fd12::7]"] {
        assert_eq!(ask(&guard, host, 443), Ok(()), "{host}");
    }
    for host in ["10.2.0.1", "localhost", "127.0.0.1", "[fd13::7]"] {
        assert_eq!(ask(&guard, host, 443), Err(Refused::Private), "{host}");
    }
    assert_eq!(ask(&self::guard(&[], &["127.0.0.0/8"]), "localhost", 443), Ok(()));
}

#[test]
fn only_the_configured_ports_are_dialled() {
    let guard = guard(&[], &EVERYTHING);
    for port in [0, 25] {
        assert_eq!(ask(&guard, "example.com", port), Err(Refused::Port));
        assert_eq!(ask(&guard, "1.1.1.1", port), Err(Refused::Port));
    }
    for port in [1, 24, 26, 65535] {
        assert_eq!(ask(&guard, "example.com", port), Ok(()));
    }
}
