//! What a pool can carry, what is promised of it, and the rules between the two.
//!
//! ```text
//! capacity of the pool  >=  sum of the grants' reservations
//!                           grant of a server  >=  sum of its vNICs' reservations
//! ```
//! What a grant or policy reserves has to be there; shares and limits need no room.

use crate::{
    house::House,
    kind::Kind,
    object::{Direction, Grant, Object, Terms},
    rate::Rate,
    wrong::Wrong,
};
use std::collections::BTreeMap;
use wireonce_config::schema::LIMIT_MIN;
pub use wireonce_shares::terms::LIMIT_PACKETS_PER_S_MAX;
use wireonce_shares::terms::SHARES_MAX;

/// How much of an uplink's `up` may be promised, in hundredths.
pub const USABLE_UP_PERCENT: u64 = 99;
/// How much of an uplink's `down` may be promised, in hundredths: the gateway keeps
/// its queue in front of the wire's by sending less than the wire carries.
pub const USABLE_DOWN_PERCENT: u64 = 96;

/// What the uplinks of `pool` can carry together, as far as it may be promised.
#[must_use]
pub fn usable(house: &House, pool: &str, direction: Direction) -> Rate {
    let percent = match direction {
        Direction::Up => USABLE_UP_PERCENT,
        Direction::Down => USABLE_DOWN_PERCENT,
    };
    let members = house.uplinks().filter(|uplink| uplink.pool == pool);
    members.filter_map(|uplink| uplink.capacity(direction)).map(|rate| rate.percent(percent)).sum()
}

/// What the grants of `pool` reserve together.
#[must_use]
pub fn reserved(house: &House, pool: &str, direction: Direction) -> Rate {
    let grants = house.grants().filter(|grant| grant.pool == pool);
    grants.map(|grant| grant.reservation(direction)).sum()
}

/// What may be reserved in `pool` without asking.
#[must_use]
pub fn budget(house: &House, pool: &str, direction: Direction) -> Rate {
    house.budget(pool).map_or(Rate::ZERO, |budget| budget.rate(direction))
}

/// What the vNICs of each server reserve in each pool: of those whose home is there.
fn promised(house: &House, direction: Direction) -> BTreeMap<(&str, &str), Rate> {
    let mut sums: BTreeMap<(&str, &str), Rate> = BTreeMap::new();
    for vnic in house.vnics() {
        let home = vnic.home.as_deref().and_then(|home| house.uplink(home));
        let policy = vnic.policy.as_deref().and_then(|policy| house.policy(policy));
        if let Some((home, policy)) = home.zip(policy) {
            let sum = sums.entry((&home.pool, &vnic.host)).or_default();
            *sum = sum.saturating_add(policy.reservation(direction));
        }
    }
    sums
}

/// Checks one direction's terms by themselves.
pub(crate) fn check_terms(kind: Kind, title: &str, key: &str, terms: &Terms) -> Result<(), Wrong> {
    if let Some(shares) = terms.shares
        && !(1..=SHARES_MAX).contains(&shares)
    {
        let problem = format!("{shares} shares");
        let remedy = format!("give 1 to {SHARES_MAX}; 100 is usual");
        return Err(Wrong::new(title, problem, remedy).at(format!("{key}.shares")));
    }
    check_packets(kind, title, key, terms)?;
    let Some(limit) = terms.limit else { return Ok(()) };
    if limit.bps() < LIMIT_MIN.0 {
        let problem = format!("{limit} is less than a frame of full size needs");
        let remedy = format!("give at least {LIMIT_MIN}, or leave `limit` out for none");
        return Err(Wrong::new(title, problem, remedy).at(format!("{key}.limit")));
    }
    match terms.reservation {
        Some(reservation) if reservation > limit => {
            let problem = format!("{limit} is less than the reservation of {reservation}");
            let remedy = format!("give a limit of at least {reservation}, or reserve less");
            Err(Wrong::new(title, problem, remedy).at(format!("{key}.limit")))
        }
        _ => Ok(()),
    }
}

