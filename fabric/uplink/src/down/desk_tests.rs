//! vNICs at an uplink, with a clock of its own.

use super::*;
use crate::down::share::{Store, WaitsFor};
use proptest::prelude::*;
use wireonce_frame::segment::WireCost;

const MBIT: u64 = 1_000_000;
/// What is divided of 1 Gbit/s.
const USABLE_BPS: u64 = 960 * MBIT;

/// Two servers with two vNICs each, at home at the one uplink that is ours; another is not.
fn config(more: &str) -> Config {
    let vnic = |id: u32, host: &str, policy: &str, home: &str| {
        format!(
            "{{ id = {id}, name = 'v{id}', host = '{host}', network = 'n', \
             mac = '52:54:00:00:00:0{id}', home = '{home}', policy = '{policy}' }},"
        )
    };
    let peer = |name: &str, at: u32, key: &str| {
        format!("{{ name = '{name}', address = '127.0.0.{at}', public_key = '{key}' }},")
    };
    let uplink = |id: u32, host: &str, more: &str| {
        format!(
            "{{ id = {id}, name = 'u{id}', host = '{host}', pool = 'p', driver = 'tap', \
             interface = 't', {more} }},"
        )
    };
    let file = [
        "host = { name = 'g', private_key_file = '/k' }\nfabric = { address = '127.0.0.1' }\n",
        "peer = [",
        &peer("a", 2, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="),
        &peer("b", 3, "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="),
        "]\nnetwork = [{ name = 'n', vni = 1, pool = 'p' }]\nuplink = [",
        &uplink(7, "g", "down = '1Gbit'"),
        &uplink(8, "a", "down = '1Gbit'"),
        "]\nvnic = [",
        &vnic(1, "a", "plain", "u7"),
        &vnic(2, "a", "slow", "u7"),
        &vnic(3, "b", "plain", "u7"),
        &vnic(4, "b", "plain", "u8"),
        "]\npolicy = [{ name = 'plain' }, { name = 'slow', down = { limit = '50Mbit', limit_packets_per_s = 9000 } }]\n",
        more,
    ];
    Config::parse(&file.concat(), "g.toml").unwrap()
}

const GRANTS: &str = "grant = [
    { pool = 'p', server = 'a', down = { shares = 300 } },
    { pool = 'p', server = 'b', down = { reservation = '100Mbit' } },
]";

struct Bed {
    desk: Desk,
    vnics: HashMap<VnicId, Arc<VnicDown>>,
    now_us: u64,
}

fn id(id: u64) -> VnicId {
    VnicId::new(id).unwrap()
}

impl Bed {
    fn new(more: &str) -> Self {
        let (mut vnics, config) = (HashMap::new(), config(more));
        let desk = desk(&config, &mut vnics).unwrap();
        Self { desk, vnics, now_us: 1_000_000 }
    }

    fn change(&mut self, config: &Config) {
        let here: Vec<VnicId> = self.desk.servers.iter().flat_map(|it| &it.here).copied().collect();
        let mut desk = desk_with(config, &here, &mut self.vnics).unwrap();
        desk.go_on(Some(&self.desk), self.now_us);
        self.desk = desk;
    }

    fn rate(&self, vnic: u64) -> u64 {
        self.vnics[&id(vnic)].credit.rate()
    }

    /// Ticks for a while, with these that have to wait and these that get so much a second.
    fn run(&mut self, held: &[u64], served: &[(u64, u64)], ticks: usize) -> [u64; 4] {
        for _ in 0..ticks {
            self.now_us += TICK_US;
            for vnic in held {
                self.vnics[&id(*vnic)].hold(WaitsFor::Bits);
            }
            for (vnic, bps) in served {
                let bytes = bps / 8 * TICK_US / 1_000_000;
                self.vnics[&id(*vnic)].served(WireCost { segments: 1, bytes });
            }
            self.desk.tick(self.now_us);
            let sum: u64 = (1..5).map(|vnic| self.rate(vnic)).sum();
            assert!(sum <= USABLE_BPS, "never more than there is: {sum}");
        }
        [1, 2, 3, 4].map(|vnic| self.rate(vnic))
    }
}

/// The desk of the first uplink, with the vNICs on it that are at home there.
fn desk(config: &Config, vnics: &mut HashMap<VnicId, Arc<VnicDown>>) -> Option<Desk> {
    desk_with(config, &[1, 2, 3].map(id), vnics)
}

fn desk_with(
    config: &Config,
    here: &[VnicId],
    vnics: &mut HashMap<VnicId, Arc<VnicDown>>,
) -> Option<Desk> {
    let store = Arc::<Store>::default();
    let share = |id| {
        let new = || Arc::new(VnicDown::new(Arc::clone(&store), 0));
        Arc::clone(vnics.entry(id).or_insert_with(new))
    };
    let uplink = config.uplink(wireonce_wire::UplinkId(7)).unwrap();
    let (numbers, here) = (PeerNumbers::in_order(config), here.iter().copied().collect());
    Desk::new(config, &numbers, uplink, Part::WHOLE, &here, share)
}

