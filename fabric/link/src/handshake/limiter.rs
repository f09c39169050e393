//! How many initiations are worth a curve operation: token buckets per source and for all strangers.
//!
//! Sources that are in the configuration have a bucket each, for ever, and do not
//! draw on the common one: a flood from elsewhere cannot keep peers apart. All
//! other sources share one bucket and a bounded table of their own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Initiations per second from one source; also the most at once.
const SOURCE_PER_S: u64 = 20;

/// Initiations per second from all sources that are not in the configuration.
const STRANGERS_PER_S: u64 = 100;

/// How many strangers are remembered.
const STRANGERS_MAX: usize = 1_024;

/// A full table is searched for idle entries this often.
const SWEEP_EVERY_US: u64 = 100_000;

const US_PER_S: u64 = 1_000_000;

/// Tokens, in millionths, that refill at `per_s` up to one second's worth.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    micro_tokens: u64,
    per_s: u64,
    at_us: u64,
}

impl Bucket {
    fn full(per_s: u64, now_us: u64) -> Self {
        Self { micro_tokens: per_s * US_PER_S, per_s, at_us: now_us }
    }

    fn take(&mut self, now_us: u64) -> bool {
        let passed_us = now_us.saturating_sub(self.at_us).min(US_PER_S);
        self.at_us = self.at_us.max(now_us);
        self.micro_tokens = (self.micro_tokens + passed_us * self.per_s).min(self.per_s * US_PER_S);
        let taken = self.micro_tokens.checked_sub(US_PER_S);
        self.micro_tokens = taken.unwrap_or(self.micro_tokens);
        taken.is_some()
    }

    fn idle(&self, now_us: u64) -> bool {
        now_us.saturating_sub(self.at_us) >= US_PER_S
    }
}

/// Decides which initiations are looked at.
#[derive(Debug)]
pub(crate) struct Limiter {
    peers: HashMap<IpAddr, Bucket>,
    strangers: HashMap<IpAddr, Bucket>,
    all_strangers: Bucket,
    swept_us: u64,
}

impl Limiter {
    /// With a bucket of its own for each of `peers`.
    pub(crate) fn new(peers: impl Iterator<Item = IpAddr>, now_us: u64) -> Self {
        Self {
            peers: peers.map(|ip| (source(ip), Bucket::full(SOURCE_PER_S, now_us))).collect(),
            strangers: HashMap::new(),
            all_strangers: Bucket::full(STRANGERS_PER_S, now_us),
            swept_us: now_us,
        }
    }

    /// `ip` has a bucket of its own from now on.
    pub(crate) fn know(&mut self, ip: IpAddr, now_us: u64) {
        self.strangers.remove(&source(ip));
        self.peers.entry(source(ip)).or_insert(Bucket::full(SOURCE_PER_S, now_us));
    }

    /// `ip` is a stranger's from now on.
    pub(crate) fn forget(&mut self, ip: IpAddr) {
        self.peers.remove(&source(ip));
    }

    /// Whether one more initiation from `ip` may be looked at now.
    pub(crate) fn admit(&mut self, now_us: u64, ip: IpAddr) -> bool {
        let ip = source(ip);
        if let Some(bucket) = self.peers.get_mut(&ip) {
            return bucket.take(now_us);
        }
        if !self.strangers.contains_key(&ip) && !self.has_room(now_us) {
            return false;
        }
        let bucket = self.strangers.entry(ip).or_insert(Bucket::full(SOURCE_PER_S, now_us));
        bucket.take(now_us) && self.all_strangers.take(now_us)
    }

    fn has_room(&mut self, now_us: u64) -> bool {
        if self.strangers.len() < STRANGERS_MAX {
            return true;
        }
        if now_us.saturating_sub(self.swept_us) < SWEEP_EVERY_US {
            return false;
        }
        self.swept_us = now_us;
        self.strangers.retain(|_, bucket| !bucket.idle(now_us));
        self.strangers.len() < STRANGERS_MAX
    }
}

/// Who pays: an IPv4 address, or an IPv6 /64, which one host may own whole.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => {
            let bits = ip.to_bits() & (u128::from(u64::MAX) << 64);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ip(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(number))
    }

    fn admitted(limiter: &mut Limiter, now_us: u64, ip: IpAddr, tries: u64) -> u64 {
        (0..tries).map(|_| u64::from(limiter.admit(now_us, ip))).sum()
    }

    #[test]
    fn one_source_gets_its_rate_and_no_more() {
        let mut limiter = Limiter::new(std::iter::empty(), 0);
        assert_eq!(admitted(&mut limiter, 0, ip(1), 1_000), SOURCE_PER_S);
        assert_eq!(admitted(&mut limiter, US_PER_S / 2, ip(1), 1_000), SOURCE_PER_S / 2);
        assert_eq!(admitted(&mut limiter, 100 * US_PER_S, ip(1), 1_000), SOURCE_PER_S);
    }

    #[test]
    fn strangers_share_one_rate_and_a_bounded_table() {
        let mut limiter = Limiter::new(std::iter::empty(), 0);
        let total: u64 = (0..100_000).map(|n| u64::from(limiter.admit(0, ip(n)))).sum();
        assert_eq!(total, STRANGERS_PER_S);
        assert!(limiter.strangers.len() <= STRANGERS_MAX);
        assert!(limiter.admit(2 * US_PER_S, ip(1_000_000)), "idle entries make room");
    }

    #[test]
    fn a_flood_of_strangers_leaves_peers_alone() {
        let peer = ip(7);
        let mut limiter = Limiter::new(std::iter::once(peer), 0);
        for n in 100..100_000 {
            limiter.admit(0, ip(n));
        }
        assert_eq!(admitted(&mut limiter, 0, peer, 100), SOURCE_PER_S);
    }

    #[test]
    fn who_becomes_a_peer_has_its_own_rate_and_who_was_one_has_not() {
        let mut limiter = Limiter::new(std::iter::empty(), 0);
        let flood = |limiter: &mut Limiter| {
            for n in 100..100_000 {
                limiter.admit(0, ip(n));
            }
        };
        flood(&mut limiter);
        assert_eq!(admitted(&mut limiter, 0, ip(7), 100), 0);
        limiter.know(ip(7), 0);
        assert_eq!(admitted(&mut limiter, 0, ip(7), 100), SOURCE_PER_S);
        limiter.forget(ip(7));
        assert_eq!(admitted(&mut limiter, 0, ip(7), 100), 0);
    }

    #[test]
    fn a_whole_ipv6_subnet_is_one_source() {
        let mut limiter = Limiter::new(std::iter::empty(), 0);
        let net = 0x2001_0db8_u128 << 96;
        let total: u64 = (0..1_000)
            .map(|n| u64::from(limiter.admit(0, IpAddr::V6(Ipv6Addr::from_bits(net + n)))))
            .sum();
        assert_eq!(total, SOURCE_PER_S);
    }

    #[test]
    fn a_clock_that_goes_back_grants_nothing() {
        let mut limiter = Limiter::new(std::iter::empty(), US_PER_S);
        assert_eq!(admitted(&mut limiter, US_PER_S, ip(1), 100), SOURCE_PER_S);
        assert_eq!(admitted(&mut limiter, 0, ip(1), 100), 0);
        assert_eq!(admitted(&mut limiter, US_PER_S, ip(1), 100), 0);
    }
}
