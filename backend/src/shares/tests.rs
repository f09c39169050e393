//! Shares of vNICs that come, go and move.

use super::*;

const FILE: &str = "
    host = { name = 'a', private_key_file = '/k' }
    fabric = { address = '127.0.0.1' }
    peer = [
        { name = 'g', address = '127.0.0.2', public_key = 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=' },
        { name = 'h', address = '127.0.0.3', public_key = 'AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=' },
    ]
    network = [{ name = 'n', vni = 1, pool = 'p' }]
    uplink = [
        { id = 7, name = 'u', host = 'g', pool = 'p', up = '1Gbit' },
        { id = 8, name = 'w', host = 'h', pool = 'p' },
    ]
    vnic = [
        { id = 1, name = 'v1', host = 'a', network = 'n', mac = '52:54:00:00:00:01', home = 'u', socket = '/1' },
        { id = 2, name = 'v2', host = 'a', network = 'n', mac = '52:54:00:00:00:02', home = 'w', socket = '/2' },
    ]";

fn change(shares: &mut Shares, from: &str, to: &str) {
    change_while(shares, &[(from, to)], &[]);
}

/// The file with these edits, while vNICs use these uplinks, or else their tables' homes.
fn change_while(shares: &mut Shares, edits: &[(&str, &str)], in_use: &[(u64, u32)]) {
    let mut file = FILE.to_owned();
    for (from, to) in edits {
        assert!(file.contains(from), "{from}");
        file = file.replace(from, to);
    }
    let config = Config::parse(&file, "a.toml").unwrap();
    let at = |(vnic, uplink): &(u64, u32)| (VnicId::new(*vnic).unwrap(), UplinkId(*uplink));
    let in_use = in_use.iter().map(at).collect();
    shares.change(&config, &PeerNumbers::in_order(&config), &in_use, 1_000);
}

fn shares() -> Shares {
    let config = Config::parse(FILE, "a.toml").unwrap();
    Shares::new(&config, &PeerNumbers::in_order(&config), 9)
}

fn share(shares: &Shares, id: u64) -> Option<Arc<VnicShare>> {
    shares.vnics.get(&VnicId::new(id).unwrap()).cloned()
}

#[test]
fn only_vnics_whose_home_is_shaped_have_a_share() {
    let shares = shares();
    assert!(share(&shares, 1).is_some() && share(&shares, 2).is_none());
    assert_eq!(lock(&shares.homes).len(), 1);
}

#[test]
fn a_vnic_that_moves_to_a_shaped_home_gets_a_share_and_the_other_s_lease_stays() {
    let mut shares = shares();
    let before = share(&shares, 1).unwrap();
    lock(&shares.homes)[0].tick(0).expect("a report, which a lease could answer");
    change(&mut shares, "home = 'w'", "home = 'u'");
    assert!(Arc::ptr_eq(&before, &share(&shares, 1).unwrap()), "what waits would be lost");
    let homes = lock(&shares.homes);
    assert_eq!(homes.len(), 1);
    assert!(homes[0].next_us() == 0, "it reports at once");
    assert!(share(&shares, 2).unwrap().allowed_bps(1_000) > 0, "its part of the starter");
}

#[test]
fn a_share_follows_its_vnic_to_another_home_and_back() {
    let mut shares = shares();
    change(&mut shares, "home = 'u', socket", "home = 'u', standbys = ['w'], socket");
    let (one, [u, w]) = (VnicId::new(1).unwrap(), [7, 8].map(UplinkId));
    let before = share(&shares, 1).unwrap();
    let starter_bps = before.allowed_bps(2_000);
    shares.rehome(one, w, 2_000);
    assert_eq!(before.allowed_bps(2_000), u64::MAX - 1, "the standby is not shaped");
    assert!(!lock(&shares.homes)[0].has(&before));
    shares.rehome(one, u, 3_000);
    assert_eq!(before.allowed_bps(3_000), starter_bps);
    assert!(lock(&shares.homes)[0].next_us() == 0, "it reports at once");
}

#[test]
fn a_vnic_that_the_tables_want_elsewhere_keeps_its_share_until_it_has_left() {
    let mut shares = shares();
    let (one, one_share) = (VnicId::new(1).unwrap(), share(&shares, 1).unwrap());
    let rate_bps = one_share.allowed_bps(2_000);
    // Neither home nor standby any more, of anybody, in this configuration and the next.
    for _ in 0..2 {
        change_while(&mut shares, &[("home = 'u', socket", "home = 'w', socket")], &[(1, 7)]);
        shares.tables_are_taken();
        shares.rehome(one, UplinkId(7), 2_000);
        assert_eq!(one_share.allowed_bps(2_000), rate_bps, "it may not flood what it leaves");
        assert!(shares.gateways.read().unwrap().contains(&PeerId(0)), "its leases count");
        assert_eq!(lock(&shares.homes).len(), 1);
    }
    shares.rehome(one, UplinkId(8), 3_000);
    assert_eq!(one_share.allowed_bps(3_000), u64::MAX - 1);
    assert!(lock(&shares.homes).is_empty(), "and nobody reports for it any more");
}

#[test]
fn a_limit_of_the_server_goes_with_its_vnics() {
    let mut shares = shares();
    let grant =
        "]\n    grant = [{ pool = 'p', server = 'a', up = { limit = '2Mbit' } }]\n    vnic = [";
    let edits = [
        ("]\n    vnic = [", grant),
        ("name = 'w', host = 'h', pool = 'p'", "name = 'w', host = 'h', pool = 'p', up = '1Gbit'"),
        ("home = 'u', socket", "home = 'u', standbys = ['w'], socket"),
    ];
    change_while(&mut shares, &edits, &[]);
    let allowed = || [1, 2].map(|id| share(&shares, id).unwrap().allowed_bps(2_000));
    assert_eq!(allowed(), [1_000_000; 2], "its starter there is larger");
    shares.rehome(VnicId::new(1).unwrap(), UplinkId(8), 2_000);
    assert_eq!(allowed(), [1_000_000; 2], "both have one uplink, and the whole of the limit");
}

#[test]
fn a_vnic_with_a_shaped_standby_has_a_share_that_holds_nothing_back_before() {
    let mut shares = shares();
    change(&mut shares, "home = 'w', socket", "home = 'w', standbys = ['u'], socket");
    let two = share(&shares, 2).unwrap();
    shares.tables_are_taken();
    assert!(two.allowed_bps(2_000) > u64::MAX / 2 && !two.is_open());
    shares.rehome(VnicId::new(2).unwrap(), UplinkId(7), 2_000);
    assert!(two.allowed_bps(2_000) < 1_000_000_000);
}

#[test]
fn a_vnic_whose_home_is_not_shaped_any_more_sends_what_waits_at_any_rate() {
    let mut shares = shares();
    let before = share(&shares, 1).unwrap();
    assert!(before.allowed_bps(0) < 1_000_000_000);
    change(&mut shares, ", up = '1Gbit'", "");
    assert!(Arc::ptr_eq(&before, &share(&shares, 1).unwrap()));
    assert!(before.allowed_bps(0) < 1_000_000_000, "workers may still know the old home");
    shares.tables_are_taken();
    assert_eq!(before.allowed_bps(u64::MAX - 1), u64::MAX);
    assert!(lock(&shares.homes).is_empty());
    // And the next change forgets it.
    change(&mut shares, ", up = '1Gbit'", "");
    assert!(share(&shares, 1).is_none());
}

#[test]
fn a_divided_port_gives_each_vnic_a_part_wherever_its_home_is_and_takes_it_back() {
    let mut shares = shares();
    assert_eq!(share(&shares, 1).unwrap().port.rate_bps(), None);
    let port = "fabric_port = { port_up = '100Mbit', port_down = '50Mbit' }\n network = [";
    change(&mut shares, "network = [", port);
    shares.tables_are_taken();
    let [one, two] = [1, 2].map(|id| share(&shares, id).unwrap());
    assert_eq!([&one, &two].map(|it| it.port.rate_bps()), [Some(49_000_000); 2]);
    assert!(two.allowed_bps(1_000) > u64::MAX / 2 && !two.is_open(), "no lease holds it back");
    assert!(shares.inflows().is_some());
    change(&mut shares, "network = [", "network = [");
    shares.tables_are_taken();
    assert_eq!([&one, &two].map(|it| it.port.rate_bps()), [None; 2]);
    assert!(two.is_open() && !one.is_open() && shares.inflows().is_none());
}

#[test]
fn a_vnic_that_is_shaped_again_gets_a_share_of_its_own() {
    let mut shares = shares();
    let before = share(&shares, 1).unwrap();
    change(&mut shares, ", up = '1Gbit'", "");
    shares.tables_are_taken();
    change(&mut shares, ", up = '1Gbit'", ", up = '2Gbit'");
    let after = share(&shares, 1).unwrap();
    assert!(!Arc::ptr_eq(&before, &after) && !after.is_open());
    assert!(before.is_open(), "whoever still has it sends what waits");
}

#[derive(Default)]
struct Deaf;

impl SessionListener for Deaf {
    fn session(&self, _: SessionEvent) {}

    fn message(&self, _: PeerId, _: u8, _: &[u8]) {}

    fn hello(&self, _: PeerId, _: u64, _: Option<u64>) {}

    fn tick(&self, _: u64) -> Option<u64> {
        None
    }
}

#[test]
fn only_a_home_s_gateway_wakes_the_thread() {
    let shares = shares();
    let (ears, Inbox { inbox, .. }) = shares.ears(Deaf);
    let lease = wireonce_shares::Lease { epoch: 1, rate_bps: 1, answers_us: 0 };
    let lease = LeaseMessage { uplink: 7, life: 9, lease, starter_bps: 0 };
    let bytes = Message::Lease(lease).emit();
    ears.message(PeerId(1), BANDWIDTH_CHANNEL, &bytes);
    assert!(inbox.try_recv().is_err(), "that one's uplink is not shaped");
    ears.message(PeerId(0), BANDWIDTH_CHANNEL, &bytes);
    assert!(matches!(inbox.try_recv(), Ok(News::Lease(PeerId(0), _))));
}
