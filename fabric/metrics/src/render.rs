//! A status as OpenMetrics text.
//!
//! Names have units and start with `wireonce_`. There is one counter for what is dropped, with the
//! stage and the reason as labels, beside those for what goes in and out of each stage, so that the
//! ledger can be closed in a query: `in + copied - out - dropped` is what is on its way.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};
use wireonce_ledger::{
    Amount, Status,
    status::{DownStatus, LedgerRow, LinkState, LinkStatus, VnicState},
};

/// The metrics of a daemon, in the text format of OpenMetrics 1.0.
#[must_use]
pub fn render(status: &Status) -> String {
    let mut registry = Registry::with_prefix("wireonce");
    registry.register_collector(Box::new(Page(status.clone())));
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = text::encode(&mut page, &registry);
    page
}

#[derive(Debug)]
struct Page(Status);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(status) = self;
        let mut page = Writer { encoder: &mut encoder };
        daemon(&mut page, status)?;
        vnics(&mut page, status)?;
        uplinks(&mut page, status)?;
        bandwidth(&mut page, status)?;
        links(&mut page, status)?;
        ledger(&mut page, status)?;
        others(&mut page, status)
    }
}

/// Labels of one sample.
type Labels<'a> = Vec<(&'static str, String)>;

struct Writer<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
}

