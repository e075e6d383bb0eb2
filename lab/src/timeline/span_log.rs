//! The recent stretches of one source.

use super::Span;
use std::collections::VecDeque;

/// Stretches that are remembered at most: whoever records may not fill the host's memory.
const MOST: usize = 1 << 18;

/// Stretches in the order of their ends, the oldest of which are forgotten.
#[derive(Debug)]
pub struct SpanLog {
    spans: VecDeque<Span>,
    memory_ticks: u64,
}

impl SpanLog {
    /// Remembers what ended less than `memory_ticks` before the newest.
    #[must_use]
    pub const fn new(memory_ticks: u64) -> Self {
        Self {
            spans: VecDeque::new(),
            memory_ticks,
        }
    }

    /// Adds the next one.
    pub fn add(&mut self, span: Span) {
        let old = |oldest: &Span| oldest.end.saturating_add(self.memory_ticks) < span.end;
        while self.spans.len() == MOST || self.spans.front().is_some_and(old) {
            self.spans.pop_front();
        }
        self.spans.push_back(span);
    }

    /// Those that share some time with `span`.
    pub fn over(&self, span: Span) -> impl Iterator<Item = Span> + '_ {
        let first = self.spans.partition_point(|past| past.end <= span.start);
        let later = self.spans.range(first..).copied();
        later.take_while(move |later| later.start < span.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_shares_time_and_forgets_what_is_old() {
        let mut log = SpanLog::new(100);
        for start in [10, 30, 50] {
            log.add(Span::new(start, start + 10));
        }
        let starts = |log: &SpanLog, from, to| -> Vec<u64> {
            let over = log.over(Span::new(from, to));
            over.map(|span| span.start).collect()
        };
        for (from, to, expected) in [
            (0, 100, vec![10, 30, 50]),
            (20, 30, vec![]),
            (19, 31, vec![10, 30]),
            (40, 50, vec![]),
            (59, 99, vec![50]),
        ] {
            assert_eq!(starts(&log, from, to), expected, "{from}..{to}");
        }
        log.add(Span::new(140, 150));
        assert_eq!(starts(&log, 0, 200), [50, 140]);
    }
}
