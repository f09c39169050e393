//! A server's port among guests that are only arithmetic, with a clock of its own.

use super::{
    super::{
        core::{Home, HomeVnic, Tabled},
        port_share::Toward,
        vnic::{Allowance, WaitsFor},
    },
    *,
};
use proptest::prelude::*;
use wireonce_config::Config;
use wireonce_frame::segment::WireCost;
use wireonce_link::PeerId;
use wireonce_queue::burst_bits;
use wireonce_shares::{Bucket, Lease, LeaseMessage};
use wireonce_wire::VnicId;

const MBIT: u64 = 1_000_000;
/// As much as there is.
const ALL: u64 = u64::MAX;
/// Where no uplink is shaped.
const ANY_RATE: Allowance = Allowance {
    rate_bps: u64::MAX - 1,
    until_us: u64::MAX,
    later_bps: u64::MAX - 1,
    limit_packets_per_s: None,
};
/// Of each frame, bytes.
const LEN: usize = 1_476;
const COST: WireCost = WireCost { segments: 1, bytes: 1_500 };
/// Between two looks of a worker.
const LOOK_US: u64 = 250;

/// What a guest has to send, in bits a second on an uplink's wire.
#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    home_bps: u64,
    others_bps: u64,
}

/// A guest and its worker.
struct Guest {
    share: Arc<VnicShare>,
    wish: Wish,
    lease: Bucket,
    port: Bucket,
    /// Bits that stand in its ring, for the home and for others.
    backlog: [u64; 2],
    /// On the fabric's wire, for the home and for others.
    sent_bits: [u64; 2],
}

impl Guest {
    fn new(share: Arc<VnicShare>) -> Self {
        let full = || Bucket::new(0, burst_bits(0), 0);
        let (lease, port) = (full(), full());
        Self { share, wish: Wish::default(), lease, port, backlog: [0; 2], sent_bits: [0; 2] }
    }

    fn look(&mut self, now_us: u64) {
        let lease_bps = self.share.allowed_bps(now_us);
        self.lease.set(lease_bps, burst_bits(lease_bps), now_us);
        let port_bps = self.share.port.rate_bps().expect("the port is divided");
        self.port.set(port_bps, burst_bits(port_bps), now_us);
        for (backlog, bps) in
            self.backlog.iter_mut().zip([self.wish.home_bps, self.wish.others_bps])
        {
            // Who wants all always has a ring full; what others want comes by the time.
            let more = u64::try_from(u128::from(bps) * u128::from(LOOK_US) / 1_000_000).unwrap();
            *backlog = if bps == ALL { 256 * COST.bits() } else { *backlog + more };
        }
        self.share.relieve();
        while self.turn(Toward::Home, now_us) | self.turn(Toward::Others, now_us) {}
    }

    /// Sends one frame, or says what it waits for.
    fn turn(&mut self, toward: Toward, now_us: u64) -> bool {
        let at = usize::from(toward == Toward::Others);
        if self.backlog[at] < COST.bits() {
            return false;
        }
        let home = toward == Toward::Home;
        if !self.port.is_ready(now_us) {
            if home {
                self.share.hold(WaitsFor::Port, 0);
            } else {
                self.share.port.hold(toward);
            }
            return false;
        }
        if home && !self.lease.take(COST.bits(), now_us) {
            self.share.hold(WaitsFor::Bits, 1);
            return false;
        }
        if home {
            self.share.served(COST);
        }
        self.port.charge(fabric_bits(LEN), now_us);
        self.share.port.served(toward, fabric_bits(LEN));
        self.backlog[at] -= COST.bits();
        self.sent_bits[at] += fabric_bits(LEN);
        true
    }
}

/// A server: guests, their homes with what each gateway has to lease, the port.
struct Server {
    guests: Vec<Guest>,
    homes: Vec<(Home, u64)>,
    port: Port,
    epoch: u64,
    now_us: u64,
    /// What each home asked for last.
    asked: Vec<Demand>,
}

