//! Reports go in, and both teams read the same: `top`, `advise`, `explain`, as texts.

use crate::control::Control;
use serde_json::{Value, json};
use std::{process::Command, thread, time::Duration};
use wireonce_control::client::Client;

/// What one daemon says at a second of its life.
fn status(host: &str, role: &str, at_s: u64) -> Value {
    let (life, at_us) = (7, at_s * 1_000_000);
    json!({ "host": host, "role": role, "life": life, "sampled_at_us": at_us, "version": "0.1.0" })
}

fn amount(frames: u64) -> Value {
    json!({ "frames": frames, "segments": frames, "bytes": 1_476 * frames })
}

fn row(name: &str, stage: &str, frames: u64, drops: &[(&str, u64)]) -> Value {
    let dropped: u64 = drops.iter().map(|(_, frames)| frames).sum();
    let by_reason: serde_json::Map<String, Value> =
        drops.iter().map(|(reason, frames)| ((*reason).to_owned(), amount(*frames))).collect();
    json!({
        "name": name, "id": 1001, "stage": stage, "open_frames": 0, "copies": amount(0),
        "input": amount(frames), "output": amount(frames - dropped), "drops": by_reason,
    })
}

/// server-a at a second: vm-a sends 300 Mbit/s and is held back, and its guard drops ten frames a
/// second.
fn server_a(at_s: u64) -> Value {
    let frames = 25_000 * at_s;
    let mut status = status("server-a", "backend", at_s);
    status["vnics"] = json!([{
        "id": 1001, "name": "vm-a", "network": "blue", "state": "running", "tx": amount(frames),
        "share": {
            "rate_bps": 300_000_000, "demand_bps": null, "held": true,
            "held_us": 950_000 * at_s, "queued_bytes": 64_000,
            "served_bits": 300_000_000 * at_s,
        },
    }]);
    let kept = frames - 10 * at_s;
    status["ledger"] = json!([
        row("vm-a", "guest-tx", frames, &[("source-ip", 10 * at_s)]),
        row("vm-a", "fabric-tx", kept, &[]),
    ]);
    status["links"] = json!([{ "peer": "gateway-a", "state": "up" }]);
    json!({ "status": status })
}

/// gateway-a at a second: it has leased 300 Mbit/s to server-a, which sends as much.
fn gateway_a(at_s: u64) -> Value {
    let frames = 24_990 * at_s;
    let mut status = status("gateway-a", "gateway", at_s);
    status["uplinks"] =
        json!([{ "name": "east-1", "carrier": true, "out": amount(frames), "in": amount(0) }]);
    status["shares"] = json!([{
        "uplink": "east-1", "server": "server-a", "lease_bps": 300_000_000, "starter_bps": 0,
        "demand_bps": null, "served_bits": 300_000_000 * at_s,
    }]);
    status["ledger"] =
        json!([row("vm-a", "fabric-rx", frames, &[]), row("vm-a", "uplink-tx", frames, &[]),]);
    json!({ "status": status })
}

/// gateway-b at a second: nobody uses it.
fn gateway_b(at_s: u64) -> Value {
    let mut status = status("gateway-b", "gateway", at_s);
    status["uplinks"] =
        json!([{ "name": "east-2", "carrier": true, "out": amount(0), "in": amount(0) }]);
    json!({ "status": status })
}

/// server-b at a second: nobody sends.
fn server_b(at_s: u64) -> Value {
    let mut status = status("server-b", "backend", at_s);
    status["vnics"] = json!([{ "id": 1002, "name": "vm-b", "state": "running" }]);
    json!({ "status": status })
}

fn report(control: &Control, host: &str, body: &Value) {
    let headers = [("content-type", "application/json")];
    let client = Client::unix(&control.path("socket"), None);
    let path = format!("/v1/hosts/{host}/report");
    let answer: Value =
        client.change("PUT".parse().unwrap(), &path, &headers, body.to_string()).unwrap();
    assert_eq!(answer, json!({ "next_in_s": 1 }));
}

/// A controller whose server-a may send 300 Mbit/s, and has said twice that this is not enough.
fn starving() -> Control {
    let control = Control::start();
    control.furnish();
    control.said(&["grant", "set", "east/server-a", "up.reservation=100Mbit", "up.limit=300Mbit"]);
    for at_s in [10, 11] {
        report(&control, "server-a", &server_a(at_s));
        report(&control, "gateway-a", &gateway_a(at_s));
        report(&control, "server-b", &server_b(at_s));
    }
    control
}

