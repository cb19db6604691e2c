//! Moments as people type them: how long ago, or a date and time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netpoll::sink::record::civil::Utc;

pub(super) const EXPECTED: &str = "expected how long ago (`90s`, `15m`, `2h`, `7d`) or a time in UTC (`2026-11-23`, `2026-11-23T14:05`, \
     `2026-11-23T14:05:09.5Z`) or with an offset (`...+01:00`)";

/// Nanoseconds since the Unix epoch.
pub(super) fn parse(text: &str) -> Result<u64, &'static str> {
    ago(text).or_else(|| date(text)).ok_or(EXPECTED)
}

/// `90s`, `15m`, `2h`, `7d`: not nothing, and at most ten years.
pub(super) fn span(text: &str) -> Result<Duration, &'static str> {
    let span = nanos(text).map(Duration::from_nanos);
    let span = span.filter(|span| (1..=315_360_000).contains(&span.as_secs()));
    span.ok_or("expected a time like `90s`, `15m`, `2h` or `7d`")
}

fn nanos(text: &str) -> Option<u64> {
    let unit_s = match text.bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86_400,
        _ => return None,
    };
    number(&text[..text.len() - 1])?.checked_mul(unit_s * 1_000_000_000)
}

fn ago(text: &str) -> Option<u64> {
    let ago_ns = nanos(text)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(u64::try_from(now.as_nanos()).ok()?.saturating_sub(ago_ns))
}

/// `YYYY-MM-DD[T| HH:MM[:SS[.fraction]][Z|+HH:MM|-HH:MM]]`, as RFC 3339 has it, with what may be left out.
fn date(text: &str) -> Option<u64> {
    let (day, time) = match text.split_once(['T', ' ']) {
        Some((day, time)) => (day, time),
        None => (text, "00:00"),
    };
    let [year, month, day] = fields(day, '-')?;
    let (time, offset_s) = offset(time)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = fields(time, ':').or_else(|| {
        let [hour, minute] = fields(time, ':')?;
        Some([hour, minute, 0])
    })?;
    let nanos = number(fraction).filter(|_| fraction.len() <= 9)? * 10_u64.pow(9 - fraction.len() as u32);
    let utc = Utc { year: year.into(), month, day, hour, minute, second, nanos: u32::try_from(nanos).ok()? };
    u64::try_from(utc.to_ns()?.checked_sub(offset_s * 1_000_000_000)?).ok()
}

/// Splits the offset off: in seconds east of UTC.
fn offset(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let Some(at) = time.find(['+', '-']) else { return Some((time, 0)) };
    let [hours, minutes] = fields(&time[at + 1..], ':')?;
    let seconds = i64::from(hours) * 3600 + i64::from(minutes) * 60;
    (hours < 24 && minutes < 60).then_some((&time[..at], if time.as_bytes()[at] == b'-' { -seconds } else { seconds }))
}

fn fields<const N: usize>(text: &str, between: char) -> Option<[u32; N]> {
    let fields: Option<Vec<u32>> = text.split(between).map(|part| u32::try_from(number(part)?).ok()).collect();
    fields?.try_into().ok()
}

fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_printed_is_parsed(ns in 0..=i64::MAX) {
            proptest::prop_assert_eq!(parse(&Utc::from_ns(ns).to_string()), Ok(ns.cast_unsigned()));
        }
    }

    #[test]
    fn dates_and_times() {
        const DAY: u64 = 1_795_392_000_000_000_000;
        for (text, seconds) in [
            ("2026-11-23", 0),
            ("2026-11-23T14:05", 50_700),
            ("2026-11-23 14:05:09", 50_709),
            ("2026-11-23T14:05:09Z", 50_709),
            ("2026-11-23T15:05:09+01:00", 50_709),
            ("2026-11-23T13:35:09-00:30", 50_709),
        ] {
            assert_eq!(parse(text), Ok(DAY + seconds * 1_000_000_000), "{text}");
        }
        assert_eq!(parse("2026-11-23T00:00:00.25"), Ok(DAY + 250_000_000));
        let now = parse("0s").unwrap();
        assert!((3_599_000_000_000..3_601_000_000_000).contains(&(now - parse("1h").unwrap())));
        for bad in [
            "",
            "h",
            "1w",
            "-1h",
            "2026",
            "2026-13-01",
            "2026-02-30",
            "2026-11-23T",
            "2026-11-23T25:00",
            "1969-01-01",
            "é",
            "2026-11-23T1:2:3:4",
            "2026-11-23T10:00+1",
            "2026-11-23T10:00:00.1234567890",
            "99999999999999d",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
