//! Tokens, joins, renewals and revocations, without a network.

use super::*;
use crate::{
    Caller, Controller, Role,
    change::Action,
    refusal::{Gate, Refusal},
    store::{RedbStore, backup, restore},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{sync::Arc, time::Duration};
use wireonce_desired::Moment;
use wireonce_member::{
    HostKind,
    certificate::{Facts, TlsKey},
    messages::Join,
    tls::crypto,
    token::Secret,
};

const DAY_S: u64 = 86_400;
const NOW: Moment = Moment(1_772_388_000);

fn later(days: u64) -> Moment {
    Moment(NOW.0 + days * DAY_S)
}

struct House {
    controller: Controller,
    authority: Authority,
    admin: Caller,
}

impl House {
    fn new() -> Self {
        let store = Arc::new(RedbStore::in_memory().unwrap());
        let controller = Controller::new(store).unwrap();
        let authority = Authority::open(&**controller.store(), NOW).unwrap();
        Self { controller, authority, admin: Caller::new("root", Role::Admin) }
    }

    fn invite(&self, holder: Holder, name: &str, rekey: bool) -> Result<Secret, Refusal> {
        let secret = Secret::generate().unwrap();
        let ask = Invite { holder, name: name.to_owned(), for_s: 3600, rekey };
        let hash = secret.hash();
        self.controller
            .commit(|state| plan_invite(state, &self.admin, &ask, &hash, NOW))
            .map(|_| secret)
    }

    fn join(&self, secret: &Secret, name: &str, key: u8, now: Moment) -> Result<Facts, Refusal> {
        let ask = ask(secret, name, key);
        let joined = self.controller.commit(|state| plan_join(state, &self.authority, &ask, now));
        joined.map(|pem| facts(&pem))
    }

    /// A host that joined at [`NOW`].
    fn joined(&self, name: &str) -> Facts {
        let secret = self.invite(Holder::Server, name, false).unwrap();
        self.join(&secret, name, 1, NOW).unwrap()
    }

    fn admit(&self, name: &str, facts: &Facts, now: Moment) -> Result<Caller, Refusal> {
        let identity = server(name);
        let state = self.controller.state().unwrap();
        state.admit(&identity, &facts.serial, Moment(facts.until_s), now)
    }

    fn revoke(&self, name: &str, now: Moment) {
        let plan = |state: &_| plan_revoke(state, &self.admin, &server(name), None, now);
        self.controller.commit(plan).unwrap();
    }
}

fn server(name: &str) -> Identity {
    Identity::new(Holder::Server, name).unwrap()
}

fn ask(secret: &Secret, name: &str, key: u8) -> Join {
    Join {
        secret: secret.to_hex(),
        kind: HostKind::Server,
        name: name.to_owned(),
        address: [127, 0, 0, key].into(),
        port: 4790,
        public_key: format!("{}{}=", char::from(b'A' + key), "A".repeat(42)),
        tls_key: TlsKey::generate().unwrap().public_text(),
    }
}

fn facts(pem: &str) -> Facts {
    Facts::of(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap()
}

#[test]
fn a_token_lets_one_host_in_once_and_pins_its_key() {
    let house = House::new();
    let secret = house.invite(Holder::Server, "a", false).unwrap();
    let facts = house.join(&secret, "a", 1, NOW).unwrap();
    assert_eq!(facts.until_s, later(30).0);
    let caller = house.admit("a", &facts, NOW).unwrap();
    assert_eq!((caller.user.as_str(), caller.role), ("a", Role::Host));
    let state = house.controller.state().unwrap();
    let (_, host) = state.house.hosts().next().unwrap();
    assert!(host.name == "a" && host.public_key.starts_with('B'), "{host:?}");
    let again = house.join(&secret, "a", 1, NOW).unwrap_err();
    assert!(again.problem.contains("works once"), "{again}");
    assert_eq!(again.gate, Gate::Right);
    let trail = house.controller.audit(0, 10).unwrap();
    let actions: Vec<Action> = trail.iter().map(|entry| entry.action).collect();
    assert_eq!(actions, [Action::Invited, Action::Added, Action::Joined]);
    assert!(trail.iter().all(|entry| entry.by.user == "root"));
    let text = serde_json::to_string(&trail).unwrap();
    assert!(!text.contains(&secret.to_hex()) && !text.contains(&secret.hash()));
}

#[test]
fn whoever_joins_at_the_same_time_one_wins() {
    let house = House::new();
    let secret = house.invite(Holder::Server, "a", false).unwrap();
    let done: Vec<bool> = std::thread::scope(|scope| {
        let tries: Vec<_> = (1..=8)
            .map(|key| {
                scope.spawn({
                    let (house, secret) = (&house, &secret);
                    move || house.join(secret, "a", key, NOW).is_ok()
                })
            })
            .collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(done.iter().filter(|is| **is).count(), 1, "{done:?}");
}

#[test]
fn a_token_that_does_not_fit_says_why_and_how_to_get_another() {
    let house = House::new();
    let secret = house.invite(Holder::Server, "a", false).unwrap();
    let said = |refused: Result<Facts, Refusal>| {
        let refusal = refused.unwrap_err();
        assert!(refusal.remedy.contains("wireonce token make --server"), "{refusal}");
        refusal.problem.to_string()
    };
    assert!(said(house.join(&Secret([0; 16]), "a", 1, NOW)).contains("is not known here"));
    assert!(said(house.join(&secret, "b", 1, NOW)).contains("is for server \"a\""));
    assert!(said(house.join(&secret, "a", 1, later(1))).contains("was for use until"));
    let mut other = ask(&secret, "a", 1);
    other.kind = HostKind::Gateway;
    let refused = house.controller.commit(|s| plan_join(s, &house.authority, &other, NOW));
    assert!(refused.unwrap_err().problem.contains("is for server"));
    let mut bad = ask(&secret, "a", 1);
    bad.tls_key = "AAAA".to_owned();
    let refused = house.controller.commit(|s| plan_join(s, &house.authority, &bad, NOW));
    assert_eq!(refused.unwrap_err().gate, Gate::Text);
    house.join(&secret, "a", 1, NOW).expect("none of these used it up");
}

#[test]
fn tokens_are_for_admins_and_their_number_is_bounded() {
    let house = House::new();
    let ask = |name: &str, for_s| Invite {
        holder: Holder::Gateway,
        name: name.to_owned(),
        for_s,
        rekey: false,
    };
    let viewer = Caller::new("v", Role::Viewer);
    let asked = ask("g", 60);
    let refused = house.controller.commit(|s| plan_invite(s, &viewer, &asked, "h", NOW));
    assert_eq!(refused.unwrap_err().gate, Gate::Right);
    for wrong in [ask("no name", 60), ask("g", 0), ask("g", 8 * DAY_S)] {
        let refused = house.controller.commit(|s| plan_invite(s, &house.admin, &wrong, "h", NOW));
        assert!(refused.is_err(), "{wrong:?}");
    }
    for number in 0..plans::TOKENS_MAX {
        house.invite(Holder::Server, &format!("s{number}"), false).unwrap();
    }
    assert_eq!(house.invite(Holder::Server, "more", false).unwrap_err().gate, Gate::Admission);
    let asked = ask("g", 60);
    let made = house.controller.commit(|s| plan_invite(s, &house.admin, &asked, "h", later(1)));
    made.expect("those that have ended make room");
    assert_eq!(house.controller.state().unwrap().invitations.len(), 1);
    let forget = |s: &_| plan_forget(s, &house.admin, "h", NOW);
    house.controller.commit(forget).unwrap();
    let last = house.controller.recent_audit(1).unwrap().remove(0);
    assert_eq!((last.action, last.name.as_str()), (Action::Uninvited, "g"));
    assert_eq!(last.reason.as_deref(), Some("token h"));
    assert!(house.controller.commit(forget).is_err());
}

#[test]
fn another_fabric_key_needs_a_token_that_says_so() {
    let house = House::new();
    let first = house.joined("a");
    let secret = house.invite(Holder::Server, "a", false).unwrap();
    let refused = house.join(&secret, "a", 2, NOW).unwrap_err();
    assert_eq!(refused.gate, Gate::Conflict);
    assert!(refused.remedy.contains("--rekey"), "{refused}");
    let secret = house.invite(Holder::Server, "a", true).unwrap();
    let second = house.join(&secret, "a", 2, NOW).unwrap();
    assert!(house.admit("a", &second, NOW).is_ok());
    let old = house.admit("a", &first, NOW).unwrap_err();
    assert!(old.problem.contains("another took its place"), "{old}");
    assert!(house.invite(Holder::Gateway, "a", false).is_err(), "it is a server's name");
}

#[test]
fn what_is_revoked_counts_no_more_until_the_host_joins_again() {
    let house = House::new();
    let facts = house.joined("a");
    let other = house.joined_with_key("b", 3);
    house.revoke("a", later(1));
    let refused = house.admit("a", &facts, later(1)).unwrap_err();
    assert!(refused.problem.contains("was revoked at"), "{refused}");
    assert!(refused.remedy.contains("wireonce token make --server a"), "{refused}");
    assert!(house.admit("b", &other, later(1)).is_ok());
    let secret = house.invite(Holder::Server, "a", false).unwrap();
    let again = house.join(&secret, "a", 1, NOW).unwrap();
    assert!(house.admit("a", &again, NOW).is_ok());
    assert!(house.admit("a", &facts, NOW).is_err(), "the old one stays revoked");
    let viewer = Caller::new("v", Role::Network);
    let refused = house.controller.commit(|s| plan_revoke(s, &viewer, &server("a"), None, NOW));
    assert_eq!(refused.unwrap_err().gate, Gate::Right);
    let nobody = house.controller.commit(|s| plan_revoke(s, &house.admin, &server("x"), None, NOW));
    assert_eq!(nobody.unwrap_err().gate, Gate::Missing);
}

impl House {
    fn joined_with_key(&self, name: &str, key: u8) -> Facts {
        let secret = self.invite(Holder::Server, name, false).unwrap();
        self.join(&secret, name, key, NOW).unwrap()
    }
}

#[test]
fn a_certificate_expires_and_a_renewed_one_does_not_end_the_old() {
    let house = House::new();
    let first = house.joined("a");
    let key = TlsKey::generate().unwrap().public_text();
    let renew = |now| {
        let plan = |s: &_| plan_renew(s, &house.authority, &server("a"), &key, now);
        facts(&house.controller.commit(plan).unwrap())
    };
    let second = renew(later(20));
    assert!(house.admit("a", &first, later(21)).is_ok(), "the answer may have been lost");
    assert!(house.admit("a", &second, later(21)).is_ok());
    let expired = house.admit("a", &first, later(31)).unwrap_err();
    assert!(expired.problem.contains("has expired"), "{expired}");
    assert!(house.admit("a", &second, later(49)).is_ok());
    renew(later(40));
    let state = house.controller.state().unwrap();
    assert_eq!(state.members[&server("a")].certificates.len(), 2, "what has expired is forgotten");
}

#[test]
fn a_host_that_is_gone_from_the_house_is_refused() {
    let house = House::new();
    let facts = house.joined("a");
    let change = crate::change::Change::one(crate::change::Edit::Delete(
        wireonce_desired::Kind::Server,
        "a".to_owned(),
        crate::change::Base::Any,
    ));
    house.controller.change(&house.admin, &change, false, NOW).unwrap();
    let refused = house.admit("a", &facts, NOW).unwrap_err();
    assert!(refused.problem.contains("[[server]] \"a\" does not exist"), "{refused}");
}

#[test]
fn people_have_their_role_and_no_more_than_their_newest_certificate() {
    let house = House::new();
    let make = |role| {
        let key = TlsKey::generate().unwrap().public_text();
        let about = ("nina", role, key.as_str());
        let plan = |s: &_| plan_person(s, &house.authority, &house.admin, about, NOW);
        facts(&house.controller.commit(plan).unwrap())
    };
    let nina = Identity::new(Holder::User, "nina").unwrap();
    let admit = |facts: &Facts| {
        let state = house.controller.state().unwrap();
        state.admit(&nina, &facts.serial, Moment(facts.until_s), NOW)
    };
    let first = make(Role::Viewer);
    assert_eq!(admit(&first).unwrap().role, Role::Viewer);
    let second = make(Role::Network);
    assert_eq!(admit(&second).unwrap().role, Role::Network);
    assert!(admit(&first).is_err());
}

#[test]
fn the_authority_and_what_it_gave_survive_a_restart_and_a_backup() {
    let house = House::new();
    let before = backup(&**house.controller.store()).unwrap();
    let facts = house.joined("a");
    let again = Authority::open(&**house.controller.store(), later(1)).unwrap();
    assert_eq!(again.fingerprint(), house.authority.fingerprint());
    assert_ne!(House::new().authority.fingerprint(), house.authority.fingerprint());
    let restored = |text: &str| {
        let store = Arc::new(RedbStore::in_memory().unwrap());
        restore(&*store, text).unwrap();
        let authority = Authority::open(&*store, NOW).unwrap();
        assert_eq!(authority.fingerprint(), house.authority.fingerprint());
        let controller = Controller::new(store).unwrap();
        controller.state().unwrap().admit(&server("a"), &facts.serial, Moment(facts.until_s), NOW)
    };
    assert!(restored(&backup(&**house.controller.store()).unwrap()).is_ok());
    let unknown = restored(&before).unwrap_err();
    assert!(unknown.problem.contains("is not known here"), "{unknown}");
    let key = TlsKey::generate().unwrap().public_text();
    let joined = backup(&**house.controller.store()).unwrap();
    let plan = |s: &_| plan_renew(s, &house.authority, &server("a"), &key, NOW);
    let renewed = self::facts(&house.controller.commit(plan).unwrap());
    let store = Arc::new(RedbStore::in_memory().unwrap());
    restore(&*store, &joined).unwrap();
    let old = Controller::new(store).unwrap().state().unwrap();
    let until = Moment(renewed.until_s);
    let admitted = old.admit(&server("a"), &renewed.serial, until, NOW);
    assert!(admitted.is_ok(), "what was renewed after the backup still counts");
}

/// What the handshake says of a certificate.
fn verified(authority: &Authority, pem: &str, now: Moment) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto());
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.0));
    let verifier = verifier.build().unwrap();
    verifier.verify_client_cert(&certificate, &[], now).map(|_| ())
}