#[test]
fn the_view_has_who_lacks_most_first_and_no_rates_of_who_is_silent() {
    let control = starving();
    let now: Value = serde_json::from_str(&control.said(&["top", "--once", "--json"])).unwrap();
    let first = &now["vnics"][0];
    assert_eq!((&first["name"], &first["held_percent"]), (&json!("vm-a"), &json!(95)));
    assert_eq!(first["rate"]["up_bps"], 300_000_000);
    assert_eq!(
        first["drops"],
        json!([
            { "host": "server-a", "stage": "guest-tx", "reason": "source-ip", "frames": 10 }
        ])
    );
    assert_eq!(now["pools"][0]["starved"][0]["server"], "server-a");
    assert_eq!(now["pools"][0]["surplus"][0]["server"], "server-b");
    let uplink = |name| {
        let rows = now["uplinks"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap().clone()
    };
    assert_eq!(uplink("east-1")["state"], "alive");
    let silent = uplink("east-2");
    assert_eq!((&silent["state"], &silent["rate"]["up_bps"]), (&json!("unknown"), &Value::Null));
    let text = control.said(&["top", "--once"]);
    assert!(
        text.contains(
            "  starved in east: server-a uses 300 Mb/s, wants > 300 Mb/s, reserves 100 Mb/s\n"
        ),
        "{text}"
    );
    let table = control.said(&["top", "--once", "--table", "servers"]);
    assert!(table.starts_with("SERVER") && !table.contains("VNIC"), "{table}");
}

#[test]
fn advice_is_a_sentence_and_a_command_that_cures_it() {
    let control = starving();
    let text = control.said(&["advise"]);
    assert_eq!(
        text,
        "server-a wants 800Mbit up of pool east and may use 300Mbit; the pool has 1680Mbit to spare: \
         server-b reserves 400Mbit and wants 0bit\n    \
         wireonce grant set east/server-a up.limit=800Mbit\n\
         1 of 4 hosts are not heard, or not long enough: gateway-b has not reported yet; what is there \
         and what is wanted there is not known (network)\n"
    );
    let command: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().skip(1).collect();
    control.said(&command);
    for at_s in [12, 13] {
        report(&control, "gateway-b", &gateway_b(at_s));
    }
    assert_eq!(
        control.said(&["advise"]),
        "nothing to advise: nobody lacks what another could give\n"
    );
}

#[test]
fn a_server_that_starves_under_a_timed_grant_and_a_silent_host_are_told_without_a_command() {
    let control = starving();
    control.said(&[
        "grant",
        "set",
        "east/server-a",
        "up.limit=310Mbit",
        "until=2099-01-01T00:00:00Z",
    ]);
    let text = control.said(&["advise"]);
    let first = "server-a wants 800Mbit up of pool east and may use 310Mbit; ";
    assert!(text.starts_with(first), "{text}");
    assert!(text.contains("`wireonce grant end east/server-a` ends it now"), "{text}");
    assert!(text.contains("1 of 4 hosts are not heard, or not long enough: gateway-b"), "{text}");
    assert!(!text.contains("\n    wireonce"), "{text}");
}

#[test]
fn an_explanation_follows_the_frames_and_names_who_acts() {
    let control = starving();
    assert_eq!(
        control.said(&["explain", "vm-a", "--for", "0s"]),
        "vm-a on server-a, home east-1, in 1.0 s\n\
         \n\
         OUT            HOST        CAME  WENT ON                 WAITS  DROPPED\n\
         guest ring     server-a   25000    25000  36.9 MB            -  -\n\
         guard          server-a   25000    24990  36.8 MB            -  source-ip 10\n\
         shaper         server-a   24990    24990  36.8 MB  64000 bytes  -             may send 300Mbit, held back 95 % of the time\n\
         route          server-a   24990    24990  36.8 MB            -  -\n\
         link           server-a   24990    24990  36.8 MB            -  -\n\
         police         gateway-a  24990    24990  36.8 MB            -  -\n\
         egress         gateway-a  24990    24990  36.8 MB            -  -\n\
         uplink east-1  gateway-a  24990    24990  36.8 MB            -  -\n\
         \n\
         PROVED grant-limit, at shaper on server-a: held back 95 % of the time by the limit \
         of server-a's grant in pool east, 300Mbit\n    \
         next: the virtualisation team\n    \
         wireonce grant set east/server-a up.limit=600Mbit\n\
         PROVED guard, at guard on server-a: the port guard dropped 10 frames that this vNIC may not \
         send: 10 source-ip\n    \
         next: the owner of the guest\n"
    );
    let unheard = control.said(&["explain", "vm-b", "--for", "0s"]);
    assert!(
        unheard.contains("UNKNOWN not-heard, at reports: gateway-b has not reported since"),
        "{unheard}"
    );
    let error = control.refused(&["explain", "vm-x"]);
    assert!(error.contains("[[vnic]] \"vm-x\": does not exist"), "{error}");
}

#[test]
fn an_explanation_takes_its_interval_from_when_it_is_asked() {
    let control = starving();
    let mut asked = Command::new(env!("CARGO_BIN_EXE_wireonce"));
    asked
        .args(["explain", "vm-a", "--for", "2s", "--json", "--socket"])
        .arg(control.path("socket"));
    let asked = asked.stdout(std::process::Stdio::piped()).spawn().unwrap();
    // Until the answer the daemons go on reporting, each time with one more second of life.
    for at_s in 12..20 {
        thread::sleep(Duration::from_millis(200));
        report(&control, "server-a", &server_a(at_s));
        report(&control, "gateway-a", &gateway_a(at_s));
    }
    let output = asked.wait_with_output().unwrap();
    let explanation: Value = serde_json::from_slice(&output.stdout).unwrap();
    let seconds = explanation["interval_us"].as_u64().unwrap() / 1_000_000;
    assert!((2..=9).contains(&seconds), "{explanation}");
    assert_eq!(explanation["out"][0]["came"]["frames"], 25_000 * seconds);
}

#[test]
fn a_controller_that_has_just_started_says_that_it_knows_nothing() {
    let control = Control::start();
    control.furnish();
    let text = control.said(&["top", "--once", "--table", "vnics"]);
    assert!(text.lines().skip(1).all(|line| line.contains("never")), "{text}");
    let text = control.said(&["explain", "vm-a", "--for", "0s"]);
    assert!(text.starts_with("vm-a on server-a, home east-1, nothing to compare yet\n"), "{text}");
    assert!(text.contains("server-a has not reported since the controller started"), "{text}");
}
