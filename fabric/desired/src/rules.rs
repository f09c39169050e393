//! The rules: does each object make sense alone, and does the house hold together?
//!
//! ```text
//! alone      names, ids, units, terms              this file
//! references who is named exists, of the kind      this file
//! daemons    MACs, addresses, VLANs, homes, ..     wireonce-config, on the whole house
//! promises   reservations against what is there    bandwidth.rs
//! ```
//! What the daemons' own reader would refuse is refused here, by that reader: no host
//! is ever sent a text that it cannot take.

use crate::{
    bandwidth,
    house::House,
    kind::Kind,
    object::{Object, Uplink, Vnic},
    rate::Rate,
    render,
    wrong::{Wrong, instead},
};
use std::collections::BTreeMap;
use wireonce_config::{Config, schema};

/// Longest text that people may write somewhere (reasons, machines, switches), bytes.
pub const TEXT_LEN_MAX: usize = 500;

/// Checks one object by itself.
///
/// # Errors
/// What is wrong with it.
pub fn check_alone(object: &Object) -> Result<(), Wrong> {
    let title = object.title();
    match object {
        Object::Grant(grant) => {
            check_name(&title, "pool", &grant.pool)?;
            check_name(&title, "server", &grant.server)?;
            check_text(&title, "reason", grant.reason.as_deref())?;
        }
        Object::Budget(budget) => check_name(&title, "pool", &budget.pool)?,
        _ => check_name(&title, "name", &object.name())?,
    }
    match object {
        Object::Server(host) | Object::Gateway(host) => {
            check_text(&title, "machine", host.machine.as_deref())?;
            check_capacity(&title, "port_up", host.port_up)?;
            check_capacity(&title, "port_down", host.port_down)?;
        }
        Object::Uplink(uplink) => {
            check_text(&title, "switch", uplink.switch.as_deref())?;
            check_not_zero(&title, "up", uplink.up)?;
            check_not_zero(&title, "down", uplink.down)?;
        }
        Object::Pool(pool) => {
            if let Some(mtu) = pool.mtu
                && !(schema::MTU_MIN..=schema::MTU_MAX).contains(&mtu)
            {
                let remedy = format!("give {} to {}", schema::MTU_MIN, schema::MTU_MAX);
                return Err(Wrong::new(title, format!("{mtu} is no MTU"), remedy).at("mtu"));
            }
        }
        _ => {}
    }
    for (key, terms) in bandwidth::terms_of(object) {
        bandwidth::check_terms(object.kind(), &title, key, terms)?;
    }
    Ok(())
}

/// Checks a whole house: that it holds together, and that what is promised is there.
///
/// # Errors
/// The first thing that does not hold.
pub fn check(house: &House) -> Result<(), Wrong> {
    check_together(house)?;
    bandwidth::check(house)
}

/// Checks that a house holds together, whatever it promises.
///
/// # Errors
/// The first thing that does not hold together.
pub fn check_together(house: &House) -> Result<(), Wrong> {
    check_counts(house)?;
    check_hosts(house)?;
    for object in house.iter() {
        check_alone(object)?;
        check_references(house, object)?;
    }
    check_own_ports(house)?;
    check_by_daemons_reader(house)
}

/// Checks some objects of a house that held together before they changed, where only grants and
/// budgets did: the daemons' reader has no say in those.
///
/// # Errors
/// The first that does not hold together.
pub fn check_these<'n>(
    house: &House,
    places: impl IntoIterator<Item = (Kind, &'n str)>,
) -> Result<(), Wrong> {
    for object in places.into_iter().filter_map(|(kind, name)| house.get(kind, name)) {
        check_alone(object)?;
        check_references(house, object)?;
    }
    Ok(())
}

