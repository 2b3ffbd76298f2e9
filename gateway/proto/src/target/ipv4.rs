//! IPv4 addresses in every spelling that resolvers take: decimal, octal, hexadecimal, one to
//! four parts (WHATWG URL, "IPv4 parser").

use std::net::Ipv4Addr;

/// Whether a name's last label is a number, so that the whole can only be an address.
pub(super) fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let digits = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    digits || hexadecimal(last).is_some_and(|rest| rest.bytes().all(|it| it.is_ascii_hexdigit()))
}

/// The address, where each part is a number and none is too large.
pub(super) fn parse_ipv4(name: &str) -> Option<Ipv4Addr> {
    let mut parts = name.split('.');
    let mut leading: u32 = 0;
    let mut leading_parts = 0_u32;
    let mut part = parts.next()?;
    for next in parts {
        let number = parse_part(part).filter(|number| *number <= 0xff)?;
        leading = leading << 8 | u32::try_from(number).ok()?;
        leading_parts += 1;
        if leading_parts > 3 {
            return None;
        }
        part = next;
    }
    let last = parse_part(part)?;
    let last_bits = 32 - 8 * leading_parts;
    if last >= 1_u64 << last_bits {
        return None;
    }
    let leading = u64::from(leading) << last_bits;
    u32::try_from(leading | last).ok().map(Ipv4Addr::from)
}

fn parse_part(part: &str) -> Option<u64> {
    let (digits, radix) = match (hexadecimal(part), part.strip_prefix('0')) {
        // `0x` alone is zero, as in C.
        (Some(""), _) => return Some(0),
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        (None, _) => (part, 10),
    };
    // A sign is no digit, although the standard parser takes one.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

fn hexadecimal(part: &str) -> Option<&str> {
    part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"))
}
