//! The longest datagram that a path carries (RFC 8899, with hellos as probes).
//!
//! ```text
//!         any probe echoed: that size            full-size hellos missed
//!  floor ───────────────────────────> current ──────────────────────────> floor
//!    └── probe every larger size, three rounds; again once a minute ──┘
//! ```
//!
//! Only authenticated echoes count; ICMP is not listened to. A size is given up
//! when several full-size hellos in a row were not heard although later small
//! ones were: the sign of a path that began to drop large packets silently. On a
//! path that loses short ones, too, it takes more: there the size is not the reason.

/// Probes of one size before the search pauses.
const ROUNDS: u32 = 3;

/// Full-size hellos missed in a row until the size is given up.
const MISSES_MAX: u32 = 3;

/// The same on a way that loses short ones, too.
const MISSES_MAX_LOSSY: u32 = 8;

/// So many of the last 32 short hellos lost make a way lossy.
const SHORT_LOST_MIN: u32 = 2;

/// While all is well, one hello in so many is full-size.
const CONFIRM_EVERY: u64 = 5;

/// But no hello after this time is short only: a size that is lost is to be given up within a second.
const CONFIRM_EVERY_US: u64 = 200_000;

#[derive(Debug, Clone)]
pub(super) struct MtuSearch {
    /// Sizes to try, rising. Empty when the size is fixed.
    sizes: Vec<u16>,
    floor: u16,
    /// What the receiver can take.
    limit: u16,
    current: u16,
    rounds_left: u32,
    misses: u32,
    /// Which of the last short hellos were lost; the newest is bit 0.
    short_lost: u32,
    /// A size that was carried and is not any more.
    lost: Option<u16>,
    confirm_at_us: u64,
    search_at_us: u64,
    probe_every_us: u64,
}

impl MtuSearch {
    /// Starts at `floor`, trying `sizes`; a fixed size has no others to try.
    pub(super) fn new(floor: u16, mut sizes: Vec<u16>, probe_every_us: u64) -> Self {
        sizes.retain(|&size| size > floor);
        sizes.sort_unstable();
        sizes.dedup();
        Self {
            sizes,
            floor,
            limit: u16::MAX,
            current: floor,
            rounds_left: ROUNDS,
            misses: 0,
            short_lost: 0,
            lost: None,
            confirm_at_us: 0,
            search_at_us: 0,
            probe_every_us,
        }
    }

    /// The longest datagram known to arrive.
    pub(super) fn current(&self) -> usize {
        self.current.min(self.limit).into()
    }

    /// Notes what the receiver can take.
    pub(super) fn set_limit(&mut self, limit: u16) {
        self.limit = limit;
        if self.current > limit {
            self.current = self.floor;
            self.rounds_left = ROUNDS;
        }
    }

    /// Nothing is known any more: the peer was silent.
    pub(super) fn reset(&mut self) {
        self.begin();
        self.lost = None;
    }

    /// The size that was carried once and is lost now, in bytes of UDP payload, as far as the search
    /// for what is carried instead is over.
    pub(super) fn lost(&self) -> Option<u16> {
        self.lost.filter(|_| self.rounds_left == 0)
    }

    /// A short hello arrived or was lost: how the way is, whatever the size.
    pub(super) fn short(&mut self, is_lost: bool) {
        self.short_lost = self.short_lost << 1 | u32::from(is_lost);
    }

    fn begin(&mut self) {
        self.current = self.floor;
        self.rounds_left = ROUNDS;
        self.misses = 0;
    }

    /// The lengths of the padded hellos to send now, beside the small one, of which there is
    /// one each `hello_every_us`.
    pub(super) fn due(&mut self, now_us: u64, hello_every_us: u64) -> Vec<u16> {
        let mut due = Vec::new();
        let confirms = self.current > self.floor;
        if confirms && (self.misses > 0 || now_us >= self.confirm_at_us) {
            let after_us = CONFIRM_EVERY.saturating_mul(hello_every_us).min(CONFIRM_EVERY_US);
            self.confirm_at_us = now_us.saturating_add(after_us.max(hello_every_us));
            due.push(self.current);
        }
        if self.rounds_left == 0 && now_us >= self.search_at_us {
            self.rounds_left = ROUNDS;
        }
        let untried =
            self.sizes.iter().copied().filter(|&size| size > self.current && size <= self.limit);
        if self.rounds_left > 0 {
            due.extend(untried);
            self.rounds_left -= 1;
            self.search_at_us = now_us.saturating_add(self.probe_every_us);
        }
        due
    }

