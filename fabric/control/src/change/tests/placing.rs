//! Homes that are given, moves, drains, admission and pace.

use super::*;
use crate::{
    change::{Base, Rehome},
    refusal::Gate,
    store::Store,
};
use wireonce_desired::Vnic;

/// Three gateways on three machines, each with one uplink of 1 Gbit in pool east; a server on the
/// first machine.
pub(crate) fn house_of_three() -> String {
    let mut text = String::from(
        "[[server]]\nname = \"server-a\"\naddress = \"10.77.0.1\"\npublic_key = \
         \"lzG2mKWtHnkapQDa+QMSil0k9w02kptBukyBPimCSFA=\"\nmachine = \"m1\"\n[[pool]]\nname = \
         \"east\"\n[[network]]\nname = \"blue\"\nvni = 100\npool = \"east\"\n[[grant]]\npool = \
         \"east\"\nserver = \"server-a\"\nup = { reservation = \"2Gbit\" }\n",
    );
    for (at, letter) in [(1, 'A'), (2, 'B'), (3, 'C')] {
        text += &format!(
            "[[gateway]]\nname = \"gateway-{at}\"\naddress = \"10.77.0.1{at}\"\nmachine = \
             \"m{at}\"\npublic_key = \"{letter}AECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n\
             [[uplink]]\nname = \"east-{at}\"\nhost = \"gateway-{at}\"\npool = \"east\"\ndriver = \
             \"packet\"\ninterface = \"eth1\"\nup = \"1Gbit\"\ndown = \"1Gbit\"\n"
        );
    }
    for mbit in [100, 300, 400, 600] {
        text +=
            &format!("[[policy]]\nname = \"p{mbit}\"\nup = {{ reservation = \"{mbit}Mbit\" }}\n");
    }
    text
}

pub(crate) fn three() -> Controller {
    let controller = empty();
    apply(&controller, &admin(), &house_of_three()).unwrap();
    controller
}

pub(crate) fn vnic_text(number: u32, more: &str) -> String {
    format!(
        "[[vnic]]\nname = \"vm-{number}\"\nhost = \"server-a\"\nnetwork = \"blue\"\nmac = \
         \"52:54:00:00:01:{number:02x}\"\nsocket = \"/run/vm-{number}.sock\"\n{more}\n"
    )
}

fn vnic(controller: &Controller, number: u32) -> Vnic {
    let state = controller.state().unwrap();
    state.house.vnic(&format!("vm-{number}")).unwrap().clone()
}

fn home(controller: &Controller, number: u32) -> String {
    vnic(controller, number).home.unwrap()
}

fn rehome(vnic: &str, to: &str) -> Change {
    Change::one(Edit::Rehome(Rehome { vnic: vnic.to_owned(), to: to.to_owned() }))
}

fn drain(kind: Kind, name: &str, draining: bool) -> Change {
    Change::one(Edit::Drain(kind, name.to_owned(), draining))
}

fn asked(
    controller: &Controller,
    caller: &Caller,
    change: &Change,
) -> Result<(String, Vec<String>), Refusal> {
    match controller.change(caller, change, false, NOW)? {
        Answer::Applied { difference, notes, .. } => Ok((difference.to_string(), notes)),
        other => Ok((format!("{other:?}"), vec![])),
    }
}

/// What is said, after which nothing has changed.
fn refused(controller: &Controller, caller: &Caller, change: &Change) -> (Gate, String) {
    let before = controller.state().unwrap();
    let refusal = controller.change(caller, change, false, NOW).unwrap_err();
    assert_eq!(before.house_version, controller.state().unwrap().house_version);
    (refusal.gate, refusal.to_string())
}

fn put(text: &str) -> Change {
    Change::put_all(read::toml(text).unwrap())
}

