//! The rules between objects: each broken one by one, and the whole error.

use super::{HOUSE, changed, error, house, objects};
use crate::{House, Kind, Object, rules};

#[test]
fn the_house_holds_together() {
    rules::check(&house()).unwrap();
    rules::check(&House::default()).unwrap();
}

#[test]
fn names_that_lead_nowhere_get_the_nearest() {
    assert_eq!(
        error("home = \"east-1\"", "home = \"eats-1\""),
        "[[vnic]] \"vm-a\": key `home`: \"eats-1\" is the name of no [[uplink]]; did you mean \
         \"east-1\"?"
    );
    assert_eq!(
        error("policy = \"gold\"", "policy = \"platinum\""),
        "[[vnic]] \"vm-a\": key `policy`: \"platinum\" is the name of no [[policy]]; add a \
         [[policy]] of that name, or give one of the policies \"gold\""
    );
    assert_eq!(
        error("server = \"server-b\"", "server = \"server-x\""),
        "[[grant]] \"east/server-x\": key `server`: \"server-x\" is the name of no [[server]]; did \
         you mean \"server-a\"?"
    );
    assert_eq!(
        error("host = \"gateway-a\"", "host = \"server-a\""),
        "[[uplink]] \"east-1\": key `host`: \"server-a\" is a server, not a gateway; name one of \
         the gateways"
    );
}

#[test]
fn what_is_still_used_cannot_go() {
    for (kind, name) in [
        (Kind::Pool, "east"),
        (Kind::Uplink, "east-1"),
        (Kind::Server, "server-a"),
        (Kind::Policy, "gold"),
    ] {
        let mut house = house();
        house.remove(kind, name).unwrap();
        let wrong = rules::check(&house).unwrap_err().to_string();
        assert!(wrong.contains(&format!("{name:?} is the name of no [[{kind}]]")), "{wrong}");
    }
}

#[test]
fn a_limit_below_its_reservation_is_refused() {
    assert_eq!(
        error(
            "reservation = \"400Mbit\", limit = \"1Gbit\"",
            "reservation = \"400Mbit\", limit = \"100Mbit\""
        ),
        "[[grant]] \"east/server-b\": key `up.limit`: 100Mbit is less than the reservation of \
         400Mbit; give a limit of at least 400Mbit, or reserve less"
    );
    assert!(
        error("limit = \"800Mbit\"", "limit = \"0bit\"")
            .contains("key `up.limit`: 0bit is less than a frame")
    );
    assert!(error("shares = 200", "shares = 0").contains("key `up.shares`: 0 shares; give 1 to"));
}

#[test]
fn grants_beyond_the_pool_are_refused_with_the_sums() {
    // 99 % of 2 Gbit may be promised: 1,980 Mbit.
    changed("reservation = \"600Mbit\"", "reservation = \"1580Mbit\"").unwrap();
    assert_eq!(
        error("reservation = \"600Mbit\"", "reservation = \"1581Mbit\""),
        "[[pool]] \"east\": its grants reserve 1981Mbit up, 1Mbit more than the 1980Mbit that its \
         uplinks can be promised to carry; reserve less, or add an uplink to the pool"
    );
    assert_eq!(
        error("shares = 100 }", "shares = 100 }\ndown = { reservation = \"2Gbit\" }"),
        "[[pool]] \"east\": its grants reserve 2Gbit down, 80Mbit more than the 1920Mbit that its \
         uplinks can be promised to carry; reserve less, or add an uplink to the pool"
    );
}

#[test]
fn a_budget_beyond_the_pool_is_refused() {
    assert_eq!(
        error("up = \"1500Mbit\"", "up = \"3Gbit\""),
        "[[budget]] \"east\": key `up`: 3Gbit is more than the 1980Mbit that the pool's uplinks \
         carry; give at most 1980Mbit, or add an uplink to the pool"
    );
}

