//! A status as tables, and the sentence that says whether the ledger closes.

use super::{outside, shares};
use crate::output::{Table, duration, scaled};
use std::{
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};
use wireonce_ledger::{
    Amount, DropReason, Status,
    status::{
        ConfigurationStatus, ControllerStatus, LedgerRow, LinkState, LinkStatus, UplinkStatus,
        VnicState, VnicStatus,
    },
};

/// The whole page. With an earlier sample there are rates as well as totals.
pub(super) fn render(now: &Status, before: Option<&Status>) -> String {
    let clock = Clock::between(now, before);
    let mut page = header(now);
    section(&mut page, &vnics(now, before, clock));
    section(&mut page, &homes(now));
    section(&mut page, &links(now, before, clock));
    section(&mut page, &uplinks(now, before, clock));
    section(&mut page, &outside::next_hops(now));
    section(&mut page, &outside::members(now));
    section(&mut page, &outside::pairs(now));
    section(&mut page, &shares::servers(now, before, clock));
    section(&mut page, &shares::vnics(now));
    section(&mut page, &shares::port(now));
    section(&mut page, &shares::down(now, before, clock));
    section(&mut page, &ledger(&now.ledger));
    section(&mut page, &drops(&now.ledger));
    section(&mut page, &counters(now));
    page.push('\n');
    page.push_str(&verdict(&now.ledger));
    page
}

/// The time between two samples of the same run of the daemon.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    elapsed_us: u64,
}

impl Clock {
    /// `None` without an earlier sample, or when the daemon has been restarted since.
    fn between(now: &Status, before: Option<&Status>) -> Option<Self> {
        let elapsed_us = now.sampled_at_us.checked_sub(before?.sampled_at_us)?;
        (elapsed_us > 0).then_some(Self { elapsed_us })
    }

    /// How often per second a counter grew.
    pub(super) fn rate(self, now: u64, before: u64) -> u64 {
        let grown = u128::from(now.saturating_sub(before));
        u64::try_from(grown * 1_000_000 / u128::from(self.elapsed_us)).unwrap_or(u64::MAX)
    }
}

fn header(now: &Status) -> String {
    let Status { role, host, version, encryption, .. } = now;
    let warning =
        if encryption == "off" { " (ANYONE ON THE FABRIC CAN READ AND FORGE FRAMES)" } else { "" };
    let up = duration(now.uptime_s);
    let first =
        format!("{role} {host}, wireonce {version}, up {up}, encryption {encryption}{warning}\n");
    first + &configuration(&now.configuration, wall_clock_s())
}

/// Which configuration it is, what it changed, and what became of the newest one.
fn configuration(configuration: &ConfigurationStatus, now_s: u64) -> String {
    let ConfigurationStatus { origin, number, taken_at_s, changed, troubles, .. } = configuration;
    let mut text = String::new();
    if *number == 0 {
        return text;
    }
    let ago = |at_s: u64| duration(now_s.saturating_sub(at_s));
    let taken = ago(*taken_at_s);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "configuration {origin}, the {number}. since the start, {taken} ago");
    for line in changed {
        let _ = writeln!(text, "  changed  {line}");
    }
    for line in troubles {
        let _ = writeln!(text, "  FAILED   {line}");
    }
    if let Some(controller) = &configuration.controller {
        text.push_str(&self::controller(controller, now_s));
    }
    if let Some(reason) = &configuration.refused {
        let when = ago(configuration.refused_at_s.unwrap_or(now_s));
        let _ = writeln!(text, "THE NEWEST CONFIGURATION IS REFUSED ({when} ago): {reason}");
    }
    text
}

