//! Moves that satisfy more demand, each with its price.
//!
//! What a vNIC gets at its home is what [`fill()`] gives it there. The plan is made one move at a time,
//! always the one with which the most bandwidth more is used: by the vNIC itself at an uplink that has
//! it to spare, and by those that it leaves. Nobody at the new home gets less. A move that is not worth
//! it is not made ([`Limits`]), nor one with which a promise would not survive one loss.
//!
//! Whoever is short and is not helped by any move is in the plan too, with the reason.

use crate::{
    house::{GatewayIndex, House, Rates, UplinkIndex, VnicIndex},
    loads::Loads,
};
use std::cmp::Reverse;
use wireonce_shares::{Claim, fill};

/// At one uplink so many of those that are short most are looked at, and for each so many uplinks.
const LOOK_AT: usize = 8;

/// What makes a move worth it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Least gain of a move, in bits a second, both directions together.
    pub gain_min_bps: u64,
    /// Least gain, in percent of what the vNIC wants.
    pub gain_min_percent: u64,
    /// Most moves of one plan.
    pub moves_max: usize,
    /// What a frame's way through the fabric costs on both hosts: thousandths of a core for each
    /// Gbit/s.
    pub millicores_per_gbps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let (gain_min_bps, gain_min_percent) = (50_000_000, 10);
        Self { gain_min_bps, gain_min_percent, moves_max: 32, millicores_per_gbps: 120 }
    }
}

/// One move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Whose home.
    pub vnic: VnicIndex,
    /// Where it is.
    pub from: UplinkIndex,
    /// Where it goes.
    pub to: UplinkIndex,
    /// What the vNIC gets more.
    pub gain: Rates,
    /// What is used more by all together, in bits a second.
    pub gain_all_bps: u64,
    /// What crosses the fabric then and did not before.
    pub fabric: Rates,
    /// The processor time of that, in thousandths of a core, on both hosts.
    pub millicores: u64,
    /// Who the vNIC depends on then and did not before.
    pub depends_on: Option<GatewayIndex>,
}

/// Why a vNIC that is short is not helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Its server's own fabric port is full.
    ServerPort,
    /// No uplink of its pool has bandwidth to spare.
    Pool,
    /// It moved lately, or is not to be moved.
    Rests,
    /// Somewhere there is bandwidth, but a promise to somebody would not survive a loss.
    Promises,
    /// A move would gain too little.
    TooLittle,
}

/// Moves, in the order in which they are to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The moves.
    pub moves: Vec<Move>,
    /// What all vNICs get before, in bits a second.
    pub before_bps: u64,
    /// What they get after.
    pub after_bps: u64,
    /// Who is short by at least [`Limits::gain_min_bps`] and stays so, by how much, and why.
    pub held: Vec<(VnicIndex, Rates, Held)>,
}

/// Plans moves; see the module's documentation.
#[must_use]
pub fn rebalance(house: &House, limits: &Limits) -> Plan {
    let mut market = Market::new(house);
    let before_bps = market.total_bps();
    let mut moves = Vec::new();
    while moves.len() < limits.moves_max {
        let Some(best) = market.best_move(limits) else { break };
        market.make(&best);
        moves.push(best);
    }
    let held = market.held(limits);
    Plan { moves, before_bps, after_bps: market.total_bps(), held }
}

/// What moving one vNIC would bring, if it is worth it, nobody gets less and every promise survives.
#[must_use]
pub fn pays(house: &House, vnic: VnicIndex, to: UplinkIndex, limits: &Limits) -> Option<Move> {
    let from = house.vnics[vnic.0].home.filter(|from| *from != to)?;
    if !house.is_open_for(vnic, to) || house.uplink(to).pool != house.vnics[vnic.0].pool {
        return None;
    }
    let mut market = Market::new(house);
    let (_, short_bps) = market.starved(from);
    market.weigh(vnic, from, to, short_bps, limits)
}

