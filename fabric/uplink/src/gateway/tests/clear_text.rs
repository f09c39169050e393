//! `encryption = "off"`: works if both hosts say so, and only then.

use super::{
    PLAIN,
    bed::{Bed, Scene, dropped, must_close, wait_for},
    on_vlan_20,
    server::{Server, UPLINK},
};
use crate::{
    sample::{STRANGER, frame, mac},
    testbed::Raw,
};
use wireonce_frame::{MacAddr, Offload};
use wireonce_host::Daemon;
use wireonce_ledger::{DropReason, Status, status::LinkState};

#[test]
fn frames_cross_the_fabric_in_clear_text_only_if_both_hosts_have_it_written_out() {
    for (encryption, readable) in [("off", true), ("aes-256-gcm", false)] {
        let Some(mut bed) = Bed::new() else { return };
        bed.encryption = [encryption; 2];
        let status = bed.play(|Scene { server, outside, .. }| {
            let out = frame(STRANGER, mac(1), 200);
            server.send(1, &out);
            assert_eq!(outside.next_of(&out[..12]), out);

            let fabric = Raw::open("fab0");
            let back = frame(mac(1), STRANGER, 300);
            outside.write(&PLAIN, &on_vlan_20(&back));
            assert_eq!(server.receive().bytes, back);
            let datagrams = fabric.waiting();
            assert!(!datagrams.is_empty());
            let shows = |datagram: &Vec<u8>| datagram.windows(back.len()).any(|w| w == back);
            assert_eq!(datagrams.iter().any(shows), readable, "{encryption}");
        });
        assert_eq!(status.encryption, encryption);
    }
}

#[test]
fn nothing_passes_between_hosts_that_disagree_on_encryption() {
    for encryption in [["off", "aes-256-gcm"], ["aes-256-gcm", "off"]] {
        let Some(mut bed) = Bed::new() else { return };
        bed.encryption = encryption;
        let gateway = bed.start_gateway();
        bed.server.run(|| {
            let mut server = Server::start(&bed);
            // Both were told to connect, and did try.
            let refused = |status: &Status| status.counters["encryption_mismatches"] >= 2;
            wait_for(&gateway, "calls that are refused", refused);
            let outside = bed.listen_outside();
            let out = frame(STRANGER, mac(1), 200);
            let sent = server.send_with(1, UPLINK, &out, Offload::default());
            assert_eq!(sent, Err(DropReason::NoSession));
            outside.write(&PLAIN, &on_vlan_20(&frame(MacAddr::BROADCAST, STRANGER, 200)));
            outside.write(&PLAIN, &on_vlan_20(&frame(mac(1), STRANGER, 300)));
            let unconnected =
                |status: &Status| dropped(status, "a1", DropReason::NoSession).frames == 1;
            wait_for(&gateway, "a frame that has nowhere to go", unconnected);
            for _ in 0..20 {
                server.turn();
            }
            assert!(!server.is_up() && server.received.is_empty());
        });
        let status = gateway.status();
        gateway.stop();
        must_close(&status);
        assert_eq!(dropped(&status, "up", DropReason::NoSession).frames, 1);
        assert_ne!(status.links[0].state, LinkState::Up);
        assert_eq!(status.counters["sessions"], 0);
    }
}