/// Where the configuration is from, and since when nobody there answers.
fn controller(controller: &ControllerStatus, now_s: u64) -> String {
    let ControllerStatus { address, tag, silent_since_s, error, certificate_until_s } = controller;
    let served = match tag {
        Some(tag) => format!("text {}", tag.chars().take(12).collect::<String>()),
        None => "no text yet".to_owned(),
    };
    let certificate = match certificate_until_s.checked_sub(now_s) {
        Some(left) => format!("certificate for {}", duration(left)),
        None => "CERTIFICATE EXPIRED".to_owned(),
    };
    match silent_since_s {
        None => format!("controller {address} answers; {served}, {certificate}\n"),
        Some(since) => {
            let silent = duration(now_s.saturating_sub(*since));
            let goes_on = if tag.is_some() { " goes on" } else { ", nothing is served" };
            let error = error.as_deref().unwrap_or("it does not answer");
            format!(
                "CONTROLLER {address} SILENT for {silent}; {served}{goes_on}, {certificate}: {error}\n"
            )
        }
    }
}

fn wall_clock_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn section(page: &mut String, text: &str) {
    if !text.is_empty() {
        page.push('\n');
        page.push_str(text);
    }
}

/// A rate if there is a clock, else the total.
fn traffic(now: Amount, before: Option<Amount>, clock: Option<Clock>) -> [String; 2] {
    match (clock, before) {
        (Some(clock), Some(before)) => [
            scaled(clock.rate(now.bytes, before.bytes).saturating_mul(8), "b/s"),
            scaled(clock.rate(now.segments, before.segments), "pps"),
        ],
        _ => [scaled(now.bytes, "B"), scaled(now.segments, "packets")],
    }
}

fn vnics(now: &Status, before: Option<&Status>, clock: Option<Clock>) -> String {
    let mut table = Table::new([
        "VNIC",
        "ID",
        "NETWORK",
        "MAC",
        "STATE",
        "QUEUES",
        "FROM GUEST",
        "",
        "TO GUEST",
        "",
        "FEATURES",
    ]);
    for vnic in &now.vnics {
        let old = before.and_then(|b| b.vnics.iter().find(|old| old.id == vnic.id));
        let [tx, tx_packets] = traffic(vnic.tx, old.map(|old| old.tx), clock);
        let [rx, rx_packets] = traffic(vnic.rx, old.map(|old| old.rx), clock);
        let VnicStatus { id, name, network, mac, state, features, queue_pairs, .. } = vnic;
        let state = match state {
            VnicState::Down => "down",
            VnicState::Connected => "connected",
            VnicState::Running => "running",
        };
        table.row([
            name.clone(),
            id.to_string(),
            network.clone(),
            mac.clone(),
            state.to_owned(),
            queue_pairs.to_string(),
            tx,
            tx_packets,
            rx,
            rx_packets,
            features.join(" "),
        ]);
    }
    table.render()
}

/// Which uplink each vNIC uses, and how it came there.
fn homes(now: &Status) -> String {
    let mut table = Table::new(["VNIC", "HOME", "DESIRED", "EPOCH", "WHY", "SINCE", "SWAPS"]);
    for (vnic, home) in now.vnics.iter().filter_map(|vnic| Some((vnic, vnic.home.as_ref()?))) {
        let here = home.now.clone().unwrap_or_else(|| "NOWHERE".to_owned());
        let to = match (&home.going, &home.held) {
            (Some(to), _) => format!(" (to {to})"),
            (None, Some(held)) => {
                let wait = duration(held.for_us.div_ceil(1_000_000));
                format!(" (to {} in {wait}: {})", held.to, held.why)
            }
            (None, None) => String::new(),
        };
        table.row([
            vnic.name.clone(),
            here + &to,
            home.desired.clone(),
            home.epoch.to_string(),
            home.why.clone(),
            home.moved_ago_us.map_or(String::new(), |us| duration(us / 1_000_000)),
            home.swaps.to_string(),
        ]);
    }
    table.render()
}

