//! One test for each way in which a guest has broken a device before.

use super::driver::{
    Driver, END, EVENT_IDX, HIGH, INDIRECT, INDIRECT_DESC, LOW, NEXT, START, WRITE,
};
use crate::virtqueue::{Chain, ChainFault, Pop, RingArea, RingError, SplitRing, Unmapped};

fn read_all(chain: &Chain) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(chain.readable_len()).unwrap()];
    let mut reader = chain.reader();
    assert_eq!(reader.read(&mut bytes), bytes.len());
    assert_eq!(reader.remaining(), 0);
    bytes
}

/// Pops what is offered, which is malformed, and expects it back.
#[track_caller]
fn expect_bad(driver: &mut Driver, head: u32, fault: ChainFault) {
    let mut ring = driver.ring();
    let mut chain = Chain::new();
    assert_eq!(ring.available(), Ok(1));
    assert_eq!(ring.pop(&mut chain), Ok(Pop::Bad));
    assert_eq!(ring.last_fault(), Some(fault));
    assert_eq!((chain.readable_len(), chain.writable_len()), (0, 0), "no buffer is left over");
    ring.publish();
    assert_eq!(driver.take_used(), [(head, 0)], "the head goes back, once");
    assert_eq!(ring.bad_chains(), 1);
    assert_eq!(ring.pop(&mut chain), Ok(Pop::Empty));
}

/// A driver that has offered a good chain of one byte at each of `heads`, and its ring.
fn offered(size: u16, heads: impl IntoIterator<Item = u16>) -> (Driver, SplitRing, Chain) {
    let mut driver = Driver::new(size);
    let ring = driver.ring();
    for head in heads {
        driver.offer_chain(head, &[(LOW, 1, 0)]);
    }
    (driver, ring, Chain::new())
}

/// `available` chains are offered, of which the first of `heads` are popped, all good.
#[track_caller]
fn pop_good(ring: &mut SplitRing, chain: &mut Chain, available: u16, heads: &[u16]) {
    assert_eq!(ring.available(), Ok(available));
    for head in heads {
        assert_eq!(ring.pop(chain), Ok(Pop::Chain));
        assert_eq!(chain.head(), *head);
    }
}

/// Offers head 0, which refers to an indirect table of `len` bytes at `table`. Each entry has a
/// buffer, flags and the next entry.
fn offer_indirect(
    driver: &mut Driver,
    (table, len): (u64, u32),
    entries: &[((u64, u32), u16, u16)],
) {
    for (address, (buffer, flags, next)) in (table..).step_by(16).zip(entries) {
        driver.write_descriptor(address, *buffer, *flags, *next);
    }
    driver.descriptor(0, (table, len), INDIRECT, 0);
    driver.offer(0);
}

#[track_caller]
fn expect_readable(driver: &Driver, bytes: &[u8]) {
    let mut ring = driver.ring();
    let mut chain = Chain::new();
    assert_eq!(ring.available(), Ok(1));
    assert_eq!(ring.pop(&mut chain), Ok(Pop::Chain), "{:?}", ring.last_fault());
    assert_eq!(read_all(&chain), bytes);
}

#[test]
fn ring_size_that_is_no_power_of_two_is_refused() {
    let driver = Driver::new(8);
    for size in [0, 3, 6, 255, 0xffff, 0x8001] {
        let config = crate::virtqueue::RingConfig { size, ..driver.config };
        assert_eq!(SplitRing::new(driver.mapped(), &config).unwrap_err(), RingError::Size(size));
    }
}

#[test]
fn misaligned_areas_are_refused() {
    let driver = Driver::new(8);
    let good = driver.config;
    let mut table = good;
    table.descriptor_table += 8;
    let mut avail = good;
    avail.avail_ring += 1;
    let mut used = good;
    used.used_ring += 2;
    for (config, expected) in [
        (table, RingArea::DescriptorTable),
        (avail, RingArea::AvailRing),
        (used, RingArea::UsedRing),
    ] {
        let error = SplitRing::new(driver.mapped(), &config).unwrap_err();
        assert!(matches!(error, RingError::Alignment { area, .. } if area == expected), "{error}");
    }
}

