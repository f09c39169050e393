//! Rates as people write them: `2Gbit`, `500Mbit`, `64kbit`. Powers of 1,000, a second.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// The units, largest first, and how many bits each is.
const UNITS: [(&str, u64); 5] = [
    ("Tbit", 1_000_000_000_000),
    ("Gbit", 1_000_000_000),
    ("Mbit", 1_000_000),
    ("kbit", 1_000),
    ("bit", 1),
];

/// Whole bits a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Rate(u64);

/// Why a text is no rate: what is wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {remedy}")]
pub struct RateError {
    problem: String,
    remedy: &'static str,
}

impl Rate {
    /// The largest rate that makes sense: 100 Tbit/s.
    pub const MAX: Self = Self(100_000_000_000_000);
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// A rate of `bps` bits a second, cut to [`Rate::MAX`].
    #[must_use]
    pub fn from_bps(bps: u64) -> Self {
        Self(bps.min(Self::MAX.0))
    }

    /// Bits a second.
    #[must_use]
    pub fn bps(self) -> u64 {
        self.0
    }

    /// The sum, at most [`Rate::MAX`].
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self::from_bps(self.0.saturating_add(other.0))
    }

    /// The difference; nothing if `other` is more.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The difference, if there is one.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// `percent` hundredths of it, rounded down.
    #[must_use]
    pub fn percent(self, percent: u64) -> Self {
        Self(self.0 / 100 * percent + self.0 % 100 * percent / 100)
    }
}

impl std::iter::Sum for Rate {
    fn sum<I: Iterator<Item = Self>>(rates: I) -> Self {
        rates.fold(Self::ZERO, Self::saturating_add)
    }
}

impl fmt::Display for Rate {
    /// In the largest unit that keeps it whole, so that it reads back as it was.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, bits)| self.0 != 0 && self.0.is_multiple_of(*bits));
        let (unit, bits) = whole.unwrap_or(&("bit", 1));
        write!(f, "{}{unit}", self.0 / bits)
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let shown: String = text.chars().take(32).collect();
        let refuse = |problem: &str, remedy| {
            Err(RateError { problem: format!("{shown:?} {problem}"), remedy })
        };
        let example = "write a number and its unit, such as \"2Gbit\", \"500Mbit\" or \"64kbit\"";
        if text.starts_with('-') {
            return refuse("is negative", "write a rate of 0bit or more");
        }
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return refuse("is not a rate", example);
        }
        if unit.is_empty() {
            return refuse("has no unit", example);
        }
        let Some((_, bits)) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) else {
            return refuse("has no unit that is known", "write bit, kbit, Mbit, Gbit or Tbit");
        };
        let Some(bps) = scale(number, *bits) else {
            return refuse("is not a whole number of bits a second", example);
        };
        if bps > Self::MAX.0 {
            return refuse("is more than any port carries", "write at most \"100Tbit\"");
        }
        Ok(Self(bps))
    }
}

/// `number`, digits with at most one point, times `bits`; saturates, and is `None` if
/// it is malformed or not whole.
fn scale(number: &str, bits: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') || number.len() > 24 {
        return None;
    }
    let whole: u64 = whole.parse().unwrap_or(u64::MAX);
    let mut bps = whole.saturating_mul(bits);
    let mut unit = bits;
    for digit in fraction.bytes().map(|byte| u64::from(byte - b'0')) {
        if digit != 0 && !unit.is_multiple_of(10) {
            return None;
        }
        unit /= 10;
        bps = bps.saturating_add(digit * unit);
    }
    Some(bps)
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Rate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate in quotes such as \"2Gbit\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Rate {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("Bits a second with a unit: bit, kbit, Mbit, Gbit, Tbit"))
            .examples(["2Gbit"])
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Rate {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        text.parse::<Rate>().unwrap_err().to_string()
    }

    #[test]
    fn rates_are_read_as_people_write_them() {
        let bps = |text: &str| text.parse::<Rate>().unwrap().bps();
        assert_eq!(bps("2Gbit"), 2_000_000_000);
        assert_eq!(bps("2.5gbit"), 2_500_000_000);
        assert_eq!(bps("64kbit"), 64_000);
        assert_eq!(bps("0bit"), 0);
        assert_eq!(bps("100Tbit"), Rate::MAX.bps());
    }

    #[test]
    fn negative_absurd_and_unitless_rates_are_refused_with_what_would_be_right() {
        assert_eq!(error("-1Gbit"), "\"-1Gbit\" is negative; write a rate of 0bit or more");
        assert!(error("5").contains("has no unit"), "{}", error("5"));
        assert!(error("5Gibit").contains("write bit, kbit, Mbit, Gbit or Tbit"));
        assert!(error("").contains("is not a rate"));
        assert!(error("fast").contains("is not a rate"));
        assert!(error("0.5bit").contains("not a whole number"));
        assert!(error("1.2.3Gbit").contains("not a whole number"));
        assert!(error("101Tbit").contains("at most \"100Tbit\""));
        assert!(error("99999999999999999999Tbit").contains("at most \"100Tbit\""));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(bps in 0..=Rate::MAX.bps()) {
            let rate = Rate::from_bps(bps);
            prop_assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = text.parse::<Rate>();
        }
    }
}
