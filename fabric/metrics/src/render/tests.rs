use super::*;
use std::collections::BTreeMap;
use wireonce_ledger::{
    Account, DropReason, Stage,
    control::{CertificateEnd, ControlStatus, HostStanding},
    status::{
        ControllerStatus, DownStatus, FabricPortStatus, LinkGrayStatus, MemberStatus,
        NextHopStatus, OutsidePairStatus, ShareStatus, UplinkStatus, VnicHomeStatus,
        VnicShareStatus, VnicStatus,
    },
};

fn status() -> Status {
    let mut account = Account::default();
    account.input += Amount::frame(1500, 1);
    account.drop(DropReason::SourceMac, Amount::frame(1500, 1));
    Status {
        role: "backend".to_owned(),
        host: "server-\"a\"".to_owned(),
        uptime_s: 7,
        configuration: ConfigurationStatus {
            number: 3,
            refused: Some("no such interface".to_owned()),
            controller: Some(ControllerStatus {
                address: "10.0.0.5:7443".to_owned(),
                silent_since_s: Some(1_700_000_000),
                certificate_until_s: 1_772_388_000,
                ..ControllerStatus::default()
            }),
            ..ConfigurationStatus::default()
        },
        vnics: vec![VnicStatus {
            name: "vm-a".to_owned(),
            state: VnicState::Running,
            home: Some(VnicHomeStatus {
                desired: "east-1".to_owned(),
                now: Some("east-2".to_owned()),
                swaps: 3,
                ..VnicHomeStatus::default()
            }),
            share: Some(VnicShareStatus {
                served_packets: 70,
                port_rate_bps: Some(40_000_000),
                port_held: true,
                port_held_us: 9_000,
                rate_bps: 5_000_000,
                demand_bps: Some(4_000_000),
                held: true,
                held_us: 1_500_000,
                queued_bytes: 640,
                served_bits: 880,
                limit_packets_per_s: Some(20_000),
                packets_held: true,
                ..VnicShareStatus::default()
            }),
            ..VnicStatus::default()
        }],
        links: vec![LinkStatus {
            peer: "gateway-a".to_owned(),
            state: LinkState::Up,
            rtt_us: Some(250),
            sent_bytes: 99,
            gray: Some(LinkGrayStatus {
                trouble: vec!["lossy-to-peer".to_owned()],
                leaves_homes: true,
                ..LinkGrayStatus::default()
            }),
            ..LinkStatus::default()
        }],
        uplinks: vec![UplinkStatus {
            name: "east-1".to_owned(),
            health: "alive".to_owned(),
            attached: 2,
            up_bps: Some(1_000_000_000),
            next_hop: Some(NextHopStatus {
                address: "192.0.2.1".to_owned(),
                state: "silent".to_owned(),
                ..NextHopStatus::default()
            }),
            members: vec![MemberStatus {
                interface: "eth1".to_owned(),
                carrier: true,
                ..MemberStatus::default()
            }],
            ..UplinkStatus::default()
        }],
        outside: vec![OutsidePairStatus {
            uplink: "east-1".to_owned(),
            other: "east-2".to_owned(),
            vlan: Some(20),
            state: "vlan-missing".to_owned(),
            look: None,
        }],
        fabric_port: Some(FabricPortStatus {
            up_bps: Some(100_000_000),
            told_bps: [("east-1".to_owned(), 30_000_000)].into(),
            ..FabricPortStatus::default()
        }),
        shares: vec![ShareStatus {
            uplink: "east-1".to_owned(),
            server: "server-a".to_owned(),
            lease_bps: Some(300_000_000),
            starter_bps: 1_000_000,
            served_bits: 8_000,
            ..ShareStatus::default()
        }],
        down: vec![DownStatus {
            uplink: "east-1".to_owned(),
            vnic: "vm-a".to_owned(),
            rate_bps: 5_000_000,
            demand_bps: Some(4_000_000),
            served_bits: 800,
            served_packets: 9,
            limit_packets_per_s: Some(1_000),
            dropped_frames: 3,
            ..DownStatus::default()
        }],
        ledger: vec![LedgerRow::new("vm-a", 1, Stage::GuestTx, &account)],
        counters: BTreeMap::from([("vhost_user_bad-ring".to_owned(), 3)]),
        ..Status::default()
    }
}