#[test]
fn areas_outside_memory_are_refused() {
    let driver = Driver::new(8);
    for address in [END, END - 16, HIGH - 16, u64::MAX - 15] {
        for area in 0..3 {
            let mut config = driver.config;
            match area {
                0 => config.descriptor_table = address,
                1 => config.avail_ring = address,
                _ => config.used_ring = address,
            }
            let result = SplitRing::new(driver.mapped(), &config);
            assert!(matches!(result, Err(RingError::Unmapped { .. })), "{address:#x} {area}");
        }
    }
}

#[test]
fn legacy_driver_is_refused() {
    let driver = Driver::new(8);
    let mut config = driver.config;
    config.features = EVENT_IDX;
    assert_eq!(SplitRing::new(driver.mapped(), &config).unwrap_err(), RingError::NoVersion1);
}

#[test]
fn base_is_taken_from_the_used_index() {
    let mut driver = Driver::new(8);
    assert_eq!(driver.ring().corrected_base(), None);
    driver.offer_chain(0, &[(LOW, 1, 0)]);
    // A front-end that passes the driver's index would skip what is posted.
    driver.config.base = START.wrapping_add(1);
    let mut ring = driver.ring();
    assert_eq!(ring.corrected_base(), Some(START.wrapping_add(1)));
    assert_eq!(ring.next_avail(), START);
    assert_eq!(ring.available(), Ok(1));
}

#[test]
fn avail_idx_jump_breaks_the_ring_for_good() {
    let driver = Driver::new(8);
    for jump in [9, 10, 0x8000, 0xffff] {
        let mut ring = driver.ring();
        driver.set_avail_idx(START.wrapping_add(jump));
        let error = ring.available().unwrap_err();
        assert!(matches!(error, RingError::AvailJump { .. }), "{jump}: {error}");
        driver.set_avail_idx(START.wrapping_add(1));
        assert_eq!(ring.available(), Err(error), "it stays broken");
        assert_eq!(ring.pop(&mut Chain::new()), Ok(Pop::Empty));
    }
}

#[test]
fn avail_idx_that_goes_back_breaks_the_ring() {
    let (driver, mut ring, mut chain) = offered(8, 0..2);
    pop_good(&mut ring, &mut chain, 2, &[0, 1]);
    driver.set_avail_idx(START.wrapping_add(1));
    assert!(matches!(ring.available(), Err(RingError::AvailJump { .. })));
}

#[test]
fn inflight_never_exceeds_queue_size() {
    let (mut driver, mut ring, mut chain) = offered(4, 0..4);
    pop_good(&mut ring, &mut chain, 4, &[0, 1, 2, 3]);
    assert_eq!(ring.in_flight(), 4);
    // Completed, but not shown to the driver: it cannot know that there is room.
    ring.complete(0, 0);
    driver.offer(0);
    assert!(matches!(ring.available(), Err(RingError::AvailJump { .. })));
}

#[test]
fn duplicate_inflight_head_is_refused() {
    let (mut driver, mut ring, mut chain) = offered(8, [3]);
    driver.offer(3);
    pop_good(&mut ring, &mut chain, 2, &[3]);
    assert_eq!(ring.pop(&mut chain), Err(RingError::HeadInFlight { head: 3 }));
    assert_eq!(ring.available(), Err(RingError::HeadInFlight { head: 3 }));
    // What was served before is still returned.
    ring.complete(3, 0);
    ring.publish();
    assert_eq!(driver.take_used(), [(3, 0)]);
}

