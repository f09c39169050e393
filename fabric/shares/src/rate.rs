//! Rates as people write them: `1Gbit`, `2.5Gbit`, `64kbit`. Powers of 1,000, a second.

use std::{fmt, str::FromStr};

/// Bits a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Rate(pub u64);

/// The units, largest first, with their bits a second.
const UNITS: &[(&str, u64)] = &[
    ("Tbit", 1_000_000_000_000),
    ("Gbit", 1_000_000_000),
    ("Mbit", 1_000_000),
    ("kbit", 1_000),
    ("bit", 1),
];

/// Most digits of a number that is looked at.
const DIGITS_MAX: usize = 15;

impl Rate {
    /// More than any port has.
    pub const MAX: Self = Self(100_000_000_000_000);
}

/// Text that is no rate, with what would be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Not a number and a unit.
    #[error("not a rate; write a number and bit, kbit, Mbit, Gbit or Tbit, such as \"500Mbit\"")]
    Form,
    /// Parts of a bit.
    #[error("not whole bits a second; write fewer digits behind the point, or a smaller unit")]
    Fraction,
    /// Too much.
    #[error("more than {max}; write a smaller rate", max = Rate::MAX)]
    TooLarge,
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let split = text.find(|c: char| c.is_ascii_alphabetic()).ok_or(RateError::Form)?;
        let (number, unit) = text.split_at(split);
        let number = number.strip_suffix(' ').unwrap_or(number);
        let found = UNITS.iter().find(|(name, _)| *name == unit);
        let (_, unit_bps) = found.ok_or(RateError::Form)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let whole = u128::from(digits(whole)?) * u128::from(*unit_bps);
        // The fraction's digits count tenths, hundredths and so on of the unit.
        let places = u32::try_from(fraction.len()).map_err(|_| RateError::Form)?;
        let parts = u128::from(digits(fraction)?) * u128::from(*unit_bps);
        let scale = 10_u128.checked_pow(places).ok_or(RateError::Form)?;
        if parts % scale != 0 {
            return Err(RateError::Fraction);
        }
        let bps = u64::try_from(whole + parts / scale).map_err(|_| RateError::TooLarge)?;
        if bps > Self::MAX.0 { Err(RateError::TooLarge) } else { Ok(Self(bps)) }
    }
}

/// One digit at least, and nothing else.
fn digits(text: &str) -> Result<u64, RateError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(RateError::Form);
    }
    if text.len() > DIGITS_MAX {
        return Err(RateError::TooLarge);
    }
    text.parse().map_err(|_| RateError::TooLarge)
}

impl fmt::Display for Rate {
    /// In the largest unit that needs no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, bps): &&(&str, u64)| self.0 != 0 && self.0.is_multiple_of(*bps);
        let (unit, bps) = UNITS.iter().find(whole).copied().unwrap_or(("bit", 1));
        write!(f, "{}{unit}", self.0 / bps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_are_read_in_powers_of_a_thousand() {
        let read = |text: &str| text.parse::<Rate>().map(|rate| rate.0);
        assert_eq!(read("64kbit"), Ok(64_000));
        assert_eq!(read("500Mbit"), Ok(500_000_000));
        assert_eq!(read("2.5Gbit"), Ok(2_500_000_000));
        assert_eq!(read("1 Gbit"), Ok(1_000_000_000));
        assert_eq!(read("0bit"), Ok(0));
        assert_eq!(read("100Tbit"), Ok(Rate::MAX.0));
    }

    #[test]
    fn what_is_no_rate_is_refused_with_its_reason() {
        let read = |text: &str| text.parse::<Rate>();
        for text in
            ["", "1", "1G", "1gbit", "Gbit", "1.Gbit", ".5Gbit", "-1Mbit", "1 000kbit", "1Mbit/s"]
        {
            assert_eq!(read(text), Err(RateError::Form), "{text}");
        }
        for text in ["1.5bit", "1.0001kbit"] {
            assert_eq!(read(text), Err(RateError::Fraction), "{text}");
        }
        for text in ["101Tbit", "9999999999999999bit", "999999999999999Tbit"] {
            assert_eq!(read(text), Err(RateError::TooLarge), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(bps in 0..=Rate::MAX.0) {
            prop_assert_eq!(Rate(bps).to_string().parse(), Ok(Rate(bps)));
        }

        #[test]
        fn no_text_panics(text in "[0-9. a-zA-Z]{0,60}|\\PC{0,20}") {
            let _ = text.parse::<Rate>();
        }
    }
}
