use super::*;
use crate::case::Goal;
use wireonce_qemu_tests::Error;

/// Gives the next value of a list in each round.
#[derive(Debug)]
struct Script(Vec<f64>);

impl Contender for Script {
    fn round(&mut self, _times: Times) -> Result<Sample> {
        let value = self.0.remove(0);
        let facts = vec![Fact::new("seen", value * 2.0, "x")];
        Ok(Sample {
            values: vec![value],
            cpu_us_per_frame: Some(1.0 / value),
            facts,
            events: Vec::new(),
        })
    }
}

fn rules(rounds: usize) -> Rules {
    let times = Times { warm_up: Duration::ZERO, window: Duration::ZERO };
    let cores = Cores::default();
    Rules { rounds, times, repeats: 0, repeat_until: None, patience: Duration::ZERO, cores }
}

#[test]
fn the_ratio_is_the_median_of_the_rounds_own_ratios() {
    // The machine was twice as fast in the second round: the ratios do not notice.
    let case = Case::new("c", "Mpps", Script(vec![10.0, 20.0, 12.0])).against(Rival::new(
        "p",
        Ok(Script(vec![5.0, 10.0, 4.0])),
        &[Goal::RatioAtLeast(2.0)],
    ));
    let mut told = 0;
    let results = run(case, &rules(3), |_| told += 1).unwrap();
    let [result] = results.as_slice() else { panic!("{results:?}") };
    assert_eq!((result.ours, result.peer, result.ratio), (Some(12.0), Some(5.0), Some(2.0)));
    assert_eq!((result.met, result.rounds, told), (Some(true), 3, 3));
    assert_eq!(result.spread.ours, Some([10.0, 20.0]));
    assert!(result.note.as_ref().unwrap().contains("ours: seen 24 x; peer: seen 10 x"));
}

#[test]
fn a_peer_that_cannot_run_is_null_with_its_reason_and_the_others_keep_their_columns() {
    let case = Case::new("c", "us", Script(vec![3.0]))
        .against(Rival::absent("gone", "no such program", &[Goal::RatioAtMost(1.0)]))
        .against(Rival::new("here", Ok(Script(vec![6.0])), &[Goal::RatioAtMost(0.4)]));
    let results = run(case, &rules(1), |_| {}).unwrap();
    assert_eq!((results[0].peer, results[0].met), (None, None));
    assert!(results[0].note.as_ref().unwrap().contains("no such program"));
    assert_eq!((results[1].peer, results[1].met), (Some(6.0), Some(false)));
    assert_eq!(results[1].cpu_us_per_frame.peer, Some(1.0 / 6.0));
}

/// Ends in its first round as a program does: with its log.
#[derive(Debug)]
struct Dying;

impl Contender for Dying {
    fn round(&mut self, _times: Times) -> Result<Sample> {
        let log = "ovs ended too early (exit status: 134): EAL: started\nmiddle\n\nEAL: panic\n";
        Err(Error::Unexpected(log.to_owned()))
    }
}

#[test]
fn a_peer_that_dies_is_null_with_a_line_of_reason_and_our_figure_stays() {
    let case = Case::new("c", "Mpps", Script(vec![3.0, 5.0]))
        .against(Rival::new("dies", Ok(Dying), &[Goal::RatioAtLeast(1.0)]))
        .against(Rival::new("lives", Ok(Script(vec![1.0, 2.0])), &[Goal::RatioAtLeast(2.0)]));
    let results = run(case, &rules(2), |_| {}).unwrap();
    assert_eq!((results[0].ours, results[0].peer, results[0].met), (Some(4.0), None, None));
    let note = results[0].note.as_ref().unwrap();
    assert!(note.contains("failed in round 1") && note.contains("EAL: panic"), "{note}");
    assert!(!note.contains('\n') && !note.contains("middle"), "{note}");
    assert_eq!((results[1].peer, results[1].met), (Some(1.5), Some(true)));
}

#[test]
fn ours_that_dies_fails_the_case() {
    assert!(run(Case::new("c", "Mpps", Dying), &rules(1), |_| {}).is_err());
}

#[test]
fn a_peer_at_zero_has_no_ratio_and_the_note_says_why() {
    let peer = Rival::new("p", Ok(Script(vec![0.0])), &[Goal::RatioAtLeast(1.0)]);
    let results = run(Case::new("c", "Mpps", Script(vec![3.0])).against(peer), &rules(1), |_| {});
    let result = results.unwrap().remove(0);
    assert_eq!((result.peer, result.ratio, result.met), (Some(0.0), None, None));
    assert!(result.note.unwrap().contains("the peer's is 0"));
}

#[test]
fn what_is_said_of_strangers_is_over_the_limit_that_is_said() {
    assert_eq!(too_much(0.04), None);
    assert_eq!(too_much(0.043).unwrap(), "others took 4.3 % (at most 4)");
}

#[test]
fn a_figure_of_events_is_over_those_of_all_rounds() {
    /// The first round has most of the events, and the smaller ones.
    #[derive(Debug)]
    struct Events(Vec<Vec<f64>>);
    impl Contender for Events {
        fn round(&mut self, _times: Times) -> Result<Sample> {
            Ok(Sample { events: vec![self.0.remove(0)], ..Sample::default() })
        }
    }
    let ours = Events(vec![vec![1.0, 2.0, 3.0], vec![40.0]]);
    let figures = vec![Figure::of("p50", "ms", 0, 0.5), Figure::of("longest", "ms", 0, 1.0)];
    let goals = vec![None, Some(Goal::AtMost(35.0))];
    let case = Case::new("c", "", ours).figures(figures).against(Rival::none("nobody", goals));
    let results = run(case, &rules(2), |_| {}).unwrap();
    assert_eq!((results[0].ours, results[0].met), (Some(2.0), None));
    assert_eq!((results[1].ours, results[1].met), (Some(40.0), Some(false)));
    assert_eq!((results[0].spread.ours, results[0].rounds), (Some([1.0, 40.0]), 2));
}

#[test]
fn without_a_peer_our_own_figure_still_meets_its_goal() {
    let mut case = Case::new("c", "MiB", Script(vec![3.0]));
    case.rivals.push(Rival::absent("none", "no peer does this", &[Goal::AtMost(4.0)]));
    let results = run(case, &rules(1), |_| {}).unwrap();
    assert_eq!((results[0].met, results[0].goal.as_deref()), (Some(true), Some("<= 4 MiB")));
}