#[test]
fn homes_that_are_left_out_are_given_and_stay() {
    let controller = three();
    let text = vnic_text(1, "policy = \"p100\"");
    apply(&controller, &virtualisation(), &text).unwrap();
    let given = vnic(&controller, 1);
    assert_eq!(given.home.as_deref(), Some("east-1"), "on its server's own machine");
    assert_eq!(given.standbys, ["east-2", "east-3"]);
    assert_eq!(apply(&controller, &virtualisation(), &text).unwrap(), Answer::unchanged());
    let text = vnic_text(1, "policy = \"p100\"\ntrunk = true");
    apply(&controller, &virtualisation(), &text).unwrap();
    assert_eq!(home(&controller, 1), "east-1");
    let text = vnic_text(1, "policy = \"p100\"\nhome = \"east-3\"");
    apply(&controller, &virtualisation(), &text).unwrap();
    let moved = vnic(&controller, 1);
    assert_eq!(moved.home.as_deref(), Some("east-3"), "what is written stands");
    assert_eq!(moved.standbys, ["east-2", "east-1"], "and the rest is given");
}

#[test]
fn a_pool_without_an_uplink_that_takes_vnics_is_named() {
    let controller = three();
    for at in 1..=3 {
        asked(&controller, &network(), &drain(Kind::Uplink, &format!("east-{at}"), true)).unwrap();
    }
    let said = refused(&controller, &virtualisation(), &put(&vnic_text(1, "")));
    let expected = "[[vnic]] \"vm-1\": key `home`: no uplink of its pool \"east\" takes vNICs: all \
                    drain or have no carrier; add an uplink, or undrain one with `wireonce uplink \
                    undrain` (the role `network` can)";
    assert_eq!(said, (Gate::Admission, expected.to_owned()));
}

#[test]
fn a_move_takes_the_old_home_as_standby_and_belongs_to_virtualisation() {
    let controller = three();
    apply(&controller, &virtualisation(), &vnic_text(1, "policy = \"p100\"")).unwrap();
    let said = refused(&controller, &network(), &rehome("vm-1", "east-2"));
    assert_eq!(said.0, Gate::Right);
    let (difference, _) = asked(&controller, &virtualisation(), &rehome("vm-1", "east-2")).unwrap();
    assert_eq!(
        difference,
        "~ vnic vm-1\n    home: \"east-1\" -> \"east-2\"\n    standbys: [\"east-2\",\"east-3\"] -> \
         [\"east-3\",\"east-1\"]\n"
    );
    let again = controller.change(&virtualisation(), &rehome("vm-1", "east-2"), false, NOW);
    assert_eq!(again.unwrap(), Answer::unchanged());
}

#[test]
fn a_move_that_cannot_be_says_why() {
    let controller = three();
    let text = vnic_text(1, "policy = \"p600\"") + &vnic_text(2, "policy = \"p600\"");
    apply(&controller, &virtualisation(), &text).unwrap();
    let said = |vnic, to| refused(&controller, &virtualisation(), &rehome(vnic, to));
    assert_eq!(
        said("vm-9", "east-2"),
        (Gate::Missing, "[[vnic]] \"vm-9\": does not exist; did you mean \"vm-1\"?".to_owned())
    );
    assert_eq!(
        said("vm-1", "east-9"),
        (
            Gate::Missing,
            "[[uplink]] \"east-9\": does not exist; did you mean \"east-1\"?".to_owned()
        )
    );
    let full = home(&controller, 2);
    let expected = format!(
        "[[vnic]] \"vm-1\": key `home`: is promised 600Mbit up, and uplink {full:?} has room for \
         390Mbit up; the most room, with any one loss allowed for, is 990Mbit up at \"east-1\"; \
         lower a reservation (the role `virtualisation` can), or add an uplink (the role `network` \
         can)"
    );
    assert_eq!(said("vm-1", &full), (Gate::Admission, expected));
    let west = "[[pool]]\nname = \"west\"\n[[uplink]]\nname = \"west-1\"\nhost = \
                \"gateway-1\"\npool = \"west\"\ndriver = \"packet\"\ninterface = \"eth9\"\n";
    apply(&controller, &network(), west).unwrap();
    assert_eq!(
        said("vm-1", "west-1"),
        (
            Gate::House,
            "[[vnic]] \"vm-1\": key `home`: uplink \"west-1\" is in pool \"west\", and network \
             \"blue\" is on pool \"east\"; name an uplink of that pool, such as \"east-2\""
                .to_owned()
        )
    );
}

