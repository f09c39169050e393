//! Watching, and copies.

use super::*;
use std::{sync::mpsc, thread};
use wireonce_control::store::restore;

#[test]
fn a_watcher_sees_each_change_with_its_revision() {
    let bed = Bed::furnished();
    let (seen, changes) = mpsc::channel();
    let socket = bed.socket();
    let watcher = thread::spawn(move || {
        let each = |event: &str, data: &str| {
            let change: Value = serde_json::from_str(data).unwrap();
            seen.send((event.to_owned(), change)).unwrap();
            // One grant of the house, then the one that is changed below.
            !data.contains("650Mbit")
        };
        client(&socket, "viewer").watch("/v1/watch?after=0", each).unwrap();
    });
    let first: Vec<_> = changes.iter().take(16).collect();
    assert!(first.iter().all(|(event, change)| event == "change" && change["revision"] == 1));
    bed.put("virtualisation", "/v1/grants/east/server-a", &grant("650Mbit"), &[]).unwrap();
    let (_, change) = changes.recv().unwrap();
    assert_eq!(change["key"], "object/grant/east/server-a");
    assert_eq!(change["value"]["up"]["reservation"], "650Mbit");
    watcher.join().unwrap();
}

#[test]
fn a_backup_over_the_api_becomes_the_same_house() {
    let bed = Bed::furnished();
    let backup = bed.client("admin").text("/v1/backup").unwrap();
    let store = RedbStore::in_memory().unwrap();
    restore(&store, &backup).unwrap();
    let other = Bed::on(Arc::new(store));
    let export = |bed: &Bed| bed.client("viewer").text("/v1/export").unwrap();
    assert_eq!(export(&other), export(&bed));
    let audit = |bed: &Bed| bed.get("/v1/audit?limit=1000");
    assert_eq!(audit(&other), audit(&bed));
    // Ids are remembered, too.
    let text = "[[vnic]]\nid = 1001\nname = \"vm-z\"\nhost = \"server-a\"\nnetwork = \"storage\"\n\
                mac = \"52:54:00:00:07:07\"\nsocket = \"/run/z\"\n";
    assert!(refusal(other.apply("admin", text)).to_string().contains("no id is used twice"));
}

#[test]
fn a_socket_that_nobody_serves_is_taken_over_and_one_that_is_served_is_not() {
    let bed = Bed::new();
    let store = || Arc::new(RedbStore::in_memory().unwrap());
    let mut settings = Settings::default();
    settings.control.socket = bed.socket();
    let busy = api::start(Controller::new(store()).unwrap(), settings.clone());
    assert_eq!(busy.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    settings.control.socket = bed.directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&settings.control.socket).unwrap());
    let running = api::start(Controller::new(store()).unwrap(), settings.clone()).unwrap();
    let me: Value = Client::unix(&settings.control.socket, None).get("/v1/whoami").unwrap();
    assert_eq!(me["role"], "admin");
    running.stop();
    assert!(!settings.control.socket.exists());
}
