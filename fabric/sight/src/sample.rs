//! Reports for tests: the example house, whose daemons said something twice, a second apart.

use crate::view::View;
use std::{collections::BTreeMap, sync::Arc};
use wireonce_desired::{Grant, Host, House, Kind, Object, Uplink, read};
use wireonce_ledger::{
    Amount, DropReason, Stage, Status,
    report::{Arrival, HostReport, HostReports},
    status::{
        DownStatus, FabricPortStatus, LedgerRow, LinkGrayStatus, LinkState, LinkStatus,
        OutsidePairStatus, ShareStatus, UplinkStatus, VnicHomeStatus, VnicShareStatus, VnicState,
        VnicStatus,
    },
};

pub(crate) const MBIT: u64 = 1_000_000;
const HOUSE: &str = include_str!("../../../docs/examples/control/house.toml");
const SECOND_US: u64 = 1_000_000;

/// A house and what was heard of it.
pub(crate) struct Bed {
    pub(crate) house: House,
    pub(crate) reports: BTreeMap<String, HostReports>,
    pub(crate) tags: BTreeMap<String, String>,
    now_us: u64,
}

/// One daemon's two statuses.
#[derive(Debug, Clone, Default)]
pub(crate) struct Daemon {
    before: Status,
    now: Status,
    tag: Option<String>,
    refused: Option<String>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let house = read::toml(HOUSE).unwrap().into_iter().collect();
        let (reports, tags) = (BTreeMap::new(), BTreeMap::new());
        Self { house, reports, tags, now_us: 100 * SECOND_US }
    }

    pub(crate) fn view(&self) -> View<'_> {
        let Self { house, reports, tags, now_us } = self;
        View { house, reports, tags, now_us: *now_us }
    }

    pub(crate) fn wait_s(&mut self, seconds: u64) {
        self.now_us += seconds * SECOND_US;
    }

    /// Has vm-a, whose home is east-1.
    pub(crate) fn server_a(&mut self, change: impl FnOnce(Daemon) -> Daemon) {
        self.daemon("server-a", change(Daemon::server("server-a", &["vm-a"])));
    }

    /// Has vm-b, whose home is east-2, and vm-c.
    pub(crate) fn server_b(&mut self, change: impl FnOnce(Daemon) -> Daemon) {
        self.daemon("server-b", change(Daemon::server("server-b", &["vm-b", "vm-c"])));
    }

    /// Has east-1.
    pub(crate) fn gateway_a(&mut self, change: impl FnOnce(Daemon) -> Daemon) {
        self.daemon("gateway-a", change(Daemon::gateway("gateway-a", "east-1")));
    }

    /// Has east-2.
    pub(crate) fn gateway_b(&mut self, change: impl FnOnce(Daemon) -> Daemon) {
        self.daemon("gateway-b", change(Daemon::gateway("gateway-b", "east-2")));
    }

    pub(crate) fn grant(&mut self, name: &str, change: impl FnOnce(&mut Grant)) {
        let mut grant = self.house.grant(name).unwrap().clone();
        change(&mut grant);
        self.house.put(Object::Grant(grant));
    }

    pub(crate) fn host(&mut self, name: &str, change: impl FnOnce(&mut Host)) {
        let Some(Object::Server(host)) = self.house.get(Kind::Server, name) else {
            panic!("{name} is no server")
        };
        let mut host = host.clone();
        change(&mut host);
        self.house.put(Object::Server(host));
    }

    pub(crate) fn gateway_host(&mut self, name: &str, change: impl FnOnce(&mut Host)) {
        let Some(Object::Gateway(host)) = self.house.get(Kind::Gateway, name) else {
            panic!("{name} is no gateway")
        };
        let mut host = host.clone();
        change(&mut host);
        self.house.put(Object::Gateway(host));
    }

    pub(crate) fn uplink(&mut self, name: &str, change: impl FnOnce(&mut Uplink)) {
        let mut uplink = self.house.uplink(name).unwrap().clone();
        change(&mut uplink);
        self.house.put(Object::Uplink(uplink));
    }

    fn daemon(&mut self, name: &str, daemon: Daemon) {
        let Daemon { before, now, tag, refused } = daemon;
        let arrival = |at_us, status| {
            let (tag, refused) = (tag.clone(), refused.clone());
            let report = HostReport { tag, refused, certificate_until_s: None, status };
            Arrival { at_us, next_in_s: 1, report: Arc::new(report) }
        };
        let newest = arrival(self.now_us - SECOND_US / 10, now);
        let before = Some(arrival(self.now_us - SECOND_US * 11 / 10, before));
        self.reports.insert(name.to_owned(), HostReports { newest, before });
    }
}