#[test]
fn head_may_come_again_once_completed_or_given_back() {
    let (mut driver, mut ring, mut chain) = offered(8, [3]);
    pop_good(&mut ring, &mut chain, 1, &[3]);
    ring.undo_pop(1);
    assert_eq!(ring.pop(&mut chain), Ok(Pop::Chain));
    ring.complete(3, 0);
    ring.publish();
    driver.offer(3);
    pop_good(&mut ring, &mut chain, 1, &[3]);
}

#[test]
fn undo_gives_back_no_more_than_is_in_flight() {
    let (_driver, mut ring, mut chain) = offered(8, 0..3);
    pop_good(&mut ring, &mut chain, 3, &[0, 1, 2]);
    ring.complete(0, 0);
    ring.undo_pop(u16::MAX);
    assert_eq!(ring.next_avail(), START.wrapping_add(1));
    assert_eq!(ring.pop(&mut chain), Ok(Pop::Chain));
    assert_eq!(chain.head(), 1);
}

#[test]
fn head_out_of_range_breaks_the_ring() {
    for head in [8, 9, 0xffff] {
        let mut driver = Driver::new(8);
        let mut ring = driver.ring();
        driver.offer(head);
        assert_eq!(ring.available(), Ok(1));
        let error = RingError::HeadOutOfRange { head, size: 8 };
        assert_eq!(ring.pop(&mut Chain::new()), Err(error));
    }
}

#[test]
fn stop_gives_back_what_is_in_flight() {
    let (mut driver, mut ring, mut chain) = offered(8, 0..3);
    pop_good(&mut ring, &mut chain, 3, &[0, 1]);
    ring.complete(0, 0);
    assert_eq!(ring.stop(), START.wrapping_add(1));
    assert_eq!(driver.take_used(), [(0, 0)]);
    // A successor serves the rest.
    let mut successor = driver.ring();
    pop_good(&mut successor, &mut chain, 2, &[1]);
}

#[test]
fn next_out_of_range_is_bad() {
    for next in [8, 0xffff] {
        let mut driver = Driver::new(8);
        driver.descriptor(2, (LOW, 1), NEXT, next);
        driver.offer(2);
        expect_bad(&mut driver, 2, ChainFault::NextOutOfRange { next, size: 8 });
    }
}

#[test]
fn descriptor_loop_is_bad() {
    for len in [1, 0] {
        let mut driver = Driver::new(8);
        driver.descriptor(0, (LOW, len), NEXT, 1);
        driver.descriptor(1, (LOW, len), NEXT, 0);
        driver.offer(0);
        expect_bad(&mut driver, 0, ChainFault::TooLong);
    }
}

#[test]
fn indirect_loop_is_bad() {
    let mut driver = Driver::new(8);
    offer_indirect(&mut driver, (LOW, 16), &[((HIGH, 1), NEXT, 0)]);
    expect_bad(&mut driver, 0, ChainFault::TooLong);
}

#[test]
fn chain_of_1024_descriptors_is_served_and_1025_is_bad() {
    for (count, good) in [(1024u16, true), (1025, false)] {
        let mut driver = Driver::new(2048);
        driver.offer_chain(0, &vec![(LOW, 1, 0); count.into()]);
        if good {
            expect_readable(&driver, &[0; 1024]);
        } else {
            expect_bad(&mut driver, 0, ChainFault::TooLong);
        }
    }
}

#[test]
fn segments_are_bounded_like_descriptors() {
    // The last descriptor straddles two regions, so it makes two segments.
    let mut driver = Driver::new(1024);
    let mut buffers = vec![(LOW, 1, 0); 1023];
    buffers.push((HIGH - 1, 2, 0));
    driver.offer_chain(0, &buffers);
    expect_bad(&mut driver, 0, ChainFault::TooLong);
}

#[test]
fn indirect_table_without_the_feature_is_bad() {
    let mut driver = Driver::with_features(8, 0);
    offer_indirect(&mut driver, (LOW, 16), &[((HIGH, 1), 0, 0)]);
    expect_bad(&mut driver, 0, ChainFault::IndirectNotNegotiated);
}