fn links(now: &Status, before: Option<&Status>, clock: Option<Clock>) -> String {
    let mut table = Table::new([
        "LINK",
        "ADDRESS",
        "STATE",
        "EPOCH",
        "RTT",
        "DATAGRAM",
        "SENT",
        "",
        "RECEIVED",
        "",
        "LOST",
        "REORDERED",
        "LATE",
        "TWICE",
        "FORGED",
        "SOCKET DROPS",
    ]);
    for link in &now.links {
        let old = before.and_then(|b| b.links.iter().find(|old| old.peer == link.peer));
        let amount = |bytes, segments| Amount { frames: 0, segments, bytes };
        let sent = |link: &LinkStatus| amount(link.sent_bytes, link.sent_datagrams);
        let received = |link: &LinkStatus| amount(link.received_bytes, link.received_datagrams);
        let [tx, tx_packets] = traffic(sent(link), old.map(sent), clock);
        let [rx, rx_packets] = traffic(received(link), old.map(received), clock);
        let state = match link.state {
            LinkState::Down => "down",
            LinkState::Idle => "idle",
            LinkState::Connecting => "connecting",
            LinkState::Up => "up",
        };
        table.row([
            link.peer.clone(),
            link.address.clone(),
            link.gray
                .as_ref()
                .map_or(state.to_owned(), |gray| format!("{state}: {}", gray.trouble.join(", "))),
            link.epoch.to_string(),
            link.rtt_us.map_or("-".to_owned(), |rtt_us| format!("{rtt_us} us")),
            format!("{} B", link.datagram_len),
            tx,
            tx_packets,
            rx,
            rx_packets,
            link.lost.to_string(),
            link.reordered.to_string(),
            link.late.to_string(),
            link.duplicate.to_string(),
            link.auth_failed.to_string(),
            link.socket_drops.to_string(),
        ]);
    }
    table.render()
}

fn uplinks(now: &Status, before: Option<&Status>, clock: Option<Clock>) -> String {
    let mut table = Table::new([
        "UPLINK",
        "ID",
        "DRIVER",
        "INTERFACE",
        "CARRIER",
        "DESIGNATED",
        "FROM OUTSIDE",
        "",
        "TO OUTSIDE",
        "",
        "KERNEL DROPS",
        "HEALTH",
        "VNICS",
    ]);
    let yes = |flag| if flag { "yes" } else { "no" }.to_owned();
    for uplink in &now.uplinks {
        let old = before.and_then(|b| b.uplinks.iter().find(|old| old.id == uplink.id));
        let [inward, inward_packets] = traffic(uplink.inward, old.map(|old| old.inward), clock);
        let [outward, outward_packets] = traffic(uplink.outward, old.map(|old| old.outward), clock);
        let UplinkStatus { id, name, driver, interface, .. } = uplink;
        table.row([
            name.clone(),
            id.to_string(),
            driver.clone(),
            interface.clone(),
            yes(uplink.carrier),
            yes(uplink.designated),
            inward,
            inward_packets,
            outward,
            outward_packets,
            uplink.kernel_drops.to_string(),
            health(uplink),
            uplink.attached.to_string(),
        ]);
    }
    table.render()
}

/// How an uplink is, and why, if it is not alive.
fn health(uplink: &UplinkStatus) -> String {
    if uplink.causes.is_empty() {
        return uplink.health.clone();
    }
    format!("{}: {}", uplink.health, uplink.causes.join(", "))
}

/// The books in frames, exact, so that anyone can add them up.
fn ledger(rows: &[LedgerRow]) -> String {
    let mut table =
        Table::new(["LEDGER", "STAGE", "IN", "+ COPIES", "= OUT", "+ DROPPED", "+ OPEN"]);
    for row in rows {
        table.row([
            row.name.clone(),
            row.stage.name().to_owned(),
            row.input.frames.to_string(),
            row.copies.frames.to_string(),
            row.output.frames.to_string(),
            dropped(row).frames.to_string(),
            row.open_frames.to_string(),
        ]);
    }
    table.render()
}

