//! RFC 3164: `TIMESTAMP HOSTNAME TAG[PID]: MSG`, of which each part may be missing.
//!
//! What is told apart how: a word after the time is the host, unless it looks like a tag (it ends in `:`
//! or carries `[pid]`); a tag ends at `[` or `:`, and a word that ends in a blank is no tag.

use super::{split_token, timestamp};
use crate::sink::record::{EventTime, Format, Record, text};

/// Longest tag. RFC 3164 says 32; programs differ.
const MAX_TAG: usize = 128;

/// `rest` is what follows the `<PRI>`.
pub(super) fn decode(rest: &[u8], zone_s: Option<i32>, escaped: bool, record: &mut Record) {
    let (time, rest) = match split_time(rest, record.time_ns, zone_s) {
        Some((time, rest)) => (Some(time), rest),
        None => (None, rest),
    };
    record.format = Format::Rfc3164;
    record.event_time = time;
    let rest = match time {
        Some(_) => host(rest, escaped, record),
        None => rest,
    };
    let message = tag(rest, escaped, record);
    text::push(&mut record.message, message, escaped);
}

/// A line without a `<PRI>` is syslog if it begins with a time.
pub(super) fn decode_without_pri(line: &[u8], zone_s: Option<i32>, escaped: bool, record: &mut Record) -> bool {
    let is_syslog = split_time(line, record.time_ns, zone_s).is_some();
    if is_syslog {
        decode(line, zone_s, escaped, record);
    }
    is_syslog
}

/// The time and what follows its blank.
fn split_time(text: &[u8], receive_ns: u64, zone_s: Option<i32>) -> Option<(EventTime, &[u8])> {
    let (time, len) = timestamp::bsd(text, receive_ns, zone_s).or_else(|| timestamp::rfc3339(text))?;
    match text[len..].split_first() {
        None => Some((time, &[])),
        Some((b' ', rest)) => Some((time, rest)),
        Some(_) => None,
    }
}

fn host<'a>(rest: &'a [u8], escaped: bool, record: &mut Record) -> &'a [u8] {
    match split_token(rest) {
        Some((word, after)) if !word.is_empty() && !looks_like_tag(word) => {
            text::push(&mut record.host, word, escaped);
            after
        }
        _ => rest,
    }
}

fn looks_like_tag(word: &[u8]) -> bool {
    let word = word.strip_suffix(b":").map_or(word, |word| match word.last() {
        // An address may end in colons: `fe80::`.
        Some(b':') => word,
        _ => b"]",
    });
    word.ends_with(b"]") && !word.starts_with(b"[")
}

/// Takes `tag[pid]: ` and gives back the message.
fn tag<'a>(rest: &'a [u8], escaped: bool, record: &mut Record) -> &'a [u8] {
    let ends = |byte: &u8| matches!(byte, b'[' | b':' | b' ');
    let Some(end) = rest.iter().take(MAX_TAG).position(ends).filter(|end| *end > 0) else { return rest };
    let (name, mut after) = rest.split_at(end);
    let mut pid = &b""[..];
    if let Some(inner) = after.strip_prefix(b"[") {
        let Some(close) = inner.iter().take(MAX_TAG).position(|byte| *byte == b']') else { return rest };
        (pid, after) = (&inner[..close], &inner[close + 1..]);
        // `word[3] and so on` is a tag, `a[1]=2` is not.
        if !matches!(after.first(), None | Some(b':' | b' ')) {
            return rest;
        }
    }
    if after.first() == Some(&b' ') && pid.is_empty() {
        return rest;
    }
    // `std::bad_alloc` and `http://..` are no tags.
    after = after.strip_prefix(b":").unwrap_or(after);
    if matches!(after.first(), Some(b':' | b'/')) {
        return rest;
    }
    text::push(&mut record.app, name, escaped);
    text::push(&mut record.pid, pid, escaped);
    after.strip_prefix(b" ").unwrap_or(after)
}
