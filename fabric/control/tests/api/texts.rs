//! Hosts' texts: the tag, the wait, and who is let in over TLS.

use super::*;
use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr},
    os::unix::net::UnixStream,
    sync::mpsc,
    thread,
    time::Duration,
};
use wireonce_member::{
    AskError, Https, Membership, Token,
    certificate::TlsKey,
    join::{Host, join},
    messages::Renew,
    tls::Clock,
};

const LONG: Duration = Duration::from_secs(60);

/// Status, tag and body of a text, asked for on the socket.
fn ask(socket: &Path, query: &str, tag: Option<&str>) -> (u16, String, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let tag = tag.map_or(String::new(), |tag| format!("if-none-match: {tag}\r\n"));
    let request = format!(
        "GET /v1/hosts/server-a/text{query} HTTP/1.1\r\nhost: x\r\n{tag}connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap_or_default();
    (status, tag.to_owned(), body.to_owned())
}

#[test]
fn whoever_has_the_text_waits_until_it_is_another() {
    let bed = Bed::furnished();
    let (status, tag, body) = ask(&bed.socket(), "?wait_s=60", None);
    assert_eq!(status, 200, "who has none does not wait");
    assert_eq!(tag, format!("\"{}\"", wireonce_member::text::tag_of(&body)));
    let (status, same, body) = ask(&bed.socket(), "", Some(&tag));
    assert_eq!((status, same == tag, body.as_str()), (304, true, ""), "nobody asked to wait");
    assert_eq!(ask(&bed.socket(), "?wait_s=1", Some(&tag)).0, 304);
    let (done, woken) = mpsc::channel();
    let (socket, known) = (bed.socket(), tag.clone());
    thread::spawn(move || done.send(ask(&socket, "?wait_s=60", Some(&known))).unwrap());
    // What is not in this host's text wakes nobody for good.
    bed.put("virtualisation", "/v1/grants/east/server-b", &grant("300Mbit"), &[]).unwrap();
    assert!(woken.recv_timeout(Duration::from_millis(300)).is_err());
    bed.put("virtualisation", "/v1/grants/east/server-a", &grant("650Mbit"), &[]).unwrap();
    let (status, other, body) = woken.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(status, 200);
    assert!(other != tag && body.contains("650Mbit"), "{body}");
}

/// A controller that hosts reach.
struct Reached {
    bed: Bed,
    https: std::net::SocketAddr,
}

impl Reached {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.control.socket = directory.path().join("control.sock");
        settings.control.https = Some((Ipv4Addr::LOCALHOST, 0).into());
        let store = Arc::new(RedbStore::in_memory().unwrap());
        let running = api::start(Controller::new(store).unwrap(), settings).unwrap();
        let https = running.https().unwrap();
        Self { bed: Bed { directory, _running: running }, https }
    }

    fn token(&self, name: &str) -> Token {
        let ask = serde_json::json!({"holder": "server", "name": name, "for_s": 600});
        let made = self.bed.post("admin", "/v1/tokens", &ask).unwrap();
        made["token"].as_str().unwrap().parse().unwrap()
    }

    fn join(&self, name: &str, number: u8) -> Membership {
        join(&self.token(name), &host(name, number), Clock::of_the_machine()).unwrap()
    }
}

fn host(name: &str, number: u8) -> Host {
    Host {
        name: name.to_owned(),
        address: IpAddr::from([127, 0, 0, number]),
        port: 4790,
        public_key: format!("{}{}=", char::from(b'A' + number), "A".repeat(42)),
    }
}

fn as_member(membership: &Membership) -> Https {
    Https::member(membership, Clock::of_the_machine()).unwrap()
}

fn refused(done: Result<wireonce_member::ask::Answer, AskError>) -> (u16, String) {
    match done.unwrap_err() {
        AskError::Refused { status, text } => (status, text),
        other => panic!("{other}"),
    }
}