/// Who is where and gets what, while moves are tried.
struct Market<'a> {
    house: &'a House,
    loads: Loads,
    home: Vec<Option<UplinkIndex>>,
    standby: Vec<Option<UplinkIndex>>,
    residents: Vec<Vec<VnicIndex>>,
    given: Vec<Rates>,
    uplink_free: Vec<Rates>,
    /// What crosses each server's fabric port, and each gateway's.
    server_used: Vec<Rates>,
    gateway_used: Vec<Rates>,
}

impl<'a> Market<'a> {
    fn new(house: &'a House) -> Self {
        let mut market = Self {
            house,
            loads: Loads::new(house),
            home: house.vnics.iter().map(|vnic| vnic.home).collect(),
            standby: house.vnics.iter().map(|vnic| vnic.standbys.first().copied()).collect(),
            residents: vec![Vec::new(); house.uplinks.len()],
            given: vec![Rates::default(); house.vnics.len()],
            uplink_free: house.uplinks.iter().map(|uplink| uplink.usable).collect(),
            server_used: vec![Rates::default(); house.servers.len()],
            gateway_used: vec![Rates::default(); house.gateways.len()],
        };
        for at in (0..house.vnics.len()).map(VnicIndex) {
            if let Some(home) = market.home[at.0] {
                market.loads.add(house, at, home, market.standby[at.0].as_slice());
                market.residents[home.0].push(at);
            }
        }
        for at in (0..house.uplinks.len()).map(UplinkIndex) {
            market.fill(at);
        }
        market
    }

    fn total_bps(&self) -> u64 {
        self.given.iter().map(|given| given.sum_bps()).sum()
    }

    fn short(&self, at: VnicIndex) -> Rates {
        self.house.vnics[at.0].wants.minus(self.given[at.0])
    }

    /// Divides an uplink among its residents, and books what of it crosses the fabric.
    fn fill(&mut self, at: UplinkIndex) {
        let house = self.house;
        for vnic in self.residents[at.0].clone() {
            self.take_back(vnic, at);
        }
        let usable =
            if house.uplink(at).alive { house.uplink(at).usable } else { Rates::default() };
        let up = self.divide(at, usable.up_bps, |rates| rates.up_bps);
        let down = self.divide(at, usable.down_bps, |rates| rates.down_bps);
        let mut free = usable;
        for ((vnic, up_bps), down_bps) in self.residents[at.0].iter().zip(up).zip(down) {
            let given = Rates { up_bps, down_bps };
            self.given[vnic.0] = given;
            free = free.minus(given);
            if house.is_remote(*vnic, at) {
                let (server, gateway) = (house.vnics[vnic.0].server.0, house.uplink(at).gateway.0);
                self.server_used[server] = self.server_used[server].plus(given);
                self.gateway_used[gateway] = self.gateway_used[gateway].plus(given);
            }
        }
        self.uplink_free[at.0] = free;
    }

    /// What the vNIC is given at its home is free again.
    fn take_back(&mut self, vnic: VnicIndex, home: UplinkIndex) -> Rates {
        let given = std::mem::take(&mut self.given[vnic.0]);
        if self.house.is_remote(vnic, home) {
            let server = self.house.vnics[vnic.0].server.0;
            let gateway = self.house.uplink(home).gateway.0;
            self.server_used[server] = self.server_used[server].minus(given);
            self.gateway_used[gateway] = self.gateway_used[gateway].minus(given);
        }
        given
    }

    fn divide(&self, at: UplinkIndex, capacity_bps: u64, of: fn(Rates) -> u64) -> Vec<u64> {
        let claim = |vnic: &VnicIndex| {
            let vnic = &self.house.vnics[vnic.0];
            let ceiling_bps = of(vnic.wants);
            let floor_bps = of(vnic.needs).min(ceiling_bps);
            Claim { floor_bps, weight: vnic.shares, ceiling_bps }
        };
        let claims: Vec<_> = self.residents[at.0].iter().map(claim).collect();
        let mut given = Vec::new();
        fill(capacity_bps, &claims, &mut given);
        given
    }

