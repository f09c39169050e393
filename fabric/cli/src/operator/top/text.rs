//! The view as tables.

use super::Shown;
use crate::output::{Table, one_line, scaled};
use std::fmt::Write;
use wireonce_sight::{
    Note, Now,
    now::{DropRow, Heard, HostRow, Party, PoolRow, UplinkRow, VnicRow},
    sight::{Downward, Wants},
};

/// What keys do.
pub(super) const KEYS: &str =
    "\n[a] all  [s] servers  [u] uplinks  [v] vNICs  [p] pools  [q] quit\n";

/// The tables that are to be shown.
pub(super) fn page(now: &Now, shown: Shown) -> String {
    let tables = [
        (Shown::Pools, pools(&now.pools)),
        (Shown::Servers, hosts(&now.hosts)),
        (Shown::Uplinks, uplinks(&now.uplinks)),
        (Shown::Vnics, vnics(&now.vnics)),
    ];
    let wanted = tables.into_iter().filter(|(table, _)| shown == Shown::All || shown == *table);
    let texts = wanted.map(|(_, text)| text).filter(|text| !text.is_empty());
    let mut page = texts.collect::<Vec<_>>().join("\n");
    if matches!(shown, Shown::All | Shown::Uplinks) && !page.is_empty() {
        page += &notes(&now.notes);
    }
    if page.is_empty() { "nothing there: the house is empty\n".to_owned() } else { page }
}

fn pools(rows: &[PoolRow]) -> String {
    let mut table = Table::new(["POOL", "USABLE", "RESERVED", "BUDGET", "USED", "", "WANTED"]);
    let mut below = String::new();
    for row in rows {
        table.row([
            row.name.clone(),
            rate(row.usable.up_bps),
            rate(row.reserved.up_bps),
            rate(row.budget.up_bps),
            way("up", row.used.up_bps),
            way("down", row.used.down_bps),
            wants(Some(row.wanted)),
        ]);
        let all = [
            ("starved", "", &row.starved),
            ("surplus", "", &row.surplus),
            ("starved", " from outside", &row.starved_down),
            ("surplus", " from outside", &row.surplus_down),
        ];
        // What is reserved and not wanted matters where somebody lacks it.
        let is_told = |word: &str, way: &str| {
            way.is_empty() || word == "starved" || !row.starved_down.is_empty()
        };
        for (word, way, parties) in all.into_iter().filter(|(word, way, _)| is_told(word, way)) {
            let parties: Vec<String> = parties.iter().take(4).map(party).collect();
            if !parties.is_empty() {
                // Writing to a String cannot fail.
                let _ = writeln!(below, "  {word} in {}{way}: {}", row.name, parties.join("; "));
            }
        }
    }
    table.render() + &below
}

fn party(it: &Party) -> String {
    let Party { server, used_bps, reserved_bps, .. } = it;
    format!(
        "{server} uses {}, wants {}, reserves {}",
        rate(Some(*used_bps)),
        wants(Some(it.wants)),
        rate(Some(*reserved_bps))
    )
}

fn hosts(rows: &[HostRow]) -> String {
    let mut table = Table::new([
        "SERVER", "STATE", "HEARD", "SENDS", "RECEIVES", "WANTS", "RESERVED", "LIMIT", "LEASE",
        "PORT", "USED",
    ]);
    let mut below = String::new();
    for row in rows {
        let sum = |of: fn(&wireonce_sight::now::GrantRow) -> Option<u64>| {
            rate(row.grants.iter().filter_map(of).reduce(u64::saturating_add))
        };
        let kind = if row.kind == "gateway" { " (gateway)" } else { "" };
        table.row([
            format!("{}{kind}", row.name),
            row.text.word().to_owned(),
            heard(row.heard),
            rate(row.rate.up_bps),
            rate(row.rate.down_bps),
            wants(row.wants),
            sum(|grant| grant.reservation.up_bps),
            sum(|grant| grant.limit.up_bps),
            sum(|grant| grant.lease_bps),
            rate(row.port.up_bps),
            row.full_percent().map_or("-".to_owned(), |percent| format!("{percent} %")),
        ]);
        if let Some(why) = &row.why {
            let (name, why) = (&row.name, one_line(why));
            let _ = writeln!(below, "  {name} REFUSED its newest configuration: {why}");
        }
    }
    table.render() + &below
}

