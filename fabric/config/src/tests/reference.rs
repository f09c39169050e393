//! `docs/configuration.md` has every key.

use super::{GOLDEN, edited, parse};

const REFERENCE: &str = include_str!("../../../../docs/configuration.md");

/// The keys of a table, as the error for an unknown one lists them.
fn keys(header: &str) -> Vec<String> {
    let unknown = format!("{header}\nxxxxxxxxxxxxxxxx = 1");
    let error = parse(&edited(&[(header, &unknown)])).expect_err("an unknown key");
    let list = error.split("the keys here are ").nth(1).expect("a list of keys");
    list.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_key_of_every_table_is_in_the_reference() {
    for header in [
        "[host]",
        "[fabric]",
        "[fabric_port]",
        "[[peer]]",
        "[[network]]",
        "[[uplink]]",
        "[[vnic]]",
        "[[policy]]",
        "[[grant]]",
    ] {
        assert!(GOLDEN.contains(header));
        let after = REFERENCE.split(&format!("\n## `{header}`")).nth(1).expect("a section");
        let section = after.split("\n## ").next().expect("its text");
        for key in keys(header) {
            let row = [format!("\n| `{key}` |"), format!("\n| `{key}.")];
            assert!(row.iter().any(|row| section.contains(row)), "{header} {key}");
        }
    }
}
