//! Which of many spans hold a number, in time that grows with their logarithm.

use super::{Matched, ValueId, note};

/// Spans sorted by their low end. Each is the root of the half-open range around it (the middle of
/// each range is its root), and knows the highest end below it.
#[derive(Debug)]
pub(super) struct Intervals(Box<[Span]>);

#[derive(Clone, Copy, Debug)]
struct Span {
    low: u128,
    /// Included.
    high: u128,
    /// The highest `high` of the range whose root this is.
    highest: u128,
    value: ValueId,
}

impl Intervals {
    /// Takes (low, high, value), both ends included.
    pub(super) fn new(spans: impl IntoIterator<Item = (u128, u128, ValueId)>) -> Self {
        let mut spans: Vec<Span> = spans
            .into_iter()
            .map(|(low, high, value)| Span { low, high, highest: high, value })
            .collect();
        spans.sort_by_key(|span| (span.low, span.high, span.value));
        raise(&mut spans);
        Self(spans.into())
    }

    pub(super) fn find(&self, number: u128, matched: &mut Matched) {
        stab(&self.0, number, matched);
    }
}

/// Fills in `highest`; returns that of the whole range.
fn raise(spans: &mut [Span]) -> u128 {
    let Some((left, root, right)) = split_mut(spans) else {
        return 0;
    };
    root.highest = root.high.max(raise(left)).max(raise(right));
    root.highest
}

fn stab(spans: &[Span], number: u128, matched: &mut Matched) {
    let Some((left, rest)) = spans.split_at_checked(spans.len() / 2) else {
        return;
    };
    let Some((root, right)) = rest.split_first() else {
        return;
    };
    if root.highest < number {
        return;
    }
    stab(left, number, matched);
    if root.low <= number {
        if number <= root.high {
            note(matched, root.value);
        }
        stab(right, number, matched);
    }
}

fn split_mut(spans: &mut [Span]) -> Option<(&mut [Span], &mut Span, &mut [Span])> {
    let (left, rest) = spans.split_at_mut_checked(spans.len() / 2)?;
    let (root, right) = rest.split_first_mut()?;
    Some((left, root, right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_span_that_holds_the_number_is_found() {
        let spans: Vec<(u128, u128, ValueId)> =
            (0..50).map(|n| (u128::from(n * 7 % 40), u128::from(n * 7 % 40 + n % 11), n)).collect();
        let index = Intervals::new(spans.clone());
        for number in 0..60 {
            let mut found = Matched::new();
            index.find(number, &mut found);
            found.sort_unstable();
            let wanted: Vec<ValueId> = spans
                .iter()
                .filter(|(low, high, _)| (*low..=*high).contains(&number))
                .map(|&(_, _, value)| value)
                .collect();
            assert_eq!(found.as_slice(), wanted, "{number}");
        }
    }
}