#[test]
fn servers_share_by_their_grants_and_their_vnics_by_their_policies() {
    let mut bed = Bed::new(GRANTS);
    let rates = bed.run(&[1, 2, 3], &[], 2);
    assert_eq!(rates, [670 * MBIT, 50 * MBIT, 240 * MBIT, 0], "3:1, and a limit of 50 Mbit/s");
    assert_eq!(bed.run(&[2, 3], &[], 200), [0, 50 * MBIT, 910 * MBIT, 0], "all of it is used");
}

#[test]
fn a_server_has_of_its_grant_what_those_of_its_vnics_bring_that_are_here() {
    let grants = "grant = [
        { pool = 'p', server = 'b', down = { reservation = '600Mbit', limit = '800Mbit' } },
    ]";
    let mut bed = Bed::new(grants);
    // Server b has a home at each of two uplinks: half of its grant is here.
    assert_eq!(bed.run(&[1, 3], &[], 2), [560 * MBIT, 0, 400 * MBIT, 0]);
    // The other comes, by a failover or a move: all of it.
    bed.desk.move_vnics([(id(4), true)].into_iter());
    assert_eq!(bed.run(&[1, 3, 4], &[], 2), [360 * MBIT, 0, 300 * MBIT, 300 * MBIT]);
    // The tables want both elsewhere. They are here until they have left.
    let mut moved = config(grants);
    let elsewhere = moved.uplinks.iter().find(|uplink| uplink.id.0 == 8).cloned();
    let vnic = moved.vnics.iter_mut().find(|vnic| vnic.id == id(3)).unwrap();
    Arc::make_mut(vnic).home = elsewhere;
    bed.change(&moved);
    assert_eq!(bed.run(&[1, 3, 4], &[], 2), [360 * MBIT, 0, 300 * MBIT, 300 * MBIT]);
    bed.desk.move_vnics([(id(3), false), (id(4), false)].into_iter());
    let [a, _, late, _] = bed.run(&[1, 3], &[], 200);
    assert!(a >= 480 * MBIT && late > 0, "nothing is reserved, and what waits goes: {a} {late}");
}

#[test]
fn what_is_divided_follows_the_part_of_a_bond_that_is_there() {
    let mut bed = Bed::new("");
    assert_eq!(bed.run(&[1, 3], &[], 2), [480 * MBIT, 0, 480 * MBIT, 0]);
    bed.desk.set_part(Part { live: 10_000, all: 40_000 });
    assert_eq!(bed.run(&[1, 3], &[], 1), [120 * MBIT, 0, 120 * MBIT, 0]);
    bed.desk.set_part(Part::WHOLE);
    assert_eq!(bed.run(&[1, 3], &[], 1), [480 * MBIT, 0, 480 * MBIT, 0]);
}

#[test]
fn what_a_server_can_receive_is_a_limit_for_all_its_vnics_until_it_is_silent() {
    let mut bed = Bed::new("");
    let says = |sent_us, max_bps| ReceiveMessage { uplink: 7, life: 3, sent_us, max_bps };
    let a = PeerId(0);
    bed.desk.hear(a, &says(500, 90 * MBIT), bed.now_us);
    bed.desk.hear(a, &says(499, 500 * MBIT), bed.now_us);
    bed.desk.hear(PeerId(77), &says(900, MBIT), bed.now_us);
    let rates = bed.run(&[1, 2, 3], &[], 2);
    assert_eq!(
        rates,
        [45 * MBIT, 45 * MBIT, USABLE_BPS - 90 * MBIT, 0],
        "the others have the rest"
    );
    // Another configuration is no reason to forget it, and another life begins anew.
    bed.change(&config(""));
    assert_eq!(bed.run(&[1, 2, 3], &[], 1)[0], 45 * MBIT);
    let newer = ReceiveMessage { life: 4, ..says(1, 100 * MBIT) };
    bed.desk.hear(a, &newer, bed.now_us);
    assert_eq!(bed.run(&[1, 2, 3], &[], 1)[..2], [50 * MBIT, 50 * MBIT]);
    let ticks = usize::try_from(RECEIVES_US / TICK_US).unwrap();
    assert!(bed.run(&[1, 2, 3], &[], ticks)[0] > 400 * MBIT, "nobody says so any more");
}

#[test]
fn a_reservation_is_no_more_than_the_server_can_receive() {
    let grants = "grant = [{ pool = 'p', server = 'a', down = { reservation = '600Mbit' } }]";
    let mut bed = Bed::new(grants);
    let said = ReceiveMessage { uplink: 7, life: 3, sent_us: 1, max_bps: 200 * MBIT };
    bed.desk.hear(PeerId(0), &said, bed.now_us);
    assert_eq!(bed.run(&[1, 3], &[], 2), [200 * MBIT, 0, USABLE_BPS - 200 * MBIT, 0]);
}

