//! A thousand vNICs of one server that lose their home at the same time.

use crate::{
    Answer, Answers, CLAIMS_MAX, Claim, Claims, Epochs, Server, ServerOutput, State, StateReport,
    States, Timing, Verdict, Way, Wish,
};
use std::collections::BTreeSet;
use wireonce_wire::{UplinkId, VnicId};

const VNICS: u64 = 1_000;
const HOME: Way = Way { peer: 0, uplink: UplinkId(1) };
const STANDBY: Way = Way { peer: 1, uplink: UplinkId(2) };
const TERM: u64 = 1;
const LIFE: u64 = 1;

/// A server, and gateways that do as the test says.
struct Bed {
    server: Server,
    now_us: u64,
    /// Hellos of the home's gateway come.
    home_lives: bool,
}

impl Bed {
    /// All are at home.
    fn settled() -> Self {
        let mut server = Server::new(Timing::FAST, LIFE, Epochs::after(0, 1), 0);
        for id in (1..=VNICS).filter_map(VnicId::new) {
            server.wish(id, Wish { home: HOME, standbys: vec![STANDBY], fail_back_us: None });
        }
        for way in [HOME, STANDBY] {
            let records = vec![StateReport { uplink: way.uplink, state: State::Alive }];
            server.states(0, way.peer, &States { term: TERM, records });
        }
        let mut bed = Self { server, now_us: 0, home_lives: true };
        for _ in 0..100 {
            let said = bed.pass(Timing::FAST.hello_us);
            said.iter().for_each(|(peer, claims)| bed.answer(*peer, claims.records.clone()));
        }
        assert_eq!(bed.at(HOME), VNICS);
        bed
    }

    /// Lets so much time pass, and says what was said to whom.
    fn pass(&mut self, us: u64) -> Vec<(usize, Claims)> {
        let until_us = self.now_us + us;
        let mut said = Vec::new();
        while self.now_us < until_us {
            self.now_us += Timing::FAST.hello_us / 2;
            for way in [HOME, STANDBY].into_iter().skip(usize::from(!self.home_lives)) {
                self.server.hello(self.now_us, way.peer, Some(self.now_us - 1_000));
            }
            self.server.tick(self.now_us);
            while let Some(output) = self.server.poll_output() {
                if let ServerOutput::Send(peer, claims) = output {
                    said.push((peer, claims));
                }
            }
        }
        said
    }

    fn answer(&mut self, peer: usize, claims: Vec<Claim>) {
        let records = claims.into_iter().map(|claim| Answer { claim, verdict: Verdict::Taken });
        let answers = Answers { life: LIFE, term: TERM, records: records.collect() };
        self.server.answers(self.now_us, peer, &answers);
    }

    fn at(&self, way: Way) -> u64 {
        let at = |id| self.server.standing(id).and_then(|standing| standing.at);
        (1..=VNICS).filter_map(VnicId::new).map(|id| u64::from(at(id) == Some(way))).sum()
    }
}

fn records(said: &[(usize, Claims)]) -> Vec<Claim> {
    let to_standby = said.iter().filter(|(peer, _)| *peer == STANDBY.peer);
    to_standby.flat_map(|(_, claims)| claims.records.clone()).collect()
}

#[test]
fn all_are_claimed_at_once_and_those_of_an_answer_go_without_the_others() {
    let mut bed = Bed::settled();
    bed.home_lives = false;
    let said = records(&bed.pass(30_000));
    let claimed: BTreeSet<VnicId> = said.iter().map(|claim| claim.vnic).collect();
    assert_eq!(claimed.len() as u64, VNICS);
    bed.answer(STANDBY.peer, said[..CLAIMS_MAX].to_vec());
    assert_eq!((bed.at(STANDBY), bed.at(HOME)), (CLAIMS_MAX as u64, VNICS - CLAIMS_MAX as u64));
    bed.answer(STANDBY.peer, said);
    assert_eq!(bed.at(STANDBY), VNICS);
}

#[test]
fn a_gateway_that_is_busy_with_a_thousand_claims_does_not_get_them_again_each_hello() {
    let mut bed = Bed::settled();
    bed.home_lives = false;
    let mut said = records(&bed.pass(30_000)).len() as u64;
    said += records(&bed.pass(50_000)).len() as u64;
    // Ten hellos long: each hello would be ten times.
    assert!((2 * VNICS..=4 * VNICS).contains(&said), "{said}");
    // The few that are left are said again at once.
    let left = records(&bed.pass(25_000));
    bed.answer(STANDBY.peer, left.into_iter().filter(|claim| claim.vnic.get() > 5).collect());
    bed.pass(Timing::FAST.hello_us);
    let again = records(&bed.pass(20_000));
    assert!(again.len() >= 4 * 5, "{}", again.len());
}
