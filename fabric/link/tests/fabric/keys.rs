//! Keys that have sealed nearly all that they may.

use crate::{
    impaired::{Bed, HELLO_LEN_MAX, LOCALHOST},
    node::{Setup, both_up},
};
use std::time::{Duration, Instant};
use wireonce_frame::ecn::Ecn;
use wireonce_ledger::DropReason;
use wireonce_link::{Fate, KeyLimits};
use wireonce_qemu_tests::impair::{
    Class::Control,
    Direction::{AToB, BToA},
    Impairment,
};

#[test]
fn a_key_that_nears_its_limit_is_replaced_under_traffic() {
    let key_limits = KeyLimits { rekey_blocks: 5_000, ..KeyLimits::default() };
    let mut bed = Bed::new(Setup { key_limits, ..Setup::new(LOCALHOST) }, 20);
    // What is under way must fit in the sockets between them.
    bed.open_max = 300;
    let end = Instant::now() + Duration::from_secs(60);
    while bed.a.ups < 4 {
        assert!(Instant::now() < end, "nobody replaces the session");
        bed.send_many(20);
    }
    assert_eq!(bed.close_exactly().count(Fate::Lost), 0);
    assert_eq!((bed.a.downs, bed.b.downs), (0, 0));
}

#[test]
fn a_key_that_is_used_up_seals_no_more_frames_and_their_senders_wait() {
    let key_limits = KeyLimits { rekey_blocks: 1_000, frame_blocks: 40_000, stop_blocks: 80_000 };
    let mut bed = Bed::new(Setup { key_limits, ..Setup::new(LOCALHOST) }, 21);
    for direction in [AToB, BToA] {
        // No handshake passes, so nothing can replace the session.
        let hellos = Impairment { len_max: HELLO_LEN_MAX, ..Impairment::NONE };
        bed.relay.set(direction, Control, hellos);
    }
    let (mut sent, mut refused) = (0, 0);
    while refused < 500 {
        let id = bed.next_id;
        assert!(sent < 10_000, "more than the key may seal");
        match bed.a.send_for(id, &[7; 1_500], 0, Ecn::NotEct) {
            Ok(()) => (sent, refused, bed.next_id) = (sent + 1, 0, id + 1),
            Err(DropReason::FabricBusy) => refused += 1,
            Err(reason) => panic!("frame {id}: {reason:?}"),
        }
        bed.turn();
    }
    let bytes = bed.a.fabric.snapshot().links[0].counters.sent_bytes;
    assert!((sent > 100) && bytes < 40_000 * 16, "{sent} frames, {bytes} bytes");
    assert!(bed.a.fabric.is_full() && both_up(&bed.a, &bed.b));
    // All that went is settled, though no frame may follow.
    bed.until("evidence", |bed| bed.a.fate(Fate::Arrived) == sent);
    for direction in [AToB, BToA] {
        bed.relay.set(direction, Control, Impairment::NONE);
    }
    bed.until("new session", |bed| bed.a.ups == 2);
    assert!(!bed.a.fabric.is_full());
    assert_eq!(bed.a.send_for(sent, &[7; 1_500], 0, Ecn::NotEct), Ok(()));
    bed.until("evidence", |bed| bed.a.fate(Fate::Arrived) == sent + 1);
    assert_eq!(bed.b.received.len() as u64, sent + 1);
}
