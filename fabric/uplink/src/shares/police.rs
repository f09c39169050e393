//! The gateway's own hand: what a server may send through an uplink, whatever it does itself.
//!
//! A meter for each server, at the largest promise that it may be obeying, and one for each
//! vNIC that has a limit. All workers share them, without a lock: a meter is one number, the
//! time until which what came is paid for.
//!
//! ```text
//!   paid until ────────────┐          frame: moved on by cost / rate
//!   now ──────────┐        │          more than the burst ahead of now: dropped
//!   ──────────────┴────────┴───▶ time
//! ```

use rustc_hash::FxHashMap;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use wireonce_link::PeerId;
use wireonce_wire::VnicId;

/// Fractions of a microsecond in which times are counted: a small frame at 100 Gbit/s takes
/// 6.7 ns. 64 bits of them are 35 years.
const TICKS_PER_US: u64 = 1 << 14;
/// What comes at once after a stall of ours, or of the server, is not over the rate.
const STALL_US: u64 = 10_000;
/// What a server's bucket lets through at once for each vNIC: a frame of the largest size.
const BURST_BITS: u64 = 70_000 * 8;
/// A server's clock may be faster by so much: a thousandth.
const CLOCK_TOLERANCE: u64 = 1_000;

/// Who is policed on one uplink.
#[derive(Debug, Default)]
pub(crate) struct Police {
    servers: FxHashMap<usize, Server>,
    limits: FxHashMap<VnicId, Arc<Meter>>,
}

/// The meters of one server.
#[derive(Debug, Clone, Default)]
struct Server {
    promised: Arc<Meter>,
    /// What goes first when the port is full.
    reserved: Arc<Meter>,
}

/// What passes at a rate and with a burst.
#[derive(Debug, Default)]
struct Meter {
    rate_bps: AtomicU64,
    burst_bits: AtomicU64,
    paid: AtomicU64,
}

impl Police {
    /// A vNIC that `server` has. It adds a frame to what may come at once. Servers without any
    /// do not pass, and those with one have no rate yet. Meters that `before` has for the same
    /// are used on: another configuration is no new burst.
    pub(crate) fn add(
        &mut self,
        before: Option<&Self>,
        vnic: VnicId,
        server: PeerId,
        limit_bps: Option<u64>,
    ) {
        let known = || before.and_then(|before| before.servers.get(&server.0)).cloned();
        let entry = self.servers.entry(server.0).or_insert_with(|| {
            let server = known().unwrap_or_default();
            server.promised.burst_bits.store(0, Relaxed);
            server.reserved.burst_bits.store(BURST_BITS, Relaxed);
            server
        });
        entry.promised.burst_bits.fetch_add(BURST_BITS, Relaxed);
        if let Some(bps) = limit_bps {
            let known = before.and_then(|before| before.limits.get(&vnic)).cloned();
            let meter = known.unwrap_or_default();
            meter.burst_bits.store(BURST_BITS, Relaxed);
            meter.set_rate(bps, 0);
            self.limits.insert(vnic, meter);
        }
    }

    /// What `server` has reserved, from now on.
    pub(crate) fn reserve(&self, server: PeerId, rate_bps: u64, now_us: u64) {
        if let Some(server) = self.servers.get(&server.0) {
            server.reserved.set_rate(rate_bps, now_us);
        }
    }

    /// Does a frame of `server` go first, because it is within what the server has reserved? What
    /// does is counted.
    pub(crate) fn is_reserved(&self, server: PeerId, bits: u64, now_us: u64) -> bool {
        self.servers.get(&server.0).is_some_and(|it| it.reserved.admits(bits, now_us))
    }

    /// What `server` is promised now, in bits a second.
    pub(crate) fn promised_bps(&self, server: PeerId) -> u64 {
        self.servers.get(&server.0).map_or(0, |it| it.promised.rate_bps.load(Relaxed))
    }

    /// What `server` may send from now on.
    pub(crate) fn set_rate(&self, server: PeerId, rate_bps: u64, now_us: u64) {
        if let Some(server) = self.servers.get(&server.0) {
            server.promised.set_rate(rate_bps, now_us);
        }
    }

