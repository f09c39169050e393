//! Homes and standbys that the controller gives: where they were left out, and where they have to go.
//!
//! ```text
//! vNIC of a network with a pool        home                        standbys
//!   written without them               given                       given
//!   written with a home only           stands                      those that it had, or given
//!   its home drains                    another, all or none        given
//!   a standby drains                   stands                      given
//!   none is apart, and the pool grew   stands                      given if there is room
//! ```
//! Nobody else is touched: what has a home keeps it.

use super::{
    Numbered, Sight,
    words::{names, show, show_as},
};
use crate::{
    change::{Allowed, State},
    refusal::{Gate, Refusal},
};
use std::collections::{BTreeMap, BTreeSet};
use wireonce_desired::{House, Kind, Object, Uplink, Vnic, Wrong};
use wireonce_placement::{Placement, Resource, Shortage, Task, place_these};

/// What was given.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// vNICs whose home or standbys are others now, and that nobody asked to change.
    pub(crate) placed: BTreeSet<String>,
    /// What whoever asked should know.
    pub(crate) notes: Vec<String>,
}

/// One vNIC that needs a home or standbys.
#[derive(Debug, Clone)]
struct Need {
    vnic: String,
    home_stands: bool,
    optional: bool,
    /// What it had, in the order in which to try them.
    had: Vec<String>,
}

/// Gives homes and standbys in a house that a change would make. `asked` are the vNICs that the
/// change itself writes.
///
/// # Errors
/// There is no room for all of them, or somebody wrote down what drains. `house` is not changed then.
pub(crate) fn settle(
    state: &State,
    house: &mut House,
    asked: &BTreeSet<String>,
    sight: &Sight,
) -> Allowed<Settled> {
    for name in asked {
        inherit(state, house, name);
    }
    let needs = needs(state, house, asked)?;
    if needs.is_empty() {
        return Ok(Settled::default());
    }
    let mut tried = Tried::new(house, &needs, sight);
    if !tried.is_good() && !sight.is_all_fit() {
        // A port without carrier comes back, and what is sick gets well: better one of those than nothing.
        tried = Tried::new(house, &needs, &Sight::default());
    }
    let Tried { known, tasks, placement } = tried;
    let placement =
        placement.map_err(|shortages| no_room(state, house, &known, &tasks, &shortages))?;
    let homeless = tasks.iter().find(|task| placement.homes[task.vnic.0].is_none());
    if let Some(task) = homeless {
        return Err(no_uplink(state, house, &known.house.vnics[task.vnic.0].name));
    }
    let found = written(&known, &tasks, &placement);
    let notes = notes(&known, &placement);
    drop(known);
    let mut placed = BTreeSet::new();
    for (name, home, standbys) in found {
        let Some(vnic) = house.vnic(&name) else { continue };
        let after = Vnic { home: Some(home), standbys, ..vnic.clone() };
        if after != *vnic {
            house.put(Object::Vnic(Box::new(after)));
            placed.insert(name);
        }
    }
    placed.retain(|name| !asked.contains(name));
    Ok(Settled { placed, notes })
}

/// Places for those who need one, as far as they were found.
struct Tried<'h> {
    known: Numbered<'h>,
    tasks: Vec<Task>,
    placement: Result<Placement, Vec<Shortage>>,
}

impl<'h> Tried<'h> {
    fn new(house: &'h House, needs: &[Need], sight: &Sight) -> Self {
        let mut known = Numbered::of(house, sight);
        let tasks: Vec<Task> = needs.iter().filter_map(|need| task(&mut known, need)).collect();
        let placement = place_these(&known.house, &tasks);
        Self { known, tasks, placement }
    }

    /// All have a home, and those to whom something is promised a standby.
    fn is_good(&self) -> bool {
        self.placement.as_ref().is_ok_and(|placement| {
            let has_home = |task: &Task| placement.homes[task.vnic.0].is_some();
            placement.unprotected.is_empty() && self.tasks.iter().all(has_home)
        })
    }
}

