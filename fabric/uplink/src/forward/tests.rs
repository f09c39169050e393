use super::*;
use crate::{
    driver::FOREIGN_TAG,
    sample::{
        SERVER_A, SERVER_B, STRANGER, UP_A, UP_B, directory, frame, from_vnic, mac, vni, vnic,
    },
};
use wireonce_frame::{ChecksumRequest, Headers, MacAddr, Offload, VNET_HEADER_LEN, coalesce::Flow};

const PLAIN: [u8; VNET_HEADER_LEN] = [0; VNET_HEADER_LEN];

fn judge_in(gate: &Gate, received: &Received<'_>) -> Verdict<In> {
    let (directory, attached) = (directory(), Attached::default());
    inward(Tables { directory: &directory, attached: &attached, now_us: 0 }, gate, received)
}

fn judge_out(
    peer: PeerId,
    source: Endpoint,
    destination: Endpoint,
    frame: &FrameRef<'_>,
) -> Verdict<Out> {
    let (directory, attached) = (directory(), Attached::default());
    let tables = Tables { directory: &directory, attached: &attached, now_us: 0 };
    outward(tables, peer, source, destination, frame)
}

fn goes_in(uplink: UplinkId, vlan: Option<u16>, bytes: &[u8]) -> Result<Target, DropReason> {
    let received = Received { vnet: PLAIN, vlan, frame: bytes };
    judge_in(&Gate::deaf(uplink, UP_A), &received).decision.map(|inward| inward.target)
}

fn goes_out(
    peer: PeerId,
    source: Endpoint,
    uplink: UplinkId,
    bytes: &[u8],
) -> Result<Out, DropReason> {
    let parts = [bytes];
    let frame = FrameRef::new(&parts, Offload::default());
    judge_out(peer, source, Endpoint::Uplink(uplink), &frame).decision
}

#[test]
fn unicast_from_outside_goes_to_the_vnic_whose_home_the_uplink_is() {
    let to_1 = frame(mac(1), STRANGER, 100);
    assert_eq!(goes_in(UP_A, None, &to_1), Ok(Target::Vnic(SERVER_A, vnic(1))));
    assert_eq!(goes_in(UP_B, None, &to_1), Err(DropReason::NotDesignated));
    let to_2 = frame(mac(2), STRANGER, 100);
    assert_eq!(goes_in(UP_B, None, &to_2), Ok(Target::Vnic(SERVER_B, vnic(2))));
}

#[test]
fn broadcast_from_outside_comes_in_once() {
    let broadcast = frame(MacAddr::BROADCAST, STRANGER, 100);
    assert_eq!(goes_in(UP_A, None, &broadcast), Ok(Target::Flood(vni(100))));
    assert_eq!(goes_in(UP_B, None, &broadcast), Err(DropReason::NotDesignated));
}

#[test]
fn the_vlan_chooses_the_network() {
    let to_3 = frame(mac(3), STRANGER, 100);
    assert_eq!(goes_in(UP_A, Some(20), &to_3), Ok(Target::Vnic(SERVER_B, vnic(3))));
    assert_eq!(goes_in(UP_A, None, &to_3), Err(DropReason::UnknownMac));
    for vlan in [21, FOREIGN_TAG] {
        assert_eq!(goes_in(UP_A, Some(vlan), &to_3), Err(DropReason::UnknownVlan));
    }
    // A network without a pool cannot be reached from outside.
    let to_4 = frame(mac(4), STRANGER, 100);
    assert_eq!(goes_in(UP_A, None, &to_4), Err(DropReason::UnknownMac));
}

#[test]
fn our_own_frames_do_not_come_back() {
    let own = frame(MacAddr::BROADCAST, mac(2), 100);
    assert_eq!(goes_in(UP_A, None, &own), Err(DropReason::Reflection));
    let flooded = frame(mac(1), mac(2), 100);
    assert_eq!(goes_in(UP_A, None, &flooded), Err(DropReason::Reflection));
    // The MAC is that of a vNIC of another network: here it is a stranger's.
    let stranger = frame(mac(1), mac(3), 100);
    assert!(goes_in(UP_A, None, &stranger).is_ok());
}

#[test]
fn link_control_and_second_tags_cross_in_neither_direction() {
    let mut pause = frame(mac(1), STRANGER, 100);
    pause[12..14].copy_from_slice(&[0x88, 0x08]);
    assert_eq!(goes_in(UP_A, None, &pause), Err(DropReason::LinkControl));
    let bpdu = frame(MacAddr([1, 0x80, 0xc2, 0, 0, 0]), mac(1), 100);
    assert_eq!(goes_out(SERVER_A, from_vnic(1), UP_A, &bpdu), Err(DropReason::LinkControl));
    let tag = [0x81, 0, 0, 20];
    let inner = frame(mac(1), STRANGER, 100);
    let tagged = [&inner[..12], &tag, &inner[12..]].concat();
    assert_eq!(goes_in(UP_A, None, &tagged), Err(DropReason::VlanTag));
    let inner = frame(STRANGER, mac(1), 100);
    let tagged = [&inner[..12], &tag, &inner[12..]].concat();
    assert_eq!(goes_out(SERVER_A, from_vnic(1), UP_A, &tagged), Err(DropReason::VlanTag));
}

