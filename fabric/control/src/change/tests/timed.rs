//! Changes that end by themselves.

use super::*;
use crate::refusal::Gate;

const LATER: Moment = Moment(NOW.0 + 7_200);

#[test]
fn a_timed_move_goes_back_to_what_was_by_the_controllers_own_hand() {
    let controller = controller();
    let before = controller.state().unwrap().house.clone();
    let change = shift("server-a", "server-b", "200Mbit", Some(LATER));
    controller.change(&virtualisation(), &change, false, NOW).unwrap();
    assert_eq!(reserved(&controller, "server-b"), "600Mbit");
    assert_eq!(controller.tick(Moment(LATER.0 - 1)).unwrap(), Some(LATER));
    assert_eq!(reserved(&controller, "server-b"), "600Mbit");
    assert_eq!(controller.tick(LATER).unwrap(), None);
    assert_eq!(controller.state().unwrap().house, before);
    let last = controller.recent_audit(1).unwrap().remove(0);
    assert_eq!(last.by, Caller::control());
    assert_eq!(last.reason.as_deref(), Some("the change by vera ended"));
}

#[test]
fn a_limit_goes_along_with_what_is_moved_and_comes_back_with_it() {
    let controller = controller();
    let with_limit = |server: &str, reservation: &str, limit: &str| {
        format!(
            "[[grant]]\npool = \"east\"\nserver = \"{server}\"\nup = {{ reservation = \
             \"{reservation}\", limit = \"{limit}\" }}\n"
        )
    };
    let text = with_limit("server-a", "600Mbit", "700Mbit")
        + &with_limit("server-b", "400Mbit", "400Mbit");
    apply(&controller, &virtualisation(), &text).unwrap();
    let limit = |server: &str| {
        let state = controller.state().unwrap();
        let grant = state.house.grant(&format!("east/{server}")).unwrap().clone();
        grant.up.and_then(|terms| terms.limit).map(|limit| limit.to_string())
    };
    let change = shift("server-a", "server-b", "200Mbit", Some(LATER));
    controller.change(&virtualisation(), &change, false, NOW).unwrap();
    assert_eq!(limit("server-a").as_deref(), Some("500Mbit"));
    assert_eq!(limit("server-b").as_deref(), Some("600Mbit"), "else nothing would be gained");
    controller.tick(LATER).unwrap();
    assert_eq!(limit("server-b").as_deref(), Some("400Mbit"));

    // Who has no limit gets none.
    apply(&controller, &virtualisation(), &grant_text("server-b", "400Mbit")).unwrap();
    let change = shift("server-a", "server-b", "100Mbit", None);
    controller.change(&virtualisation(), &change, false, NOW).unwrap();
    assert_eq!((limit("server-a").as_deref(), limit("server-b")), (Some("600Mbit"), None));
}