#[test]
fn a_drain_moves_everybody_and_the_trail_says_whose_drain_it_was() {
    let controller = three();
    let text =
        vnic_text(1, "policy = \"p100\"") + &vnic_text(2, "") + &vnic_text(3, "home = \"east-2\"");
    apply(&controller, &virtualisation(), &text).unwrap();
    let before = [1, 2, 3].map(|number| vnic(&controller, number));
    let (difference, notes) =
        asked(&controller, &network(), &drain(Kind::Uplink, "east-1", true)).unwrap();
    assert!(difference.contains("~ uplink east-1\n    draining: true\n"), "{difference}");
    assert_eq!(notes, [""; 0]);
    for (number, before) in (1..).zip(&before) {
        let vnic = vnic(&controller, number);
        let expected = if number == 3 { &before.home } else { &before.standbys.first().cloned() };
        assert_eq!(vnic.home, *expected, "its first standby, or where it was");
        assert_eq!(vnic.standbys.len(), 1, "what drains is no standby");
    }
    let trail = controller.recent_audit(4).unwrap();
    assert!(trail.iter().all(|line| line.by.user == "nina"), "{trail:?}");
    assert_eq!(trail[1].reason.as_deref(), Some("placed by the controller"));
    asked(&controller, &network(), &drain(Kind::Uplink, "east-1", false)).unwrap();
    assert_ne!(home(&controller, 1), "east-1", "nobody comes back by himself");
}

#[test]
fn a_gateway_drains_with_all_its_uplinks_and_a_server_does_not() {
    let controller = three();
    apply(&controller, &virtualisation(), &vnic_text(1, "policy = \"p100\"")).unwrap();
    asked(&controller, &network(), &drain(Kind::Gateway, "gateway-1", true)).unwrap();
    assert_eq!(home(&controller, 1), "east-2");
    let said = refused(&controller, &virtualisation(), &rehome("vm-1", "east-1"));
    assert_eq!(
        said,
        (
            Gate::Conflict,
            "[[vnic]] \"vm-1\": key `home`: gateway \"gateway-1\" of uplink \"east-1\" drains, and \
             nothing new goes there; name another, such as \"east-3\", or end it with `wireonce host \
             undrain gateway-1` (the role `network` can)"
                .to_owned()
        )
    );
    let said = refused(&controller, &network(), &drain(Kind::Server, "server-a", true));
    assert_eq!(
        said,
        (
            Gate::Conflict,
            "[[server]] \"server-a\": is a server: its vNICs stay with their VMs, which only their \
             manager can move; move or stop its VMs there; to empty a gateway, name the gateway"
                .to_owned()
        )
    );
}

#[test]
fn what_drains_takes_nobody_however_it_is_written() {
    let controller = three();
    apply(&controller, &virtualisation(), &vnic_text(1, "")).unwrap();
    // As a plain change of the object it is the same as the verb.
    let mut uplink = match object(&controller, Kind::Uplink, "east-1") {
        Object::Uplink(uplink) => uplink,
        other => panic!("{other:?}"),
    };
    uplink.draining = true;
    controller
        .change(&network(), &Change::put_all(vec![Object::Uplink(uplink)]), false, NOW)
        .unwrap();
    assert_eq!(home(&controller, 1), "east-2");
    for more in ["home = \"east-1\"", "home = \"east-2\"\nstandbys = [\"east-1\"]"] {
        let (gate, said) = refused(&controller, &virtualisation(), &put(&vnic_text(2, more)));
        assert_eq!(gate, Gate::Conflict);
        assert!(said.contains("uplink \"east-1\" drains, and nothing new goes there"), "{said}");
        assert!(said.contains("wireonce uplink undrain east-1"), "{said}");
    }
    let (gate, _) = refused(&controller, &virtualisation(), &drain(Kind::Uplink, "east-2", true));
    assert_eq!(gate, Gate::Right);
}