impl Server {
    /// `homes` are what gateways have and the server's terms there; `vnics` their homes and terms.
    fn new(usable_bps: u64, homes: &[(u64, Terms)], vnics: &[(usize, Terms)]) -> Self {
        let shares: Vec<Arc<VnicShare>> = vnics.iter().map(|_| Arc::default()).collect();
        let home = |(at, (has_bps, terms)): (usize, &(u64, Terms))| {
            let tabled = Tabled { uplink: uplink(), grant: None, starter_bps: MBIT, wanted: true };
            let mut home = Home::new(PeerId(0), 9, tabled);
            let mine = (1..).zip(vnics.iter().zip(&shares)).filter(|(_, ((it, _), _))| *it == at);
            for (id, ((_, terms), share)) in mine {
                let id = VnicId::new(id).unwrap();
                home.join(HomeVnic::new(id, *terms, Arc::clone(share)), 0);
            }
            home.set_terms(*terms);
            (home, *has_bps)
        };
        let members = vnics.iter().zip(&shares).map(|((_, terms), it)| (*terms, Arc::clone(it)));
        Self {
            homes: homes.iter().enumerate().map(home).collect(),
            port: Port::new(usable_bps, members.collect(), 0),
            guests: shares.into_iter().map(Guest::new).collect(),
            epoch: 0,
            now_us: 1_000_000,
            asked: vec![Demand::Bps(0); homes.len()],
        }
    }

    fn wish(&mut self, guest: usize, home_bps: u64, others_bps: u64) {
        self.guests[guest].wish = Wish { home_bps, others_bps };
        self.guests[guest].backlog = [0; 2];
    }

    fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            for _ in 0..TICK_US / LOOK_US {
                self.now_us += LOOK_US;
                self.guests.iter_mut().for_each(|guest| guest.look(self.now_us));
            }
            self.tick();
        }
    }

    /// A gateway leases what was asked for, and no more, as if others wanted the rest.
    fn tick(&mut self) {
        let homes = self.homes.iter_mut().zip(&mut self.asked);
        for ((home, has_bps), asked) in homes {
            let Some(report) = home.tick(self.now_us) else { continue };
            *asked = self.port.cap(report.demand);
            self.epoch += 1;
            let rate_bps = asked.ceiling_bps().min(*has_bps);
            let answers_us = report.report.sent_us;
            let lease = Lease { epoch: self.epoch, rate_bps, answers_us };
            home.take(&LeaseMessage { uplink: 7, life: 9, lease, starter_bps: MBIT }, self.now_us);
        }
        self.port.tick(self.now_us);
        let rates = self.guests.iter().map(|guest| guest.share.port.rate_bps().unwrap());
        let sum: u64 = rates.sum();
        assert!(sum <= self.port.usable_bps, "{sum} of {}", self.port.usable_bps);
    }

    /// Bits that each guest sends in so many ticks, home and others.
    fn measure(&mut self, ticks: u64) -> Vec<[u64; 2]> {
        let before: Vec<_> = self.guests.iter().map(|guest| guest.sent_bits).collect();
        self.run(ticks);
        let since = |(guest, before): (&Guest, [u64; 2])| {
            [guest.sent_bits[0] - before[0], guest.sent_bits[1] - before[1]]
        };
        self.guests.iter().zip(before).map(since).collect()
    }
}