#[test]
fn nested_indirect_table_is_bad() {
    let mut driver = Driver::new(8);
    driver.write_descriptor(LOW + 64, (HIGH, 1), 0, 0);
    offer_indirect(&mut driver, (LOW, 16), &[((LOW + 64, 16), INDIRECT, 0)]);
    expect_bad(&mut driver, 0, ChainFault::NestedIndirect);
}

#[test]
fn indirect_descriptor_with_next_is_bad() {
    let mut driver = Driver::new(8);
    driver.write_descriptor(LOW, (HIGH, 1), 0, 0);
    driver.descriptor(0, (LOW, 16), INDIRECT | NEXT, 1);
    driver.offer(0);
    expect_bad(&mut driver, 0, ChainFault::IndirectWithNext);
}

#[test]
fn indirect_len_that_is_no_multiple_of_16_is_bad() {
    for len in [0, 1, 15, 17, u32::MAX] {
        let mut driver = Driver::new(8);
        offer_indirect(&mut driver, (LOW, len), &[((HIGH, 1), 0, 0)]);
        expect_bad(&mut driver, 0, ChainFault::IndirectLen(len));
    }
}

#[test]
fn indirect_next_out_of_range_is_bad() {
    let mut driver = Driver::new(8);
    offer_indirect(&mut driver, (LOW, 32), &[((HIGH, 1), NEXT, 2)]);
    expect_bad(&mut driver, 0, ChainFault::NextOutOfRange { next: 2, size: 2 });
}

#[test]
fn indirect_table_outside_memory_is_bad() {
    for (table, lost) in [(END, END), (END - 8, END), (u64::MAX - 7, u64::MAX - 7)] {
        let mut driver = Driver::new(8);
        offer_indirect(&mut driver, (table, 16), &[]);
        expect_bad(&mut driver, 0, ChainFault::Unmapped(Unmapped(lost)));
    }
}

#[test]
fn chained_descriptors_before_an_indirect_table_are_served() {
    let mut driver = Driver::new(8);
    driver.write(HIGH, b"abcdef");
    driver.descriptor(0, (HIGH, 2), NEXT, 5);
    // The write flag of the descriptor that refers to the table means nothing.
    driver.descriptor(5, (LOW, 32), INDIRECT | WRITE, 0);
    driver.write_descriptor(LOW, (HIGH + 2, 1), NEXT, 1);
    driver.write_descriptor(LOW + 16, (HIGH + 3, 3), 0, 0);
    driver.offer(0);
    expect_readable(&driver, b"abcdef");
}

#[test]
fn indirect_table_crosses_regions() {
    let mut driver = Driver::with_features(8, INDIRECT_DESC);
    driver.write(LOW, b"xyz");
    let entries = [((LOW, 1), NEXT, 1), ((LOW + 1, 2), 0, 0)];
    offer_indirect(&mut driver, (HIGH - 24, 32), &entries);
    expect_readable(&driver, b"xyz");
}

#[test]
fn readable_after_writable_is_bad() {
    let mut driver = Driver::new(8);
    driver.offer_chain(0, &[(LOW, 1, 0), (LOW, 1, WRITE), (LOW, 1, 0)]);
    expect_bad(&mut driver, 0, ChainFault::ReadableAfterWritable);
}

#[test]
fn descriptor_crosses_two_adjacent_regions() {
    let mut driver = Driver::new(8);
    driver.write(HIGH - 3, b"before+after");
    driver.offer_chain(0, &[(HIGH - 3, 12, 0)]);
    expect_readable(&driver, b"before+after");
}