fn uplinks(rows: &[UplinkRow]) -> String {
    let mut table = Table::new([
        "UPLINK", "GATEWAY", "STATE", "HEARD", "CARRIES", "OUT", "IN", "FULL", "PROMISED",
        "LEASED", "VNICS", "DROPPED",
    ]);
    for row in rows {
        table.row([
            row.name.clone(),
            row.gateway.clone(),
            match row.causes.as_slice() {
                [] => row.state.clone(),
                causes => format!("{} ({})", row.state, causes.join(", ")),
            },
            heard(row.heard),
            rate(row.capacity.up_bps),
            rate(row.rate.up_bps),
            rate(row.rate.down_bps),
            row.full_percent().map_or("-".to_owned(), |percent| format!("{percent} %")),
            rate(row.promised.up_bps),
            rate(row.leased_bps),
            row.attached.to_string(),
            drops(&row.drops),
        ]);
    }
    table.render()
}

fn vnics(rows: &[VnicRow]) -> String {
    let mut table = Table::new([
        "VNIC", "SERVER", "HOME", "STATE", "HEARD", "SENDS", "RECEIVES", "WANTS", "SHARE", "LIMIT",
        "HELD", "WAITS", "DROPPED",
    ]);
    for row in rows {
        let home = match (&row.home_now, &row.home) {
            (Some(now), Some(home)) if now != home => format!("{now} (should be {home})"),
            (now, home) => now.as_ref().or(home.as_ref()).cloned().unwrap_or("-".to_owned()),
        };
        table.row([
            row.name.clone(),
            row.server.clone(),
            home,
            row.state.clone().unwrap_or_else(|| "-".to_owned()),
            heard(row.heard),
            rate(row.rate.up_bps),
            rate(row.rate.down_bps),
            wants(row.wants),
            rate(row.share_bps),
            limit(row),
            held(row),
            waits(row.backlog_bytes),
            drops(&row.drops),
        ]);
        if let Some(down) = row.down.filter(|down| !down.is_quiet()) {
            table.row(from_outside(row, &down));
        }
    }
    table.render()
}

/// The second row of a vNIC for which something waits outside.
fn from_outside(row: &VnicRow, down: &Downward) -> [String; 13] {
    let none = || "-".to_owned();
    let marked = match down.marked_frames {
        0 => none(),
        frames => format!("{frames} marked (ECN)"),
    };
    [
        "  from outside".to_owned(),
        none(),
        none(),
        none(),
        none(),
        none(),
        rate(Some(down.used_bps)),
        wants(Some(down.wants)),
        rate(Some(down.rate_bps)),
        limit_of(row.limit.down_bps, down.limit_packets_per_s),
        held_by(down.held_percent, down.short, down.packets_held),
        waits(down.queued_bytes),
        marked,
    ]
}

fn limit(row: &VnicRow) -> String {
    limit_of(row.limit.up_bps, row.limit_packets_per_s)
}

/// "800 Mb/s, 20000 packets/s"
fn limit_of(bps: Option<u64>, packets_per_s: Option<u32>) -> String {
    let packets = packets_per_s.map(|limit| format!("{limit} packets/s"));
    match (bps, packets) {
        (None, Some(packets)) => packets,
        (bps, None) => rate(bps),
        (bps, Some(packets)) => format!("{}, {packets}", rate(bps)),
    }
}

fn held(row: &VnicRow) -> String {
    if row.port_held {
        let percent = row.port_held_percent.map_or("yes".to_owned(), |it| format!("{it} %"));
        return format!("{percent} by port");
    }
    held_by(row.held_percent, row.held, row.packets_held)
}

