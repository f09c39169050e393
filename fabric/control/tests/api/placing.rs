//! Moves, drains and plans over the API.

use super::*;
use serde_json::json;
use wireonce_control::refusal::Gate;

fn nothing() -> Value {
    json!({})
}

impl Bed {
    fn home(&self, vnic: &str) -> String {
        let item = self.get(&format!("/v1/vnics/{vnic}"));
        item["object"]["home"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_vnic_moves_and_its_standbys_follow() {
    let bed = Bed::furnished();
    let path = "/v1/vnics/vm-a/move";
    let tried =
        bed.post("virtualisation", &format!("{path}?dry_run=true"), &json!({"to": "east-2"}));
    assert_eq!(tried.unwrap()["revision"], 0);
    assert_eq!(bed.home("vm-a"), "east-1");
    bed.post("virtualisation", path, &json!({"to": "east-2"})).unwrap();
    assert_eq!(bed.home("vm-a"), "east-2");
    let item = bed.get("/v1/vnics/vm-a");
    assert_eq!(item["object"]["standbys"], json!(["east-1"]));
    let refusal = refusal(bed.post("network", path, &json!({"to": "east-1"})));
    assert_eq!((refusal.gate, refusal.who.as_deref()), (Gate::Right, Some("virtualisation")));
}

#[test]
fn a_vnic_without_home_gets_one() {
    let bed = Bed::furnished();
    let vnic = json!({"host": "server-a", "network": "blue", "mac": "52:54:00:00:09:09", "socket": "/run/new"});
    bed.put("virtualisation", "/v1/vnics/new", &vnic, &[]).unwrap();
    assert!(bed.home("new").starts_with("east-"));
    assert_eq!(bed.get("/v1/vnics/new")["object"]["standbys"].as_array().unwrap().len(), 1);
}

#[test]
fn an_uplink_drains_is_shown_and_comes_back() {
    let bed = Bed::furnished();
    let answer = bed.post("network", "/v1/uplinks/east-1/drain?reason=repair", &nothing()).unwrap();
    assert_eq!(answer["answer"], "applied");
    assert!(answer["notes"][0].as_str().unwrap().contains("nothing is kept free"), "{answer}");
    assert_eq!(bed.home("vm-a"), "east-2");
    assert!(bed.client("viewer").text("/v1/export").unwrap().contains("draining = true"));
    let text = bed.client("admin").text("/v1/hosts/server-a/text").unwrap();
    assert!(text.contains("draining = true"), "hosts are told");
    let trail = bed.get("/v1/audit?limit=3");
    assert!(trail.as_array().unwrap().iter().all(|line| line["reason"] == "repair"), "{trail}");
    let progress = bed.get("/v1/uplinks/east-1/drain");
    assert_eq!((&progress["draining"], &progress["done"]), (&json!(true), &json!(false)));
    let waiting = json!({"host": "gateway-a", "why": "has not reported"});
    assert!(progress["waits_for"].as_array().unwrap().contains(&waiting), "{progress}");
    bed.post("network", "/v1/uplinks/east-1/undrain", &nothing()).unwrap();
    assert_eq!(bed.get("/v1/vnics/vm-a")["object"]["standbys"], json!(["east-1"]));
    assert_eq!(bed.get("/v1/uplinks/east-1/drain")["draining"], false);
}

#[test]
fn gateways_drain_and_servers_do_not() {
    let bed = Bed::furnished();
    bed.post("network", "/v1/gateways/gateway-a/drain", &nothing()).unwrap();
    assert_eq!(bed.home("vm-a"), "east-2");
    assert_eq!(bed.get("/v1/gateways/gateway-a/drain")["draining"], true);
    assert_eq!(bed.get("/v1/uplinks/east-1/drain")["draining"], true, "its uplinks do");
    bed.post("network", "/v1/gateways/gateway-a/undrain", &nothing()).unwrap();
    let said = refusal(bed.post("admin", "/v1/servers/server-a/drain", &nothing()));
    assert!(said.to_string().contains("is a server: its vNICs stay with their VMs"), "{said}");
    let said = refusal(bed.post("network", "/v1/uplinks/east-9/drain", &nothing()));
    assert_eq!(said.to_string(), "[[uplink]] \"east-9\": does not exist; did you mean \"east-1\"?");
    let said = refusal(bed.post("virtualisation", "/v1/uplinks/east-1/drain", &nothing()));
    assert_eq!((said.gate, said.who.as_deref()), (Gate::Right, Some("network")));
}

#[test]
fn a_plan_is_shown_and_carried_out_on_the_house_that_it_was_made_for() {
    let bed = Bed::furnished();
    let plan = bed.get("/v1/pools/east/rebalance");
    assert_eq!(plan["moves"], json!([]));
    assert!(plan["notes"].is_array(), "{plan}");
    let agreed = json!({"revision": plan["revision"], "moves": [{"vnic": "vm-a", "to": "east-2"}]});
    bed.post("virtualisation", "/v1/pools/east/rebalance", &agreed).unwrap();
    assert_eq!(bed.home("vm-a"), "east-2");
    let said = refusal(bed.post("virtualisation", "/v1/pools/east/rebalance", &agreed));
    assert_eq!(said.gate, Gate::Conflict);
    assert!(said.to_string().starts_with("the plan: was made for revision "), "{said}");
    let said = refusal(bed.post("virtualisation", "/v1/pools/eats/rebalance", &agreed));
    assert!(said.to_string().contains("did you mean \"east\"?"), "{said}");
}

#[test]
fn who_rebalances_a_pool_is_one_of_two_words() {
    let bed = Bed::furnished();
    let pool = |word: &str| json!({"mtu": 1600, "rebalance": word});
    bed.put("network", "/v1/pools/east", &pool("auto"), &[]).unwrap();
    let said = refusal(bed.put("network", "/v1/pools/east", &pool("automatic"), &[]));
    assert_eq!(
        said.to_string(),
        "[[pool]] \"east\": key `rebalance`: unknown variant `automatic`, not `off` or `auto`; give \
         `off` or `auto`"
    );
    let said = refusal(bed.put("virtualisation", "/v1/pools/east", &pool("off"), &[]));
    assert_eq!(said.who.as_deref(), Some("network"));
}

#[test]
fn the_description_has_the_verbs() {
    let bed = Bed::new();
    let description = bed.get("/v1/openapi.json");
    let paths = description["paths"].as_object().unwrap();
    for path in [
        "/v1/vnics/{name}/move",
        "/v1/uplinks/{name}/drain",
        "/v1/uplinks/{name}/undrain",
        "/v1/gateways/{name}/drain",
        "/v1/gateways/{name}/undrain",
        "/v1/pools/{name}/rebalance",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
}
