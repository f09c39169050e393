//! Who may send how much through which uplink, where that is shaped.

use super::text::Clock;
use crate::output::{Table, scaled};
use wireonce_ledger::{
    Status,
    status::{DownStatus, ShareStatus, VnicShareStatus},
};

/// Servers on uplinks: a gateway shows all, a backend its own.
pub(super) fn servers(now: &Status, before: Option<&Status>, clock: Option<Clock>) -> String {
    let mut table =
        Table::new(["UPLINK", "CARRIES", "SERVER", "LEASE", "STARTER", "WANTS", "SENDS"]);
    for share in &now.shares {
        let ShareStatus { uplink, server, lease_bps, starter_bps, demand_bps, served_bits } = share;
        let same = |old: &&ShareStatus| old.uplink == *uplink && old.server == *server;
        let old = before.and_then(|before| before.shares.iter().find(same));
        let sends = match (clock, old) {
            (Some(clock), Some(old)) => rate(clock.rate(*served_bits, old.served_bits)),
            _ => scaled(served_bits / 8, "B"),
        };
        let carries = now.uplinks.iter().find(|it| it.name == *uplink).and_then(|it| it.up_bps);
        table.row([
            uplink.clone(),
            carries.map_or("-".to_owned(), rate),
            server.clone(),
            lease_bps.map_or("-".to_owned(), rate),
            rate(*starter_bps),
            wants(*demand_bps),
            sends,
        ]);
    }
    table.render()
}

/// vNICs on their homes.
pub(super) fn vnics(now: &Status) -> String {
    let mut table = Table::new(["SHAPED", "MAY SEND", "PACKETS", "WANTS", "HELD BACK", "WAITING"]);
    for vnic in &now.vnics {
        let Some(share) = vnic.share else { continue };
        let VnicShareStatus { rate_bps, demand_bps, queued_bytes, .. } = share;
        table.row([
            vnic.name.clone(),
            rate(rate_bps),
            packets(share.limit_packets_per_s),
            wants(demand_bps),
            match share.port_held && !share.held {
                true => "by the port".to_owned(),
                false => held(share.held, share.packets_held),
            },
            scaled(queued_bytes, "B"),
        ]);
    }
    table.render()
}

/// A server's fabric port, and what vNICs have of it.
pub(super) fn port(now: &Status) -> String {
    let mut table = Table::new(["FABRIC PORT", "CARRIES", "MAY USE", "WANTS", "SENDS"]);
    let Some(port) = &now.fabric_port else { return table.render() };
    let none = || "-".to_owned();
    if let Some(up_bps) = port.up_bps {
        let (wants, sends) = (wants(port.demand_bps), rate(port.sent_bps));
        table.row(["up".to_owned(), rate(up_bps), none(), wants, sends]);
        for vnic in &now.vnics {
            let Some(bps) = vnic.share.and_then(|share| share.port_rate_bps) else { continue };
            table.row([format!("up: {}", vnic.name), none(), rate(bps), none(), none()]);
        }
    }
    if let Some(down_bps) = port.down_bps {
        table.row(["down".to_owned(), rate(down_bps), none(), none(), none()]);
        for (uplink, bps) in &port.told_bps {
            let bps = if *bps == u64::MAX { none() } else { rate(*bps) };
            table.row([format!("down: {uplink}"), none(), bps, none(), none()]);
        }
    }
    table.render()
}

/// vNICs, from the outside: at a gateway.
pub(super) fn down(now: &Status, before: Option<&Status>, clock: Option<Clock>) -> String {
    let mut table = Table::new([
        "FROM",
        "CARRIES",
        "VNIC",
        "SERVER",
        "MAY GET",
        "PACKETS",
        "WANTS",
        "GETS",
        "HELD BACK",
        "WAITING",
        "DROPPED",
    ]);
    for it in &now.down {
        let same = |old: &&DownStatus| old.uplink == it.uplink && old.vnic_id == it.vnic_id;
        let old = before.and_then(|before| before.down.iter().find(same));
        let gets = match (clock, old) {
            (Some(clock), Some(old)) => rate(clock.rate(it.served_bits, old.served_bits)),
            _ => scaled(it.served_bits / 8, "B"),
        };
        let carries = now.uplinks.iter().find(|uplink| uplink.name == it.uplink);
        table.row([
            it.uplink.clone(),
            carries.and_then(|uplink| uplink.down_bps).map_or("-".to_owned(), rate),
            it.vnic.clone(),
            it.server.clone(),
            // Nobody asks for anything but a burst.
            if it.demand_bps == Some(0) { "-".to_owned() } else { rate(it.rate_bps) },
            packets(it.limit_packets_per_s),
            wants(it.demand_bps),
            gets,
            held(it.held, it.packets_held),
            scaled(it.queued_bytes, "B"),
            it.dropped_frames.to_string(),
        ]);
    }
    table.render()
}

fn rate(bps: u64) -> String {
    scaled(bps, "b/s")
}

fn packets(limit_per_s: Option<u32>) -> String {
    limit_per_s.map_or("-".to_owned(), |limit| format!("{limit}/s"))
}

/// By what, if more bandwidth would not help.
fn held(held: bool, by_packets: bool) -> String {
    match (held, by_packets) {
        (false, _) => "no".to_owned(),
        (true, false) => "yes".to_owned(),
        (true, true) => "by packets".to_owned(),
    }
}