/// One line for each reason that has a count.
fn drops(rows: &[LedgerRow]) -> String {
    let mut table = Table::new(["DROPPED", "STAGE", "FRAMES", "REASON", "MEANING"]);
    for row in rows {
        for (name, amount) in &row.drops {
            let reason = DropReason::ALL.iter().find(|reason| reason.name() == name);
            table.row([
                row.name.clone(),
                row.stage.name().to_owned(),
                amount.frames.to_string(),
                name.clone(),
                reason.map_or("", |reason| reason.explanation()).to_owned(),
            ]);
        }
    }
    table.render()
}

fn counters(now: &Status) -> String {
    let mut table = Table::new(["COUNTER", "VALUE"]);
    for (name, value) in &now.counters {
        table.row([name.clone(), value.to_string()]);
    }
    table.render()
}

/// Whether `in + copies = out + drops` at every stage, and where not.
fn verdict(rows: &[LedgerRow]) -> String {
    const NAMED: usize = 8;
    if rows.is_empty() {
        return "ledger: empty, nothing has been counted\n".to_owned();
    }
    let open: Vec<&LedgerRow> = rows.iter().filter(|row| row.open_frames != 0).collect();
    if open.is_empty() {
        let stages = rows.len();
        return format!("ledger: closed, in + copies = out + drops in all {stages} rows\n");
    }
    let mut text = String::from("ledger: open, ");
    for (at, row) in open.iter().take(NAMED).enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{} {} {:+}", row.name, row.stage.name(), row.open_frames);
    }
    if let Some(more @ 1..) = open.len().checked_sub(NAMED) {
        let _ = write!(text, " and {more} more rows");
    }
    text.push_str(" frames: in flight now, or a hole in the books if it stays without traffic\n");
    text
}

