//! `failover`: how long a vNIC is cut off when its home is lost, and whether anything comes twice.
//!
//! ```text
//!   numbers    1 2 3 4 5 6 7 8 ...           one a millisecond, each way
//!   home 1     ████████╳ kill -9                 ░░ started again
//!   home 2             ·············██████████████████████╳ kill -9 ...
//!                      └─── gap ────┘
//! ```
//! Who is killed is the home of then, so the two take turns. No peer does this: there are goals only.

use std::thread::sleep;
use std::time::Duration;

use wireonce_qemu_tests::Result;
use wireonce_qemu_tests::capture::now_us;

use super::{Plan, Suite};
use crate::bench::Bench;
use crate::case::{Case, Contender, Fact, Figure, Goal, Rival, Sample, Times};
use crate::home_bed::{GATEWAYS, HomeBed, Stories, port};
use crate::numbered::{Beat, Story};
use crate::stats::median;

/// This suite.
pub const SUITE: Suite =
    Suite { name: "failover", about: "homes that are lost: gaps, and frames twice", cases };

/// What kills a round, and how much of it follows.
#[derive(Debug, Clone, Copy)]
struct Setup {
    name: &'static str,
    tag: &'static str,
    profile: &'static str,
    vnics: u16,
    fault: Fault,
    /// In each round.
    losses: usize,
    /// The longest gap that is aimed at.
    goal_ms: f64,
    /// How long after a loss gaps are looked for.
    follow: Duration,
    /// How long a gateway that is back is given before the next loss: both have to hear each other.
    settle: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// `kill -9` of the home's gateway.
    Kill,
    /// The other end of its uplink is set down.
    Carrier,
}

const FAST: Setup = Setup {
    name: "failover fast, 1 vNIC",
    tag: "fov1",
    profile: "fast",
    vnics: 1,
    fault: Fault::Kill,
    losses: 10,
    goal_ms: 35.0,
    follow: Duration::from_millis(150),
    settle: Duration::from_millis(150),
};

const SETUPS: [Setup; 4] = [
    FAST,
    Setup { name: "failover fast, 1,000 vNICs", tag: "fovm", vnics: 1_000, ..FAST },
    Setup {
        name: "failover default profile, 1 vNIC",
        tag: "fovd",
        profile: "default",
        losses: 4,
        goal_ms: 300.0,
        follow: Duration::from_millis(500),
        settle: Duration::from_millis(400),
        ..FAST
    },
    Setup {
        name: "failover uplink carrier lost",
        tag: "fovc",
        fault: Fault::Carrier,
        losses: 4,
        // The kernel looks at carriers that change again once a second; until then it drops what is sent.
        settle: Duration::from_millis(1_200),
        ..FAST
    },
];

/// Losses of a round that only shows that it works.
const QUICK_LOSSES: usize = 2;
/// Before the first loss of a round.
const LEAD: Duration = Duration::from_millis(100);

const NOTE: &str = "profile `fast`: a hello each 5 ms, the server leaves after 25 ms of silence; \
    `default`: ten times as long; one datagram a millisecond each way; gaps are between two datagrams \
    that came, by the kernel's clock; this machine stalls for up to 5 ms, which is in them; the p99 \
    of 50 losses is the longest";

fn cases(_bench: &Bench) -> Vec<Plan> {
    let plan = |setup: Setup| Plan::new(setup.name, move |bench| case(bench, setup));
    SETUPS.into_iter().map(plan).collect()
}

/// Lists of a round's events.
const OUT: usize = 0;
const INWARD: usize = 1;
const TWICE: usize = 2;

fn case(bench: &Bench, setup: Setup) -> Result<Case> {
    let gap = Some(Goal::AtMost(setup.goal_ms));
    let figures = [
        (Figure::of("gap p50", "ms", OUT, 0.5), None),
        (Figure::of("gap p99", "ms", OUT, 0.99), gap),
        (Figure::of("longest gap", "ms", OUT, 1.0), None),
        (Figure::of("gap inward p50", "ms", INWARD, 0.5), None),
        (Figure::of("gap inward p99", "ms", INWARD, 0.99), gap),
        (Figure::of("came twice", "frames", TWICE, 1.0), Some(Goal::AtMost(0.0))),
    ];
    let (figures, goals) = figures.into_iter().unzip();
    let bed = HomeBed::start(bench, setup.tag, setup.profile, setup.vnics)?;
    let losses = if bench.is_quick() { QUICK_LOSSES } else { setup.losses };
    let ours = Losses { bed, setup: Setup { losses, ..setup } };
    let peer = Rival::none("no peer moves a VM to another server's uplink", goals);
    Ok(Case::new("", "", ours).figures(figures).against(peer).note(NOTE))
}