/// What is left out stays as it is, as ids do.
fn inherit(state: &State, house: &mut House, name: &str) {
    let Some((old, new)) = state.house.vnic(name).zip(house.vnic(name)) else { return };
    let pool = house.pool_of(new);
    if pool.is_none() || pool != state.house.pool_of(old) {
        return;
    }
    let mut vnic = new.clone();
    if vnic.home.is_none() {
        vnic.home.clone_from(&old.home);
    }
    if vnic.standbys.is_empty() && vnic.home == old.home {
        vnic.standbys.clone_from(&old.standbys);
    }
    if vnic != *new {
        house.put(Object::Vnic(Box::new(vnic)));
    }
}

/// An uplink as far as it matters here.
#[derive(Debug, Clone, Copy)]
struct Place<'h> {
    pool: &'h str,
    drains: bool,
}

fn places(house: &House) -> BTreeMap<&str, Place<'_>> {
    let place = |uplink: &Uplink| house.is_draining(uplink);
    let places = house.uplinks().map(|uplink| {
        (uplink.name.as_str(), Place { pool: uplink.pool.as_str(), drains: place(uplink) })
    });
    places.collect()
}

fn needs(state: &State, house: &House, asked: &BTreeSet<String>) -> Allowed<Vec<Need>> {
    let (before, after) = (places(&state.house), places(house));
    let is_open = |places: &BTreeMap<&str, Place<'_>>, name: &str| {
        places.get(name).is_some_and(|place| !place.drains)
    };
    let new = after.iter().filter(|(name, it)| !it.drains && !is_open(&before, name));
    let grown: BTreeSet<&str> = new.map(|(_, place)| place.pool).collect();
    let mut needs = Vec::new();
    for vnic in house.vnics() {
        let Some(pool) = house.pool_of(vnic) else { continue };
        let places = || vnic.home.iter().chain(&vnic.standbys).map(|name| after.get(name.as_str()));
        if places().any(|place| place.is_none_or(|place| place.pool != pool)) {
            // The next gate says so.
            continue;
        }
        let is_asked = asked.contains(&vnic.name);
        let drains = |name: &String| after.get(name.as_str()).is_some_and(|place| place.drains);
        if is_asked {
            check_not_draining(state, house, vnic, &drains)?;
        }
        let home_stands = vnic.home.as_ref().is_some_and(|home| !drains(home));
        let lacks = !vnic.standbys.iter().any(|name| is_apart(house, vnic.home.as_ref(), name));
        let is_left_out = is_asked && vnic.standbys.is_empty();
        let required = !home_stands || vnic.standbys.iter().any(drains) || is_left_out;
        let optional = !required && lacks && grown.contains(pool);
        if required || optional {
            let (vnic, had) = (vnic.name.clone(), had(state, vnic));
            needs.push(Need { vnic, home_stands, optional, had });
        }
    }
    Ok(needs)
}

/// Whether a standby is on another machine than the home.
fn is_apart(house: &House, home: Option<&String>, standby: &str) -> bool {
    let machine = |uplink: &str| {
        let gateway = house.get(Kind::Gateway, &house.uplink(uplink)?.host);
        match gateway? {
            Object::Gateway(host) => {
                Some((host.machine.is_some(), host.machine.as_ref().unwrap_or(&host.name)))
            }
            _ => None,
        }
    };
    home.and_then(|home| machine(home)) != machine(standby)
}

/// What a vNIC has or had that may serve it again: standbys, then the home that it leaves.
fn had(state: &State, vnic: &Vnic) -> Vec<String> {
    let old = state.house.vnic(&vnic.name);
    let old = old.into_iter().flat_map(|old| old.standbys.iter().chain(&old.home));
    let mut had: Vec<String> = vnic.standbys.clone();
    for name in old.filter(|name| vnic.home.as_ref() != Some(*name)) {
        if !had.contains(name) {
            had.push(name.clone());
        }
    }
    had
}

