//! The two ways in which BOSH writes a time, and those in which it reads one.

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// `2026-08-22 10:00:00 UTC`
pub(crate) fn spaced(now: OffsetDateTime) -> String {
    now.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC")).unwrap_or_default()
}

/// `2026-08-22T10:00:00Z`
pub(crate) fn rfc3339(now: OffsetDateTime) -> String {
    now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default()
}

/// Seconds since 1970, written as such or in one of the two ways.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let spaced = || {
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
        PrimitiveDateTime::parse(text, format).ok().map(PrimitiveDateTime::assume_utc)
    };
    let written = || OffsetDateTime::parse(text, &Rfc3339).ok().or_else(spaced).map(OffsetDateTime::unix_timestamp);
    text.parse().ok().or_else(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_bosh_writes_them() {
        let now = OffsetDateTime::from_unix_timestamp_nanos(1_787_392_800_123_456_789).unwrap();

        assert_eq!(spaced(now), "2026-08-22 10:00:00 UTC");
        assert_eq!(rfc3339(now), "2026-08-22T10:00:00Z");
    }

    #[test]
    fn times_are_read_in_each_way() {
        for text in ["1787392800", "2026-08-22 10:00:00 UTC", "2026-08-22T10:00:00Z", "2026-08-22T12:00:00+02:00"] {
            assert_eq!(parse(text), Some(1_787_392_800), "{text}");
        }
        assert_eq!(parse("yesterday"), None);
    }
}
