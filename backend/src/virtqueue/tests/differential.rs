//! The ring against `virtio_queue::Queue`, and properties that hold whatever a
//! guest writes.

use proptest::prelude::*;
use virtio_queue::{QueueOwnedT as _, QueueT as _};
use vm_memory::Bytes as _;

use super::driver::{Driver, EVENT_IDX, HIGH, INDIRECT, INDIRECT_DESC, LOW, NEXT, START, WRITE};
use crate::virtqueue::{Chain, Pop};

const SIZE: u16 = 16;

/// A well-formed chain: lengths of readable and of writable buffers.
#[derive(Debug, Clone)]
struct Offer {
    readable: Vec<u32>,
    writable: Vec<u32>,
    indirect: bool,
}

fn offer() -> impl Strategy<Value = Offer> {
    let lens = || prop::collection::vec(prop_oneof![Just(0), 1u32..2000], 0..3);
    (lens(), lens(), any::<bool>())
        .prop_filter("a chain has a descriptor", |(r, w, _)| !r.is_empty() || !w.is_empty())
        .prop_map(|(readable, writable, indirect)| Offer { readable, writable, indirect })
}

/// One batch: the chains, the driver's wish for interrupts, and how many of the
/// chains the device serves at once.
type Batch = (Vec<Offer>, u16, usize);

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let chains = prop::collection::vec(offer(), 0..4);
    // Events near the index are the interesting ones.
    prop::collection::vec((chains, 0u16..12, 1usize..5), 1..30)
}

/// Offers `chains` in slots of four descriptors each.
fn post(driver: &mut Driver, chains: &[Offer]) {
    for (slot, chain) in (0u16..).zip(chains) {
        let head = slot * 4;
        let base = HIGH - 6000 + u64::from(slot) * 20_000;
        let flagged = chain.readable.iter().map(|len| (*len, 0));
        let all = flagged.chain(chain.writable.iter().map(|len| (*len, WRITE)));
        let buffers: Vec<_> =
            (0u64..).zip(all).map(|(i, (len, flags))| (base + i * 2500, len, flags)).collect();
        for (number, (address, len, _)) in (0u8..).zip(&buffers) {
            driver.write(*address, &vec![number + 1; usize::try_from(*len).unwrap()]);
        }
        if !chain.indirect {
            driver.offer_chain(head, &buffers);
            continue;
        }
        let table = LOW + u64::from(slot) * 64;
        for (i, (address, len, flags)) in (0u16..).zip(&buffers) {
            let last = usize::from(i) + 1 == buffers.len();
            let flags = if last { *flags } else { *flags | NEXT };
            driver.write_descriptor(table + u64::from(i) * 16, (*address, *len), flags, i + 1);
        }
        let table_len = u32::try_from(buffers.len() * 16).unwrap();
        driver.offer_chain(head, &[(table, table_len, INDIRECT)]);
    }
}

/// Serves what is there with our ring; returns the bytes read.
fn serve_ring(ring: &mut crate::virtqueue::SplitRing) -> Vec<Vec<u8>> {
    let (mut chain, mut all) = (Chain::new(), Vec::new());
    ring.available().unwrap();
    while ring.pop(&mut chain).unwrap() == Pop::Chain {
        let mut bytes = vec![0; usize::try_from(chain.readable_len()).unwrap()];
        chain.reader().read(&mut bytes);
        let mut writer = chain.writer();
        while writer.remaining() > 0 {
            writer.write(&[0xab; 700]);
        }
        ring.complete(chain.head(), writer.written());
        all.push(bytes);
    }
    ring.publish();
    all
}

