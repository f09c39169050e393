//! Text that makes no sense: each time one error, whole.

use super::error;
use crate::{Kind, read};
use proptest::prelude::*;

fn refused(text: &str) -> String {
    read::toml(text).unwrap_err().to_string()
}

#[test]
fn a_key_that_is_not_known_gets_the_one_that_was_meant() {
    assert_eq!(
        error("mac = \"52:54:00:00:00:01\"", "macc = \"52:54:00:00:00:01\""),
        "[[vnic]] \"vm-a\": key `macc`: there is no such key; did you mean `mac`?"
    );
}

#[test]
fn a_key_that_is_missing_gets_an_example() {
    assert_eq!(
        error("network = \"blue\"\nmac = \"52:54:00:00:00:01\"", "network = \"blue\""),
        "[[vnic]] \"vm-a\": key `mac`: missing; add a line such as `mac = \"52:54:00:12:34:56\"`"
    );
}

#[test]
fn negative_and_absurd_rates_name_the_key() {
    assert_eq!(
        error("port_up = \"10Gbit\"", "port_up = \"-10Gbit\""),
        "[[server]] \"server-a\": key `port_up`: \"-10Gbit\" is negative; write a rate of 0bit or \
         more"
    );
    assert_eq!(
        error("reservation = \"600Mbit\"", "reservation = \"600Pbit\""),
        "[[grant]] \"east/server-a\": key `up`: \"600Pbit\" is not a rate with its unit; \
         write a number and its unit, such as \"2Gbit\", \"500Mbit\" or \"64kbit\""
    );
    assert_eq!(
        error("up = \"1Gbit\"", "up = 1000"),
        "[[uplink]] \"east-1\": key `up`: invalid type: integer `1000`, not a rate in quotes such \
         as \"2Gbit\"; give a rate in quotes such as \"2Gbit\""
    );
    assert_eq!(
        error("up = \"1Gbit\"", "up = \"0bit\""),
        "[[uplink]] \"east-1\": key `up`: is nothing; give what it can carry, or leave it out if \
         that is not known"
    );
}

#[test]
fn packet_limits_that_make_no_sense_name_the_key() {
    let limit =
        |value: &str| error("limit = \"800Mbit\" }", &format!("limit_packets_per_s = {value} }}"));
    for wrong in ["0", "1000000001"] {
        assert_eq!(
            limit(wrong),
            format!(
                "[[policy]] \"gold\": key `up.limit_packets_per_s`: {wrong} packets a second are \
                 none, or more than any port carries; give 1 to 1000000000, or leave it out for any \
                 number"
            )
        );
    }
    for wrong in ["-1", "4294967296", "\"20k\"", "0.5"] {
        let said = limit(wrong);
        assert!(said.starts_with("[[policy]] \"gold\": key `up`: "), "{said}");
        assert!(said.ends_with("give a whole number from 0 to 4294967295"), "{said}");
    }
    assert_eq!(
        error("reservation = \"600Mbit\"", "limit_packets_per_s = 7"),
        "[[grant]] \"east/server-a\": key `up.limit_packets_per_s`: a grant has no limit in packets; \
         give it in the policy of the server's vNICs"
    );
}

#[test]
fn a_number_that_does_not_fit_says_what_does() {
    let said = error("vni = 100", "vni = -1");
    assert!(said.starts_with("[[network]] \"blue\": key `vni`: "), "{said}");
    assert!(said.ends_with("give a whole number from 0 to 4294967295"), "{said}");
}

#[test]
fn tables_that_do_not_belong_are_named() {
    assert_eq!(
        refused("[[vnick]]\nname = \"a\"\n"),
        "[[vnick]]: there is no such table; did you \
         mean \"vnic\"?"
    );
    assert_eq!(
        refused("[host]\nname = \"a\"\n"),
        "[host]: is one host's own; leave it in that host's own file, and apply the tables below it"
    );
    assert_eq!(refused("[pool]\nname = \"a\"\n"), "[pool]: is one table; write [[pool]] for each");
    assert_eq!(
        refused("[[pool]]\nname = \"a\"\n[[pool]]\nname = \"a\"\n"),
        "[[pool]] \"a\": stands in the document twice; keep one of them, or give each its own name"
    );
}

#[test]
fn broken_toml_names_its_line() {
    let said = refused("[[pool]]\nname = \"a\"\nmtu = = 3\n");
    assert!(said.starts_with("line 3: not TOML: "), "{said}");
}

#[test]
fn a_name_that_is_none_is_refused() {
    let said = error("name = \"east\"", "name = \"../east\"");
    assert!(said.contains("\"../east\" is not a name; write 1 to 63 letters"), "{said}");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        let _ = read::toml(&text);
    }

    #[test]
    fn any_fields_of_any_kind_are_read_or_refused(
        kind in 0..Kind::ALL.len(),
        fields in prop::collection::btree_map("[a-z_]{1,8}|name|pool|server|up|id|mac", "[ -~]{0,12}", 0..8),
    ) {
        let value = serde_json::to_value(fields).unwrap();
        if let Ok(object) = read::object(Kind::ALL[kind], value) {
            let _ = crate::rules::check(&[object].into_iter().collect());
        }
    }
}
