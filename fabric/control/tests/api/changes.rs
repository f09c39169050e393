//! The ways to change something, and to see it.

use super::*;
use serde_json::json;
use wireonce_config::Config;

#[test]
fn a_house_goes_in_and_comes_out_as_it_was() {
    let bed = Bed::furnished();
    let exported = bed.client("viewer").text("/v1/export").unwrap();
    let other = Bed::new();
    other.apply("admin", &exported).unwrap();
    assert_eq!(other.client("viewer").text("/v1/export").unwrap(), exported);
    assert_eq!(bed.apply("admin", &exported).unwrap()["answer"], "unchanged");
}

#[test]
fn objects_are_listed_shown_put_and_removed() {
    let bed = Bed::furnished();
    let names: Vec<String> = bed
        .get("/v1/vnics")
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["vm-a", "vm-b", "vm-c"]);
    let answer =
        bed.put("virtualisation", "/v1/policies/silver", &json!({"up": {"shares": 50}}), &[]);
    assert_eq!(answer.unwrap()["difference"]["objects"][0]["name"], "silver");
    let silver = bed.get("/v1/policies/silver");
    assert_eq!(silver["object"], json!({"name": "silver", "up": {"shares": 50}}));
    let client = bed.client("virtualisation");
    let gone: Value = client
        .change("DELETE".parse().unwrap(), "/v1/policies/silver", &[], String::new())
        .unwrap();
    assert_eq!(gone["difference"]["objects"][0]["change"], "removed");
    assert!(client.get::<Value>("/v1/policies/silver").is_err());
}

#[test]
fn a_trial_says_what_would_change_and_changes_nothing() {
    let bed = Bed::furnished();
    let answer =
        bed.put("virtualisation", "/v1/grants/east/server-a?dry_run=true", &grant("700Mbit"), &[]);
    assert_eq!(answer.unwrap()["answer"], "applied");
    assert_eq!(bed.reserved("server-a"), "600Mbit");
}

#[test]
fn a_move_within_the_budget_is_one_command_and_in_the_trail() {
    let bed = Bed::furnished();
    let body = json!({"pool": "east", "from": "server-a", "to": "server-b", "rate": "200Mbit"});
    let answer = bed.post("virtualisation", "/v1/grants/move?reason=month%20end", &body).unwrap();
    assert_eq!(answer["answer"], "applied");
    assert_eq!(
        (bed.reserved("server-a"), bed.reserved("server-b")),
        ("400Mbit".into(), "600Mbit".into())
    );
    let trail = bed.get("/v1/audit?limit=2");
    for (line, server) in trail.as_array().unwrap().iter().zip(["server-a", "server-b"]) {
        assert_eq!(line["name"], format!("east/{server}"));
        assert_eq!(line["reason"], "month end");
        assert_eq!(
            (&line["by"]["role"], &line["by"]["acting_as"]),
            (&json!("admin"), &json!("virtualisation"))
        );
    }
}

#[test]
fn what_is_beyond_the_budget_waits_for_the_network_team() {
    let bed = Bed::furnished();
    let asked =
        bed.put("virtualisation", "/v1/grants/east/server-a", &grant("1200Mbit"), &[]).unwrap();
    assert_eq!(asked["answer"], "requested");
    assert_eq!(bed.reserved("server-a"), "600Mbit");
    let path = format!("/v1/requests/{}", asked["request"]);
    assert_eq!(bed.get(&path)["state"]["state"], "open");
    let verdict = json!({"approve": true, "ceiling": "1150Mbit"});
    bed.post("network", &path, &verdict).unwrap();
    assert_eq!(bed.reserved("server-a"), "1150Mbit");
    assert_eq!(bed.get(&path)["state"]["state"], "approved");
    let used = bed.get("/v1/pools/use");
    assert_eq!(used[0]["reserved"], "1550Mbit");
}

#[test]
fn each_host_has_a_text_that_its_daemon_can_read() {
    let bed = Bed::furnished();
    let text = bed.client("viewer").text("/v1/hosts/server-a/text").unwrap();
    let head = "[host]\nname = \"server-a\"\nprivate_key_file = \"/k\"\n[fabric]\naddress = \"10.77.0.1\"\n";
    let config = Config::parse(&(head.to_owned() + &text), "text").unwrap();
    assert_eq!(config.local_vnics().count(), 1);
    let said = refusal(bed.client("viewer").get("/v1/hosts/server-x/text"));
    assert_eq!(
        said.to_string(),
        "[[server]] \"server-x\": does not exist; did you mean \"server-a\"?"
    );
}

#[test]
fn the_description_is_served_with_the_objects_that_there_are() {
    let description = Bed::new().get("/v1/openapi.json");
    assert!(description["paths"]["/v1/apply"]["post"].is_object());
    assert!(description["components"]["schemas"]["Vnic"]["properties"]["mac"].is_object());
}

#[test]
fn the_caller_is_who_the_kernel_says() {
    let bed = Bed::new();
    let me: Value = Client::unix(&bed.socket(), None).get("/v1/whoami").unwrap();
    assert_eq!(me, json!({"user": "root", "role": "admin"}));
}
