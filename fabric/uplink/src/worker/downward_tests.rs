//! Workers of a gateway with what came from outside, and a clock of their own.

use super::*;
use crate::{
    down::{GATEWAY_BYTES_MAX, Store},
    sample::vnic,
};
use proptest::prelude::*;
use wireonce_frame::{Offload, ecn::Ecn, sample::Sample};
use wireonce_ledger::Amount;
use wireonce_queue::{burst_bits, burst_packets};

const MBIT: u64 = 1_000_000;

/// An uplink with vNICs 1 to 3, each at this rate.
fn down(rate_bps: u64) -> Arc<Down> {
    let store = Arc::<Store>::default();
    let share = |id| {
        let share = VnicDown::new(Arc::clone(&store), 0);
        share.credit.set_rate(rate_bps, 0);
        (vnic(id), Arc::new(share))
    };
    Arc::new(Down { vnics: (1..4).map(share).collect(), waker: Arc::default() })
}

/// Of a frame that is cut into segments of full size.
fn cost(len: usize) -> WireCost {
    let segments = u32::try_from(len.div_ceil(1_514)).unwrap();
    WireCost { segments, bytes: len as u64 + 24 }
}

fn frame(flow_hash: u32, len: usize, since_us: u64) -> Held {
    Held {
        bytes: vec![0; len],
        offload: Offload::default(),
        flow_hash,
        ecn: Ecn::NotEct,
        amount: Amount::frame(len, 1),
        cost: cost(len),
        since_us,
    }
}

/// A worker, and what became of the frames that it received.
struct Worker {
    down: Downward,
    came: u64,
    sent: u64,
    dropped: u64,
    sent_bits: u64,
    /// Flows of the frames that waited and went.
    order: Vec<u32>,
    fabric_is_busy: bool,
}

impl Worker {
    fn new(down: &Arc<Down>) -> Self {
        Self {
            down: Downward::new(Some(Arc::clone(down))),
            came: 0,
            sent: 0,
            dropped: 0,
            sent_bits: 0,
            order: Vec::new(),
            fabric_is_busy: false,
        }
    }

    fn receive(&mut self, id: u64, flow: u32, len: usize, now_us: u64) {
        self.came += 1;
        if self.down.passes(vnic(id), cost(len), now_us) {
            self.sent += 1;
            self.sent_bits += cost(len).bits();
        } else {
            let dropped = &mut self.dropped;
            self.down.hold(vnic(id), frame(flow, len, now_us), &mut |_| *dropped += 1);
        }
    }

    fn turn(&mut self, now_us: u64) {
        let Self { down, sent, dropped, sent_bits, order, fabric_is_busy, .. } = self;
        down.release(now_us, &mut |_, held, turn| {
            if turn == Turn::Drop {
                *dropped += 1;
                return Shown::Dropped;
            }
            if *fabric_is_busy {
                return Shown::Stays;
            }
            *sent += 1;
            *sent_bits += held.cost.bits();
            order.push(held.flow_hash);
            Shown::Sent
        });
    }

    fn give_up(&mut self) -> u64 {
        let mut left = 0;
        self.down.give_up(&mut |_, _| left += 1);
        left
    }
}

fn queued(down: &Down, id: u64) -> usize {
    down.vnics[&vnic(id)].queued()
}

#[test]
fn frames_pass_at_once_until_the_burst_is_used_and_then_wait_in_order() {
    let down = down(100 * MBIT);
    let mut worker = Worker::new(&down);
    (0..60).for_each(|flow| worker.receive(1, flow, 1_514, 0));
    // One frame may overdraw.
    assert_eq!(worker.sent, burst_bits(100 * MBIT).div_ceil(cost(1_514).bits()));
    assert!(!worker.down.is_empty());
    assert!(worker.down.passes(vnic(2), cost(1_514), 0), "another vNIC does not wait");
    assert!(worker.down.passes(vnic(9), cost(1_514), 0), "nor does one that is not shaped");
    let mut now_us = 0;
    while let Some(next_us) = worker.down.next_us(now_us) {
        assert!(next_us > now_us);
        now_us = next_us;
        worker.turn(now_us);
    }
    assert_eq!((worker.sent, worker.dropped), (60, 0));
    assert_eq!(queued(&down, 1), 0);
}

