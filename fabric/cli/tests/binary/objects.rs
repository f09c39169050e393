//! Every key of every kind, as the verbs set it and the store has it.

use crate::control::Control;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use wireonce_control::client::Client;
use wireonce_desired::Kind;

/// A key, what is written for it, and what is stored.
type Key = (&'static str, &'static str, Value);

/// An object of a kind with each key that there is.
fn sample(kind: Kind) -> (&'static str, Vec<Key>) {
    let host = |address: &'static str, public_key: &'static str| {
        vec![
            ("address", address, json!(address)),
            ("port", "4800", json!(4_800)),
            ("public_key", public_key, json!(public_key)),
            ("machine", "rack-9", json!("rack-9")),
            ("port_up", "10Gbit", json!("10Gbit")),
            ("port_down", "9Gbit", json!("9Gbit")),
        ]
    };
    let rates = vec![("up", "1600Mbit", json!("1600Mbit")), ("down", "1Gbit", json!("1Gbit"))];
    match kind {
        Kind::Server => {
            ("server-z", host("10.77.0.98", "b0HCkZWtHnkapQDa+QMSil0k9w02kptBukyBPimCSFA="))
        }
        Kind::Gateway => {
            let host = host("10.77.0.99", "b1HCkZWtHnkapQDa+QMSil0k9w02kptBukyBPimCSFA=");
            ("gateway-z", [host, vec![("draining", "true", json!(true))]].concat())
        }
        Kind::Pool => (
            "west",
            vec![
                ("mtu", "1500", json!(1_500)),
                ("outside_probes", "false", json!(false)),
                ("rebalance", "auto", json!("auto")),
            ],
        ),
        Kind::Uplink => (
            "east-9",
            vec![
                ("id", "9", json!(9)),
                ("host", "gateway-a", json!("gateway-a")),
                ("pool", "east", json!("east")),
                ("driver", "tap", json!("tap")),
                ("interface", "tap9", json!("tap9")),
                ("designated", "true", json!(true)),
                ("mtu", "1500", json!(1_500)),
                ("storm_frames_per_s", "1000", json!(1_000)),
                ("up", "1Gbit", json!("1Gbit")),
                ("down", "2Gbit", json!("2Gbit")),
                ("draining", "true", json!(true)),
                ("fail_back_s", "600", json!(600)),
                ("next_hop", "192.0.2.254", json!("192.0.2.254")),
                ("next_hop_vlan", "20", json!(20)),
                ("outside_probes", "true", json!(true)),
                ("switch", "tor-9", json!("tor-9")),
            ],
        ),
        Kind::Network => (
            "green",
            vec![
                ("vni", "300", json!(300)),
                ("mtu", "1400", json!(1_400)),
                ("pool", "east", json!("east")),
                ("vlan", "300", json!(300)),
            ],
        ),
        Kind::Policy => {
            let packets = |key, text: &'static str| {
                let key: &'static str = key;
                (key, text, json!(text.parse::<u64>().unwrap()))
            };
            let (up, down) = ("up.limit_packets_per_s", "down.limit_packets_per_s");
            let packets = vec![packets(up, "20000"), packets(down, "30000")];
            ("silver", [terms(), packets].concat())
        }
        Kind::Vnic => (
            "vm-z",
            vec![
                ("id", "2000", json!(2_000)),
                ("host", "server-a", json!("server-a")),
                ("network", "blue", json!("blue")),
                ("mac", "52:54:00:00:00:99", json!("52:54:00:00:00:99")),
                ("addresses", "192.0.2.98,192.0.2.99", json!(["192.0.2.98", "192.0.2.99"])),
                ("socket", "/run/wireonce/vm-z.sock", json!("/run/wireonce/vm-z.sock")),
                ("socket_mode", "connect", json!("connect")),
                ("queue_pairs", "2", json!(2)),
                ("home", "east-1", json!("east-1")),
                ("standbys", "east-2", json!(["east-2"])),
                ("trunk", "true", json!(true)),
                (
                    "allow",
                    "dhcp-server,router-advertisement",
                    json!(["dhcp-server", "router-advertisement"]),
                ),
                ("storm_frames_per_s", "100", json!(100)),
                ("offload.guest_tso", "false", json!(false)),
                ("require_sealed_memory", "true", json!(true)),
                ("policy", "gold", json!("gold")),
            ],
        ),
        Kind::Budget => ("east", rates),
        Kind::Grant => {
            let own = vec![
                ("until", "2099-01-01T00:00:00Z", json!("2099-01-01T00:00:00Z")),
                ("reason", "month end", json!("month end")),
            ];
            ("east/server-b", [terms(), own].concat())
        }
    }
}

