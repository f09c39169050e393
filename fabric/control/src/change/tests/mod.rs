//! Changes on a small house, and what may never be.

mod auto;
mod gates;
mod large;
mod placing;
mod properties;
mod requests;
mod survival;
mod timed;

use crate::{
    Controller,
    caller::{Caller, Role},
    change::{Answer, Change, Edit, Move},
    refusal::Refusal,
    store::RedbStore,
};
use std::sync::Arc;
use wireonce_desired::{Direction, Kind, Moment, Object, Rate, read};

/// The house of `fabric/desired`: pool east of 2 Gbit, budget 1,500 Mbit up; server-a
/// has 600 Mbit, server-b 400 Mbit.
pub(crate) const HOUSE: &str = include_str!("../../../../../docs/examples/control/house.toml");

pub(crate) const NOW: Moment = Moment(1_000_000);

pub(crate) fn admin() -> Caller {
    Caller::new("root", Role::Admin)
}

pub(crate) fn network() -> Caller {
    Caller::new("nina", Role::Network)
}

pub(crate) fn virtualisation() -> Caller {
    Caller::new("vera", Role::Virtualisation)
}

pub(crate) fn empty() -> Controller {
    Controller::new(Arc::new(RedbStore::in_memory().unwrap())).unwrap()
}

pub(crate) fn controller() -> Controller {
    let controller = empty();
    let change = Change::put_all(read::toml(HOUSE).unwrap());
    let answer = controller.change(&admin(), &change, false, NOW).unwrap();
    assert!(matches!(answer, Answer::Applied { .. }));
    controller
}

pub(crate) fn apply(
    controller: &Controller,
    caller: &Caller,
    text: &str,
) -> Result<Answer, Refusal> {
    let change = Change::put_all(read::toml(text).unwrap());
    controller.change(caller, &change, false, NOW)
}

pub(crate) fn grant_text(server: &str, reservation: &str) -> String {
    format!(
        "[[grant]]\npool = \"east\"\nserver = \"{server}\"\nup = {{ reservation = \
         \"{reservation}\" }}\n"
    )
}

pub(crate) fn shift(from: &str, to: &str, rate: &str, until: Option<Moment>) -> Change {
    Change::one(Edit::Move(Move {
        pool: "east".to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        rate: rate.parse().unwrap(),
        directions: vec![Direction::Up],
        until,
    }))
}

pub(crate) fn reserved(controller: &Controller, server: &str) -> String {
    let state = controller.state().unwrap();
    let grant = state.house.grant(&format!("east/{server}"));
    grant.map_or(Rate::ZERO, |grant| grant.reservation(Direction::Up)).to_string()
}

pub(crate) fn object(controller: &Controller, kind: Kind, name: &str) -> Object {
    controller.state().unwrap().house.get(kind, name).unwrap().clone()
}