#[test]
fn who_may_use_no_more_than_is_reserved_can_give_all_of_it_and_keeps_the_least_limit() {
    let controller = controller();
    let terms = "up = { reservation = \"400Mbit\", limit = \"400Mbit\" }\n";
    let text = format!("[[grant]]\npool = \"east\"\nserver = \"server-b\"\n{terms}");
    apply(&controller, &virtualisation(), &text).unwrap();
    let all = shift("server-b", "server-a", "400Mbit", Some(LATER));
    let answer = controller.change(&virtualisation(), &all, false, NOW).unwrap();
    let Answer::Applied { notes, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(
        notes,
        [
            "[[grant]] \"east/server-b\" keeps a limit of 64kbit up, the least there is: its vNICs get \
          no more than that until it is given some again"
        ]
    );
    assert_eq!(reserved(&controller, "server-a"), "1Gbit");
    controller.tick(LATER).unwrap();
    let Object::Grant(grant) = object(&controller, Kind::Grant, "east/server-b") else { panic!() };
    assert_eq!(grant.up.unwrap().limit.unwrap().to_string(), "400Mbit");
}

#[test]
fn what_was_not_there_is_gone_again() {
    let controller = controller();
    let text = "[[server]]\nname = \"server-c\"\naddress = \"10.77.0.3\"\npublic_key = \
         \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n";
    apply(&controller, &admin(), text).unwrap();
    let change = shift("server-a", "server-c", "100Mbit", Some(LATER));
    controller.change(&virtualisation(), &change, false, NOW).unwrap();
    assert_eq!(reserved(&controller, "server-c"), "100Mbit");
    controller.tick(LATER).unwrap();
    assert!(controller.state().unwrap().house.grant("east/server-c").is_none());
    assert_eq!(reserved(&controller, "server-a"), "600Mbit");
}

#[test]
fn what_is_lent_is_not_changed_until_it_is_back() {
    let controller = controller();
    let lent = shift("server-a", "server-b", "200Mbit", Some(LATER));
    controller.change(&virtualisation(), &lent, false, NOW).unwrap();
    let refusal = apply(&controller, &admin(), &grant_text("server-b", "1Mbit")).unwrap_err();
    assert_eq!(refusal.gate, Gate::Conflict);
    assert_eq!(
        refusal.to_string(),
        "[[grant]] \"east/server-b\": ends at 1970-01-12T15:46:40Z by itself and cannot be changed \
         until then; end it now with `wireonce grant end east/server-b`, then change it"
    );
    let end = Change {
        edits: ["server-a", "server-b"].map(|s| Edit::End(format!("east/{s}"))).to_vec(),
        ..Change::default()
    };
    controller.change(&virtualisation(), &end, false, NOW).unwrap();
    assert_eq!(reserved(&controller, "server-a"), "600Mbit");
    apply(&controller, &virtualisation(), &grant_text("server-b", "1Mbit")).unwrap();
    let refusal = controller.change(&admin(), &end, false, NOW).unwrap_err();
    assert!(refusal.to_string().contains("does not end by itself"), "{refusal}");
}

/// A house is kept as a document: a loan must not stand in the way of all that is in it.
#[test]
fn a_document_with_the_terms_that_come_back_is_applied_while_they_are_lent() {
    let controller = controller();
    let lent = shift("server-a", "server-b", "200Mbit", Some(LATER));
    controller.change(&virtualisation(), &lent, false, NOW).unwrap();
    let vnic = "[[vnic]]\nname = \"vm-n\"\nhost = \"server-a\"\nnetwork = \"storage\"\nmac = \
                \"52:54:00:00:01:01\"\nsocket = \"/run/new.sock\"\n";
    let answer = apply(&controller, &virtualisation(), &(HOUSE.to_owned() + vnic)).unwrap();
    let Answer::Applied { difference, notes, .. } = answer else { panic!("{answer:?}") };
    let names: Vec<&str> = difference.objects.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["vm-n"]);
    assert_eq!(
        notes[0],
        "[[grant]] \"east/server-a\": vera changed it for a time, until 1970-01-12T15:46:40Z; the \
         terms that are given here come back then"
    );
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert_eq!(reserved(&controller, "server-a"), "400Mbit");
    let answer = apply(&controller, &virtualisation(), HOUSE).unwrap();
    assert!(matches!(&answer, Answer::Unchanged { notes } if notes.len() == 2), "{answer:?}");
    // Other terms would be lost when the loan ends, or be its end: that is asked for by itself.
    let other = HOUSE.replace("600Mbit", "650Mbit");
    assert_eq!(apply(&controller, &admin(), &other).unwrap_err().gate, Gate::Conflict);
    controller.tick(LATER).unwrap();
    assert_eq!(reserved(&controller, "server-a"), "600Mbit");
}

