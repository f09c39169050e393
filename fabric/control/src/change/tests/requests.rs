//! What is beyond the budget: asked, approved with bounds, denied with a word.

use super::*;
use crate::{
    change::{Action, RequestState, Verdict},
    refusal::Gate,
};

/// server-a asks for 1.2 Gbit: 1.6 Gbit together, 100 Mbit over the budget.
fn asked(controller: &Controller) -> u64 {
    let change = Change::put_all(read::toml(&grant_text("server-a", "1200Mbit")).unwrap())
        .because(Some("month end".to_owned()));
    let answer = controller.change(&virtualisation(), &change, false, NOW).unwrap();
    match answer {
        Answer::Requested { request, why, .. } => {
            assert_eq!(
                why,
                "the grants of pool \"east\" would reserve 1600Mbit up (now 1Gbit), and the budget \
                 is 1500Mbit"
            );
            request
        }
        other => panic!("{other:?}"),
    }
}

fn yes() -> Verdict {
    Verdict { approve: true, ..Verdict::default() }
}

#[test]
fn beyond_the_budget_is_asked_with_evidence_and_nothing_changes() {
    let controller = controller();
    let number = asked(&controller);
    assert_eq!(reserved(&controller, "server-a"), "600Mbit");
    let state = controller.state().unwrap();
    let request = &state.requests[&number];
    assert_eq!(request.by, virtualisation());
    let up = &request.evidence[0];
    assert_eq!(up.usable.to_string(), "1980Mbit");
    assert_eq!(up.reserved.to_string(), "1Gbit");
    assert_eq!(up.servers["server-b"].to_string(), "400Mbit");
}

/// A program that applies a document every five minutes asks once.
#[test]
fn who_asks_for_the_same_again_has_asked_already() {
    let controller = controller();
    let text = HOUSE.replace("600Mbit", "1200Mbit");
    let ask = |text: &str| match apply(&controller, &virtualisation(), text).unwrap() {
        Answer::Requested { request, .. } => request,
        other => panic!("{other:?}"),
    };
    let lines = || controller.state().unwrap().counters.audit;
    assert_eq!(ask(&text), 1);
    let asked = lines();
    assert_eq!(ask(&text), 1);
    // What others change meanwhile makes it no other request, unless it is what is asked for,
    let policy = "[[policy]]\nname = \"silver\"\nup = { shares = 50 }\n";
    apply(&controller, &virtualisation(), policy).unwrap();
    assert_eq!((ask(&text), lines()), (1, asked + 1), "and nothing but that is in the trail");
    // nor does it stand in the way of an answer.
    controller.decide(&network(), 1, &yes(), NOW).unwrap();
    assert_eq!(reserved(&controller, "server-a"), "1200Mbit");
    // Another role, other terms, or an answer make it another.
    let more = HOUSE.replace("600Mbit", "1300Mbit");
    assert_eq!(ask(&more), 2);
    let no = Verdict { word: Some("no".to_owned()), ..Verdict::default() };
    controller.decide(&network(), 2, &no, NOW).unwrap();
    assert_eq!((ask(&more), ask(&more)), (3, 3));
}

#[test]
fn within_the_budget_nobody_is_asked() {
    let controller = controller();
    let answer =
        apply(&controller, &virtualisation(), &grant_text("server-a", "1100Mbit")).unwrap();
    assert!(matches!(answer, Answer::Applied { .. }), "{answer:?}");
}

#[test]
fn an_approval_is_the_change_itself() {
    let controller = controller();
    let number = asked(&controller);
    controller.decide(&network(), number, &yes(), NOW).unwrap();
    assert_eq!(reserved(&controller, "server-a"), "1200Mbit");
    let trail = controller.recent_audit(2).unwrap();
    assert_eq!((trail[0].name.as_str(), trail[0].request), ("east/server-a", Some(number)));
    assert_eq!(trail[0].by, network());
    let refusal = controller.decide(&network(), number, &yes(), NOW).unwrap_err();
    assert_eq!(refusal.gate, Gate::Conflict);
    assert!(refusal.to_string().contains("was approved by nina"), "{refusal}");
}

#[test]
fn an_approval_may_have_a_ceiling_and_an_end() {
    let controller = controller();
    let number = asked(&controller);
    let end = Moment(NOW.0 + 3_600);
    let verdict = Verdict { ceiling: Some("1150Mbit".parse().unwrap()), end: Some(end), ..yes() };
    controller.decide(&network(), number, &verdict, NOW).unwrap();
    assert_eq!(reserved(&controller, "server-a"), "1150Mbit");
    controller.tick(end).unwrap();
    assert_eq!(reserved(&controller, "server-a"), "600Mbit");
}