#[test]
fn a_drain_that_does_not_fit_says_who_and_by_how_much_and_changes_nothing() {
    let controller = three();
    let text: String = (1..=3)
        .map(|at| vnic_text(at, &format!("policy = \"p400\"\nhome = \"east-{at}\"")))
        .collect();
    apply(&controller, &virtualisation(), &text).unwrap();
    let said = refused(&controller, &network(), &drain(Kind::Uplink, "east-1", true));
    assert_eq!(
        said,
        (
            Gate::Admission,
            "[[uplink]] \"east-1\": cannot drain: \"vm-1\" (400Mbit up) of 3 vNICs find no place \
             elsewhere that survives a loss; the most room, with any one loss allowed for, is \
             190Mbit up at \"east-2\"; nothing was changed: lower a reservation (the role \
             `virtualisation` can), or add an uplink (the role `network` can)"
                .to_owned()
        )
    );
}

#[test]
fn the_last_two_uplinks_drain_to_one_and_protection_comes_back() {
    let controller = three();
    asked(&controller, &network(), &drain(Kind::Uplink, "east-3", true)).unwrap();
    apply(&controller, &virtualisation(), &vnic_text(1, "policy = \"p600\"")).unwrap();
    let (_, notes) = asked(&controller, &network(), &drain(Kind::Uplink, "east-1", true)).unwrap();
    assert!(
        notes[0].starts_with("nothing is kept free for the loss of the home of \"vm-1\""),
        "{notes:?}"
    );
    assert_eq!(vnic(&controller, 1).standbys, [""; 0]);
    asked(&controller, &network(), &drain(Kind::Uplink, "east-3", false)).unwrap();
    assert_eq!(vnic(&controller, 1).standbys, ["east-3"]);
}

#[test]
fn what_no_loss_may_break_is_refused_with_the_loss_and_the_room() {
    let controller = three();
    let text: String = (1..=3)
        .map(|at| vnic_text(at, &format!("policy = \"p400\"\nhome = \"east-{at}\"")))
        .collect();
    apply(&controller, &virtualisation(), &text).unwrap();
    let said = refused(&controller, &virtualisation(), &put(&vnic_text(4, "policy = \"p300\"")));
    assert_eq!(said.0, Gate::Admission);
    assert!(said.1.contains("[[vnic]] \"vm-4\": key `"), "{}", said.1);
    assert!(
        said.1.contains("the most room, with any one loss allowed for, is 190Mbit up at"),
        "{}",
        said.1
    );
    // A policy that promises more is judged where its vNICs are.
    let more = "[[policy]]\nname = \"p400\"\nup = { reservation = \"600Mbit\" }\n";
    let (gate, said) = refused(&controller, &virtualisation(), &put(more));
    assert_eq!(gate, Gate::Admission);
    assert!(said.contains("is lost, it would have to carry 1200Mbit up that are promised, and can be promised 990Mbit up"), "{said}");
    assert!(said.ends_with("(the role `network` can)"), "{said}");
    // And an uplink that carries less.
    let less = house_of_three().replace("up = \"1Gbit\"", "up = \"700Mbit\"");
    let (gate, _) = refused(&controller, &admin(), &put(&less));
    assert_eq!(gate, Gate::Admission);
}

