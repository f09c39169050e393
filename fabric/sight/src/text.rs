//! Figures as sentences say them.

use wireonce_desired::Rate;
use wireonce_ledger::Amount;

/// A rate as commands take it, "1500Mbit": the first three digits, and whole kbit/s.
#[must_use]
pub fn rate(bps: u64) -> String {
    let digits = bps.checked_ilog10().unwrap_or(0);
    let step = 10_u64.pow(digits.saturating_sub(2));
    let step = if bps >= 1_000 { step.max(1_000) } else { 1 };
    Rate::from_bps(bps / step * step).to_string()
}

/// A rate rounded up to whole Mbit/s, for a command that has to be enough.
#[must_use]
pub fn enough(bps: u64) -> String {
    Rate::from_bps(bps.div_ceil(1_000_000).saturating_mul(1_000_000)).to_string()
}

/// So many frames.
#[must_use]
pub fn frames(amount: Amount) -> String {
    match amount.frames {
        1 => "1 frame".to_owned(),
        n => format!("{n} frames"),
    }
}

/// A time in seconds and tenths.
#[must_use]
pub fn seconds(us: u64) -> String {
    format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_written_as_commands_take_them() {
        assert_eq!(rate(1_509_400_000), "1500Mbit");
        assert_eq!(rate(4_950_123), "4950kbit");
        assert_eq!(rate(990_000_000), "990Mbit");
        assert_eq!(rate(64_001), "64kbit");
        assert_eq!(rate(0), "0bit");
        assert_eq!(enough(1_500_400_000), "1501Mbit");
        assert_eq!(enough(2_000_000_000), "2Gbit");
    }

    #[test]
    fn amounts_and_times_are_words() {
        assert_eq!(frames(Amount::frame(60, 1)), "1 frame");
        assert_eq!(frames(Amount::ZERO), "0 frames");
        assert_eq!(seconds(2_150_000), "2.1 s");
    }
}
