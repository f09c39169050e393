//! The gateway's own hand: what a server may send through an uplink, whatever it does itself.
//!
//! A meter for each server, at the largest promise that it may be obeying, and one for each
//! vNIC that has a limit, in bits or in packets. All workers share them, without a lock: a meter is one number, the
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
use wireonce_frame::segment::WireCost;
use wireonce_ledger::DropReason;
use wireonce_link::PeerId;
use wireonce_queue::burst_packets;
use wireonce_shares::Terms;
use wireonce_wire::VnicId;

/// Fractions of a microsecond in which times are counted: a small frame at 100 Gbit/s takes
/// 6.7 ns. 64 bits of them are 35 years.
const TICKS_PER_US: u64 = 1 << 14;
/// What comes at once after a stall of ours, or of the server, is not over the rate.
const STALL_US: u64 = 10_000;
/// What a server's bucket lets through at once for each vNIC: a frame of the largest size.
const BURST_BITS: u64 = 70_000 * 8;
/// Packets are counted in thousandths, or what is added for its clock would be nothing for most.
const PACKET: u64 = 1_000;
/// A server's clock may be faster by so much: a thousandth.
const CLOCK_TOLERANCE: u64 = 1_000;

/// Who is policed on one uplink.
#[derive(Debug, Default)]
pub(crate) struct Police {
    servers: FxHashMap<usize, Server>,
    limits: FxHashMap<VnicId, Limits>,
}

/// The meters of a vNIC that has a limit.
#[derive(Debug, Clone, Default)]
struct Limits {
    bits: Option<Arc<Meter>>,
    packets: Option<Arc<Meter>>,
}

/// The meters of one server.
#[derive(Debug, Clone, Default)]
struct Server {
    promised: Arc<Meter>,
    /// What goes first when the port is full.
    reserved: Arc<Meter>,
}

/// What passes at a rate and with a burst: bits, or thousandths of packets.
#[derive(Debug, Default)]
struct Meter {
    /// A second.
    rate: AtomicU64,
    burst: AtomicU64,
    paid: AtomicU64,
}

impl Police {
    /// A vNIC that `server` has. Servers without any do not pass, and those with one have no rate yet.
    /// Meters that `before` has for the same are used on: another configuration is no new burst.
    pub(crate) fn add(
        &mut self,
        before: Option<&Self>,
        vnic: VnicId,
        server: PeerId,
        terms: &Terms,
    ) {
        let known = || before.and_then(|before| before.servers.get(&server.0)).cloned();
        self.servers.entry(server.0).or_insert_with(|| {
            let server = known().unwrap_or_default();
            server.reserved.burst.store(BURST_BITS, Relaxed);
            server
        });
        let known = before.and_then(|before| before.limits.get(&vnic)).cloned();
        let Limits { bits, packets } = known.unwrap_or_default();
        let bits = terms.limit_bps.map(|bps| Meter::go_on(bits, bps, BURST_BITS));
        let packets = terms.limit_packets_per_s.map(|packets_per_s| {
            let rate = u64::from(packets_per_s);
            Meter::go_on(packets, rate * PACKET, burst_packets(rate) * PACKET)
        });
        if bits.is_some() || packets.is_some() {
            self.limits.insert(vnic, Limits { bits, packets });
        }
    }

    /// So many of `server`'s vNICs are here from now on. Each adds a frame to what may come at once.
    pub(crate) fn set_vnics(&self, server: PeerId, vnics: u64) {
        if let Some(server) = self.servers.get(&server.0) {
            server.promised.burst.store(BURST_BITS.saturating_mul(vnics), Relaxed);
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
        self.servers.get(&server.0).map_or(0, |it| it.promised.rate.load(Relaxed))
    }

    /// What `server` may send from now on.
    pub(crate) fn set_rate(&self, server: PeerId, rate_bps: u64, now_us: u64) {
        if let Some(server) = self.servers.get(&server.0) {
            server.promised.set_rate(rate_bps, now_us);
        }
    }

    /// May a frame of `vnic`, which `server` sent, pass? What may is counted.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn admit(
        &self,
        server: PeerId,
        vnic: VnicId,
        cost: WireCost,
        now_us: u64,
    ) -> Result<(), DropReason> {
        let bits = cost.bits();
        if let Some(limits) = self.limits.get(&vnic) {
            let packets = u64::from(cost.segments) * PACKET;
            if limits.packets.as_ref().is_some_and(|limit| !limit.admits(packets, now_us)) {
                return Err(DropReason::OverPacketLimit);
            }
            if limits.bits.as_ref().is_some_and(|limit| !limit.admits(bits, now_us)) {
                return Err(DropReason::OverLease);
            }
        }
        let server = self.servers.get(&server.0);
        match server.is_some_and(|it| it.promised.admits(bits, now_us)) {
            true => Ok(()),
            false => Err(DropReason::OverLease),
        }
    }
}

