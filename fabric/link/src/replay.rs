//! The replay window: which of the last 4,096 packet numbers were received.
//!
//! A ring of bits that ends at the highest number received (RFC 4303, section
//! 3.4.3, as RFC 6479 lays it out in words):
//!
//! ```text
//!              lowest()                            edge (next number)
//!   too old ──────┤ 1 1 0 1 1 1 1 1 0 1 1 ... 1 1 1 ├────── new
//!                 └────────── WINDOW numbers ───────┘
//! ```
//!
//! `check` first, then open the datagram, then `mark`: only an authentic number
//! may move the window. [`ReplayWindow::lowest`] is never below
//! `edge - WINDOW`, and also serves the loss evidence.

use std::ops::Range;

/// How many packet numbers the window covers.
pub const WINDOW: u64 = 4_096;

const WORDS: usize = 64;

/// Where a packet number stands in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Not seen: open it, then mark it.
    New,
    /// Received already.
    Duplicate,
    /// Left of the window: nobody can tell any more.
    TooOld,
}

/// The window of one path and epoch.
#[derive(Debug, Clone)]
pub struct ReplayWindow {
    words: Box<[u64; WORDS]>,
    /// One more than the highest number marked; zero before the first.
    edge: u64,
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplayWindow {
    /// A window that has received nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { words: Box::new([0; WORDS]), edge: 0 }
    }

    /// Whether `packet_number` may be opened.
    #[inline]
    #[must_use]
    pub fn check(&self, packet_number: u64) -> Position {
        if packet_number >= self.edge {
            Position::New
        } else if packet_number < self.lowest() {
            Position::TooOld
        } else if self.bit(packet_number) {
            Position::Duplicate
        } else {
            Position::New
        }
    }

    /// Notes an authentic `packet_number` as received. Numbers left of the window
    /// and `u64::MAX` are ignored.
    #[inline]
    pub fn mark(&mut self, packet_number: u64) {
        if packet_number < self.lowest() || packet_number == u64::MAX {
            return;
        }
        if packet_number >= self.edge {
            self.advance(packet_number + 1);
        }
        self.words[word_of(packet_number)] |= bit_of(packet_number);
    }

    /// Whether `packet_number` was received; `None` left of the window.
    #[must_use]
    pub fn received(&self, packet_number: u64) -> Option<bool> {
        if packet_number < self.lowest() {
            None
        } else {
            Some(packet_number < self.edge && self.bit(packet_number))
        }
    }

    /// One more than the highest number received; zero before the first.
    #[must_use]
    pub fn edge(&self) -> u64 {
        self.edge
    }

    /// The lowest number that the window still knows about.
    #[must_use]
    pub fn lowest(&self) -> u64 {
        self.edge.saturating_sub(WINDOW)
    }

    /// The runs of numbers in `span` that are not received, in rising order.
    /// Numbers left of the window are not reported, those right of it are.
    pub fn missing(&self, span: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut at = span.start.max(self.lowest());
        let end = span.end;
        std::iter::from_fn(move || {
            at = self.next_at(at, end, false)?;
            let start = at;
            at = self.next_at(at, end, true).unwrap_or(end);
            Some(start..at)
        })
    }

    /// The first number from `at` to before `end` whose state is `received`, in
    /// steps of one word.
    fn next_at(&self, mut at: u64, end: u64, received: bool) -> Option<u64> {
        while at < end {
            if at >= self.edge {
                return (!received).then_some(at);
            }
            let in_word = at % 64;
            let word = self.words[word_of(at)];
            let matches = if received { word } else { !word };
            let wanted = matches >> in_word;
            let skip = u64::from(wanted.trailing_zeros()).min(64 - in_word);
            // Beyond the edge the word still holds the window's other end.
            let found = (at + skip).min(self.edge);
            if wanted != 0 && found < self.edge {
                return (found < end).then_some(found);
            }
            at = found;
        }
        None
    }