fn terms() -> Vec<Key> {
    vec![
        ("up.reservation", "110Mbit", json!("110Mbit")),
        ("up.shares", "50", json!(50)),
        ("up.limit", "900Mbit", json!("900Mbit")),
        ("down.reservation", "120Mbit", json!("120Mbit")),
        ("down.shares", "60", json!(60)),
        ("down.limit", "800Mbit", json!("800Mbit")),
    ]
}

/// The keys of a schema of the API's description.
fn schema_keys(api: &Value, schema: &str) -> BTreeSet<String> {
    let keys = api["components"]["schemas"][schema]["properties"].as_object();
    keys.unwrap_or_else(|| panic!("no schema {schema}")).keys().cloned().collect()
}

fn schema_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Server | Kind::Gateway => "Host",
        Kind::Pool => "Pool",
        Kind::Uplink => "Uplink",
        Kind::Network => "Network",
        Kind::Policy => "Policy",
        Kind::Vnic => "Vnic",
        Kind::Budget => "Budget",
        Kind::Grant => "Grant",
    }
}

#[test]
fn every_key_of_every_kind_is_set_from_the_command_line_and_stored_in_its_type() {
    let control = Control::start();
    control.furnish();
    for kind in Kind::ALL {
        let (name, keys) = sample(kind);
        let words: Vec<String> =
            keys.iter().map(|(key, text, _)| format!("{key}={text}")).collect();
        let mut set = vec![kind.word(), "set", name];
        set.extend(words.iter().map(String::as_str));
        control.said(&set);
        let shown = control.said(&[kind.word(), "show", name, "--json"]);
        let object = serde_json::from_str::<Value>(&shown).unwrap()["object"].clone();
        for (key, _, value) in &keys {
            let pointer = format!("/{}", key.replace('.', "/"));
            assert_eq!(object.pointer(&pointer), Some(value), "{kind} {key}: {object}");
        }
    }
}

#[test]
fn no_key_of_any_kind_is_left_out_of_that() {
    let control = Control::start();
    let client = Client::unix(&control.path("socket"), None);
    let api: Value = client.get("/v1/openapi.json").unwrap();
    for kind in Kind::ALL {
        let (_, sample) = sample(kind);
        let first = |key: &str| key.split('.').next().unwrap_or(key).to_owned();
        let mut set: BTreeSet<String> = sample.iter().map(|(key, ..)| first(key)).collect();
        // What the name says.
        set.extend(match kind {
            Kind::Budget => vec!["pool".to_owned()],
            Kind::Grant => vec!["pool".to_owned(), "server".to_owned()],
            _ => vec!["name".to_owned()],
        });
        let known: BTreeSet<String> = kind.keys().iter().map(|key| (*key).to_owned()).collect();
        assert_eq!(set, known, "{kind}");
        let mut described = schema_keys(&api, schema_of(kind));
        if kind == Kind::Server {
            // It shares the schema of gateways.
            described.remove("draining");
        }
        assert_eq!(set, described, "{kind}");
    }
    let below = |kind: Kind, table: &str| -> BTreeSet<String> {
        let (_, keys) = sample(kind);
        let below = |(key, ..): &Key| key.strip_prefix(table).map(str::to_owned);
        keys.iter().filter_map(below).collect()
    };
    for table in ["up.", "down."] {
        assert_eq!(below(Kind::Policy, table), schema_keys(&api, "Terms"));
    }
    assert_eq!(below(Kind::Vnic, "offload."), schema_keys(&api, "Offload"));
}
