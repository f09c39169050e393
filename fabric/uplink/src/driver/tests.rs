//! The drivers against the real kernel, in network namespaces.
//!
//! Inside is a namespace with the uplink's interface, outside one with the other
//! end of a veth pair (or, for the TAP, the kernel's end), where a raw socket
//! writes and reads what crosses.

use super::*;
use crate::{
    books::Owner,
    sample::tcp_segment,
    testbed::{Namespace, Raw},
};
use std::io::Read;
use wireonce_frame::{FrameRef, Headers, MacAddr, Offload, coalesce::Flow, sample::Sample};
use wireonce_ledger::Amount;
use wireonce_ring::Wait;

const RECEIVE: Token = Token { kind: 66, generation: 0, index: 3 };
const TRANSMIT: Token = Token { kind: 67, generation: 0, index: 3 << 16 };
const TO: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const FROM: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const PLAIN: [u8; VNET_HEADER_LEN] = [0; VNET_HEADER_LEN];

#[test]
fn plain_frames_cross_a_packet_uplink_both_ways() {
    let Some((inside, outside)) = pair() else { return };
    inside.run(|| {
        let mut uplink = Uplink::open(Access::Packet);
        outside.run(|| Raw::open("out0").write(&PLAIN, &frame(1, 60)));
        let received = uplink.receive(1);
        assert_eq!(received, [Got { vnet: PLAIN, vlan: None, frame: frame(1, 60) }]);

        let listener = outside.run(|| Raw::open("out0"));
        assert!(matches!(uplink.send(PLAIN, None, &frame(2, 1514)), SentOutcome::Done));
        assert_eq!(listener.read().1, frame(2, 1514));
    });
}

#[test]
fn frames_for_strange_macs_are_received_but_not_those_for_the_port_itself() {
    let Some((inside, outside)) = pair() else { return };
    inside.ip("link set up0 address 02:00:00:00:00:99");
    inside.run(|| {
        let mut uplink = Uplink::open(Access::Packet);
        let mut for_the_port = frame(3, 60);
        for_the_port[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0x99]);
        outside.run(|| {
            let raw = Raw::open("out0");
            raw.write(&PLAIN, &for_the_port);
            raw.write(&PLAIN, &frame(4, 60));
        });
        assert_eq!(uplink.receive(1)[0].frame, frame(4, 60));
    });
}

#[test]
fn what_leaves_through_the_port_does_not_come_back_in() {
    let Some((inside, outside)) = pair() else { return };
    inside.run(|| {
        let mut uplink = Uplink::open(Access::Packet);
        // Ours, and one of another program on this host.
        uplink.send(PLAIN, None, &frame(5, 60));
        Raw::open("up0").write(&PLAIN, &frame(6, 60));
        outside.run(|| Raw::open("out0").write(&PLAIN, &frame(7, 60)));
        assert_eq!(uplink.receive(1)[0].frame, frame(7, 60));
    });
}

#[test]
fn vlan_tags_are_beside_the_frame_inside_and_on_it_outside() {
    let Some((inside, outside)) = pair() else { return };
    inside.run(|| {
        let mut uplink = Uplink::open(Access::Packet);
        outside.run(|| Raw::open("out0").write(&PLAIN, &tagged(&frame(8, 60))));
        let received = uplink.receive(1);
        assert_eq!(received, [Got { vnet: PLAIN, vlan: Some(7), frame: frame(8, 60) }]);

        outside.run(|| {
            let mut far = Uplink::open_on(Access::Packet, "out0");
            // Four bytes over the MTU with its tag, as a full frame on a VLAN is.
            inside.run(|| Uplink::open(Access::Packet).send(PLAIN, Some(7), &frame(9, 1514)));
            let received = far.receive(1);
            assert_eq!(received, [Got { vnet: PLAIN, vlan: Some(7), frame: frame(9, 1514) }]);
        });
    });
}