    /// Moves the edge up and clears the numbers that enter.
    fn advance(&mut self, edge: u64) {
        if edge - self.edge >= WINDOW {
            self.words.fill(0);
        } else {
            let mut at = self.edge;
            while at < edge {
                let word_end = (at | 63) + 1;
                let end = word_end.min(edge);
                self.words[word_of(at)] &= !mask(at, end);
                at = end;
            }
        }
        self.edge = edge;
    }

    fn bit(&self, packet_number: u64) -> bool {
        self.words[word_of(packet_number)] & bit_of(packet_number) != 0
    }
}

/// The bits of `from..to`, which lie in one word.
fn mask(from: u64, to: u64) -> u64 {
    let ones = to - from;
    let low = if ones >= 64 { u64::MAX } else { (1 << ones) - 1 };
    low << (from % 64)
}

fn word_of(packet_number: u64) -> usize {
    // Below 64 by the remainder, so that nothing is lost.
    usize::try_from((packet_number / 64) % (WORDS as u64)).unwrap_or(0)
}

fn bit_of(packet_number: u64) -> u64 {
    1 << (packet_number % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// The definition, without cleverness.
    #[derive(Default)]
    struct Naive(BTreeSet<u64>);

    impl Naive {
        fn edge(&self) -> u64 {
            self.0.last().map_or(0, |last| last + 1)
        }

        fn check(&self, number: u64) -> Position {
            if number + WINDOW < self.edge() {
                Position::TooOld
            } else if self.0.contains(&number) {
                Position::Duplicate
            } else {
                Position::New
            }
        }
    }

    /// Walks with small steps, jumps around a word's and the window's size, and far jumps.
    fn numbers() -> impl Strategy<Value = Vec<u64>> {
        let step = prop_oneof![
            8 => -70i64..70,
            2 => -5_000i64..5_000,
            1 => 4_000i64..4_200,
            1 => Just(64i64),
            1 => Just(-4_096i64),
            1 => Just(1_000_000i64),
        ];
        proptest::collection::vec(step, 1..300).prop_map(|steps| {
            let mut at = 0u64;
            steps
                .into_iter()
                .map(|step| {
                    at = at.saturating_add_signed(step);
                    at
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_naive_set(numbers in numbers()) {
            let mut window = ReplayWindow::new();
            let mut naive = Naive::default();
            for number in numbers {
                prop_assert_eq!(window.check(number), naive.check(number), "{}", number);
                window.mark(number);
                if naive.check(number) == Position::New {
                    naive.0.insert(number);
                }
                prop_assert_eq!(window.edge(), naive.edge());
            }
            for number in window.lowest()..window.edge() + 3 {
                prop_assert_eq!(window.received(number), Some(naive.0.contains(&number)));
            }
        }

        #[test]
        fn missing_runs_are_exactly_the_numbers_not_received(
            numbers in numbers(),
            back in 0u64..5_000,
            ahead in 0u64..100,
        ) {
            let mut window = ReplayWindow::new();
            for number in numbers {
                window.mark(number);
            }
            let span = window.edge().saturating_sub(back)..window.edge() + ahead;
            let runs: Vec<_> = window.missing(span.clone()).collect();
            for pair in runs.windows(2) {
                prop_assert!(pair[0].end < pair[1].start, "{:?}", runs);
            }
            let listed: Vec<u64> = runs.into_iter().flatten().collect();
            let expected: Vec<u64> =
                span.filter(|&number| window.received(number) == Some(false)).collect();
            prop_assert_eq!(listed, expected);
        }
    }

    #[test]
    fn the_highest_numbers_do_not_overflow() {
        let mut window = ReplayWindow::new();
        window.mark(u64::MAX);
        assert_eq!(window.edge(), 0);
        window.mark(u64::MAX - 1);
        assert_eq!(window.check(u64::MAX - 1), Position::Duplicate);
        assert_eq!(window.check(0), Position::TooOld);
    }
}
