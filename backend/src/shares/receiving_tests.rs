//! A server's port and uplinks that send to it, only arithmetic, with a clock of its own.

use super::*;
use proptest::prelude::*;
use wireonce_wire::Endpoint;

const MBIT: u64 = 1_000_000;
const LEN: usize = 1_514;
/// On an uplink's wire.
const WIRE_BITS: u64 = (1_514 + 24) * 8;
const ALL: u64 = 100_000 * MBIT;

const FILE: &str = "
    host = { name = 'a', private_key_file = '/k' }
    fabric = { address = '127.0.0.1' }
    fabric_port = { port_down = '100Mbit' }
    peer = [
        { name = 'g', address = '127.0.0.2', public_key = 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=' },
        { name = 'h', address = '127.0.0.3', public_key = 'AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=' },
    ]
    network = [{ name = 'n', vni = 1, pool = 'p' }]
    uplink = [
        { id = 7, name = 'u', host = 'g', pool = 'p', down = '1Gbit' },
        { id = 8, name = 'w', host = 'h', pool = 'p', down = '1Gbit' },
        { id = 9, name = 'x', host = 'h', pool = 'p' },
    ]
    policy = [{ name = 'gold', down = { shares = 300 } }]
    vnic = [
        { id = 1, name = 'v1', host = 'a', network = 'n', mac = '52:54:00:00:00:01', home = 'u', socket = '/1' },
        { id = 2, name = 'v2', host = 'a', network = 'n', mac = '52:54:00:00:00:02', home = 'w', socket = '/2' },
    ]";

fn config(text: &str) -> Config {
    Config::parse(text, "a.toml").unwrap()
}

/// What is sent to the server: by `u`, by `w`, and by other servers' VMs, bits a second on the
/// uplink's wire.
struct Bed {
    receiving: Receiving,
    sent: [u64; 3],
    /// What did not make a frame yet.
    rest: [u64; 3],
    now_us: u64,
}

impl Bed {
    fn new(text: &str) -> Self {
        let config = config(text);
        let numbers = PeerNumbers::in_order(&config);
        let receiving = Receiving::new(&config, &numbers, 5, None, &Arc::default()).unwrap();
        Self { receiving, sent: [0; 3], rest: [0; 3], now_us: 1_000_000 }
    }

    fn told(&self) -> [u64; 2] {
        let told: Vec<u64> = self.receiving.told().map(|(_, bps)| bps).collect();
        [told[0], told[1]]
    }

    /// Ticks for a while: gateways send what they want, but no more than they were told.
    fn run(&mut self, wants: [u64; 3], ticks: u64) -> [u64; 2] {
        for _ in 0..ticks {
            let told = self.told();
            let vm = Endpoint::Vnic(VnicId::new(99).unwrap());
            let from = [Endpoint::Uplink(UplinkId(7)), Endpoint::Uplink(UplinkId(8)), vm];
            for (at, (source, want_bps)) in from.into_iter().zip(wants).enumerate() {
                let bps = told.get(at).map_or(want_bps, |told| want_bps.min(*told));
                self.rest[at] += bps * TICK_US / 1_000_000;
                let inflows = self.receiving.inflows();
                while self.rest[at] >= WIRE_BITS {
                    inflows.count(inflows.place(source), LEN, 1);
                    self.rest[at] -= WIRE_BITS;
                    self.sent[at] += WIRE_BITS;
                }
            }
            self.now_us += TICK_US;
            self.receiving.tick(self.now_us);
            let fabric = |bps: u64| bps * super::super::fabric_bits(LEN) / WIRE_BITS;
            let sum: u64 = self.told().map(fabric).iter().sum();
            assert!(sum <= 96 * MBIT + 2, "never more than the port has: {sum}");
        }
        self.told()
    }

    fn measure(&mut self, wants: [u64; 3], ticks: u64) -> [u64; 3] {
        let before = self.sent;
        self.run(wants, ticks);
        [0, 1, 2].map(|at| (self.sent[at] - before[at]) * 1_000_000 / (ticks * TICK_US))
    }
}

/// Within a few percent: a tick has few frames.
fn assert_about(is: u64, expected: u64) {
    assert!(is.abs_diff(expected) <= expected / 20, "{is}, not {expected}");
}

/// On an uplink's wire, of what is on the fabric's.
fn uplink_bps(fabric_bps: u64) -> u64 {
    fabric_bps / 13 * 12
}

#[test]
fn uplinks_that_want_more_share_the_port_and_one_alone_has_most_of_it() {
    let mut bed = Bed::new(FILE);
    bed.run([ALL, ALL, 0], 40);
    let [u, w, _] = bed.measure([ALL, ALL, 0], 200);
    assert_about(u, uplink_bps(48 * MBIT));
    assert_about(w, uplink_bps(48 * MBIT));
    bed.run([ALL, 0, 0], 200);
    let [u, ..] = bed.measure([ALL, 0, 0], 200);
    // A little is kept for whoever begins.
    assert_about(u, uplink_bps(94 * MBIT));
    bed.run([ALL, ALL, 0], 4);
    let [u, w] = bed.told();
    assert_about(u, w);
}

#[test]
fn uplinks_weigh_as_much_as_the_vnics_that_are_attached_to_them() {
    let gold = FILE.replace("home = 'u',", "home = 'u', policy = 'gold',");
    let mut bed = Bed::new(&gold);
    bed.run([ALL, ALL, 0], 40);
    let [u, w, _] = bed.measure([ALL, ALL, 0], 200);
    assert_about(u, w * 3);
    bed.receiving.rehome(VnicId::new(1).unwrap(), UplinkId(8));
    bed.run([ALL, ALL, 0], 40);
    let [u, w, _] = bed.measure([ALL, ALL, 0], 200);
    assert!(u * 30 < w, "nobody is there any more: {u} {w}");
}

#[test]
fn what_comes_from_vms_is_taken_off_first_and_leaves_something() {
    let mut bed = Bed::new(FILE);
    bed.run([ALL, ALL, uplink_bps(40 * MBIT)], 40);
    let [u, w, vms] = bed.measure([ALL, ALL, uplink_bps(40 * MBIT)], 200);
    assert_about(vms, uplink_bps(40 * MBIT));
    // It is measured, and a tenth is added.
    let rest = uplink_bps(96 * MBIT - 44 * MBIT);
    assert!(u + w <= rest + rest / 500 && u + w >= rest / 10 * 8, "{} of {rest}", u + w);
    bed.run([ALL, ALL, ALL], 40);
    assert!(bed.told().iter().all(|bps| *bps > MBIT), "{:?}", bed.told());
}

#[test]
fn an_uplink_without_down_counts_among_the_others() {
    let bed = Bed::new(FILE);
    let inflows = bed.receiving.inflows();
    assert!(inflows.place(Endpoint::Uplink(UplinkId(7))).is_some());
    assert_eq!(inflows.place(Endpoint::Uplink(UplinkId(9))), None);
}

#[test]
fn it_tells_in_each_tick_while_anything_comes_and_each_second_else() {
    let mut bed = Bed::new(FILE);
    let told = bed.receiving.tick(bed.now_us);
    let places: Vec<_> = told.iter().map(|(peer, it)| (peer.0, it.uplink, it.life)).collect();
    assert_eq!(places, [(0, 7, 5), (1, 8, 5)]);
    assert!(bed.receiving.tick(bed.now_us + 5_000).is_empty());
    assert_eq!(bed.receiving.next_us(), bed.now_us + IDLE_US);
    assert_eq!(bed.receiving.tick(bed.now_us + IDLE_US).len(), 2);
    bed.now_us += IDLE_US;
    bed.run([ALL, 0, 0], 2);
    assert_eq!(bed.receiving.next_us(), bed.now_us + TICK_US);
    assert_eq!(bed.receiving.tick(bed.now_us + TICK_US).len(), 2);
}

#[test]
fn another_configuration_goes_on_and_one_without_the_key_ends_it() {
    let mut bed = Bed::new(FILE);
    bed.run([ALL, ALL, 0], 10);
    bed.receiving.rehome(VnicId::new(1).unwrap(), UplinkId(8));
    let change = |text: &str| {
        let config = config(text);
        let numbers = PeerNumbers::in_order(&config);
        Receiving::new(&config, &numbers, 5, Some(&bed.receiving), &Arc::default())
    };
    assert!(change(&FILE.replace("fabric_port = { port_down = '100Mbit' }", "")).is_none());
    let after = change(&FILE.replace("'100Mbit'", "'50Mbit'")).unwrap();
    assert_eq!(after.usable_bps, 48 * MBIT);
    assert_eq!(after.vnics[0].1, Some(UplinkId(8)), "it is where it is");
    let flows = [&after, &bed.receiving].map(|it| it.inflows.uplink(UplinkId(7)).unwrap().clone());
    assert!(Arc::ptr_eq(&flows[0], &flows[1]), "workers that have not heard of it count there");
}

proptest! {
    #[test]
    fn whatever_comes_what_is_told_adds_up_to_no_more_than_the_port(
        steps in prop::collection::vec(
            ((0..200_u64, 0..200_u64, 0..150_u64), 1..20_u64), 1..20),
    ) {
        let mut bed = Bed::new(FILE);
        for ((u, w, vms), ticks) in steps {
            // Ticks check the sum.
            let told = bed.run([u * MBIT, w * MBIT, vms * MBIT], ticks);
            prop_assert!(told.iter().all(|bps| *bps > 0), "nobody is shut out");
        }
    }
}