    fn best_move(&mut self, limits: &Limits) -> Option<Move> {
        let mut best: Option<Move> = None;
        for from in (0..self.house.uplinks.len()).map(UplinkIndex) {
            let (starved, short_bps) = self.starved(from);
            for at in starved {
                for to in self.targets(at, from) {
                    let Some(it) = self.weigh(at, from, to, short_bps, limits) else { continue };
                    if best.is_none_or(|best| it.rank() > best.rank()) {
                        best = Some(it);
                    }
                }
            }
        }
        best
    }

    /// Those of an uplink that are short most and may move, and by how much all of them are short.
    fn starved(&self, from: UplinkIndex) -> (Vec<VnicIndex>, u64) {
        let short_bps = |at: &VnicIndex| self.short(*at).sum_bps();
        let residents = self.residents[from.0].iter().copied();
        let movable = |at: &VnicIndex| short_bps(at) > 0 && self.house.vnics[at.0].may_move;
        let mut starved: Vec<_> = residents.filter(movable).collect();
        starved.sort_by_key(|at| (Reverse(short_bps(at)), *at));
        starved.truncate(LOOK_AT);
        (starved, self.residents[from.0].iter().map(short_bps).sum())
    }

    /// The pool's other uplinks, those with the most to spare first.
    fn targets(&self, at: VnicIndex, from: UplinkIndex) -> Vec<UplinkIndex> {
        let pool = self.house.vnics[at.0].pool;
        let mut targets: Vec<_> = (0..self.house.uplinks.len())
            .map(UplinkIndex)
            .filter(|to| *to != from && self.house.uplink(*to).pool == pool)
            .filter(|to| self.house.is_open_for(at, *to))
            .collect();
        targets.sort_by_key(|to| (Reverse(self.uplink_free[to.0].sum_bps()), *to));
        targets.truncate(LOOK_AT);
        targets
    }

    /// What it would get there without taking from anybody.
    fn spare_at(&self, at: VnicIndex, from: UplinkIndex, to: UplinkIndex) -> Rates {
        let mut spare = self.uplink_free[to.0];
        if self.house.is_remote(at, to) {
            // What it uses of its server's port now, it does not use then.
            let own =
                if self.house.is_remote(at, from) { self.given[at.0] } else { Rates::default() };
            let server = self.house.vnics[at.0].server.0;
            let server = self.house.servers[server].port.minus(self.server_used[server]).plus(own);
            let gateway = self.house.uplink(to).gateway.0;
            let gateway = self.house.gateways[gateway].port.minus(self.gateway_used[gateway]);
            spare = spare.min(server).min(gateway);
        }
        spare
    }

    fn weigh(
        &mut self,
        at: VnicIndex,
        from: UplinkIndex,
        to: UplinkIndex,
        all_short_bps: u64,
        limits: &Limits,
    ) -> Option<Move> {
        let vnic = &self.house.vnics[at.0];
        let given = self.given[at.0];
        let then = vnic.wants.min(self.spare_at(at, from, to));
        // Better in one direction and worse in the other is for an operator to decide.
        if !given.within(then) {
            return None;
        }
        let gain = then.minus(given);
        let freed_bps = given.sum_bps().min(all_short_bps - self.short(at).sum_bps());
        let worth = gain.sum_bps() >= limits.gain_min_bps
            && u128::from(gain.sum_bps()) * 100
                >= u128::from(vnic.wants.sum_bps()) * u128::from(limits.gain_min_percent);
        if !worth || !self.keeps_promises(at, from, to) {
            return None;
        }
        let crosses = |uplink, rates| {
            if self.house.is_remote(at, uplink) { rates } else { Rates::default() }
        };
        let fabric = crosses(to, then).minus(crosses(from, given));
        let millicores = fabric.sum_bps() / 1_000_000 * limits.millicores_per_gbps / 1_000;
        let gateway = self.house.uplink(to).gateway;
        let new = self.house.is_remote(at, to) && self.house.uplink(from).gateway != gateway;
        let gain_all_bps = gain.sum_bps().saturating_add(freed_bps);
        let depends_on = new.then_some(gateway);
        Some(Move { vnic: at, from, to, gain, gain_all_bps, fabric, millicores, depends_on })
    }