fn uplink() -> Arc<wireonce_config::Uplink> {
    let file = "
        host = { name = 'a', private_key_file = '/k' }
        fabric = { address = '127.0.0.1' }
        peer = [{ name = 'g', address = '127.0.0.2', public_key = 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=' }]
        uplink = [{ id = 7, name = 'u', host = 'g', pool = 'p', up = '1Gbit' }]";
    Arc::clone(&Config::parse(file, "a.toml").unwrap().uplinks[0])
}

fn plain() -> Terms {
    Terms::default()
}

fn shares(shares: u32) -> Terms {
    Terms { shares, ..Terms::default() }
}

/// Within a percent.
fn assert_about(is: u64, expected: u64) {
    assert!(is.abs_diff(expected) <= expected / 100, "{is}, not {expected}");
}

#[test]
fn homes_share_the_port_and_what_their_leases_grant_beyond_it_goes_back() {
    let homes = [(80 * MBIT, plain()), (80 * MBIT, plain())];
    let mut server = Server::new(100 * MBIT, &homes, &[(0, plain()), (1, plain())]);
    server.wish(0, ALL, 0);
    server.run(100);
    let [[alone, _], _] = server.measure(100)[..] else { panic!("two guests") };
    // 80 Mbit/s on the uplink's wire are some more here.
    assert_about(alone, 80 * MBIT / 2 * fabric_bits(LEN) / COST.bits());
    server.wish(1, ALL, 0);
    server.run(20);
    for [bits, _] in server.measure(200) {
        assert_about(bits, 50 * MBIT);
    }
    for asked in &server.asked {
        let Demand::Bps(bps) = asked else { panic!("the lease is not what is short") };
        assert!((46 * MBIT..60 * MBIT).contains(bps), "{bps}");
    }
}

#[test]
fn shares_divide_the_port_whatever_frames_are_for() {
    let vnics = [(0, shares(300)), (1, shares(100))];
    let homes = [(1_000 * MBIT, plain()), (1_000 * MBIT, plain())];
    let mut server = Server::new(100 * MBIT, &homes, &vnics);
    server.wish(0, 0, ALL);
    server.wish(1, ALL, ALL);
    server.run(40);
    let sent = server.measure(200);
    assert_about(sent[0][1], 75 * MBIT);
    assert_about(sent[1][0] + sent[1][1], 25 * MBIT);
}

#[test]
fn what_is_reserved_comes_first_by_policy_and_by_the_server_s_grant() {
    let reserved = |mbit| Terms { reservation_bps: mbit * MBIT, ..Terms::default() };
    // The first has 40 by its policy, the second 20 by what its server has reserved at its home.
    let homes = [(1_000 * MBIT, plain()), (1_000 * MBIT, reserved(20))];
    let vnics = [(0, reserved(40)), (1, shares(1)), (0, shares(900))];
    let mut server = Server::new(80 * MBIT, &homes, &vnics);
    server.wish(0, ALL, 0);
    server.wish(1, ALL, 0);
    server.wish(2, 0, ALL);
    server.run(40);
    let sent = server.measure(200);
    // Reserved bits are those of an uplink's wire: an eighth more at most.
    assert_about(sent[0][0], 45 * MBIT);
    assert_about(sent[1][0], 45 * MBIT / 2);
    assert_about(sent[2][1], 25 * MBIT / 2);
}

#[test]
fn a_throttled_uplink_does_not_slow_what_goes_to_other_servers() {
    let homes = [(10 * MBIT, plain())];
    let mut server = Server::new(100 * MBIT, &homes, &[(0, plain())]);
    server.wish(0, ALL, ALL);
    server.run(40);
    let [home, others] = server.measure(200)[0];
    let leased = 10 * MBIT * fabric_bits(LEN) / COST.bits();
    assert_about(home, leased);
    assert_about(others, 100 * MBIT - leased);
}

#[test]
fn who_is_held_back_by_its_lease_leaves_the_rest_of_the_port_to_others() {
    let homes = [(10 * MBIT, plain())];
    let mut server = Server::new(100 * MBIT, &homes, &[(0, plain()), (0, plain())]);
    server.wish(0, ALL, 0);
    server.wish(1, 0, ALL);
    server.run(40);
    let sent = server.measure(200);
    assert_about(sent[0][0], 10 * MBIT * fabric_bits(LEN) / COST.bits());
    assert_about(sent[0][0] + sent[1][1], 100 * MBIT);
    assert_eq!(server.asked[0], Demand::Bps(100 * MBIT), "a larger lease would be of use");
}

#[test]
fn who_wakes_has_his_part_within_two_ticks_and_who_sleeps_leaves_it() {
    let mut server = Server::new(100 * MBIT, &[], &[(0, plain()), (0, plain())]);
    server.guests.iter().for_each(|guest| guest.share.allow(ANY_RATE, 0));
    server.wish(0, 0, ALL);
    server.run(40);
    server.wish(1, 0, ALL);
    server.run(2);
    assert_eq!(server.guests[1].share.port.rate_bps(), Some(50 * MBIT));
    server.wish(0, 0, 0);
    server.run(60);
    assert_about(server.measure(20)[1][1], 10 * MBIT);
}

#[test]
fn a_port_of_a_server_that_sends_nothing_asks_for_no_ticks() {
    let mut server = Server::new(100 * MBIT, &[(MBIT, plain())], &[(0, plain())]);
    server.tick();
    assert_eq!(server.port.next_us(), None);
    server.wish(0, 0, ALL);
    server.run(1);
    assert_eq!(server.port.next_us(), Some(server.now_us + TICK_US));
    server.wish(0, 0, 0);
    server.run(40);
    assert_eq!(server.port.next_us(), None);
}

#[test]
fn another_capacity_counts_at_once_and_without_one_nothing_holds() {
    let mut server = Server::new(100 * MBIT, &[], &[(0, plain()), (0, plain())]);
    server.guests.iter().for_each(|guest| guest.share.allow(ANY_RATE, 0));
    server.wish(0, 0, ALL);
    server.wish(1, 0, ALL);
    server.run(10);
    let members: Vec<_> =
        server.guests.iter().map(|guest| (plain(), Arc::clone(&guest.share))).collect();
    server.port.change(40 * MBIT, members);
    let rates = |server: &Server| -> Vec<_> {
        server.guests.iter().map(|guest| guest.share.port.rate_bps()).collect()
    };
    assert_eq!(rates(&server), [Some(20 * MBIT); 2], "demands are remembered");
    server.port.open();
    assert_eq!(rates(&server), [None; 2]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn never_more_than_the_port_over_any_run_and_all_of_it_while_somebody_waits(
        usable in 20..200_u64,
        homes in prop::collection::vec((1..300_u64, 0..40_u64), 1..3),
        vnics in prop::collection::vec((0..3_usize, 0..40_u64, 1..500_u32), 1..6),
        steps in prop::collection::vec((0..6_usize, 0..3_u8, 0..3_u8, 0..200_u64, 1..12_u64), 1..12),
    ) {
        let terms = |mbit: u64, shares| {
            Terms { reservation_bps: mbit * MBIT, shares, ..Terms::default() }
        };
        let homes: Vec<_> =
            homes.into_iter().map(|(has, mbit)| (has * MBIT, terms(mbit, 100))).collect();
        let vnics: Vec<_> = vnics
            .into_iter()
            .map(|(home, mbit, shares)| (home % homes.len(), terms(mbit, shares)))
            .collect();
        let usable_bps = usable * MBIT;
        let mut server = Server::new(usable_bps, &homes, &vnics);
        let began_us = server.now_us;
        let bps = |kind: u8, mbit: u64| [0, mbit * MBIT, ALL][usize::from(kind)];
        for (guest, home, others, mbit, ticks) in steps {
            server.wish(guest % vnics.len(), bps(home, mbit), bps(others, mbit));
            // Ticks check that the rates add up.
            server.run(ticks);
            let sent: u64 = server.guests.iter().flat_map(|guest| guest.sent_bits).sum();
            let most = usable_bps * (server.now_us - began_us) / 1_000_000;
            // For each vNIC a burst and a frame.
            let slack = vnics.len() as u64 * (burst_bits(usable_bps) + fabric_bits(LEN));
            prop_assert!(sent <= most + slack, "{sent} of {most} and {slack}");
        }
        // Somebody always has something for others' VMs: nothing of the port is left.
        server.wish(0, 0, ALL);
        server.run(60);
        let sent: u64 = server.measure(100).into_iter().flatten().sum();
        let demands_are_measured = 10 * usable_bps / 2 / 100;
        prop_assert!(sent + demands_are_measured >= usable_bps / 2, "{sent} of {}", usable_bps / 2);
    }
}
