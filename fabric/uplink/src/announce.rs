//! Telling switches and neighbours which uplink a vNIC's MAC is behind.
//!
//! A gateway announces when a vNIC is attached to it, and when
//! the uplink's carrier comes up. Each of the vNIC's addresses is announced: an ARP
//! announcement for IPv4 (RFC 5227), an unsolicited neighbour advertisement for IPv6
//! (RFC 4861, 7.2.6); a vNIC without configured addresses gets a reverse ARP
//! request, which at least moves its MAC in the switches' tables.
//!
//! Frames get lost, so each announcement is made three times: at once, 10 ms and a second later, as long as
//! the vNIC is attached here: a round for one that has left would bring its frames back. They are paced,
//! because a gateway may be home for thousands of vNICs: a burst, then two frames a millisecond. The
//! scheduler is pure; the clock is an argument.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};
use wireonce_config::Vnic;
use wireonce_frame::build::{Binding, gratuitous_arp, rarp_announce, unsolicited_advertisement};
use wireonce_wire::VnicId;

/// How often each announcement is made.
const ROUNDS: u8 = 3;
/// Time until the second announcement of one vNIC, and from there until the third: the second is for
/// frames that were under way to its old home and told the switches wrong, the third for those
/// that were lost.
const ROUND_GAPS_US: [u64; 2] = [10_000, 1_000_000];
/// Time that one frame takes of the pace.
const FRAME_GAP_US: u64 = 500;
/// Frames that may go out at once after a silence.
const BURST_FRAMES: u64 = 32;

/// When which vNIC is announced on one uplink.
#[derive(Debug, Default)]
pub struct Announcer {
    /// Earliest first: due time, vNIC.
    due: BinaryHeap<Reverse<(u64, VnicId)>>,
    /// Rounds that each vNIC still gets.
    rounds_left: BTreeMap<VnicId, u8>,
    /// When the frames that were allowed so far would be through at an even pace.
    paced_until_us: u64,
}

impl Announcer {
    /// Starts to announce `vnic`, from the first round on.
    pub fn start(&mut self, vnic: VnicId, now_us: u64) {
        if self.rounds_left.insert(vnic, ROUNDS).is_some() {
            self.due.retain(|Reverse((_, queued))| *queued != vnic);
        }
        self.due.push(Reverse((now_us, vnic)));
    }

    /// Stops all announcements.
    pub fn stop_all(&mut self) {
        self.rounds_left.clear();
        self.due.clear();
    }

    /// When [`Self::next`] has something to say; `None` for never.
    #[must_use]
    pub fn next_due_us(&self) -> Option<u64> {
        let Reverse((due_us, _)) = self.due.peek()?;
        let free_us = self.paced_until_us.saturating_sub((BURST_FRAMES - 1) * FRAME_GAP_US);
        Some((*due_us).max(free_us))
    }

    /// The vNIC to be announced now, if any, with `frames_of(vnic)` frames.
    pub fn next(&mut self, now_us: u64, frames_of: impl Fn(VnicId) -> usize) -> Option<VnicId> {
        if self.next_due_us()? > now_us {
            return None;
        }
        let Reverse((_, vnic)) = self.due.pop()?;
        let cost_us = FRAME_GAP_US.saturating_mul(frames_of(vnic) as u64);
        self.paced_until_us = self.paced_until_us.max(now_us).saturating_add(cost_us);
        let left = self.rounds_left.get_mut(&vnic)?;
        *left -= 1;
        if *left == 0 {
            self.rounds_left.remove(&vnic);
        } else {
            let [soon_us, later_us] = ROUND_GAPS_US;
            let gap_us = if *left == ROUNDS - 1 { soon_us } else { later_us };
            self.due.push(Reverse((now_us + gap_us, vnic)));
        }
        Some(vnic)
    }
}

