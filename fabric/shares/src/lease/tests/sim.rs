//! A house of servers behind a bad network, from a seed, in which what there is changes all the time.
//!
//! ```text
//!   server: Lessee ── rate in force ──▶ Bucket ── bits ──▶ all of them: never more than
//!      ▲ │                                                 what there is x t + bursts
//!      │ └─ reports ─▶ lost, late, twice ─▶ Lessor
//!      └──── leases ◀─ lost, late, twice ◀───┘
//! ```
//! **What there is** at an instant is the most that was usable in the time that a promise lives, since what
//! was promised of a capacity that is lost stands until then; and starters that were given in that time,
//! which count beside what was promised before. A server without a lease that has not heard of a smaller
//! starter sends the old one: that is what the gateway's meters are for.

use super::{Lease, LeaseTiming, Lessee, Lessor, MBIT, Report, ServerIndex};
use crate::Bucket;

const TICK_US: u64 = 5_000;
const STEP_US: u64 = 500;
/// What there is at first, and the most of it that there ever is.
const USABLE: u64 = 1_000 * MBIT;
const USABLE_MIN: u64 = 300 * MBIT;
const STARTER: u64 = 10 * MBIT;
const SERVERS_MAX: usize = 8;
/// As long as a promise may be in force, at its gateway.
const LIFE_US: u64 = 60_000;
/// What a server may have saved, and the last frame that overdraws it.
const BURST_BITS: u64 = 512_000;
const FRAME_BITS: u64 = 12_000;
const CREDIT: u128 = ((BURST_BITS + FRAME_BITS) as u128) * 1_000_000;

/// Numbers from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Names the seed of a run that panics, whatever it panics of.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("this was seed {}", self.0);
        }
    }
}

/// A message under way, by the number of the server that it is from or for.
enum Message {
    Report(u64, Report),
    /// With the starter of the time.
    Lease(u64, Lease, u64),
}

/// A server's clock: where it began, and how fast it goes in millionths.
struct Clock {
    offset_us: u64,
    speed: u64,
}

impl Clock {
    fn any(random: &mut Random) -> Self {
        // Up to a tenth too slow or too fast.
        Self { offset_us: random.below(1 << 40), speed: 900_000 + random.below(200_001) }
    }

    fn at(&self, now_us: u64) -> u64 {
        self.offset_us + now_us * self.speed / 1_000_000
    }
}

struct Server {
    number: u64,
    lessee: Lessee,
    clock: Clock,
    /// What it sends. It counts true time: what a clock that is wrong adds to a rate, no lease can know.
    bucket: Bucket,
    /// What the gateway gives it without a lease.
    starter_bps: u64,
    target_bps: u64,
    /// It has nothing to send until then.
    pauses_until_us: u64,
    /// It hears nothing and is not heard until then.
    cut_off_until_us: u64,
    /// It leaves: it is forgotten when nothing is promised to it.
    gone: bool,
}

struct House {
    random: Random,
    lessor: Lessor,
    /// In the lessor's order.
    servers: Vec<Server>,
    numbers: u64,
    under_way: Vec<(u64, Message)>,
    usable: u64,
    /// What was usable until when, of the time that counts; and which starters were given when.
    usable_before: Vec<(u64, u64)>,
    starters_given: Vec<(u64, u64)>,
    /// Bits in millionths that were sent beyond what there was, in whatever time there were most.
    excess: u128,
    /// The most servers at one time.
    most: usize,
    lives: u64,
    faults: bool,
}

