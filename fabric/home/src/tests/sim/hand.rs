//! For single steps: a house without faults but those that are made.

use super::{House, STEP_US};
use crate::{Standing, Timing, Wish};
use wireonce_wire::VnicId;

impl House {
    /// For single steps: no faults but those that are made.
    pub(in crate::tests) fn calm(seed: u64) -> Self {
        Self { faults: false, ..Self::with(seed, Timing::FAST) }
    }

    /// Lets time pass.
    pub(in crate::tests) fn pass_time(&mut self, us: u64) {
        let until_us = self.now_us + us;
        while self.now_us < until_us {
            self.step();
            self.now_us += STEP_US;
        }
    }

    /// So many in a hundred are lost on a link from now on, in both directions.
    pub(in crate::tests) fn set_loss(&mut self, server: usize, gateway: usize, percent: u64) {
        for to_gateway in [false, true] {
            self.lossy.insert((to_gateway, server, gateway), percent);
        }
    }

    pub(in crate::tests) fn first_vnic(&self) -> (VnicId, usize, usize) {
        let (id, seen) = self.vnics.first_key_value().unwrap();
        (*id, seen.server, self.homes[id])
    }

    pub(in crate::tests) fn at(&self, id: VnicId) -> Option<usize> {
        let server = self.vnics[&id].server;
        self.servers[server].machine.server.standing(id)?.at.map(|way| way.peer)
    }

    pub(in crate::tests) fn swaps(&self, id: VnicId) -> u64 {
        let server = self.vnics[&id].server;
        self.servers[server].machine.server.standing(id).map_or(0, |it| it.swaps)
    }

    pub(in crate::tests) fn standing(&self, id: VnicId) -> Standing {
        let server = self.vnics[&id].server;
        self.servers[server].machine.server.standing(id).unwrap()
    }

    /// The operator says so.
    pub(in crate::tests) fn go_home(&mut self, server: usize) {
        self.servers[server].machine.server.go_home();
    }

    pub(in crate::tests) fn frames(&self, id: VnicId) -> u64 {
        self.vnics[&id].frames
    }

    pub(in crate::tests) fn kill_gateway(&mut self, at: usize) {
        self.gateways[at].down_until_us = u64::MAX;
    }

    /// Cuts one direction or both, for ever.
    pub(in crate::tests) fn cut(&mut self, server: usize, gateway: usize, to_gateway: bool) {
        self.cuts.insert((to_gateway, server, gateway), u64::MAX);
    }

    pub(in crate::tests) fn count(&self) -> (usize, usize) {
        (self.servers.len(), self.gateways.len())
    }

    pub(in crate::tests) fn move_home(&mut self, id: VnicId, to: usize) {
        self.homes.insert(id, to);
        (0..self.gateways.len()).for_each(|at| self.give_tables(at));
        self.wish_all(self.vnics[&id].server);
    }

    /// All vNICs of a server are to be at one gateway and have no standbys any more; gateways that nobody
    /// needs are forgotten, now or later.
    pub(in crate::tests) fn move_all_without_standbys(&mut self, server: usize, to: usize) {
        let mine: Vec<VnicId> = self.of(server).collect();
        for id in mine {
            self.homes.insert(id, to);
            let (home, _) = self.ways(id);
            let wish = Wish { home, standbys: Vec::new(), fail_back_us: None };
            self.servers[server].machine.server.wish(id, wish);
        }
        (0..self.gateways.len()).for_each(|at| self.give_tables(at));
        self.forget(server);
    }

    /// Its home is to be fit for so long before it goes back there by itself.
    pub(in crate::tests) fn fail_back_after(&mut self, id: VnicId, us: u64) {
        let (home, standbys) = self.ways(id);
        let wish = Wish { home, standbys, fail_back_us: Some(us) };
        self.servers[self.vnics[&id].server].machine.server.wish(id, wish);
    }

    /// As a daemon does it; returns which ones are left.
    pub(in crate::tests) fn forget(&mut self, server: usize) -> Vec<usize> {
        let server = &mut self.servers[server].machine.server;
        let needed = server.needed();
        let all: Vec<usize> = server.gateways().collect();
        all.iter().filter(|at| !needed.contains(at)).for_each(|at| server.forget_gateway(*at));
        server.gateways().collect()
    }

    /// A gateway as a whole does nothing for a while.
    pub(in crate::tests) fn stop_hearing(&mut self, at: usize, us: u64) {
        let until_us = self.now_us + us;
        self.gateways[at].agent_stalls_until_us = until_us;
        self.gateways[at].worker_stalls_until_us = until_us;
    }

    /// One thread after the other stalls for `us`, about fifty a second, never two at a time.
    /// Returns how many.
    pub(in crate::tests) fn stall_somebody_until(&mut self, until_us: u64, us: u64) -> u64 {
        let mut stalls = 0;
        while self.now_us < until_us {
            let gap_us = us + self.random.below(30_000);
            self.pass_time(gap_us);
            let stalls_until_us = self.now_us + us;
            let server = usize::try_from(self.random.below(self.servers.len() as u64)).unwrap();
            let gateway = usize::try_from(self.random.below(self.gateways.len() as u64)).unwrap();
            let stalled = match self.random.below(4) {
                0 => &mut self.servers[server].agent_stalls_until_us,
                1 => &mut self.servers[server].worker_stalls_until_us,
                2 => &mut self.gateways[gateway].agent_stalls_until_us,
                _ => &mut self.gateways[gateway].worker_stalls_until_us,
            };
            *stalled = stalls_until_us;
            stalls += 1;
        }
        stalls
    }

    /// How often vNICs went elsewhere, all of them together.
    pub(in crate::tests) fn all_swaps(&self) -> u64 {
        self.vnics.keys().map(|id| self.swaps(*id)).sum()
    }

    pub(in crate::tests) fn stall_server(&mut self, at: usize, us: u64) {
        self.servers[at].agent_stalls_until_us = self.now_us + us;
    }
}