/// The frames that announce `vnic`; at least one.
#[must_use]
pub fn frames(vnic: &Vnic) -> Vec<Vec<u8>> {
    // A prefix is a range that the vNIC may use, not an address that it has.
    let own = vnic.addresses.iter().filter(|net| net.prefix_len() == net.max_prefix_len());
    let mut frames: Vec<Vec<u8>> = own
        .map(|net| match net.addr() {
            std::net::IpAddr::V4(ip) => gratuitous_arp(Binding { ip, mac: vnic.mac }).to_vec(),
            std::net::IpAddr::V6(ip) => {
                let router = vnic.allow.router_advertisement;
                unsolicited_advertisement(Binding { ip, mac: vnic.mac }, router).to_vec()
            }
        })
        .collect();
    if frames.is_empty() {
        frames.push(rarp_announce(vnic.mac).to_vec());
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn each_address_is_announced_and_a_vnic_without_any_by_its_mac() {
        let directory = sample::directory();
        let of = |id| frames(&directory.vnic(sample::vnic(id)).unwrap().vnic);
        let types: Vec<_> = of(1).iter().map(|frame| [frame[12], frame[13]]).collect();
        // The prefix among its addresses is not announced.
        assert_eq!(types, [[0x08, 0x06], [0x86, 0xdd]]);
        let types: Vec<_> = of(2).iter().map(|frame| [frame[12], frame[13]]).collect();
        assert_eq!(types, [[0x80, 0x35]]);
        assert!(of(1).iter().chain(&of(2)).all(|frame| frame[6..11] == [0x52, 0x54, 0, 0, 0]));
    }

    fn vnic(n: u64) -> VnicId {
        VnicId::new(n).unwrap()
    }

    /// Everything that is announced until nothing is left, with its time.
    fn drain(announcer: &mut Announcer, frames_each: usize) -> Vec<(u64, VnicId)> {
        let mut said = Vec::new();
        while let Some(due_us) = announcer.next_due_us() {
            assert_eq!(announcer.next(due_us - 1, |_| frames_each), None, "not before it is due");
            said.push((due_us, announcer.next(due_us, |_| frames_each).unwrap()));
            assert!(said.len() < 100_000);
        }
        said
    }

    #[test]
    fn each_vnic_is_announced_twice_at_once_and_again_a_second_later() {
        let mut announcer = Announcer::default();
        announcer.start(vnic(1), 5_000_000);
        let times: Vec<u64> = drain(&mut announcer, 1).iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [5_000_000, 5_010_000, 6_010_000]);
    }

    #[test]
    fn the_pace_bounds_what_goes_out_in_any_time() {
        let mut announcer = Announcer::default();
        for n in 1..=500 {
            announcer.start(vnic(n), 1_000_000);
        }
        let said = drain(&mut announcer, 2);
        assert_eq!(said.len(), 1500);
        for (at, (from_us, _)) in said.iter().enumerate() {
            for (later, (until_us, _)) in said[at..].iter().enumerate() {
                let frames = 2 * (later as u64 + 1);
                // A vNIC's frames go together, so the last may overdraw by one.
                let allowed = BURST_FRAMES + 1 + (until_us - from_us) / FRAME_GAP_US;
                assert!(frames <= allowed, "{frames} frames in {} us", until_us - from_us);
            }
        }
    }

    #[test]
    fn starting_again_repeats_all_rounds_without_doubling_them() {
        let mut announcer = Announcer::default();
        announcer.start(vnic(1), 1_000_000);
        assert_eq!(announcer.next(1_000_000, |_| 1), Some(vnic(1)));
        announcer.start(vnic(1), 1_100_000);
        announcer.start(vnic(1), 1_100_000);
        assert_eq!(drain(&mut announcer, 1).len(), 3);
    }

    #[test]
    fn when_all_are_stopped_nothing_is_announced() {
        let mut announcer = Announcer::default();
        announcer.start(vnic(1), 0);
        announcer.start(vnic(2), 0);
        announcer.stop_all();
        assert_eq!(announcer.next_due_us(), None);
    }
}
