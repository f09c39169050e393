//! Bad input, over the API: one clear error each, and the old state stands.

use super::*;
use redb::{StorageBackend, backends::InMemoryBackend};
use serde_json::json;
use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use wireonce_control::refusal::Gate;

/// What is refused, at which gate, and what the error says.
fn stands(bed: &Bed, gate: Gate, said: &str, ask: impl FnOnce(&Bed) -> Result<Value, ClientError>) {
    let before = bed.client("viewer").text("/v1/export").unwrap();
    let refusal = refusal(ask(bed));
    assert_eq!((refusal.gate, refusal.to_string()), (gate, said.to_owned()));
    assert_eq!(bed.client("viewer").text("/v1/export").unwrap(), before);
}

#[test]
fn reservations_beyond_the_pool() {
    stands(
        &Bed::furnished(),
        Gate::Admission,
        "[[pool]] \"east\": its grants reserve 2300Mbit up, 320Mbit more than the 1980Mbit that its \
         uplinks can be promised to carry; reserve less, or add an uplink to the pool (the role \
         `network` can)",
        |bed| bed.put("virtualisation", "/v1/grants/east/server-a", &grant("1900Mbit"), &[]),
    );
}

#[test]
fn a_limit_below_its_reservation() {
    stands(
        &Bed::furnished(),
        Gate::Text,
        "[[policy]] \"gold\": key `up.limit`: 50Mbit is less than the reservation of 100Mbit; give \
         a limit of at least 100Mbit, or reserve less",
        |bed| {
            let terms = json!({"up": {"reservation": "100Mbit", "limit": "50Mbit"}});
            bed.put("virtualisation", "/v1/policies/gold", &terms, &[])
        },
    );
}

#[test]
fn negative_and_absurd_units() {
    let bed = Bed::furnished();
    stands(
        &bed,
        Gate::Text,
        "[[grant]] \"east/server-a\": key `up`: \"-1Gbit\" is negative; write a rate of 0bit or more",
        |bed| bed.put("virtualisation", "/v1/grants/east/server-a", &grant("-1Gbit"), &[]),
    );
    stands(
        &bed,
        Gate::Text,
        "[[grant]] \"east/server-a\": key `up`: \"9000Tbit\" is more than any port carries; write at \
         most \"100Tbit\"",
        |bed| bed.put("virtualisation", "/v1/grants/east/server-a", &grant("9000Tbit"), &[]),
    );
}

#[test]
fn names_that_are_not_known() {
    let bed = Bed::furnished();
    stands(
        &bed,
        Gate::House,
        "[[grant]] \"east/server-q\": key `server`: \"server-q\" is the name of no [[server]]; did \
         you mean \"server-a\"?",
        |bed| bed.put("virtualisation", "/v1/grants/east/server-q", &grant("1Mbit"), &[]),
    );
    stands(
        &bed,
        Gate::Missing,
        "kind \"vnicks\": there is no such kind of object; did you mean \"vnic\"?",
        |bed| bed.client("viewer").get("/v1/vnicks"),
    );
    stands(
        &bed,
        Gate::Missing,
        "path \"/v2/vnics\": does not exist; /v1/openapi.json has all paths",
        |bed| bed.client("viewer").get("/v2/vnics"),
    );
}

#[test]
fn a_body_that_is_none() {
    let bed = Bed::furnished();
    let client = bed.client("virtualisation");
    let headers = [("content-type", "application/json")];
    let done: Result<Value, _> =
        client.change("PUT".parse().unwrap(), "/v1/vnics/x", &headers, "{\"mac\": ".to_owned());
    let said = refusal(done);
    assert_eq!((said.gate, &*said.thing), (Gate::Text, "the body"));
    stands(
        &bed,
        Gate::Text,
        "[[vnic]] \"x\": the body is about \"y\"; give the same name in both, or leave it out of \
         the body",
        |bed| {
            let vnic = json!({"name": "y", "host": "server-a", "network": "storage", "mac":
                "52:54:00:00:09:09", "socket": "/run/y"});
            bed.put("virtualisation", "/v1/vnics/x", &vnic, &[])
        },
    );
}

#[test]
fn a_stale_version() {
    let bed = Bed::furnished();
    let version = bed.get("/v1/grants/east/server-a")["version"].to_string();
    let based = [("if-match", version.as_str())];
    bed.put("virtualisation", "/v1/grants/east/server-a", &grant("500Mbit"), &based).unwrap();
    stands(
        &bed,
        Gate::Conflict,
        &format!(
            "[[grant]] \"east/server-a\": the change is based on version {version}, and it has \
             version 2 now; look at it with `wireonce grant show east/server-a`, and change what \
             is so"
        ),
        |bed| bed.put("virtualisation", "/v1/grants/east/server-a", &grant("550Mbit"), &based),
    );
}