/// What was written down now must not drain; what drains under it is found another place.
fn check_not_draining(
    state: &State,
    house: &House,
    vnic: &Vnic,
    drains: &impl Fn(&String) -> bool,
) -> Allowed<()> {
    let old = state.house.vnic(&vnic.name);
    let is_new_home = old.is_none_or(|old| old.home != vnic.home);
    let is_new = |name: &&String| old.is_none_or(|old| !old.standbys.contains(name));
    let home = vnic.home.as_ref().filter(|home| is_new_home && drains(home));
    let standby = || vnic.standbys.iter().filter(is_new).find(|name| drains(name));
    let Some((key, name)) =
        home.map(|n| ("home", n)).or_else(|| standby().map(|n| ("standbys", n)))
    else {
        return Ok(());
    };
    let gateway = house.uplink(name).filter(|uplink| !uplink.draining).map(|it| &it.host);
    let (who, verb) = match gateway {
        Some(gateway) => {
            let who = format!("gateway {gateway:?} of uplink {name:?}");
            (who, format!("wireonce host undrain {gateway}"))
        }
        None => (format!("uplink {name:?}"), format!("wireonce uplink undrain {name}")),
    };
    let pool = house.pool_of(vnic);
    let mut open = house.uplinks().filter(|it| Some(it.pool.as_str()) == pool);
    let is_home = |it: &Uplink| {
        let homes = old.map(|old| &old.home).into_iter().chain([&vnic.home]);
        homes.flatten().any(|home| *home == it.name)
    };
    let other = open.find(|it| !house.is_draining(it) && !is_home(it));
    let instead = match other {
        Some(other) => format!("name another, such as {:?}, or end it with `{verb}`", other.name),
        None => format!("end it with `{verb}`"),
    };
    let problem = format!("{who} drains, and nothing new goes there");
    let wrong = Wrong::new(Kind::Vnic.title(&vnic.name), problem, instead).at(key);
    Err(Refusal::wrong(Gate::Conflict, wrong).who("network"))
}

/// The task of a need, with what it had before the eyes of placement.
fn task(known: &mut Numbered<'_>, need: &Need) -> Option<Task> {
    let at = known.vnic(&need.vnic)?;
    let home = known.house.vnics[at.0].home;
    let had = need.had.iter().filter_map(|name| known.uplink(name));
    let had: Vec<_> = had.filter(|it| Some(*it) != home).collect();
    known.house.vnics[at.0].standbys = had;
    Some(Task { vnic: at, home_stands: need.home_stands, optional: need.optional })
}

/// Who goes where, by name.
fn written(
    known: &Numbered<'_>,
    tasks: &[Task],
    placement: &Placement,
) -> Vec<(String, String, Vec<String>)> {
    let of = |task: &Task| {
        let homes = placement.homes[task.vnic.0].as_ref()?;
        let standbys = homes.standbys.iter().map(|at| known.name(*at).to_owned()).collect();
        let name = known.house.vnics[task.vnic.0].name.clone();
        Some((name, known.name(homes.home).to_owned(), standbys))
    };
    tasks.iter().filter_map(of).collect()
}

fn notes(known: &Numbered<'_>, placement: &Placement) -> Vec<String> {
    let alone = &placement.unprotected;
    if alone.is_empty() {
        return Vec::new();
    }
    let names = names(alone.iter().map(|at| known.house.vnics[at.0].name.as_str()));
    vec![format!(
        "nothing is kept free for the loss of the home of {names}: all uplinks of the pool that take \
         vNICs are on one machine"
    )]
}

