//! Reports of hosts: taken from those who may, bounded, and shown.

use super::*;
use serde_json::json;

const PATH: &str = "/v1/hosts/server-a/report";

fn report(uptime_s: u64) -> Value {
    json!({ "tag": "t", "status": { "host": "server-a", "uptime_s": uptime_s, "newer": [] } })
}

#[test]
fn a_report_is_taken_shown_and_the_host_is_told_when_to_come_again() {
    let bed = Bed::furnished();
    let said = refusal(bed.client("viewer").get(PATH)).to_string();
    assert!(said.starts_with("host \"server-a\": has not reported since"), "{said}");
    assert_eq!(bed.put("admin", PATH, &report(7), &[]).unwrap(), json!({"next_in_s": 1}));
    bed.put("admin", PATH, &report(8), &[]).unwrap();
    let shown = bed.get(PATH);
    assert_eq!((&shown["host"], &shown["next_in_s"]), (&json!("server-a"), &json!(1)));
    assert_eq!(
        (&shown["report"]["tag"], &shown["report"]["status"]["uptime_s"]),
        (&json!("t"), &json!(8))
    );
}

#[test]
fn only_an_admin_reports_over_the_socket() {
    let bed = Bed::furnished();
    for role in ["network", "virtualisation", "viewer"] {
        let refused = refusal(bed.put(role, PATH, &report(1), &[]));
        assert_eq!(refused.who.as_deref(), Some("admin"));
    }
}

#[test]
fn hosts_that_do_not_exist_and_reports_of_others_are_refused() {
    let bed = Bed::furnished();
    let said = refusal(bed.put("admin", "/v1/hosts/server-x/report", &report(1), &[])).to_string();
    assert!(said.contains("does not exist; did you mean \"server-a\"?"), "{said}");
    let said = refusal(bed.put("admin", "/v1/hosts/server-b/report", &report(1), &[])).to_string();
    assert!(said.contains("is of \"server-a\", and came as that of \"server-b\""), "{said}");
    let said = refusal(bed.put("admin", PATH, &json!({"status": 7}), &[])).to_string();
    assert!(said.starts_with("the report: cannot be read: "), "{said}");
}

#[test]
fn a_report_over_four_megabytes_is_refused() {
    let bed = Bed::furnished();
    let long = json!({ "tag": "x".repeat(4 << 20) });
    let said = refusal(bed.put("admin", PATH, &long, &[])).to_string();
    assert!(said.contains("is more than 4194304 bytes"), "{said}");
    let fits = json!({ "tag": "x".repeat((4 << 20) - 100) });
    bed.put("admin", PATH, &fits, &[]).unwrap();
}

/// A change is applied when it is kept; whom it does not reach is said with the answer.
#[test]
fn a_host_that_refused_its_newest_text_is_named_by_every_change_that_concerns_it() {
    let bed = Bed::furnished();
    let why = "uplink \"east-1\": there is no interface \"nope\"\n\u{1b}[2J";
    let report = json!({ "tag": "t", "refused": why, "status": { "host": "gateway-a" } });
    bed.put("admin", "/v1/hosts/gateway-a/report", &report, &[]).unwrap();
    let note = json!([
        "gateway-a refused the text that it was sent last and serves the one before (uplink \
         \"east-1\": there is no interface \"nope\"  [2J); what is changed here reaches it when it \
         takes a text again: `wireonce top` shows that"
    ]);
    let shift = json!({"pool": "east", "from": "server-a", "to": "server-b", "rate": "100Mbit"});
    for path in ["/v1/grants/move?dry_run=true", "/v1/grants/move"] {
        assert_eq!(bed.post("virtualisation", path, &shift).unwrap()["notes"], note, "{path}");
    }
    let to = json!({ "to": "east-2" });
    assert_eq!(bed.post("virtualisation", "/v1/vnics/vm-a/move", &to).unwrap()["notes"], note);
    let asked =
        bed.put("virtualisation", "/v1/grants/east/server-b", &grant("1200Mbit"), &[]).unwrap();
    assert_eq!(asked["answer"], "requested");
    let yes = json!({ "approve": true });
    assert_eq!(bed.post("network", "/v1/requests/1", &yes).unwrap()["notes"], note);
    // What it is not told of has nothing to do with it,
    let unused = json!({ "up": { "shares": 50 } });
    let answer = bed.put("virtualisation", "/v1/policies/silver", &unused, &[]).unwrap();
    assert_eq!(answer["notes"], Value::Null);
    // nor has what is changed after it took one.
    let report = json!({ "tag": "t", "status": { "host": "gateway-a" } });
    bed.put("admin", "/v1/hosts/gateway-a/report", &report, &[]).unwrap();
    let to = json!({ "to": "east-1" });
    let answer = bed.post("virtualisation", "/v1/vnics/vm-a/move", &to).unwrap();
    assert_eq!(answer["notes"], Value::Null);
}

/// What a server's vNIC has sent and what it asks for, a second after the other.
fn sending(host: &str, vnic: &str, second: u64, bytes: u64) -> Value {
    let amount = json!({ "frames": bytes / 1_000, "segments": bytes / 1_000, "bytes": bytes });
    json!({ "status": {
        "role": "backend", "host": host, "life": 7, "sampled_at_us": second * 1_000_000,
        "vnics": [{ "name": vnic, "id": 1, "state": "running", "tx": amount }],
    } })
}

/// Who decides reads what was measured when it was asked, not what is going on by then.
#[test]
fn a_request_has_what_servers_used_and_wanted_when_it_was_asked() {
    let bed = Bed::furnished();
    for second in [10, 11] {
        // Frames of 1,000 bytes with what is around them: 80 Mbit a second.
        let report = sending("server-a", "vm-a", second, (second - 10) * 9_760_000);
        bed.put("admin", PATH, &report, &[]).unwrap();
    }
    bed.put("virtualisation", "/v1/grants/east/server-a", &grant("1200Mbit"), &[]).unwrap();
    let request = bed.get("/v1/requests/1");
    let measured = request["measured"].as_array().unwrap();
    let names: Vec<_> = measured.iter().map(|it| it["server"].as_str().unwrap()).collect();
    assert_eq!(names, ["server-a", "server-b", "server-a", "server-b"]);
    let ways: Vec<_> = measured.iter().map(|it| it["direction"].as_str().unwrap()).collect();
    assert_eq!(ways, ["up", "up", "down", "down"]);
    let bps =
        |text: &Value| text.as_str().unwrap().parse::<wireonce_desired::Rate>().unwrap().bps();
    let (used, wanted) = (bps(&measured[0]["used"]), bps(&measured[0]["wanted"]));
    assert!((70_000_000..90_000_000).contains(&used), "{request}");
    assert!((used..used / 10 * 12).contains(&wanted), "{request}");
    assert_eq!(measured[0]["reserved"], "600Mbit");
    assert_eq!(measured[1]["used"], Value::Null, "server-b is silent");
    assert_eq!(measured[1]["heard_s"], Value::Null);
}
