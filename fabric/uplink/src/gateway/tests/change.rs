//! Other configurations for a gateway that carries frames.

use super::{
    bed::{Bed, POOL, dropped, must_close, row, wait_for},
    server::{Server, UPLINK},
};
use crate::{
    gateway::Gateway,
    sample::{STRANGER, frame, mac},
    testbed::Raw,
};
use wireonce_frame::{MacAddr, Offload};
use wireonce_host::{ApplyError, Daemon};
use wireonce_ledger::{DropReason, Stage};
use wireonce_wire::{Endpoint, UplinkId};

/// The second uplink of the pool.
const UPLINK_B: Endpoint = Endpoint::Uplink(UplinkId(8));
/// A TAP where another interface is.
const BROKEN: &str = r#"
[[uplink]]
id = 9
name = "broken"
host = "gateway"
pool = "outside"
driver = "tap"
interface = "up1"
"#;

/// A frame of vNIC `id` through `uplink` arrives outside.
fn must_cross(server: &mut Server, outside: &Raw, id: u8, uplink: Endpoint, len: u16) {
    let sent = frame(STRANGER, mac(id), len);
    server.send_with(id.into(), uplink, &sent, Offload::default()).unwrap();
    while outside.next_of(&sent[..12]) != sent {}
}

/// Until all that came has been confirmed.
fn settle(gateway: &Gateway, server: &mut Server) {
    for _ in 0..1_000 {
        if gateway.status().ledger.iter().all(|row| row.open_frames == 0) {
            return;
        }
        server.turn();
    }
}

#[test]
fn uplinks_come_and_go_and_a_vnic_moves_while_frames_cross() {
    for workers in [1, 2] {
        let Some(mut bed) = Bed::pool() else { return };
        bed.workers = workers;
        let [moved, pooled, alone] = [(POOL, "up-b"), (POOL, "up"), ("", "up")]
            .map(|(more, home)| bed.config_with(more, home));
        let mut gateway = bed.start_gateway();
        let outside = bed.listen_outside();
        let garp = |id| [MacAddr::BROADCAST.0, mac(id).0].concat();
        bed.server.run(|| {
            let mut server = Server::start(&bed);
            server.wait_until_up();
            wait_for(&gateway, "a carrier", |status| status.uplinks[0].carrier);
            must_cross(&mut server, &outside, 1, UPLINK, 200);

            let applied = bed.change(&mut gateway, &pooled).unwrap();
            assert_eq!(applied.changes, ["+ uplink \"up-b\"", "+ vnic \"a2\""]);
            assert_eq!(applied.troubles, Vec::<String>::new());
            wait_for(&gateway, "a carrier", |status| status.uplinks[1].carrier);
            assert_eq!(outside.next_of(&garp(2))[12..14], [0x80, 0x35], "the new one is announced");
            must_cross(&mut server, &outside, 2, UPLINK_B, 210);
            must_cross(&mut server, &outside, 1, UPLINK, 220);
            settle(&gateway, &mut server);
            outside.waiting();

            let applied = bed.change(&mut gateway, &moved).unwrap();
            assert_eq!(applied.changes, ["vnic \"a1\": home"]);
            assert_eq!(outside.next_of(&garp(1))[12..14], [8, 6], "announced where it is now");
            must_cross(&mut server, &outside, 1, UPLINK_B, 230);
            server.send(1, &frame(STRANGER, mac(1), 240));
            settle(&gateway, &mut server);

            let applied = bed.change(&mut gateway, &alone).unwrap();
            assert_eq!(
                applied.changes,
                ["- uplink \"up-b\"", "- vnic \"a2\"", "vnic \"a1\": home"]
            );
            assert_eq!(applied.troubles, Vec::<String>::new(), "it is closed");
            must_cross(&mut server, &outside, 1, UPLINK, 250);
            server
                .send_with(1, UPLINK_B, &frame(STRANGER, mac(1), 260), Offload::default())
                .unwrap();
            settle(&gateway, &mut server);

            bed.change(&mut gateway, &pooled).unwrap();
            wait_for(&gateway, "a carrier", |status| status.uplinks[1].carrier);
            must_cross(&mut server, &outside, 2, UPLINK_B, 270);
            settle(&gateway, &mut server);
        });
        let status = gateway.status();
        gateway.stop();
        must_close(&status);
        let late = dropped(&status, "a1", DropReason::StaleHome);
        assert_eq!(late.bytes, 240, "to the home before");
        let gone = dropped(&status, "not owned", DropReason::UnknownDestination);
        assert_eq!(gone.bytes, 260, "to an uplink that is gone");
        let second = row(&status, "a2", Stage::UplinkTx).output;
        assert_eq!(second.bytes, 210 + 270, "one account, before and after");
        assert!(status.uplinks[1].outward.bytes >= 210 + 230 + 270);
    }
}

#[test]
fn an_uplink_that_cannot_be_opened_changes_nothing() {
    for workers in [1, 2] {
        let Some(mut bed) = Bed::pool() else { return };
        bed.workers = workers;
        let [broken, before] = [BROKEN, ""].map(|more| bed.config_with(more, "up"));
        let mut gateway = bed.start_gateway();
        let outside = bed.listen_outside();
        bed.server.run(|| {
            let mut server = Server::start(&bed);
            server.wait_until_up();
            let refused = bed.change(&mut gateway, &broken).unwrap_err();
            assert!(matches!(refused, ApplyError::Refused(_)));
            let text = refused.to_string();
            assert!(text.starts_with("uplink \"broken\": cannot use interface `up1`"), "{text}");
            assert_eq!(gateway.status().uplinks.len(), 1);
            must_cross(&mut server, &outside, 1, UPLINK, 200);
            assert_eq!(bed.change(&mut gateway, &before).unwrap().changes, Vec::<String>::new());
            settle(&gateway, &mut server);
        });
        must_close(&gateway.status());
        gateway.stop();
    }
}

#[test]
fn a_server_that_goes_takes_leave_and_is_known_again_under_another_number() {
    let Some(bed) = Bed::new() else { return };
    let mut gateway = bed.start_gateway();
    let outside = bed.listen_outside();
    let known = bed.config(0);
    bed.server.run(|| {
        let mut server = Server::start(&bed);
        server.wait_until_up();
        must_cross(&mut server, &outside, 1, UPLINK, 200);
        settle(&gateway, &mut server);
        // Nobody is left but the gateway itself, whose own vNIC it is then.
        let mut alone = (*known).clone();
        alone.peers.clear();
        alone.vnics.clear();
        let applied = bed.change(&mut gateway, &std::sync::Arc::new(alone)).unwrap();
        assert_eq!(applied.changes, ["- peer \"server\"", "- vnic \"a1\""]);
        assert!(gateway.status().links.is_empty());
        while server.is_up() {
            server.turn();
        }
        wait_for(&gateway, "the server calls", |status| status.counters["control_unknown_key"] > 0);
        assert!(gateway.status().counters["goodbyes_sent"] > 0, "counters stay");
        bed.change(&mut gateway, &known).unwrap();
        server.wait_until_up();
        must_cross(&mut server, &outside, 1, UPLINK, 220);
        settle(&gateway, &mut server);
    });
    let status = gateway.status();
    gateway.stop();
    must_close(&status);
    assert_eq!(row(&status, "a1", Stage::UplinkTx).output.bytes, 420);
}