fn dropped(row: &LedgerRow) -> Amount {
    let mut total = Amount::ZERO;
    for amount in row.drops.values() {
        total += *amount;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use wireonce_ledger::{Account, Stage};

    fn amount(frames: u64, segments: u64, bytes: u64) -> Amount {
        Amount { frames, segments, bytes }
    }

    #[test]
    fn the_page_says_which_configuration_is_served_and_why_the_newest_is_not() {
        let mut now = ConfigurationStatus {
            origin: "a.toml".to_owned(),
            number: 3,
            taken_at_s: 1_000,
            changed: vec!["vnic \"vm-a\": home".to_owned()],
            ..ConfigurationStatus::default()
        };
        assert_eq!(
            configuration(&now, 1_090),
            "configuration a.toml, the 3. since the start, 1 min 30 s ago\n  \
             changed  vnic \"vm-a\": home\n"
        );
        now.refused = Some("a.toml:3: nonsense".to_owned());
        now.refused_at_s = Some(1_080);
        assert!(
            configuration(&now, 1_090)
                .ends_with("THE NEWEST CONFIGURATION IS REFUSED (10 s ago): a.toml:3: nonsense\n")
        );
    }

    #[test]
    fn the_page_says_where_the_configuration_is_from_and_since_when_nobody_answers() {
        let mut status = ControllerStatus {
            address: "10.0.0.5:7443".to_owned(),
            tag: Some("0123456789abcdef".to_owned()),
            certificate_until_s: 1_000 + 86_400 * 3,
            ..ControllerStatus::default()
        };
        assert_eq!(
            controller(&status, 1_000),
            "controller 10.0.0.5:7443 answers; text 0123456789ab, certificate for 3 d 0 h\n"
        );
        status.silent_since_s = Some(940);
        status.error = Some("refused".to_owned());
        let said = controller(&status, 1_000);
        assert!(said.starts_with("CONTROLLER 10.0.0.5:7443 SILENT for 1 min 0 s; "), "{said}");
        assert!(said.contains("text 0123456789ab goes on") && said.ends_with(": refused\n"));
        status.tag = None;
        assert!(controller(&status, u64::MAX).contains("no text yet, nothing is served, CERT"));
    }

    fn sample(at_us: u64, tx: Amount) -> Status {
        let vnic = VnicStatus {
            id: 1001,
            name: "vm-a".to_owned(),
            network: "blue".to_owned(),
            mac: "52:54:00:00:00:01".to_owned(),
            state: VnicState::Running,
            features: vec!["csum".to_owned(), "mrg-rxbuf".to_owned()],
            queue_pairs: 2,
            memory_sealed: true,
            tx,
            rx: Amount::ZERO,
            share: None,
            home: None,
        };
        Status {
            role: "backend".to_owned(),
            host: "server-a".to_owned(),
            version: "0.1.0".to_owned(),
            uptime_s: 7260,
            sampled_at_us: at_us,
            encryption: "aes-256-gcm".to_owned(),
            vnics: vec![vnic],
            ..Status::default()
        }
    }

    fn row(name: &str, input: u64, output: u64, dropped: u64) -> LedgerRow {
        let mut account = Account::default();
        account.input += amount(input, input, 100 * input);
        account.output += amount(output, output, 100 * output);
        account.drop(DropReason::SourceMac, amount(dropped, dropped, 100 * dropped));
        LedgerRow::new(name, 1, Stage::GuestTx, &account)
    }

    #[test]
    fn totals_without_an_earlier_sample() {
        let page = render(&sample(9, amount(10, 45_000, 64_000_000)), None);
        assert_eq!(
            page,
            "backend server-a, wireonce 0.1.0, up 2 h 1 min, encryption aes-256-gcm\n\
             \n\
             VNIC    ID  NETWORK  MAC                STATE    QUEUES  FROM GUEST                 TO GUEST             FEATURES\n\
             vm-a  1001  blue     52:54:00:00:00:01  running       2     64.0 MB  45.0 kpackets       0 B  0 packets  csum mrg-rxbuf\n\
             \n\
             ledger: empty, nothing has been counted\n"
        );
    }

    #[test]
    fn rates_are_the_growth_over_the_time_between_the_samples() {
        let before = sample(1_000_000, amount(10, 1_000, 1_000_000));
        // Half a second later.
        let now = sample(1_500_000, amount(20, 51_000, 63_500_000));
        let page = render(&now, Some(&before));
        assert!(page.contains("1.00 Gb/s  100 kpps"), "{page}");
    }

    #[test]
    fn a_restarted_daemon_has_no_rates() {
        let before = sample(2_000_000, amount(1, 1, 100));
        let page = render(&sample(1_000_000, amount(1, 1, 100)), Some(&before));
        assert!(page.contains("100 B  1 packets"), "{page}");
    }

    #[test]
    fn a_closed_ledger_says_so_and_drops_are_explained() {
        let mut status = sample(1, Amount::ZERO);
        status.ledger = vec![row("vm-a", 10, 7, 3), row("vm-b", 5, 5, 0)];
        let page = render(&status, None);
        assert!(
            page.ends_with("ledger: closed, in + copies = out + drops in all 2 rows\n"),
            "{page}"
        );
        let explained = "vm-a     guest-tx       3  source-mac  The source MAC was not the vNIC's.";
        assert!(page.contains(explained), "{page}");
    }

    #[test]
    fn an_open_ledger_names_where_it_is_open() {
        let mut status = sample(1, Amount::ZERO);
        status.ledger = vec![row("vm-a", 10, 7, 1), row("vm-b", 5, 6, 0), row("vm-c", 1, 1, 0)];
        let page = render(&status, None);
        assert!(
            page.ends_with(
                "ledger: open, vm-a guest-tx +2, vm-b guest-tx -1 frames: in flight now, or a \
                 hole in the books if it stays without traffic\n"
            ),
            "{page}"
        );
    }

    #[test]
    fn encryption_off_is_loud() {
        let status = Status { encryption: "off".to_owned(), ..sample(1, Amount::ZERO) };
        let page = render(&status, None);
        assert!(page.contains("encryption off (ANYONE ON THE FABRIC CAN READ"), "{page}");
    }
}
