//! A port with a wire at its other end.

use super::*;
use crate::{
    attached::Cell,
    driver::{Access, Port},
    sample::{STRANGER, config, directory, mac, tcp_segment, vnic},
    testbed::{Namespace, Raw},
};
use wireonce_frame::{Headers, checksum, coalesce::Flow, sample::Sample};
use wireonce_home::Word;
use wireonce_ring::{Token, Wait};

fn port(ring: &mut Ring) -> UplinkPort {
    port_that(ring, false)
}

fn port_that(ring: &mut Ring, announces: bool) -> UplinkPort {
    let port = Port {
        access: Access::Packet,
        interface: "up0".to_owned(),
        group: None,
        receive: Token::new(1, 0),
        transmit: Token::new(2, 0),
    };
    let driver = Driver::open(port, ring).unwrap();
    let config = config();
    let uplink = Arc::clone(&config.uplinks[0]);
    let storm = Arc::new(OutsideStorm::new(&config, &uplink));
    let gate = Arc::new(Gate::deaf(uplink.id, uplink.id));
    let mut port = UplinkPort::new(uplink, driver, storm, gate, announces);
    port.refresh(ring, &mut Books::default(), &directory(), &Attached::default(), 0);
    port
}

/// The uplink's namespace, the other end's, and who listens there.
fn wired() -> Option<(Namespace, Namespace, Raw)> {
    let inside = Namespace::new()?;
    let outside = Namespace::new()?;
    inside.veth("up0", &outside, "out0");
    let listener = outside.run(|| Raw::open("out0"));
    Some((inside, outside, listener))
}

fn settle(port: &mut UplinkPort, ring: &mut Ring, books: &mut Books) {
    port.driver.transmit().submit(ring).unwrap();
    for _ in 0..100 {
        let mut completions = Vec::new();
        ring.enter(Wait::AtMostUs(10_000), &mut completions).unwrap();
        for completion in completions.into_iter().filter(|c| c.token.kind == 2) {
            let sent = port.driver.transmit().finish(completion).unwrap();
            port.finish(books, sent);
        }
        if port.driver.transmit().in_flight() == 0 {
            return;
        }
    }
    panic!("sends do not complete");
}

#[test]
fn what_a_port_refuses_whole_is_cut_in_software_and_the_books_close() {
    let Some((inside, _outside, listener)) = wired() else { return };
    inside.run(|| {
        let mut ring = Ring::new().unwrap();
        let mut port = port(&mut ring);
        let mut books = Books::default();
        let (vnet, segment) = tcp_segment(STRANGER, mac(1), 4_000);
        let tagged = [&segment[..12], &[0x81, 0, 0, 20], &segment[12..]].concat();
        let len = segment.len();
        let booking = Booking { owner: Owner::vnic(vnic(1)), amount: Amount::frame(len, 3) };
        books.at(booking.owner, Stage::UplinkTx).input += booking.amount;
        let mut refused = vnet[..VNET_LEN].to_vec();
        refused[6] += 4; // the tag is in the frame
        refused.extend(&tagged);
        let outcome = SentOutcome::OffloadRefused(refused);
        port.finish(&mut books, Sent { booking, outcome, joined: None });
        settle(&mut port, &mut ring, &mut books);

        for n in 0..3_usize {
            let (_, piece) = listener.read();
            let payload = &segment[54..][n * 1448..4_000.min((n + 1) * 1448)];
            assert_eq!(&piece[54..], payload, "untagged by the kernel");
            assert_eq!(checksum::verify(&piece), Some(true));
        }
        assert_eq!(port.snapshot().software_segmented, 1);
        let account = books.at(booking.owner, Stage::UplinkTx);
        assert_eq!(account.output, booking.amount);
        assert_eq!(account.open_frames(), 0);
    });
}

#[test]
fn a_train_that_a_port_refuses_is_cut_in_software_and_the_books_close() {
    let Some((inside, _outside, listener)) = wired() else { return };
    inside.run(|| {
        let mut ring = Ring::new().unwrap();
        let mut port = port(&mut ring);
        let mut books = Books::default();
        let owner = Owner::vnic(vnic(1));
        let frames: Vec<Vec<u8>> =
            (0..5).map(|n| Sample::udp4().ipv4_id(n).payload(vec![9; 80]).build()).collect();
        let mut send = |port: &mut UplinkPort, bytes: &[u8]| {
            let headers = Headers::parse(bytes, bytes.len()).unwrap();
            let flow = Flow::of(&headers, bytes, bytes.len(), &Offload::default());
            let out = Out {
                uplink: port.uplink.id,
                vlan: Some(20),
                vnet: PLAIN,
                flow,
                cost: WireCost::SHORTEST,
                to_group: false,
            };
            let parts = [bytes];
            let frame = FrameRef::new(&parts, Offload::default());
            port.send(&mut books, owner, Amount::frame(bytes.len(), 1), &out, &frame);
        };
        frames.iter().for_each(|bytes| send(&mut port, bytes));
        assert_eq!(port.driver.transmit().in_flight(), 1);
        for sent in port.driver.transmit().refuse_waiting() {
            port.finish(&mut books, sent);
        }
        settle(&mut port, &mut ring, &mut books);
        for bytes in &frames {
            assert_eq!(listener.read().1, *bytes, "untagged by the kernel");
        }
        let snapshot = port.snapshot();
        assert_eq!(snapshot.software_segmented, 1);
        assert_eq!(snapshot.counters.joining_refused, 1);
        assert_eq!(snapshot.counters.frames_joined, 4);
        assert_eq!(snapshot.counters.joined_header_bytes, 4 * 42);
        let account = books.at(owner, Stage::UplinkTx);
        let bytes = 5 * 122;
        assert_eq!(account.output, Amount { frames: 5, segments: 5, bytes });
        assert_eq!(account.open_frames(), 0);
    });
}