    /// May a frame of so many wire bits of `vnic`, which `server` sent, pass? What may is
    /// counted.
    pub(crate) fn admits(&self, server: PeerId, vnic: VnicId, bits: u64, now_us: u64) -> bool {
        let within = self.limits.get(&vnic).is_none_or(|limit| limit.admits(bits, now_us));
        within && self.servers.get(&server.0).is_some_and(|it| it.promised.admits(bits, now_us))
    }
}

impl Meter {
    /// Goes on at another rate: what is not paid for is, in bits, what it was.
    fn set_rate(&self, rate_bps: u64, now_us: u64) {
        let rate_bps = rate_bps.saturating_add(rate_bps / CLOCK_TOLERANCE);
        let before_bps = self.rate_bps.swap(rate_bps, Relaxed);
        if before_bps == rate_bps || rate_bps == 0 {
            return;
        }
        let now = now_us.saturating_mul(TICKS_PER_US);
        let rescale = |paid: u64| {
            let ahead = u128::from(paid.checked_sub(now)?);
            let ahead = ahead * u128::from(before_bps) / u128::from(rate_bps);
            Some(now.saturating_add(u64::try_from(ahead).unwrap_or(u64::MAX)))
        };
        // A frame that passes meanwhile is charged at either rate.
        let _ = self.paid.fetch_update(Relaxed, Relaxed, rescale);
    }

    fn admits(&self, bits: u64, now_us: u64) -> bool {
        let rate_bps = self.rate_bps.load(Relaxed);
        if rate_bps == 0 {
            return false;
        }
        let now = now_us.saturating_mul(TICKS_PER_US);
        let burst =
            ticks(self.burst_bits.load(Relaxed), rate_bps).saturating_add(STALL_US * TICKS_PER_US);
        let cost = ticks(bits, rate_bps);
        let charge = |paid: u64| {
            let from = paid.max(now);
            (from - now <= burst).then(|| from.saturating_add(cost))
        };
        self.paid.fetch_update(Relaxed, Relaxed, charge).is_ok()
    }
}

