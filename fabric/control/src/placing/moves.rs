//! What `vnic move` and `drain` make of objects; the rest is the gates'.

use super::Sight;
use crate::{
    change::{Allowed, Rehome, State},
    refusal::{Gate, Refusal},
};
use wireonce_desired::{House, Kind, Object, Uplink, Wrong};

/// The vNIC with another home; its standbys are left out, to be given anew.
///
/// # Errors
/// There is no such vNIC or uplink, that one is not for it, or it is dead or not fit now: the vNIC would
/// stay where it is, and come when nobody expects it.
pub(crate) fn rehomed(
    state: &State,
    house: &House,
    what: &Rehome,
    sight: Option<&Sight>,
) -> Allowed<Object> {
    let Object::Vnic(mut vnic) = state.find(Kind::Vnic, &what.vnic)?.clone() else {
        return Err(nothing(Kind::Vnic, &what.vnic));
    };
    let Object::Uplink(uplink) = state.find(Kind::Uplink, &what.to)? else {
        return Err(nothing(Kind::Uplink, &what.to));
    };
    let title = Kind::Vnic.title(&vnic.name);
    let Some(pool) = house.pool_of(&vnic) else {
        let problem = format!("its network {:?} has no pool, so it uses no uplink", vnic.network);
        let remedy = "move vNICs of networks with a pool";
        return Err(Refusal::new(Gate::House, title, problem, remedy));
    };
    if uplink.pool != pool {
        let problem = format!(
            "uplink {:?} is in pool {:?}, and network {:?} is on pool {pool:?}",
            uplink.name, uplink.pool, vnic.network
        );
        let mut others = house.uplinks().filter(|it| it.pool == pool && !house.is_draining(it));
        let other = others.find(|it| Some(&it.name) != vnic.home.as_ref());
        let remedy = match other {
            Some(other) => format!("name an uplink of that pool, such as {:?}", other.name),
            None => format!("add an uplink to pool {pool:?} first"),
        };
        return Err(Refusal::wrong(Gate::House, Wrong::new(title, problem, remedy).at("home")));
    }
    if vnic.home.as_deref() != Some(what.to.as_str()) {
        if let Some(problem) = sight.and_then(|sight| unfit(sight, &vnic.host, uplink)) {
            let title = Kind::Uplink.title(&what.to);
            let remedy = format!(
                "mend it or name another; to have {:?} go there when it is back: \
                 wireonce vnic set {} home={}",
                vnic.name, vnic.name, what.to
            );
            return Err(Refusal::new(Gate::Conflict, title, problem, remedy));
        }
        vnic.home = Some(what.to.clone());
        vnic.standbys.clear();
    }
    Ok(Object::Vnic(vnic))
}

/// Why a vNIC on a server would not stay at an uplink, if it would not.
fn unfit(sight: &Sight, server: &str, uplink: &Uplink) -> Option<&'static str> {
    let way = (server.to_owned(), uplink.host.clone());
    if sight.dead.contains(&uplink.name) {
        Some("has no carrier now, or its gateway says that it is gone")
    } else if sight.sick.contains(&uplink.name) {
        Some("is sick now, says its gateway: whoever has a better uplink leaves it")
    } else if sight.gray.contains(&way) {
        Some("lies behind a link of its server that is not fit now: homes there are left")
    } else {
        None
    }
}

/// The uplink or gateway that drains, or does no more.
///
/// # Errors
/// There is none of that name, or it is nothing that can drain.
pub(crate) fn drained(state: &State, kind: Kind, name: &str, draining: bool) -> Allowed<Object> {
    if kind == Kind::Server {
        state.find(kind, name)?;
        let problem =
            "is a server: its vNICs stay with their VMs, which only their manager can move";
        let remedy = "move or stop its VMs there; to empty a gateway, name the gateway";
        return Err(Refusal::new(Gate::Conflict, kind.title(name), problem, remedy));
    }
    match state.find(kind, name)?.clone() {
        Object::Uplink(uplink) => Ok(Object::Uplink(Uplink { draining, ..uplink })),
        Object::Gateway(host) => Ok(Object::Gateway(wireonce_desired::Host { draining, ..host })),
        _ => Err(nothing(kind, name)),
    }
}

fn nothing(kind: Kind, name: &str) -> Refusal {
    Refusal::new(Gate::Missing, kind.title(name), "does not exist", "name another")
}
