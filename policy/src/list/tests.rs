//! What lists cover, in each format, and what a million names cost.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::{DomainList, Labels, ListError, ListFormat, ReadList};

fn read(text: &str, format: Option<ListFormat>) -> ReadList {
    DomainList::read(text.as_bytes(), format).unwrap()
}

fn covers(list: &DomainList, host: &str) -> bool {
    list.find(host).is_some()
}

#[test]
fn a_plain_name_covers_itself_and_what_lies_below() {
    let text = "# bad ones\nexample.com\n*.only-below.test\n.Dotted.TEST.\nxn--bcher-kva.example # why\n192.0.2.7\r\n";
    let list = read(text, None);
    assert_eq!((list.format, list.list.len(), list.malformed), (ListFormat::Plain, 5, 0));
    for host in [
        "example.com",
        "a.b.example.com",
        "x.only-below.test",
        "dotted.test",
        "a.dotted.test",
        "xn--bcher-kva.example",
        "192.0.2.7",
    ] {
        assert!(covers(&list.list, host), "{host}");
    }
    for host in [
        "com",
        "notexample.com",
        "example.com.evil.test",
        "only-below.test",
        "1.192.0.2.7",
        "2.7",
        "",
    ] {
        assert!(!covers(&list.list, host), "{host}");
    }
}

#[test]
fn a_hosts_file_covers_just_its_names() {
    let text = "127.0.0.1 localhost\n::1 ip6-localhost\nfe80::1%lo0 localhost\n0.0.0.0 ads.test track.test # two\n0.0.0.0\n";
    let list = read(text, None);
    assert_eq!((list.format, list.list.len()), (ListFormat::Hosts, 2));
    assert_eq!((list.passed_over, list.malformed), (3, 1));
    assert_eq!(list.malformed_shown, [(5, "0.0.0.0".to_owned())]);
    assert!(covers(&list.list, "track.test") && !covers(&list.list, "a.track.test"));
    assert!(!covers(&list.list, "localhost"));
}

#[test]
fn adblock_rules_of_whole_domains_count_and_exceptions_win() {
    let text = "[Adblock Plus 2.0]\n! Title: x\n||ads.test^\n||half.test^$third-party\n||imp.test^$important\n\
                @@||good.ads.test^\nads.test##.banner\n/banner/*/img^\n||path.test/ads^\n##.ad\n";
    let list = read(text, None);
    assert_eq!((list.format, list.list.len()), (ListFormat::Adblock, 3));
    assert_eq!((list.passed_over, list.malformed), (5, 0));
    assert!(covers(&list.list, "x.ads.test") && covers(&list.list, "imp.test"));
    assert!(!covers(&list.list, "good.ads.test") && !covers(&list.list, "a.good.ads.test"));
    assert!(!covers(&list.list, "half.test") && !covers(&list.list, "path.test"));
}

#[test]
fn csv_gives_categories_and_the_longest_name_decides() {
    let text = "domain,category\nnews.test,News & Media\n\"ads.news.test\",ads|tracking\nbare.test\nnews.test,local\n";
    let list = read(text, Some(ListFormat::Csv));
    let of = |host: &str| list.list.find(host).map(|all| all.join(" "));
    assert_eq!(of("www.news.test").as_deref(), Some("local news-media"));
    assert_eq!(of("x.ads.news.test").as_deref(), Some("ads tracking"));
    assert_eq!(of("bare.test").as_deref(), Some(""));
    assert_eq!(of("other.test"), None);
    assert_eq!(read("a.test;ads\nb.test;ads\n", None).format, ListFormat::Csv);
}

#[test]
fn what_is_no_list_is_refused() {
    let refused = |text: &str| DomainList::read(text.as_bytes(), None).unwrap_err();
    let page = "<!doctype html>\n<html>\n<p>not found</p>\n</html>\n";
    assert_eq!(refused(page), ListError::NotOfFormat(ListFormat::Plain));
    assert_eq!(refused("[Adblock]\n||a.test/x^\n"), ListError::Empty(ListFormat::Adblock));
    assert!(DomainList::read(b"\xff\xfe\x00", None).is_err());
    let nothing = DomainList::read(b"# nothing yet\n", None).unwrap();
    assert!(nothing.list.is_empty() && nothing.list.find("a.test").is_none());
}

#[test]
fn a_tenants_labels_add_up_over_its_lists() {
    let mut labels = Labels::default();
    labels.add_list(Some("ads"), Arc::new(read("ads.test\n", None).list));
    labels.add_list(None, Arc::new(read("ads.test,spam\n", Some(ListFormat::Csv)).list));
    let refused =
        labels.add_own([("*.partner.test", "Partner"), ("no name", "x"), ("ads.test", "ads")]);
    assert_eq!(refused.unwrap(), ["no name"]);
    let of = |host: &str| {
        let mut found = super::labels::Found::new();
        labels.find(host, &mut found);
        found.join(" ")
    };
    assert_eq!(of("x.ads.test"), "ads spam");
    assert_eq!(of("a.partner.test"), "partner");
    assert_eq!(of("partner.test"), "");
    assert!(labels.categories().any(|category| category == "spam"));
}

/// Names as large lists have them: 20 bytes or so each.
fn many(names: u32) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut state = 1_u64;
    for n in 0..names {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let ends = ["com", "net", "de", "co.uk", "shop"];
        let end = ends.get(usize::try_from(state >> 40).unwrap() % ends.len()).unwrap();
        writeln!(text, "site{n}-{:x}.{end},cat-{}", state >> 44, n % 40).unwrap();
    }
    text
}

#[test]
fn a_name_takes_at_most_64_bytes() {
    // A quarter of a million, to be quick; the bench has the million.
    let list = read(&many(250_000), Some(ListFormat::Csv)).list;
    assert_eq!(list.len(), 250_000);
    assert!(list.bytes() <= 64 * 250_000, "{} bytes", list.bytes());
    assert!(list.find("www.site17-0.com").is_none());
}

/// What a list should say, found the slow way.
fn slowly(names: &BTreeMap<String, (bool, bool)>, host: &str) -> bool {
    let mut rest = host;
    let mut whole = true;
    loop {
        if let Some((itself, below)) = names.get(rest)
            && (if whole { *itself } else { *below })
        {
            return true;
        }
        match rest.split_once('.') {
            Some((_, parent)) => rest = parent,
            None => return false,
        }
        whole = false;
    }
}

proptest! {
    #[test]
    fn a_list_covers_what_its_lines_say(
        lines in prop::collection::vec("(\\*\\.|\\.)?[ab]{1,2}(\\.[abc]{1,2}){0,3}", 1..60),
        hosts in prop::collection::vec("[ab]{1,2}(\\.[abc]{1,2}){0,4}", 1..40),
    ) {
        let list = read(&lines.join("\n"), Some(ListFormat::Plain)).list;
        let mut names: BTreeMap<String, (bool, bool)> = BTreeMap::new();
        for line in &lines {
            let (name, itself) = match line.strip_prefix("*.") {
                Some(name) => (name, false),
                None => (line.strip_prefix('.').unwrap_or(line), true),
            };
            let entry = names.entry(name.to_owned()).or_default();
            *entry = (entry.0 | itself, true);
        }
        prop_assert_eq!(list.len(), names.len());
        for host in &hosts {
            prop_assert_eq!(covers(&list, host), slowly(&names, host), "{}", host);
        }
    }
}
