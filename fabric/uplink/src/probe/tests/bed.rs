//! Two gateways with one uplink each, an outside between them that can be cut, and a fabric.

use crate::{
    health::Health,
    probe::{
        desk::{Desk, Emission, Line},
        gate::{Designated, Gate},
        keys::{Keys, own_mac},
        verdict::Verdict,
        view::{OtherView, OwnView, PoolView},
    },
};
use std::sync::{Arc, mpsc};
use wireonce_config::NextHop;
use wireonce_frame::MacAddr;
use wireonce_frame::build::{Binding, arp_reply};
use wireonce_link::{PeerId, StaticKey};
use wireonce_wire::UplinkId;

pub(super) const SECOND_US: u64 = 1_000_000;
pub(super) const UP_A: UplinkId = UplinkId(1);
pub(super) const UP_B: UplinkId = UplinkId(2);
const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 99]);

pub(super) struct Gateway {
    pub(super) desk: Desk,
    pub(super) health: Health,
    pub(super) gate: Arc<Gate>,
    key: StaticKey,
    view: PoolView,
    lines: Vec<Line>,
}

pub(super) struct Bed {
    pub(super) gateways: Vec<Gateway>,
    pub(super) now_us: u64,
    /// Whether the outside loses a frame: from, to, VLAN.
    pub(super) cut: fn(usize, usize, Option<u16>) -> bool,
    /// The gateways have a session.
    pub(super) fabric: bool,
    /// Every port gets its own broadcasts back.
    pub(super) reflects: bool,
    /// So often a frame arrives.
    pub(super) copies: usize,
    /// The next hop answers.
    pub(super) router: bool,
    /// What went over the outside, by whom.
    pub(super) recorded: Vec<(usize, Emission)>,
    sent: usize,
}

impl Bed {
    /// The pool has an untagged network and one on VLAN 20.
    pub(super) fn new() -> Self {
        Self::build(&[None, Some(20)], None)
    }

    pub(super) fn with_next_hop() -> Self {
        let hop = NextHop { address: "192.0.2.1".parse().unwrap(), vlan: Some(20) };
        Self::build(&[None, Some(20)], Some(hop))
    }

    pub(super) fn with_vlans(vlans: u16) -> Self {
        let vlans: Vec<_> = (1..=vlans).map(Some).collect();
        Self::build(&vlans, None)
    }

    fn build(vlans: &[Option<u16>], next_hop: Option<NextHop>) -> Self {
        let keys = [(); 2].map(|()| StaticKey::generate().unwrap());
        let gateway = |own: usize| {
            let (id, other) = [(UP_A, UP_B), (UP_B, UP_A)][own];
            let view = PoolView {
                name: "outside".to_owned(),
                configured: UP_A,
                vlans: vlans.to_vec(),
                own: vec![OwnView {
                    id,
                    name: format!("up-{own}"),
                    interface: "eth1".to_owned(),
                    probes: true,
                    next_hop: next_hop.filter(|_| own == 0),
                }],
                others: vec![OtherView {
                    id: other,
                    name: format!("up-{}", 1 - own),
                    probes: true,
                    gateway: keys[1 - own].public(),
                    peer: Some(PeerId(0)),
                }],
                keys: Keys::new(&keys[own], [keys[1 - own].public()]),
            };
            Gateway::new(keys[own].clone(), view, 100, SECOND_US)
        };
        Self {
            gateways: vec![gateway(0), gateway(1)],
            now_us: SECOND_US,
            cut: |_, _, _| false,
            fabric: true,
            reflects: false,
            copies: 1,
            router: false,
            recorded: Vec::new(),
            sent: 0,
        }
    }

