//! A thousand vNICs of one server that lose their home at the same time.

use crate::{
    Answer, Answers, CLAIMS_MAX, Claim, Claims, EPOCH_MAX, EPOCHS_RESERVED, Epochs, Server,
    ServerOutput, State, StateReport, States, Timing, Verdict, Way, Wish,
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
    home_term: u64,
    /// What the disk was given, and whether it takes it.
    blocks: Vec<u64>,
    disk_works: bool,
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
        let mut bed = Self {
            server,
            now_us: 0,
            home_lives: true,
            home_term: TERM,
            blocks: Vec::new(),
            disk_works: true,
        };
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
                match output {
                    ServerOutput::Send(peer, claims) => said.push((peer, claims)),
                    ServerOutput::Persist(end) => {
                        self.blocks.push(end);
                        self.server.persisted(self.now_us, self.disk_works);
                    }
                    ServerOutput::OutOfEpochs(id) => panic!("vNIC {id} has no epoch"),
                    ServerOutput::Use(..) => {}
                }
            }
        }
        said
    }

    fn answer(&mut self, peer: usize, claims: Vec<Claim>) {
        self.answer_with(peer, claims, Verdict::Taken);
    }

    fn answer_with(&mut self, peer: usize, claims: Vec<Claim>, verdict: Verdict) {
        let records = claims.into_iter().map(|claim| Answer { claim, verdict });
        let term = if peer == HOME.peer { self.home_term } else { TERM };
        let answers = Answers { life: LIFE, term, records: records.collect() };
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

/// The home's gateway answers each claim of one vNIC that it knows `lie`, again and again; then it dies.
fn lied_to(lie: impl Fn(u64) -> u64, disk_works: bool) -> Bed {
    let mut bed = Bed::settled();
    bed.disk_works = disk_works;
    for term in TERM + 1..TERM + 20 {
        // Another term: all are to be claimed again.
        bed.home_term = term;
        let records = vec![StateReport { uplink: HOME.uplink, state: State::Alive }];
        bed.server.states(bed.now_us, HOME.peer, &States { term, records });
        for _ in 0..200 {
            for (peer, claims) in bed.pass(Timing::FAST.hello_us) {
                let (lied, others): (Vec<_>, Vec<_>) = claims
                    .records
                    .into_iter()
                    .partition(|claim| peer == HOME.peer && claim.vnic.get() == 1);
                bed.answer(peer, others);
                let lied = lied.into_iter().map(|it| Claim { epoch: lie(it.epoch), ..it });
                bed.answer_with(peer, lied.collect(), Verdict::Stale);
            }
        }
    }
    bed.home_lives = false;
    bed
}

#[test]
fn a_gateway_that_lies_about_epochs_keeps_nobody_from_going_elsewhere() {
    let lies: [fn(u64) -> u64; 4] =
        [|_| EPOCHS_RESERVED - 1, |_| u64::MAX, |_| EPOCH_MAX - 1, |epoch| epoch + (1 << 31)];
    for (at, lie) in lies.into_iter().enumerate() {
        for disk_works in [true, false] {
            let mut bed = lied_to(lie, disk_works);
            for _ in 0..20 {
                let said = bed.pass(5_000);
                said.into_iter().for_each(|(peer, claims)| bed.answer(peer, claims.records));
            }
            assert_eq!(bed.at(STANDBY), VNICS, "lie {at}, the disk works: {disk_works}");
            // Once a second at most, and seldom if it fails.
            let most = bed.now_us / if disk_works { 1_000_000 } else { 10_000_000 } + 2;
            let blocks = bed.blocks.len() as u64;
            assert!((1..=most).contains(&blocks), "lie {at}: {blocks} of {most}");
        }
    }
}

#[test]
fn a_gateway_whose_epochs_a_server_forgot_is_caught_up_with() {
    // The file is gone, and the clock went back by a day.
    let known = 86_400_000_000;
    let mut bed = Bed::settled();
    bed.server.wish(
        VnicId::new(1).unwrap(),
        Wish { home: HOME, standbys: Vec::new(), fail_back_us: None },
    );
    let mut taken = None;
    for _ in 0..2_000 {
        for (peer, claims) in bed.pass(5_000) {
            for claim in claims.records {
                if claim.epoch > known {
                    taken = Some(claim.epoch);
                    bed.answer(peer, vec![claim]);
                } else {
                    bed.answer_with(peer, vec![Claim { epoch: known, ..claim }], Verdict::Stale);
                }
            }
        }
    }
    assert_eq!(taken, Some(known + 1));
    assert!(bed.server.standing(VnicId::new(1).unwrap()).is_some_and(|it| it.confirmed));
    assert_eq!(bed.blocks.len(), 2);
}
