//! Windows of the week in which a rule applies.

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// Seconds of a day. A window knows no leap second and follows the zone's wall clock.
pub(crate) const DAY: u32 = 86_400;

/// Seconds of a week.
pub(crate) const WEEK: u32 = 7 * DAY;

/// Names of the days, Monday first.
pub(crate) const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A daily span on some days of the week, in one time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Bit 0 is Monday.
    pub days: u8,
    /// Seconds after midnight, included.
    pub from: u32,
    /// Seconds after midnight, excluded. Not after `from` means on the next day.
    pub to: u32,
    pub zone: TimeZone,
}

impl Window {
    /// The spans of seconds of the week (Monday 00:00 is 0), end excluded, that this covers.
    pub(crate) fn spans(&self) -> Vec<(u32, u32)> {
        let length =
            if self.to > self.from { self.to - self.from } else { DAY - self.from + self.to };
        let mut spans = Vec::new();
        for day in 0..7_u32 {
            if self.days & (1 << day) == 0 {
                continue;
            }
            let start = day * DAY + self.from;
            let end = start + length;
            spans.push((start, end.min(WEEK)));
            if end > WEEK {
                spans.push((0, end - WEEK));
            }
        }
        spans
    }
}

/// The second of the week (Monday 00:00 is 0) that the wall clock of this zone shows; `None` for a
/// moment beyond the calendar.
pub(crate) fn second_of_week(zone: &TimeZone, moment: i64) -> Option<u32> {
    let wall = zone.to_datetime(Timestamp::from_second(moment).ok()?);
    let day = u32::try_from(wall.weekday().to_monday_zero_offset()).ok()?;
    let part = |n: i8, unit: u32| u32::try_from(n).ok().map(|n| n * unit);
    Some(day * DAY + part(wall.hour(), 3600)? + part(wall.minute(), 60)? + part(wall.second(), 1)?)
}

/// A zone by its IANA name, out of the database compiled in.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    if name.eq_ignore_ascii_case("utc") {
        return Some(TimeZone::UTC);
    }
    TimeZoneDatabase::bundled().get(name).ok()
}

/// `08:00` or `08:00:30` as seconds after midnight; `24:00` is the end of the day.
pub(crate) fn time_of_day(text: &str) -> Option<u32> {
    let mut parts = text.split(':');
    let mut number = |most: u32| {
        let part = parts.next()?;
        let digits = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u32>().ok().filter(|&n| digits && n <= most)
    };
    let (hour, minute) = (number(24)?, number(59)?);
    let second = number(59);
    let seconds = hour * 3600 + minute * 60 + second.unwrap_or(0);
    let whole = text.split(':').count() <= if second.is_some() { 3 } else { 2 };
    (whole && seconds <= DAY).then_some(seconds)
}

/// `mon`, `Monday`, `mon-fri` (which may wrap: `sat-mon`) as bits.
pub(crate) fn days(text: &str) -> Option<u8> {
    let day = |name: &str| {
        let name = name.trim().to_ascii_lowercase();
        let full = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
        DAYS.iter().zip(full).position(|(short, full)| *short == name || full == name)
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (day(first)?, day(last)?),
        None => (day(text)?, day(text)?),
    };
    let mut bits = 0_u8;
    for step in 0..7 {
        let at = (first + step) % 7;
        bits |= 1 << at;
        if at == last {
            break;
        }
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn days_and_hours_read_as_people_write_them() {
        assert_eq!(days("mon-fri"), Some(0b001_1111));
        assert_eq!(days("sat-mon"), Some(0b110_0001));
        assert_eq!(days("Sunday"), Some(0b100_0000));
        assert_eq!(days("mon-xyz"), None);
        assert_eq!(time_of_day("08:30"), Some(30_600));
        assert_eq!(time_of_day("24:00"), Some(DAY));
        for refused in ["24:01", "8", "08:60", "08:00:00:00", "-8:00", "8:0x", ""] {
            assert_eq!(time_of_day(refused), None, "{refused}");
        }
    }

    #[test]
    fn a_zone_follows_its_own_summer_time() {
        let berlin = zone("Europe/Berlin").unwrap();
        // 2026-07-01 is a Wednesday; 10:00 UTC is 12:00 in Berlin's summer.
        assert_eq!(second_of_week(&berlin, 1_782_900_000), Some(2 * DAY + 12 * 3600));
        assert_eq!(second_of_week(&TimeZone::UTC, 1_782_900_000), Some(2 * DAY + 10 * 3600));
        assert_eq!(second_of_week(&TimeZone::UTC, i64::MAX), None);
        assert_eq!(zone("Europe/Nowhere"), None);
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
        let night =
            Window { days: days("sun").unwrap(), from: 79_200, to: 21_600, zone: TimeZone::UTC };
        assert_eq!(night.spans(), [(6 * DAY + 79_200, WEEK), (0, 21_600)]);
    }
}
