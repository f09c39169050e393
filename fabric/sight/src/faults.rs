//! What is wrong between two hosts whose link is up: gray failures, as both ends say.

use crate::view::View;
use std::collections::BTreeMap;
use wireonce_ledger::{Status, status::LinkStatus};

/// Something that is wrong in one direction between two hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    /// Who sends.
    pub(crate) from: String,
    /// Who should receive.
    pub(crate) to: String,
    /// Its name, as in the status.
    pub(crate) name: &'static str,
    /// How much, and where to look.
    pub(crate) what: String,
}

impl Fault {
    /// As a sentence.
    pub(crate) fn said(&self) -> String {
        format!("{} to {}: {}", self.from, self.to, self.what)
    }
}

/// What a host says of its link to a peer.
pub(crate) fn of_link(host: &str, link: &LinkStatus) -> Vec<Fault> {
    let Some(gray) = &link.gray else { return Vec::new() };
    let peer = link.peer.as_str();
    let fault = |from: &str, to: &str, name, what| {
        let (from, to) = (from.to_owned(), to.to_owned());
        Fault { from, to, name, what }
    };
    let mut faults = Vec::new();
    if let Some(percent) = gray.lost_to_percent {
        let what = format!("{percent} % of the hellos are lost; look at the ports on this way");
        faults.push(fault(host, peer, "lossy", what));
    }
    if let Some(percent) = gray.lost_from_percent {
        let what = format!("{percent} % of the hellos are lost; look at the ports on this way");
        faults.push(fault(peer, host, "lossy", what));
    }
    if gray.one_way {
        let what =
            format!("nothing arrives, though {peer} is heard at {host}; look at this way only");
        faults.push(fault(host, peer, "one-way", what));
    }
    if gray.no_path {
        let what = "hellos arrive and data does not; look for what filters UDP ports above the \
                    fabric's first";
        faults.push(fault(host, peer, "no-path", what.to_owned()));
    } else if !gray.dead_paths.is_empty() {
        let what = format!(
            "nobody answers on {}, and its flows take another path; look for a dead member of a LAG \
             or of an ECMP group",
            gray.dead_paths.join(", ")
        );
        faults.push(fault(host, peer, "path-dead", what));
    }
    if let Some(lost) = gray.full_size_lost {
        let what = format!(
            "datagrams of {lost} bytes are lost and {} bytes arrive, which are used now; look for a \
             smaller MTU on this way",
            link.datagram_len
        );
        faults.push(fault(host, peer, "full-size-lost", what));
    }
    faults
}

/// What two hosts say of the way between them, each thing once.
pub(crate) fn between(a: Option<&Status>, b: Option<&Status>, peers: [&str; 2]) -> Vec<Fault> {
    let [name_a, name_b] = peers;
    let ends = [(a, name_a, name_b), (b, name_b, name_a)];
    let said = ends.into_iter().filter_map(|(status, host, peer)| {
        let link = status?.links.iter().find(|link| link.peer == peer)?;
        Some(of_link(host, link))
    });
    once(said.flatten())
}

/// Everything of the house, each thing once.
pub(crate) fn all(view: &View<'_>) -> Vec<Fault> {
    let hosts = view.reports.keys().filter_map(|host| Some((host, view.fresh(host)?)));
    once(hosts.flat_map(|(host, report)| {
        report.status.links.iter().flat_map(|link| of_link(host, link)).collect::<Vec<_>>()
    }))
}

/// Both ends know both directions: who says it first is believed.
fn once(faults: impl Iterator<Item = Fault>) -> Vec<Fault> {
    let mut by_way = BTreeMap::new();
    for fault in faults {
        by_way.entry((fault.from.clone(), fault.to.clone(), fault.name)).or_insert(fault);
    }
    by_way.into_values().collect()
}