/// A limit in packets lets something through, and is a policy's.
fn check_packets(kind: Kind, title: &str, key: &str, terms: &Terms) -> Result<(), Wrong> {
    let Some(packets) = terms.limit_packets_per_s else { return Ok(()) };
    let refuse = |problem: String, remedy: &str| {
        Err(Wrong::new(title, problem, remedy).at(format!("{key}.limit_packets_per_s")))
    };
    if kind == Kind::Grant {
        let problem = "a grant has no limit in packets".to_owned();
        return refuse(problem, "give it in the policy of the server's vNICs");
    }
    if !(1..=LIMIT_PACKETS_PER_S_MAX).contains(&packets) {
        let problem = format!("{packets} packets a second are none, or more than any port carries");
        let remedy = format!("give 1 to {LIMIT_PACKETS_PER_S_MAX}, or leave it out for any number");
        return refuse(problem, &remedy);
    }
    Ok(())
}

/// Checks that what is promised is there.
///
/// # Errors
/// The first pool or server that is promised more than there is.
pub fn check(house: &House) -> Result<(), Wrong> {
    for direction in Direction::BOTH {
        for pool in house.names(Kind::Pool) {
            check_pool(house, pool, direction)?;
        }
        for ((pool, server), needed) in promised(house, direction) {
            let name = Grant::name_of(pool, server);
            let granted =
                house.grant(&name).map_or(Rate::ZERO, |grant| grant.reservation(direction));
            if needed > granted {
                let problem = format!(
                    "the policies of the server's vNICs promise {needed} in pool {pool:?}, and \
                     the server is granted {granted}"
                );
                let remedy = format!("grant at least {needed}, or promise less in the policies");
                let key = format!("{}.reservation", direction.word());
                return Err(Wrong::new(Kind::Grant.title(&name), problem, remedy).at(key));
            }
        }
    }
    Ok(())
}

fn check_pool(house: &House, pool: &str, direction: Direction) -> Result<(), Wrong> {
    let word = direction.word();
    let (usable, reserved) = (usable(house, pool, direction), reserved(house, pool, direction));
    let advice = if usable == Rate::ZERO {
        format!("give `{word}`, what they can carry, to the pool's uplinks first")
    } else {
        "reserve less, or add an uplink to the pool".to_owned()
    };
    if reserved > usable {
        let over = reserved.saturating_sub(usable);
        let problem = format!(
            "its grants reserve {reserved} {word}, {over} more than the {usable} that its uplinks \
             can be promised to carry"
        );
        return Err(Wrong::new(Kind::Pool.title(pool), problem, advice));
    }
    let budget = budget(house, pool, direction);
    if budget > usable {
        let problem = format!("{budget} is more than the {usable} that the pool's uplinks carry");
        let remedy = match usable {
            Rate::ZERO => advice,
            _ => format!("give at most {usable}, or add an uplink to the pool"),
        };
        return Err(Wrong::new(Kind::Budget.title(pool), problem, remedy).at(word));
    }
    Ok(())
}

/// The sums of one pool and direction, for tables and for those who decide.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PoolUse {
    /// The pool.
    pub pool: String,
    /// The direction.
    pub direction: Direction,
    /// What may be promised.
    pub usable: Rate,
    /// What may be promised without asking.
    pub budget: Rate,
    /// What is promised.
    pub reserved: Rate,
    /// By server.
    pub servers: BTreeMap<String, Rate>,
}

impl PoolUse {
    /// Of `pool`, as `house` says.
    #[must_use]
    pub fn of(house: &House, pool: &str, direction: Direction) -> Self {
        let grants = house.grants().filter(|grant| grant.pool == pool);
        Self {
            pool: pool.to_owned(),
            direction,
            usable: usable(house, pool, direction),
            budget: budget(house, pool, direction),
            reserved: reserved(house, pool, direction),
            servers: grants.map(|g| (g.server.clone(), g.reservation(direction))).collect(),
        }
    }
}

/// Terms of an object, each with its key.
pub(crate) fn terms_of(object: &Object) -> impl Iterator<Item = (&'static str, &Terms)> {
    let (up, down) = match object {
        Object::Policy(policy) => (&policy.up, &policy.down),
        Object::Grant(grant) => (&grant.up, &grant.down),
        _ => (&None, &None),
    };
    up.iter().map(|terms| ("up", terms)).chain(down.iter().map(|terms| ("down", terms)))
}