fn check_name(title: &str, key: &str, name: &str) -> Result<(), Wrong> {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = (1..=63).contains(&name.len())
        && name.chars().all(letter)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if good {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    let remedy = "write 1 to 63 letters, digits, `-`, `_` or `.`, a letter or digit first";
    Err(Wrong::new(title, format!("{shown:?} is not a name"), remedy).at(key))
}

/// Checks what people write for other people: it will stand on one line of a terminal.
///
/// # Errors
/// It is too long, or would do something else to a terminal than to stand there.
pub fn check_text(title: &str, key: &str, text: Option<&str>) -> Result<(), Wrong> {
    let Some(text) = text else { return Ok(()) };
    if text.len() <= TEXT_LEN_MAX && !text.chars().any(is_no_text) {
        return Ok(());
    }
    let remedy = format!("write at most {TEXT_LEN_MAX} bytes, on one line");
    Err(Wrong::new(title, "is too long, has several lines or characters that are no text", remedy)
        .at(key))
}

/// Controls, and what separates lines or turns the direction of what follows.
fn is_no_text(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn check_not_zero(title: &str, key: &str, rate: Option<Rate>) -> Result<(), Wrong> {
    if rate == Some(Rate::ZERO) {
        let remedy = "give what it can carry, or leave it out if that is not known";
        return Err(Wrong::new(title, "is nothing", remedy).at(key));
    }
    Ok(())
}

/// As the host's own reader would have it, which is not asked here.
fn check_capacity(title: &str, key: &str, rate: Option<Rate>) -> Result<(), Wrong> {
    check_not_zero(title, key, rate)?;
    let least = schema::CAPACITY_MIN;
    match rate.map(Rate::bps) {
        Some(bps) if bps < least.0 => {
            let remedy = format!("give what it can carry, from {least}");
            Err(Wrong::new(title, format!("is below {least}"), remedy).at(key))
        }
        _ => Ok(()),
    }
}

fn check_counts(house: &House) -> Result<(), Wrong> {
    // A host's file lists all others.
    let hosts = house.count(Kind::Server) + house.count(Kind::Gateway);
    let counts = [
        ("servers and gateways", hosts, schema::PEERS_MAX),
        ("networks", house.count(Kind::Network), schema::NETWORKS_MAX),
        ("uplinks", house.count(Kind::Uplink), schema::UPLINKS_MAX),
        ("vNICs", house.count(Kind::Vnic), schema::VNICS_MAX),
    ];
    for (what, count, most) in counts {
        if count > most {
            let problem = format!("has {count} {what}, and {most} is the most");
            return Err(Wrong::new("the house", problem, "use a second house for the rest"));
        }
    }
    Ok(())
}

fn check_references(house: &House, object: &Object) -> Result<(), Wrong> {
    let title = object.title();
    let refer = |key: &str, kind: Kind, name: &str| refer(house, &title, key, kind, name);
    match object {
        Object::Uplink(uplink) => {
            refer("host", Kind::Gateway, &uplink.host)?;
            refer("pool", Kind::Pool, &uplink.pool)
        }
        Object::Network(network) => {
            network.pool.iter().try_for_each(|p| refer("pool", Kind::Pool, p))
        }
        Object::Vnic(vnic) => {
            refer("host", Kind::Server, &vnic.host)?;
            refer("network", Kind::Network, &vnic.network)?;
            let uplinks = vnic.home.iter().map(|name| ("home", name));
            let uplinks = uplinks.chain(vnic.standbys.iter().map(|name| ("standbys", name)));
            for (key, name) in uplinks {
                refer(key, Kind::Uplink, name)?;
            }
            vnic.policy.iter().try_for_each(|policy| refer("policy", Kind::Policy, policy))
        }
        Object::Budget(budget) => refer("pool", Kind::Pool, &budget.pool),
        Object::Grant(grant) => {
            refer("pool", Kind::Pool, &grant.pool)?;
            refer("server", Kind::Server, &grant.server)
        }
        Object::Server(_) | Object::Gateway(_) | Object::Pool(_) | Object::Policy(_) => Ok(()),
    }
}

fn refer(house: &House, title: &str, key: &str, kind: Kind, name: &str) -> Result<(), Wrong> {
    if house.get(kind, name).is_some() {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    let other = house.host_kind(name).filter(|_| matches!(kind, Kind::Server | Kind::Gateway));
    if let Some(other) = other {
        let problem = format!("{shown:?} is a {other}, not a {kind}");
        let remedy = format!("name one of the {}", kind.plural());
        return Err(Wrong::new(title, problem, remedy).at(key));
    }
    let article = if kind == Kind::Uplink { "an" } else { "a" };
    let add = format!("{article} [[{kind}]] of that name");
    let remedy = instead(&shown, kind.plural(), &add, house.names(kind));
    let problem = format!("{shown:?} is the name of no [[{kind}]]");
    Err(Wrong::new(title, problem, remedy).at(key))
}

/// Servers and gateways together: one name, and one IP version.
fn check_hosts(house: &House) -> Result<(), Wrong> {
    let first = house.hosts().next();
    for (kind, host) in house.hosts() {
        let title = kind.title(&host.name);
        if kind == Kind::Gateway && house.get(Kind::Server, &host.name).is_some() {
            let problem = "is the name of a server, too";
            let remedy = "give the two daemons of a machine two names, and two keys and ports";
            return Err(Wrong::new(title, problem, remedy).at("name"));
        }
        if let Some((_, first)) = first
            && first.address.is_ipv4() != host.address.is_ipv4()
        {
            let version = if first.address.is_ipv4() { "IPv4" } else { "IPv6" };
            let problem = format!("{} is not {version}, as that of {:?}", host.address, first.name);
            let remedy = format!("give its {version} address: a fabric has one IP version");
            return Err(Wrong::new(title, problem, remedy).at("address"));
        }
    }
    Ok(())
}

/// What only the host itself would notice: sockets and interfaces that are taken.
fn check_own_ports(house: &House) -> Result<(), Wrong> {
    let mut sockets: BTreeMap<(&str, &str), &Vnic> = BTreeMap::new();
    for vnic in house.vnics() {
        if let Some(other) = sockets.insert((&vnic.host, &vnic.socket), vnic) {
            let problem = format!("{:?} is already the socket of {:?}", vnic.socket, other.name);
            let title = Kind::Vnic.title(&vnic.name);
            return Err(Wrong::new(title, problem, "give each vNIC its own socket").at("socket"));
        }
    }
    let mut interfaces: BTreeMap<(&str, &str), &Uplink> = BTreeMap::new();
    for uplink in house.uplinks() {
        if let Some(other) = interfaces.insert((&uplink.host, &uplink.interface), uplink) {
            let problem =
                format!("{:?} is already the interface of {:?}", uplink.interface, other.name);
            let remedy = "give each uplink of a gateway its own interface";
            let title = Kind::Uplink.title(&uplink.name);
            return Err(Wrong::new(title, problem, remedy).at("interface"));
        }
    }
    Ok(())
}

/// Has the whole house read as a host would read it that knows everything.
fn check_by_daemons_reader(house: &House) -> Result<(), Wrong> {
    let (text, names) = render::for_observer(house);
    match Config::parse(&text, "house") {
        Ok(_) => Ok(()),
        Err(error) => {
            let table = error.table().unwrap_or("the house");
            // A peer's table is a server's or a gateway's here.
            let thing = table.strip_prefix("[[peer]] ").and_then(|quoted| {
                let name = quoted.trim_matches('"');
                names.get(name).map(|kind| kind.title(name))
            });
            let thing = thing.unwrap_or_else(|| table.to_owned());
            let wrong = Wrong::new(thing, without_lines(error.problem()), error.remedy());
            Err(match error.key() {
                Some(key) => wrong.at(key),
                None => wrong,
            })
        }
    }
}

/// The text without its ` (line 8)`: nobody sees the text that these lines are of.
fn without_lines(text: &str) -> String {
    let mut parts = text.split(" (line ");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((_, rest)) => clean.push_str(rest),
            None => clean.push_str(part),
        }
    }
    clean.replace("peer \"", "host \"")
}
