//! The times of syslog headers: RFC 3339, and `Mmm dd hh:mm:ss` with its variations.

use crate::sink::record::{
    EventTime,
    civil::{SECOND_NS, Utc},
};

/// Zones are multiples of this.
const ZONE_STEP_NS: i64 = 15 * 60 * SECOND_NS;

/// `2026-11-23T14:17:02[.fraction](Z|+hh:mm)` at the beginning of `text`: the time, and how many bytes it
/// takes. The error is the resolution.
pub(super) fn rfc3339(text: &[u8]) -> Option<(EventTime, usize)> {
    let head = text.first_chunk::<19>()?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| head[*at] != *mark) {
        return None;
    }
    let mut utc = Utc {
        year: i64::from(digits(&head[..4])?),
        month: digits(&head[5..7])?,
        day: digits(&head[8..10])?,
        hour: digits(&head[11..13])?,
        minute: digits(&head[14..16])?,
        second: digits(&head[17..19])?,
        nanos: 0,
    };
    let (nanos, resolution_ns, fraction_len) = fraction(&text[19..]);
    utc.nanos = nanos;
    let zone = &text[19 + fraction_len..];
    let (offset_s, zone_len) = match zone.first()? {
        b'Z' => (0, 1),
        sign @ (b'+' | b'-') => {
            let [hour_high, hour_low, b':', minute_high, minute_low] = zone.get(1..6)? else { return None };
            let hours = digits(&[*hour_high, *hour_low]).filter(|hours| *hours < 24)?;
            let minutes = digits(&[*minute_high, *minute_low]).filter(|minutes| *minutes < 60)?;
            let offset_s = i64::from(hours * 3600 + minutes * 60);
            (if *sign == b'-' { -offset_s } else { offset_s }, 6)
        }
        _ => return None,
    };
    let ns = utc.to_ns()?.checked_sub(offset_s * SECOND_NS)?;
    Some((EventTime { ns, error_ns: resolution_ns }, 19 + fraction_len + zone_len))
}

/// `Mmm dd hh:mm:ss` at the beginning of `text`: the time, and how many bytes it takes. Also `Mmm  d`,
/// a leading `*` or `.` and a trailing `:` or ` ZONE:` (Cisco), a fraction, a year before or after the
/// time.
pub(super) fn bsd(text: &[u8], receive_ns: u64, zone_s: Option<i32>) -> Option<(EventTime, usize)> {
    let start = usize::from(matches!(text.first(), Some(b'*' | b'.')));
    let month = month(text.get(start..start + 3)?)?;
    let mut at = start + 3;
    at += blanks(&text[at..], 2)?;
    let (day, len) = short_number(&text[at..])?;
    at += len;
    at += blanks(&text[at..], 1)?;
    let mut year = year(&text[at..]);
    if year.is_some() {
        at += 5;
    }
    let clock = text.get(at..)?.first_chunk::<8>()?;
    if clock[2] != b':' || clock[5] != b':' {
        return None;
    }
    let (hour, minute, second) = (digits(&clock[..2])?, digits(&clock[3..5])?, digits(&clock[6..])?);
    at += 8;
    let (nanos, resolution_ns, fraction_len) = fraction(&text[at..]);
    at += fraction_len;
    if year.is_none() && text.get(at) == Some(&b' ') {
        year = self::year(&text[at + 1..]);
        at += if year.is_some() { 5 } else { 0 };
    }
    at += cisco_zone(&text[at..]);
    let utc = Utc { year: 0, month, day, hour, minute, second, nanos };
    let receive_ns = i64::try_from(receive_ns).unwrap_or(i64::MAX);
    let local_ns = match year {
        Some(year) => Utc { year, ..utc }.to_ns()?,
        None => nearest_year(utc, receive_ns)?,
    };
    Some((in_zone(local_ns, resolution_ns, receive_ns, zone_s), at))
}

