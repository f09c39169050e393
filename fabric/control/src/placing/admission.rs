//! The fourth gate: with a change, is there room for what vNICs are promised, whatever one thing is lost?
//!
//! What is judged has no grants in it, and only grants end by themselves: so one look is enough for
//! now and for after each end that is still to come. What was broken before refuses only what makes
//! it worse.

use super::{
    Numbered, Sight,
    homes::resource,
    words::{show, show_as},
};
use crate::{
    change::{Allowed, State},
    refusal::{Gate, Refusal},
};
use std::collections::HashMap;
use wireonce_desired::{Difference, Host, House, Kind, Object, ObjectDifference, Uplink};
use wireonce_placement::{
    Breach, Loads, Loss, PoolId, Rates, Resource, UplinkIndex, VnicIndex, breaches,
};

/// Checks the house that a change would make.
///
/// # Errors
/// The first promise that it would break.
pub(crate) fn admit(state: &State, house: &House, difference: &Difference) -> Allowed<()> {
    if !difference.objects.iter().any(matters) {
        return Ok(());
    }
    let sight = Sight::default();
    let after = Numbered::of(house, &sight);
    let mut found = breaches(&after.house);
    found.retain(|breach| !matches!(breach, Breach::Alone { avoidable: false, .. }));
    if found.is_empty() {
        return Ok(());
    }
    let old = reopened(&state.house, house);
    let before = Numbered::of(&old, &sight);
    let broken: HashMap<Key, Rates> =
        breaches(&before.house).iter().map(|breach| key(&before, breach)).collect();
    let worse = found.iter().find(|breach| {
        let (key, size) = key(&after, breach);
        broken.get(&key).is_none_or(|old| !size.within(*old))
    });
    worse.map_or(Ok(()), |breach| Err(refusal(&after, breach)))
}

/// The house before, with what is open only now: who takes vNICs again, or is new, breaks nothing,
/// whatever he finds broken.
fn reopened(before: &House, after: &House) -> House {
    let mut house = before.clone();
    for object in after.of(Kind::Gateway).chain(after.of(Kind::Uplink)) {
        match (before.get(object.kind(), &object.name()), object) {
            (None, new) => drop(house.put(new.clone())),
            (Some(Object::Uplink(old)), Object::Uplink(new)) => {
                let draining = old.draining && new.draining;
                house.put(Object::Uplink(Uplink { draining, ..old.clone() }));
            }
            (Some(Object::Gateway(old)), Object::Gateway(new)) => {
                let draining = old.draining && new.draining;
                house.put(Object::Gateway(Host { draining, ..old.clone() }));
            }
            _ => {}
        }
    }
    house
}

/// Whether admission depends on what differs.
fn matters(object: &ObjectDifference) -> bool {
    let fields: &[&str] = match object.kind {
        Kind::Server | Kind::Gateway => &["name", "machine", "port_up", "port_down", "draining"],
        Kind::Uplink => &["name", "host", "pool", "up", "down", "draining"],
        Kind::Network => &["name", "pool"],
        Kind::Policy => &["name", "up.reservation", "down.reservation"],
        Kind::Vnic => &["name", "host", "network", "home", "standbys", "policy"],
        Kind::Pool | Kind::Budget | Kind::Grant => &[],
    };
    object.fields.iter().any(|it| fields.contains(&it.field.as_str()))
}

/// What a breach is about, by name, so that those of two houses can be compared.
type Key = (String, Option<String>);

/// And by how much it is over.
fn key(known: &Numbered<'_>, breach: &Breach) -> (Key, Rates) {
    match breach {
        Breach::Over { of, lost, promised, capacity, .. } => {
            let lost = lost.map(|lost| loss(known, lost));
            ((resource(known, *of), lost), promised.minus(*capacity))
        }
        Breach::Alone { vnic, lost, .. } => {
            let kind = if matches!(lost, Loss::Uplink(_)) { "uplink" } else { "gateway" };
            ((Kind::Vnic.title(name(known, *vnic)), Some(kind.to_owned())), Rates::default())
        }
    }
}

fn loss(known: &Numbered<'_>, lost: Loss) -> String {
    match lost {
        Loss::Uplink(at) => format!("uplink {:?}", known.name(at)),
        Loss::Gateway(at) => format!("gateway {:?}", known.house.gateways[at.0].name),
    }
}

fn name<'k>(known: &'k Numbered<'_>, vnic: VnicIndex) -> &'k str {
    &known.house.vnics[vnic.0].name
}

fn refusal(known: &Numbered<'_>, breach: &Breach) -> Refusal {
    let remedy =
        "lower a reservation (the role `virtualisation` can), or add an uplink or capacity";
    let (title, problem) = match breach {
        Breach::Over { of, lost, promised, capacity, largest } => {
            let over = promised.minus(*capacity);
            let vnic = &known.house.vnics[largest.0];
            let when = lost
                .map_or("it".to_owned(), |lost| format!("if {} is lost, it", loss(known, lost)));
            let problem = format!(
                "{when} would have to carry {} that are promised, and can be promised {}; the most of \
                 it is {} to vNIC {:?}{}",
                show_as(*promised, over),
                show_as(*capacity, over),
                show(vnic.needs),
                vnic.name,
                most_room(known, vnic.pool, over),
            );
            (resource_title(known, *of), problem)
        }
        Breach::Alone { vnic, lost, .. } => {
            let it = &known.house.vnics[vnic.0];
            let problem = format!(
                "is promised {}, and if {} is lost it has no standby{}",
                show(it.needs),
                loss(known, *lost),
                most_room(known, it.pool, it.needs),
            );
            (Kind::Vnic.title(&it.name), problem)
        }
    };
    Refusal::new(Gate::Admission, title, problem, remedy).who("network")
}

fn resource_title(known: &Numbered<'_>, of: Resource) -> String {
    let kind = match of {
        Resource::Uplink(_) => Kind::Uplink,
        Resource::Gateway(_) => Kind::Gateway,
        Resource::Server(_) => Kind::Server,
    };
    kind.title(known.house.resource_name(of))
}

/// Where in the pool there is most room, in the directions of `of`.
fn most_room(known: &Numbered<'_>, pool: PoolId, of: Rates) -> String {
    let house = &known.house;
    let mut loads = Loads::new(house);
    for at in (0..house.vnics.len()).map(VnicIndex) {
        if let Some(home) = house.vnics[at.0].home {
            loads.add(house, at, home, &house.vnics[at.0].standbys);
        }
    }
    let room = |at: &UplinkIndex| loads.room(house, Resource::Uplink(*at));
    let least = |at: &UplinkIndex| {
        let room = room(at);
        let up_bps = if of.up_bps > 0 { room.up_bps } else { u64::MAX };
        up_bps.min(if of.down_bps > 0 { room.down_bps } else { u64::MAX })
    };
    let uplinks = (0..house.uplinks.len()).map(UplinkIndex);
    let open = uplinks.filter(|at| house.uplink(*at).pool == pool && house.is_open(*at));
    match open.max_by_key(|at| (least(at), std::cmp::Reverse(*at))) {
        Some(at) => format!(
            "; the most room in its pool, with any one loss allowed for, is {} at {:?}",
            show_as(room(&at), of),
            known.name(at)
        ),
        None => String::new(),
    }
}