#[test]
fn large_segments_cross_a_packet_uplink_whole() {
    let Some((inside, outside)) = pair() else { return };
    let (vnet, segment) = tcp_segment(TO, FROM, 65_000);
    inside.run(|| {
        let mut uplink = Uplink::open(Access::Packet);
        outside.run(|| Raw::open("out0").write(&vnet, &segment));
        let received = uplink.receive(1);
        assert_eq!(received[0].frame, segment);
        assert_eq!(request_of(&received[0].vnet), request_of(&vnet));
    });
    outside.run(|| {
        let mut far = Uplink::open_on(Access::Packet, "out0");
        for vlan in [None, Some(7)] {
            let outcome = inside.run(|| Uplink::open(Access::Packet).send(vnet, vlan, &segment));
            assert!(matches!(outcome, SentOutcome::Done), "{outcome:?}");
            let received = far.receive(1);
            assert_eq!(received[0].vlan, vlan);
            assert_eq!(received[0].frame, segment);
            assert_eq!(request_of(&received[0].vnet), request_of(&vnet));
        }
    });
}

#[test]
fn a_port_without_offload_gets_segments_that_the_kernel_cut() {
    let Some((inside, outside)) = pair() else { return };
    inside.run(|| {
        let output = std::process::Command::new("ethtool")
            .args(["-K", "up0", "tso", "off", "tx", "off"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let (vnet, segment) = tcp_segment(TO, FROM, 14_480);
        let mut uplink = Uplink::open(Access::Packet);
        let listener = outside.run(|| Raw::open("out0"));
        assert!(matches!(uplink.send(vnet, None, &segment), SentOutcome::Done));
        for n in 0..10_usize {
            let (header, bytes) = listener.read();
            assert_eq!(header[1], 0, "no segmentation is left to do");
            assert_eq!(bytes.len(), 54 + 1448);
            assert_eq!(bytes[54..], segment[54 + n * 1448..][..1448]);
        }
    });
}

#[test]
fn the_kernel_cuts_joined_frames_into_those_that_came() {
    for access in [Access::Packet, Access::Tap] {
        let Some((inside, outside)) = pair() else { return };
        if access == Access::Tap {
            inside.ip("link del up0");
        }
        inside.run(|| {
            let mut uplink = Uplink::open(access);
            let listener = match access {
                Access::Tap => behind_a_bridge(&inside),
                Access::Packet => {
                    offloads_off("up0");
                    outside.run(|| Raw::open("out0"))
                }
            };
            for vlan in [None, Some(7)] {
                for frames in flows() {
                    let transmit = uplink.driver.transmit();
                    let already = transmit.in_flight();
                    frames.iter().for_each(|bytes| queue_joined(transmit, vlan, bytes));
                    assert_eq!(transmit.in_flight(), already + 1, "joined");
                    transmit.submit(&mut uplink.ring).unwrap();
                    let mut fates = Vec::new();
                    while fates.is_empty() {
                        fates = uplink.fates();
                    }
                    assert!(matches!(fates[..], [SentOutcome::Done]), "{fates:?}");
                    for bytes in &frames {
                        let (tag, seen) = listener.next_with_tag(&frames[0][..12]);
                        assert_eq!(tag.is_some(), vlan.is_some());
                        assert_eq!(seen, *bytes, "{access:?} {vlan:?}");
                    }
                }
            }
        });
    }
}

/// What goes into the TAP `up0` leaves through a bridge's other port, before which the
/// kernel cuts it.
fn behind_a_bridge(inside: &Namespace) -> Raw {
    inside.veth("p0", inside, "p1");
    offloads_off("p0");
    inside.ip("link add br0 type bridge mcast_snooping 0");
    for words in ["up0 master br0", "p0 master br0", "br0 up"] {
        inside.ip(&format!("link set {words}"));
    }
    Raw::open("p1")
}

/// Flows of all kinds that are joined whole.
fn flows() -> Vec<Vec<Vec<u8>>> {
    let lens = [100, 100, 100, 40];
    let sequence = |n: usize| (u32::MAX - 150).wrapping_add(100 * u32::try_from(n).unwrap());
    let kinds: [fn(u32) -> Sample; 4] = [
        |_| Sample::udp4(),
        |_| Sample::udp6(),
        |sequence| Sample::tcp4().tcp(sequence, 0x10, vec![1; 12]),
        |sequence| Sample::tcp6().tcp(sequence, 0x10, vec![1; 12]),
    ];
    let flow = |kind: fn(u32) -> Sample| {
        let frame = |(n, len): (usize, &usize)| {
            let id = 0xfffe_u16.wrapping_add(u16::try_from(n).unwrap());
            kind(sequence(n)).ipv4_id(id).payload(vec![n.to_le_bytes()[0]; *len]).build()
        };
        lens.iter().enumerate().map(frame).collect()
    };
    kinds.into_iter().map(flow).collect()
}

fn queue_joined(transmit: &mut Transmit, vlan: Option<u16>, bytes: &[u8]) {
    let headers = Headers::parse(bytes, bytes.len()).unwrap();
    let flow = Flow::of(&headers, bytes, bytes.len(), &Offload::default());
    let parts = [bytes];
    let frame = FrameRef::new(&parts, Offload::default());
    transmit.queue(PLAIN, vlan, flow, &frame, BOOKING).unwrap();
}

/// The kernel does everything itself before the interface.
fn offloads_off(interface: &str) {
    let words =
        ["-K", interface, "tso", "off", "tx-udp-segmentation", "off", "tx", "off", "txvlan", "off"];
    let output = std::process::Command::new("ethtool").args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn refused_offloads_come_back_with_their_bytes() {
    let Some((inside, _outside)) = pair() else { return };
    let (mut vnet, segment) = tcp_segment(TO, FROM, 3000);
    vnet[1] = 77; // no such kind of segment
    inside.run(|| {
        let mut uplink = Uplink::open(Access::Packet);
        let outcome = uplink.send(vnet, None, &segment);
        let SentOutcome::OffloadRefused(bytes) = outcome else { panic!("{outcome:?}") };
        assert_eq!(bytes[sys::VNET_LEN..], segment);
    });
}

#[test]
fn the_bound_on_frames_in_flight_makes_the_port_busy() {
    let Some((inside, _outside)) = pair() else { return };
    inside.run(|| {
        let mut uplink = Uplink::open(Access::Packet);
        let bytes = frame(1, 60_000);
        let parts = [&bytes[..]];
        let frame = FrameRef::new(&parts, Offload::default());
        let mut taken = 0;
        while uplink.driver.transmit().queue(PLAIN, None, None, &frame, BOOKING).is_ok() {
            taken += 1;
            assert!(taken < 1000, "8 MB hold fewer frames of 60 KB");
        }
        assert_eq!(uplink.driver.transmit().in_flight(), taken);
        uplink.driver.transmit().submit(&mut uplink.ring).unwrap();
        let mut fates = 0;
        while fates < taken {
            fates += uplink.fates().len();
        }
        assert_eq!(uplink.driver.transmit().in_flight(), 0);
    });
}

#[test]
fn the_carrier_follows_the_other_end_and_each_change_is_an_event() {
    let Some((inside, outside)) = pair() else { return };
    inside.run(|| {
        let uplink = Uplink::open(Access::Packet);
        let mut ring = Ring::new().unwrap();
        let mut events = sys::link_events().unwrap();
        ring.poll_multi(raw(&events), RECEIVE).unwrap();
        let mut wait_for_carrier = |wanted| {
            let mut turns = 0;
            while uplink.driver.has_carrier() != wanted {
                ring.enter(Wait::AtMostUs(1_000_000), &mut Vec::new()).unwrap();
                while events.read(&mut [0; 4096]).is_ok() {}
                turns += 1;
                assert!(turns < 20, "carrier = {wanted} is not seen");
            }
        };
        wait_for_carrier(true);
        outside.ip("link set out0 down");
        wait_for_carrier(false);
        outside.ip("link set out0 up");
        wait_for_carrier(true);
    });
}

#[test]
fn a_carrier_that_came_and_went_is_gone_before_the_kernel_says_so() {
    let Some((inside, outside)) = pair() else { return };
    inside.run(|| {
        let uplink = Uplink::open(Access::Packet);
        for _ in 0..5 {
            outside.ip("link set out0 up");
            outside.ip("link set out0 down");
            assert!(!uplink.driver.has_carrier());
        }
    });
}

#[test]
fn a_replaced_interface_is_opened_again() {
    let Some((inside, outside)) = pair() else { return };
    inside.run(|| {
        let mut uplink = Uplink::open(Access::Packet);
        outside.ip("link del out0");
        assert!(!uplink.driver.has_carrier());
        uplink.driver.refresh(&mut uplink.ring).unwrap();
        inside.veth("up0", &outside, "out0");
        uplink.driver.refresh(&mut uplink.ring).unwrap();
        assert_eq!(uplink.driver.counters().reopened, 1);
        outside.run(|| Raw::open("out0").write(&PLAIN, &frame(1, 60)));
        assert_eq!(uplink.receive(1)[0].frame, frame(1, 60));
        uplink.send(PLAIN, None, &frame(2, 60));
    });
}

#[test]
fn a_deleted_tap_is_made_again_and_does_not_spin_meanwhile() {
    let Some(inside) = Namespace::new() else { return };
    inside.run(|| {
        let mut uplink = Uplink::open(Access::Tap);
        inside.ip("link del up0");
        let mut events = 0;
        for _ in 0..20 {
            let mut completions = Vec::new();
            uplink.ring.enter(Wait::AtMostUs(5_000), &mut completions).unwrap();
            events += completions.len();
            for completion in &completions {
                uplink.driver.receive(&mut uplink.ring, completion, &mut |_| {}).unwrap();
            }
        }
        assert!(events < 10, "{events} events of a device that is gone");
        uplink.driver.refresh(&mut uplink.ring).unwrap();
        assert_eq!(uplink.driver.counters().reopened, 1);
        Raw::open("up0").write(&PLAIN, &frame(1, 60));
        assert_eq!(uplink.receive(1)[0].frame, frame(1, 60));
        assert!(matches!(uplink.send(PLAIN, None, &frame(2, 60)), SentOutcome::Done));
    });
}

#[test]
fn a_shared_interface_that_is_replaced_is_shared_again() {
    let Some((inside, outside)) = pair() else { return };
    inside.run(|| {
        let group: Arc<FanoutGroup> = Arc::default();
        let shared = || {
            let mut ring = Ring::new().unwrap();
            let port = Port { group: Some(Arc::clone(&group)), ..port(Access::Packet, "up0") };
            let driver = Driver::open(port, &mut ring).unwrap();
            Uplink { ring, driver }
        };
        let mut both = [shared(), shared()];
        outside.ip("link del out0");
        inside.veth("up0", &outside, "out0");
        for uplink in &mut both {
            uplink.driver.refresh(&mut uplink.ring).unwrap();
            assert_eq!(uplink.driver.counters().reopened, 1);
            uplink.ring.enter(Wait::Poll, &mut Vec::new()).unwrap();
        }
        outside.run(|| {
            let raw = Raw::open("out0");
            (0..64).for_each(|_| raw.write(&PLAIN, &frame(1, 60)));
        });
        let mut got = 0;
        for _ in 0..50 {
            got += both.iter_mut().map(|uplink| uplink.turn().len()).sum::<usize>();
            if got >= 64 {
                break;
            }
        }
        assert_eq!(got, 64, "each frame reaches one of them");
    });
}

#[test]
fn frames_that_came_too_fast_are_counted() {
    let Some((inside, outside)) = pair() else { return };
    inside.run(|| {
        let mut uplink = Uplink::open(Access::Packet);
        let (vnet, segment) = tcp_segment(TO, FROM, 65_000);
        outside.run(|| {
            let raw = Raw::open("out0");
            for _ in 0..400 {
                raw.write(&vnet, &segment);
            }
        });
        let mut got = 0;
        for _ in 0..100 {
            got += uplink.turn().len();
        }
        uplink.driver.refresh(&mut uplink.ring).unwrap();
        let lost = usize::try_from(uplink.driver.counters().kernel_drops).unwrap();
        assert!(lost > 0, "26 MB do not fit in the socket buffer");
        assert_eq!(got + lost, 400);
    });
}

#[test]
fn interfaces_that_are_not_there_are_refused_with_a_remedy() {
    let mut ring = Ring::new().unwrap();
    let error = Driver::open(port(Access::Packet, "nosuch0"), &mut ring).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("`nosuch0`") && text.contains("ip link"), "{text}");
    let long = port(Access::Tap, "a-name-that-is-too-long");
    assert!(Driver::open(long, &mut ring).is_err());
}

#[test]
fn frames_cross_a_tap_both_ways() {
    let Some(inside) = Namespace::new() else { return };
    inside.run(|| {
        let mut uplink = Uplink::open(Access::Tap);
        let kernel = Raw::open("up0");
        kernel.write(&PLAIN, &frame(1, 60));
        let received = uplink.receive(1);
        assert_eq!(received, [Got { vnet: PLAIN, vlan: None, frame: frame(1, 60) }]);
        assert!(matches!(uplink.send(PLAIN, None, &frame(2, 1514)), SentOutcome::Done));
        assert_eq!(kernel.read().1, frame(2, 1514));
    });
}

#[test]
fn tags_and_large_segments_cross_a_tap() {
    let Some(inside) = Namespace::new() else { return };
    let (vnet, segment) = tcp_segment(TO, FROM, 65_000);
    inside.run(|| {
        let mut uplink = Uplink::open(Access::Tap);
        let kernel = Raw::open("up0");
        let mut vnet_tagged = vnet;
        vnet_tagged[2] += 4;
        vnet_tagged[6] += 4;
        kernel.write(&vnet_tagged, &tagged(&segment));
        let from_kernel = uplink.receive(1);
        let mut far = Uplink::open_on(Access::Packet, "up0");
        assert!(matches!(uplink.send(vnet, Some(7), &segment), SentOutcome::Done));
        for received in [&from_kernel[0], &far.receive(1)[0]] {
            assert_eq!(received.vlan, Some(7));
            assert_eq!(received.frame, segment);
            assert_eq!(request_of(&received.vnet), request_of(&vnet));
        }
    });
}

#[test]
fn a_tap_is_read_in_turns_and_loses_nothing() {
    let Some(inside) = Namespace::new() else { return };
    inside.run(|| {
        let mut uplink = Uplink::open(Access::Tap);
        let kernel = Raw::open("up0");
        for _ in 0..150 {
            kernel.write(&PLAIN, &frame(1, 60));
        }
        let first = uplink.turn().len();
        assert_eq!(first, 64);
        assert!(uplink.driver.has_more());
        let mut rest = 0;
        while uplink.driver.has_more() {
            uplink.driver.receive_more(&mut |_| rest += 1);
        }
        assert_eq!(first + rest, 150);
        kernel.write(&PLAIN, &frame(2, 60));
        assert_eq!(uplink.receive(1)[0].frame, frame(2, 60), "the next change is an event");
    });
}

#[test]
fn a_tap_s_turn_is_shorter_for_large_frames() {
    let Some(inside) = Namespace::new() else { return };
    inside.run(|| {
        let mut uplink = Uplink::open(Access::Tap);
        let kernel = Raw::open("up0");
        let (vnet, segment) = tcp_segment(TO, FROM, 60_000);
        for _ in 0..12 {
            kernel.write(&vnet, &segment);
        }
        let first = uplink.turn().len();
        assert_eq!(first, 5, "256 KiB, and what is begun");
        assert!(uplink.driver.has_more());
        let mut rest = 0;
        while uplink.driver.has_more() {
            uplink.driver.receive_more(&mut |_| rest += 1);
        }
        assert_eq!(first + rest, 12);
    });
}

const BOOKING: Booking =
    Booking { owner: Owner::NOBODY, amount: Amount { frames: 1, segments: 1, bytes: 0 } };

fn pair() -> Option<(Namespace, Namespace)> {
    let (inside, outside) = (Namespace::new()?, Namespace::new()?);
    inside.veth("up0", &outside, "out0");
    Some((inside, outside))
}

fn port(access: Access, interface: &str) -> Port {
    Port { access, interface: interface.into(), group: None, receive: RECEIVE, transmit: TRANSMIT }
}

/// A frame that the kernel itself has no interest in (ethertype 0x88b5 is for experiments).
fn frame(number: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    frame.resize(len, number);
    frame
}

/// The frame on VLAN 7.
fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, 7], &frame[12..]].concat()
}