impl House {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let count = 2 + random.below(6);
        let mut house = Self {
            random,
            lessor: Lessor::new(USABLE, &[], LeaseTiming::default(), 1, 0),
            servers: Vec::new(),
            numbers: 0,
            under_way: Vec::new(),
            usable: USABLE,
            usable_before: Vec::new(),
            starters_given: Vec::new(),
            excess: 0,
            most: 0,
            lives: 1,
            faults: true,
        };
        (0..count).for_each(|_| house.add(STARTER, 0));
        // They know their starters.
        house.servers.iter_mut().for_each(|server| server.lessee.set_starter(STARTER));
        house
    }

    fn add(&mut self, starter_bps: u64, now_us: u64) {
        let index = self.lessor.add(starter_bps);
        assert_eq!(index.0, self.servers.len());
        self.numbers += 1;
        let clock = Clock::any(&mut self.random);
        self.servers.push(Server {
            number: self.numbers,
            lessee: Lessee::new(0, LeaseTiming::default()),
            clock,
            bucket: Bucket::new(0, BURST_BITS, now_us),
            starter_bps,
            target_bps: 0,
            pauses_until_us: 0,
            cut_off_until_us: 0,
            gone: false,
        });
        self.starters_given.push((now_us, starter_bps));
        self.excess = self.excess.saturating_sub(CREDIT);
        self.most = self.most.max(self.servers.len());
    }

    fn set_starter(&mut self, at: usize, starter_bps: u64, now_us: u64) {
        let server = &mut self.servers[at];
        let more_bps = starter_bps.saturating_sub(server.starter_bps);
        self.starters_given.push((now_us, more_bps));
        server.starter_bps = starter_bps;
        self.lessor.set_starter(ServerIndex(at), starter_bps);
    }

    fn set_target(&mut self, at: usize, target_bps: u64) {
        self.servers[at].target_bps = target_bps;
        self.lessor.set_target(ServerIndex(at), target_bps);
    }

    fn send(&mut self, at: usize, now_us: u64, message: impl Fn() -> Message) {
        let copies = if self.faults && self.random.one_in(20) { 2 } else { 1 };
        for _ in 0..copies {
            let cut_off = now_us < self.servers[at].cut_off_until_us;
            let lost = self.faults && (self.random.one_in(8) || cut_off);
            let delay_us = if self.faults && self.random.one_in(10) {
                self.random.below(200_000)
            } else {
                self.random.below(1_000)
            };
            if !lost {
                self.under_way.push((now_us + delay_us, message()));
            }
        }
    }

    fn arrive(&mut self, now_us: u64) {
        let (due, later): (Vec<_>, _) =
            std::mem::take(&mut self.under_way).into_iter().partition(|(at, _)| *at <= now_us);
        self.under_way = later;
        for (_, message) in due {
            let (Message::Report(number, _) | Message::Lease(number, ..)) = message;
            let Some(at) = self.servers.iter().position(|it| it.number == number) else { continue };
            match message {
                Message::Report(_, report) => {
                    self.lessor.hear(ServerIndex(at), report, now_us);
                    if let Some(lease) = self.lessor.lease(ServerIndex(at), now_us) {
                        let starter_bps = self.servers[at].starter_bps;
                        self.send(at, now_us, || Message::Lease(number, lease, starter_bps));
                    }
                }
                Message::Lease(_, lease, starter_bps) => {
                    let lessee = &mut self.servers[at].lessee;
                    if lessee.take(lease) {
                        lessee.set_starter(starter_bps);
                    }
                }
            }
        }
    }

    /// What breaks, and what is changed.
    fn trouble(&mut self, now_us: u64) {
        let at = usize::try_from(self.random.below(self.servers.len() as u64)).unwrap();
        if self.random.one_in(100) {
            self.servers[at].cut_off_until_us = now_us + self.random.below(300_000);
        }
        if self.random.one_in(100) {
            // Its next life has a bucket of its own, and no clock that goes on.
            let clock = Clock::any(&mut self.random);
            let server = &mut self.servers[at];
            server.clock = clock;
            server.lessee = Lessee::new(server.lessee.starter_bps(), LeaseTiming::default());
            server.bucket = Bucket::new(0, BURST_BITS, now_us);
            self.excess = self.excess.saturating_sub(CREDIT);
            self.lessor.reattach(ServerIndex(at));
        }
        if self.random.one_in(400) {
            self.restart_gateway(now_us);
        }
        if self.random.one_in(60) {
            self.usable_before.push((now_us, self.usable));
            self.usable = USABLE_MIN + self.random.below(USABLE - USABLE_MIN + 1);
            self.lessor.set_usable(self.usable);
        }
        if self.random.one_in(60) && self.servers.len() < SERVERS_MAX {
            let starter_bps = self.random.below(STARTER + 1);
            self.add(starter_bps, now_us);
        }
        if self.random.one_in(60) {
            self.servers[at].gone = true;
            self.set_starter(at, 0, now_us);
            self.set_target(at, 0);
        } else if self.random.one_in(60) && !self.servers[at].gone {
            let starter_bps = self.random.below(STARTER + 1);
            self.set_starter(at, starter_bps, now_us);
        }
    }

    fn restart_gateway(&mut self, now_us: u64) {
        self.lives += 1;
        let starters: Vec<u64> = self.servers.iter().map(|it| it.starter_bps).collect();
        let timing = LeaseTiming::default();
        self.lessor = Lessor::new(self.usable, &starters, timing, self.lives << 32, now_us);
        for (at, server) in self.servers.iter().enumerate() {
            self.lessor.set_target(ServerIndex(at), server.target_bps);
        }
    }

    /// Those that left and are promised nothing; one is always left.
    fn sweep(&mut self, now_us: u64) {
        for at in (0..self.servers.len()).rev() {
            let index = ServerIndex(at);
            let over = self.servers[at].gone && self.lessor.promised_bps(index, now_us) == 0;
            if over && self.servers.len() > 1 {
                self.servers.remove(at);
                self.lessor.remove(index);
            }
        }
    }

    /// New demands: who wants how much, together mostly no more than there is.
    fn retarget(&mut self) {
        let mut left = if self.faults && self.random.one_in(4) { 2 * USABLE } else { self.usable };
        for at in 0..self.servers.len() {
            let target = self.random.below(left + 1);
            left -= target;
            if !self.servers[at].gone {
                self.set_target(at, target);
            }
        }
    }

    /// What there is now.
    fn there_is(&mut self, now_us: u64) -> u64 {
        let recent = |(at_us, _): &(u64, u64)| now_us <= at_us + LIFE_US;
        self.usable_before.retain(recent);
        self.starters_given.retain(recent);
        let usable =
            self.usable_before.iter().map(|(_, usable)| *usable).fold(self.usable, u64::max);
        usable + self.starters_given.iter().map(|(_, more_bps)| more_bps).sum::<u64>()
    }

    /// What may be sent now: by leases and starters; and by starters that are others than the server knows.
    fn sending(&self, now_us: u64) -> (u64, u64) {
        let mut sum = (0, 0);
        for Server { lessee, clock, starter_bps, .. } in &self.servers {
            let local_us = clock.at(now_us);
            sum.0 += lessee.rate_bps(local_us);
            if lessee.lease(local_us).is_none() {
                sum.1 += lessee.starter_bps().saturating_sub(*starter_bps);
            }
        }
        sum
    }

    /// Everybody sends what he may, or pauses, and then has saved no more than a burst.
    fn spend(&mut self, now_us: u64) -> u128 {
        let mut sum = 0;
        for at in 0..self.servers.len() {
            if self.random.one_in(200) {
                self.servers[at].pauses_until_us = now_us + self.random.below(100_000);
            }
            let Server { lessee, clock, bucket, pauses_until_us, .. } = &mut self.servers[at];
            bucket.set(lessee.rate_bps(clock.at(now_us)), BURST_BITS, now_us);
            while now_us >= *pauses_until_us && bucket.take(FRAME_BITS, now_us) {
                sum += u128::from(FRAME_BITS);
            }
        }
        sum * 1_000_000
    }

    fn tick(&mut self, now_us: u64) {
        for at in 0..self.servers.len() {
            let Server { lessee, clock, number, .. } = &mut self.servers[at];
            let (number, report) = (*number, lessee.report(clock.at(now_us)));
            self.send(at, now_us, || Message::Report(number, report));
        }
    }

    /// At this instant nobody may send too much, and in no time that ends now anybody did.
    fn check(&mut self, now_us: u64) {
        let there_is = self.there_is(now_us);
        let (sending, stale) = self.sending(now_us);
        assert!(
            sending <= there_is + stale,
            "{sending} bit/s at {now_us} us, of {there_is} and {stale}"
        );
        self.excess += self.spend(now_us);
        let bursts = CREDIT * self.most as u128;
        assert!(self.excess <= bursts, "{} of {bursts} at {now_us} us", self.excess);
        // Until the next step.
        let carried = u128::from(there_is + stale) * u128::from(STEP_US);
        self.excess = self.excess.saturating_sub(carried);
    }
}

