//! What holds whatever is asked.

use super::*;
use crate::{
    change::{Base, Verdict},
    refusal::Gate,
    store::Store,
};
use proptest::prelude::*;
use std::{collections::BTreeSet, thread};
use wireonce_desired::{bandwidth, rules};

/// Anything that the virtualisation team might ask for.
#[derive(Debug, Clone)]
enum Ask {
    Set { server: usize, mbit: u64, for_s: Option<u64> },
    Shift { from: usize, to: usize, mbit: u64, for_s: Option<u64> },
    Remove { server: usize },
    End { server: usize },
    Wait { s: u64 },
}

fn ask() -> impl Strategy<Value = Ask> {
    let server = 0usize..3;
    let time = prop::option::of(1u64..600);
    prop_oneof![
        (server.clone(), 0u64..2000, time.clone()).prop_map(|(server, mbit, for_s)| Ask::Set {
            server,
            mbit,
            for_s
        }),
        (server.clone(), server.clone(), 0u64..900, time)
            .prop_map(|(from, to, mbit, for_s)| Ask::Shift { from, to, mbit, for_s }),
        server.clone().prop_map(|server| Ask::Remove { server }),
        server.prop_map(|server| Ask::End { server }),
        (0u64..700).prop_map(|s| Ask::Wait { s }),
    ]
}

const SERVERS: [&str; 3] = ["server-a", "server-b", "server-c"];

fn three_servers() -> Controller {
    let controller = controller();
    let text = "[[server]]\nname = \"server-c\"\naddress = \"10.77.0.3\"\npublic_key = \
         \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n";
    apply(&controller, &admin(), text).unwrap();
    controller
}

fn until(now: Moment, for_s: Option<u64>) -> Option<Moment> {
    for_s.map(|for_s| Moment(now.0 + for_s))
}