#[test]
fn a_host_has_its_own_text_and_nothing_else() {
    let reached = Reached::new();
    let (a, b) = (reached.join("a", 1), reached.join("b", 2));
    let asked = as_member(&a);
    assert_eq!(asked.get("/v1/hosts/a/text", &[], LONG).unwrap().status, 200);
    for path in ["/v1/hosts/b/text", "/v1/export", "/v1/backup", "/v1/vnics", "/v1/hosts"] {
        let (status, text) = refused(asked.get(path, &[], LONG));
        assert_eq!(status, 403, "{path}: {text}");
    }
    let renew = Renew { tls_key: TlsKey::generate().unwrap().public_text() };
    let post = "POST".parse::<ureq::http::Method>().unwrap();
    let other = asked.json(post.clone(), "/v1/hosts/b/certificate", &renew, LONG);
    assert_eq!(refused(other).0, 403);
    let invite = serde_json::json!({"holder": "server", "name": "c", "for_s": 60});
    let invite = asked.json(post.clone(), "/v1/tokens", &invite, LONG);
    assert_eq!(refused(invite).0, 403);
    let put = "PUT".parse::<ureq::http::Method>().unwrap();
    let report = serde_json::json!({"status": {"host": "a"}});
    assert_eq!(asked.json(put.clone(), "/v1/hosts/a/report", &report, LONG).unwrap().status, 200);
    let report = serde_json::json!({"status": {"host": "b"}});
    assert_eq!(refused(asked.json(put, "/v1/hosts/b/report", &report, LONG)).0, 403);
    // With the key of one and the certificate of the other nobody gets in.
    let mixed = Membership { key: b.key.clone(), ..a };
    assert!(Https::member(&mixed, Clock::of_the_machine()).is_err());
}

#[test]
fn a_revoked_host_is_refused_at_its_next_request_on_the_same_connection() {
    let reached = Reached::new();
    let member = reached.join("a", 1);
    let asked = as_member(&member);
    assert_eq!(asked.get("/v1/hosts/a/text", &[], LONG).unwrap().status, 200);
    let nothing = Value::Null;
    reached.bed.post("admin", "/v1/hosts/a/revoke", &nothing).unwrap();
    let (status, text) = refused(asked.get("/v1/hosts/a/text", &[], LONG));
    assert_eq!(status, 403);
    assert!(text.contains("was revoked at") && text.contains("wireonce token make"), "{text}");
    let again = reached.join("a", 1);
    assert_eq!(as_member(&again).get("/v1/hosts/a/text", &[], LONG).unwrap().status, 200);
    assert_eq!(refused(as_member(&member).get("/v1/hosts/a/text", &[], LONG)).0, 403);
}

#[test]
fn who_waits_and_is_revoked_meanwhile_gets_no_other_text() {
    let reached = Reached::new();
    let asked = as_member(&reached.join("a", 1));
    let first = asked.get("/v1/hosts/a/text", &[], LONG).unwrap();
    let (done, woken) = mpsc::channel();
    thread::spawn(move || {
        let tag = format!("\"{}\"", first.tag.unwrap());
        let headers = [("if-none-match", tag.as_str())];
        done.send(asked.get("/v1/hosts/a/text?wait_s=60", &headers, LONG)).unwrap();
    });
    assert!(woken.recv_timeout(Duration::from_millis(300)).is_err());
    reached.bed.post("admin", "/v1/hosts/a/revoke", &Value::Null).unwrap();
    let text = "[[network]]\nname = \"n\"\nvni = 7\n[[vnic]]\nname = \"v\"\nhost = \"a\"\nnetwork = \
                \"n\"\nmac = \"52:54:00:00:00:01\"\nsocket = \"/run/v\"\n";
    reached.bed.apply("admin", text).unwrap();
    let (status, text) = refused(woken.recv_timeout(Duration::from_secs(20)).unwrap());
    assert_eq!(status, 403);
    assert!(text.contains("was revoked"), "{text}");
}

/// A person who watches over TLS, as the verbs do.
fn person(reached: &Reached, name: &str) -> Membership {
    let key = TlsKey::generate().unwrap();
    let ask = serde_json::json!({"name": name, "role": "viewer", "tls_key": key.public_text()});
    let made = reached.bed.post("admin", "/v1/users", &ask).unwrap();
    wireonce_member::join::admitted(&made.to_string(), key).unwrap()
}

