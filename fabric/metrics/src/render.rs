//! A status as OpenMetrics text.
//!
//! Names have units and start with `wireonce_`. There is one counter for what is dropped, with the
//! stage and the reason as labels, beside those for what goes in and out of each stage, so that the
//! ledger can be closed in a query: `in + copied - out - dropped` is what is on its way.

use crate::{
    bandwidth::bandwidth,
    uplinks::uplinks,
    writer::{Writer, flag, label, page_of},
};
use prometheus_client::registry::Unit;
use std::fmt;
use wireonce_ledger::{
    Amount, Status,
    status::{ConfigurationStatus, LedgerRow, LinkState, LinkStatus, VnicState},
};

/// The metrics of a daemon, in the text format of OpenMetrics 1.0.
#[must_use]
pub fn render(status: &Status) -> String {
    page_of(status, |page, status| {
        daemon(page, status)?;
        vnics(page, status)?;
        uplinks(page, status)?;
        bandwidth(page, status)?;
        links(page, status)?;
        ledger(page, status)?;
        others(page, status)
    })
}

fn daemon(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let labels = vec![
        label("role", &status.role),
        label("host", &status.host),
        label("version", &status.version),
        label("encryption", &status.encryption),
    ];
    page.gauges("daemon_info", "What this daemon is; always 1", None, [(labels, 1.0)])?;
    let uptime_s = status.uptime_s as f64;
    page.gauges("uptime", "Time since the start", Some(&Unit::Seconds), [(vec![], uptime_s)])?;
    configuration(page, status)
}

/// How the daemon stands to what it is told to serve, and to whom tells it.
fn configuration(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let ConfigurationStatus { number, refused, controller, .. } = &status.configuration;
    let help = "1 while the newest configuration is refused, and the one before it served";
    page.gauges("configuration_refused", help, None, [(vec![], flag(refused.is_some()))])?;
    let help = "Configurations that were taken since the start";
    page.counters("configuration_taken", help, None, [(vec![], *number)])?;
    let answers = controller
        .iter()
        .map(|it| (vec![label("controller", &it.address)], flag(it.silent_since_s.is_none())));
    let help = "0 while the controller does not answer; what is served goes on";
    page.gauges("controller_answers", help, None, answers)?;
    let ends = controller.iter().map(|it| (vec![], it.certificate_until_s as f64));
    let help = "When this host's certificate ends, in seconds since 1970";
    page.gauges("certificate_end_timestamp", help, Some(&Unit::Seconds), ends)
}

fn vnics(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let of = |state: VnicState| {
        status.vnics.iter().map(move |vnic| {
            let name = match state {
                VnicState::Down => "down",
                VnicState::Connected => "connected",
                VnicState::Running => "running",
            };
            let labels = vec![
                label("vnic", &vnic.name),
                label("network", &vnic.network),
                label("state", name),
            ];
            (labels, flag(vnic.state == state))
        })
    };
    let states = [VnicState::Down, VnicState::Connected, VnicState::Running];
    let help = "1 for the state that the vNIC is in";
    page.gauges("vnic_state", help, None, states.into_iter().flat_map(of))?;
    let homes = || status.vnics.iter().filter_map(|vnic| Some((vnic, vnic.home.as_ref()?)));
    let away = homes().map(|(vnic, home)| {
        let labels = vec![label("vnic", &vnic.name), label("desired", &home.desired)];
        (labels, flag(home.now.as_ref() != Some(&home.desired)))
    });
    let help = "1 while the vNIC does not use the uplink that the tables want";
    page.gauges("vnic_away_from_home", help, None, away)?;
    let swaps = homes().map(|(vnic, home)| (vec![label("vnic", &vnic.name)], home.swaps));
    let help = "How often the vNIC went from one uplink to another";
    page.counters("vnic_home_swaps", help, None, swaps)
}

