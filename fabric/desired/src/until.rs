//! A moment of the wall clock, in UTC: `2026-03-01T18:00:00Z`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Seconds since 1970, of the wall clock, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// So many seconds later.
    #[must_use]
    pub fn after(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

/// The last moment that can be written: the end of the year 9999.
const LAST: u64 = 253_402_300_799;

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0.min(LAST)).unwrap_or(0);
        let moment = OffsetDateTime::from_unix_timestamp(seconds)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
            .format(&Rfc3339);
        f.write_str(&moment.unwrap_or_default())
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = OffsetDateTime::parse(text, &Rfc3339).map(OffsetDateTime::unix_timestamp);
        seconds.ok().and_then(|seconds| u64::try_from(seconds).ok()).map(Self).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            format!("{shown:?} is not a time; write one such as \"2026-03-01T18:00:00Z\"")
        })
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Moment {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("A time as in RFC 3339"))
            .examples(["2026-03-01T18:00:00Z"])
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Moment {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_back_and_nonsense_is_refused() {
        let moment = Moment(1_772_388_000);
        assert_eq!(moment.to_string(), "2026-03-01T18:00:00Z");
        assert_eq!(moment.to_string().parse(), Ok(moment));
        assert_eq!("2026-03-01T19:00:00+01:00".parse(), Ok(moment));
        assert!("tomorrow".parse::<Moment>().unwrap_err().contains("write one such as"));
        assert!("1960-01-01T00:00:00Z".parse::<Moment>().is_err());
    }
}
