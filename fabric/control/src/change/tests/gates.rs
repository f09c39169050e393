//! Each gate, what it says, and that the old state stands.

use super::*;
use crate::{change::Base, refusal::Gate};

/// The refusal of `change`, after which nothing has changed.
fn refused(controller: &Controller, caller: &Caller, change: &Change) -> Refusal {
    let before = controller.state().unwrap();
    let refusal = controller.change(caller, change, false, NOW).unwrap_err();
    let after = controller.state().unwrap();
    assert_eq!(before.house, after.house);
    assert_eq!(before.house_version, after.house_version);
    refusal
}

fn put(text: &str) -> Change {
    Change::put_all(read::toml(text).unwrap())
}

#[test]
fn all_of_a_document_or_nothing() {
    let controller = controller();
    let text = "[[pool]]\nname = \"west\"\n[[network]]\nname = \"red\"\nvni = 7\npool = \"wset\"\n";
    let refusal = refused(&controller, &admin(), &put(text));
    assert_eq!(refusal.gate, Gate::House);
    assert_eq!(
        refusal.to_string(),
        "[[network]] \"red\": key `pool`: \"wset\" is the name of no [[pool]]; did you mean \
         \"west\"?"
    );
}

#[test]
fn who_may_not_is_told_who_may() {
    let controller = controller();
    let pool = put("[[pool]]\nname = \"west\"\n");
    let refusal = refused(&controller, &virtualisation(), &pool);
    assert_eq!(refusal.gate, Gate::Right);
    assert_eq!(
        refusal.to_string(),
        "[[pool]] \"west\": the role `virtualisation` may not change pools; leave it as it is, or \
         ask the network team (the role `network` can)"
    );
    let grant = put(&grant_text("server-a", "700Mbit"));
    let refusal = refused(&controller, &network(), &grant);
    assert_eq!((refusal.gate, refusal.who.as_deref()), (Gate::Right, Some("virtualisation")));
    let viewer = Caller::new("vic", Role::Viewer);
    assert_eq!(refused(&controller, &viewer, &grant).gate, Gate::Right);
}

#[test]
fn an_admin_acts_as_another_and_the_trail_has_both_and_nobody_else_does() {
    let controller = controller();
    let acting = admin().acting_as(Role::Virtualisation).unwrap();
    refused(&controller, &acting, &put("[[pool]]\nname = \"west\"\n"));
    apply(&controller, &acting, &grant_text("server-a", "700Mbit")).unwrap();
    let last = controller.recent_audit(1).unwrap().remove(0);
    assert_eq!(last.by.to_string(), "root (admin, as virtualisation)");
    let refusal = virtualisation().acting_as(Role::Network).unwrap_err();
    assert!(refusal.to_string().contains("cannot act as `network`; leave `--as` out"));
}