fn change_of(ask: &Ask, now: Moment) -> Option<Change> {
    Some(match ask {
        Ask::Set { server, mbit, for_s } => {
            let mut text = grant_text(SERVERS[*server], &format!("{mbit}Mbit"));
            if let Some(until) = until(now, *for_s) {
                text += &format!("until = \"{until}\"\n");
            }
            Change::put_all(read::toml(&text).unwrap())
        }
        Ask::Shift { from, to, mbit, for_s } => {
            shift(SERVERS[*from], SERVERS[*to], &format!("{mbit}Mbit"), until(now, *for_s))
        }
        Ask::Remove { server } => {
            Change::one(Edit::Delete(Kind::Grant, format!("east/{}", SERVERS[*server]), Base::Any))
        }
        Ask::End { server } => Change::one(Edit::End(format!("east/{}", SERVERS[*server]))),
        Ask::Wait { .. } => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Without an approval, what is reserved never exceeds the budget; the house always
    /// holds together; and what was to end always can.
    #[test]
    fn the_budget_holds_without_approval(asks in prop::collection::vec(ask(), 1..40)) {
        let controller = three_servers();
        let mut now = NOW;
        for ask in &asks {
            if let Ask::Wait { s } = ask {
                now = Moment(now.0 + s);
            }
            controller.tick(now).unwrap();
            if let Some(change) = change_of(ask, now) {
                let _ = controller.change(&virtualisation(), &change, false, now);
            }
            let state = controller.state().unwrap();
            let reserved = bandwidth::reserved(&state.house, "east", Direction::Up);
            prop_assert!(reserved <= "1500Mbit".parse().unwrap(), "{reserved} after {ask:?}");
            prop_assert_eq!(rules::check(&state.house), Ok(()));
            let read = crate::change::State::read(&**controller.store()).unwrap();
            prop_assert_eq!(format!("{:?}", *state), format!("{read:?}"), "what was followed");
        }
    }

    /// When all that was timed has ended, only what was changed for good is left.
    #[test]
    fn ends_restore_what_was(asks in prop::collection::vec(ask(), 1..30)) {
        let controller = three_servers();
        // The same without anything that is timed.
        let lasting = three_servers();
        for ask in &asks {
            let Some(change) = change_of(ask, NOW) else { continue };
            let is_timed = matches!(
                ask,
                Ask::Set { for_s: Some(_), .. } | Ask::Shift { for_s: Some(_), .. }
            );
            let is_end = matches!(ask, Ask::End { .. });
            let done = controller.change(&virtualisation(), &change, false, NOW);
            if done.is_ok_and(|answer| matches!(answer, Answer::Applied { .. })) && !is_timed && !is_end {
                lasting.change(&admin(), &change, false, NOW).unwrap();
            }
        }
        controller.tick(Moment(NOW.0 + 10_000)).unwrap();
        let (ended, lasting) = (controller.state().unwrap(), lasting.state().unwrap());
        prop_assert!(ended.timers.is_empty());
        prop_assert_eq!(&ended.house, &lasting.house);
    }

    /// An approval with an end leaves nothing behind, whatever happens in between.
    #[test]
    fn what_was_approved_for_a_time_leaves_no_excess(asks in prop::collection::vec(ask(), 0..20)) {
        let controller = three_servers();
        let beyond = Change::put_all(read::toml(&grant_text("server-c", "900Mbit")).unwrap());
        let answer = controller.change(&virtualisation(), &beyond, false, NOW).unwrap();
        let Answer::Requested { request, .. } = answer else { panic!("{answer:?}") };
        let end = Moment(NOW.0 + 100);
        let verdict = Verdict { approve: true, end: Some(end), ..Verdict::default() };
        controller.decide(&network(), request, &verdict, NOW).unwrap();
        for ask in &asks {
            if let Some(change) = change_of(ask, NOW) {
                let _ = controller.change(&virtualisation(), &change, false, NOW);
            }
        }
        controller.tick(Moment(NOW.0 + 10_000)).unwrap();
        let state = controller.state().unwrap();
        let reserved = bandwidth::reserved(&state.house, "east", Direction::Up);
        prop_assert!(reserved <= "1500Mbit".parse().unwrap(), "{reserved}");
    }

    /// Ids are never given twice, whatever is made and removed.
    #[test]
    fn no_id_is_ever_given_twice(steps in prop::collection::vec((0u8..4, any::<bool>()), 1..30)) {
        let controller = controller();
        let mut given = BTreeSet::from([1001, 1002, 1003]);
        for (number, make) in steps {
            let name = format!("new-{number}");
            if make {
                let text = format!(
                    "[[vnic]]\nname = \"{name}\"\nhost = \"server-a\"\nnetwork = \"storage\"\nmac = \
                     \"52:54:00:00:01:0{number}\"\nsocket = \"/run/{name}.sock\"\n"
                );
                let is_new = controller.state().unwrap().house.vnic(&name).is_none();
                apply(&controller, &virtualisation(), &text).unwrap();
                let id = controller.state().unwrap().house.vnic(&name).unwrap().id.unwrap();
                prop_assert_eq!(given.insert(id), is_new);
            } else {
                let gone = Change::one(Edit::Delete(Kind::Vnic, name, Base::Any));
                let _ = controller.change(&virtualisation(), &gone, false, NOW);
            }
        }
    }
}

/// Two controllers on one store, four writers: each version is the base of one change.
#[test]
fn of_writers_on_the_same_version_exactly_one_wins() {
    let first = controller();
    let store: Arc<dyn Store> = Arc::clone(first.store());
    for round in 0..20 {
        let version = first.state().unwrap().version(Kind::Grant, "east/server-a");
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let store = Arc::clone(&store);
                thread::spawn(move || {
                    let controller = Controller::new(store).unwrap();
                    let text = grant_text("server-a", &format!("{}Mbit", 200 + round * 8 + writer));
                    let object = read::toml(&text).unwrap().remove(0);
                    let change = Change::one(Edit::Put(object, Base::Version(version)));
                    controller.change(&virtualisation(), &change, false, NOW)
                })
            })
            .collect();
        let done: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1, "{done:?}");
        for refusal in done.into_iter().filter_map(Result::err) {
            assert_eq!(refusal.gate, Gate::Conflict, "{refusal}");
        }
    }
}

/// Writers who take what is there all get their turn, and the sum is never exceeded.
#[test]
fn moves_at_the_same_time_all_count() {
    let first = controller();
    let movers: Vec<_> = (0..4)
        .map(|mover| {
            let store = Arc::clone(first.store());
            thread::spawn(move || {
                let controller = Controller::new(store).unwrap();
                let (from, to) = match mover % 2 {
                    0 => ("server-a", "server-b"),
                    _ => ("server-b", "server-a"),
                };
                for _ in 0..5 {
                    let change = shift(from, to, "10Mbit", None);
                    controller.change(&virtualisation(), &change, false, NOW).unwrap();
                }
            })
        })
        .collect();
    movers.into_iter().for_each(|mover| mover.join().unwrap());
    assert_eq!(reserved(&first, "server-a"), "600Mbit");
    assert_eq!(reserved(&first, "server-b"), "400Mbit");
}
