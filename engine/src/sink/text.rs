//! The text output's formats: one datagram, one line.
//!
//! A line is made of a datagram, not of a decoded message: so lines can be counted against datagrams, there is nothing that
//! waits, and what was written is in the file. A [`Template`] and JSON lines name values (host, severity, message) that are
//! decoded from that one datagram: fragments stay apart, nothing is joined or put in order. Whole messages are in Parquet,
//! and `netpoll logs` prints them.
//!
//! Without a template:
//!
//! ```text
//! 2026-11-23T14:16:59.000123Z 10.0.0.2:514 <13>Nov 23 14:16:59 host app: message
//! 2026-11-23T14:16:59.000124Z [2001:db8::2]:6665 6,1234,5678,-;text\n SUBSYSTEM=usb
//! ```
//!
//! Receive time (RFC 3339, UTC, microseconds), source address and port, one blank, the payload. Trailing
//! LF and NUL bytes of the payload are left out. The rest is written so that it can be read back exactly:
//!
//! | byte or character | written as |
//! |---|---|
//! | `\` | `\\` |
//! | LF, CR, TAB | `\n`, `\r`, `\t` |
//! | other bytes below 0x20, 0x7f, whatever is not UTF-8 | `\xNN`, two lower-case hex digits a byte |
//! | U+0080..U+009F (control characters), U+2028, U+2029 (line breaks to some tools) | `\xNN` for each of their bytes |
//! | everything else | itself |

mod template;

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

pub use template::{Template, TemplateError};

use super::{
    TextConfig,
    batch::{Columns, RawDatagram},
    decode::Single,
    record::Record,
};

/// How a line is made of a datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TextFormat {
    /// Time, source, and the payload as it is.
    #[default]
    Payload,
    /// As the template has it.
    Template(Template),
    /// A JSON object of what the datagram decodes to, with the names that `netpoll logs --format json` has.
    #[cfg(feature = "store")]
    JsonLines,
}

/// Writes datagrams as lines.
#[derive(Debug, Default)]
pub(super) struct TextEncoder {
    format: TextFormat,
    plain: PayloadLines,
    single: Single,
    record: Record,
    room: String,
}

impl TextEncoder {
    pub(super) fn new(config: &TextConfig) -> TextEncoder {
        let single = Single::new(&config.listeners);
        TextEncoder { format: config.format.clone(), single, ..TextEncoder::default() }
    }

    /// Appends all rows of `columns` to `out`.
    pub(super) fn encode(&mut self, columns: &Columns<'_>, out: &mut Vec<u8>) {
        let TextEncoder { format, plain, single, record, room } = self;
        match format {
            TextFormat::Payload => columns.iter().for_each(|datagram| plain.line(&datagram, out)),
            TextFormat::Template(template) => {
                for datagram in columns.iter() {
                    single.decode(&datagram, record);
                    template.write(&datagram, record, room, out);
                    out.push(b'\n');
                }
            }
            #[cfg(feature = "store")]
            TextFormat::JsonLines => {
                for datagram in columns.iter() {
                    single.decode(&datagram, record);
                    room.clear();
                    super::record::column::write_json(record, room);
                    room.push('\n');
                    out.extend_from_slice(room.as_bytes());
                }
            }
        }
    }
}

/// The format without a template.
#[derive(Debug, Default)]
struct PayloadLines {
    /// The second that `stamp` holds, since the Unix epoch.
    second: Option<u64>,
    /// `2026-11-23T14:16:59.`
    stamp: Vec<u8>,
}

impl PayloadLines {
    fn line(&mut self, datagram: &RawDatagram<'_>, out: &mut Vec<u8>) {
        let second = datagram.time_ns / 1_000_000_000;
        if self.second != Some(second) {
            self.second = Some(second);
            self.stamp = format!("{}.", utc_second(second)).into_bytes();
        }
        out.extend_from_slice(&self.stamp);
        out.extend_from_slice(&digits::<6>((datagram.time_ns % 1_000_000_000 / 1000) as u32));
        match datagram.src_ip {
            IpAddr::V4(ip) => {
                let (text, len) = source_v4(ip, datagram.src_port);
                out.extend_from_slice(&text[..len]);
            }
            // Writing to a vector does not fail.
            ip @ IpAddr::V6(_) => drop(write!(out, "Z {} ", SocketAddr::from((ip, datagram.src_port)))),
        }
        escape(trim(datagram.payload), out);
        out.push(b'\n');
    }
}

