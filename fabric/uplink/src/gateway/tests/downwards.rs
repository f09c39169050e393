//! What comes from outside faster than the uplink's `down`.

use super::{
    PLAIN,
    bed::{Bed, Scene, dropped, must_close, row},
    on_vlan_20,
    server::Server,
};
use crate::{
    sample::{STRANGER, frame, mac},
    testbed::Raw,
};
use wireonce_host::Daemon;
use wireonce_ledger::{DropReason, Stage, Status};

/// Frames of one flow, named by a port.
fn flood(outside: &Raw, flow: u8, frames: u32) {
    let mut bytes = frame(mac(1), STRANGER, 1_400);
    bytes[35] = flow;
    for n in 0..frames {
        bytes[50..54].copy_from_slice(&n.to_be_bytes());
        outside.write(&PLAIN, &on_vlan_20(&bytes));
    }
}

/// Frames that have come so far, by flow.
fn come(server: &Server, flow: u8) -> usize {
    server.received.iter().filter(|arrival| arrival.bytes[35] == flow).count()
}

/// Lets the server work until it is so.
fn turn_until(server: &mut Server, so: impl Fn(&Server) -> bool) {
    for _ in 0..2_000 {
        if so(server) {
            return;
        }
        server.turn();
    }
}

#[test]
fn what_is_more_than_down_waits_or_is_dropped_by_name_and_the_books_close() {
    for workers in [1, 3] {
        let Some(mut bed) = Bed::new() else { return };
        (bed.workers, bed.uplink_keys) = (workers, "down = \"20Mbit\"\n");
        let mut received = 0;
        let status = bed.play(|Scene { server, outside, gateway }| {
            flood(outside, 1, 2_000);
            // A frame of another flow goes past what waits, of its own worker at least.
            flood(outside, 2, 1);
            turn_until(server, |server| {
                come(server, 2) > 0 && gateway.status().down[0].queued_bytes == 0
            });
            received = server.received.len();
            assert_eq!(come(server, 2), 1, "the small flow lost nothing");
        });
        let lost = dropped(&status, "a1", DropReason::Shaped).frames;
        let row = row(&status, "a1", Stage::UplinkRx);
        assert_eq!(row.input.frames, 2_001);
        assert_eq!(row.output.frames + lost, 2_001);
        assert!(lost > 1_000 && row.output.frames >= 200, "{workers}: {lost} lost");
        assert!(received > 200);
        let down = &status.down[0];
        assert_eq!((down.vnic.as_str(), down.uplink.as_str()), ("a1", "up"));
        assert_eq!((down.server.as_str(), down.dropped_frames), ("server", lost));
        assert_eq!(status.uplinks[0].down_bps, Some(20_000_000));
    }
}

#[test]
fn what_waits_outlives_other_rates_and_goes_at_once_when_nothing_is_shaped_any_more() {
    let Some(mut bed) = Bed::new() else { return };
    bed.uplink_keys = "down = \"1Mbit\"\n";
    let mut gateway = bed.start_gateway();
    let others = ["down = \"2Mbit\"\n", "", "down = \"2Mbit\"\n"].map(|keys| {
        bed.uplink_keys = keys;
        bed.config(0)
    });
    bed.server.run(|| {
        let mut server = Server::start(&bed);
        server.wait_until_up();
        let outside = bed.listen_outside();
        flood(&outside, 1, 200);
        let all = |status: &Status| {
            let mut rows = status.ledger.iter();
            let mine = rows.find(|row| row.name == "a1" && row.stage == Stage::UplinkRx);
            mine.is_some_and(|row| row.input.frames == 200)
        };
        turn_until(&mut server, |_| all(&gateway.status()));
        assert!(gateway.status().down[0].queued_bytes > 0);
        for config in &others {
            bed.change(&mut gateway, config).unwrap();
        }
        let late = || dropped(&gateway.status(), "a1", DropReason::Shaped).frames;
        let gone = |server: &Server| come(server, 1) + usize::try_from(late()).unwrap();
        turn_until(&mut server, |server| gone(server) == 200);
        // On a slow machine some may have waited for too long before.
        assert!(gone(&server) == 200 && come(&server, 1) > 150, "none is lost");
        let order: Vec<&[u8]> = server.received.iter().map(|it| &it.bytes[50..54]).collect();
        assert!(order.is_sorted(), "and they are in order");
        let closed = |status: &Status| status.ledger.iter().all(|row| row.open_frames == 0);
        turn_until(&mut server, |_| closed(&gateway.status()));
    });
    must_close(&gateway.status());
    gateway.stop();
}