/// "90 %", or "90 % by packets", when more bandwidth would not help.
fn held_by(percent: Option<u64>, is_short: bool, by_packets: bool) -> String {
    let held = match percent.filter(|percent| *percent > 0) {
        Some(percent) => format!("{percent} %"),
        None if is_short || by_packets => "yes".to_owned(),
        None => return "-".to_owned(),
    };
    if by_packets { format!("{held} by packets") } else { held }
}

fn waits(bytes: u64) -> String {
    if bytes == 0 { "-".to_owned() } else { scaled(bytes, "B") }
}

/// What is wrong, and who acts.
fn notes(notes: &[Note]) -> String {
    let line = |note: &Note| format!("  {} ({})\n", note.what, note.who.word());
    notes.iter().map(line).collect()
}

fn rate(bps: Option<u64>) -> String {
    bps.map_or("-".to_owned(), |bps| scaled(bps, "b/s"))
}

fn way(word: &str, bps: Option<u64>) -> String {
    bps.map_or("-".to_owned(), |bps| format!("{} {word}", scaled(bps, "b/s")))
}

/// "50.0 Mb/s or more": it is held back, and nobody can know how much.
fn wants(wants: Option<Wants>) -> String {
    match wants {
        None => "-".to_owned(),
        Some(Wants { bps, more: true }) => format!("> {}", scaled(bps, "b/s")),
        Some(Wants { bps, more: false }) => scaled(bps, "b/s"),
    }
}

/// What is old is marked, and never looks as if it were of now.
fn heard(heard: Heard) -> String {
    match heard {
        Heard { silent_ms: None, .. } => "never".to_owned(),
        Heard { silent_ms: Some(ms), old: false } => {
            format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
        }
        Heard { silent_ms: Some(ms), old: true } => format!("OLD {} s", ms / 1_000),
    }
}