/// Decimal digits of a byte, from the left, and how many.
const OCTETS: [([u8; 3], u8); 256] = {
    let mut octets = [([0; 3], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = [b'0' + (octet / 100) as u8, b'0' + (octet / 10 % 10) as u8, b'0' + (octet % 10) as u8];
        octets[octet] = match octet {
            0..10 => ([digits[2], 0, 0], 1),
            10..100 => ([digits[1], digits[2], 0], 2),
            _ => (digits, 3),
        };
        octet += 1;
    }
    octets
};

/// `Z 10.0.0.2:514 `, and its length. (By `write!` it took 90 ns, more than all else of a line: lines of many sources
/// come mixed.)
fn source_v4(ip: Ipv4Addr, port: u16) -> ([u8; 24], usize) {
    let mut text = [b' '; 24];
    text[0] = b'Z';
    let mut at = 2;
    for octet in ip.octets() {
        let (digits, len) = OCTETS[usize::from(octet)];
        text[at..at + 3].copy_from_slice(&digits);
        at += usize::from(len);
        text[at] = b'.';
        at += 1;
    }
    text[at - 1] = b':';
    let digits = digits::<5>(port.into());
    let zeros = digits[..4].iter().take_while(|digit| **digit == b'0').count();
    text[at..at + 5 - zeros].copy_from_slice(&digits[zeros..]);
    at += 5 - zeros;
    text[at] = b' ';
    (text, at + 1)
}

/// `2026-11-23T14:16:59` for a second since the Unix epoch, in UTC.
pub(super) fn utc_second(second: u64) -> String {
    let (day, in_day) = (second / 86_400, second % 86_400);
    let (year, month, day) = date(day);
    let (hour, minute, second) = (in_day / 3600, in_day / 60 % 60, in_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of the Gregorian calendar, `day` days after 1970-01-01. The year is taken to start
/// in March, so that the leap day is its last; 400 years are 146,097 days.
fn date(day: u64) -> (u64, u64, u64) {
    let day = day + 719_468; // since 0000-03-01
    let (era, in_era) = (day / 146_097, day % 146_097);
    let year_of_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// The last `N` decimal digits.
fn digits<const N: usize>(mut value: u32) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += (value % 10) as u8;
        value /= 10;
    }
    digits
}

fn trim(payload: &[u8]) -> &[u8] {
    let end = payload.iter().rposition(|&b| b != 0 && b != b'\n').map_or(0, |last| last + 1);
    &payload[..end]
}

/// Whether the byte stands for itself wherever it is: printable ASCII but the backslash.
#[inline]
fn is_plain(byte: u8) -> bool {
    byte.wrapping_sub(0x20) < 0x5f && byte != b'\\'
}

/// Appends `payload` to `out`, escaped.
fn escape(mut payload: &[u8], out: &mut Vec<u8>) {
    while !payload.is_empty() {
        let plain = plain_prefix(payload);
        out.extend_from_slice(&payload[..plain]);
        payload = &payload[plain..];
        let special = payload.iter().position(|&b| is_plain(b)).unwrap_or(payload.len());
        escape_special(&payload[..special], out);
        payload = &payload[special..];
    }
}

/// How many plain bytes `payload` starts with; whole blocks are looked at without a branch a byte.
#[inline]
fn plain_prefix(payload: &[u8]) -> usize {
    const BLOCK: usize = 32;
    let blocks = payload.chunks_exact(BLOCK);
    let whole = blocks.take_while(|block| block.iter().fold(true, |all, &b| all & is_plain(b))).count() * BLOCK;
    whole + payload[whole..].iter().position(|&b| !is_plain(b)).unwrap_or(payload.len() - whole)
}

/// Appends bytes of which none is plain.
fn escape_special(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                    hex(c.encode_utf8(&mut [0; 4]).as_bytes(), out);
                }
                _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        hex(chunk.invalid(), out);
    }
}

fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for &byte in bytes {
        out.extend_from_slice(&[b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The inverse of [`escape`], from the table in the module's docs.
    fn unescape(line: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = line;
        while let [first, tail @ ..] = rest {
            rest = tail;
            if *first != b'\\' {
                out.push(*first);
                continue;
            }
            let (byte, skip) = match rest[0] {
                b'\\' => (b'\\', 1),
                b'n' => (b'\n', 1),
                b'r' => (b'\r', 1),
                b't' => (b'\t', 1),
                b'x' => (u8::from_str_radix(std::str::from_utf8(&rest[1..3]).unwrap(), 16).unwrap(), 3),
                other => panic!("\\{} is not an escape", char::from(other)),
            };
            out.push(byte);
            rest = &rest[skip..];
        }
        out
    }

    fn escaped(payload: &[u8]) -> String {
        let mut out = Vec::new();
        escape(payload, &mut out);
        String::from_utf8(out).expect("lines are UTF-8")
    }

    #[test]
    fn escapes_as_documented() {
        assert_eq!(escaped(b"a\\b\n\r\t\0\x1b[31m\x7f"), "a\\\\b\\n\\r\\t\\x00\\x1b[31m\\x7f");
        assert_eq!(escaped("Grüße 日本 🦀".as_bytes()), "Grüße 日本 🦀");
        assert_eq!(
            escaped("\u{85}\u{9b}\u{2028}\u{2029}\u{a0}".as_bytes()),
            "\\xc2\\x85\\xc2\\x9b\\xe2\\x80\\xa8\\xe2\\x80\\xa9\u{a0}"
        );
        assert_eq!(escaped(b"\xff\xc3(\xe6\x97"), "\\xff\\xc3(\\xe6\\x97");
        assert_eq!(trim(b"x\n\0\n"), b"x");
        assert_eq!(trim(b"\n\0"), b"");
        assert_eq!(trim(b" x "), b" x ");
    }

    #[test]
    fn dates_and_lines() {
        for (second, text) in [
            (0, "1970-01-01T00:00:00"),
            (68_169_599, "1972-02-28T23:59:59"),
            (68_169_600, "1972-02-29T00:00:00"),
            (951_868_799, "2000-02-29T23:59:59"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_795_443_419, "2026-11-23T14:16:59"),
            (4_107_542_399, "2100-02-28T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(utc_second(second), text);
        }
        let mut encoder = PayloadLines::default();
        let mut out = Vec::new();
        let datagram = RawDatagram {
            time_ns: 1_795_443_419_000_123_999,
            src_ip: "10.0.0.2".parse().unwrap(),
            src_port: 514,
            dst_ip: "10.0.0.1".parse().unwrap(),
            dst_port: 514,
            payload: b"<13>x\n",
        };
        encoder.line(&datagram, &mut out);
        encoder.line(&RawDatagram { src_ip: "2001:db8::2".parse().unwrap(), ..datagram }, &mut out);
        encoder.line(&RawDatagram { payload: b"", ..datagram }, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2026-11-23T14:16:59.000123Z 10.0.0.2:514 <13>x\n\
             2026-11-23T14:16:59.000123Z [2001:db8::2]:514 <13>x\n\
             2026-11-23T14:16:59.000123Z 10.0.0.2:514 \n"
        );
    }

    #[test]
    fn sources_are_written_as_the_library_writes_them() {
        let parts = [0, 1, 9, 10, 42, 99, 100, 101, 199, 200, 255];
        for (a, b) in parts.iter().flat_map(|a| parts.map(|b| (*a, b))) {
            for port in [0, 1, 9, 10, 99, 100, 514, 999, 1000, 9999, 10_000, 40_960, u16::MAX] {
                for ip in [Ipv4Addr::new(a, b, a, b), Ipv4Addr::new(b, 7, a, 0)] {
                    let (text, len) = source_v4(ip, port);
                    assert_eq!(String::from_utf8_lossy(&text[..len]), format!("Z {ip}:{port} "));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn one_line_and_nothing_lost(payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            ".{0,80}".prop_map(String::into_bytes),
            prop::collection::vec(prop_oneof![Just(b'\\'), Just(b'x'), Just(b'n'), 0x1fu8..0x22, 0x7eu8..0x81], 0..100),
        ]) {
            let line = escaped(&payload);
            prop_assert_eq!(line.lines().count(), usize::from(!payload.is_empty()));
            prop_assert!(!line.contains(char::is_control));
            prop_assert_eq!(unescape(line.as_bytes()), payload);
        }
    }
}