/// The uplinks and gateways that drain with this change, and did not before.
fn new_drains(state: &State, house: &House) -> Vec<String> {
    let uplinks = house.uplinks().filter(|uplink| {
        uplink.draining && !state.house.uplink(&uplink.name).is_some_and(|old| old.draining)
    });
    let old = |name: &str| match state.house.get(Kind::Gateway, name) {
        Some(Object::Gateway(host)) => host.draining,
        _ => false,
    };
    let gateways = house.hosts().filter(|(_, host)| host.draining && !old(&host.name));
    let gateways = gateways.map(|(kind, host)| kind.title(&host.name));
    uplinks.map(|uplink| Kind::Uplink.title(&uplink.name)).chain(gateways).collect()
}

/// There is no room for all.
fn no_room(
    state: &State,
    house: &House,
    known: &Numbered<'_>,
    tasks: &[Task],
    shortages: &[Shortage],
) -> Refusal {
    let Some(first) = shortages.first() else {
        return Refusal::new(Gate::Admission, "the change", "finds no room", "add an uplink");
    };
    let most = match &first.best {
        Some((uplink, room)) => format!(
            "the most room, with any one loss allowed for, is {} at {uplink:?}",
            show_as(*room, first.needs)
        ),
        None => "no uplink of its pool takes vNICs".to_owned(),
    };
    let remedy = "lower a reservation (the role `virtualisation` can), or add an uplink";
    if let Some(drain) = new_drains(state, house).first() {
        let each = |it: &Shortage| format!("{:?} ({})", it.name, show(it.needs));
        let shown: Vec<String> = shortages.iter().take(5).map(each).collect();
        let more = match shortages.len().saturating_sub(shown.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let problem = format!(
            "cannot drain: {}{more} of {} vNICs find no place elsewhere that survives a loss; {most}",
            shown.join(", "),
            tasks.len()
        );
        let remedy = format!("nothing was changed: {remedy}");
        return Refusal::new(Gate::Admission, drain, problem, remedy).who("network");
    }
    let promised = format!("is promised {}", show(first.needs));
    let problem = match (first.tight.as_deref(), first.standby) {
        (Some((of, room)), _) => {
            let room = show_as(*room, first.needs);
            format!("{promised}, and {} has room for {room}; {most}", resource(known, *of))
        }
        (None, true) => {
            format!("{promised}, and no standby can carry that when its home is lost; {most}")
        }
        (None, false) => format!("{promised}, and no uplink of its pool can carry that; {most}"),
    };
    let key = if first.standby { "standbys" } else { "home" };
    let wrong = Wrong::new(Kind::Vnic.title(&first.name), problem, remedy).at(key);
    Refusal::wrong(Gate::Admission, wrong).who("network")
}

/// What errors call a resource.
pub(super) fn resource(known: &Numbered<'_>, of: Resource) -> String {
    let name = known.house.resource_name(of);
    match of {
        Resource::Uplink(_) => format!("uplink {name:?}"),
        Resource::Gateway(_) => format!("the fabric port of gateway {name:?}"),
        Resource::Server(_) => format!("the fabric port of server {name:?}"),
    }
}

/// There is nowhere to go at all.
fn no_uplink(state: &State, house: &House, vnic: &str) -> Refusal {
    let pool = house.vnic(vnic).and_then(|vnic| house.pool_of(vnic)).unwrap_or_default();
    let has_some = house.uplinks().any(|uplink| uplink.pool == pool);
    let problem = match has_some {
        true => format!("no uplink of its pool {pool:?} takes vNICs: all drain or have no carrier"),
        false => format!("its network is on pool {pool:?}, which has no uplink"),
    };
    let remedy = "add an uplink, or undrain one with `wireonce uplink undrain`";
    if let Some(drain) = new_drains(state, house).first() {
        let problem = format!("cannot drain: vNIC {vnic:?} has nowhere to go; {problem}");
        return Refusal::new(Gate::Admission, drain, problem, remedy).who("network");
    }
    let wrong = Wrong::new(Kind::Vnic.title(vnic), problem, remedy).at("home");
    Refusal::wrong(Gate::Admission, wrong).who("network")
}