#[test]
fn what_is_exported_during_a_loan_can_be_applied_during_it_and_afterwards() {
    let controller = controller();
    let before = wireonce_desired::export(&controller.state().unwrap().house);
    for change in [
        shift("server-a", "server-b", "200Mbit", Some(LATER)),
        Change::put_all(
            read::toml(
                "[[server]]\nname = \"server-c\"\naddress = \"10.77.0.3\"\npublic_key = \
                        \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n",
            )
            .unwrap(),
        ),
    ] {
        controller.change(&virtualisation(), &change, false, NOW).unwrap();
    }
    let export = |controller: &Controller| {
        wireonce_desired::export(&crate::change::lasting(&controller.state().unwrap()))
    };
    let exported = export(&controller);
    assert!(exported.contains("600Mbit") && !exported.contains("until"), "{exported}");
    assert_ne!(exported, before, "what lasts is in it");
    let is_unchanged = || {
        let answer = apply(&controller, &admin(), &exported).unwrap();
        assert!(matches!(answer, Answer::Unchanged { .. }), "{answer:?}");
    };
    is_unchanged();
    controller.tick(LATER).unwrap();
    is_unchanged();
    assert_eq!(export(&controller), exported);
}

#[test]
fn what_comes_back_keeps_its_room() {
    let controller = controller();
    // server-a does without most of its 600 Mbit for two hours.
    let text = format!("{}until = \"{LATER}\"\n", grant_text("server-a", "100Mbit"));
    apply(&controller, &virtualisation(), &text).unwrap();
    // Now there is room for 1,880 Mbit, then for 1,380 again.
    let refusal = apply(&controller, &admin(), &grant_text("server-b", "1500Mbit")).unwrap_err();
    assert_eq!(refusal.gate, Gate::Admission);
    assert!(refusal.to_string().contains("once a timed change ends at"), "{refusal}");
    // The budget of 1,500 Mbit is kept at that time, too.
    let answer = apply(&controller, &virtualisation(), &grant_text("server-b", "1Gbit")).unwrap();
    let Answer::Requested { why, .. } = answer else { panic!("{answer:?}") };
    assert!(why.contains("would reserve 1600Mbit up (now 1Gbit)"), "{why}");
    apply(&controller, &virtualisation(), &grant_text("server-b", "900Mbit")).unwrap();
    controller.tick(LATER).unwrap();
    assert_eq!(reserved(&controller, "server-a"), "600Mbit");
}

#[test]
fn each_of_two_loans_that_end_at_once_has_the_name_of_who_made_it() {
    let controller = controller();
    let viktor = Caller::new("viktor", Role::Virtualisation);
    for (who, server) in [(virtualisation(), "server-a"), (viktor, "server-b")] {
        let text = format!("{}until = \"{LATER}\"\n", grant_text(server, "300Mbit"));
        apply(&controller, &who, &text).unwrap();
    }
    controller.tick(LATER).unwrap();
    let reasons: Vec<_> =
        controller.recent_audit(2).unwrap().into_iter().filter_map(|line| line.reason).collect();
    assert_eq!(reasons, ["the change by vera ended", "the change by viktor ended"]);
}

/// Whoever asks may have another clock.
#[test]
fn a_time_in_seconds_is_counted_by_the_controllers_clock() {
    let controller = controller();
    let change = shift("server-a", "server-b", "200Mbit", None).lasting(Some(7_200));
    controller.change(&virtualisation(), &change, false, NOW).unwrap();
    assert_eq!(controller.tick(NOW).unwrap(), Some(LATER));
    let refused =
        |change: Change| controller.change(&admin(), &change, true, NOW).unwrap_err().to_string();
    let both = shift("server-a", "server-b", "1Mbit", Some(LATER)).lasting(Some(1));
    assert!(refused(both).contains("key `for_s`: there is a time when it ends already"));
    let pool = Change::put_all(read::toml("[[pool]]\nname = \"west\"\n").unwrap());
    assert!(refused(pool.lasting(Some(1))).contains("only grants end by themselves; leave it out"));
    let never = shift("server-a", "server-b", "1Mbit", None).lasting(Some(0));
    assert!(refused(never).contains("is no time; give a second at least"));
}

#[test]
fn a_time_that_has_passed_is_refused() {
    let controller = controller();
    let text = format!("{}until = \"{NOW}\"\n", grant_text("server-a", "700Mbit"));
    let refusal = apply(&controller, &virtualisation(), &text).unwrap_err();
    assert_eq!(refusal.gate, Gate::Text);
    assert!(
        refusal.to_string().contains("key `until`: 1970-01-12T13:46:40Z has passed"),
        "{refusal}"
    );
}
