//! Reads the values of one match key: texts, numbers, networks and windows of the week.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::tz::TimeZone;

use crate::error::Problems;
use crate::fact::{Key, KeyKind};
use crate::pattern::Pattern;
use crate::rule::{Test, Want};
use crate::window::{self, DAY, Window};
use crate::yaml::{Node, Tree};

use super::{known_entries, mapping};

const SIZES: &str = "a size such as `10MiB`, `\">10MiB\"` or `\"1MiB-10MiB\"`";
const WINDOWS: &str =
    "`{days: [mon-fri], from: \"08:00\", to: \"18:00\", zone: Europe/Berlin}` or that as one text";

/// A scalar, a list, or `{not: …}` of either.
pub(super) fn condition(key: Key, node: &Node, problems: &mut Problems) -> (bool, Vec<Test>) {
    if let Tree::Map(entries) = &node.value
        && entries.first().is_some_and(|(name, _)| name.text() == Some("not"))
    {
        for (extra, _) in entries.iter().skip(1) {
            let what = format!("`{}` beside `not`", extra.text().unwrap_or_else(|| extra.kind()));
            problems.error(extra.at, what, "`not` alone");
        }
        let tests = entries.first().map_or_else(Vec::new, |(_, value)| list(key, value, problems));
        return (true, tests);
    }
    (false, list(key, node, problems))
}

fn list(key: Key, node: &Node, problems: &mut Problems) -> Vec<Test> {
    match &node.value {
        Tree::List(items) if items.is_empty() => {
            problems.error(node.at, format!("`{}` has an empty list", key.name()), "a value");
            Vec::new()
        }
        Tree::List(items) => items.iter().filter_map(|item| test(key, item, problems)).collect(),
        Tree::Null | Tree::Scalar(_) | Tree::Map(_) => {
            test(key, node, problems).into_iter().collect()
        }
    }
}

fn test(key: Key, node: &Node, problems: &mut Problems) -> Option<Test> {
    if key.kind() == KeyKind::Time && matches!(node.value, Tree::Map(_)) {
        let window = window_mapping(node, problems)?;
        let written = window_shown(node);
        return Some(Test { at: node.at, written, want: Want::Window(window) });
    }
    let Some(text) = node.text() else {
        let what = format!("`{}` has {} where a value belongs", key.name(), node.kind());
        problems.error(node.at, what, expected(key));
        return None;
    };
    let text = text.trim();
    let want = match key.kind() {
        KeyKind::Text | KeyKind::Url => pattern(key, text).map(Want::Text),
        KeyKind::Number => number(text, most(key), &plain),
        KeyKind::Size => number(text, u64::MAX, &size),
        KeyKind::Address => network(text).map(Want::Network),
        KeyKind::Time => window_text(text).map(Want::Window),
    };
    if want.is_none() {
        problems.error(
            node.at,
            format!("`{text}` is no value for `{}`", key.name()),
            expected(key),
        );
    }
    want.map(|want| Test { at: node.at, written: text.to_owned(), want })
}

fn expected(key: Key) -> String {
    match (key, key.kind()) {
        (Key::Domain, _) => "a name in its ASCII form, exact or as `*.example.com`".into(),
        (Key::SourceCountry | Key::DestCountry, _) => {
            "a country's two letters, such as `DE`".into()
        }
        (_, KeyKind::Text) => "a text, exact or with `*` at either end".into(),
        (_, KeyKind::Url) => "`host/path` or `https://host/path`, with `*` at either end".into(),
        (_, KeyKind::Number) => format!(
            "a number up to {}, a comparison such as `\">=70\"` or a range such as `\"1-9\"`",
            most(key)
        ),
        (_, KeyKind::Size) => SIZES.into(),
        (_, KeyKind::Address) => "an address or a network such as `10.0.0.0/8`".into(),
        (_, KeyKind::Time) => WINDOWS.into(),
    }
}

/// The largest value a number can have.
fn most(key: Key) -> u64 {
    match key {
        Key::Risk => 100,
        Key::DestPort => u64::from(u16::MAX),
        _ => u64::MAX,
    }
}

fn pattern(key: Key, text: &str) -> Option<Pattern> {
    let country = matches!(key, Key::SourceCountry | Key::DestCountry);
    if country && text != "*" && !(text.len() == 2 && text.bytes().all(|b| b.is_ascii_alphabetic()))
    {
        return None;
    }
    if key == Key::Domain {
        // Facts are canonical: no trailing dot, A-labels.
        let name = text.strip_suffix('.').unwrap_or(text);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._*:[]".contains(&byte);
        return name.bytes().all(plain).then(|| Pattern::parse(name))?;
    }
    Pattern::parse(text)
}

fn plain(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// `10`, `10B`, `10kB`, `10MiB`: decimal and binary units up to tera.
fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.trim().to_ascii_lowercase();
    let factor: u64 = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => return None,
    };
    plain(number)?.checked_mul(factor)
}

/// A number, a comparison or a range; `None` also where no number up to `most` could match.
fn number(text: &str, most: u64, read: &dyn Fn(&str) -> Option<u64>) -> Option<Want> {
    let value = |text: &str| read(text.trim()).filter(|&n| n <= most);
    let (low, high) = if let Some(rest) = text.strip_prefix(">=") {
        (value(rest)?, most)
    } else if let Some(rest) = text.strip_prefix("<=") {
        (0, value(rest)?)
    } else if let Some(rest) = text.strip_prefix('>') {
        (value(rest)?.checked_add(1)?, most)
    } else if let Some(rest) = text.strip_prefix('<') {
        (0, value(rest)?.checked_sub(1)?)
    } else if let Some((low, high)) = text.split_once('-') {
        (value(low)?, value(high)?)
    } else {
        let exact = value(text.strip_prefix('=').unwrap_or(text))?;
        (exact, exact)
    };
    (low <= high && high <= most).then_some(Want::Number { low, high })
}

fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    Some(network.trunc())
}

fn window_mapping(node: &Node, problems: &mut Problems) -> Option<Window> {
    let entries = mapping(node, WINDOWS, problems)?;
    let mut window = Window { days: 0b111_1111, from: 0, to: DAY, zone: TimeZone::UTC };
    let mut sound = true;
    let keys = ["days", "from", "to", "zone"];
    for (key, value) in known_entries(entries, &keys, "key of a time window", problems) {
        let read = match key {
            "days" => days(value).map(|days| window.days = days),
            "from" => value.text().and_then(window::time_of_day).map(|at| window.from = at),
            "to" => value.text().and_then(window::time_of_day).map(|at| window.to = at),
            _ => value.text().and_then(window::zone).map(|zone| window.zone = zone),
        };
        if read.is_none() {
            let expected = match key {
                "days" => "days such as `mon-fri` or `[sat, sun]`",
                "zone" => "a time zone such as `Europe/Berlin` or `UTC`",
                _ => "a time such as `\"08:00\"`",
            };
            let written = value.text().unwrap_or_else(|| value.kind());
            problems.error(value.at, format!("`{written}` as `{key}` of a time window"), expected);
            sound = false;
        }
    }
    if sound && window.from >= DAY {
        problems.error(node.at, "a time window from the end of the day", "`from` before `24:00`");
        return None;
    }
    sound.then_some(window)
}

/// A window written as a mapping, in the words of the one that is written as a text.
fn window_shown(node: &Node) -> String {
    let Tree::Map(entries) = &node.value else { return String::new() };
    let said = |name: &str| {
        let (_, value) = entries.iter().find(|(key, _)| key.text() == Some(name))?;
        match &value.value {
            Tree::List(days) => {
                Some(days.iter().filter_map(Node::text).collect::<Vec<_>>().join(","))
            }
            Tree::Null | Tree::Scalar(_) | Tree::Map(_) => value.text().map(str::to_owned),
        }
    };
    let span = match (said("from"), said("to")) {
        (None, None) => None,
        (from, to) => Some(format!(
            "{}-{}",
            from.as_deref().unwrap_or("00:00"),
            to.as_deref().unwrap_or("24:00")
        )),
    };
    let zone = said("zone").unwrap_or_else(|| "UTC".to_owned());
    let parts = [said("days"), span, Some(zone)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn days(node: &Node) -> Option<u8> {
    match &node.value {
        Tree::Scalar(text) => day_list(text),
        Tree::List(items) if !items.is_empty() => {
            items.iter().try_fold(0, |bits, item| Some(bits | window::days(item.text()?)?))
        }
        Tree::Null | Tree::List(_) | Tree::Map(_) => None,
    }
}

fn day_list(text: &str) -> Option<u8> {
    text.split(',').try_fold(0, |bits, days| Some(bits | window::days(days)?))
}

/// `mon-fri 08:00-18:00 Europe/Berlin`; each part may be left out, the order stays.
fn window_text(text: &str) -> Option<Window> {
    let mut window = Window { days: 0b111_1111, from: 0, to: DAY, zone: TimeZone::UTC };
    let mut parts = text.split_ascii_whitespace().peekable();
    parts.peek()?;
    if let Some(days) = parts.peek().and_then(|part| day_list(part)) {
        window.days = days;
        parts.next();
    }
    let span = |part: &&str| {
        let (from, to) = part.split_once('-')?;
        Some((window::time_of_day(from)?, window::time_of_day(to)?))
    };
    if let Some((from, to)) = parts.peek().and_then(span) {
        (window.from, window.to) = (from, to);
        parts.next();
    }
    if let Some(zone) = parts.next() {
        window.zone = window::zone(zone)?;
    }
    (parts.next().is_none() && window.from < DAY).then_some(window)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn numbers_compare_and_range() {
        let port = |text| number(text, 65_535, &plain);
        assert_eq!(port("443"), Some(Want::Number { low: 443, high: 443 }));
        assert_eq!(port("8000-8999"), Some(Want::Number { low: 8000, high: 8999 }));
        assert_eq!(port(">= 70"), Some(Want::Number { low: 70, high: 65_535 }));
        assert_eq!(port("<1"), Some(Want::Number { low: 0, high: 0 }));
        for refused in ["", "-1", "65536", ">65535", "<0", "9-1", "1-", "0x1", "1.5", "+1"] {
            assert_eq!(port(refused), None, "{refused}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("10MiB"), Some(10 << 20));
        assert_eq!(size("10 MB"), Some(10_000_000));
        assert_eq!(size("512"), Some(512));
        for refused in ["10XB", "MiB", "99999999999TiB", "-5"] {
            assert_eq!(size(refused), None, "{refused}");
        }
    }

    #[test]
    fn an_address_is_a_network_of_one() {
        assert_eq!(network("10.1.2.3").unwrap().prefix_len(), 32);
        assert_eq!(network("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(network("10.1.2.3/33"), None);
    }

    #[test]
    fn a_window_may_be_one_text() {
        let window = window_text("mon-fri 08:00-18:00 Europe/Berlin").unwrap();
        assert_eq!((window.days, window.from, window.to), (0b1_1111, 8 * 3600, 18 * 3600));
        assert_eq!(window_text("sat,sun").unwrap().days, 0b110_0000);
        assert_eq!(window_text("22:00-06:00").unwrap().days, 0b111_1111);
        for refused in ["", "mon-fri 8", "mon 08:00-18:00 Nowhere/Land", "mon mon", "24:00-01:00"] {
            assert!(window_text(refused).is_none(), "{refused}");
        }
    }
}
