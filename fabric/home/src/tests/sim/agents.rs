//! What the agents of hosts do in a step, and what becomes of what their machines say.

use super::{HELLO_US, House, Message};
use crate::{Answers, Claims, GatewayOutput, ServerOutput, States, Why};
use wireonce_wire::VnicId;

impl House {
    pub(super) fn run_server(&mut self, at: usize) {
        let now_us = self.now_us;
        let host = &mut self.servers[at];
        if now_us < host.agent_stalls_until_us || now_us < host.down_until_us {
            return;
        }
        let local_us = host.clock.at(now_us);
        for (gateway, message) in std::mem::take(&mut host.inbox) {
            let side = &mut self.servers[at].machine;
            match message {
                Message::Hello(number, heard) => {
                    let echoed_us = self.servers[at].links[gateway].take(number, heard);
                    self.servers[at].machine.server.hello(local_us, gateway, echoed_us);
                    // A server answers at once.
                    self.servers[at].links[gateway].next_us = now_us;
                }
                Message::Answers(answers) => {
                    side.server.answers(local_us, gateway, &answers);
                }
                Message::States(states) => side.server.states(local_us, gateway, &states),
                Message::Claims(_) | Message::Frame(_) => {}
            }
        }
        let host = &mut self.servers[at];
        if local_us >= host.next_tick_us {
            host.next_tick_us = host.machine.server.tick(local_us);
        }
        self.drain_server(at);
        for gateway in 0..self.gateways.len() {
            if now_us >= self.servers[at].links[gateway].next_us {
                self.servers[at].links[gateway].next_us = now_us + HELLO_US;
                let hello = self.servers[at].links[gateway].hello(local_us);
                self.send(true, at, gateway, hello);
            }
        }
    }

    pub(super) fn drain_server(&mut self, at: usize) {
        while let Some(output) = self.servers[at].machine.server.poll_output() {
            match output {
                ServerOutput::Send(gateway, claims) => {
                    let claims = Claims::parse(&claims.emit()).unwrap();
                    self.send(true, at, gateway, Message::Claims(claims));
                }
                ServerOutput::Use(id, way, why) => {
                    self.servers[at].machine.ways.insert(id, way);
                    let last = self.vnics[&id].swaps.last().map(|(_, gateway)| *gateway);
                    // A life may begin where the one before ended.
                    let stays = last == Some(way.peer);
                    let lost = matches!(why, Why::Start | Why::Silent | Why::Unheard);
                    let planned = stays || !lost;
                    let now_us = self.now_us;
                    self.log.push(format!(
                        "{now_us}: vNIC {id} goes to {} ({})",
                        way.peer,
                        why.name()
                    ));
                    let seen = self.vnics.get_mut(&id).unwrap();
                    seen.swaps.push((planned, way.peer));
                    if !lost {
                        seen.planned_us = self.now_us;
                    }
                }
                ServerOutput::Persist(end) => {
                    let done = !self.faults || self.random.one_in(2);
                    let host = &mut self.servers[at];
                    if done {
                        host.machine.written = end;
                    }
                    host.machine.server.persisted(host.clock.at(self.now_us), done);
                }
                ServerOutput::OutOfEpochs(id) => panic!("vNIC {id} has no epoch"),
            }
        }
        let ids: Vec<VnicId> = self.of(at).collect();
        for id in ids {
            let standing = self.servers[at].machine.server.standing(id);
            let epoch = standing.map_or(0, |it| it.epoch);
            let going = standing.and_then(|it| it.going).map(|way| way.peer);
            let seen = self.vnics.get_mut(&id).unwrap();
            if std::mem::replace(&mut seen.going, going) != going {
                let now_us = self.now_us;
                let swap = seen.swaps.len() - 1;
                seen.tried.extend(going.map(|gateway| (swap, gateway)));
                self.log.push(format!("{now_us}: vNIC {id} is about to go to {going:?}"));
            }
            // A target that was given up has the newest one, so only what is used counts.
            if epoch > 0 {
                let at = self.servers[at].machine.server.standing(id).unwrap();
                if at.going.is_none() && at.at.is_some() {
                    assert!(epoch >= seen.epoch, "seed {}: epoch fell", self.seed);
                    seen.epoch = epoch;
                }
            }
        }
    }

    pub(super) fn run_gateway(&mut self, at: usize) {
        let now_us = self.now_us;
        let host = &mut self.gateways[at];
        if now_us < host.down_until_us {
            return;
        }
        let local_us = host.clock.at(now_us);
        if now_us >= host.agent_stalls_until_us {
            for (server, message) in std::mem::take(&mut host.inbox) {
                match message {
                    Message::Hello(number, heard) => {
                        let echoed_us = self.gateways[at].links[server].take(number, heard);
                        if let Some(us) = echoed_us {
                            self.gateways[at].machine.gateway.echo(local_us, server, us);
                        }
                    }
                    Message::Claims(claims) => {
                        self.gateways[at].machine.gateway.claims(local_us, server, &claims);
                    }
                    _ => {}
                }
            }
            let host = &mut self.gateways[at];
            if local_us >= host.next_tick_us {
                host.next_tick_us =
                    host.machine.gateway.tick(local_us).min(local_us + 2 * HELLO_US);
            }
            self.drain_gateway(at);
            for server in 0..self.servers.len() {
                if now_us >= self.gateways[at].links[server].next_us {
                    self.gateways[at].links[server].next_us = now_us + HELLO_US;
                    let hello = self.gateways[at].links[server].hello(local_us);
                    self.send(false, server, at, hello);
                }
            }
        }
        if now_us >= self.gateways[at].worker_stalls_until_us {
            for frame in std::mem::take(&mut self.gateways[at].frames) {
                self.pass(at, frame);
            }
        }
    }

    pub(super) fn drain_gateway(&mut self, at: usize) {
        while let Some(output) = self.gateways[at].machine.gateway.poll_output() {
            match output {
                GatewayOutput::Show(id, uplink, word) => {
                    self.gateways[at].machine.words.insert((id, uplink), word);
                }
                GatewayOutput::Fence(server, until_us) => {
                    self.gateways[at].machine.fences.insert(server, until_us);
                }
                GatewayOutput::Answer(server, answers) => {
                    let answers = Answers::parse(&answers.emit()).unwrap();
                    self.send(false, server, at, Message::Answers(answers));
                }
                GatewayOutput::Tell(server, states) => {
                    let states = States::parse(&states.emit()).unwrap();
                    self.send(false, server, at, Message::States(states));
                }
                GatewayOutput::Announce(..) => {}
            }
        }
    }
}
