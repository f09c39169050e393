//! What is policed and leased follows who is attached.

use super::*;
use wireonce_frame::segment::WireCost;
use wireonce_ledger::DropReason;
use wireonce_wire::VnicId;

const A: PeerId = PeerId(0);
const U: UplinkId = UplinkId(7);
const FRAME: WireCost = WireCost { segments: 1, bytes: 1_538 };

/// A vNIC whose home is at an uplink of this gateway, or at one of another, and which has no standby.
fn config(home: &str) -> Config {
    let file = format!(
        "host = {{ name = 'g', private_key_file = '/k' }}
        fabric = {{ address = '127.0.0.1' }}
        peer = [
            {{ name = 'a', address = '127.0.0.2', public_key = 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=' }},
            {{ name = 'h', address = '127.0.0.3', public_key = 'AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=' }},
        ]
        network = [{{ name = 'n', vni = 1, pool = 'p' }}]
        uplink = [
            {{ id = 7, name = 'u', host = 'g', pool = 'p', driver = 'tap', interface = 't', up = '200Mbit' }},
            {{ id = 8, name = 'w', host = 'h', pool = 'p', up = '200Mbit' }},
        ]
        vnic = [
            {{ id = 1, name = 'v1', host = 'a', network = 'n', mac = '52:54:00:00:00:01', home = '{home}' }},
        ]"
    );
    Config::parse(&file, "g.toml").unwrap()
}

struct Bed {
    presence: Presence,
    shares: Shares,
    numbers: PeerNumbers,
}

impl Bed {
    fn new(home: &str) -> Self {
        let (config, presence) = (config(home), Presence::default());
        let numbers = PeerNumbers::in_order(&config);
        let shares = Shares::new(&config, &numbers, &presence, 0);
        Self { presence, shares, numbers }
    }

    fn attached(&self, here: bool, now_us: u64) {
        let moves = [Move { vnic: VnicId::new(1).unwrap(), uplink: U, here }];
        self.presence.note(&moves);
        self.shares.moved(&moves, now_us);
    }

    fn admits(&self, now_us: u64) -> Result<(), DropReason> {
        self.shares.police(U).unwrap().admit(A, VnicId::new(1).unwrap(), FRAME, now_us)
    }
}

#[test]
fn a_vnic_that_the_tables_want_elsewhere_passes_until_it_has_left() {
    let bed = Bed::new("u");
    bed.attached(true, 100_000);
    assert_eq!(bed.admits(100_000), Ok(()));
    bed.shares.change(&config("w"), &bed.numbers, 100_000);
    for now_us in (200_000..1_000_000).step_by(100_000) {
        assert_eq!(bed.admits(now_us), Ok(()), "at {now_us}");
    }
    assert_eq!(bed.shares.status(&config("w"), 200_000).len(), 1);
    bed.attached(false, 1_000_000);
    assert_eq!(bed.admits(2_000_000), Err(DropReason::OverLease));
}

#[test]
fn a_vnic_that_comes_before_the_tables_name_it_here_passes_at_once() {
    let bed = Bed::new("w");
    assert_eq!(bed.admits(100_000), Err(DropReason::OverLease));
    bed.attached(true, 100_000);
    assert_eq!(bed.admits(100_000), Ok(()));
    // The tables follow, and it stays.
    bed.shares.change(&config("u"), &bed.numbers, 200_000);
    assert_eq!(bed.admits(300_000), Ok(()));
}

#[test]
fn a_lost_member_of_a_bond_lowers_what_the_uplink_carries() {
    let bed = Bed::new("u");
    let (half, config) = (Part { live: 1, all: 2 }, config("u"));
    bed.presence.set_part(U, half);
    bed.shares.part_changed(U, half);
    let uplink = config.uplink(U).unwrap();
    assert_eq!(bed.shares.up_bps(uplink), Some(100_000_000));
    bed.shares.change(&config, &bed.numbers, 0);
    assert_eq!(bed.shares.up_bps(uplink), Some(100_000_000), "another configuration");
}