#[test]
fn a_large_frame_goes_at_once_but_never_before_an_earlier_one() {
    let Some((inside, _outside, listener)) = wired() else { return };
    inside.run(|| {
        let mut ring = Ring::new().unwrap();
        let mut port = port(&mut ring);
        let mut books = Books::default();
        let owner = Owner::vnic(vnic(1));
        let id = port.uplink.id;
        let (vnet, large) = tcp_segment(STRANGER, mac(1), 30_000);
        let mut send = |port: &mut UplinkPort, bytes: &[u8], vnet, vlan| {
            // In pieces, as the fabric hands them over.
            let parts: Vec<&[u8]> = bytes.chunks(1400).collect();
            let frame = FrameRef::new(&parts, Offload::default());
            let amount = Amount::frame(bytes.len(), 1);
            port.send(
                &mut books,
                owner,
                amount,
                &Out {
                    uplink: id,
                    vlan,
                    vnet,
                    flow: None,
                    cost: WireCost::SHORTEST,
                    to_group: false,
                },
                &frame,
            );
            port.driver.transmit().in_flight()
        };
        let small = &large[..60];
        assert_eq!(send(&mut port, &large, vnet, Some(20)), 0, "went at once");
        assert_eq!(send(&mut port, &large, vnet, None), 0, "went at once");
        assert_eq!(send(&mut port, small, PLAIN, None), 1, "waits for the batch");
        assert_eq!(send(&mut port, &large, vnet, None), 2, "waits behind it");
        settle(&mut port, &mut ring, &mut books);

        for len in [large.len(), large.len(), small.len(), large.len()] {
            let (_, seen) = listener.read();
            assert_eq!(seen.len(), len);
            assert_eq!(seen[..], large[..len], "untagged by the kernel");
        }
        let account = books.at(owner, Stage::UplinkTx);
        assert_eq!(account.output.frames, 4);
        assert_eq!(account.open_frames(), 0);
    });
}

#[test]
fn without_a_carrier_nothing_is_sent_and_everything_is_booked() {
    let Some(inside) = Namespace::new() else { return };
    inside.ip("link add up0 type veth peer name out0");
    inside.run(|| {
        let mut ring = Ring::new().unwrap();
        let mut port = port(&mut ring);
        let mut books = Books::default();
        let owner = Owner::vnic(vnic(1));
        let amount = Amount::frame(60, 1);
        let out = Out {
            uplink: port.uplink.id,
            vlan: None,
            vnet: PLAIN,
            flow: None,
            cost: WireCost::SHORTEST,
            to_group: false,
        };
        let parts = [&[0; 60][..]];
        let frame = FrameRef::new(&parts, Offload::default());
        port.send(&mut books, owner, amount, &out, &frame);
        assert_eq!(port.driver.transmit().in_flight(), 0);
        let account = books.at(owner, Stage::UplinkTx);
        assert_eq!(account.dropped(DropReason::UplinkFailed), amount);
        assert_eq!(account.open_frames(), 0);
    });
}

#[test]
fn a_vnic_that_has_left_is_not_announced_again() {
    let Some((inside, _outside, _listener)) = wired() else { return };
    inside.run(|| {
        let (mut ring, mut books) = (Ring::new().unwrap(), Books::default());
        let mut port = port_that(&mut ring, true);
        let directory = directory();
        let cell = Arc::new(Cell::new(Arc::default()));
        let of_1 = ((vnic(1), port.uplink.id), Arc::clone(&cell));
        let attached = Attached::new([of_1].into_iter().collect());
        let here = Word { egress: true, inward: true, leased: true, leaving: false };
        cell.show(here);
        port.announce_now(vnic(1), 5);
        let each = announce::frames(&directory.vnic(vnic(1)).unwrap().vnic).len() as u64;
        let mut announced = |port: &mut UplinkPort, now_us| {
            let before = port.announcements;
            port.announce(&mut books, &directory, &attached, now_us);
            port.announcements - before
        };
        let all = announced(&mut port, 5);
        assert!(all >= each && each > 0, "{all}");
        cell.show(Word { leaving: true, ..here });
        assert_eq!(announced(&mut port, 10_005), all - each);
        cell.show(here);
        assert_eq!(announced(&mut port, 1_010_005), all, "it has come back");
    });
}