/// The same with the reference.
fn serve_queue(queue: &mut virtio_queue::Queue, driver: &Driver) -> Vec<Vec<u8>> {
    let memory = &*driver.memory;
    let mut all = Vec::new();
    let chains: Vec<_> = queue.iter(memory).unwrap().collect();
    for chain in chains {
        let head = chain.head_index();
        let (mut bytes, mut written) = (Vec::new(), 0);
        for descriptor in chain {
            let len = usize::try_from(descriptor.len()).unwrap();
            if descriptor.is_write_only() {
                memory.write_slice(&vec![0xab; len], descriptor.addr()).unwrap();
                written += descriptor.len();
            } else {
                let mut part = vec![0; len];
                memory.read_slice(&mut part, descriptor.addr()).unwrap();
                bytes.extend(part);
            }
        }
        queue.add_used(memory, head, written).unwrap();
        all.push(bytes);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn same_bytes_same_used_ring_same_notifications_as_the_reference(
        batches in batches(),
        event_idx in any::<bool>(),
    ) {
        let features = INDIRECT_DESC | if event_idx { EVENT_IDX } else { 0 };
        let mut ours = Driver::with_features(SIZE, features);
        let mut theirs = Driver::with_features(SIZE, features);
        let (mut ring, mut queue) = (ours.ring(), theirs.queue());
        // Our first decision is always to notify; the reference has no such rule.
        prop_assert!(ring.needs_notification());
        queue.needs_notification(&*theirs.memory).unwrap();
        let mut decided = START;
        for (chains, event, enable) in &batches {
            let base = ours.used_idx();
            for driver in [&mut ours, &mut theirs] {
                driver.set_used_event(base.wrapping_add(*event).wrapping_sub(4));
                post(driver, chains);
            }
            prop_assert_eq!(serve_ring(&mut ring), serve_queue(&mut queue, &theirs));
            let notify = queue.needs_notification(&*theirs.memory).unwrap();
            // Without EVENT_IDX the reference notifies of nothing, too.
            let expected = notify && (event_idx || ours.used_idx() != decided);
            decided = ours.used_idx();
            prop_assert_eq!(ring.needs_notification(), expected);
            if *enable > 2 {
                let late = Offer { readable: vec![1], writable: vec![], indirect: false };
                let late = std::slice::from_ref(&late);
                if *enable > 3 {
                    post(&mut ours, late);
                    post(&mut theirs, late);
                }
                let more = queue.enable_notification(&*theirs.memory).unwrap();
                prop_assert_eq!(ring.enable_kicks(), more);
                prop_assert_eq!(serve_ring(&mut ring), serve_queue(&mut queue, &theirs));
            } else {
                ring.disable_kicks();
                queue.disable_notification(&*theirs.memory).unwrap();
            }
            prop_assert_eq!(ring.next_avail(), queue.next_avail());
        }
        prop_assert_eq!(ours.take_used(), theirs.take_used());
        prop_assert!(ours.dump() == theirs.dump(), "all of guest memory is the same");
    }

    #[test]
    fn every_head_is_returned_exactly_once_and_in_order(
        table in prop::collection::vec((any::<u16>(), 0u64..6, prop_oneof![0u32..70_000, (0u32..20).prop_map(|n| n * 16)], 0u16..20), 16),
        rounds in prop::collection::vec((1u16..9, prop::collection::vec(any::<bool>(), 8)), 1..20),
    ) {
        let mut driver = Driver::new(SIZE);
        for (index, (flags, place, len, next)) in (0u16..).zip(&table) {
            let address = [LOW, HIGH - 100, HIGH, super::driver::END - 50, u64::MAX - 3, 0];
            let address = address[usize::try_from(*place).unwrap()];
            driver.descriptor(index, (address, *len), *flags % 8, *next);
            // The same, without loops into itself, for who takes it for a table.
            for table in [LOW, HIGH - 100] {
                let at = table + u64::from(index) * 16;
                driver.write_descriptor(at, (address, *len), *flags % 4, *next);
            }
        }
        let (mut ring, mut chain) = (driver.ring(), Chain::new());
        let mut head = 0;
        for (count, undo) in &rounds {
            let offered: Vec<_> = (head..head + count).map(|head| head % SIZE).collect();
            head += count;
            for head in &offered {
                driver.offer(*head);
            }
            prop_assert_eq!(ring.available(), Ok(*count));
            let (mut undo, mut expected) = (undo.iter(), Vec::new());
            let mut pending = Vec::new();
            loop {
                match ring.pop(&mut chain).unwrap() {
                    Pop::Empty => break,
                    Pop::Bad => {}
                    Pop::Chain if undo.next() == Some(&true) => ring.undo_pop(1),
                    Pop::Chain => pending.push(chain.head()),
                }
            }
            for (number, head) in (1u32..).zip(&pending) {
                ring.complete(*head, number);
            }
            ring.publish();
            let mut number = 0;
            for head in &offered {
                let good = pending.contains(head);
                number += u32::from(good);
                expected.push((u32::from(*head), if good { number } else { 0 }));
            }
            prop_assert_eq!(driver.take_used(), expected);
            prop_assert_eq!(ring.in_flight(), 0);
        }
    }
}

#[test]
fn no_interrupt_flag_is_respected_without_event_idx() {
    let mut driver = Driver::with_features(SIZE, 0);
    let mut ring = driver.ring();
    for (flags, wanted) in [(0, true), (1, false), (0, true)] {
        driver.set_avail_flags(flags);
        driver.offer_chain(0, &[(LOW, 1, 0)]);
        serve_ring(&mut ring);
        assert_eq!(ring.needs_notification(), wanted);
        assert!(!ring.needs_notification(), "nothing new was published");
    }
}

#[test]
fn first_batch_after_a_start_notifies_whatever_the_event() {
    let mut driver = Driver::new(SIZE);
    // The interrupt for the entry before ours was lost with a predecessor.
    driver.set_used_event(START.wrapping_sub(1));
    driver.offer_chain(0, &[(LOW, 1, 0)]);
    let mut ring = driver.ring();
    serve_ring(&mut ring);
    assert!(ring.needs_notification());
}

#[test]
fn kicks_are_switched_as_the_driver_sees_it() {
    let mut driver = Driver::with_features(SIZE, 0);
    let mut ring = driver.ring();
    ring.disable_kicks();
    assert_eq!(driver.used_flags(), 1);
    assert!(!ring.enable_kicks());
    assert_eq!(driver.used_flags(), 0);
    driver.offer_chain(0, &[(LOW, 1, 0)]);
    assert!(ring.enable_kicks(), "work arrived before kicks were on");

    let driver = Driver::new(SIZE);
    let mut ring = driver.ring();
    assert!(!ring.enable_kicks());
    assert_eq!(driver.avail_event(), START);
}

#[test]
fn driver_left_alone_for_a_whole_turn_of_the_index_is_notified() {
    let mut driver = Driver::new(SIZE);
    let mut ring = driver.ring();
    assert!(ring.needs_notification());
    driver.set_used_event(START.wrapping_sub(100));
    driver.descriptor(0, (LOW, 1), 0, 0);
    for _ in 0..65_540u32 {
        driver.offer(0);
        serve_ring(&mut ring);
    }
    assert!(ring.needs_notification());
}

#[test]
fn head_is_read_once() {
    let mut driver = Driver::new(SIZE);
    driver.offer_chain(2, &[(LOW, 1, 0)]);
    driver.offer_chain(3, &[(LOW, 1, 0)]);
    let mut ring = driver.ring();
    let mut chain = Chain::new();
    assert_eq!(ring.available(), Ok(2));
    assert_eq!(ring.pop(&mut chain), Ok(Pop::Chain));
    // The guest changes the entry; what we popped stays what we return.
    driver.overwrite_avail(START, 7);
    ring.complete(2, 0);
    assert_eq!(ring.pop(&mut chain), Ok(Pop::Chain));
    ring.undo_pop(1);
    // Nor is it read again when it is popped again.
    driver.overwrite_avail(START.wrapping_add(1), 4);
    driver.descriptor(4, (LOW, 1), 0, 0);
    assert_eq!(ring.pop(&mut chain), Ok(Pop::Chain));
    ring.complete(3, 0);
    ring.publish();
    assert_eq!(driver.take_used(), [(2, 0), (3, 0)]);
}
