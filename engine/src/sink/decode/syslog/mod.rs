//! Syslog over UDP (RFC 5426): RFC 5424, RFC 3164 and what goes by those names.
//!
//! The message is kept whatever the header looks like: a part of the header that is not where it should
//! be is message text. What is taken off: NUL, CR and LF at the end, a UTF-8 byte order mark at the
//! beginning of the datagram or of the message.
//!
//! RFC 3164 times have neither year nor zone. The year is the one that brings the time nearest to the
//! receive time. The zone is the configured one, or else guessed: the multiple of 15 minutes that brings
//! the time nearest to the receive time. The error says how far that can be off.
//!
//! Our own and not the crate `syslog_loose` (0.23.0, tried on the lines of this module's tests): it wants
//! text, refuses a line with `<PRI>` but no time it knows (facility and severity are lost with it), with an
//! impossible date or with malformed data, takes a fraction behind an RFC 3164 time for message text,
//! leaves the escapes of structured data in, and took two to three times as long a line.

mod rfc3164;
mod rfc5424;
#[cfg(test)]
mod tests;
mod timestamp;

use crate::sink::record::{Flags, Record, text};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Takes one datagram into `record`, whose addresses and time are set. `false`: it is no syslog, and
/// `record` is to be made anew. With `pri_only`, only a `<PRI>` makes it syslog.
pub(crate) fn decode(payload: &[u8], pri_only: bool, zone_s: Option<i32>, record: &mut Record) -> bool {
    let line = trim_end(payload);
    let line = line.strip_prefix(BOM).unwrap_or(line);
    let escaped = text::needs_escapes(line);
    if escaped {
        record.flags |= Flags::ESCAPED;
    }
    let Some((pri, rest)) = split_pri(line) else {
        return !pri_only && rfc3164::decode_without_pri(line, zone_s, escaped, record);
    };
    record.facility = Some(pri >> 3);
    record.severity = Some(pri & 7);
    if !rfc5424::decode(rest, escaped, record) {
        rfc3164::decode(rest, zone_s, escaped, record);
    }
    true
}

fn trim_end(payload: &[u8]) -> &[u8] {
    let kept = payload.iter().rposition(|byte| !matches!(byte, 0 | b'\n' | b'\r'));
    &payload[..kept.map_or(0, |last| last + 1)]
}

/// `<PRI>`, 0 to 191 in one to three digits, and what follows.
fn split_pri(line: &[u8]) -> Option<(u8, &[u8])> {
    let inner = line.strip_prefix(b"<")?;
    let end = inner.iter().take(4).position(|byte| *byte == b'>')?;
    let pri = u8::try_from(crate::sink::decode::header::number(&inner[..end])?).ok()?;
    (pri <= 191).then_some((pri, &inner[end + 1..]))
}

/// The token up to the next blank, and what follows the blank. `None` without a blank.
fn split_token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b' ', text)?;
    Some((&text[..end], &text[end + 1..]))
}