impl Daemon {
    fn new(host: &str, role: &str) -> Self {
        let status = |sampled_at_us| Status {
            role: role.to_owned(),
            host: host.to_owned(),
            life: 7,
            sampled_at_us,
            ..Status::default()
        };
        let (before, now) = (status(10 * SECOND_US), status(11 * SECOND_US));
        Self { before, now, ..Self::default() }
    }

    fn server(host: &str, vnics: &[&str]) -> Self {
        let mut daemon = Self::new(host, "backend");
        daemon.each(|status| {
            let vnic = |name: &&str| VnicStatus {
                name: (*name).to_owned(),
                state: VnicState::Running,
                ..VnicStatus::default()
            };
            status.vnics = vnics.iter().map(vnic).collect();
        });
        daemon.link("gateway-a", LinkState::Up).link("gateway-b", LinkState::Up)
    }

    fn gateway(host: &str, uplink: &str) -> Self {
        let mut daemon = Self::new(host, "gateway");
        daemon.each(|status| {
            let name = uplink.to_owned();
            status.uplinks = vec![UplinkStatus { name, carrier: true, ..UplinkStatus::default() }];
        });
        daemon.link("server-a", LinkState::Up).link("server-b", LinkState::Up)
    }

    fn each(&mut self, change: impl Fn(&mut Status)) {
        change(&mut self.before);
        change(&mut self.now);
    }

    pub(crate) fn tag(self, tag: &str) -> Self {
        Self { tag: Some(tag.to_owned()), ..self }
    }

    pub(crate) fn refused(self, why: &str) -> Self {
        Self { refused: Some(why.to_owned()), ..self }
    }

    pub(crate) fn link(mut self, peer: &str, state: LinkState) -> Self {
        self.each(|status| {
            status.links.retain(|link| link.peer != peer);
            let peer = peer.to_owned();
            status.links.push(LinkStatus { peer, state, ..LinkStatus::default() });
        });
        self
    }

    /// Something is wrong with the link to a peer, though it is up.
    pub(crate) fn gray(mut self, peer: &str, gray: &LinkGrayStatus) -> Self {
        for link in self.now.links.iter_mut().filter(|link| link.peer == peer) {
            link.gray = Some(gray.clone());
        }
        self
    }

    /// In the last second so many datagrams went to a peer, and so many of them were lost.
    pub(crate) fn datagrams(mut self, peer: &str, sent: u64, lost: u64) -> Self {
        for link in self.now.links.iter_mut().filter(|link| link.peer == peer) {
            link.sent_datagrams += sent;
            link.sent_bytes += sent * 1_434;
            link.lost += lost;
        }
        self
    }

    /// In the last second so many frames of 1,500 bytes on the wire came to a stage, and so many
    /// of them were dropped.
    pub(crate) fn flow(
        mut self,
        name: &str,
        stage: Stage,
        frames: u64,
        drops: &[(DropReason, u64)],
    ) -> Self {
        let amount = |frames| Amount { frames, segments: frames, bytes: 1_476 * frames };
        for (status, is_now) in [(&mut self.before, false), (&mut self.now, true)] {
            let known = status.ledger.iter().position(|row| row.name == name && row.stage == stage);
            let at = known.unwrap_or_else(|| {
                let account = wireonce_ledger::Account::default();
                status.ledger.push(LedgerRow::new(name, 1, stage, &account));
                status.ledger.len() - 1
            });
            if !is_now {
                continue;
            }
            let row = &mut status.ledger[at];
            row.input += amount(frames);
            let dropped: u64 = drops.iter().map(|(_, frames)| frames).sum();
            row.output += amount(frames - dropped);
            for (reason, frames) in drops {
                *row.drops.entry(reason.name().to_owned()).or_default() += amount(*frames);
            }
            for vnic in status.vnics.iter_mut().filter(|vnic| vnic.name == name) {
                match stage {
                    Stage::GuestTx => vnic.tx += amount(frames),
                    Stage::GuestRx => vnic.rx += amount(frames - dropped),
                    _ => {}
                }
            }
        }
        self
    }

