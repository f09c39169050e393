//! `wireonce explain VNIC`: its frames from station to station, and what holds them up.

use super::ask::{Ask, escape};
use crate::{
    failure::Failure,
    output::{Table, scaled},
};
use clap::Parser;
use std::fmt::Write;
use wireonce_control::api::EXPLAIN_S_MAX;
use wireonce_ledger::Amount;
use wireonce_sight::{
    Explanation,
    causes::{Sure, Verdict, Who},
    explain::Station,
};

/// The command line of `explain`.
#[derive(Debug, Parser)]
pub(crate) struct ExplainArgs {
    /// The vNIC
    vnic: String,
    /// For how long to look, such as 2s or 1m, at most 60 s; 0s: between the two newest reports
    #[arg(long = "for", value_name = "TIME", default_value = "2s", value_parser = interval)]
    seconds: u64,
    #[command(flatten)]
    ask: Ask,
}

/// Asks, which takes as long as the interval, and shows.
pub(crate) fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let path = format!("/v1/vnics/{}/explanation?for_s={}", escape(&args.vnic), args.seconds);
    let explanation: Explanation = args.ask.client().get(&path)?;
    args.ask.show(&explanation, || text(&explanation))
}

/// `2s` or `1m`, at most a minute.
fn interval(text: &str) -> Result<u64, String> {
    let wrong = || format!("write a time such as 2s or 1m, at most {EXPLAIN_S_MAX}s");
    let seconds = match text.strip_suffix('m') {
        Some(minutes) => minutes.parse::<u64>().ok().and_then(|n| n.checked_mul(60)),
        None => text.strip_suffix('s').and_then(|seconds| seconds.parse().ok()),
    };
    seconds.filter(|seconds| *seconds <= EXPLAIN_S_MAX).ok_or_else(wrong)
}

fn text(it: &Explanation) -> String {
    let Explanation { vnic, server, home, interval_us, .. } = it;
    let home = home.as_deref().unwrap_or("none");
    let mut page = format!("{vnic} on {server}, home {home}");
    // Writing to a String cannot fail.
    let _ = match interval_us {
        0 => writeln!(page, ", nothing to compare yet"),
        us => writeln!(page, ", in {}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    };
    for (title, stations) in [("OUT", &it.out), ("BACK", &it.back)] {
        let table = table(title, stations);
        if !table.is_empty() {
            page.push('\n');
            page.push_str(&table);
        }
    }
    page.push('\n');
    it.verdicts.iter().for_each(|verdict| page.push_str(&said(verdict)));
    if it.verdicts.is_empty() {
        page.push_str(
            "nothing can be said: what is known of it fits no cause, and no drop was counted\n",
        );
    }
    page
}

fn table(title: &str, stations: &[Station]) -> String {
    let mut table = Table::new([title, "HOST", "CAME", "WENT ON", "", "WAITS", "DROPPED", ""]);
    let frames = |amount: Option<Amount>| amount.map_or("-".to_owned(), |it| it.frames.to_string());
    for station in stations {
        let drops = station.drops.iter().map(|(reason, frames)| format!("{reason} {frames}"));
        let drops: Vec<String> = drops.collect();
        table.row([
            station.name.clone(),
            station.host.clone(),
            frames(station.came),
            frames(station.went),
            station.went.map_or("-".to_owned(), |it| scaled(it.bytes, "B")),
            station.waits.clone().unwrap_or_else(|| "-".to_owned()),
            if drops.is_empty() { "-".to_owned() } else { drops.join(", ") },
            station.note.clone().unwrap_or_default(),
        ]);
    }
    table.render()
}

/// One verdict in two or three lines.
fn said(it: &Verdict) -> String {
    let sure = match it.sure {
        Sure::Proved => "PROVED",
        Sure::Likely => "LIKELY",
        Sure::Unknown => "UNKNOWN",
    };
    let who = match it.who {
        Who::Network => "the network team",
        Who::Virtualisation => "the virtualisation team",
        Who::GuestOwner => "the owner of the guest",
    };
    let mut text = format!("{sure} {}, at {}: {}\n", it.cause, it.place, it.what);
    let _ = match (&it.command, &it.test) {
        (Some(command), _) => writeln!(text, "    next: {who}\n    {command}"),
        (None, Some(test)) => writeln!(text, "    next: {who}; what would settle it: {test}"),
        (None, None) => writeln!(text, "    next: {who}"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn times_are_seconds_up_to_a_minute() {
        assert_eq!([interval("2s"), interval("1m"), interval("0s")], [Ok(2), Ok(60), Ok(0)]);
        for text in ["2", "s", "61s", "2m", "-1s", "1h"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn stations_and_verdicts_are_shown_with_who_acts_next() {
        let amount = Amount { frames: 990, segments: 990, bytes: 1_000_000 };
        let guard = Station {
            name: "guard".to_owned(),
            host: "server-a".to_owned(),
            came: Some(Amount { frames: 1_000, ..amount }),
            went: Some(amount),
            drops: BTreeMap::from([("source-ip".to_owned(), 10)]),
            ..Station::default()
        };
        let verdict = Verdict {
            sure: Sure::Proved,
            cause: "own-limit".to_owned(),
            place: "shaper on server-a".to_owned(),
            what: "held back".to_owned(),
            who: Who::Virtualisation,
            command: Some("wireonce policy set gold up.limit=2Gbit".to_owned()),
            test: None,
        };
        let explanation = Explanation {
            vnic: "vm-a".to_owned(),
            server: "server-a".to_owned(),
            home: Some("east-1".to_owned()),
            interval_us: 2_010_000,
            out: vec![guard],
            back: Vec::new(),
            verdicts: vec![verdict],
        };
        assert_eq!(
            text(&explanation),
            "vm-a on server-a, home east-1, in 2.0 s\n\
             \n\
             OUT    HOST      CAME  WENT ON           WAITS  DROPPED\n\
             guard  server-a  1000      990  1.00 MB      -  source-ip 10\n\
             \n\
             PROVED own-limit, at shaper on server-a: held back\n    \
             next: the virtualisation team\n    \
             wireonce policy set gold up.limit=2Gbit\n"
        );
    }
}
