//! The two ways in which BOSH writes a time.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// `2026-08-22 10:00:00 UTC`
pub(crate) fn spaced(now: OffsetDateTime) -> String {
    now.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC")).unwrap_or_default()
}

/// `2026-08-22T10:00:00Z`
pub(crate) fn rfc3339(now: OffsetDateTime) -> String {
    now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default()
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
}