fn links(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let peer = |link: &LinkStatus| vec![label("peer", &link.peer)];
    let up = status.links.iter().map(|link| (peer(link), flag(link.state == LinkState::Up)));
    page.gauges("link_up", "1 while both hosts hear each other", None, up)?;
    let states = [
        ("down", LinkState::Down),
        ("idle", LinkState::Idle),
        ("connecting", LinkState::Connecting),
        ("up", LinkState::Up),
    ];
    let state = status.links.iter().flat_map(|link| {
        states.into_iter().map(|(word, state)| {
            (vec![label("peer", &link.peer), label("state", word)], flag(link.state == state))
        })
    });
    let help = "1 for the state of the link; idle: nobody needs it now";
    page.gauges("link_state", help, None, state)?;
    let trips = status.links.iter().filter_map(|link| Some((link, link.rtt_us?)));
    let trips = trips.map(|(link, rtt_us)| (peer(link), rtt_us as f64 / 1e6));
    let help = "Round trip of the last hello";
    page.gauges("link_round_trip", help, Some(&Unit::Seconds), trips)?;
    let gray = status
        .links
        .iter()
        .map(|link| (peer(link), flag(link.gray.as_ref().is_some_and(|gray| gray.leaves_homes))));
    let help =
        "1 while the link loses so much that homes at the peer are left if a standby is better";
    page.gauges("link_gray", help, None, gray)?;
    let troubles = status.links.iter().flat_map(|link| {
        let names = link.gray.iter().flat_map(|gray| &gray.trouble);
        names.map(|name| (vec![label("peer", &link.peer), label("trouble", name)], 1.0))
    });
    page.gauges("link_trouble", "1 for each thing that is wrong with the link", None, troubles)?;
    type Of = fn(&LinkStatus) -> u64;
    let counted: [(&str, &str, Option<&Unit>, Of); 11] = [
        ("link_sent_datagrams", "Datagrams sent", None, |l| l.sent_datagrams),
        ("link_sent", "UDP payload sent", Some(&Unit::Bytes), |l| l.sent_bytes),
        ("link_received_datagrams", "Datagrams received", None, |l| l.received_datagrams),
        ("link_received", "UDP payload received", Some(&Unit::Bytes), |l| l.received_bytes),
        ("link_lost_datagrams", "Datagrams that the peer never got", None, |l| l.lost),
        ("link_missed_datagrams", "Datagrams of the peer that never came", None, |l| l.missed),
        ("link_reordered_datagrams", "Datagrams behind a later one", None, |l| l.reordered),
        ("link_late_datagrams", "Datagrams behind their final hole", None, |l| l.late),
        ("link_duplicate_datagrams", "Datagrams that came twice", None, |l| l.duplicate),
        ("link_unauthentic_datagrams", "Datagrams without a valid seal", None, |l| l.auth_failed),
        ("link_socket_dropped_datagrams", "Datagrams without room in our socket", None, |l| {
            l.socket_drops
        }),
    ];
    for (name, help, unit, of) in counted {
        page.counters(name, help, unit, status.links.iter().map(|link| (peer(link), of(link))))?;
    }
    Ok(())
}

fn ledger(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let stage = |row: &LedgerRow| vec![label("port", &row.name), label("stage", row.stage.name())];
    type Of = fn(&LedgerRow) -> Amount;
    let sides: [(&str, &str, Of); 3] = [
        ("in", "came to the stage", |row| row.input),
        ("copied", "were added by copying broadcasts", |row| row.copies),
        ("out", "left the stage towards the next", |row| row.output),
    ];
    for (side, what, of) in sides {
        let rows = || status.ledger.iter().map(|row| (stage(row), of(row)));
        let frames = rows().map(|(labels, amount)| (labels, amount.frames));
        page.counters(&format!("{side}_frames"), &format!("Frames that {what}"), None, frames)?;
        let segments = rows().map(|(labels, amount)| (labels, amount.segments));
        let help = format!("Frames on a wire that {what}");
        page.counters(&format!("{side}_segments"), &help, None, segments)?;
        let bytes = rows().map(|(labels, amount)| (labels, amount.bytes));
        let help = format!("Bytes of frames that {what}");
        page.counters(side, &help, Some(&Unit::Bytes), bytes)?;
    }
    let drops = || {
        status.ledger.iter().flat_map(|row| {
            row.drops.iter().map(|(reason, amount)| {
                let mut labels = stage(row);
                labels.push(label("reason", reason));
                (labels, *amount)
            })
        })
    };
    let frames = drops().map(|(labels, amount)| (labels, amount.frames));
    page.counters("dropped_frames", "Frames dropped, by stage and reason", None, frames)?;
    let bytes = drops().map(|(labels, amount)| (labels, amount.bytes));
    let help = "Bytes of frames dropped, by stage and reason";
    page.counters("dropped", help, Some(&Unit::Bytes), bytes)?;
    let open = status.ledger.iter().map(|row| (stage(row), row.open_frames as f64));
    page.gauges("open_frames", "Frames that are on their way in the stage", None, open)
}

/// What has a name and nothing else.
fn others(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    for (name, count) in &status.counters {
        let help = "An event, by its name in `wireonce status`";
        page.counters(&metric_name(name), help, None, [(vec![], *count)])?;
    }
    Ok(())
}

/// Only letters, digits and underscores make a name.
fn metric_name(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("event_{}", name.chars().map(legal).collect::<String>())
}

#[cfg(test)]
mod tests;
