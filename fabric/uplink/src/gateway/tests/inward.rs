//! What comes in from outside, and what does not: VLANs, storms, our own MACs.

use super::{
    PLAIN,
    bed::{Bed, Scene, dropped, row, wait_for},
    on_vlan_20,
    server::UPLINK,
};
use crate::{
    sample::{STRANGER, frame, mac, vnic},
    testbed::tagged,
};
use std::time::Instant;
use wireonce_frame::MacAddr;
use wireonce_ledger::{Amount, DropReason, Stage, Status};
use wireonce_wire::Endpoint;

/// A second network, on VLAN 30, with a vNIC of its own.
const RED: &str = r#"
[[network]]
name = "red"
vni = 300
pool = "outside"
vlan = 30

[[vnic]]
id = 3
name = "a3"
host = "server"
network = "red"
mac = "52:54:00:00:00:03"
home = "up"
socket = "/run/a3.sock"
"#;

#[test]
fn a_network_has_its_vlan_on_the_wire_and_nothing_comes_in_on_another() {
    let Some(mut bed) = Bed::new() else { return };
    bed.more = RED;
    let status = bed.play(|Scene { server, outside, .. }| {
        for (id, vlan) in [(1, 20), (3, 30)] {
            let out = frame(STRANGER, mac(id), 200);
            server.send(id.into(), &out);
            assert_eq!(outside.next_with_tag(&out[..12]), (Some([0x81, 0, 0, vlan]), out));
        }

        let to_1 = frame(mac(1), STRANGER, 200);
        outside.write(&PLAIN, &to_1);
        for tag in [[0x81, 0, 0, 0], [0x81, 0, 0, 21], [0x81, 0, 1, 20], [0x88, 0xa8, 0, 20]] {
            outside.write(&PLAIN, &tagged(&to_1, tag));
        }
        // On a VLAN that another network has, it is for nobody.
        outside.write(&PLAIN, &tagged(&to_1, [0x81, 0, 0, 30]));
        // A tag inside the tag that is right reaches for another network.
        outside.write(&PLAIN, &on_vlan_20(&tagged(&to_1, [0x81, 0, 0, 30])));

        // A priority in the tag does not make it another VLAN.
        let good = frame(mac(1), STRANGER, 300);
        for tag in [[0x81, 0, 0, 20], [0x81, 0, 0xa0, 20]] {
            outside.write(&PLAIN, &tagged(&good, tag));
            let arrival = server.receive();
            assert_eq!((arrival.source, arrival.destination), (UPLINK, Endpoint::Vnic(vnic(1))));
            assert_eq!(arrival.bytes, good, "the first that comes in, without its tag");
        }
        let to_3 = frame(mac(3), STRANGER, 300);
        outside.write(&PLAIN, &tagged(&to_3, [0x81, 0, 0, 30]));
        assert_eq!(server.receive().destination, Endpoint::Vnic(vnic(3)));
    });
    assert_eq!(dropped(&status, "up", DropReason::UnknownVlan).frames, 5);
    assert_eq!(dropped(&status, "up", DropReason::UnknownMac).frames, 1);
    assert_eq!(dropped(&status, "up", DropReason::VlanTag).frames, 1);
    assert_eq!(row(&status, "a1", Stage::UplinkRx).output.frames, 2);
    assert_eq!(row(&status, "a3", Stage::UplinkRx).output.frames, 1);
}

#[test]
fn a_storm_from_outside_is_cut_and_the_rest_comes_in() {
    const STORM: u64 = 40;
    let Some(mut bed) = Bed::new() else { return };
    bed.uplink_keys = "storm_frames_per_s = 1";
    bed.more = RED;
    let mut broadcasts_in = 0;
    let status = bed.play(|Scene { server, outside, .. }| {
        for _ in 0..STORM {
            outside.write(&PLAIN, &on_vlan_20(&frame(MacAddr::BROADCAST, STRANGER, 100)));
        }
        // None of these is a broadcast of that network.
        let multicast = frame(MacAddr([1, 0, 0x5e, 0, 0, 1]), STRANGER, 100);
        let unicast = frame(mac(1), STRANGER, 100);
        let elsewhere = frame(MacAddr::BROADCAST, STRANGER, 200);
        outside.write(&PLAIN, &on_vlan_20(&multicast));
        outside.write(&PLAIN, &tagged(&elsewhere, [0x81, 0, 0, 30]));
        outside.write(&PLAIN, &on_vlan_20(&unicast));
        let mut others = Vec::new();
        while others.len() < 3 {
            let bytes = server.receive().bytes;
            if bytes.starts_with(&MacAddr::BROADCAST.0) && bytes.len() == 100 {
                broadcasts_in += 1;
            } else {
                others.push(bytes);
            }
        }
        assert_eq!(others, [multicast, elsewhere, unicast]);
    });
    let cut = dropped(&status, "up", DropReason::OutsideStorm).frames;
    assert!(broadcasts_in >= 1 && cut >= 1, "{broadcasts_in} in, {cut} cut");
    assert_eq!(broadcasts_in + cut, STORM);
    let book = row(&status, "up", Stage::UplinkRx);
    assert_eq!(book.input.frames, STORM + 2);
    assert_eq!(book.output.frames, broadcasts_in + 2);
}

#[test]
fn all_workers_of_an_uplink_together_have_one_storm_limit() {
    const STORM: u64 = 90;
    let started = Instant::now();
    let Some(mut bed) = Bed::new() else { return };
    bed.workers = 3;
    bed.uplink_keys = "storm_frames_per_s = 1";
    let status = bed.play(|Scene { gateway, outside, .. }| {
        for port in 0..u8::try_from(STORM).unwrap() {
            let mut broadcast = frame(MacAddr::BROADCAST, STRANGER, 100);
            // A flow of its own, and so maybe another worker.
            broadcast[37] = port;
            outside.write(&PLAIN, &on_vlan_20(&broadcast));
        }
        let read = |status: &Status| read_for_nobody(status).frames == STORM;
        wait_for(gateway, "the whole storm", read);
    });
    let passed = row(&status, "up", Stage::UplinkRx).output.frames;
    let most = 1 + started.elapsed().as_secs();
    assert!((1..=most).contains(&passed), "{passed} of at most {most}");
    assert_eq!(dropped(&status, "up", DropReason::OutsideStorm).frames, STORM - passed);
}

/// What came in through the uplink and was for no single vNIC.
fn read_for_nobody(status: &Status) -> Amount {
    let mut rows = status.ledger.iter();
    let found = rows.find(|row| row.name == "up" && row.stage == Stage::UplinkRx);
    found.map_or(Amount::ZERO, |row| row.input)
}

#[test]
fn a_stranger_with_the_mac_of_one_of_our_vnics_is_not_let_in() {
    let Some(mut bed) = Bed::new() else { return };
    bed.more = RED;
    let status = bed.play(|Scene { server, outside, .. }| {
        for to in [MacAddr::BROADCAST, mac(1)] {
            outside.write(&PLAIN, &on_vlan_20(&frame(to, mac(1), 100)));
        }
        // In another network that MAC is nobody's.
        let elsewhere = frame(mac(3), mac(1), 100);
        outside.write(&PLAIN, &tagged(&elsewhere, [0x81, 0, 0, 30]));
        assert_eq!(server.receive().bytes, elsewhere, "the first that comes in");
    });
    let reflected = dropped(&status, "up", DropReason::Reflection);
    assert_eq!(reflected, Amount { frames: 2, segments: 2, bytes: 200 });
    assert_eq!(row(&status, "up", Stage::UplinkRx).output, Amount::ZERO);
}