/// How long so many bits take.
fn ticks(bits: u64, rate_bps: u64) -> u64 {
    let ticks = u128::from(bits) * 1_000_000 * u128::from(TICKS_PER_US);
    ticks.checked_div(u128::from(rate_bps)).and_then(|t| u64::try_from(t).ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MBIT: u64 = 1_000_000;
    const A: PeerId = PeerId(0);
    const B: PeerId = PeerId(1);

    fn vnic(id: u64) -> VnicId {
        VnicId::new(id).unwrap()
    }

    /// Two servers: one with vNIC 1, and 2 that is limited to 10 Mbit/s; one with vNIC 3.
    fn police() -> Police {
        let mut police = Police::default();
        police.add(None, vnic(1), A, None);
        police.add(None, vnic(2), A, Some(10 * MBIT));
        police.add(None, vnic(3), B, None);
        police
    }

    /// Bits that pass of a flood of frames of 12,000 bits, one each 10 us.
    fn flood(police: &Police, id: u64, from_us: u64, to_us: u64) -> u64 {
        let frames = (from_us..to_us).step_by(10);
        frames
            .filter(|now_us| police.admits(if id == 3 { B } else { A }, vnic(id), 12_000, *now_us))
            .count() as u64
            * 12_000
    }

    fn burst(rate_bps: u64, vnics: u64) -> u64 {
        rate_bps / 100 + vnics * BURST_BITS + 12_000
    }

    #[test]
    fn a_server_that_floods_has_its_rate_and_its_burst_and_takes_nothing_from_another() {
        let police = police();
        police.set_rate(A, 100 * MBIT, 0);
        police.set_rate(B, 50 * MBIT, 0);
        let one = flood(&police, 1, 0, 1_000_000);
        let expected = 100 * MBIT + 100 * MBIT / CLOCK_TOLERANCE;
        assert!(one >= expected && one <= expected + burst(101 * MBIT, 2), "{one}");
        let three = flood(&police, 3, 0, 1_000_000);
        assert!(three >= 50 * MBIT, "{three}");
    }

    #[test]
    fn a_limit_of_a_vnic_holds_within_its_server() {
        let police = police();
        police.set_rate(A, 100 * MBIT, 0);
        let two = flood(&police, 2, 0, 1_000_000);
        assert!((10 * MBIT..=10 * MBIT + 20_000 + burst(10 * MBIT, 1)).contains(&two), "{two}");
        assert!(flood(&police, 1, 1_000_000, 2_000_000) > 99 * MBIT);
    }

    #[test]
    fn who_is_not_at_home_here_or_has_nothing_does_not_pass() {
        let police = police();
        assert!(!police.admits(PeerId(9), vnic(9), 1, 0));
        assert!(!police.admits(A, vnic(1), 1, 0));
        police.set_rate(A, MBIT, 0);
        assert!(police.admits(A, vnic(1), 1, 0));
    }

    #[test]
    fn a_raise_is_not_held_up_by_what_was_overdrawn_at_a_low_rate() {
        let police = police();
        police.set_rate(B, MBIT, 0);
        flood(&police, 3, 0, 100_000);
        police.set_rate(B, 500 * MBIT, 100_000);
        let frames = (100_000..110_000).step_by(30);
        let passed = frames.clone().filter(|now_us| police.admits(B, vnic(3), 12_000, *now_us));
        assert_eq!(passed.count(), frames.count());
    }

    #[test]
    fn another_configuration_is_no_new_burst() {
        let before = police();
        before.set_rate(A, 100 * MBIT, 0);
        flood(&before, 1, 0, 100_000);
        flood(&before, 2, 0, 100_000);
        assert!(!before.admits(A, vnic(1), 12_000, 100_000));
        let mut after = Police::default();
        after.add(Some(&before), vnic(1), A, None);
        after.add(Some(&before), vnic(2), A, Some(10 * MBIT));
        after.set_rate(A, 100 * MBIT, 100_000);
        assert!(!after.admits(A, vnic(1), 12_000, 100_000));
        assert!(!after.admits(A, vnic(2), 12_000, 100_000));
        // Whoever still has the old one pays into the same purse.
        assert!(before.admits(A, vnic(1), 12_000, 101_000));
        let passed = |police: &Police| flood(police, 1, 101_000, 201_000);
        assert!(passed(&after) <= 11 * MBIT);
    }

    #[test]
    fn what_is_reserved_has_a_meter_of_its_own() {
        let police = police();
        police.set_rate(A, 100 * MBIT, 0);
        assert!(!police.is_reserved(A, 12_000, 0), "nothing is");
        police.reserve(A, 40 * MBIT, 0);
        let first = (0..1_000_000).step_by(10);
        let first = first.filter(|now_us| police.is_reserved(A, 12_000, *now_us)).count() as u64;
        assert!((40 * MBIT..42 * MBIT).contains(&(first * 12_000)), "{first}");
        assert!(police.admits(A, vnic(1), 12_000, 1_000_000), "the other is as it was");
        assert_eq!([A, B].map(|server| police.promised_bps(server)), [100_100_000, 0]);
    }

    #[test]
    fn what_a_stall_delayed_passes() {
        let police = police();
        police.set_rate(B, 100 * MBIT, 0);
        flood(&police, 3, 0, 100_000);
        // Everything that was due in 8 ms comes at once.
        assert!((0..66).all(|_| police.admits(B, vnic(3), 12_000, 109_000)));
    }

    proptest! {
        #[test]
        fn never_more_than_rates_times_times_and_a_burst(
            steps in prop::collection::vec(
                (0..3_000_u64, 672..600_000_u64, prop::option::of(1..1_000_u64)), 1..300,
            ),
        ) {
            let mut police = Police::default();
            police.add(None, vnic(1), A, None);
            police.set_rate(A, 100 * MBIT, 0);
            let (mut now_us, mut rate_bps) = (0, 100 * MBIT);
            let (mut passed, mut earned, mut most) = (0_u64, 0_u64, 0);
            for (wait_us, bits, rate) in steps {
                now_us += wait_us;
                earned += rate_bps * wait_us / 1_000_000 * 1_001 / 1_000 + 2;
                if let Some(mbit) = rate {
                    rate_bps = mbit * MBIT;
                    police.set_rate(A, rate_bps, now_us);
                }
                if police.admits(A, vnic(1), bits, now_us) {
                    passed += bits;
                }
                most = most.max(rate_bps * 1_001 / 1_000 / 100 + BURST_BITS + 600_000);
                prop_assert!(passed <= earned + most + earned / 1_000 + 2_000, "{passed} {earned}");
            }
        }
    }
}