/// server-b may use 1 Gbit at most, and reserves 400 Mbit; asked for with a limit of 1,900 Mbit.
#[test]
fn a_ceiling_bounds_the_limit_that_is_asked_for_too_and_takes_nothing_away() {
    let asked = |limit: &str, ceiling: &str| {
        let controller = controller();
        let terms = format!("up = {{ reservation = \"1Gbit\"{limit} }}\n");
        let text = format!("[[grant]]\npool = \"east\"\nserver = \"server-b\"\n{terms}");
        let answer = apply(&controller, &virtualisation(), &text).unwrap();
        assert!(matches!(answer, Answer::Requested { .. }), "{answer:?}");
        let verdict = Verdict { ceiling: Some(ceiling.parse().unwrap()), ..yes() };
        controller.decide(&network(), 1, &verdict, NOW).unwrap();
        let Object::Grant(grant) = object(&controller, Kind::Grant, "east/server-b") else {
            panic!()
        };
        let up = grant.up.unwrap();
        (up.reservation.unwrap().to_string(), up.limit.unwrap().to_string())
    };
    let both = |reservation: &str, limit: &str| (reservation.to_owned(), limit.to_owned());
    let limit = ", limit = \"1900Mbit\"";
    assert_eq!(asked(limit, "1200Mbit"), both("1Gbit", "1200Mbit"));
    assert_eq!(asked(limit, "950Mbit"), both("950Mbit", "1Gbit"), "what it has stays");
    assert_eq!(asked("", "950Mbit"), both("950Mbit", "1Gbit"), "no limit is a raise, too");
    assert_eq!(asked(", limit = \"1Gbit\"", "500Mbit"), both("500Mbit", "1Gbit"));
}

/// Who had no limit asks for one, as those do who may use what they reserve and no more.
#[test]
fn a_ceiling_bounds_a_first_limit() {
    let controller = controller();
    let terms = "up = { reservation = \"1200Mbit\", limit = \"1200Mbit\" }\n";
    let text = format!("[[grant]]\npool = \"east\"\nserver = \"server-a\"\n{terms}");
    apply(&controller, &virtualisation(), &text).unwrap();
    let verdict = Verdict { ceiling: Some("1150Mbit".parse().unwrap()), ..yes() };
    controller.decide(&network(), 1, &verdict, NOW).unwrap();
    let Object::Grant(grant) = object(&controller, Kind::Grant, "east/server-a") else { panic!() };
    assert_eq!(grant.limit(Direction::Up).unwrap().to_string(), "1150Mbit");
    assert_eq!(reserved(&controller, "server-a"), "1150Mbit");
}

/// Who answers late must not find that there is nothing left to approve.
#[test]
fn a_time_that_was_asked_for_begins_with_the_answer() {
    let controller = controller();
    let change = Change::put_all(read::toml(&grant_text("server-a", "1200Mbit")).unwrap());
    let change = change.lasting(Some(7_200));
    let answer = controller.change(&virtualisation(), &change, false, NOW).unwrap();
    let Answer::Requested { request, .. } = answer else { panic!("{answer:?}") };
    let late = NOW.after(3 * 3_600);
    controller.decide(&network(), request, &yes(), late).unwrap();
    assert_eq!(reserved(&controller, "server-a"), "1200Mbit");
    assert_eq!(controller.tick(late.after(7_199)).unwrap(), Some(late.after(7_200)));
    controller.tick(late.after(7_200)).unwrap();
    assert_eq!(reserved(&controller, "server-a"), "600Mbit");
}

#[test]
fn an_end_that_has_passed_takes_another_and_says_so() {
    let controller = controller();
    let end = NOW.after(7_200);
    let text = format!("{}until = \"{end}\"\n", grant_text("server-a", "1200Mbit"));
    let answer = apply(&controller, &virtualisation(), &text).unwrap();
    let Answer::Requested { request, .. } = answer else { panic!("{answer:?}") };
    let late = end.after(60);
    let refusal = controller.decide(&network(), request, &yes(), late).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "request 1: was to end at 1970-01-12T15:46:40Z, and that has passed; approve it with another \
         end (`--for 2h`), or deny it"
    );
    let verdict = Verdict { for_s: Some(600), ..yes() };
    controller.decide(&network(), request, &verdict, late).unwrap();
    assert_eq!(controller.tick(late).unwrap(), Some(late.after(600)));
}

/// What was approved for a time cannot be passed on and kept.
#[test]
fn what_was_approved_for_a_time_goes_back_whole() {
    let controller = controller();
    let number = asked(&controller);
    let end = Moment(NOW.0 + 3_600);
    let verdict = Verdict { end: Some(end), ..yes() };
    controller.decide(&network(), number, &verdict, NOW).unwrap();
    let pass_on = shift("server-a", "server-b", "100Mbit", None);
    let refusal = controller.change(&virtualisation(), &pass_on, false, NOW).unwrap_err();
    assert_eq!(refusal.gate, Gate::Conflict);
    controller.tick(end).unwrap();
    assert_eq!(reserved(&controller, "server-a"), "600Mbit");
    assert_eq!(reserved(&controller, "server-b"), "400Mbit");
}

