//! A small house, and what everybody asks of it.

mod bad_input;
mod difference;
mod render;
mod rules;

use crate::{House, Object, Wrong, read, rules as house_rules};

/// Two servers, two gateways, one pool, two networks, terms for all.
pub(crate) const HOUSE: &str = include_str!("../../../../docs/examples/control/house.toml");

pub(crate) fn objects(text: &str) -> Vec<Object> {
    read::toml(text).unwrap()
}

pub(crate) fn house() -> House {
    objects(HOUSE).into_iter().collect()
}

/// The house with `from` replaced by `to` in its text, checked.
pub(crate) fn changed(from: &str, to: &str) -> Result<House, Wrong> {
    assert!(HOUSE.contains(from), "{from:?} is not in the house");
    let house: House = read::toml(&HOUSE.replacen(from, to, 1))?.into_iter().collect();
    house_rules::check(&house)?;
    Ok(house)
}

/// The error of the house with `from` replaced by `to`.
pub(crate) fn error(from: &str, to: &str) -> String {
    changed(from, to).map(|_| ()).unwrap_err().to_string()
}
