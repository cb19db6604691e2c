//! The body of extended netconsole: `text\n` and ` KEY=VALUE\n` lines, with bytes below 0x20, from
//! 0x7f on and `\` escaped as `\xNN`.

use super::header::{Header, split_at_equals};
use crate::sink::record::{Format, Record, text};

/// Undoes `\xNN`; a backslash that starts no such escape stays.
pub(crate) fn unescape<'a>(escaped: &'a [u8], room: &'a mut Vec<u8>) -> &'a [u8] {
    let Some(first) = memchr::memchr(b'\\', escaped) else { return escaped };
    room.clear();
    room.extend_from_slice(&escaped[..first]);
    let mut rest = &escaped[first..];
    while let Some(&byte) = rest.first() {
        match (byte, hex_byte(rest)) {
            (b'\\', Some(value)) => {
                room.push(value);
                rest = &rest[4..];
            }
            _ => {
                let plain = memchr::memchr(b'\\', &rest[1..]).map_or(rest.len(), |at| at + 1);
                room.extend_from_slice(&rest[..plain]);
                rest = &rest[plain..];
            }
        }
    }
    room
}

/// The value of a leading `\xNN`.
fn hex_byte(bytes: &[u8]) -> Option<u8> {
    let [b'\\', b'x', high, low, ..] = bytes else { return None };
    let digit = |byte: &u8| (*byte as char).to_digit(16).map(|digit| digit as u8);
    Some(digit(high)? << 4 | digit(low)?)
}

/// Takes one message's header and whole body into `record`. Addresses and time are the caller's.
pub(crate) fn decode(header: &Header<'_>, body: &[u8], room: &mut Vec<u8>, record: &mut Record) {
    let header_bytes = [header.caller, header.release, header.extra];
    let escaped = header_bytes.into_iter().any(text::needs_escapes) || !body_is_text(body, room);
    if escaped {
        record.flags |= crate::sink::record::Flags::ESCAPED;
    }
    record.format = Format::NetconsoleExtended;
    record.facility = Some(header.facility);
    record.severity = Some(header.severity);
    record.seq = Some(header.seq);
    record.kernel_usec = Some(header.usec);
    text::push(&mut record.caller, header.caller, escaped);
    text::push(&mut record.release, header.release, escaped);
    for (key, value) in header.extra_items() {
        push_field(record, key, value, escaped);
    }
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    let (line, mut lines) = split_line(body);
    text::push(&mut record.message, unescape(line, room), escaped);
    while let Some(rest) = lines {
        let (line, next) = split_line(rest);
        lines = next;
        match line.strip_prefix(b" ") {
            Some(pair) => dictionary_line(record, pair, room, escaped),
            // Not the kernel's; the text goes on, so nothing is lost.
            None => {
                record.message.push('\n');
                text::push(&mut record.message, unescape(line, room), escaped);
            }
        }
    }
}

/// No part of the body needs escapes to be text. Lines are looked at one by one, since an escape never
/// spans two.
fn body_is_text(body: &[u8], room: &mut Vec<u8>) -> bool {
    if memchr::memchr(b'\\', body).is_none() {
        return !text::needs_escapes(body);
    }
    body.split(|byte| *byte == b'\n').all(|line| !text::needs_escapes(unescape(line, room)))
}

fn split_line(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'\n', text) {
        Some(end) => (&text[..end], Some(&text[end + 1..])),
        None => (text, None),
    }
}

fn dictionary_line(record: &mut Record, pair: &[u8], room: &mut Vec<u8>, escaped: bool) {
    let (key, value) = split_at_equals(pair);
    let value = unescape(value, room);
    match key {
        b"msgid" if record.msgid.is_empty() => text::push(&mut record.msgid, value, escaped),
        b"release" if record.release.is_empty() => text::push(&mut record.release, value, escaped),
        _ => {
            let mut key_room = Vec::new();
            push_field(record, unescape(key, &mut key_room), value, escaped);
        }
    }
}

fn push_field(record: &mut Record, key: &[u8], value: &[u8], escaped: bool) {
    match (std::str::from_utf8(key), std::str::from_utf8(value)) {
        (Ok(key), Ok(value)) if !escaped => record.fields.push(key, value),
        _ => {
            let (mut key_text, mut value_text) = (String::new(), String::new());
            text::push(&mut key_text, key, escaped);
            text::push(&mut value_text, value, escaped);
            record.fields.push(&key_text, &value_text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::record::Flags;

    fn record(datagram: &[u8]) -> Record {
        let (header, body) = Header::parse(datagram).unwrap();
        let mut record = Record::default();
        decode(&header, body, &mut Vec::new(), &mut record);
        record
    }

    #[test]
    fn escapes() {
        let mut room = Vec::new();
        assert_eq!(unescape(b"plain", &mut room), b"plain");
        assert_eq!(unescape(br"a\x0ab\x5cx41\x", &mut room), b"a\nb\\x41\\x");
        assert_eq!(unescape(br"\xzz\x1\xFFend\", &mut room), b"\\xzz\\x1\xffend\\");
    }

    #[test]
    fn dictionary_and_sysdata() {
        let record = record(
            b"6,1,2,-,caller=C3,z=1;usb 1-1: new\\x0adevice\n SUBSYSTEM=usb\n DEVICE=+usb:1-1\n cpu=3\n taskname=a\\x20b\n release=6.1\n msgid=77\n",
        );
        assert_eq!(record.message, "usb 1-1: new\ndevice");
        assert_eq!(record.msgid, "77");
        assert_eq!(record.release, "6.1");
        assert_eq!(record.caller, "C3");
        let fields: Vec<_> = record.fields.iter().collect();
        let expected = [("z", "1"), ("SUBSYSTEM", "usb"), ("DEVICE", "+usb:1-1"), ("cpu", "3"), ("taskname", "a b")];
        assert_eq!(fields, expected);
        assert!(record.flags.is_empty());
    }

    #[test]
    fn utf8_comes_back_and_other_bytes_stay_escaped() {
        assert_eq!(record(br"6,1,2,-;caf\xc3\xa9").message, "caf\u{e9}");
        let odd = record(b"6,1,2,-;a\\x5cb\\xff\n k=v\n");
        assert_eq!(odd.message, r"a\x5cb\xff");
        assert_eq!(odd.flags, Flags::ESCAPED);
    }

    #[test]
    fn a_line_without_the_blank_stays_in_the_message() {
        assert_eq!(record(b"6,1,2,-;one\ntwo\n k=v\n").message, "one\ntwo");
    }
}
