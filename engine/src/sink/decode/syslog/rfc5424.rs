//! RFC 5424: `1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA [MSG]`.
//!
//! Structured data becomes fields `SD-ID.PARAM-NAME` (an element without parameters: `SD-ID`, empty).
//! A timestamp that cannot be read becomes the field `timestamp`.

use super::{BOM, split_token, timestamp};
use crate::sink::record::{Format, Record, text};

/// `rest` is what follows the `<PRI>`. `false`: not of this form, `record` untouched.
pub(super) fn decode(rest: &[u8], escaped: bool, record: &mut Record) -> bool {
    let Some(tokens) = split_header(rest) else { return false };
    let ([stamp, host, app, procid, msgid], rest) = tokens;
    record.format = Format::Rfc5424;
    if stamp != b"-" {
        record.event_time = timestamp::rfc3339(stamp).filter(|(_, len)| *len == stamp.len()).map(|(time, _)| time);
        if record.event_time.is_none() {
            push_field(record, b"timestamp", stamp, escaped);
        }
    }
    let places = [&mut record.host, &mut record.app, &mut record.pid, &mut record.msgid];
    for (place, token) in places.into_iter().zip([host, app, procid, msgid]) {
        if token != b"-" {
            text::push(place, token, escaped);
        }
    }
    let message = match structured_data(rest, escaped, record) {
        Some(message) => message.strip_prefix(BOM).unwrap_or(message),
        None => rest,
    };
    text::push(&mut record.message, message, escaped);
    true
}

type Tokens<'a> = ([&'a [u8]; 5], &'a [u8]);

fn split_header(rest: &[u8]) -> Option<Tokens<'_>> {
    let mut rest = rest.strip_prefix(b"1 ")?;
    let mut tokens = [&b""[..]; 5];
    for token in &mut tokens {
        (*token, rest) = split_token(rest)?;
        if token.is_empty() {
            return None;
        }
    }
    let stamp = tokens[0];
    (stamp == b"-" || stamp[0].is_ascii_digit()).then_some((tokens, rest))
}

/// Takes the structured data into fields and gives back the message. `None`: it is malformed, and no
/// field was taken from it.
fn structured_data<'a>(rest: &'a [u8], escaped: bool, record: &mut Record) -> Option<&'a [u8]> {
    if let Some(rest) = rest.strip_prefix(b"-") {
        return after_data(rest);
    }
    // Looked through before the first field is taken.
    let mut end = rest;
    while end.first() == Some(&b'[') {
        end = element(end, &mut |_, _, _| {})?;
    }
    if end.len() == rest.len() {
        return None;
    }
    let message = after_data(end)?;
    let mut at = rest;
    while at.first() == Some(&b'[') {
        at = element(at, &mut |id, name, value| param(id, name, value, escaped, record))?;
    }
    Some(message)
}

fn after_data(rest: &[u8]) -> Option<&[u8]> {
    match rest.split_first() {
        None => Some(rest),
        Some((b' ', message)) => Some(message),
        Some(_) => None,
    }
}

/// One `[id name="value"...]`; gives each parameter to `take` (raw value, with its escapes), and the
/// element itself (empty name) where it has none. Gives back what follows.
fn element<'a>(text: &'a [u8], take: &mut dyn FnMut(&'a [u8], &'a [u8], &'a [u8])) -> Option<&'a [u8]> {
    let inner = text.strip_prefix(b"[")?;
    let id_end = inner.iter().position(|byte| matches!(byte, b' ' | b']' | b'=' | b'"'))?;
    let (id, mut rest) = inner.split_at(id_end);
    if id.is_empty() {
        return None;
    }
    if let Some(rest) = rest.strip_prefix(b"]") {
        take(id, b"", b"");
        return Some(rest);
    }
    loop {
        if let Some(rest) = rest.strip_prefix(b"]") {
            return Some(rest);
        }
        rest = rest.strip_prefix(b" ")?;
        let equals = rest.iter().position(|byte| matches!(byte, b'=' | b' ' | b']' | b'"'))?;
        let (name, value) = rest.split_at(equals);
        let value = value.strip_prefix(b"=\"")?;
        let end = value_end(value)?;
        take(id, name, &value[..end]);
        rest = &value[end + 1..];
    }
}

/// Where the closing quote is: the first that no backslash escapes.
fn value_end(value: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', value.get(at..)?)?;
        if value[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

fn param(id: &[u8], name: &[u8], value: &[u8], escaped: bool, record: &mut Record) {
    let mut key = Vec::with_capacity(id.len() + 1 + name.len());
    key.extend_from_slice(id);
    if !name.is_empty() {
        key.push(b'.');
        key.extend_from_slice(name);
    }
    if memchr::memchr(b'\\', value).is_none() {
        return push_field(record, &key, value, escaped);
    }
    let mut plain = Vec::with_capacity(value.len());
    let mut bytes = value.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        // A backslash before anything else is a backslash (RFC 5424, 6.3.3).
        match (byte, bytes.peek()) {
            (b'\\', Some(next @ (b'"' | b'\\' | b']'))) => {
                plain.push(*next);
                bytes.next();
            }
            _ => plain.push(byte),
        }
    }
    push_field(record, &key, &plain, escaped);
}

fn push_field(record: &mut Record, key: &[u8], value: &[u8], escaped: bool) {
    if let (Ok(key), Ok(value), false) = (std::str::from_utf8(key), std::str::from_utf8(value), escaped) {
        return record.fields.push(key, value);
    }
    let (mut key_text, mut value_text) = (String::new(), String::new());
    text::push(&mut key_text, key, escaped);
    text::push(&mut value_text, value, escaped);
    record.fields.push(&key_text, &value_text);
}