#[test]
fn certificates_of_others_and_of_other_times_do_not_pass_the_handshake() {
    let (house, foreign) = (House::new(), House::new());
    let key = TlsKey::generate().unwrap().public_text();
    let (pem, issued) = house.authority.give(&server("a"), &key, NOW).unwrap();
    assert_eq!(facts(&pem).serial, issued.serial);
    assert_eq!(verified(&house.authority, &pem, NOW), Ok(()));
    assert_eq!(verified(&house.authority, &pem, later(29)), Ok(()));
    assert!(verified(&house.authority, &pem, later(31)).is_err());
    assert!(verified(&house.authority, &pem, Moment(NOW.0 - DAY_S)).is_err());
    assert!(verified(&foreign.authority, &pem, NOW).is_err());
    let own = house.authority.controller_key(&["10.0.0.5".to_owned()], NOW).unwrap();
    let own = wireonce_member::certificate::pem("CERTIFICATE", &own.chain[0]);
    assert!(verified(&house.authority, &own, NOW).is_err(), "the controller's is for servers");
}

#[test]
fn identities_are_names_and_nothing_else() {
    for uri in ["wireonce://server/a", "wireonce://gateway/g-1.x", "wireonce://user/nina"] {
        assert_eq!(Identity::from_uri(uri).unwrap().uri(), uri);
    }
    for uri in [
        "http://server/a",
        "wireonce://server",
        "wireonce://server/",
        "wireonce://cook/a",
        "wireonce://server/a/b",
        "wireonce://server/a b",
        "wireonce://server/-a",
    ] {
        assert_eq!(Identity::from_uri(uri), None, "{uri}");
    }
}
