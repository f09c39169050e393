//! `wireonce vnic list`, `show`, `set`, `rm`, and the same for all other kinds.

use super::ask::{Ask, cell, escape, for_seconds, query};
use crate::{failure::Failure, output::Table};
use clap::Subcommand;
use serde_json::{Map, Value};
use wireonce_desired::Kind;

/// What can be done with objects of a kind.
#[derive(Debug, Subcommand)]
pub(crate) enum ObjectVerb {
    /// Show all
    List {
        #[command(flatten)]
        ask: Ask,
    },
    /// Show one
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        ask: Ask,
    },
    /// Make one, or change some of its keys: KEY=VALUE, KEY.KEY=VALUE, KEY= to leave it out
    Set {
        /// Its name
        name: String,
        /// Keys and values, such as `home=east-2` or `up.limit=1Gbit`; lists as `a,b`
        #[arg(required = true, value_name = "KEY=VALUE")]
        keys: Vec<String>,
        /// Of a grant: what was before comes back after this time, such as 90s, 30m, 2h or 7d
        #[arg(long = "for", value_name = "TIME")]
        duration: Option<String>,
        /// Only say what would change
        #[arg(long)]
        dry_run: bool,
        /// Why, for the audit trail
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Remove one that nothing refers to any more
    Rm {
        /// Its name
        name: String,
        /// Only say what would change
        #[arg(long)]
        dry_run: bool,
        /// Why, for the audit trail
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
}

/// Keys whose value is a list.
const LISTS: &[&str] = &["addresses", "standbys", "allow"];
/// Keys whose value is a number.
const NUMBERS: &[&str] = &[
    "id",
    "port",
    "mtu",
    "vni",
    "vlan",
    "queue_pairs",
    "storm_frames_per_s",
    "shares",
    "limit_packets_per_s",
    "fail_back_s",
    "next_hop_vlan",
];

/// Does it.
pub(crate) fn run(kind: Kind, verb: &ObjectVerb) -> Result<(), Failure> {
    match verb {
        ObjectVerb::List { ask } => list(kind, ask),
        ObjectVerb::Show { name, ask } => show(kind, name, ask),
        ObjectVerb::Set { name, keys, duration, dry_run, reason, ask } => {
            let for_s = for_seconds(duration.as_deref())?;
            let how = [
                ("dry_run", dry_run.then_some("true")),
                ("reason", reason.as_deref()),
                ("for_s", for_s.as_deref()),
            ];
            set(kind, name, keys, &how, ask)
        }
        ObjectVerb::Rm { name, dry_run, reason, ask } => {
            let how = [("dry_run", dry_run.then_some("true")), ("reason", reason.as_deref())];
            ask.change("DELETE", &query(&place(kind, name), &how), &[], String::new())?;
            Ok(())
        }
    }
}

fn place(kind: Kind, name: &str) -> String {
    format!("/v1/{}/{}", kind.plural(), escape(name))
}

fn list(kind: Kind, ask: &Ask) -> Result<(), Failure> {
    let items: Value = ask.client().get(&format!("/v1/{}", kind.plural()))?;
    ask.show(&items, || table(kind, items.as_array().map_or(&[], Vec::as_slice)))
}

/// The columns that say most; `show` has all.
fn columns(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Server | Kind::Gateway => &["address", "port", "machine", "port_up", "port_down"],
        Kind::Pool => &["mtu", "rebalance"],
        Kind::Uplink => &["id", "host", "pool", "interface", "up", "down", "switch", "draining"],
        Kind::Network => &["vni", "pool", "vlan", "mtu"],
        Kind::Policy => &["up", "down"],
        Kind::Vnic => &["id", "host", "network", "mac", "home", "standbys", "policy"],
        Kind::Budget => &["up", "down"],
        Kind::Grant => &["up", "down", "until", "reason"],
    }
}

fn table(kind: Kind, items: &[Value]) -> String {
    let columns = columns(kind);
    let mut table = Table::with_columns(
        ["NAME".to_owned(), "VERSION".to_owned()]
            .into_iter()
            .chain(columns.iter().map(|column| column.to_uppercase())),
    );
    for item in items {
        let own = [cell(&item["name"]), cell(&item["version"])];
        let more = columns.iter().map(|column| cell(&item["object"][*column]));
        table.cells(own.into_iter().chain(more));
    }
    match items {
        [] => format!("no {}\n", kind.plural()),
        _ => table.render(),
    }
}

