//! A guest that changes what we look at while we look at it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use vm_memory::{Bytes, GuestAddress};
use wireonce_frame::{FrameSource as _, HEAD_LEN};

use super::driver::{Driver, LOW};
use crate::virtqueue::{GuestMemory, Next, TxFrame, TxRing};

/// Frames until the writer was seen to race, and the most that are tried.
const ROUNDS_MIN: u32 = 5_000;
const ROUNDS_MAX: u32 = 5_000_000;
const FRAME: u32 = 200;

/// A thread flips all bytes of the buffer between two values.
fn with_racing_writer(memory: Arc<GuestMemory>, run: impl FnOnce()) {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        let len = usize::try_from(12 + FRAME).unwrap();
        for round in 0.. {
            let byte = if round % 2 == 0 { 0x11 } else { 0x22 };
            memory.write_slice(&vec![byte; len], GuestAddress(LOW)).unwrap();
            if seen.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    run();
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
}

#[test]
fn change_after_the_check_reaches_only_what_was_not_checked() {
    let mut driver = Driver::new(8);
    let mut ring = TxRing::new(driver.mapped(), &driver.config).unwrap();
    driver.write(LOW, &[0x11; 256]);
    driver.offer_chain(0, &[(LOW, 12 + FRAME, 0)]);
    let mut frame = TxFrame::new();
    assert_eq!(ring.next(&mut frame), Ok(Next::Frame));
    driver.write(LOW, &[0x22; 256]);
    let mut sent = [0; FRAME as usize];
    frame.read(&mut sent);
    assert_eq!(frame.header(), [0x11; 12]);
    assert_eq!(sent[..HEAD_LEN], [0x11; HEAD_LEN]);
    assert_eq!(sent[HEAD_LEN..], [0x22; FRAME as usize - HEAD_LEN]);
}

#[test]
fn racing_writer_does_not_change_the_head_after_the_check() {
    let mut driver = Driver::new(8);
    let mut ring = TxRing::new(driver.mapped(), &driver.config).unwrap();
    let memory = Arc::clone(&driver.memory);
    memory.write_slice(&[0x11; 256], GuestAddress(LOW)).unwrap();
    driver.descriptor(0, (LOW, 12 + FRAME), 0, 0);
    let mut frame = TxFrame::new();
    let (mut sent, mut torn) = ([0; FRAME as usize], 0);
    with_racing_writer(memory, || {
        for round in 0..ROUNDS_MAX {
            if round > ROUNDS_MIN && torn > 0 {
                break;
            }
            driver.offer(0);
            assert_eq!(ring.next(&mut frame), Ok(Next::Frame));
            let (header, checked) = (frame.header(), frame.head().to_vec());
            std::thread::yield_now();
            frame.read(&mut sent);
            assert_eq!(sent[..HEAD_LEN], checked, "what was checked is what is sent");
            assert_eq!(frame.header(), header);
            torn += u32::from(sent.iter().any(|byte| *byte != checked[0]));
            ring.publish_and_notify();
        }
    });
    assert!(torn > 0, "the writer never raced, so the test showed nothing");
}