    /// A hello of `len` bytes arrived.
    pub(super) fn arrived(&mut self, len: u16) {
        if len >= self.current {
            self.misses = 0;
        }
        if len > self.current && self.sizes.contains(&len) {
            self.current = len;
        }
        self.lost = self.lost.filter(|lost| len < *lost);
    }

    /// A hello of `len` bytes did not arrive although later ones did.
    pub(super) fn missed(&mut self, len: u16) {
        if len != self.current || self.current == self.floor {
            return;
        }
        self.misses += 1;
        let is_lossy = self.short_lost.count_ones() >= SHORT_LOST_MIN;
        if self.misses >= if is_lossy { MISSES_MAX_LOSSY } else { MISSES_MAX } {
            self.lost = self.lost.max(Some(len));
            self.begin();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO_US: u64 = 100_000;

    fn search() -> MtuSearch {
        MtuSearch::new(1_252, vec![8_972, 1_472, 1_372, 1_252], 60_000_000)
    }

    /// Sends what is due over a path that carries `path_len`, for `rounds` hellos.
    fn run(search: &mut MtuSearch, path_len: u16, from: u64, rounds: u64) -> u64 {
        for round in from..from + rounds {
            for len in search.due(round * HELLO_US, HELLO_US) {
                if len <= path_len { search.arrived(len) } else { search.missed(len) }
            }
        }
        from + rounds
    }

    #[test]
    fn the_largest_size_that_arrives_is_found_in_one_round() {
        for (path_len, found) in [(1_300, 1_252), (1_472, 1_472), (1_471, 1_372), (9_000, 8_972)] {
            let mut search = search();
            assert_eq!(search.current(), 1_252);
            run(&mut search, path_len, 0, 1);
            assert_eq!(search.current(), found, "{path_len}");
        }
    }

    #[test]
    fn a_path_that_shrinks_is_noticed_and_a_smaller_size_found() {
        let mut search = search();
        let at = run(&mut search, 9_000, 0, 20);
        assert_eq!(search.current(), 8_972);
        run(&mut search, 1_472, at, 12);
        assert_eq!(search.current(), 1_472);
    }

    #[test]
    fn one_lost_full_size_hello_changes_nothing() {
        let mut search = search();
        let at = run(&mut search, 9_000, 0, 1);
        search.missed(8_972);
        search.missed(8_972);
        run(&mut search, 9_000, at, 1);
        search.missed(8_972);
        assert_eq!(search.current(), 8_972);
    }

    #[test]
    fn a_path_that_grows_is_tried_again_after_the_pause() {
        let mut search = search();
        let at = run(&mut search, 1_300, 0, 10);
        assert!(search.due(at * HELLO_US, HELLO_US).is_empty(), "the search pauses");
        run(&mut search, 9_000, 700, 1);
        assert_eq!(search.current(), 8_972);
    }

    #[test]
    fn a_size_that_is_lost_is_named_when_the_next_is_found_and_until_it_is_carried_again() {
        let mut search = search();
        let at = run(&mut search, 9_000, 0, 10);
        assert_eq!(search.lost(), None);
        let at = run(&mut search, 1_500, at, 10);
        assert_eq!((search.current(), search.lost()), (1_472, Some(8_972)));
        run(&mut search, 9_000, at + 700, 1);
        assert_eq!((search.current(), search.lost()), (8_972, None));
    }

    #[test]
    fn where_short_hellos_are_lost_too_a_few_full_size_ones_say_little() {
        let mut search = search();
        run(&mut search, 9_000, 0, 5);
        (0..4).for_each(|n| search.short(n % 2 == 0));
        (0..7).for_each(|_| search.missed(8_972));
        assert_eq!(search.current(), 8_972);
        search.missed(8_972);
        assert_eq!(search.current(), 1_252);
    }

    #[test]
    fn the_receivers_limit_binds() {
        let mut search = search();
        search.set_limit(1_400);
        run(&mut search, 9_000, 0, 5);
        assert_eq!(search.current(), 1_372);
        search.set_limit(1_300);
        assert_eq!(search.current(), 1_252);
    }

    #[test]
    fn a_fixed_size_is_neither_probed_nor_given_up() {
        let mut search = MtuSearch::new(1_472, Vec::new(), 1);
        assert!(search.due(0, HELLO_US).is_empty());
        for _ in 0..10 {
            search.missed(1_472);
        }
        assert_eq!(search.current(), 1_472);
        search.set_limit(1_300);
        assert_eq!(search.current(), 1_300);
    }
}