fn show(kind: Kind, name: &str, ask: &Ask) -> Result<(), Failure> {
    let item: Value = ask.client().get(&place(kind, name))?;
    ask.show(&item, || {
        let mut text = format!("{kind} {}  (version {})\n", cell(&item["name"]), item["version"]);
        for (key, value) in item["object"].as_object().into_iter().flatten() {
            text += &format!("  {key}: {}\n", cell(value));
        }
        text
    })
}

/// Reads the object, changes the keys, and puts it back if nobody was faster.
fn set(
    kind: Kind,
    name: &str,
    keys: &[String],
    how: &[(&str, Option<&str>)],
    ask: &Ask,
) -> Result<(), Failure> {
    let items: Value = ask.client().get(&format!("/v1/{}", kind.plural()))?;
    let old = items.as_array().into_iter().flatten().find(|item| item["name"] == name);
    let mut object = match old {
        Some(old) => old["object"].as_object().cloned().unwrap_or_default(),
        None => Map::new(),
    };
    for key in keys {
        assign(&mut object, key)?;
    }
    let version = old.map(|old| old["version"].to_string());
    let base = match &version {
        Some(version) => ("if-match", version.as_str()),
        None => ("if-none-match", "*"),
    };
    let headers = [("content-type", "application/json"), base];
    let body = Value::Object(object).to_string();
    ask.change("PUT", &query(&place(kind, name), how), &headers, body)?;
    Ok(())
}

/// Sets one key: `up.limit=1Gbit`.
fn assign(object: &mut Map<String, Value>, text: &str) -> Result<(), Failure> {
    let Some((path, value)) = text.split_once('=') else {
        return Err(Failure::Input(format!("{text:?}: is no key with a value; write KEY=VALUE")));
    };
    let (table, key) = match path.split_once('.') {
        Some((table, key)) => (Some(table), key),
        None => (None, path),
    };
    let target = match table {
        None => object,
        Some(table) => {
            let entry = object.entry(table).or_insert_with(|| Value::Object(Map::new()));
            entry.as_object_mut().ok_or_else(|| {
                Failure::Input(format!("{text:?}: `{table}` has no keys; write {table}=VALUE"))
            })?
        }
    };
    if value.is_empty() {
        target.remove(key);
        return Ok(());
    }
    target.insert(key.to_owned(), typed(key, value));
    Ok(())
}

/// A value as its key wants it. What does not fit stays text: the controller says what
/// would be right.
fn typed(key: &str, value: &str) -> Value {
    if LISTS.contains(&key) {
        return value.split(',').map(|item| Value::from(item.trim())).collect();
    }
    match value {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ if NUMBERS.contains(&key) => {
            value.parse::<i64>().map_or_else(|_| Value::from(value), Value::from)
        }
        _ => Value::from(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn assigned(keys: &[&str]) -> Value {
        let mut object = json!({"home": "a", "up": {"shares": 1}}).as_object().cloned().unwrap();
        keys.iter().for_each(|key| assign(&mut object, key).unwrap());
        Value::Object(object)
    }

    #[test]
    fn keys_are_set_in_their_types_and_left_out_when_empty() {
        assert_eq!(assigned(&["home=b"])["home"], "b");
        assert_eq!(assigned(&["home="]), json!({"up": {"shares": 1}}));
        assert_eq!(assigned(&["up.limit=1Gbit"])["up"], json!({"shares": 1, "limit": "1Gbit"}));
        let packets = &["up.limit_packets_per_s=20000"];
        assert_eq!(assigned(packets)["up"], json!({"shares": 1, "limit_packets_per_s": 20_000}));
        assert_eq!(assigned(&["standbys=x, y"])["standbys"], json!(["x", "y"]));
        assert_eq!(assigned(&["id=7", "trunk=true"])["id"], 7);
        assert_eq!(assigned(&["vlan=ten"])["vlan"], "ten");
        assert_eq!(assigned(&["down.limit=1Mbit"])["down"], json!({"limit": "1Mbit"}));
    }

    #[test]
    fn what_is_no_key_with_a_value_is_refused() {
        let mut object = Map::new();
        assert!(assign(&mut object, "home").is_err());
        object.insert("home".to_owned(), json!("a"));
        assert!(assign(&mut object, "home.x=1").is_err());
    }
}