#[test]
fn who_watches_and_is_revoked_meanwhile_sees_no_more() {
    let reached = Reached::new();
    let client = Client::https(&person(&reached, "nina"), None).unwrap();
    let (seen, events) = mpsc::channel();
    let watcher = thread::spawn(move || {
        client.watch("/v1/watch", |event, data| {
            seen.send((event.to_owned(), data.to_owned())).unwrap();
            event == "change"
        })
    });
    let network = |name: &str, vni: u32| {
        let text = format!("[[network]]\nname = \"{name}\"\nvni = {vni}\n");
        reached.bed.apply("admin", &text).unwrap();
    };
    // The watch begins with the first change after it was let in.
    let mut vni = 100;
    let first = loop {
        network(&format!("n{vni}"), vni);
        vni += 1;
        if let Ok(first) = events.recv_timeout(Duration::from_millis(200)) {
            break first;
        }
    };
    assert_eq!(first.0, "change");
    reached.bed.post("admin", "/v1/users/nina/revoke", &Value::Null).unwrap();
    network("secret", 7);
    let last = events.iter().take_while(|(event, data)| {
        assert!(!data.contains("secret"), "{data}");
        event == "change"
    });
    last.for_each(drop);
    let done = watcher.join().unwrap();
    assert!(done.is_ok(), "it ended by its own closure: {done:?}");
    let again = Client::https(&person(&reached, "nina"), None).unwrap();
    assert!(again.get::<Value>("/v1/whoami").is_ok());
}

#[test]
fn a_member_renews_with_the_certificate_that_it_has() {
    let reached = Reached::new();
    let member = reached.join("a", 1);
    let renew = Renew { tls_key: member.key.public_text() };
    let post = "POST".parse().unwrap();
    let answer = as_member(&member).json(post, "/v1/hosts/a/certificate", &renew, LONG).unwrap();
    let renewed = wireonce_member::join::admitted(&answer.body, member.key.clone()).unwrap();
    assert_ne!(renewed.facts.serial, member.facts.serial);
    assert_eq!(renewed.addresses, [reached.https.to_string()]);
    for one in [&renewed, &member] {
        assert_eq!(as_member(one).get("/v1/hosts/a/text", &[], LONG).unwrap().status, 200);
    }
}

#[test]
fn nobody_is_believed_who_is_of_another_authority() {
    let (here, there) = (Reached::new(), Reached::new());
    let member = here.join("a", 1);
    // The host is not taken in by another controller at the same address,
    let lured = Membership { addresses: vec![there.https.to_string()], ..member.clone() };
    let error = as_member(&lured).get("/v1/hosts/a/text", &[], LONG).unwrap_err().to_string();
    assert!(error.contains("is of another authority"), "{error}");
    // nor the controller by a host of another one,
    let foreign = Membership { ca: there.join("a", 1).ca, ..lured };
    let error = as_member(&foreign).get("/v1/hosts/a/text", &[], LONG).unwrap_err();
    assert_eq!(
        error,
        AskError::Unreachable(format!(
            "{}: the controller does not know our certificate, which is of another authority; see \
             that the address is right, or join again with `wireonce join` and a token of `wireonce \
             token make`, or as a person with a certificate of `wireonce user make` (the role `admin` \
             can)",
            there.https
        ))
    );
    // nor is a token.
    let token = Token { addresses: vec![there.https.to_string()], ..here.token("b") };
    let error = join(&token, &host("b", 2), Clock::of_the_machine()).unwrap_err().to_string();
    assert!(error.contains("is of another authority"), "{error}");
}

#[test]
fn without_a_certificate_one_can_only_join() {
    let reached = Reached::new();
    let token = reached.token("a");
    let stranger = Https::joining(&token, Clock::of_the_machine()).unwrap();
    for path in ["/v1/hosts/a/text", "/v1/export", "/v1/whoami", "/v1/tokens"] {
        let (status, text) = refused(stranger.get(path, &[], LONG));
        assert_eq!(status, 403, "{path}");
        assert!(text.contains("shows no certificate"), "{text}");
    }
    let bad = serde_json::json!({"secret": "00", "kind": "server", "name": "a", "address":
        "127.0.0.1", "port": 1, "public_key": "x", "tls_key": "y"});
    let post = "POST".parse().unwrap();
    let (status, text) = refused(stranger.json(post, "/v1/join", &bad, LONG));
    assert_eq!(status, 403);
    assert!(text.contains("the token: is not known here"), "{text}");
    let late = Clock(|| 4_000_000_000);
    let error = join(&token, &host("a", 1), late).unwrap_err().to_string();
    assert!(error.contains("set the clocks of both hosts"), "{error}");
}

#[test]
fn without_https_there_are_no_tokens() {
    let bed = Bed::new();
    let ask = serde_json::json!({"holder": "server", "name": "a", "for_s": 60});
    let refusal = refusal(bed.post("admin", "/v1/tokens", &ask));
    assert!(refusal.remedy.contains("https_addresses"), "{refusal}");
}