#[test]
fn a_document_of_an_old_export() {
    let bed = Bed::furnished();
    let exported = bed.client("viewer").text("/v1/export").unwrap();
    assert!(exported.starts_with("# revision 1\n"), "{exported}");
    bed.put("virtualisation", "/v1/grants/east/server-a", &grant("500Mbit"), &[]).unwrap();
    let apply = |bed: &Bed, base: (&str, &str)| {
        let headers = [("content-type", "application/toml"), base];
        let post = "POST".parse().unwrap();
        bed.client("admin").change(post, "/v1/apply", &headers, exported.clone())
    };
    stands(
        &bed,
        Gate::Conflict,
        "the document: the change is based on revision 1, and the house has revision 2 now; look at \
         it with `wireonce export`, and change what is so",
        |bed| apply(bed, ("if-match", "\"1\"")),
    );
    stands(
        &bed,
        Gate::Text,
        "header If-None-Match: a document is of many objects; send it for one object, or `If-Match` \
         with the ETag of an export",
        |bed| apply(bed, ("if-none-match", "*")),
    );
    apply(&bed, ("if-match", "2")).unwrap();
    assert_eq!(bed.reserved("server-a"), "600Mbit");
}

#[test]
fn two_writers_at_once() {
    let bed = Bed::furnished();
    let version = bed.get("/v1/grants/east/server-a")["version"].to_string();
    let writers: Vec<_> = ["500Mbit", "550Mbit", "450Mbit"]
        .map(|rate| {
            let (socket, version) = (bed.socket(), version.clone());
            thread::spawn(move || {
                let headers =
                    [("content-type", "application/json"), ("if-match", version.as_str())];
                client(&socket, "virtualisation").change::<Value>(
                    "PUT".parse().unwrap(),
                    "/v1/grants/east/server-a",
                    &headers,
                    grant(rate).to_string(),
                )
            })
        })
        .into_iter()
        .map(|writer| writer.join().unwrap())
        .collect();
    assert_eq!(writers.iter().filter(|done| done.is_ok()).count(), 1, "{writers:?}");
    for lost in writers.into_iter().filter(Result::is_err) {
        assert_eq!(refusal(lost).gate, Gate::Conflict);
    }
}

#[test]
fn who_may_not_is_told_who_may() {
    let bed = Bed::furnished();
    stands(
        &bed,
        Gate::Right,
        "[[budget]] \"east\": the role `virtualisation` may not change budgets; leave it as it is, \
         or ask the network team (the role `network` can)",
        |bed| bed.put("virtualisation", "/v1/budgets/east", &json!({"up": "1980Mbit"}), &[]),
    );
    stands(
        &bed,
        Gate::Right,
        "the backup: the role `network` may not do that; ask an admin (the role `admin` can)",
        |bed| bed.client("network").text("/v1/backup").map(Value::String),
    );
    stands(
        &bed,
        Gate::Text,
        "the role to act in: there is no role \"netwrok\"; did you mean \"network\"?",
        |bed| bed.client("netwrok").get("/v1/whoami"),
    );
}

/// A disk that is full when it is told so.
#[derive(Debug)]
struct Disk {
    memory: Arc<InMemoryBackend>,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn check(&self) -> io::Result<()> {
        match self.full.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.memory.write(offset, data)
    }
}

#[test]
fn a_store_that_is_full() {
    let (memory, full) = (Arc::new(InMemoryBackend::new()), Arc::new(AtomicBool::new(false)));
    let disk = {
        let (memory, full) = (Arc::clone(&memory), Arc::clone(&full));
        move || Ok(Disk { memory: Arc::clone(&memory), full: Arc::clone(&full) })
    };
    let bed = Bed::on(Arc::new(RedbStore::on(disk).unwrap()));
    bed.apply("admin", HOUSE).unwrap();
    full.store(true, Ordering::Relaxed);
    stands(
        &bed,
        Gate::Store,
        "store in memory: no room is left, so nothing was changed; make room on that file system \
         and try again",
        |bed| bed.put("virtualisation", "/v1/grants/east/server-a", &grant("500Mbit"), &[]),
    );
    full.store(false, Ordering::Relaxed);
    bed.put("virtualisation", "/v1/grants/east/server-a", &grant("500Mbit"), &[]).unwrap();
    assert_eq!(bed.reserved("server-a"), "500Mbit");
}
