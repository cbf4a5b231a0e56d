//! EXT-X-PROGRAM-DATE-TIME values.

use quick_m3u8::date::DateTime;
use starling_proto::WallTime;
use time::{Date, Month};

/// An ISO 8601 date and time with zone, to the microsecond. Zones may come without colon (`+0000`), as ffmpeg writes
/// them.
pub(super) fn parse(value: &str) -> Option<WallTime> {
    let value = value.trim();
    if !value.is_ascii() {
        return None;
    }
    quick_m3u8::date::parse(value).or_else(|_| quick_m3u8::date::parse(&with_colon(value))).ok().and_then(wall_time)
}

fn wall_time(date: DateTime) -> Option<WallTime> {
    let day = Date::from_calendar_date(
        i32::try_from(date.date_fullyear).ok()?,
        Month::try_from(date.date_month).ok()?,
        date.date_mday,
    );
    let days = i64::from(day.ok()?.to_julian_day()) - JULIAN_DAY_1970;
    let zone = date.timezone_offset;
    let zone_minutes = i64::from(zone.time_hour) * 60 + i64::from(zone.time_minute) * sign(zone.time_hour);
    let minutes = days * 1440 + i64::from(date.time_hour) * 60 + i64::from(date.time_minute) - zone_minutes;
    if !(0.0..61.0).contains(&date.time_second) {
        return None;
    }
    Some(WallTime(minutes * 60_000_000 + (date.time_second * 1e6).round() as i64))
}

/// Julian day number of 1970-01-01.
const JULIAN_DAY_1970: i64 = 2_440_588;

fn sign(hours: i8) -> i64 {
    if hours < 0 { -1 } else { 1 }
}

/// `…+0100` as `…+01:00`.
fn with_colon(value: &str) -> String {
    let (front, minutes) = value.split_at(value.len().saturating_sub(2));
    format!("{front}:{minutes}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_in_every_dress() {
        let expected = Some(WallTime(1_795_356_000_250_000));
        for value in [
            "2026-11-22T14:00:00.250Z",
            "2026-11-22T14:00:00.250+0000",
            "2026-11-22T15:00:00.250+01:00",
            "2026-11-22T09:30:00.25-0430",
            "2026-11-22T09:30:00.25-04:30",
        ] {
            assert_eq!(parse(value), expected, "{value}");
        }
        assert_eq!(parse("1970-01-01T00:00:00.000001Z"), Some(WallTime(1)));
    }

    #[test]
    fn nonsense_is_no_date() {
        for value in
            ["", "é", "2026", "2026-11-22", "2026-13-01T00:00:00Z", "2026-11-31T00:00:00Z", "2026-11-22T14:00:00"]
        {
            assert_eq!(parse(value), None, "{value}");
        }
    }
}
