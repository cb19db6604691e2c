//! Dates and times of the Gregorian calendar in UTC, and their text (RFC 3339).
//!
//! Day counting after H. Hinnant, "chrono-compatible low-level date algorithms" (years start in March,
//! eras of 400 years). Leap seconds count as the second that follows.

use std::fmt;

/// Nanoseconds in a second.
pub const SECOND_NS: i64 = 1_000_000_000;
const DAY_S: i64 = 86_400;

/// Days since 1970-01-01 of a date of the Gregorian calendar; `month` 1 to 12, `day` 1 to 31.
pub fn days_from_date(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The date of a day counted from 1970-01-01: year, month (1 to 12), day (1 to 31).
pub fn date_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = (if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 }) as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days of a month.
pub fn month_days(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A moment in UTC, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    /// Year; may be negative.
    pub year: i64,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59.
    pub second: u32,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

impl Utc {
    /// From nanoseconds since the Unix epoch.
    pub fn from_ns(ns: i64) -> Utc {
        let seconds = ns.div_euclid(SECOND_NS);
        let (year, month, day) = date_from_days(seconds.div_euclid(DAY_S));
        let of_day = seconds.rem_euclid(DAY_S) as u32;
        Utc {
            year,
            month,
            day,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            nanos: ns.rem_euclid(SECOND_NS) as u32,
        }
    }

    /// Nanoseconds since the Unix epoch, or `None` outside of 1677 to 2262, which 64 bits cannot hold,
    /// or where a part is out of its range (a leap second, 60, is allowed).
    pub fn to_ns(self) -> Option<i64> {
        let in_range = (1..=12).contains(&self.month)
            && (1..=month_days(self.year, self.month)).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second <= 60
            && self.nanos < 1_000_000_000;
        if !in_range {
            return None;
        }
        let of_day = i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        let seconds = days_from_date(self.year, self.month, self.day) * DAY_S + of_day;
        i64::try_from(i128::from(seconds) * i128::from(SECOND_NS) + i128::from(self.nanos)).ok()
    }
}

impl fmt::Display for Utc {
    /// `2026-11-23T14:17:02.123456789Z`; the fraction has 0, 3, 6 or 9 digits unless a precision is asked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Utc { year, month, day, hour, minute, second, nanos } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        let digits = match f.precision() {
            Some(digits) => digits.min(9),
            None if *nanos == 0 => 0,
            None if nanos % 1_000_000 == 0 => 3,
            None if nanos % 1000 == 0 => 6,
            None => 9,
        };
        if digits > 0 {
            write!(f, ".{:0digits$}", nanos / 10_u32.pow(9 - digits as u32))?;
        }
        f.write_str("Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_dates() {
        assert_eq!(days_from_date(1970, 1, 1), 0);
        assert_eq!(days_from_date(2000, 3, 1), 11_017);
        assert_eq!(Utc::from_ns(1_000_000_000 * SECOND_NS).to_string(), "2001-09-09T01:46:40Z");
        assert_eq!(Utc::from_ns(-1).to_string(), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(format!("{:.6}", Utc::from_ns(1_700_000_000_123_456_789)), "2023-11-14T22:13:20.123456Z");
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        let day = |year, month, day| Utc { year, month, day, hour: 0, minute: 0, second: 0, nanos: 0 }.to_ns();
        assert!(day(2024, 2, 29).is_some());
        assert!(day(2023, 2, 29).is_none());
        assert!(day(2023, 13, 1).is_none());
        assert!(day(9999, 1, 1).is_none());
    }

    proptest! {
        #[test]
        fn there_and_back(ns in any::<i64>()) {
            prop_assert_eq!(Utc::from_ns(ns).to_ns(), Some(ns));
        }
    }
}
