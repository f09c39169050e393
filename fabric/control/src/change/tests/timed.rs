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
        reason: None,
    };
    controller.change(&virtualisation(), &end, false, NOW).unwrap();
    assert_eq!(reserved(&controller, "server-a"), "600Mbit");
    apply(&controller, &virtualisation(), &grant_text("server-b", "1Mbit")).unwrap();
    let refusal = controller.change(&admin(), &end, false, NOW).unwrap_err();
    assert!(refusal.to_string().contains("does not end by itself"), "{refusal}");
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