#[test]
fn a_document_may_hold_what_others_own_as_long_as_it_is_as_it_is() {
    let controller = controller();
    assert_eq!(apply(&controller, &virtualisation(), HOUSE).unwrap(), Answer::unchanged());
    let text = HOUSE.replace("\"vm-c\"\nhost = \"server-b\"", "\"vm-c\"\nhost = \"server-a\"");
    let answer = apply(&controller, &virtualisation(), &text).unwrap();
    let Answer::Applied { difference, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(difference.to_string(), "~ vnic vm-c\n    host: \"server-b\" -> \"server-a\"\n");
}

#[test]
fn a_stale_version_is_refused_with_the_one_that_is() {
    let controller = controller();
    let version = controller.state().unwrap().version(Kind::Grant, "east/server-a");
    let objects = read::toml(&grant_text("server-a", "500Mbit")).unwrap();
    let based = |version| Change::one(Edit::Put(objects[0].clone(), Base::Version(version)));
    controller.change(&virtualisation(), &based(version), false, NOW).unwrap();
    let refusal = refused(&controller, &virtualisation(), &based(version));
    assert_eq!(refusal.gate, Gate::Conflict);
    assert_eq!(
        refusal.to_string(),
        format!(
            "[[grant]] \"east/server-a\": the change is based on version {version}, and it has \
             version {} now; look at it with `wireonce grant show east/server-a`, and change what \
             is so",
            version + 1
        )
    );
    let absent = Change::one(Edit::Put(objects[0].clone(), Base::Absent));
    assert_eq!(refused(&controller, &virtualisation(), &absent).gate, Gate::Conflict);
}

/// What somebody exported, edited and applies must not undo what others did meanwhile.
#[test]
fn a_document_may_be_based_on_the_objects_of_a_revision() {
    let controller = controller();
    let document =
        |text: &str, based_on| Change::put_all(read::toml(text).unwrap()).based_on(Some(based_on));
    let first = controller.state().unwrap().changed();
    // Requests, answers and tokens are no change of an object.
    let answer =
        apply(&controller, &virtualisation(), &grant_text("server-a", "1200Mbit")).unwrap();
    assert!(matches!(answer, Answer::Requested { .. }), "{answer:?}");
    let state = controller.state().unwrap();
    assert_eq!((state.changed(), state.house_version), (first, first + 1));
    let pool = document("[[pool]]\nname = \"west\"\n", first);
    controller.change(&network(), &pool, false, NOW).unwrap();
    let second = controller.state().unwrap().changed();
    let read = crate::change::State::read(&**controller.store()).unwrap();
    assert_eq!(read.changed(), second, "a restart forgets nothing");

    let edited = HOUSE.replace("600Mbit", "650Mbit");
    let refusal = refused(&controller, &virtualisation(), &document(&edited, first));
    assert_eq!(refusal.gate, Gate::Conflict);
    assert_eq!(
        refusal.to_string(),
        format!(
            "the document: the change is based on revision {first}, and the house has revision \
             {second} now; look at it with `wireonce export`, and change what is so"
        )
    );
    refused(&controller, &virtualisation(), &document(&edited, second + 1));
    controller.change(&virtualisation(), &document(&edited, second), false, NOW).unwrap();
    assert_eq!(reserved(&controller, "server-a"), "650Mbit");
    // What is removed is a change, too.
    let third = controller.state().unwrap().changed();
    let gone = Change::one(Edit::Delete(Kind::Pool, "west".to_owned(), Base::Any));
    controller.change(&network(), &gone, false, NOW).unwrap();
    refused(&controller, &virtualisation(), &document(HOUSE, third));
}

#[test]
fn a_reservation_beyond_the_pool_is_refused_even_for_an_admin() {
    let controller = controller();
    let refusal = refused(&controller, &admin(), &put(&grant_text("server-a", "1600Mbit")));
    assert_eq!(refusal.gate, Gate::Admission);
    assert!(refusal.to_string().ends_with("(the role `network` can)"), "{refusal}");
}

#[test]
fn what_does_not_exist_cannot_be_removed_and_gets_a_hint() {
    let controller = controller();
    let gone = Change::one(Edit::Delete(Kind::Vnic, "vm-aa".to_owned(), Base::Any));
    let refusal = refused(&controller, &admin(), &gone);
    assert_eq!(
        refusal.to_string(),
        "[[vnic]] \"vm-aa\": does not exist; did you mean \"vm-b\"?".replace("vm-b", "vm-a")
    );
    assert_eq!(refusal.gate, Gate::Missing);
}

#[test]
fn an_id_is_given_once_and_never_again() {
    let controller = controller();
    let vnic = |name: &str, id: &str| {
        format!(
            "[[vnic]]\nname = \"{name}\"\nhost = \"server-a\"\nnetwork = \"storage\"\nmac = \
             \"52:54:00:00:01:01\"\nsocket = \"/run/new.sock\"\n{id}\n"
        )
    };
    let id = |name: &str| match object(&controller, Kind::Vnic, name) {
        Object::Vnic(vnic) => vnic.id.unwrap(),
        other => panic!("{other:?}"),
    };
    apply(&controller, &admin(), &vnic("new", "")).unwrap();
    let first = id("new");
    assert_eq!(apply(&controller, &admin(), &vnic("new", "")).unwrap(), Answer::unchanged());
    let gone = Change::one(Edit::Delete(Kind::Vnic, "new".to_owned(), Base::Any));
    controller.change(&admin(), &gone, false, NOW).unwrap();
    apply(&controller, &admin(), &vnic("new", "")).unwrap();
    assert_ne!(id("new"), first);
    let refusal = refused(&controller, &admin(), &put(&vnic("newer", &format!("id = {first}"))));
    assert!(refusal.to_string().contains("no id is used twice; leave `id` out"), "{refusal}");
    let refusal = refused(&controller, &admin(), &put(&vnic("new", "id = 77")));
    assert!(refusal.to_string().contains("an id never changes"), "{refusal}");
}

#[test]
fn a_trial_changes_nothing_and_says_what_it_would() {
    let controller = controller();
    let before = controller.state().unwrap().house_version;
    let change = put(&grant_text("server-a", "700Mbit"));
    let answer = controller.change(&virtualisation(), &change, true, NOW).unwrap();
    assert!(matches!(answer, Answer::Applied { revision: 0, .. }), "{answer:?}");
    assert_eq!(controller.state().unwrap().house_version, before);
}

#[test]
fn every_change_of_an_object_is_in_the_trail_with_before_and_after() {
    let controller = controller();
    let change = put(&grant_text("server-a", "700Mbit")).because(Some("month end".to_owned()));
    controller.change(&virtualisation(), &change, false, NOW).unwrap();
    let entry = controller.recent_audit(1).unwrap().remove(0);
    assert_eq!((entry.by, entry.at, entry.name.as_str()), (virtualisation(), NOW, "east/server-a"));
    assert_eq!(entry.before.unwrap()["up"]["reservation"], "600Mbit");
    assert_eq!(entry.after.unwrap()["up"]["reservation"], "700Mbit");
    assert_eq!(entry.reason.as_deref(), Some("month end"));
    let all = controller.audit(0, usize::MAX).unwrap();
    let numbers: Vec<u64> = all.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, (1..=u64::try_from(all.len()).unwrap()).collect::<Vec<_>>());
    assert_eq!(all.len(), 17, "16 objects were added, one changed");
}