#[test]
fn a_status_is_said_in_metrics_with_units_and_labels() {
    let page = render(&status());
    for line in [
        "wireonce_uptime_seconds 7.0",
        "wireonce_vnic_state{vnic=\"vm-a\",network=\"\",state=\"running\"} 1.0",
        "wireonce_vnic_state{vnic=\"vm-a\",network=\"\",state=\"down\"} 0.0",
        "wireonce_uplink_carrier{uplink=\"east-1\",interface=\"\"} 0.0",
        "wireonce_down_rate_bits_per_second{uplink=\"east-1\",vnic=\"vm-a\"} 5000000.0",
        "wireonce_down_demand_bits_per_second{uplink=\"east-1\",vnic=\"vm-a\"} 4000000.0",
        "wireonce_down_waiting_bytes{uplink=\"east-1\",vnic=\"vm-a\"} 0.0",
        "wireonce_down_wire_bytes_total{uplink=\"east-1\",vnic=\"vm-a\"} 100",
        "wireonce_down_packet_limit_packets_per_second{uplink=\"east-1\",vnic=\"vm-a\"} 1000.0",
        "wireonce_down_packet_limit_held{uplink=\"east-1\",vnic=\"vm-a\"} 0.0",
        "wireonce_down_wire_packets_total{uplink=\"east-1\",vnic=\"vm-a\"} 9",
        "wireonce_configuration_refused 1.0",
        "wireonce_configuration_taken_total 3",
        "wireonce_controller_answers{controller=\"10.0.0.5:7443\"} 0.0",
        "wireonce_certificate_end_timestamp_seconds 1772388000.0",
        "wireonce_vnic_share_bits_per_second{vnic=\"vm-a\"} 5000000.0",
        "wireonce_vnic_demand_bits_per_second{vnic=\"vm-a\"} 4000000.0",
        "wireonce_vnic_held{vnic=\"vm-a\"} 1.0",
        "wireonce_vnic_held_seconds_total{vnic=\"vm-a\"} 1.5",
        "wireonce_fabric_port_capacity_bits_per_second{direction=\"up\"} 100000000.0",
        "wireonce_fabric_port_told_bits_per_second{uplink=\"east-1\"} 30000000.0",
        "wireonce_vnic_port_rate_bits_per_second{vnic=\"vm-a\"} 40000000.0",
        "wireonce_vnic_port_held{vnic=\"vm-a\"} 1.0",
        "wireonce_vnic_port_held_seconds_total{vnic=\"vm-a\"} 0.009",
        "wireonce_vnic_waiting_bytes{vnic=\"vm-a\"} 640.0",
        "wireonce_vnic_wire_bytes_total{vnic=\"vm-a\"} 110",
        "wireonce_lease_bits_per_second{uplink=\"east-1\",server=\"server-a\",role=\"backend\"} 300000000.0",
        "wireonce_lease_starter_bits_per_second{uplink=\"east-1\",server=\"server-a\",role=\"backend\"} 1000000.0",
        "wireonce_lease_wire_bytes_total{uplink=\"east-1\",server=\"server-a\",role=\"backend\"} 1000",
        "wireonce_uplink_capacity_bits_per_second{uplink=\"east-1\",interface=\"\",direction=\"up\"} 1000000000.0",
        "wireonce_link_state{peer=\"gateway-a\",state=\"up\"} 1.0",
        "wireonce_link_state{peer=\"gateway-a\",state=\"idle\"} 0.0",
        "wireonce_vnic_packet_limit_packets_per_second{vnic=\"vm-a\"} 20000.0",
        "wireonce_vnic_packet_limit_held{vnic=\"vm-a\"} 1.0",
        "wireonce_vnic_wire_packets_total{vnic=\"vm-a\"} 70",
        "wireonce_down_dropped_frames_total{uplink=\"east-1\",vnic=\"vm-a\"} 3",
        "wireonce_uplink_attached_vnics{uplink=\"east-1\",interface=\"\"} 2.0",
        "wireonce_uplink_health{uplink=\"east-1\",interface=\"\",state=\"alive\"} 1.0",
        "wireonce_vnic_away_from_home{vnic=\"vm-a\",desired=\"east-1\"} 1.0",
        "wireonce_vnic_home_swaps_total{vnic=\"vm-a\"} 3",
        "wireonce_outside_pair_state{uplink=\"east-1\",other=\"east-2\",vlan=\"20\",state=\"vlan-missing\"} 1.0",
        "wireonce_uplink_next_hop_answers{uplink=\"east-1\",next_hop=\"192.0.2.1\"} 0.0",
        "wireonce_uplink_member_carrier{uplink=\"east-1\",member=\"eth1\"} 1.0",
        "wireonce_link_up{peer=\"gateway-a\"} 1.0",
        "wireonce_link_round_trip_seconds{peer=\"gateway-a\"} 0.00025",
        "wireonce_link_sent_bytes_total{peer=\"gateway-a\"} 99",
        "wireonce_in_frames_total{port=\"vm-a\",stage=\"guest-tx\"} 1",
        "wireonce_in_bytes_total{port=\"vm-a\",stage=\"guest-tx\"} 1500",
        "wireonce_dropped_frames_total{port=\"vm-a\",stage=\"guest-tx\",reason=\"source-mac\"} 1",
        "wireonce_event_vhost_user_bad_ring_total 3",
    ] {
        assert!(page.lines().any(|it| it == line), "{line}\nis not in\n{page}");
    }
    for absent in ["wireonce_lease_demand_", "direction=\"down\""] {
        assert!(!page.contains(absent), "{absent} is in\n{page}");
    }
    assert!(page.contains("host=\"server-\\\"a\\\"\""), "quotes are escaped:\n{page}");
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn every_metric_has_a_type_and_a_help_and_stands_once() {
    let page = render(&status());
    let mut seen = std::collections::BTreeSet::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        assert!(seen.insert(line.to_owned()), "{line} stands twice");
        let name = line.split(' ').next().unwrap();
        assert!(page.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
    assert!(seen.len() > 20, "{seen:?}");
}

#[test]
fn the_dashboard_and_the_alerts_use_metrics_that_exist() {
    let control = ControlStatus {
        hosts: vec![HostStanding { silent_us: Some(1), ..HostStanding::default() }],
        certificates: vec![CertificateEnd::default()],
        ..ControlStatus::default()
    };
    let mut status = status();
    // Of what is absent while somebody would have more than it may, there is some here.
    status.shares[0].demand_bps = Some(1);
    let page = render(&status) + &crate::render_control(&control);
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
    for document in ["grafana/wireonce.json", "prometheus/alerts.yaml"] {
        let text = std::fs::read_to_string(format!("{root}/{document}")).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        let names: Vec<_> = words.filter(|word| word.starts_with("wireonce_")).collect();
        assert!(names.len() > 5, "{names:?}");
        for name in names {
            assert!(
                page.contains(&format!("\n{name}{{")) || page.contains(&format!("\n{name} ")),
                "{document}: {name}"
            );
        }
    }
}

#[test]
fn an_empty_status_is_a_page_too() {
    assert!(render(&Status::default()).ends_with("# EOF\n"));
}
