//! Faults, one at a time, and restarts.

use super::{FAULTS_END_US, House, Link, Message, ServerSide, host, uplink_of};
use crate::{Epochs, Server, State, StateReport};
use std::collections::BTreeMap;
use wireonce_wire::VnicId;

impl House {
    pub(super) fn trouble(&mut self) {
        let now_us = self.now_us;
        let servers = self.servers.len() as u64;
        let gateways = self.gateways.len() as u64;
        let server = usize::try_from(self.random.below(servers)).unwrap();
        let gateway = usize::try_from(self.random.below(gateways)).unwrap();
        match self.random.below(15) {
            0 => {
                let to_gateway = self.random.one_in(2);
                let until_us = now_us + self.random.below(400_000);
                self.cuts.insert((to_gateway, server, gateway), until_us.min(FAULTS_END_US));
            }
            1 => {
                let until_us = now_us + self.random.below(400_000);
                for to_gateway in [false, true] {
                    self.cuts.insert((to_gateway, server, gateway), until_us.min(FAULTS_END_US));
                }
            }
            2 | 3 => self.gateways[gateway].agent_stalls_until_us = self.stall(),
            4 => self.gateways[gateway].worker_stalls_until_us = self.stall(),
            5 => self.servers[server].agent_stalls_until_us = self.stall(),
            6 => self.servers[server].worker_stalls_until_us = self.stall(),
            7 => {
                let until_us = self.stall();
                self.gateways[gateway].agent_stalls_until_us = until_us;
                self.gateways[gateway].worker_stalls_until_us = until_us;
            }
            8 => self.restart_gateway(gateway),
            9 if self.random.one_in(2) => self.restart_server(server),
            10 => {
                let states = [State::Alive, State::Draining, State::Sick, State::Gone];
                let state = states[usize::try_from(self.random.below(4)).unwrap()];
                self.set_state(gateway, state);
            }
            11 => {
                let ids: Vec<VnicId> = self.of(server).collect();
                let id = ids[usize::try_from(self.random.below(ids.len() as u64)).unwrap()];
                self.homes.insert(id, gateway);
                (0..self.gateways.len()).for_each(|at| self.give_tables(at));
                self.wish_all(server);
            }
            // Three in ten lost, in one direction or both, of which the link tells soon, or never, or
            // only when it is over.
            12 | 13 => {
                let loss = if self.random.one_in(3) { 0 } else { 30 };
                for to_gateway in [false, true] {
                    if self.random.below(3) > 0 {
                        self.lossy.insert((to_gateway, server, gateway), loss);
                    }
                }
            }
            14 => {
                let gray = self.random.below(3) > 0;
                self.set_gray(server, gateway, gray);
            }
            _ => {}
        }
    }

    /// The server's link says of itself that it is gray, or is not.
    pub(in crate::tests) fn set_gray(&mut self, server: usize, gateway: usize, gray: bool) {
        let ids: Vec<VnicId> = self.of(server).collect();
        for id in ids {
            // Whatever moves for it is planned.
            self.vnics.get_mut(&id).unwrap().planned_us = self.now_us;
        }
        let host = &mut self.servers[server];
        host.machine.server.gray(host.clock.at(self.now_us), gateway, gray);
        self.drain_server(server);
    }

    fn stall(&mut self) -> u64 {
        self.now_us + 5_000 + self.random.below(45_000)
    }

    pub(in crate::tests) fn set_state(&mut self, gateway: usize, state: State) {
        // Whatever moves for it is planned.
        for seen in self.vnics.values_mut() {
            seen.planned_us = self.now_us;
        }
        let host = &mut self.gateways[gateway];
        host.machine.state = state;
        let report = StateReport { uplink: uplink_of(gateway), state };
        host.machine.gateway.states(host.clock.at(self.now_us), vec![report]);
        self.drain_gateway(gateway);
    }

    fn restart_gateway(&mut self, at: usize) {
        self.log.push(format!("{}: gateway {at} restarts", self.now_us));
        let clock = self.gateways[at].clock;
        let side = self.gateway_side(clock);
        let servers = self.servers.len();
        let life = self.gateways[at].life + 1;
        self.gateways[at] = host(&mut self.random, servers, side, clock);
        self.gateways[at].life = life;
        self.gateways[at].down_until_us = self.now_us + self.random.below(100_000);
        for server in 0..servers {
            self.servers[server].links[at] = Link { next_us: self.now_us, ..Link::default() };
            // Hellos of a session that is over do not open.
            self.servers[server].inbox.retain(|(gateway, _)| *gateway != at);
            self.servers[server].machine.server.session(at);
        }
        self.under_way.retain(|(_, to_gateway, _, gateway, message)| {
            *gateway != at || (*to_gateway && matches!(message, Message::Frame(_)))
        });
        self.give_tables(at);
    }

    fn restart_server(&mut self, at: usize) {
        self.log.push(format!("{}: server {at} restarts", self.now_us));
        let clock = self.servers[at].clock;
        let gateways = self.gateways.len();
        let down_us = self.random.below(100_000);
        // Its wall clock may have gone back.
        let epochs = Epochs::after(self.servers[at].machine.written, self.random.below(10_000));
        let life = self.servers[at].life + 1;
        // So may the number of its life, but no life has that of another.
        let claimed_life = 1_000 * life - if self.random.one_in(4) { 1_500 - life } else { 0 };
        let begins_us = clock.at(self.now_us + down_us);
        let side = ServerSide {
            server: Server::new(self.timing, claimed_life, epochs, begins_us),
            ways: BTreeMap::new(),
            written: epochs.end(),
        };
        self.servers[at] = host(&mut self.random, gateways, side, clock);
        self.servers[at].life = life;
        self.servers[at].down_until_us = self.now_us + down_us;
        for gateway in 0..gateways {
            self.gateways[gateway].links[at] = Link { next_us: self.now_us, ..Link::default() };
            self.gateways[gateway].inbox.retain(|(server, _)| *server != at);
        }
        self.under_way.retain(|(_, to_gateway, server, _, message)| {
            *server != at || (*to_gateway && matches!(message, Message::Frame(_)))
        });
        self.wish_all(at);
    }
}