impl Writer<'_, '_> {
    fn counters(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        samples: impl IntoIterator<Item = (Labels<'static>, u64)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            } else {
                metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            }
        }
        Ok(())
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        samples: impl IntoIterator<Item = (Labels<'static>, f64)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                metric.encode_gauge(&value)?;
            } else {
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}

fn label(key: &'static str, value: &str) -> (&'static str, String) {
    (key, value.to_owned())
}

fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

fn daemon(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let labels = vec![
        label("role", &status.role),
        label("host", &status.host),
        label("version", &status.version),
        label("encryption", &status.encryption),
    ];
    page.gauges("daemon_info", "What this daemon is; always 1", None, [(labels, 1.0)])?;
    let uptime_s = status.uptime_s as f64;
    page.gauges("uptime", "Time since the start", Some(&Unit::Seconds), [(vec![], uptime_s)])
}

fn vnics(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let of = |state: VnicState| {
        status.vnics.iter().map(move |vnic| {
            let name = match state {
                VnicState::Down => "down",
                VnicState::Connected => "connected",
                VnicState::Running => "running",
            };
            let labels = vec![
                label("vnic", &vnic.name),
                label("network", &vnic.network),
                label("state", name),
            ];
            (labels, flag(vnic.state == state))
        })
    };
    let states = [VnicState::Down, VnicState::Connected, VnicState::Running];
    let help = "1 for the state that the vNIC is in";
    page.gauges("vnic_state", help, None, states.into_iter().flat_map(of))?;
    let homes = || status.vnics.iter().filter_map(|vnic| Some((vnic, vnic.home.as_ref()?)));
    let away = homes().map(|(vnic, home)| {
        let labels = vec![label("vnic", &vnic.name), label("desired", &home.desired)];
        (labels, flag(home.now.as_ref() != Some(&home.desired)))
    });
    let help = "1 while the vNIC does not use the uplink that the tables want";
    page.gauges("vnic_away_from_home", help, None, away)?;
    let swaps = homes().map(|(vnic, home)| (vec![label("vnic", &vnic.name)], home.swaps));
    let help = "How often the vNIC went from one uplink to another";
    page.counters("vnic_home_swaps", help, None, swaps)?;
    packet_limits(page, status)?;
    fabric_port(page, status)
}

/// The fabric port of a server, where it is divided, and what its vNICs have of it.
fn fabric_port(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let rate = Unit::Other("bits_per_second".to_owned());
    let port = status.fabric_port.iter();
    let carries = port.clone().flat_map(|port| {
        let ways = [("up", port.up_bps), ("down", port.down_bps)];
        ways.into_iter().filter_map(|(way, bps)| Some((vec![label("direction", way)], bps? as f64)))
    });
    page.gauges("fabric_port_capacity", "What the fabric port carries", Some(&rate), carries)?;
    let told = port.flat_map(|port| {
        port.told_bps.iter().map(|(uplink, bps)| (vec![label("uplink", uplink)], *bps as f64))
    });
    let help = "What the uplink was told that it may send to this server";
    page.gauges("fabric_port_told", help, Some(&rate), told)?;
    let divided = || {
        status.vnics.iter().filter_map(|vnic| {
            let share = vnic.share?;
            Some((vec![label("vnic", &vnic.name)], share, share.port_rate_bps?))
        })
    };
    let rates = divided().map(|(labels, _, bps)| (labels, bps as f64));
    let help = "What the vNIC may send through the fabric port";
    page.gauges("vnic_port_rate", help, Some(&rate), rates)?;
    let held = divided().map(|(labels, share, _)| (labels, flag(share.port_held)));
    page.gauges("vnic_port_held", "1 while something waits for the fabric port", None, held)?;
    let waited = divided().map(|(labels, share, _)| (labels, share.port_held_us / 1_000));
    let help = "How long something waited for the fabric port";
    page.counters("vnic_port_held", help, Some(&Unit::Other("milliseconds".to_owned())), waited)
}

/// Limits in packets of vNICs upwards: at servers.
fn packet_limits(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let limited = || {
        status.vnics.iter().filter_map(|vnic| {
            let share = vnic.share?;
            let limit = share.limit_packets_per_s?;
            Some((vec![label("vnic", &vnic.name)], share, limit))
        })
    };
    let unit = Unit::Other("packets_per_second".to_owned());
    let limits = limited().map(|(labels, _, limit)| (labels, f64::from(limit)));
    let help = "Packets that the vNIC may send to its home; absent: any number";
    page.gauges("vnic_packet_limit", help, Some(&unit), limits)?;
    let held = limited().map(|(labels, share, _)| (labels, flag(share.packets_held)));
    let help = "1 while something waits for the limit in packets";
    page.gauges("vnic_packet_limit_held", help, None, held)?;
    let sent = status
        .vnics
        .iter()
        .filter_map(|vnic| Some((vec![label("vnic", &vnic.name)], vnic.share?.served_packets)));
    let help = "Packets that the vNIC sent to a home that is shaped";
    page.counters("vnic_wire_packets", help, None, sent)
}

fn uplinks(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let labels = |at: usize| {
        let uplink = &status.uplinks[at];
        vec![label("uplink", &uplink.name), label("interface", &uplink.interface)]
    };
    let all = 0..status.uplinks.len();
    let carriers = all.clone().map(|at| (labels(at), flag(status.uplinks[at].carrier)));
    page.gauges("uplink_carrier", "1 while the interface has a link", None, carriers)?;
    let designated = all.clone().map(|at| (labels(at), flag(status.uplinks[at].designated)));
    let help = "1 while it lets broadcast from outside in, for at least one network";
    page.gauges("uplink_designated", help, None, designated)?;
    let attached = all.clone().map(|at| (labels(at), status.uplinks[at].attached as f64));
    let help = "vNICs that are attached to the uplink";
    page.gauges("uplink_attached_vnics", help, None, attached)?;
    let states = ["alive", "draining", "sick", "gone"];
    let health = all.clone().flat_map(|at| {
        states.into_iter().map(move |state| {
            let mut labels = labels(at);
            labels.push(label("state", state));
            (labels, flag(status.uplinks[at].health == state))
        })
    });
    page.gauges("uplink_health", "1 for how the uplink is", None, health)?;
    let drops = all.map(|at| (labels(at), status.uplinks[at].kernel_drops));
    let help = "Frames that the kernel dropped before they could be read";
    page.counters("uplink_kernel_dropped_frames", help, None, drops)?;
    outside(page, status)
}

/// What is known of the network outside the uplinks.
fn outside(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let vlan = |vlan: Option<u16>| vlan.map_or("untagged".to_owned(), |vlan| vlan.to_string());
    let pairs = status.outside.iter().map(|pair| {
        let labels = vec![
            label("uplink", &pair.uplink),
            label("other", &pair.other),
            label("vlan", &vlan(pair.vlan)),
            label("state", &pair.state),
        ];
        (labels, 1.0)
    });
    let help = "1 for the state in which two uplinks of a pool are joined outside";
    page.gauges("outside_pair_state", help, None, pairs)?;
    let hops = status.uplinks.iter().filter_map(|uplink| {
        let hop = uplink.next_hop.as_ref()?;
        let labels = vec![label("uplink", &uplink.name), label("next_hop", &hop.address)];
        Some((labels, flag(hop.state != "silent")))
    });
    page.gauges("uplink_next_hop_answers", "0 while the next hop is silent", None, hops)?;
    let members = status.uplinks.iter().flat_map(|uplink| {
        uplink.members.iter().map(|member| {
            let labels = vec![label("uplink", &uplink.name), label("member", &member.interface)];
            (labels, flag(member.carrier))
        })
    });
    let help = "1 while a port of the uplink's bond has a link";
    page.gauges("uplink_member_carrier", help, None, members)
}

/// What vNICs get from the outside, where that is shaped: at gateways.
fn bandwidth(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let labels = |it: &DownStatus| vec![label("uplink", &it.uplink), label("vnic", &it.vnic)];
    type Of = fn(&DownStatus) -> Option<f64>;
    let unit = Unit::Other("bits_per_second".to_owned());
    let gauges: [(&str, &str, Option<&Unit>, Of); 4] = [
        ("down_rate", "What the vNIC may get from the outside", Some(&unit), |it| {
            Some(it.rate_bps as f64)
        }),
        (
            "down_demand",
            "What would come for it; absent: more than it may get",
            Some(&unit),
            |it| it.demand_bps.map(|bps| bps as f64),
        ),
        ("down_held", "1 while something for it has to wait", None, |it| Some(flag(it.held))),
        ("down_waiting", "What waits for it", Some(&Unit::Bytes), |it| {
            Some(it.queued_bytes as f64)
        }),
    ];
    for (name, help, unit, of) in gauges {
        let samples = status.down.iter().filter_map(|it| Some((labels(it), of(it)?)));
        page.gauges(name, help, unit, samples)?;
    }
    let limits =
        status.down.iter().filter_map(|it| Some((labels(it), f64::from(it.limit_packets_per_s?))));
    let unit = Unit::Other("packets_per_second".to_owned());
    let help = "Packets that the vNIC may get from the outside; absent: any number";
    page.gauges("down_packet_limit", help, Some(&unit), limits)?;
    let held = status.down.iter().filter(|it| it.limit_packets_per_s.is_some());
    let held = held.map(|it| (labels(it), flag(it.packets_held)));
    let help = "1 while something for it has to wait for the limit in packets";
    page.gauges("down_packet_limit_held", help, None, held)?;
    let limited = status.down.iter().filter(|it| it.limit_packets_per_s.is_some());
    let packets = limited.map(|it| (labels(it), it.served_packets));
    let help = "Packets that went to it while it had a limit in packets";
    page.counters("down_wire_packets", help, None, packets)?;
    let wire = status.down.iter().map(|it| (labels(it), it.served_bits / 8));
    page.counters("down_wire", "Wire bytes that went to it", Some(&Unit::Bytes), wire)?;
    let dropped = status.down.iter().map(|it| (labels(it), it.dropped_frames));
    let help = "Frames dropped because too much waited, or too long";
    page.counters("down_dropped_frames", help, None, dropped)
}

fn links(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let peer = |link: &LinkStatus| vec![label("peer", &link.peer)];
    let up = status.links.iter().map(|link| (peer(link), flag(link.state == LinkState::Up)));
    page.gauges("link_up", "1 while both hosts hear each other", None, up)?;
    let trips = status.links.iter().filter_map(|link| Some((link, link.rtt_us?)));
    let trips = trips.map(|(link, rtt_us)| (peer(link), rtt_us as f64 / 1e6));
    let help = "Round trip of the last hello";
    page.gauges("link_round_trip", help, Some(&Unit::Seconds), trips)?;
    let gray = status
        .links
        .iter()
        .map(|link| (peer(link), flag(link.gray.as_ref().is_some_and(|gray| gray.leaves_homes))));
    let help =
        "1 while the link loses so much that homes at the peer are left if a standby is better";
    page.gauges("link_gray", help, None, gray)?;
    let troubles = status.links.iter().flat_map(|link| {
        let names = link.gray.iter().flat_map(|gray| &gray.trouble);
        names.map(|name| (vec![label("peer", &link.peer), label("trouble", name)], 1.0))
    });
    page.gauges("link_trouble", "1 for each thing that is wrong with the link", None, troubles)?;
    type Of = fn(&LinkStatus) -> u64;
    let counted: [(&str, &str, Option<&Unit>, Of); 11] = [
        ("link_sent_datagrams", "Datagrams sent", None, |l| l.sent_datagrams),
        ("link_sent", "UDP payload sent", Some(&Unit::Bytes), |l| l.sent_bytes),
        ("link_received_datagrams", "Datagrams received", None, |l| l.received_datagrams),
        ("link_received", "UDP payload received", Some(&Unit::Bytes), |l| l.received_bytes),
        ("link_lost_datagrams", "Datagrams that the peer never got", None, |l| l.lost),
        ("link_missed_datagrams", "Datagrams of the peer that never came", None, |l| l.missed),
        ("link_reordered_datagrams", "Datagrams behind a later one", None, |l| l.reordered),
        ("link_late_datagrams", "Datagrams behind their final hole", None, |l| l.late),
        ("link_duplicate_datagrams", "Datagrams that came twice", None, |l| l.duplicate),
        ("link_unauthentic_datagrams", "Datagrams without a valid seal", None, |l| l.auth_failed),
        ("link_socket_dropped_datagrams", "Datagrams without room in our socket", None, |l| {
            l.socket_drops
        }),
    ];
    for (name, help, unit, of) in counted {
        page.counters(name, help, unit, status.links.iter().map(|link| (peer(link), of(link))))?;
    }
    Ok(())
}

fn ledger(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let stage = |row: &LedgerRow| vec![label("port", &row.name), label("stage", row.stage.name())];
    type Of = fn(&LedgerRow) -> Amount;
    let sides: [(&str, &str, Of); 3] = [
        ("in", "came to the stage", |row| row.input),
        ("copied", "were added by copying broadcasts", |row| row.copies),
        ("out", "left the stage towards the next", |row| row.output),
    ];
    for (side, what, of) in sides {
        let rows = || status.ledger.iter().map(|row| (stage(row), of(row)));
        let frames = rows().map(|(labels, amount)| (labels, amount.frames));
        page.counters(&format!("{side}_frames"), &format!("Frames that {what}"), None, frames)?;
        let segments = rows().map(|(labels, amount)| (labels, amount.segments));
        let help = format!("Frames on a wire that {what}");
        page.counters(&format!("{side}_segments"), &help, None, segments)?;
        let bytes = rows().map(|(labels, amount)| (labels, amount.bytes));
        let help = format!("Bytes of frames that {what}");
        page.counters(side, &help, Some(&Unit::Bytes), bytes)?;
    }
    let drops = || {
        status.ledger.iter().flat_map(|row| {
            row.drops.iter().map(|(reason, amount)| {
                let mut labels = stage(row);
                labels.push(label("reason", reason));
                (labels, *amount)
            })
        })
    };
    let frames = drops().map(|(labels, amount)| (labels, amount.frames));
    page.counters("dropped_frames", "Frames dropped, by stage and reason", None, frames)?;
    let bytes = drops().map(|(labels, amount)| (labels, amount.bytes));
    let help = "Bytes of frames dropped, by stage and reason";
    page.counters("dropped", help, Some(&Unit::Bytes), bytes)?;
    let open = status.ledger.iter().map(|row| (stage(row), row.open_frames as f64));
    page.gauges("open_frames", "Frames that are on their way in the stage", None, open)
}

/// What has a name and nothing else.
fn others(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    for (name, count) in &status.counters {
        let help = "An event, by its name in `wireonce status`";
        page.counters(&metric_name(name), help, None, [(vec![], *count)])?;
    }
    Ok(())
}

/// Only letters, digits and underscores make a name.
fn metric_name(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("event_{}", name.chars().map(legal).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use wireonce_ledger::{
        Account, DropReason, Stage,
        status::{
            FabricPortStatus, LinkGrayStatus, MemberStatus, NextHopStatus, OutsidePairStatus,
            UplinkStatus, VnicHomeStatus, VnicShareStatus, VnicStatus,
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
            fabric_port: Some(FabricPortStatus {
                up_bps: Some(100_000_000),
                told_bps: [("east-1".to_owned(), 30_000_000)].into(),
                ..FabricPortStatus::default()
            }),
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
                    limit_packets_per_s: Some(20_000),
                    packets_held: true,
                    port_rate_bps: Some(40_000_000),
                    port_held: true,
                    port_held_us: 9_000,
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
            "wireonce_vnic_packet_limit_packets_per_second{vnic=\"vm-a\"} 20000.0",
            "wireonce_vnic_packet_limit_held{vnic=\"vm-a\"} 1.0",
            "wireonce_fabric_port_capacity_bits_per_second{direction=\"up\"} 100000000.0",
            "wireonce_fabric_port_told_bits_per_second{uplink=\"east-1\"} 30000000.0",
            "wireonce_vnic_port_rate_bits_per_second{vnic=\"vm-a\"} 40000000.0",
            "wireonce_vnic_port_held{vnic=\"vm-a\"} 1.0",
            "wireonce_vnic_port_held_milliseconds_total{vnic=\"vm-a\"} 9",
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
        let page = render(&status());
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
}