#[test]
fn what_is_broken_already_refuses_only_what_makes_it_worse() {
    let controller = three();
    apply(&controller, &virtualisation(), &vnic_text(1, "policy = \"p100\"")).unwrap();
    // As an older version may have left it: a reservation without standbys.
    let store: Arc<dyn Store> = Arc::clone(controller.store());
    let broken = Vnic { standbys: vec![], ..vnic(&controller, 1) };
    let value = serde_json::to_vec(&broken).unwrap();
    store.txn(&[], &[crate::store::Op::put("object/vnic/vm-1", value)]).unwrap();
    let controller = Controller::new(store).unwrap();
    apply(&controller, &virtualisation(), &vnic_text(2, "policy = \"p100\"")).unwrap();
    let other = "[[policy]]\nname = \"p300\"\nup = { reservation = \"301Mbit\" }\n";
    apply(&controller, &virtualisation(), other).unwrap();
    let state = controller.state().unwrap();
    assert_eq!(state.house.vnic("vm-1").unwrap().standbys, [""; 0], "nobody touched it");
}

#[test]
fn a_fourth_move_has_to_wait_and_a_restart_does_not_forget() {
    let controller = three();
    apply(&controller, &virtualisation(), &vnic_text(1, "")).unwrap();
    let at = |s: u64| Moment(NOW.0 + s);
    let go = |controller: &Controller, to: &str, s| {
        controller.change(&virtualisation(), &rehome("vm-1", to), false, at(s))
    };
    go(&controller, "east-2", 0).unwrap();
    go(&controller, "east-3", 10).unwrap();
    go(&controller, "east-1", 20).unwrap();
    let controller = Controller::new(Arc::clone(controller.store())).unwrap();
    let refusal = go(&controller, "east-2", 100).unwrap_err();
    assert_eq!(refusal.gate, Gate::Conflict);
    assert_eq!(
        refusal.to_string(),
        format!(
            "[[vnic]] \"vm-1\": key `home`: has moved 3 times within 180 s, and switches take an \
             address that moves more often for a loop; it may move again at {}, in 80 s",
            at(180)
        )
    );
    // By whatever verb.
    let drained =
        controller.change(&network(), &drain(Kind::Uplink, "east-1", true), false, at(100));
    assert!(drained.unwrap_err().to_string().contains("has moved 3 times"));
    go(&controller, "east-2", 180).unwrap();
    // A vNIC that is gone takes its times along.
    let gone = Change::one(Edit::Delete(Kind::Vnic, "vm-1".to_owned(), Base::Any));
    controller.change(&virtualisation(), &gone, false, at(181)).unwrap();
    assert!(controller.state().unwrap().moved.is_empty());
}

#[test]
fn a_clock_that_was_set_back_by_far_binds_nobody_for_long() {
    let controller = three();
    apply(&controller, &virtualisation(), &vnic_text(1, "")).unwrap();
    for (at, to) in ["east-2", "east-3", "east-1"].into_iter().enumerate() {
        let now = Moment(NOW.0 + 100_000 + at as u64);
        controller.change(&virtualisation(), &rehome("vm-1", to), false, now).unwrap();
    }
    controller.change(&virtualisation(), &rehome("vm-1", "east-2"), false, NOW).unwrap();
}

#[test]
fn a_plan_for_another_house_is_stale() {
    let controller = three();
    apply(&controller, &virtualisation(), &vnic_text(1, "")).unwrap();
    let revision = controller.propose("east", NOW).unwrap().revision;
    apply(&controller, &virtualisation(), &vnic_text(2, "")).unwrap();
    let edits = vec![
        Edit::Since(revision),
        Edit::Rehome(Rehome { vnic: "vm-1".to_owned(), to: "east-2".to_owned() }),
    ];
    let (gate, said) =
        refused(&controller, &virtualisation(), &Change { edits, ..Change::default() });
    assert_eq!(gate, Gate::Conflict);
    assert_eq!(
        said,
        format!(
            "the plan: was made for revision {revision}, and the house has revision {} now; have it \
             made again, and look at it again",
            revision + 1
        )
    );
}