#[test]
fn a_no_needs_a_word_and_changes_nothing() {
    let controller = controller();
    let number = asked(&controller);
    let silent = controller.decide(&network(), number, &Verdict::default(), NOW).unwrap_err();
    assert!(silent.to_string().contains("denied without a word; say why"), "{silent}");
    let no = Verdict { word: Some("after the upgrade".to_owned()), ..Verdict::default() };
    controller.decide(&network(), number, &no, NOW).unwrap();
    assert_eq!(reserved(&controller, "server-a"), "600Mbit");
    let state = controller.state().unwrap();
    let RequestState::Denied(decision) = &state.requests[&number].state else { panic!() };
    assert_eq!(decision.word.as_deref(), Some("after the upgrade"));
}

#[test]
fn who_asked_and_nobody_else_takes_a_request_back() {
    let controller = controller();
    let number = asked(&controller);
    let other = Caller::new("viktor", Role::Virtualisation);
    let refusal = controller.withdraw(&other, number, None, NOW).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "request 1: was made by vera (virtualisation), and you are viktor (virtualisation); have vera \
         withdraw it, or have it denied (the role `network` can)"
    );
    controller.withdraw(&virtualisation(), number, Some("a slip"), NOW).unwrap();
    let last = controller.recent_audit(1).unwrap().remove(0);
    assert_eq!((last.action, last.reason.as_deref()), (Action::Withdrawn, Some("a slip")));
    let refusal = controller.decide(&network(), number, &yes(), NOW).unwrap_err();
    assert!(refusal.to_string().contains("was withdrawn by vera"), "{refusal}");
    assert_eq!(reserved(&controller, "server-a"), "600Mbit");
    let refusal = controller.withdraw(&virtualisation(), 9, None, NOW).unwrap_err();
    assert_eq!(refusal.gate, Gate::Missing);
}

/// What one team writes stands in the other's terminal.
#[test]
fn words_that_are_more_than_a_line_of_text_are_refused() {
    let controller = controller();
    let long = "x".repeat(501);
    for words in ["two\nlines", "\u{1b}[2J", "\u{202e}nrut", &long] {
        let change = shift("server-a", "server-b", "1Mbit", None);
        let change = change.because(Some(words.to_owned()));
        let refusal = controller.change(&virtualisation(), &change, false, NOW).unwrap_err();
        assert_eq!(refusal.gate, Gate::Text);
        assert_eq!(
            refusal.to_string(),
            "the change: key `reason`: is too long, has several lines or characters that are no text; \
             write at most 500 bytes, on one line"
        );
        let number = asked(&controller);
        let no = Verdict { word: Some(words.to_owned()), ..Verdict::default() };
        let refusal = controller.decide(&network(), number, &no, NOW).unwrap_err();
        assert!(refusal.to_string().starts_with("request 1: key `word`: is too long"), "{refusal}");
        let reason = Some(words);
        let refusal = controller.withdraw(&virtualisation(), number, reason, NOW).unwrap_err();
        assert!(refusal.to_string().starts_with("request 1: key `reason`: is too"), "{refusal}");
    }
    let change = shift("server-a", "server-b", "1Mbit", None);
    let fits = change.because(Some("für den Monatsabschluß – „eilig“".to_owned()));
    controller.change(&virtualisation(), &fits, false, NOW).unwrap();
}

#[test]
fn who_asks_does_not_answer() {
    let controller = controller();
    let number = asked(&controller);
    let refusal = controller.decide(&virtualisation(), number, &yes(), NOW).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "request 1: the role `virtualisation` may not answer requests; ask the network team (the \
         role `network` can)"
    );
    let refusal = controller.decide(&network(), 7, &yes(), NOW).unwrap_err();
    assert_eq!(refusal.gate, Gate::Missing);
}

#[test]
fn an_approval_meets_the_house_of_then() {
    let controller = controller();
    let number = asked(&controller);
    // Meanwhile the grant was changed by its owners: it is not overwritten.
    apply(&controller, &virtualisation(), &grant_text("server-a", "650Mbit")).unwrap();
    let refusal = controller.decide(&network(), number, &yes(), NOW).unwrap_err();
    assert_eq!(refusal.gate, Gate::Conflict);
    // Or the room went to somebody else.
    let controller = super::controller();
    let number = asked(&controller);
    apply(&controller, &admin(), &grant_text("server-b", "1Gbit")).unwrap();
    let refusal = controller.decide(&network(), number, &yes(), NOW).unwrap_err();
    assert_eq!(refusal.gate, Gate::Admission);
    assert!(controller.state().unwrap().requests[&number].is_open());
}

#[test]
fn without_a_budget_every_reservation_is_asked_for() {
    let controller = controller();
    let gone = Change::one(Edit::Delete(Kind::Budget, "east".to_owned(), crate::change::Base::Any));
    controller.change(&network(), &gone, false, NOW).unwrap();
    let answer = apply(&controller, &virtualisation(), &grant_text("server-a", "601Mbit")).unwrap();
    assert!(matches!(answer, Answer::Requested { .. }), "{answer:?}");
    // But what is there can be moved, and given back.
    let change = shift("server-a", "server-b", "100Mbit", None);
    controller.change(&virtualisation(), &change, false, NOW).unwrap();
    apply(&controller, &virtualisation(), &grant_text("server-b", "100Mbit")).unwrap();
}