#[derive(Debug)]
struct Losses {
    bed: HomeBed,
    setup: Setup,
}

impl Contender for Losses {
    fn round(&mut self, _times: Times) -> Result<Sample> {
        let watch = self.bed.watch(Beat::SPARSE)?;
        sleep(LEAD);
        let (mut spans, mut moved_ms) = (Vec::new(), Vec::new());
        for _ in 0..self.setup.losses {
            let (span, moved) = self.lose()?;
            spans.push(span);
            moved_ms.push(moved);
        }
        let mut sample = judge(&watch.end()?, &spans);
        let moved = median(&moved_ms).unwrap_or(f64::NAN);
        sample.facts.push(Fact::new("all vNICs elsewhere, as polled, within", moved, "ms"));
        Ok(sample)
    }
}

impl Losses {
    /// Loses the home of now and mends it. Returns from when until when gaps are due to that, and after how
    /// many milliseconds all vNICs were seen elsewhere.
    fn lose(&mut self) -> Result<((u64, u64), f64)> {
        let home = self.bed.home()?;
        let other = 1 - home.min(1);
        let from_us = now_us();
        match self.setup.fault {
            Fault::Kill => self.bed.cluster.kill_daemon(GATEWAYS[home])?,
            Fault::Carrier => self.carrier(home, false)?,
        }
        // Asking costs processor time that the swap needs.
        sleep(self.setup.follow);
        let until_us = now_us();
        self.bed.wait_all_at(other)?;
        let moved_ms = (now_us() - from_us) as f64 / 1e3;
        match self.setup.fault {
            Fault::Kill => {
                self.bed.cluster.start_daemon(GATEWAYS[home])?;
                self.bed.wait_link_of(home)?;
            }
            Fault::Carrier => self.carrier(home, true)?,
        }
        sleep(self.setup.settle);
        Ok(((from_us, until_us), moved_ms))
    }

    fn carrier(&self, home: usize, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.bed.cluster.outside().ip(&format!("link set {} {state}", port(home))).map(drop)
    }
}

/// What a round says; `spans` are the times in which gaps are due to a loss.
fn judge(stories: &Stories, spans: &[(u64, u64)]) -> Sample {
    let gaps = |story: &Story| -> Vec<f64> {
        spans.iter().map(|(from_us, until_us)| story.gap_ms(*from_us, *until_us)).collect()
    };
    let Stories { out, inward } = stories;
    // One that was sent just before was under way.
    const UNDER_WAY_US: u64 = 5_000;
    let lost_us = out.lost_us();
    let within = |at_us: u64, (from_us, until_us): (u64, u64)| {
        (from_us.saturating_sub(UNDER_WAY_US)..=until_us).contains(&at_us)
    };
    let most = spans.iter().map(|span| lost_us.iter().filter(|at| within(**at, *span)).count());
    let beside = lost_us.iter().filter(|at| !spans.iter().any(|span| within(**at, *span))).count();
    let pauses = spans.iter().map(|(from_us, until_us)| out.pause_ms(*from_us, *until_us));
    Sample {
        events: vec![gaps(out), gaps(inward), vec![(out.twice() + inward.twice()) as f64]],
        facts: vec![
            Fact::new(
                "lost by the worst loss of a round",
                most.max().unwrap_or(0) as f64,
                "frames",
            ),
            Fact::new("lost between losses", beside as f64, "frames"),
            Fact::new("the sender's own longest pause", pauses.fold(0.0, f64::max), "ms"),
        ],
        ..Sample::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wireonce_qemu_tests::capture::Seen;

    #[test]
    fn what_is_lost_beside_a_loss_is_told_apart_from_what_it_cost() {
        let seen = |number: u64| Seen {
            at_us: 1_000 * number,
            source_mac: [2; 6],
            len: 60,
            number,
            iperf_number: 0,
        };
        let sent = || (0..100).map(|n| 1_000 * n).collect();
        // A gap from 20 to 45, and one that nobody has caused.
        let out = (0..=20).chain(45..70).chain(71..100).map(seen).collect();
        let inward = (0..100).map(seen).collect();
        let stories =
            Stories { out: Story::new(sent(), &[out]), inward: Story::new(sent(), &[inward]) };
        let sample = judge(&stories, &[(20_500, 60_000)]);
        assert_eq!(sample.events, [vec![25.0], vec![1.0], vec![0.0]]);
        let facts: Vec<f64> = sample.facts.iter().map(|fact| fact.value).collect();
        assert_eq!(facts, [24.0, 1.0, 1.0]);
    }
}