#[test]
fn a_move_takes_no_more_than_there_is_and_keeps_the_sum() {
    let controller = controller();
    let change = shift("server-a", "server-b", "200Mbit", None);
    controller.change(&virtualisation(), &change, false, NOW).unwrap();
    assert_eq!(reserved(&controller, "server-a"), "400Mbit");
    assert_eq!(reserved(&controller, "server-b"), "600Mbit");
    let refusal =
        refused(&controller, &virtualisation(), &shift("server-a", "server-b", "500Mbit", None));
    assert_eq!(
        refusal.to_string(),
        "[[grant]] \"east/server-a\": reserves 400Mbit up, and 500Mbit cannot be taken from it; \
         move at most 400Mbit, or take it from another server"
    );
    // server-b may use 1 Gbit at most; server-a's policy needs 100 Mbit.
    let refusal =
        refused(&controller, &virtualisation(), &shift("server-a", "server-b", "400Mbit", None));
    assert!(refusal.to_string().contains("promise 100Mbit"), "{refusal}");
    let refusal =
        refused(&controller, &virtualisation(), &shift("server-x", "server-b", "1Mbit", None));
    assert_eq!(refusal.gate, Gate::Missing);
}

#[test]
fn what_a_newer_version_wrote_is_an_error_and_no_empty_house() {
    use crate::store::{Op, Store};
    let store = RedbStore::in_memory().unwrap();
    store.txn(&[], &[Op::put("object/vnic/x", b"{\"quantum\": 1}".to_vec())]).unwrap();
    let refusal = Controller::new(Arc::new(store)).unwrap_err();
    assert_eq!(refusal.gate, Gate::Store);
    assert!(refusal.to_string().contains("run the version of wireonce that wrote it"), "{refusal}");
}
