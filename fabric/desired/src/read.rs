//! From TOML and JSON to objects, with errors that name the thing and the key.

use crate::{
    kind::Kind,
    object::{Object, Pool, Vnic},
    wrong::{Wrong, instead},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Most objects of one document.
pub const OBJECTS_MAX: usize = 100_000;

/// Reads one object of `kind`.
///
/// # Errors
/// A key that is not known, missing, or of the wrong type, or a bad unit.
pub fn object(kind: Kind, value: Value) -> Result<Object, Wrong> {
    let Value::Object(fields) = value else {
        let remedy = format!("give its keys: {}", kind.keys().join(", "));
        return Err(Wrong::new(format!("[[{kind}]]"), "is not a table of keys", remedy));
    };
    let title = title(kind, &fields);
    if let Some(key) = fields.keys().find(|key| !kind.keys().contains(&key.as_str())) {
        let shown: String = key.chars().take(40).collect();
        let remedy = match wireonce_config::nearest(&shown, kind.keys().iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("remove it; the keys are {}", kind.keys().join(", ")),
        };
        return Err(Wrong::new(title, "there is no such key", remedy).at(shown));
    }
    Ok(match kind {
        Kind::Server => Object::Server(typed(&title, &fields)?),
        Kind::Gateway => Object::Gateway(typed(&title, &fields)?),
        Kind::Pool => Object::Pool(typed(&title, &fields)?),
        Kind::Uplink => Object::Uplink(typed(&title, &fields)?),
        Kind::Network => Object::Network(typed(&title, &fields)?),
        Kind::Policy => Object::Policy(typed(&title, &fields)?),
        Kind::Vnic => Object::Vnic(Box::new(typed::<Vnic>(&title, &fields)?)),
        Kind::Budget => Object::Budget(typed(&title, &fields)?),
        Kind::Grant => Object::Grant(typed(&title, &fields)?),
    })
}

/// Reads a document of tables, such as a file for `wireonce apply`.
///
/// The part of a host's file below its `[host]` and `[fabric]` is one, too: there, a
/// `[[peer]]` that has an uplink becomes a gateway and any other a server, and pools
/// are made as uplinks name them.
///
/// # Errors
/// The first thing that is wrong with the text.
pub fn toml(text: &str) -> Result<Vec<Object>, Wrong> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| {
            1 + text.get(..span.start).map_or(0, |head| head.matches('\n').count())
        });
        let problem = format!("not TOML: {}", error.message().replace(char::is_control, " "));
        Wrong::new(format!("line {line}"), problem, "mend this line, or see https://toml.io")
    })?;
    json(plain(toml::Value::Table(table)))
}

/// Reads the same from JSON: `{"vnic": [{..}, ..], ..}`.
///
/// # Errors
/// As [`toml()`].
pub fn json(document: Value) -> Result<Vec<Object>, Wrong> {
    let Value::Object(tables) = document else {
        let problem = "is not an object with a list for each kind";
        return Err(Wrong::new("the document", problem, "write {\"vnic\": [{..}]}"));
    };
    let mut objects = Vec::new();
    let mut peers = Vec::new();
    for (word, entries) in tables {
        let Value::Array(entries) = entries else {
            return Err(not_a_list(&word));
        };
        if objects.len() + entries.len() > OBJECTS_MAX {
            let problem = format!("has more than {OBJECTS_MAX} objects");
            return Err(Wrong::new("the document", problem, "apply it in parts"));
        }
        if word == "peer" {
            peers = entries;
            continue;
        }
        let kind = table_kind(&word)?;
        for entry in entries {
            objects.push(object(kind, entry)?);
        }
    }
    if !peers.is_empty() {
        adopt_host_file(peers, &mut objects)?;
    }
    check_duplicates(&objects)?;
    objects.sort_by_key(Object::kind);
    Ok(objects)
}

/// Makes servers, gateways and pools from what a host's file says of them.
fn adopt_host_file(peers: Vec<Value>, objects: &mut Vec<Object>) -> Result<(), Wrong> {
    let mut gateways = BTreeSet::new();
    let mut pools = BTreeSet::new();
    let mut named = BTreeSet::new();
    for object in objects.iter() {
        match object {
            Object::Uplink(uplink) => {
                gateways.insert(uplink.host.clone());
                pools.insert(uplink.pool.clone());
            }
            Object::Pool(pool) => {
                named.insert(pool.name.clone());
            }
            _ => {}
        }
    }
    for peer in peers {
        let is_gateway = peer.get("name").and_then(Value::as_str);
        let is_gateway = is_gateway.is_some_and(|name| gateways.contains(name));
        objects.push(object(if is_gateway { Kind::Gateway } else { Kind::Server }, peer)?);
    }
    let missing = pools.difference(&named).cloned();
    let pool = |name| Pool { name, mtu: None, outside_probes: None, rebalance: None };
    objects.extend(missing.map(|name| Object::Pool(pool(name))));
    Ok(())
}