#[test]
fn who_waits_for_packets_leaves_what_it_cannot_use_to_others() {
    let mut bed = Bed::new("");
    bed.change(&config(""));
    bed.vnics[&id(2)].hold(WaitsFor::Packets);
    assert!(bed.desk.has_news(), "whoever divides does not fall asleep");
    let rates = bed.run(&[3], &[(2, MBIT)], 100);
    assert_eq!(rates, [0, 1_100_000, USABLE_BPS - 1_100_000, 0]);
    bed.vnics[&id(2)].hold(WaitsFor::Bits);
    assert_eq!(bed.run(&[3], &[], 1)[1], 50 * MBIT, "and has it when it waits for that");
    let in_use = bed.vnics[&id(2)].in_use();
    assert_eq!((in_use.limit_packets_per_s, in_use.served_packets), (Some(9_000), 100));
}

#[test]
fn who_wants_little_has_headroom_and_who_is_idle_has_nothing() {
    let mut bed = Bed::new("");
    let rates = bed.run(&[], &[(1, 100 * MBIT), (3, 10 * MBIT)], 4);
    assert_eq!(rates, [480 * MBIT, 0, 480 * MBIT, 0]);
    assert!(bed.desk.is_busy());
    assert_eq!(bed.run(&[], &[], 300), [0; 4]);
    assert!(!bed.desk.is_busy());
}

#[test]
fn who_has_to_wait_is_seen_before_the_next_tick_but_not_more_often_than_a_millisecond() {
    let mut bed = Bed::new("");
    assert_eq!(bed.run(&[1], &[], 2), [USABLE_BPS, 0, 0, 0]);
    bed.vnics[&id(3)].hold(WaitsFor::Bits);
    bed.desk.tick(bed.now_us + HURRY_US - 1);
    assert_eq!(bed.rate(3), 0);
    bed.desk.tick(bed.now_us + HURRY_US);
    assert_eq!([bed.rate(1), bed.rate(3)], [USABLE_BPS / 2; 2]);
}

#[test]
fn an_idle_uplink_divides_at_the_first_frame() {
    let mut bed = Bed::new("");
    assert!(!bed.desk.has_news());
    bed.vnics[&id(1)].served(WireCost::SHORTEST);
    assert!(bed.desk.has_news());
    bed.desk.tick(bed.now_us);
    assert!(bed.desk.is_busy() && !bed.desk.has_news());
    assert_eq!(bed.rate(1), USABLE_BPS);
}

#[test]
fn other_grants_and_capacities_hold_at_once_and_demands_are_remembered() {
    let mut bed = Bed::new(GRANTS);
    bed.run(&[1, 3], &[], 2);
    assert_eq!([bed.rate(1), bed.rate(3)], [720 * MBIT, 240 * MBIT]);
    bed.change(&config(&GRANTS.replace("300", "100")));
    assert_eq!([bed.rate(1), bed.rate(3)], [480 * MBIT, 480 * MBIT]);
    let mut slower = config(GRANTS);
    let uplink = slower.uplinks.iter_mut().find(|uplink| uplink.id.0 == 7).unwrap();
    Arc::make_mut(uplink).down_bps = Some(500 * MBIT);
    bed.change(&slower);
    assert_eq!([bed.rate(1), bed.rate(3)], [360 * MBIT, 120 * MBIT]);
}

#[test]
fn an_uplink_without_a_capacity_has_no_desk() {
    let mut config = config("");
    let uplink = config.uplinks.iter_mut().find(|uplink| uplink.id.0 == 7).unwrap();
    Arc::make_mut(uplink).down_bps = None;
    assert!(desk(&config, &mut HashMap::new()).is_none());
}

proptest! {
    #[test]
    fn rates_never_add_up_to_more_than_there_is_and_nothing_is_left_while_somebody_waits(
        steps in prop::collection::vec((prop::bits::u8::masked(0xf), 0..4_usize, 0..2_000_u64), 1..60),
    ) {
        let mut bed = Bed::new(GRANTS);
        for (held, vnic, mbit) in steps {
            let held: Vec<u64> = (1..5).filter(|vnic| held & (1 << (vnic - 1)) != 0).collect();
            let rates = bed.run(&held, &[(vnic as u64 + 1, mbit * MBIT)], 1);
            // Whoever has no limit takes what is left, less what rounding leaves.
            if held.iter().any(|vnic| *vnic != 2) {
                prop_assert!(rates.iter().sum::<u64>() + 100 >= USABLE_BPS, "{rates:?}");
            }
            prop_assert!(rates[1] <= 50 * MBIT);
        }
    }
}
