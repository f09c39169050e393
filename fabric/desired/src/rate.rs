//! Rates as people write them: `2Gbit`, `500Mbit`, `64kbit`. Powers of 1,000, a second.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

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
    pub const MAX: Self = Self(wireonce_shares::Rate::MAX.0);
    /// The least limit: below that not even a frame of full size gets through in time.
    pub const LIMIT_MIN: Self = Self(wireonce_config::schema::LIMIT_MIN.0);
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

    /// So many hundredths of it, each rounded down, as the daemons count them.
    #[must_use]
    pub fn percent(self, percent: u64) -> Self {
        Self((self.0 / 100).saturating_mul(percent))
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
        wireonce_shares::Rate(self.0).fmt(f)
    }
}

impl FromStr for Rate {
    type Err = RateError;

    /// As the daemons read it; what is wrong is said in more words.
    fn from_str(text: &str) -> Result<Self, RateError> {
        let refuse = |problem: &str, remedy| {
            let shown: String = text.chars().take(32).collect();
            Err(RateError { problem: format!("{shown:?} {problem}"), remedy })
        };
        let example = "write a number and its unit, such as \"2Gbit\", \"500Mbit\" or \"64kbit\"";
        match text.parse::<wireonce_shares::Rate>() {
            Ok(rate) => Ok(Self(rate.0)),
            Err(_) if text.starts_with('-') => {
                refuse("is negative", "write a rate of 0bit or more")
            }
            Err(wireonce_shares::RateError::Form) => refuse("is not a rate with its unit", example),
            Err(wireonce_shares::RateError::Fraction) => {
                refuse("is not a whole number of bits a second", example)
            }
            Err(wireonce_shares::RateError::TooLarge) => {
                refuse("is more than any port carries", "write at most \"100Tbit\"")
            }
        }
    }
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
        assert_eq!(bps("2.5Gbit"), 2_500_000_000);
        assert_eq!(bps("64kbit"), 64_000);
        assert_eq!(bps("0bit"), 0);
        assert_eq!(bps("100Tbit"), Rate::MAX.bps());
    }

    #[test]
    fn negative_absurd_and_unitless_rates_are_refused_with_what_would_be_right() {
        assert_eq!(error("-1Gbit"), "\"-1Gbit\" is negative; write a rate of 0bit or more");
        for text in ["5", "", "fast", "5Gibit", "1.2.3Gbit"] {
            assert!(error(text).contains("is not a rate with its unit; write"), "{}", error(text));
        }
        assert!(error("0.5bit").contains("not a whole number"));
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
