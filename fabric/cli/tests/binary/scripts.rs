//! `--json`: one document of each verb, and one form of whatever goes wrong.

use crate::control::Control;
use serde_json::{Value, json};
use std::{fs, process::Output};

/// The one document on standard output.
fn document(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The one error on standard error, and nothing beside it.
fn error(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.lines().count(), 1, "{text}");
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(value["exit_status"], json!(output.status.code()), "{text}");
    value
}

#[test]
fn an_export_in_json_is_taken_as_one_in_tables_is() {
    let control = Control::start();
    control.furnish();
    let output = control.ask(&["export", "--json"]);
    let house = document(&output);
    assert_eq!(house["vnic"].as_array().map(Vec::len), Some(3));
    let file = control.path("house.json");
    fs::write(&file, &output.stdout).unwrap();
    let file = file.to_str().unwrap();
    assert!(control.said(&["diff", "-f", file]).starts_with("unchanged"));
    fs::write(file, house.to_string().replace("\"shares\":200", "\"shares\":300")).unwrap();
    control.said(&["apply", "-f", file]);
    assert!(control.said(&["policy", "show", "gold"]).contains("shares=300"));
}

#[test]
fn each_line_of_a_backup_is_json_with_the_flag_or_without() {
    let control = Control::start();
    control.furnish();
    let backup = control.said(&["backup", "--json"]);
    assert!(backup.lines().count() > 10, "{backup}");
    for line in backup.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
    assert_eq!(backup, control.said(&["backup"]));
}

#[test]
fn a_drain_that_is_waited_for_is_one_document_with_its_answer_and_how_far_it_is() {
    let control = Control::start();
    control.furnish();
    let drain = ["uplink", "drain", "east-1", "--wait", "--timeout", "1s", "--json"];
    let output = control.ask(&drain);
    let drained = document(&output);
    assert_eq!(drained["answer"]["answer"], "applied");
    assert_eq!(
        (&drained["progress"]["draining"], &drained["progress"]["done"]),
        (&json!(true), &json!(false))
    );
    let said = error(&output);
    assert_eq!(said["error"]["gate"], "failed");
    let text = said["text"].as_str().unwrap();
    assert!(text.contains("look again with `wireonce uplink drain east-1 --wait`"), "{text}");
}

#[test]
fn whatever_goes_wrong_has_one_form() {
    let mut control = Control::start();
    control.furnish();
    let refused = error(&control.ask(&["vnic", "move", "vm-a", "--to", "east-9", "--json"]));
    assert_eq!(
        (&refused["error"]["gate"], &refused["exit_status"]),
        (&json!("missing"), &json!(1))
    );
    assert_eq!(refused["error"]["thing"], "[[uplink]] \"east-9\"");
    let text = "[[uplink]] \"east-9\": does not exist; did you mean \"east-1\"?";
    assert_eq!(refused["text"], text);
    let who = error(&control.ask(&["vnic", "rm", "vm-c", "--as", "viewer", "--json"]));
    assert_eq!(
        (&who["error"]["gate"], &who["error"]["who"]),
        (&json!("right"), &json!("virtualisation"))
    );
    let input = error(&control.ask(&["grant", "end", "east/server-a", "--for", "x", "--json"]));
    assert_eq!((&input["error"]["gate"], &input["exit_status"]), (&json!("input"), &json!(2)));
    let input = error(&control.ask(&["token", "make", "--server", "a", "--for", "x", "--json"]));
    assert_eq!((&input["error"]["gate"], &input["exit_status"]), (&json!("input"), &json!(2)));
    assert!(input["text"].as_str().unwrap().contains("is no time"), "{input}");
    control.kill();
    let gone = error(&control.ask(&["vnic", "list", "--json"]));
    assert_eq!((&gone["error"]["gate"], &gone["exit_status"]), (&json!("unreachable"), &json!(1)));
    let gone = error(&control.ask(&[
        "diff",
        "-f",
        control.path("house.toml").to_str().unwrap(),
        "--json",
    ]));
    assert_eq!((&gone["error"]["gate"], &gone["exit_status"]), (&json!("unreachable"), &json!(2)));
}

#[test]
fn the_trail_says_from_what_to_what_and_is_found_by_object_and_by_person() {
    let control = Control::start();
    control.furnish();
    control.said(&["grant", "set", "east/server-a", "up.reservation=500Mbit", "--reason", "less"]);
    control.said(&["policy", "set", "gold", "up.limit=", "down.limit=900Mbit"]);
    let trail = control.said(&["audit", "--limit", "2"]);
    assert!(trail.contains("  up.reservation 600Mbit -> 500Mbit  "), "{trail}");
    assert!(trail.contains("  down.limit 800Mbit -> 900Mbit, up.limit left out  "), "{trail}");
    for object in ["grant/east/server-a", "east/server-a"] {
        let grant = control.said(&["audit", "--object", object]);
        assert_eq!(grant.lines().count(), 3, "the header, its beginning, and its change: {grant}");
        let last = control.said(&["audit", "--object", object, "--limit", "1"]);
        assert!(last.contains(" 600Mbit -> 500Mbit ") && last.lines().count() == 2, "{last}");
        let first = control.said(&["audit", "--object", object, "--limit", "1", "--after", "0"]);
        assert!(first.contains("  added  ") && first.lines().count() == 2, "{first}");
    }
    assert!(control.said(&["audit", "--by", "root"]).contains("policy gold"));
    assert_eq!(control.said(&["audit", "--by", "nina"]), "no such lines\n");
    assert_eq!(control.said(&["audit", "--by", "nina", "--json"]), "[]\n");
}