/// One seed: what servers may send is at every instant at most what there is, and what they send is in any
/// time at most what there was in it, and bursts.
fn run(seed: u64) {
    let _named = Seed(seed);
    let mut house = House::new(seed);
    for step in 0..4_000 {
        let now_us = step * STEP_US;
        if now_us.is_multiple_of(TICK_US) {
            if house.random.one_in(10) {
                house.retarget();
            }
            house.trouble(now_us);
            house.sweep(now_us);
            house.tick(now_us);
        }
        house.arrive(now_us);
        house.check(now_us);
    }
}

#[test]
fn leases_never_add_up_to_more_than_there_is() {
    (0..200).for_each(run);
}

/// The same with many more seeds: `cargo nextest run -p wireonce-shares --run-ignored all`.
#[test]
#[ignore = "takes a minute"]
fn leases_never_add_up_to_more_than_there_is_with_ten_thousand_seeds() {
    (0..10_000).for_each(run);
}

#[test]
fn without_faults_everybody_has_his_target_within_three_ticks() {
    let mut house = House::new(3);
    house.faults = false;
    let mut since_us = 0;
    for step in 0..2_000 {
        let now_us = step * STEP_US;
        if now_us.is_multiple_of(TICK_US) {
            if now_us.is_multiple_of(100_000) {
                house.retarget();
                since_us = now_us;
            }
            house.tick(now_us);
        }
        house.arrive(now_us);
        house.check(now_us);
        if now_us > LIFE_US + 100_000 && now_us - since_us > 3 * TICK_US {
            for Server { lessee, clock, target_bps, .. } in &house.servers {
                let rate = lessee.rate_bps(clock.at(now_us));
                // Starters are never lent: somebody may lack as much as they are.
                let slack = STARTER * house.servers.len() as u64;
                let target = *target_bps;
                assert!(rate + slack >= target && rate <= target.max(STARTER), "{rate} {target}");
            }
        }
    }
}
