//! The desk beside the tree: two ways to say who has how much of an uplink.
//!
//! The tree gives what is wanted, and keeps the rest; the desk gives the rest as headroom to those who are awake.

use super::{Desk, PeerId};
use proptest::prelude::*;
use wireonce_config::{Config, Direction, Holder};
use wireonce_directory::PeerNumbers;
use wireonce_shares::{
    Demand, GrantNode, Report, ReportMessage, Terms, Tree, VnicNode, lease::starter_bps,
};
use wireonce_wire::UplinkId;

const UPLINK: UplinkId = UplinkId(7);
const USABLE_BPS: u64 = 990_000_000;

/// A server's grant, in Mbit/s, and what it wants, in kbit/s; `None`: more than it may.
#[derive(Debug, Clone)]
struct Tester {
    reservation: u64,
    shares: u32,
    limit: Option<u64>,
    wants: Option<u64>,
}

impl Tester {
    fn demand(&self) -> Demand {
        self.wants.map_or(Demand::Unbounded, |kbit| Demand::Bps(kbit * 1_000))
    }
}

fn any_tester() -> impl Strategy<Value = Tester> {
    let wants = prop_oneof![
        Just(None),
        Just(Some(0)),
        (0..60_000_u64).prop_map(Some),
        (0..900_000_u64).prop_map(Some)
    ];
    let limit = prop::option::of(1..1_000_u64);
    (0..150_u64, 1..500_u32, limit, wants).prop_map(|(reservation, shares, limit, wants)| Tester {
        reservation,
        shares,
        limit: limit.map(|limit| limit.max(reservation)),
        wants,
    })
}

/// An uplink of 1 Gbit/s, and a vNIC of each server there.
fn config(testers: &[Tester]) -> Config {
    let mut file = "
        host = { name = 'g', private_key_file = '/k' }
        fabric = { address = '127.0.0.1' }
        network = [{ name = 'n', vni = 1, pool = 'p' }]
        uplink = [{ id = 7, name = 'u', host = 'g', pool = 'p', driver = 'tap', interface = 't', up = '1Gbit' }]
        "
    .to_owned();
    let keys = ["AQ", "Ag", "Aw", "BA", "BQ", "Bg", "Bw", "CA"];
    for (at, (tester, key)) in testers.iter().zip(keys).enumerate() {
        // A key of 32 bytes: this one, and zeros.
        let key = format!("{key}{}=", "A".repeat(41));
        let Tester { reservation, shares, limit, .. } = tester;
        let limit = limit.map_or(String::new(), |limit| format!(", limit = '{limit}Mbit'"));
        let address = at + 2;
        file += &format!(
            "
            [[peer]]
            name = 's{at}'
            address = '127.0.0.{address}'
            public_key = '{key}'
            [[vnic]]
            id = {address}
            name = 'v{at}'
            host = 's{at}'
            network = 'n'
            mac = '52:54:00:00:00:0{address}'
            home = 'u'
            [[grant]]
            pool = 'p'
            server = 's{at}'
            up = {{ reservation = '{reservation}Mbit', shares = {shares}{limit} }}
            "
        );
    }
    Config::parse(&file, "g.toml").unwrap()
}

/// What each has in the end, if all report for a while.
fn leased(config: &Config, testers: &[Tester]) -> Vec<u64> {
    let numbers = PeerNumbers::in_order(config);
    let here = config.vnics.iter().map(|vnic| vnic.id).collect();
    let uplink = config.uplink(UPLINK).unwrap();
    let mut desk = Desk::new(config, &numbers, uplink, &here, 1, 0).unwrap();
    let mut leases = vec![(0, 0); testers.len()];
    for tick in 0..20 {
        let now_us = 100_000 + tick * 5_000;
        for (at, tester) in testers.iter().enumerate() {
            let message = ReportMessage {
                uplink: UPLINK.0,
                life: 1,
                report: Report { sent_us: now_us, obeyed: leases[at].0 },
                served_bits: 0,
                demand: tester.demand(),
                packets: 0,
            };
            if let Some(answer) = desk.report(PeerId(at), &message, now_us) {
                leases[at] = (answer.lease.epoch, answer.lease.rate_bps);
            }
        }
    }
    leases.into_iter().map(|(_, rate_bps)| rate_bps).collect()
}

/// The same as a tree.
fn tree(config: &Config, testers: &[Tester]) -> Tree {
    let grant = |(at, tester): (usize, &Tester)| {
        let holder = Holder::Peer(std::sync::Arc::clone(&config.peers[at]));
        let grant = config.grant_split("p", &holder, Direction::Up);
        let terms = grant.map_or_else(Terms::default, |grant| grant.whole());
        let starter_bps = terms.limited(starter_bps(USABLE_BPS, testers.len()));
        let vnics = vec![VnicNode { terms: Default::default(), demand: tester.demand() }];
        GrantNode { terms, starter_bps, vnics }
    };
    Tree { grants: testers.iter().enumerate().map(grant).collect() }
}

proptest! {
    #[test]
    fn a_desk_gives_nobody_less_than_the_tree_and_the_same_where_all_is_wanted(
        testers in prop::collection::vec(any_tester(), 1..7),
    ) {
        let config = config(&testers);
        let leased = leased(&config, &testers);
        let shares = tree(&config, &testers).allocate(USABLE_BPS);
        let slack = testers.len() as u64;
        let all_wanted = shares.iter().sum::<u64>() + slack > USABLE_BPS;
        for ((leased, share), tester) in leased.iter().zip(&shares).zip(&testers) {
            prop_assert!(leased + slack >= *share, "{:?} {:?}", leased, shares);
            // Who is asleep has his starter and no headroom.
            if all_wanted || tester.wants == Some(0) {
                prop_assert!(leased.abs_diff(*share) <= slack, "{:?} {:?}", leased, shares);
            }
        }
        prop_assert!(leased.iter().sum::<u64>() <= USABLE_BPS);
    }
}