/// The three reasons with the most frames.
fn drops(rows: &[DropRow]) -> String {
    let mut rows: Vec<&DropRow> = rows.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.frames));
    let shown: Vec<String> =
        rows.iter().take(3).map(|row| format!("{} {}", row.reason, row.frames)).collect();
    match rows.len() {
        0 => "-".to_owned(),
        1..=3 => shown.join(", "),
        more => format!("{} and {} more", shown.join(", "), more - 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wireonce_sight::look::Both;

    fn up(bps: u64) -> Both {
        Both { up_bps: Some(bps), down_bps: None }
    }

    #[test]
    fn the_starved_stand_beside_those_with_a_surplus() {
        let party = |server: &str, used, reserved, more| Party {
            server: server.to_owned(),
            used_bps: used,
            reserved_bps: reserved,
            wants: Wants { bps: used, more },
        };
        let row = PoolRow {
            name: "east".to_owned(),
            usable: up(1_980_000_000),
            starved: vec![party("server-b", 50_000_000, 0, true)],
            surplus: vec![party("server-a", 10_000_000, 600_000_000, false)],
            ..PoolRow::default()
        };
        assert_eq!(
            pools(&[row]),
            "POOL     USABLE  RESERVED  BUDGET  USED     WANTED\n\
             east  1.98 Gb/s         -       -     -  -   0 b/s\n  \
             starved in east: server-b uses 50.0 Mb/s, wants > 50.0 Mb/s, reserves 0 b/s\n  \
             surplus in east: server-a uses 10.0 Mb/s, wants 10.0 Mb/s, reserves 600 Mb/s\n"
        );
    }

    #[test]
    fn who_waits_for_what_comes_from_outside_has_a_second_row() {
        let down = Downward {
            wants: Wants { bps: 300_000_000, more: true },
            rate_bps: 300_000_000,
            short: true,
            held_percent: Some(90),
            queued_bytes: 200_000,
            marked_frames: 40,
            ..Downward::default()
        };
        let row = VnicRow { name: "vm-a".to_owned(), down: Some(down), ..VnicRow::default() };
        let table = vnics(std::slice::from_ref(&row));
        let second = table.lines().nth(2).unwrap();
        assert!(second.starts_with("  from outside"), "{table}");
        for part in ["> 300 Mb/s", "90 %", "200 kB", "40 marked (ECN)"] {
            assert!(second.contains(part), "{table}");
        }
        let quiet = VnicRow { down: Some(Downward::default()), ..row };
        assert_eq!(vnics(&[quiet]).lines().count(), 2);
    }

    #[test]
    fn notes_stand_below_the_uplinks_with_who_acts() {
        let what = "outside, east-1 and east-2 are apart on VLAN 100: look".to_owned();
        let note = Note { what, who: wireonce_sight::causes::Who::Network };
        let now = Now {
            uplinks: vec![UplinkRow::default()],
            vnics: vec![VnicRow::default()],
            notes: vec![note],
            ..Now::default()
        };
        let said = "are apart on VLAN 100: look (network)\n";
        assert!(page(&now, Shown::Uplinks).ends_with(said));
        assert!(!page(&now, Shown::Vnics).contains(said));
    }

    #[test]
    fn what_is_old_or_was_never_heard_is_marked() {
        assert_eq!(heard(Heard { silent_ms: None, old: false }), "never");
        assert_eq!(heard(Heard { silent_ms: Some(1_240), old: false }), "1.2 s");
        assert_eq!(heard(Heard { silent_ms: Some(45_900), old: true }), "OLD 45 s");
    }

    #[test]
    fn a_home_that_is_not_the_desired_one_is_told() {
        let row = VnicRow {
            name: "vm-a".to_owned(),
            home: Some("east-1".to_owned()),
            home_now: Some("east-2".to_owned()),
            ..VnicRow::default()
        };
        assert!(vnics(&[row]).contains("east-2 (should be east-1)"));
    }

    #[test]
    fn a_limit_in_packets_stands_beside_the_one_in_bits_and_says_when_it_holds_back() {
        let row = VnicRow { limit: up(800_000_000), held_percent: Some(90), ..VnicRow::default() };
        assert_eq!((limit(&row), held(&row)), ("800 Mb/s".to_owned(), "90 %".to_owned()));
        let row = VnicRow { limit_packets_per_s: Some(20_000), packets_held: true, ..row };
        assert_eq!(limit(&row), "800 Mb/s, 20000 packets/s");
        assert_eq!(held(&row), "90 % by packets");
        let by_port = VnicRow { port_held: true, port_held_percent: Some(80), ..row.clone() };
        assert_eq!(held(&by_port), "80 % by port");
        let row = VnicRow { limit: Both::default(), held_percent: None, ..row };
        assert_eq!((limit(&row), held(&row)), ("20000 packets/s".into(), "yes by packets".into()));
        assert_eq!(
            (limit(&VnicRow::default()), held(&VnicRow::default())),
            ("-".into(), "-".into())
        );
    }

    #[test]
    fn only_the_reasons_with_the_most_frames_are_shown() {
        let row = |frames, reason: &str| DropRow {
            frames,
            reason: reason.to_owned(),
            ..DropRow::default()
        };
        let rows = [row(1, "a"), row(9, "b"), row(3, "c"), row(2, "d")];
        assert_eq!(drops(&rows), "b 9, c 3, d 2 and 1 more");
        assert_eq!(drops(&[]), "-");
    }

    #[test]
    fn one_table_can_be_asked_for() {
        let now = Now {
            vnics: vec![VnicRow::default()],
            uplinks: vec![UplinkRow::default()],
            ..Now::default()
        };
        assert!(
            page(&now, Shown::All).contains("UPLINK") && page(&now, Shown::All).contains("VNIC")
        );
        assert!(!page(&now, Shown::Vnics).contains("GATEWAY"));
        assert!(page(&Now::default(), Shown::All).starts_with("nothing there"));
    }
}
