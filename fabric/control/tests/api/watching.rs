//! Watching, and copies.

use super::*;
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::mpsc,
    thread,
};
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
    // But for the first line, which names the revision.
    let tables = |bed: &Bed| export(bed).split_once('\n').unwrap().1.to_owned();
    assert_eq!(tables(&other), tables(&bed));
    assert_ne!(export(&other), export(&bed));
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

/// The first events of a watch, as they come: until `enough` says so.
fn events(socket: &Path, path: &str, headers: &str, enough: impl Fn(&str) -> bool) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let (mut text, mut part) = (String::new(), [0; 4096]);
    while !enough(&text) {
        let len = stream.read(&mut part).unwrap();
        assert!(len > 0, "it ended: {text}");
        text.push_str(std::str::from_utf8(&part[..len]).unwrap());
    }
    text
}

/// What browsers do by themselves.
#[test]
fn a_watcher_that_comes_again_goes_on_after_the_last_event_that_it_saw() {
    let bed = Bed::furnished();
    for rate in ["610Mbit", "620Mbit", "630Mbit"] {
        bed.put("virtualisation", "/v1/grants/east/server-a", &grant(rate), &[]).unwrap();
    }
    let all = events(&bed.socket(), "/v1/watch?after=0", "", |text| text.contains("630Mbit"));
    assert_eq!(all.matches("event: change").count(), 16 + 3);
    // The sixteen objects are one revision: whoever lost some of them is told of them again.
    assert_eq!(all.matches("\nid: 1\n").count(), 1);
    let last = "last-event-id: 3\r\n";
    let rest = events(&bed.socket(), "/v1/watch?after=0", last, |text| text.contains("630Mbit"));
    assert!(!rest.contains("620Mbit"), "{rest}");
    let bad = events(&bed.socket(), "/v1/watch", "last-event-id: x\r\n", |text| text.contains('}'));
    assert!(bad.contains("header Last-Event-ID: is no revision"), "{bad}");
}

#[test]
fn who_watches_from_what_is_still_to_come_is_told_so() {
    let bed = Bed::furnished();
    let done = bed.client("viewer").watch("/v1/watch?after=57", |_, _| panic!("nothing happens"));
    let said = refusal(done.map(|()| Value::Null));
    assert_eq!(
        said.to_string(),
        "the watch: revision 57 is still to come, and 1 is the newest; read everything anew, then \
         watch from there: this may be another store"
    );
}
