//! Rates as refusals and plans say them.

use wireonce_desired::Rate;
use wireonce_placement::Rates;

/// Both directions, as far as there is something: "400Mbit up and 100Mbit down".
pub(super) fn show(rates: Rates) -> String {
    let way = |bps: u64, word| match bps {
        u64::MAX => format!("any rate {word}"),
        _ => format!("{} {word}", rate(bps)),
    };
    match (rates.up_bps, rates.down_bps) {
        (0, 0) => "nothing".to_owned(),
        (up, 0) => way(up, "up"),
        (0, down) => way(down, "down"),
        (up, down) => format!("{} and {}", way(up, "up"), way(down, "down")),
    }
}

/// Only those directions in which `of` has something.
pub(super) fn show_as(rates: Rates, of: Rates) -> String {
    let way = |bps: u64, word| match bps {
        u64::MAX => format!("any rate {word}"),
        _ => format!("{} {word}", rate(bps)),
    };
    match (of.up_bps > 0, of.down_bps > 0) {
        (true, false) => way(rates.up_bps, "up"),
        (false, true) => way(rates.down_bps, "down"),
        _ => format!("{} and {}", way(rates.up_bps, "up"), way(rates.down_bps, "down")),
    }
}

/// In the largest unit that keeps whole Mbit/s; what is below one of a larger rate is left out.
pub(super) fn rate(bps: u64) -> Rate {
    Rate::from_bps(if bps >= 1_000_000 { bps / 1_000_000 * 1_000_000 } else { bps })
}

/// Some names, and how many more there are.
pub(super) fn names<'n>(all: impl IntoIterator<Item = &'n str>) -> String {
    const SHOWN: usize = 5;
    let all: Vec<String> = all.into_iter().map(|name| format!("{name:?}")).collect();
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_there_is_is_said() {
        let rates = Rates { up_bps: 400_000_000, down_bps: 0 };
        assert_eq!(show(rates), "400Mbit up");
        assert_eq!(show(Rates::both(1_500_000_007)), "1500Mbit up and 1500Mbit down");
        assert_eq!(show(Rates::default()), "nothing");
        assert_eq!(show_as(Rates::default(), rates), "0bit up");
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(names(["a", "b"]), "\"a\", \"b\"");
        assert!(names(["a"; 9]).ends_with("\"a\" and 4 more"));
    }
}