#[test]
fn policies_promise_no_more_than_their_server_was_granted() {
    assert_eq!(
        error("up = { reservation = \"600Mbit\", shares = 100 }", "up = { shares = 100 }"),
        "[[grant]] \"east/server-a\": key `up.reservation`: the policies of the server's vNICs \
         promise 100Mbit in pool \"east\", and the server is granted 0bit; grant at least 100Mbit, \
         or promise less in the policies"
    );
}

#[test]
fn what_the_daemons_would_refuse_is_refused_here() {
    assert_eq!(
        error("mac = \"52:54:00:00:00:02\"", "mac = \"52:54:00:00:00:01\""),
        "[[vnic]] \"vm-b\": key `mac`: 52:54:00:00:00:01 is already the MAC of vNIC \"vm-a\" in \
         network \"blue\"; give each vNIC of a network its own"
    );
    assert!(
        error("home = \"east-2\"", "trunk = false").contains("key `home`: missing, and network")
    );
    assert!(error("vni = 200", "vni = 100").contains("100 is already the number of network"));
    assert!(error("driver = \"packet\"", "driver = \"dpdk\"").contains("\"dpdk\" is not known"));
    let same = error(
        "0ykBmAB+fcgF0v6ZqI+My3ySWqvm2z5tVETPM5gZ8pw=",
        "m0HCkZWtHnkapQDa+QMSil0k9w02kptBukyBPimCSFA=",
    );
    assert_eq!(
        same,
        "[[gateway]] \"gateway-a\": key `public_key`: it is already the public key of host \
         \"server-b\"; make one with `wireonce keygen` on each host"
    );
}

#[test]
fn hosts_share_no_name_and_one_ip_version() {
    assert!(
        error("name = \"gateway-b\"", "name = \"server-b\"")
            .contains("is the name of a server, too")
    );
    assert!(error("\"10.77.0.12\"", "\"fd00::12\"").contains("a fabric has one IP version"));
}

#[test]
fn sockets_and_interfaces_are_taken_once_on_each_host() {
    assert_eq!(
        error("/run/wireonce/vm-c.sock", "/run/wireonce/vm-b.sock"),
        "[[vnic]] \"vm-c\": key `socket`: \"/run/wireonce/vm-b.sock\" is already the socket of \
         \"vm-b\"; give each vNIC its own socket"
    );
    // Both gateways have an eth1; on one gateway that is one too many.
    let text = HOUSE.replace("host = \"gateway-b\"", "host = \"gateway-a\"");
    let wrong = rules::check(&objects(&text).into_iter().collect()).unwrap_err().to_string();
    assert!(wrong.contains("\"eth1\" is already the interface of \"east-1\""), "{wrong}");
}

#[test]
fn every_key_of_an_object_is_known_and_every_known_key_is_one() {
    for object in house().iter() {
        let fields = serde_json::to_value(object).unwrap();
        for key in fields.as_object().unwrap().keys() {
            assert!(object.kind().keys().contains(&key.as_str()), "{} {key}", object.kind());
        }
    }
    for kind in Kind::ALL {
        for key in kind.keys() {
            let value = serde_json::json!({ *key: [[0]] });
            let said = crate::read::object(kind, value).unwrap_err().to_string();
            assert!(!said.contains("no such key") && !said.contains("unknown field"), "{said}");
        }
    }
}

#[test]
fn a_hosts_file_below_the_line_becomes_a_house() {
    let file = include_str!("../../../../docs/examples/gateway-a.toml");
    let (_, below) = file.split_once("# ------").unwrap();
    let (_, below) = below.split_once('\n').unwrap();
    let objects = objects(below);
    let kind = |name: &str| objects.iter().find(|o| o.name() == name).map(Object::kind);
    assert_eq!(kind("server-a"), Some(Kind::Server));
    assert_eq!(kind("east"), Some(Kind::Pool));
    assert_eq!(kind("vm-a"), Some(Kind::Vnic));
}
