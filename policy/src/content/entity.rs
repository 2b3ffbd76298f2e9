//! Kinds of content with a name: what looks like one, and what of that is one.

/// How an entity is recognised.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entity {
    pub(super) name: &'static str,
    /// What may be one; its first group, or all of it.
    pub(super) pattern: &'static str,
    /// Whether it is.
    pub(super) is_one: fn(&[u8]) -> bool,
}

/// Everything that a profile may name in `entities`, in alphabetical order.
pub(super) const ENTITIES: [Entity; 12] = [
    // https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
    entity("aws-access-key", r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    entity("email-address", r"\b[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b"),
    // Tokens with a prefix of their own, the older ones and the fine-grained.
    entity("github-token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{82})\b"),
    entity("google-api-key", r"\bAIza[A-Za-z0-9_-]{35}\b"),
    checked("iban", r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", is_iban),
    // RFC 7519: three parts, the first a JSON object.
    entity("jwt", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}"),
    entity("openai-key", r"\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{32,200}\b"),
    // ISO/IEC 7812-1: a number of 12 digits and more, in groups or in one.
    checked("payment-card", r"\b[2-6](?:[ -]?[0-9]){11,18}\b", is_payment_card),
    // RFC 7468, and OpenPGP's armor (RFC 9580 section 6.2).
    entity("private-key", r"-----BEGIN (?:[A-Z0-9]+ ){0,2}PRIVATE KEY(?: BLOCK)?-----"),
    entity("slack-token", r"\bxox[abeprs]-[A-Za-z0-9-]{10,250}\b"),
    entity("stripe-key", r"\b[rs]k_live_[A-Za-z0-9]{20,250}\b"),
    checked("us-ssn", r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b", is_ssn),
];

const fn entity(name: &'static str, pattern: &'static str) -> Entity {
    checked(name, pattern, |_| true)
}

const fn checked(name: &'static str, pattern: &'static str, is_one: fn(&[u8]) -> bool) -> Entity {
    Entity { name, pattern, is_one }
}

/// Whether a number of the right length ends in the digit that belongs to it (ISO/IEC 7812-1 annex B),
/// in a range that a card network uses.
fn is_payment_card(written: &[u8]) -> bool {
    let digits: Vec<u32> = digits(written).collect();
    let number = |count: usize| digits.iter().take(count).fold(0, |sum, digit| sum * 10 + digit);
    let range = match (number(1), number(2), number(4)) {
        // Visa.
        (4, _, _) => matches!(digits.len(), 13 | 16 | 19),
        // Mastercard.
        (_, 51..=55, _) | (_, _, 2221..=2720) => digits.len() == 16,
        // American Express.
        (_, 34 | 37, _) => digits.len() == 15,
        // Diners Club.
        (_, 36 | 38 | 39, _) | (_, _, 3000..=3059) => matches!(digits.len(), 14..=19),
        // JCB.
        (_, _, 3528..=3589) => matches!(digits.len(), 16..=19),
        // Discover, UnionPay, Maestro.
        (6, _, _) | (_, 50 | 56..=58, _) => matches!(digits.len(), 12..=19),
        _ => false,
    };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, &digit)| match (place % 2, digit) {
            (0, digit) => digit,
            (_, 0..=4) => digit * 2,
            (_, digit) => digit * 2 - 9,
        })
        .sum();
    range && sum.is_multiple_of(10)
}

/// ISO 13616: length and form of its country, and the check digits.
fn is_iban(written: &[u8]) -> bool {
    let written: Vec<u8> = written.iter().copied().filter(|byte| *byte != b' ').collect();
    std::str::from_utf8(&written).is_ok_and(|text| text.parse::<iban::Iban>().is_ok())
}

/// No area, group or serial of zeros, and none of the areas that are never given out (SSA, POMS RM 10201.035).
fn is_ssn(written: &[u8]) -> bool {
    let digits: Vec<u32> = digits(written).collect();
    let number = |from: usize, to: usize| {
        digits.get(from..to).unwrap_or_default().iter().fold(0, |sum, digit| sum * 10 + digit)
    };
    let (area, group, serial) = (number(0, 3), number(3, 5), number(5, 9));
    !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0
}

fn digits(written: &[u8]) -> impl Iterator<Item = u32> {
    written.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| u32::from(byte - b'0'))
}

#[cfg(test)]
mod tests {
    use super::{is_iban, is_payment_card, is_ssn};

    #[test]
    fn numbers_of_cards_end_in_their_digit() {
        // The networks' own test numbers.
        for number in [
            "4111 1111 1111 1111",
            "5555-5555-5555-4444",
            "2223003122003222",
            "378282246310005",
            "30569309025904",
            "3530111333300000",
            "6011111111111117",
            "4222222222222",
        ] {
            assert!(is_payment_card(number.as_bytes()), "{number}");
        }
        for number in [
            "4111 1111 1111 1112",
            "4444444444444448888",
            "0000000000000000",
            "1234567812345670",
            "41111111111111",
            "20261129182240",
        ] {
            assert!(!is_payment_card(number.as_bytes()), "{number}");
        }
    }

    #[test]
    fn account_numbers_have_their_countrys_form() {
        for number in ["DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819"] {
            assert!(is_iban(number.as_bytes()), "{number}");
        }
        for number in ["DE89 3704 0044 0532 0130 01", "DE8937040044053201300", "XX00AAAA00000000"] {
            assert!(!is_iban(number.as_bytes()), "{number}");
        }
    }

    #[test]
    fn social_security_numbers_are_ones_that_are_given_out() {
        assert!(is_ssn(b"536-90-4399"));
        for number in ["000-12-3456", "666-12-3456", "987-65-4321", "123-00-4567", "123-45-0000"] {
            assert!(!is_ssn(number.as_bytes()), "{number}");
        }
    }
}