    fn first(&self) -> String {
        self.now.vnics[0].name.clone()
    }

    /// Its first vNIC sends so many wire bits a second to its home, and all arrive.
    pub(crate) fn sends(self, bps: u64) -> Self {
        let (name, frames) = (self.first(), bps / 12_000);
        self.flow(&name, Stage::GuestTx, frames, &[]).flow(&name, Stage::FabricTx, frames, &[])
    }

    /// Frames of the first vNIC that are dropped at a stage.
    pub(crate) fn drops(self, stage: Stage, reason: DropReason, frames: u64) -> Self {
        let name = self.first();
        self.flow(&name, stage, frames, &[(reason, frames)])
    }

    /// The same for a reason that we do not know.
    pub(crate) fn drops_for(mut self, stage: Stage, reason: &str, frames: u64) -> Self {
        let name = self.first();
        self = self.flow(&name, stage, frames, &[(DropReason::Storm, frames)]);
        for row in self.now.ledger.iter_mut().filter(|row| row.name == name && row.stage == stage) {
            if let Some(amount) = row.drops.remove(DropReason::Storm.name()) {
                row.drops.insert(reason.to_owned(), amount);
            }
        }
        self
    }

    /// A gateway's uplink brings in so many wire bits a second.
    pub(crate) fn brings(mut self, bps: u64) -> Self {
        let frames = bps / 12_000;
        self.now.uplinks[0].inward += Amount { frames, segments: frames, bytes: 1_476 * frames };
        self
    }

    /// Its first vNIC was held back for nine tenths of the last second; so much waits.
    pub(crate) fn held(self, rate_bps: u64, queued_bytes: u64) -> Self {
        self.shared(VnicShareStatus {
            rate_bps,
            demand_bps: None,
            held: true,
            held_us: 900_000,
            queued_bytes,
            served_bits: rate_bps,
            ..VnicShareStatus::default()
        })
    }

    /// Its first vNIC was held back by its limit in packets for nine tenths of the last second, and
    /// sent so many bits.
    pub(crate) fn at_packet_limit(self, packets_per_s: u32, served_bits: u64) -> Self {
        self.shared(VnicShareStatus {
            rate_bps: served_bits,
            demand_bps: Some(served_bits / 10 * 11),
            held: true,
            held_us: 900_000,
            queued_bytes: 64_000,
            served_bits,
            served_packets: packets_per_s.into(),
            limit_packets_per_s: Some(packets_per_s),
            packets_held: true,
            packets_held_us: 900_000,
            ..VnicShareStatus::default()
        })
    }

    /// Its first vNIC waited for its server's fabric port for nine tenths of the last second.
    pub(crate) fn at_port(self, sends_bps: u64) -> Self {
        self.shared(VnicShareStatus {
            rate_bps: 800 * MBIT,
            demand_bps: Some(sends_bps / 10 * 11),
            queued_bytes: 64_000,
            served_bits: sends_bps,
            port_rate_bps: Some(sends_bps),
            port_held: true,
            port_held_us: 900_000,
            ..VnicShareStatus::default()
        })
    }

    /// An uplink was told what it may send to this server, whose port receives no more.
    pub(crate) fn told(mut self, uplink: &str, bps: u64) -> Self {
        let told_bps = [(uplink.to_owned(), bps)].into();
        self.now.fabric_port = Some(FabricPortStatus { told_bps, ..FabricPortStatus::default() });
        self
    }

    pub(crate) fn shared(mut self, share: VnicShareStatus) -> Self {
        self.before.vnics[0].share = Some(VnicShareStatus::default());
        self.now.vnics[0].share = Some(share);
        self
    }