fn check_duplicates(objects: &[Object]) -> Result<(), Wrong> {
    let mut seen = BTreeSet::new();
    for object in objects {
        if !seen.insert((object.kind(), object.name())) {
            let remedy = "keep one of them, or give each its own name";
            return Err(Wrong::new(object.title(), "stands in the document twice", remedy));
        }
    }
    Ok(())
}

fn table_kind(word: &str) -> Result<Kind, Wrong> {
    word.parse::<Kind>().ok().filter(|kind| kind.word() == word).ok_or_else(|| {
        let shown: String = word.chars().take(40).collect();
        let known = Kind::ALL.map(Kind::word);
        let remedy = instead(&shown, "tables", "nothing here", known);
        Wrong::new(format!("[[{shown}]]"), "there is no such table", remedy)
    })
}

fn not_a_list(word: &str) -> Wrong {
    let title = format!("[{word}]");
    if matches!(word, "host" | "fabric" | "control") {
        let remedy = "leave it in that host's own file, and apply the tables below it";
        return Wrong::new(title, "is one host's own", remedy);
    }
    match table_kind(word) {
        Err(wrong) => wrong,
        Ok(kind) => Wrong::new(title, "is one table", format!("write [[{kind}]] for each")),
    }
}

fn typed<T: DeserializeOwned>(title: &str, fields: &Map<String, Value>) -> Result<T, Wrong> {
    // One key at a time would cost a parser; so the key is found by trying without it.
    serde_json::from_value::<T>(Value::Object(fields.clone())).map_err(|error| {
        let message = error.to_string();
        if let Some(key) = message.strip_prefix("missing field `").and_then(|m| m.split('`').next())
        {
            return Wrong::new(title, "missing", format!("add a line such as `{}`", example(key)))
                .at(key);
        }
        let culprit = fields.keys().find(|key| {
            let mut others = fields.clone();
            others.remove(*key);
            let rest = serde_json::from_value::<T>(Value::Object(others));
            rest.err().is_none_or(|error| error.to_string() != message)
        });
        let (problem, remedy) = match message.split_once("; ") {
            Some((problem, remedy)) => (problem.to_owned(), remedy.to_owned()),
            None => (message.replace(", expected", ", not"), expected(&message)),
        };
        let wrong = Wrong::new(title, problem, remedy);
        match culprit {
            Some(key) => wrong.at(key),
            None => wrong,
        }
    })
}

/// What serde says it expected, as what would be right.
fn expected(message: &str) -> String {
    match message.split_once("expected ") {
        Some((_, "u8")) => "give a whole number from 0 to 255".to_owned(),
        Some((_, "u16")) => "give a whole number from 0 to 65535".to_owned(),
        Some((_, "u32")) => "give a whole number from 0 to 4294967295".to_owned(),
        Some((_, "u64")) => "give a whole number from 0".to_owned(),
        Some((_, what)) => format!("give {what}"),
        None => "see docs/control.md for what may stand there".to_owned(),
    }
}

fn example(key: &str) -> String {
    let value = match key {
        "address" => "\"10.77.0.1\"",
        "public_key" => "\"mpI..44 characters of base64..hU=\"",
        "host" | "server" => "\"server-a\"",
        "pool" => "\"east\"",
        "driver" => "\"packet\"",
        "interface" => "\"eth1\"",
        "vni" => "100",
        "network" => "\"blue\"",
        "mac" => "\"52:54:00:12:34:56\"",
        "socket" => "\"/run/wireonce/vm-a.sock\"",
        _ => "\"..\"",
    };
    format!("{key} = {value}")
}

/// What errors call an object before it is one.
fn title(kind: Kind, fields: &Map<String, Value>) -> String {
    let text = |key: &str| {
        let text = fields.get(key).and_then(Value::as_str);
        text.map(|text| text.chars().take(64).collect::<String>())
    };
    let name = match kind {
        Kind::Grant => text("pool")
            .zip(text("server"))
            .map(|(pool, server)| crate::object::Grant::name_of(&pool, &server)),
        Kind::Budget => text("pool"),
        _ => text("name"),
    };
    name.map_or_else(|| format!("[[{kind}]]"), |name| kind.title(&name))
}

/// TOML's values as JSON's; a date becomes its text.
fn plain(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::from(number),
        toml::Value::Boolean(flag) => Value::Bool(flag),
        toml::Value::Datetime(date) => Value::String(date.to_string()),
        toml::Value::Array(values) => Value::Array(values.into_iter().map(plain).collect()),
        toml::Value::Table(table) => {
            Value::Object(table.into_iter().map(|(key, value)| (key, plain(value))).collect())
        }
    }
}