    pub(super) fn seconds(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now_us += SECOND_US;
            self.exchange();
        }
    }

    /// Each desk has its turn, and hears what the others say, until nobody has more to say.
    pub(super) fn exchange(&mut self) {
        for _ in 0..3 {
            for at in 0..self.gateways.len() {
                self.turn(at);
            }
        }
    }

    fn turn(&mut self, from: usize) {
        let now_us = self.now_us;
        let desk = &mut self.gateways[from].desk;
        if desk.next_due_us().is_none_or(|due_us| due_us > now_us) {
            return;
        }
        desk.tick(now_us);
        let output = desk.take_output();
        self.gateways[from].lines.extend(output.lines);
        for emission in output.frames {
            self.carry(from, emission);
        }
        for (_, message) in output.messages.into_iter().filter(|_| self.fabric) {
            if let Some(to) = self.gateways.get_mut(1 - from) {
                to.desk.news(PeerId(0), &message, now_us);
            }
        }
    }

    fn carry(&mut self, from: usize, emission: Emission) {
        let (now_us, vlan) = (self.now_us, emission.vlan);
        if emission.frame[12..14] != [0x88, 0xb5] {
            if self.router {
                let asker = MacAddr::from_slice(&emission.frame[6..]).unwrap();
                let asker = Binding { ip: "0.0.0.0".parse().unwrap(), mac: asker };
                let router = Binding { ip: "192.0.2.1".parse().unwrap(), mac: ROUTER };
                let reply = arp_reply(router, asker);
                self.gateways[from].desk.answer(emission.uplink, vlan, &reply, now_us);
            }
            return;
        }
        self.sent += 1;
        for (to, gateway) in self.gateways.iter_mut().enumerate() {
            let arrives = if to == from { self.reflects } else { !(self.cut)(from, to, vlan) };
            for _ in 0..if arrives { self.copies } else { 0 } {
                gateway.desk.probe([UP_A, UP_B][to], vlan, &emission.frame, now_us);
            }
        }
        self.recorded.push((from, emission));
    }

    pub(super) fn carrier(&mut self, gateway: usize, carrier: bool) {
        let now_us = self.now_us;
        self.gateways[gateway].desk.carrier([UP_A, UP_B][gateway], carrier, now_us);
    }

    /// The gateway's process begins anew.
    pub(super) fn restart(&mut self, gateway: usize, life: u64) {
        let Gateway { key, view, .. } = &self.gateways[gateway];
        self.gateways[gateway] = Gateway::new(key.clone(), view.clone(), life, self.now_us);
    }

    pub(super) fn reconfigure(&mut self, gateway: usize) {
        let now_us = self.now_us;
        let Gateway { desk, view, gate, .. } = &mut self.gateways[gateway];
        desk.change(vec![view.clone()], |_| Some(Arc::clone(gate)), now_us);
    }

    pub(super) fn switch_off(&mut self, gateway: usize) {
        self.gateways[gateway].view.own[0].probes = false;
        self.reconfigure(gateway);
    }

    pub(super) fn without_others(&mut self, gateway: usize) {
        self.gateways[gateway].view.others.clear();
        self.reconfigure(gateway);
    }

    /// Probes since the last call.
    pub(super) fn sent_since_last(&mut self) -> usize {
        std::mem::take(&mut self.sent)
    }

    pub(super) fn verdicts(&self, gateway: usize) -> Vec<Verdict> {
        self.gateways[gateway].desk.pools[0].verdicts.values().copied().collect()
    }

    pub(super) fn designated(&self, gateway: usize) -> UplinkId {
        self.gateways[gateway].gate.designated().get()
    }

    /// What was logged.
    pub(super) fn lines(&self, gateway: usize) -> Vec<Line> {
        self.gateways[gateway].lines.clone()
    }
}

impl Gateway {
    fn new(key: StaticKey, view: PoolView, life: u64, now_us: u64) -> Self {
        let id = view.own[0].id;
        let health = Health::default();
        let designated = Arc::new(Designated::new("outside", UP_A));
        let (events, _) = mpsc::sync_channel(1);
        let mac = own_mac(&key, id.0);
        let gate = Arc::new(Gate::new(id, designated, mac, events, Arc::default(), 100));
        let mut desk = Desk::new(life, health.clone());
        desk.change(vec![view.clone()], |_| Some(Arc::clone(&gate)), now_us);
        desk.carrier(id, true, now_us);
        Self { desk, health, gate, key, view, lines: Vec::new() }
    }
}