impl Meter {
    /// The meter of a limit that there was before, or a new one.
    fn go_on(before: Option<Arc<Self>>, rate: u64, burst: u64) -> Arc<Self> {
        let meter = before.unwrap_or_default();
        meter.burst.store(burst, Relaxed);
        meter.set_rate(rate, 0);
        meter
    }

    /// Goes on at another rate: what is not paid for is what it was.
    fn set_rate(&self, rate: u64, now_us: u64) {
        let rate = rate.saturating_add(rate / CLOCK_TOLERANCE);
        let before_rate = self.rate.swap(rate, Relaxed);
        if before_rate == rate || rate == 0 {
            return;
        }
        let now = now_us.saturating_mul(TICKS_PER_US);
        let rescale = |paid: u64| {
            let ahead = u128::from(paid.checked_sub(now)?);
            let ahead = ahead * u128::from(before_rate) / u128::from(rate);
            Some(now.saturating_add(u64::try_from(ahead).unwrap_or(u64::MAX)))
        };
        // A frame that passes meanwhile is charged at either rate.
        let _ = self.paid.fetch_update(Relaxed, Relaxed, rescale);
    }

    fn admits(&self, amount: u64, now_us: u64) -> bool {
        let rate = self.rate.load(Relaxed);
        if rate == 0 {
            return false;
        }
        let now = now_us.saturating_mul(TICKS_PER_US);
        let burst = ticks(self.burst.load(Relaxed), rate).saturating_add(STALL_US * TICKS_PER_US);
        let cost = ticks(amount, rate);
        let charge = |paid: u64| {
            let from = paid.max(now);
            (from - now <= burst).then(|| from.saturating_add(cost))
        };
        self.paid.fetch_update(Relaxed, Relaxed, charge).is_ok()
    }
}

