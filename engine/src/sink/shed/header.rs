//! What the first bytes of a datagram tell: its severity, and whether it starts or ends a crash report.

use super::UNKNOWN;

/// What the first bytes of a datagram say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// 0..=7, or [`UNKNOWN`].
    pub(super) severity: u8,
    /// Whether it may be a kernel's line: netconsole of either format, or syslog of facility 0.
    pub(super) kernel: bool,
    /// Where to look for a crash marker: the text, or for syslog the rest behind the PRI.
    pub(super) text: usize,
}

impl Header {
    #[inline]
    pub(super) fn of(payload: &[u8]) -> Header {
        match payload {
            [b'<', rest @ ..] => match number(rest) {
                // 191 is the largest PRI: facility 23, severity 7.
                Some((pri, digits)) if pri <= 191 && digits <= 3 && rest.get(digits) == Some(&b'>') => {
                    let kernel = pri < 8;
                    let text = if kernel { kernel_text(payload, digits + 2) } else { 0 };
                    Header { severity: (pri & 7) as u8, kernel, text }
                }
                _ => Header::RAW,
            },
            [b'0'..=b'9', ..] => {
                Header::extended(payload, 0).or_else(|| Header::with_release(payload)).unwrap_or(Header::RAW)
            }
            _ => Header::with_release(payload).unwrap_or(Header::RAW),
        }
    }

    /// No header that we know: raw text, or basic netconsole.
    const RAW: Header = Header { severity: UNKNOWN, kernel: true, text: 0 };

    /// `prio,seq,usec,...;text` from `at` on.
    fn extended(payload: &[u8], at: usize) -> Option<Header> {
        let rest = payload.get(at..)?;
        let (prio, digits) = number(rest)?;
        let after = rest.get(digits..)?.strip_prefix(b",")?;
        let (_, seq_digits) = number(after)?;
        if after.get(seq_digits) != Some(&b',') {
            return None;
        }
        // The header fields take well below 256 bytes.
        let window = &payload[..payload.len().min(256)];
        let text = memchr::memchr(b';', window).map_or(payload.len(), |semicolon| semicolon + 1);
        Some(Header { severity: (prio & 7) as u8, kernel: true, text })
    }

    /// The same behind `release,`. A release has no blank and at most 64 characters.
    fn with_release(payload: &[u8]) -> Option<Header> {
        let window = &payload[..payload.len().min(65)];
        let comma = window.iter().position(|&b| b == b',' || b == b' ')?;
        if window[comma] == b' ' { None } else { Header::extended(payload, comma + 1) }
    }
}

/// The decimal number that `bytes` starts with (at most 20 digits of it) and how many digits it has.
#[inline]
fn number(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    let mut digits = 0;
    for &byte in bytes.iter().take(20) {
        if !byte.is_ascii_digit() {
            break;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
        digits += 1;
    }
    (digits > 0).then_some((value, digits))
}

/// Where the kernel's text starts in a syslog line: behind the tag `kernel`, else right behind the PRI.
fn kernel_text(payload: &[u8], after_pri: usize) -> usize {
    let window = &payload[after_pri..payload.len().min(after_pri + 160)];
    memchr::memmem::find(window, b"kernel").map_or(after_pri, |at| after_pri + at + b"kernel".len())
}

/// The seq of extended netconsole.
pub(in crate::sink) fn seq(payload: &[u8]) -> Option<u64> {
    let seq_at = |at: usize| {
        let rest = payload.get(at..)?;
        let (_, digits) = number(rest)?;
        let after = rest.get(digits..)?.strip_prefix(b",")?;
        let (seq, digits) = number(after)?;
        (after.get(digits) == Some(&b',')).then_some(seq)
    };
    if payload.first() == Some(&b'<') {
        return None;
    }
    seq_at(0).or_else(|| {
        let window = &payload[..payload.len().min(65)];
        let comma = window.iter().position(|&b| b == b',' || b == b' ')?;
        if window[comma] == b' ' { None } else { seq_at(comma + 1) }
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Start,
    End,
}

/// Whether a kernel's line starts or ends a crash report. `text` may begin with what separates a tag
/// from the text (`: `, ` - - - `), dashes, and a `[  12.345678] ` time stamp.
#[inline]
pub(super) fn crash_marker(text: &[u8]) -> Option<Marker> {
    const START: [&[u8]; 9] = [
        b"[ cut here ]",
        b"Kernel panic",
        b"BUG: ",
        b"Oops",
        b"Internal error: ",
        b"general protection fault",
        b"Unable to handle kernel",
        b"kernel BUG at",
        b"watchdog: BUG",
    ];
    const END: [&[u8]; 2] = [b"[ end trace", b"[ end Kernel panic"];
    let text = skip_separators(skip_stamp(skip_separators(text)));
    // One look at the first byte settles nearly every line.
    if !matches!(text.first()?, b'[' | b'K' | b'B' | b'O' | b'I' | b'g' | b'U' | b'k' | b'w') {
        return None;
    }
    if START.iter().any(|start| text.starts_with(start)) {
        Some(Marker::Start)
    } else if END.iter().any(|end| text.starts_with(end)) {
        Some(Marker::End)
    } else {
        None
    }
}

fn skip_separators(text: &[u8]) -> &[u8] {
    let skipped = text.iter().take(32).take_while(|b| matches!(b, b' ' | b':' | b'-')).count();
    &text[skipped..]
}

fn skip_stamp(text: &[u8]) -> &[u8] {
    let Some(rest) = text.strip_prefix(b"[") else { return text };
    let stamp = rest.iter().take(24).take_while(|b| matches!(b, b' ' | b'.' | b'0'..=b'9')).count();
    match rest.get(stamp) {
        Some(b']') => &rest[stamp + 1..],
        _ => text,
    }
}