#[test]
fn bandwidth_alone_asks_neither_placement_nor_the_daemons_reader() {
    let controller = three();
    apply(&controller, &virtualisation(), &vnic_text(1, "policy = \"p100\"")).unwrap();
    apply(&controller, &virtualisation(), &grant_text("server-a", "1Gbit")).unwrap();
    let wrong = apply(&controller, &admin(), &grant_text("server-q", "1Gbit")).unwrap_err();
    assert_eq!(wrong.gate, Gate::House);
}

#[test]
fn a_port_without_carrier_is_no_home_and_a_standby_only_if_there_is_no_other() {
    use crate::{
        change::{self, Standing},
        placing::Sight,
    };
    let controller = three();
    let given = |text: &str, dead: &[&str]| {
        let sight =
            Sight { dead: dead.iter().map(|it| (*it).to_owned()).collect(), ..Sight::default() };
        let standing = Standing { sight: Some(&sight), ..Standing::default() };
        let state = controller.state().unwrap();
        let planned = change::plan(&state, &admin(), &put(text), standing, NOW).unwrap();
        let Answer::Applied { difference, .. } = planned.answer else { panic!("no change") };
        difference.to_string()
    };
    let promised = vnic_text(1, "policy = \"p100\"");
    let said = given(&promised, &["east-1"]);
    assert!(said.contains("home: \"east-2\"") && said.contains("standbys: [\"east-3\"]"), "{said}");
    let said = given(&promised, &["east-1", "east-2"]);
    assert!(!said.contains("standbys: []") && said.contains("standbys: ["), "{said}");
}

#[test]
fn nobody_is_moved_to_a_port_that_is_known_to_be_dead() {
    use crate::{
        change::{self, Standing},
        placing::Sight,
    };
    let controller = three();
    apply(&controller, &virtualisation(), &vnic_text(1, "home = \"east-1\"")).unwrap();
    let sight = Sight { dead: ["east-2".to_owned()].into(), ..Sight::default() };
    let standing = Standing { sight: Some(&sight), ..Standing::default() };
    let state = controller.state().unwrap();
    let moved = |to: &str| change::plan(&state, &admin(), &rehome("vm-1", to), standing, NOW);
    let refused = moved("east-2").unwrap_err();
    assert_eq!((refused.gate, &*refused.thing), (Gate::Conflict, "[[uplink]] \"east-2\""));
    assert!(refused.remedy.contains("wireonce vnic set vm-1 home=east-2"), "{refused}");
    assert!(moved("east-3").is_ok());
    assert!(moved("east-1").is_ok(), "it is there");
}

#[test]
fn what_is_sick_or_behind_a_gray_link_is_no_home_and_nobody_is_moved_there() {
    use crate::{
        change::{self, Standing},
        placing::Sight,
    };
    let controller = three();
    let sick = Sight { sick: ["east-1".to_owned()].into(), ..Sight::default() };
    let way = ("server-a".to_owned(), "gateway-1".to_owned());
    let gray = Sight { gray: [way].into(), ..Sight::default() };
    for (sight, why) in [(&sick, "is sick now"), (&gray, "behind a link")] {
        let standing = Standing { sight: Some(sight), ..Standing::default() };
        let state = controller.state().unwrap();
        let new = vnic_text(1, "policy = \"p100\"");
        let planned = change::plan(&state, &admin(), &put(&new), standing, NOW).unwrap();
        let Answer::Applied { difference, .. } = planned.answer else { panic!("no change") };
        let said = difference.to_string();
        assert!(!said.contains("home: \"east-1\""), "{said}");
        let other = three();
        apply(&other, &virtualisation(), &vnic_text(1, "home = \"east-2\"")).unwrap();
        let state = other.state().unwrap();
        let moved = change::plan(&state, &admin(), &rehome("vm-1", "east-1"), standing, NOW);
        let refused = moved.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
}