#[test]
fn what_always_comes_goes_at_the_rate_whatever_its_size() {
    for (rate_bps, len) in [(10 * MBIT, 1_514), (100 * MBIT, 60), (1_000 * MBIT, 60_000)] {
        let down = down(rate_bps);
        let mut worker = Worker::new(&down);
        for step in 0..20_000 {
            let now_us = step * 100;
            worker.turn(now_us);
            (0..20).for_each(|flow| worker.receive(1, flow, len, now_us));
        }
        let expected = 2 * rate_bps + burst_bits(rate_bps);
        let slack = 9 * rate_bps / 10_000 + 9 * cost(len).bits();
        assert!(worker.sent_bits.abs_diff(expected) <= slack, "{rate_bps}: {}", worker.sent_bits);
        assert!(queued(&down, 1) <= VNIC_BYTES_MAX);
        let left = worker.give_up();
        assert_eq!(worker.came, worker.sent + worker.dropped + left);
    }
}

#[test]
fn what_always_comes_goes_at_the_limit_in_packets_on_all_workers_together() {
    for (limit, len) in [(1, 60), (20_000, 60), (20_000, 60_000), (40_000, 1_514)] {
        let down = down(10_000 * MBIT);
        down.vnics[&vnic(1)].limit_packets(Some(limit), 0);
        let mut workers = [Worker::new(&down), Worker::new(&down)];
        for step in 0..20_000 {
            let now_us = step * 100;
            for worker in &mut workers {
                worker.turn(now_us);
                (0..4).for_each(|flow| worker.receive(1, flow, len, now_us));
            }
            assert!(workers[0].down.passes(vnic(2), cost(60), now_us), "its neighbour has none");
        }
        let share = &down.vnics[&vnic(1)];
        let limit = u64::from(limit);
        let expected = 2 * limit + burst_packets(limit);
        // A frame that overdraws, and a ticket for each worker.
        let slack = 2 * limit / 1_000 + 3 * u64::from(cost(len).segments);
        let packets = share.packets_so_far();
        assert!(packets.abs_diff(expected) <= slack, "{limit}: {packets}, not {expected}");
        assert!(!share.hold(WaitsFor::Packets), "and the thread has no more for it");
        assert_eq!(share.queued(), workers.iter().map(|it| it.down.waiting[0].queue.bytes()).sum());
        for mut worker in workers {
            let left = worker.give_up();
            assert_eq!(worker.came, worker.sent + worker.dropped + left);
        }
    }
}

#[test]
fn a_limit_in_packets_changes_while_frames_wait() {
    let down = down(10_000 * MBIT);
    let share = &down.vnics[&vnic(1)];
    let mut worker = Worker::new(&down);
    let mut second = |from_s: u64| {
        let before = worker.sent;
        for now_us in (from_s * 1_000_000..(from_s + 1) * 1_000_000).step_by(100) {
            worker.turn(now_us);
            worker.receive(1, 1, 60, now_us);
        }
        worker.sent - before
    };
    assert_eq!(second(0), 10_000, "as many as came");
    share.limit_packets(Some(1_000), 1_000_000);
    let passed = second(1);
    assert!((1_000..=1_066).contains(&passed), "{passed}");
    share.limit_packets(Some(4_000), 2_000_000);
    let passed = second(2);
    assert!((3_990..=4_010).contains(&passed), "{passed}");
    share.limit_packets(None, 3_000_000);
    assert!(second(3) >= 10_000, "what waited goes, too");
}

#[test]
fn a_sparse_flow_overtakes_a_bulk_flow_and_loses_nothing() {
    let down = down(10 * MBIT);
    let mut worker = Worker::new(&down);
    let mut sparse = 0;
    for step in 0..10_000_u64 {
        let now_us = step * 100;
        worker.turn(now_us);
        (0..3).for_each(|_| worker.receive(1, 1, 1_514, now_us));
        if step % 100 == 50 {
            worker.order.clear();
            worker.receive(1, 2, 100, now_us);
            sparse += 1;
            let mut later_us = now_us;
            while !worker.order.contains(&2) {
                later_us += 100;
                worker.turn(later_us);
                assert!(worker.order.len() < 5, "the bulk is served before it");
            }
        }
    }
    assert_eq!(sparse, 100);
    assert!(worker.dropped > 1_000, "the bulk flow does not slow down");
}