    /// Whether everything that was promised still survives one loss after the move.
    fn keeps_promises(&mut self, at: VnicIndex, from: UplinkIndex, to: UplinkIndex) -> bool {
        if self.house.vnics[at.0].needs == Rates::default() {
            return true;
        }
        let standby = self.standby[at.0];
        self.loads.remove(self.house, at, from, standby.as_slice());
        let keeps =
            self.loads.fits_home(self.house, at, to) && self.standby_for(at, from, to).is_some();
        self.loads.add(self.house, at, from, standby.as_slice());
        keeps
    }

    /// Who stands by after the move: whoever does so now, or the home that it leaves.
    fn standby_for(
        &self,
        at: VnicIndex,
        from: UplinkIndex,
        to: UplinkIndex,
    ) -> Option<UplinkIndex> {
        let candidates = self.house.vnics[at.0].standbys.iter().copied().chain([from]);
        let mut apart =
            candidates.filter(|it| self.house.is_apart(*it, to) && self.house.is_open_for(at, *it));
        apart.find(|it| self.loads.fits_standby(self.house, at, to, *it))
    }

    fn make(&mut self, it: &Move) {
        let (at, from, to) = (it.vnic, it.from, it.to);
        self.loads.remove(self.house, at, from, self.standby[at.0].as_slice());
        let standby = self.standby_for(at, from, to);
        self.loads.add(self.house, at, to, standby.as_slice());
        (self.home[at.0], self.standby[at.0]) = (Some(to), standby);
        self.take_back(at, from);
        self.residents[from.0].retain(|other| *other != at);
        self.residents[to.0].push(at);
        self.fill(from);
        self.fill(to);
    }

    fn held(&mut self, limits: &Limits) -> Vec<(VnicIndex, Rates, Held)> {
        let mut held = Vec::new();
        for at in (0..self.house.vnics.len()).map(VnicIndex) {
            let short = self.short(at);
            if short.sum_bps() < limits.gain_min_bps {
                continue;
            }
            if let Some(home) = self.home[at.0] {
                held.push((at, short, self.why_held(at, home, limits)));
            }
        }
        held
    }

    fn why_held(&mut self, at: VnicIndex, home: UplinkIndex, limits: &Limits) -> Held {
        let (given, short) = (self.given[at.0], self.short(at));
        let enough = |spare: Rates| spare.minus(given).min(short).sum_bps() >= limits.gain_min_bps;
        let mut targets = self.targets(at, home);
        targets.retain(|to| enough(self.uplink_free[to.0]));
        if targets.is_empty() {
            return Held::Pool;
        }
        targets.retain(|to| enough(self.spare_at(at, home, *to)));
        if targets.is_empty() {
            return Held::ServerPort;
        }
        if !self.house.vnics[at.0].may_move {
            return Held::Rests;
        }
        targets.retain(|to| self.keeps_promises(at, home, *to));
        if targets.is_empty() { Held::Promises } else { Held::TooLittle }
    }
}

impl Move {
    fn rank(&self) -> (u64, Reverse<u64>, Reverse<VnicIndex>, Reverse<UplinkIndex>) {
        let price = Reverse(self.millicores);
        (self.gain_all_bps, price, Reverse(self.vnic), Reverse(self.to))
    }
}

#[cfg(test)]
mod tests;