/// What a header asks for: all but `hdr_len`, which is a hint.
fn request_of(vnet: &[u8]) -> (u8, u8, &[u8]) {
    (vnet[0], vnet[1], &vnet[4..10])
}

#[derive(Debug, PartialEq)]
struct Got {
    vnet: [u8; VNET_HEADER_LEN],
    vlan: Option<u16>,
    frame: Vec<u8>,
}

/// A driver with its ring, in the thread's namespace.
struct Uplink {
    ring: Ring,
    driver: Driver,
}

impl Uplink {
    fn open(access: Access) -> Self {
        Self::open_on(access, "up0")
    }

    fn open_on(access: Access, interface: &str) -> Self {
        let mut ring = Ring::new().unwrap();
        let driver = Driver::open(port(access, interface), &mut ring).unwrap();
        let mut uplink = Self { ring, driver };
        // Queued operations are submitted with the first enter.
        uplink.ring.enter(Wait::Poll, &mut Vec::new()).unwrap();
        uplink
    }

    /// One turn of at most 20 ms: what came in.
    fn turn(&mut self) -> Vec<Got> {
        let mut completions = Vec::new();
        self.ring.enter(Wait::AtMostUs(20_000), &mut completions).unwrap();
        let mut got = Vec::new();
        let mut sink = |received: Received<'_>| {
            let Received { vnet, vlan, frame } = received;
            got.push(Got { vnet, vlan, frame: frame.to_vec() });
        };
        for completion in completions.iter().filter(|c| c.token.kind == RECEIVE.kind) {
            self.driver.receive(&mut self.ring, completion, &mut sink).unwrap();
        }
        got
    }

    fn receive(&mut self, n: usize) -> Vec<Got> {
        let mut got = Vec::new();
        for _ in 0..100 {
            got.extend(self.turn());
            if got.len() >= n {
                break;
            }
        }
        assert_eq!(got.len(), n, "{got:?}");
        got
    }

    fn fates(&mut self) -> Vec<SentOutcome> {
        let mut completions = Vec::new();
        self.ring.enter(Wait::AtMostUs(20_000), &mut completions).unwrap();
        let sends = completions.into_iter().filter(|c| c.token.kind == TRANSMIT.kind);
        sends.map(|c| self.driver.transmit().finish(c).unwrap().outcome).collect()
    }

    fn send(
        &mut self,
        vnet: [u8; VNET_HEADER_LEN],
        vlan: Option<u16>,
        bytes: &[u8],
    ) -> SentOutcome {
        let parts = [bytes];
        let frame = FrameRef::new(&parts, Offload::default());
        self.driver.transmit().queue(vnet, vlan, None, &frame, BOOKING).unwrap();
        self.driver.transmit().submit(&mut self.ring).unwrap();
        for _ in 0..100 {
            if let Some(fate) = self.fates().pop() {
                return fate;
            }
        }
        panic!("the send does not complete");
    }
}