#[test]
fn a_flow_on_another_worker_has_its_part_though_that_one_looks_seldom() {
    let down = down(100 * MBIT);
    let (mut busy, mut calm) = (Worker::new(&down), Worker::new(&down));
    let mut calm_next_us = 0;
    for step in 0..400_000_u64 {
        let now_us = step * 5;
        busy.turn(now_us);
        busy.receive(1, 1, 1_514, now_us);
        if step % 20 == 0 {
            calm.receive(1, 2, 1_514, now_us);
        }
        if now_us >= calm_next_us {
            calm.turn(now_us);
            calm_next_us = calm.down.next_us(now_us).unwrap_or(now_us + 100);
        }
    }
    let (busy, calm) = (busy.sent_bits, calm.sent_bits);
    assert!(busy + calm <= 200 * MBIT + burst_bits(100 * MBIT) + 5 * MBIT, "{busy} {calm}");
    assert!(calm >= 60 * MBIT && busy >= 60 * MBIT, "{busy} {calm}");
}

#[test]
fn one_vnic_in_its_queue_delays_no_other() {
    let down = down(10 * MBIT);
    let mut worker = Worker::new(&down);
    (0..10_000).for_each(|_| worker.receive(1, 1, 1_514, 0));
    assert!(worker.dropped > 0);
    let before = worker.dropped;
    worker.receive(2, 1, 1_514, 0);
    assert_eq!((worker.dropped, queued(&down, 2)), (before, 0));
}

#[test]
fn what_waits_stays_when_rates_and_shares_change_and_goes_at_once_when_nothing_is_shaped() {
    let first = down(MBIT);
    let mut worker = Worker::new(&first);
    (0..100).for_each(|_| worker.receive(1, 1, 1_514, 0));
    let waiting = 100 - usize::try_from(worker.sent).unwrap();
    // Other shares for the same vNIC: as for an uplink that was not shaped in between.
    let second = down(MBIT);
    worker.down.change(Some(Arc::clone(&second)));
    assert_eq!((queued(&first, 1), queued(&second, 1)), (0, waiting * (1_514 + 128)));
    worker.down.change(None);
    assert_eq!(queued(&second, 1), 0);
    worker.receive(1, 1, 1_514, 10);
    assert_eq!(worker.order.len(), 0, "behind what waits");
    worker.turn(20);
    assert_eq!((worker.sent, worker.dropped), (101, 0));
    worker.receive(1, 1, 1_514, 30);
    assert_eq!(worker.sent, 102, "nothing waits any more");
    assert!(!worker.down.is_used());
}

#[test]
fn while_the_fabric_is_busy_frames_stay_and_nothing_is_paid_twice() {
    let down = down(10 * MBIT);
    let mut worker = Worker::new(&down);
    (0..100).for_each(|_| worker.receive(1, 1, 1_514, 0));
    let before = worker.sent_bits;
    worker.fabric_is_busy = true;
    (1..100).for_each(|step| worker.turn(step * 1_000));
    assert_eq!((worker.sent_bits, worker.dropped), (before, 0));
    worker.fabric_is_busy = false;
    worker.turn(100_000);
    (101..200).for_each(|ms| worker.turn(ms * 1_000));
    assert_eq!(worker.sent + worker.dropped, 100);
    assert!(worker.sent_bits - before <= 2 * MBIT + burst_bits(10 * MBIT), "not all at once");
}

