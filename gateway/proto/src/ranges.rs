//! Which bytes of a message have come, where its pieces come in any order.

/// Ranges in order, never touching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<(usize, usize)>);

/// A message comes in more pieces than are kept track of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Ranges {
    /// Adds a range, joined with those it touches.
    ///
    /// # Errors
    /// Where there would be more than `max` of them.
    pub(crate) fn add(
        &mut self,
        mut start: usize,
        mut end: usize,
        max: usize,
    ) -> Result<(), TooMany> {
        if start >= end {
            return Ok(());
        }
        self.0.retain(|(from, to)| {
            let touches = *from <= end && *to >= start;
            if touches {
                start = start.min(*from);
                end = end.max(*to);
            }
            !touches
        });
        if self.0.len() >= max {
            return Err(TooMany);
        }
        let at = self.0.partition_point(|(from, _)| *from < start);
        self.0.insert(at, (start, end));
        Ok(())
    }

    /// How many bytes have come from the beginning without a gap.
    pub(crate) fn prefix(&self) -> usize {
        match self.0.first() {
            Some((0, end)) => *end,
            _ => 0,
        }
    }

    /// The parts of `start..end` that have come.
    pub(crate) fn within(&self, start: usize, end: usize) -> impl Iterator<Item = (usize, usize)> {
        let cut = move |(from, to): &(usize, usize)| {
            let part = ((*from).max(start), (*to).min(end));
            (part.0 < part.1).then_some(part)
        };
        self.0.iter().filter_map(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_in_any_order_up_to_the_bound() {
        let mut ranges = Ranges::default();
        for (start, end) in [(10, 20), (30, 40), (0, 0), (5, 10)] {
            assert_eq!(ranges.add(start, end, 3), Ok(()));
        }
        assert_eq!(ranges, Ranges(vec![(5, 20), (30, 40)]));
        assert_eq!(ranges.prefix(), 0);
        assert_eq!(ranges.within(15, 35).collect::<Vec<_>>(), vec![(15, 20), (30, 35)]);
        assert_eq!(ranges.add(0, 31, 3), Ok(()));
        assert_eq!(ranges.prefix(), 40);
        assert_eq!(ranges.add(50, 51, 1), Err(TooMany));
    }
}