#[test]
fn frames_that_make_no_sense_do_not_come_in() {
    assert_eq!(goes_in(UP_A, None, &[0; 13]), Err(DropReason::BadHeaders));
    let from_group = frame(mac(1), MacAddr([1, 0, 0, 0, 0, 1]), 100);
    assert_eq!(goes_in(UP_A, None, &from_group), Err(DropReason::BadHeaders));
    assert_eq!(goes_in(UP_A, None, &frame(mac(1), STRANGER, 1515)), Err(DropReason::FrameLong));
    assert!(goes_in(UP_A, Some(20), &frame(mac(3), STRANGER, 9014)).is_ok());
}

#[test]
fn the_kernels_offload_is_checked_against_the_frame() {
    let bytes = frame(mac(1), STRANGER, 100);
    let judge = |vnet| {
        let received = Received { vnet, vlan: None, frame: &bytes };
        judge_in(&Gate::deaf(UP_A, UP_A), &received).decision
    };
    let open = [1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0];
    let offload = judge(open).unwrap().offload;
    assert_eq!(offload.checksum, Some(ChecksumRequest { start: 34, offset: 6 }));
    let elsewhere = [1, 0, 0, 0, 0, 0, 35, 0, 6, 0, 0, 0];
    assert_eq!(judge(elsewhere), Err(DropReason::BadOffload));
    let valid = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert!(judge(valid).unwrap().offload.checksum_valid);
}

#[test]
fn vnics_leave_through_their_home_on_their_networks_vlan() {
    let out = frame(STRANGER, mac(1), 100);
    let headers = Headers::parse(&out, out.len()).unwrap();
    let flow = Flow::of(&headers, &out, out.len(), &Offload::default());
    let cost = wire_cost(out.len(), &Offload::default(), &headers);
    let through = |uplink, vlan| {
        let to_group = false;
        Ok(Out { uplink, vlan, vnet: PLAIN, flow, cost, to_group })
    };
    assert_eq!(goes_out(SERVER_A, from_vnic(1), UP_A, &out), through(UP_A, None));
    assert_eq!(goes_out(SERVER_A, from_vnic(1), UP_B, &out), Err(DropReason::StaleHome));
    let out = frame(STRANGER, mac(3), 100);
    assert_eq!(goes_out(SERVER_B, from_vnic(3), UP_A, &out), through(UP_A, Some(20)));
}

#[test]
fn peers_send_only_as_vnics_of_theirs() {
    let out = frame(STRANGER, mac(1), 100);
    for (peer, source, reason) in [
        (SERVER_B, from_vnic(1), DropReason::SourceNotOwned),
        (SERVER_A, from_vnic(99), DropReason::SourceNotOwned),
        (SERVER_A, Endpoint::Uplink(UP_A), DropReason::SourceNotOwned),
        (SERVER_A, Endpoint::Link, DropReason::SourceNotOwned),
    ] {
        assert_eq!(goes_out(peer, source, UP_A, &out), Err(reason), "{source:?}");
    }
    let other_mac = frame(STRANGER, mac(2), 100);
    assert_eq!(goes_out(SERVER_A, from_vnic(1), UP_A, &other_mac), Err(DropReason::SourceMac));
}

#[test]
fn peers_reach_nothing_but_uplinks_of_this_gateway() {
    let bytes = frame(STRANGER, mac(1), 100);
    let parts = [&bytes[..]];
    let frame = FrameRef::new(&parts, Offload::default());
    for destination in [
        Endpoint::Uplink(UplinkId(99)),
        Endpoint::Vnic(vnic(2)),
        Endpoint::Network(vni(100)),
        Endpoint::Link,
    ] {
        let verdict = judge_out(SERVER_A, from_vnic(1), destination, &frame);
        assert_eq!(verdict.decision, Err(DropReason::UnknownDestination), "{destination:?}");
    }
}

#[test]
fn a_block_whose_offload_contradicts_its_frame_does_not_leave() {
    let bytes = frame(STRANGER, mac(1), 100);
    let parts = [&bytes[..]];
    let checksum = Some(ChecksumRequest { start: 90, offset: 6 });
    let frame = FrameRef::new(&parts, Offload { checksum, ..Offload::default() });
    let verdict = judge_out(SERVER_A, from_vnic(1), Endpoint::Uplink(UP_A), &frame);
    assert_eq!(verdict.decision, Err(DropReason::BadBlock));
    assert_eq!(verdict.account, Some(vnic(1)), "the drop stands in the vNIC's book");
}

#[test]
fn nobody_books_on_what_it_does_not_own() {
    let bytes = frame(STRANGER, mac(1), 100);
    let parts = [&bytes[..]];
    let frame = FrameRef::new(&parts, Offload::default());
    let to = Endpoint::Uplink(UP_A);
    assert_eq!(judge_out(SERVER_B, from_vnic(1), to, &frame).account, None);
}