fn in_zone(local_ns: i64, resolution_ns: u64, receive_ns: i64, zone_s: Option<i32>) -> EventTime {
    if let Some(zone_s) = zone_s {
        return EventTime { ns: local_ns.saturating_sub(i64::from(zone_s) * SECOND_NS), error_ns: resolution_ns };
    }
    // Zones reach from -12 to +14 hours; a time further away is an old one, in a zone that nobody knows.
    let ahead_ns = local_ns.saturating_sub(receive_ns);
    let zone_ns = ahead_ns.saturating_add(ZONE_STEP_NS / 2).div_euclid(ZONE_STEP_NS) * ZONE_STEP_NS;
    if zone_ns == 0 {
        return EventTime { ns: local_ns, error_ns: resolution_ns };
    }
    if (-12 * 3600 * SECOND_NS..=14 * 3600 * SECOND_NS).contains(&zone_ns) {
        return EventTime { ns: local_ns - zone_ns, error_ns: ZONE_STEP_NS.cast_unsigned() / 2 };
    }
    EventTime { ns: local_ns, error_ns: (14 * 3600 * SECOND_NS).cast_unsigned() }
}

/// The time of `utc` in the year that brings it nearest to the receive time.
fn nearest_year(utc: Utc, receive_ns: i64) -> Option<i64> {
    let this = Utc::from_ns(receive_ns).year;
    (this - 1..=this + 1).filter_map(|year| Utc { year, ..utc }.to_ns()).min_by_key(|ns| ns.abs_diff(receive_ns))
}

/// `.123`: nanoseconds, resolution in nanoseconds, bytes taken. Digits past the ninth are passed over.
fn fraction(text: &[u8]) -> (u32, u64, usize) {
    let none = (0, SECOND_NS.cast_unsigned(), 0);
    if text.first() != Some(&b'.') {
        return none;
    }
    let count = text[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return none;
    }
    let used = count.min(9);
    let scale = 10_u32.pow(9 - used as u32);
    let nanos = digits(&text[1..=used]).unwrap_or(0) * scale;
    (nanos, u64::from(scale), 1 + count)
}

/// `: ` or ` UTC: ` behind a Cisco time; the blank stays.
fn cisco_zone(text: &[u8]) -> usize {
    let letters = |text: &[u8]| text.iter().take(5).take_while(|byte| byte.is_ascii_uppercase()).count();
    match text {
        [b':', ..] => 1,
        [b' ', rest @ ..] => match letters(rest) {
            count @ 2..=4 if rest.get(count) == Some(&b':') => count + 2,
            _ => 0,
        },
        _ => 0,
    }
}

/// A year of four digits with a blank, a colon or the end behind it.
fn year(text: &[u8]) -> Option<i64> {
    let year = digits(text.first_chunk::<4>()?).filter(|year| (1970..2200).contains(year))?;
    matches!(text.get(4), None | Some(b' ' | b':')).then_some(i64::from(year))
}

fn month(name: &[u8]) -> Option<u32> {
    let names = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    names.chunks_exact(3).position(|known| known == name).map(|at| at as u32 + 1)
}

/// One to `most` blanks.
fn blanks(text: &[u8], most: usize) -> Option<usize> {
    let count = text.iter().take(most).take_while(|byte| **byte == b' ').count();
    (count > 0).then_some(count)
}

/// One or two digits: the number and its length.
fn short_number(text: &[u8]) -> Option<(u32, usize)> {
    let len = text.iter().take(2).take_while(|byte| byte.is_ascii_digit()).count();
    Some((digits(&text[..len])?, len))
}

/// All digits, at most nine of them.
fn digits(text: &[u8]) -> Option<u32> {
    let all = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    all.then(|| text.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_printed_is_parsed(ns in i64::MIN..=i64::MAX) {
            let text = format!("{:.9}", Utc::from_ns(ns));
            proptest::prop_assert_eq!(rfc3339(text.as_bytes()), Some((EventTime { ns, error_ns: 1 }, text.len())));
        }
    }
}
