//! `lossy`: TCP from TAP to TAP while the network between the hosts loses or reorders datagrams.
//!
//! ```text
//!   ours:  iperf3 ─ TAP ══ TAP end ══ backend ── fabric0 ═▶ port0 ─ bridge ─ port1 ═▶ fabric0 ── gateway ...
//!   peer:  iperf3 ──────────────── VXLAN ─────── fabric0 ═▶ port0 ─ bridge ─ port1 ═▶ fabric0 ── VXLAN ...
//!                                                 cut               lose             join
//! ```
//! Trains are cut before the first wire, cross the bridge datagram by datagram, and are joined again
//! behind the second one. What happens in between is the kernel's, and the same for both: see
//! [`crate::impair`].

use wireonce_qemu_tests::Result;

use super::bulk::{Bulk, Flows, NOTE, Peer};
use super::{Plan, Suite};
use crate::bench::Bench;
use crate::case::{Case, Contender, Goal, Rival, Sample, Times};
use crate::impair::{Trouble, Troubled};
use crate::peer::vxlan::{self, Vxlan};
use crate::tap_bed::Setup;

/// This suite.
pub const SUITE: Suite =
    Suite { name: "lossy", about: "TCP over a bad network, against kernel VXLAN", cases };

const CASES: [(&str, Trouble); 6] = [
    ("no loss", Trouble::None),
    ("loss 1e-5", Trouble::Loss { one_in: 100_000 }),
    ("loss 1e-4", Trouble::Loss { one_in: 10_000 }),
    ("loss 1e-3", Trouble::Loss { one_in: 1_000 }),
    ("reordering 1e-3", Trouble::Reorder { one_in: 1_000 }),
    ("reordering 1e-2", Trouble::Reorder { one_in: 100 }),
];

fn cases(_bench: &Bench) -> Vec<Plan> {
    let plan = |(name, trouble): (&str, Trouble)| {
        Plan::new(&format!("lossy {name}"), move |bench| case(bench, trouble))
    };
    CASES.into_iter().map(plan).collect()
}

fn case(bench: &Bench, trouble: Trouble) -> Result<Case> {
    let setup = Setup { wire: true, direct: false, ..Setup::default() };
    let ours = Bulk::start(bench, "lossy", setup, Flows::ONE_OUT)?;
    let troubled = trouble.bring(ours.bed.cluster().fabric(), None)?;
    let ours = Lossy { inner: ours, _troubled: Some(troubled) };
    let peer = Rival::start(bench, vxlan::NAME, &[Goal::RatioAtLeast(1.0)], || {
        let vxlan = Vxlan::start_bridged("lossyvx", setup.offloads())?;
        vxlan.cut_before_wire()?;
        let troubled = vxlan.fabric().map(|fabric| trouble.bring(fabric, None)).transpose()?;
        Ok(Lossy { inner: Peer::start(bench, vxlan, Flows::ONE_OUT)?, _troubled: troubled })
    });
    Ok(Case::new("", "Gb/s", ours).note(NOTE).against(peer))
}

/// Somebody whose network is troubled.
#[derive(Debug)]
struct Lossy<C> {
    inner: C,
    _troubled: Option<Troubled>,
}

impl<C: Contender> Contender for Lossy<C> {
    fn round(&mut self, times: Times) -> Result<Sample> {
        self.inner.round(times)
    }
}