/// How long so much takes.
fn ticks(amount: u64, rate: u64) -> u64 {
    let ticks = u128::from(amount) * 1_000_000 * u128::from(TICKS_PER_US);
    ticks.checked_div(u128::from(rate)).and_then(|t| u64::try_from(t).ok()).unwrap_or(u64::MAX)
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

    fn limited(bps: u64) -> Terms {
        Terms { limit_bps: Some(bps), ..Terms::default() }
    }

    /// A frame of so many bits.
    fn frame(bits: u64) -> WireCost {
        WireCost { segments: 1, bytes: bits / 8 }
    }

    fn admits(police: &Police, server: PeerId, vnic: VnicId, bits: u64, now_us: u64) -> bool {
        police.admit(server, vnic, frame(bits), now_us).is_ok()
    }

    /// Two servers: one with vNIC 1, and 2 that is limited to 10 Mbit/s; one with vNIC 3.
    fn police() -> Police {
        let mut police = Police::default();
        police.add(None, vnic(1), A, &Terms::default());
        police.add(None, vnic(2), A, &limited(10 * MBIT));
        police.add(None, vnic(3), B, &Terms::default());
        police.set_vnics(A, 2);
        police.set_vnics(B, 1);
        police
    }

    /// Bits that pass of a flood of frames of 12,000 bits, one each 10 us.
    fn flood(police: &Police, id: u64, from_us: u64, to_us: u64) -> u64 {
        let frames = (from_us..to_us).step_by(10);
        frames
            .filter(|now_us| admits(police, if id == 3 { B } else { A }, vnic(id), 12_000, *now_us))
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

    /// Frames of vNIC 1 that pass of a flood, one each 10 us.
    fn packets(police: &Police, segments: u32, from_us: u64, to_us: u64) -> u64 {
        let cost = WireCost { segments, bytes: u64::from(segments) * 84 };
        let mut passed = 0;
        for now_us in (from_us..to_us).step_by(10) {
            match police.admit(A, vnic(1), cost, now_us) {
                Ok(()) => passed += u64::from(segments),
                Err(why) => assert_eq!(why, DropReason::OverPacketLimit),
            }
        }
        passed
    }

    fn limited_to(packets_per_s: u32) -> (Police, Terms) {
        let terms = Terms { limit_packets_per_s: Some(packets_per_s), ..Terms::default() };
        let mut police = Police::default();
        police.add(None, vnic(1), A, &terms);
        police.set_rate(A, 1_000 * MBIT, 0);
        (police, terms)
    }

    #[test]
    fn a_limit_in_packets_holds_with_a_reason_of_its_own_whatever_frames_are_cut_into() {
        for (rate, segments) in [(1_u32, 1), (20_000, 1), (20_000, 45), (90_000, 1)] {
            let (police, _) = limited_to(rate);
            let passed = packets(&police, segments, 0, 4_000_000);
            let rate = u64::from(rate);
            let burst = burst_packets(rate) + rate / 100 + 1 + u64::from(segments);
            let most = rate * 4 + rate / 250 + 1 + burst;
            assert!((rate * 4..=most).contains(&passed), "{rate}: {passed} of {most}");
        }
    }

    #[test]
    fn a_server_that_keeps_to_a_limit_in_packets_by_a_fast_clock_loses_nothing() {
        // One that is faster by 200 millionths, for an hour, at 7 packets a second.
        let (police, _) = limited_to(7);
        let mut bucket = wireonce_shares::Bucket::new(7, burst_packets(7), 0);
        let mut now_us = 0;
        while now_us < 3_600_000_000_u64 {
            let theirs_us = now_us + now_us / 5_000;
            if bucket.take(1, theirs_us) {
                let cost = WireCost { segments: 1, bytes: 84 };
                assert_eq!(police.admit(A, vnic(1), cost, now_us), Ok(()), "at {now_us}");
            } else {
                now_us += 10_000;
            }
        }
    }

    #[test]
    fn another_configuration_is_no_new_burst_of_packets_and_without_a_limit_all_pass() {
        let (before, terms) = limited_to(1_000);
        packets(&before, 1, 0, 100_000);
        let mut after = Police::default();
        after.add(Some(&before), vnic(1), A, &terms);
        after.set_rate(A, 1_000 * MBIT, 100_000);
        assert!(packets(&after, 1, 100_000, 200_000) <= 102);
        let mut free = Police::default();
        free.add(Some(&after), vnic(1), A, &Terms::default());
        free.set_rate(A, 1_000 * MBIT, 200_000);
        assert_eq!(packets(&free, 1, 200_000, 300_000), 10_000);
    }

    #[test]
    fn who_is_not_at_home_here_or_has_nothing_does_not_pass() {
        let police = police();
        assert!(!admits(&police, PeerId(9), vnic(9), 1, 0));
        assert!(!admits(&police, A, vnic(1), 1, 0));
        police.set_rate(A, MBIT, 0);
        assert!(admits(&police, A, vnic(1), 1, 0));
    }

    #[test]
    fn a_raise_is_not_held_up_by_what_was_overdrawn_at_a_low_rate() {
        let police = police();
        police.set_rate(B, MBIT, 0);
        flood(&police, 3, 0, 100_000);
        police.set_rate(B, 500 * MBIT, 100_000);
        let frames = (100_000..110_000).step_by(30);
        let passed = frames.clone().filter(|now_us| admits(&police, B, vnic(3), 12_000, *now_us));
        assert_eq!(passed.count(), frames.count());
    }

    #[test]
    fn another_configuration_is_no_new_burst() {
        let before = police();
        before.set_rate(A, 100 * MBIT, 0);
        flood(&before, 1, 0, 100_000);
        flood(&before, 2, 0, 100_000);
        assert!(!admits(&before, A, vnic(1), 12_000, 100_000));
        let mut after = Police::default();
        after.add(Some(&before), vnic(1), A, &Terms::default());
        after.add(Some(&before), vnic(2), A, &limited(10 * MBIT));
        after.set_vnics(A, 2);
        after.set_rate(A, 100 * MBIT, 100_000);
        assert!(!admits(&after, A, vnic(1), 12_000, 100_000));
        assert!(!admits(&after, A, vnic(2), 12_000, 100_000));
        // Whoever still has the old one pays into the same purse.
        assert!(admits(&before, A, vnic(1), 12_000, 101_000));
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
        assert!(admits(&police, A, vnic(1), 12_000, 1_000_000), "the other is as it was");
        assert_eq!([A, B].map(|server| police.promised_bps(server)), [100_100_000, 0]);
    }

    #[test]
    fn what_a_stall_delayed_passes() {
        let police = police();
        police.set_rate(B, 100 * MBIT, 0);
        flood(&police, 3, 0, 100_000);
        // Everything that was due in 8 ms comes at once.
        assert!((0..66).all(|_| admits(&police, B, vnic(3), 12_000, 109_000)));
    }

    proptest! {
        #[test]
        fn never_more_than_rates_times_times_and_a_burst(
            steps in prop::collection::vec(
                (0..3_000_u64, 672..600_000_u64, prop::option::of(1..1_000_u64)), 1..300,
            ),
        ) {
            let mut police = Police::default();
            police.add(None, vnic(1), A, &Terms::default());
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
                if admits(&police, A, vnic(1), bits, now_us) {
                    passed += bits;
                }
                most = most.max(rate_bps * 1_001 / 1_000 / 100 + BURST_BITS + 600_000);
                prop_assert!(passed <= earned + most + earned / 1_000 + 2_000, "{passed} {earned}");
            }
        }
    }
}