#[test]
fn a_frame_that_waited_is_marked_if_it_can_be() {
    let down = down(10 * MBIT);
    let mut worker = Worker::new(&down);
    while worker.down.passes(vnic(1), cost(1_514), 0) {}
    let sample = |ecn: Ecn| Sample::tcp4().traffic_class(ecn.bits()).build();
    let (ecn, bytes) = (Ecn::Ect0, sample(Ecn::Ect0));
    let held = Held { bytes, ecn, ..frame(1, 0, 0) };
    worker.down.hold(vnic(1), held, &mut |_| panic!("there is room"));
    let mut seen = Vec::new();
    worker.down.release(0, &mut |_, _, _| panic!("there is no credit"));
    worker.down.release(5_000, &mut |_, held, _| {
        seen.push(held.bytes.clone());
        Shown::Sent
    });
    assert_eq!(seen, [sample(Ecn::Ce)]);
    assert_eq!(down.vnics[&vnic(1)].marked_so_far(), 1);
}

#[test]
fn who_has_to_wait_wakes_whoever_divides_and_a_frame_that_is_dropped_is_counted() {
    let down = down(0);
    let mut worker = Worker::new(&down);
    (0..2_000).for_each(|_| worker.receive(1, 1, 1_514, 0));
    let share = &down.vnics[&vnic(1)];
    assert!(!share.hold(WaitsFor::Bits), "it is known");
    assert_eq!(share.dropped_so_far(), worker.dropped);
    assert!(worker.dropped > 1_000);
    let left = worker.give_up();
    assert_eq!(worker.came, worker.sent + worker.dropped + left);
    assert_eq!(queued(&down, 1), 0);
}

/// Time that passes, worker, vNIC, flow, length, another rate for the vNIC, in Mbit/s.
type Step = (u64, usize, u64, u32, usize, Option<u64>);

fn any_step() -> impl Strategy<Value = Step> {
    let rate = prop::option::weighted(0.1, 0..1_000_u64);
    (0..2_000_u64, 0..3_usize, 1..4_u64, 0..4_u32, 60..66_000_usize, rate)
}

proptest! {
    #[test]
    fn whatever_comes_each_vnic_keeps_its_rate_memory_is_bounded_and_the_books_close(
        steps in prop::collection::vec(any_step(), 1..400),
        limit in prop::option::of(1..20_000_u32),
    ) {
        let down = down(100 * MBIT);
        down.vnics[&vnic(1)].limit_packets(limit, 0);
        let mut workers: Vec<Worker> = (0..3).map(|_| Worker::new(&down)).collect();
        let mut rates = [100 * MBIT; 3];
        let mut allowed = [burst_bits(100 * MBIT); 3];
        let (mut now_us, mut came) = (0, 0);
        for (wait_us, at, id, flow, len, rate) in steps {
            now_us += wait_us;
            for (allowed, rate_bps) in allowed.iter_mut().zip(rates) {
                *allowed += rate_bps * wait_us / 1_000_000 + 1;
            }
            if let Some(mbit) = rate {
                rates[usize::try_from(id - 1).unwrap()] = mbit * MBIT;
                down.vnics[&vnic(id)].credit.set_rate(mbit * MBIT, now_us);
            }
            let worker = &mut workers[at];
            worker.turn(now_us);
            (0..4).for_each(|_| worker.receive(id, flow, len, now_us));
            came += 4;
            for (id, allowed) in (1..4).zip(allowed) {
                let share = &down.vnics[&vnic(id)];
                // A frame of one who passes, and a ticket for each who waits.
                let slack = 4 * (cost(66_000).bits() + 8 * 100_000);
                prop_assert!(share.served_so_far() <= allowed + slack, "vNIC {id}");
                prop_assert!(share.queued() <= VNIC_BYTES_MAX);
            }
            if let Some(limit) = limit.map(u64::from) {
                let slack = 4 * (u64::from(cost(66_000).segments) + 8 * 2);
                let most = limit * now_us / 1_000_000 + 1 + burst_packets(limit) + slack;
                prop_assert!(down.vnics[&vnic(1)].packets_so_far() <= most);
            }
            prop_assert!(down.vnics.values().map(|it| it.queued()).sum::<usize>() <= GATEWAY_BYTES_MAX);
        }
        let ended: u64 = workers.iter_mut().map(|it| it.sent + it.dropped + it.give_up()).sum();
        prop_assert_eq!(came, ended);
        prop_assert!(down.vnics.values().all(|share| share.queued() == 0));
    }
}