#[test]
fn writable_descriptor_crosses_two_adjacent_regions() {
    let mut driver = Driver::new(8);
    driver.offer_chain(0, &[(HIGH - 3, 12, WRITE)]);
    let (mut ring, mut chain) = (driver.ring(), Chain::new());
    pop_good(&mut ring, &mut chain, 1, &[0]);
    let mut writer = chain.writer();
    assert_eq!(writer.skip(2), 2);
    assert_eq!(writer.write(b"fore+after!!"), 10);
    assert_eq!((writer.remaining(), writer.written()), (0, 12));
    assert_eq!(writer.write_first(b"be"), 2);
    assert_eq!(writer.skip(1), 0);
    assert_eq!(driver.read(HIGH - 3, 12), b"before+after");
}

#[test]
fn descriptor_crosses_region_end() {
    for (address, len, lost) in [
        (END - 1, 2, END),
        (END, 1, END),
        (HIGH - 1, u32::MAX, END),
        (u64::MAX, 1, u64::MAX),
        (u64::MAX - 1, u32::MAX, u64::MAX - 1),
    ] {
        let mut driver = Driver::new(8);
        driver.offer_chain(0, &[(LOW, 1, 0), (address, len, 0)]);
        expect_bad(&mut driver, 0, ChainFault::Unmapped(Unmapped(lost)));
    }
}

#[test]
fn zero_length_descriptor_with_bad_address_is_ignored() {
    let mut driver = Driver::new(8);
    driver.write(LOW, b"ab");
    driver.offer_chain(
        0,
        &[(u64::MAX, 0, 0), (LOW, 1, 0), (END, 0, WRITE), (LOW + 1, 1, 0), (0, 0, WRITE)],
    );
    expect_readable(&driver, b"ab");
}

#[test]
fn all_zero_length_chain_terminates() {
    let mut driver = Driver::new(8);
    driver.offer_chain(0, &[(0, 0, 0); 8]);
    expect_readable(&driver, b"");
}

#[test]
fn chain_total_bound() {
    // Each descriptor is within memory; 1,024 of them make more than 2^32 bytes
    // only with a larger memory, so the bound shows with the largest here.
    use std::sync::Arc;
    use vm_memory::GuestAddress;
    let mut driver = Driver::new(8);
    let regions = [(GuestAddress(0), 0x10_0000), (GuestAddress(1 << 32), 0x8000_0000)];
    // Mapped without reserve, never touched.
    let memory = Arc::new(crate::virtqueue::GuestMemory::from_ranges(&regions).unwrap());
    driver.memory = memory;
    for index in [START, 0] {
        driver.set_avail_idx(index);
    }
    driver.set_avail_idx(START);
    driver.set_used_idx(START);
    let half = (1 << 32, 0x8000_0000, 0);
    driver.offer_chain(0, &[half, (1 << 32, 0x7fff_ffff, 0)]);
    driver.offer_chain(2, &[half, half]);
    let (mut ring, mut chain) = (driver.ring(), Chain::new());
    pop_good(&mut ring, &mut chain, 2, &[0]);
    assert_eq!(chain.readable_len(), u32::MAX);
    assert_eq!(ring.pop(&mut chain), Ok(Pop::Bad));
    assert_eq!(ring.last_fault(), Some(ChainFault::TotalLen));
}

#[test]
fn bad_chain_between_good_ones_is_returned_in_its_turn() {
    let (mut driver, mut ring, mut chain) = offered(8, [4]);
    driver.offer_chain(0, &[(END, 1, 0)]);
    driver.offer_chain(6, &[(LOW, 1, 0)]);
    pop_good(&mut ring, &mut chain, 3, &[4]);
    assert_eq!(ring.pop(&mut chain), Ok(Pop::Bad));
    assert_eq!(ring.pop(&mut chain), Ok(Pop::Chain));
    ring.publish();
    assert_eq!(driver.take_used(), [], "the first one comes first");
    ring.complete(4, 7);
    ring.complete(6, 9);
    ring.publish();
    assert_eq!(driver.take_used(), [(4, 7), (0, 0), (6, 9)]);
}