    /// From outside so much comes for a vNIC, which is what it may have; something of it waited for so
    /// many milliseconds of the last second, and waits now.
    pub(crate) fn comes(mut self, vnic: &str, rate_bps: u64, held_ms: u64) -> Self {
        let uplink = self.now.uplinks[0].name.clone();
        let is_held = held_ms > 0;
        self.each(|status| {
            status.down.retain(|it| it.vnic != vnic);
            let server = if vnic == "vm-a" { "server-a" } else { "server-b" }.to_owned();
            let (uplink, vnic) = (uplink.clone(), vnic.to_owned());
            status.down.push(DownStatus { uplink, server, vnic, ..DownStatus::default() });
        });
        for down in self.now.down.iter_mut().filter(|it| it.vnic == vnic) {
            *down = DownStatus {
                rate_bps,
                demand_bps: (!is_held).then_some(rate_bps / 10 * 11),
                held: is_held,
                held_us: held_ms * 1_000,
                queued_bytes: if is_held { 200_000 } else { 0 },
                served_bits: rate_bps,
                marked_frames: held_ms / 10,
                ..down.clone()
            };
        }
        self
    }

    /// How the daemon's uplink is joined with another outside.
    pub(crate) fn outside(mut self, other: &str, vlan: Option<u16>, state: &str) -> Self {
        let (uplink, other) = (self.now.uplinks[0].name.clone(), other.to_owned());
        let is_well = matches!(state, "joined" | "waiting" | "down" | "unknown");
        let look = (!is_well).then(|| "look at the switch ports".to_owned());
        let state = state.to_owned();
        self.now.outside.push(OutsidePairStatus { uplink, other, vlan, state, look });
        self
    }

    /// From outside something waits for a vNIC's limit in packets.
    pub(crate) fn down(mut self, vnic: &str, packets_per_s: u32) -> Self {
        self.now.down.push(DownStatus {
            uplink: self.now.uplinks[0].name.clone(),
            vnic: vnic.to_owned(),
            held: true,
            limit_packets_per_s: Some(packets_per_s),
            packets_held: true,
            ..DownStatus::default()
        });
        self
    }

    pub(crate) fn state(mut self, state: VnicState) -> Self {
        self.now.vnics[0].state = state;
        self
    }

    /// Its first vNIC uses this uplink, and why.
    pub(crate) fn at_home(mut self, now: &str, why: &str) -> Self {
        let (now, why) = (Some(now.to_owned()), why.to_owned());
        self.now.vnics[0].home =
            Some(VnicHomeStatus { now, why, swaps: 1, ..VnicHomeStatus::default() });
        self
    }

    pub(crate) fn health(mut self, health: &str, causes: &[&str]) -> Self {
        self.now.uplinks[0].health = health.to_owned();
        self.now.uplinks[0].causes = causes.iter().map(|cause| (*cause).to_owned()).collect();
        self
    }

    pub(crate) fn carrier(mut self, carrier: bool) -> Self {
        self.now.uplinks[0].carrier = carrier;
        self
    }

    /// A server has so much of an uplink, and sends so much through it.
    pub(crate) fn lease(
        mut self,
        uplink: &str,
        server: &str,
        lease_bps: u64,
        sends_bps: u64,
    ) -> Self {
        for (status, served_bits) in [(&mut self.before, 0), (&mut self.now, sends_bps)] {
            status.shares.push(ShareStatus {
                uplink: uplink.to_owned(),
                server: server.to_owned(),
                lease_bps: Some(lease_bps),
                served_bits,
                ..ShareStatus::default()
            });
        }
        self
    }

    /// A gateway's uplink carries so many wire bits a second of a vNIC to the outside.
    pub(crate) fn carries(mut self, vnic: &str, bps: u64) -> Self {
        let frames = bps / 12_000;
        self.now.uplinks[0].outward += Amount { frames, segments: frames, bytes: 1_476 * frames };
        self.flow(vnic, Stage::FabricRx, frames, &[]).flow(vnic, Stage::UplinkTx, frames, &[])
    }
}
