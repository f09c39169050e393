//! Two uplinks of one pool, joined outside by a switch that floods.

use super::{
    PLAIN,
    bed::{Bed, Scene, dropped, row},
    on_vlan_20,
    server::{Server, UPLINK},
};
use crate::{
    sample::{STRANGER, frame, mac, vni, vnic},
    testbed::Raw,
};
use wireonce_frame::{MacAddr, Offload};
use wireonce_ledger::{Amount, DropReason, Stage};
use wireonce_wire::{Endpoint, UplinkId};

/// The second uplink, home of the second vNIC.
const UPLINK_B: Endpoint = Endpoint::Uplink(UplinkId(8));

/// Lets both vNICs say something to the stranger, from whom the switch then knows
/// where they are: what is for one of them is not flooded.
fn introduce(server: &mut Server, stranger: &Raw) {
    for (id, home) in [(1, UPLINK), (2, UPLINK_B)] {
        let hello = frame(STRANGER, mac(id), 100);
        server.send_with(id.into(), home, &hello, Offload::default()).unwrap();
        assert_eq!(stranger.next_of(&hello[..12]), hello);
    }
}

#[test]
fn what_a_stranger_broadcasts_comes_in_through_one_uplink_of_the_pool() {
    let Some(bed) = Bed::pool() else { return };
    let status = bed.play(|Scene { server, outside, .. }| {
        introduce(server, outside);
        let broadcast = frame(MacAddr::BROADCAST, STRANGER, 150);
        outside.write(&PLAIN, &on_vlan_20(&broadcast));
        // Behind it on both uplinks, so that a second copy would come before the last.
        for id in [1, 2] {
            outside.write(&PLAIN, &on_vlan_20(&frame(mac(id), STRANGER, 100)));
        }
        let mut ways: Vec<_> =
            (0..3).map(|_| server.receive()).map(|a| (a.destination, a.source)).collect();
        ways.sort_unstable_by_key(|(to, _)| to.to_bits());
        let mut wanted = [
            (Endpoint::Network(vni(200)), UPLINK),
            (Endpoint::Vnic(vnic(1)), UPLINK),
            (Endpoint::Vnic(vnic(2)), UPLINK_B),
        ];
        wanted.sort_unstable_by_key(|(to, _)| to.to_bits());
        assert_eq!(ways, wanted);
    });
    assert_eq!(dropped(&status, "up-b", DropReason::NotDesignated), Amount::frame(150, 1));
    assert_eq!(dropped(&status, "up", DropReason::NotDesignated), Amount::ZERO);
    assert_eq!(row(&status, "up", Stage::UplinkRx).output, Amount::frame(150, 1));
    let designated: Vec<_> = status.uplinks.iter().map(|uplink| uplink.designated).collect();
    assert_eq!(designated, [true, false]);
}

#[test]
fn our_own_broadcast_that_the_switch_brings_back_goes_no_further() {
    let Some(bed) = Bed::pool() else { return };
    let status = bed.play(|Scene { server, outside, .. }| {
        introduce(server, outside);
        // Longer than all announcements together, which come back as well.
        let broadcast = frame(MacAddr::BROADCAST, mac(1), 1400);
        server.send(1, &broadcast);
        let last = frame(STRANGER, mac(1), 100);
        server.send(1, &last);
        let mut heard = Vec::new();
        while heard.last() != Some(&last) {
            heard.push(outside.next_of(&[]));
        }
        let copies = heard.iter().filter(|bytes| **bytes == broadcast).count();
        assert_eq!(copies, 1, "outside hears it once");
        let back = frame(mac(2), STRANGER, 100);
        outside.write(&PLAIN, &on_vlan_20(&back));
        assert_eq!(server.receive().bytes, back, "the first that comes in");
        assert!(server.received.is_empty(), "{:?}", server.received);
    });
    let reflected = dropped(&status, "up-b", DropReason::Reflection);
    assert!((1400..2800).contains(&reflected.bytes), "{reflected:?}");
    assert_eq!(row(&status, "up-b", Stage::UplinkRx).output, Amount::ZERO);
}