fn wants(demand_bps: Option<u64>) -> String {
    demand_bps.map_or("more".to_owned(), rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wireonce_ledger::status::{FabricPortStatus, UplinkStatus, VnicStatus};

    #[test]
    fn each_server_and_each_vnic_has_a_line() {
        let share = ShareStatus {
            uplink: "east-1".to_owned(),
            server: "server-a".to_owned(),
            lease_bps: Some(148_500_000),
            starter_bps: 4_950_000,
            demand_bps: None,
            served_bits: 8_000,
        };
        let idle = ShareStatus {
            server: "server-b".to_owned(),
            lease_bps: None,
            demand_bps: Some(0),
            ..share.clone()
        };
        let uplink = UplinkStatus {
            name: "east-1".to_owned(),
            up_bps: Some(200_000_000),
            ..UplinkStatus::default()
        };
        let held = VnicShareStatus {
            rate_bps: 20_000_000,
            demand_bps: None,
            held: true,
            queued_bytes: 65_000,
            ..VnicShareStatus::default()
        };
        let vnic =
            VnicStatus { name: "vm-a".to_owned(), share: Some(held), ..VnicStatus::default() };
        let by_packets = VnicShareStatus {
            demand_bps: Some(1_000_000),
            limit_packets_per_s: Some(20_000),
            packets_held: true,
            ..held
        };
        let other = VnicStatus {
            name: "vm-b".to_owned(),
            share: Some(by_packets),
            ..VnicStatus::default()
        };
        let status = Status {
            uplinks: vec![uplink],
            shares: vec![share, idle],
            vnics: vec![vnic, other, VnicStatus::default()],
            ..Status::default()
        };
        let words = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
        };
        assert_eq!(
            words(&servers(&status, None, None)),
            [
                "UPLINK CARRIES SERVER LEASE STARTER WANTS SENDS",
                "east-1 200 Mb/s server-a 148 Mb/s 4.95 Mb/s more 1.00 kB",
                "east-1 200 Mb/s server-b - 4.95 Mb/s 0 b/s 1.00 kB",
            ]
        );
        assert_eq!(
            words(&vnics(&status)),
            [
                "SHAPED MAY SEND PACKETS WANTS HELD BACK WAITING",
                "vm-a 20.0 Mb/s - more yes 65.0 kB",
                "vm-b 20.0 Mb/s 20000/s 1.00 Mb/s by packets 65.0 kB",
            ]
        );
        assert_eq!(servers(&Status::default(), None, None), "");
    }

    #[test]
    fn a_port_has_a_line_for_each_side_and_for_whoever_has_a_part_of_it() {
        let share = VnicShareStatus {
            rate_bps: 50_000_000,
            port_rate_bps: Some(49_000_000),
            port_held: true,
            ..VnicShareStatus::default()
        };
        let vnic =
            VnicStatus { name: "vm-a".to_owned(), share: Some(share), ..VnicStatus::default() };
        let port = FabricPortStatus {
            up_bps: Some(100_000_000),
            down_bps: Some(60_000_000),
            sent_bps: 97_000_000,
            told_bps: [("east-1".to_owned(), 30_000_000)].into(),
            ..FabricPortStatus::default()
        };
        let status = Status { vnics: vec![vnic], fabric_port: Some(port), ..Status::default() };
        let words = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
        };
        assert_eq!(
            words(&super::port(&status)),
            [
                "FABRIC PORT CARRIES MAY USE WANTS SENDS",
                "up 100 Mb/s - more 97.0 Mb/s",
                "up: vm-a - 49.0 Mb/s - -",
                "down 60.0 Mb/s - - -",
                "down: east-1 - 30.0 Mb/s - -",
            ]
        );
        assert!(vnics(&status).contains("by the port"));
        assert_eq!(super::port(&Status::default()), "");
    }

    #[test]
    fn each_vnic_has_a_line_for_what_it_gets_from_the_outside() {
        let busy = DownStatus {
            uplink: "east-1".to_owned(),
            server: "server-a".to_owned(),
            vnic: "vm-a".to_owned(),
            vnic_id: 1,
            rate_bps: 720_000_000,
            demand_bps: None,
            held: true,
            queued_bytes: 300_000,
            served_bits: 16_000,
            served_packets: 20,
            limit_packets_per_s: Some(20_000),
            packets_held: true,
            dropped_frames: 12,
            ..DownStatus::default()
        };
        let idle = DownStatus {
            vnic: "vm-b".to_owned(),
            rate_bps: 0,
            demand_bps: Some(0),
            held: false,
            queued_bytes: 0,
            limit_packets_per_s: None,
            packets_held: false,
            dropped_frames: 0,
            ..busy.clone()
        };
        let uplink = UplinkStatus {
            name: "east-1".to_owned(),
            down_bps: Some(1_000_000_000),
            ..UplinkStatus::default()
        };
        let (uplinks, down) = (vec![uplink], vec![busy, idle]);
        let status = Status { uplinks, down, ..Status::default() };
        let text = self::down(&status, None, None);
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "FROM CARRIES VNIC SERVER MAY GET PACKETS WANTS GETS HELD BACK WAITING DROPPED",
                "east-1 1.00 Gb/s vm-a server-a 720 Mb/s 20000/s more 2.00 kB by packets 300 kB 12",
                "east-1 1.00 Gb/s vm-b server-a - - 0 b/s 2.00 kB no 0 B 0",
            ]
        );
        assert_eq!(self::down(&Status::default(), None, None), "");
    }
}
