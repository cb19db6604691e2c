//! Basic netconsole: text without a header. A datagram of exactly 1000 bytes that does not end in a
//! newline goes on in the next one of the same flow (netconsole's `MAX_PRINT_CHUNK`).
//!
//! Limits: loss and reordering cannot be seen. A record that is exactly 1000 bytes long with its newline
//! lost by the sender would take the next line with it; the time-out bounds that.

use super::flow::FlowKey;
use crate::sink::{
    batch::RawDatagram,
    record::{Flags, Format, Record, text},
};

/// Length of a datagram that is not the last of its record.
pub(crate) const CHUNK_BYTES: usize = 1000;
/// Longest record that is joined.
const MAX_BYTES: usize = 66_000;
/// How long the rest of a record is waited for.
const TIMEOUT_NS: u64 = 1_000_000_000;

/// The beginning of a record whose end has not come yet.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct BasicTail {
    pub bytes: Vec<u8>,
    pub time_ns: u64,
    pub clk_ns: u64,
    pub parts: u32,
}

/// What to do after a datagram was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The record is whole.
    Done,
    /// It goes on in the next datagram.
    Wait,
    /// It would go on, but has reached the limit.
    Limit,
}

impl BasicTail {
    pub fn new(datagram: &RawDatagram<'_>, clk_ns: u64) -> BasicTail {
        BasicTail { bytes: Vec::new(), time_ns: datagram.time_ns, clk_ns, parts: 0 }
    }

    pub fn add(&mut self, payload: &[u8], clk_ns: u64) -> Next {
        self.bytes.extend_from_slice(payload);
        self.parts += 1;
        self.clk_ns = clk_ns;
        match goes_on(payload) {
            false => Next::Done,
            true if self.bytes.len() + CHUNK_BYTES > MAX_BYTES => Next::Limit,
            true => Next::Wait,
        }
    }

    pub fn deadline_ns(&self) -> u64 {
        self.clk_ns + TIMEOUT_NS
    }

    pub fn held_bytes(&self) -> usize {
        self.bytes.len() + size_of::<BasicTail>()
    }

    /// As a record; `key` names the flow. `whole` is false where the rest did not come.
    pub fn decode(&self, key: &FlowKey, whole: bool, record: &mut Record) {
        record.clear();
        record.time_ns = self.time_ns;
        (record.src_ip, record.src_port) = (key.src_ip, key.src_port);
        (record.dst_ip, record.dst_port) = (key.dst_ip, key.dst_port);
        record.parts = self.parts;
        if !whole {
            record.flags |= Flags::INCOMPLETE;
        }
        decode(&self.bytes, record);
    }
}

/// The record does not end with this datagram.
pub(crate) fn goes_on(payload: &[u8]) -> bool {
    payload.len() == CHUNK_BYTES && payload.last() != Some(&b'\n')
}

/// Takes the text of one record. Addresses, time and parts are the caller's.
pub(crate) fn decode(bytes: &[u8], record: &mut Record) {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let escaped = text::needs_escapes(line);
    if escaped {
        record.flags |= Flags::ESCAPED;
    }
    record.format = Format::NetconsoleBasic;
    text::push(&mut record.message, line, escaped);
    stamp(line, record);
}

/// `[   12.345678]`, then `[  T1]` or `[  C0]`: printk.time and CONFIG_PRINTK_CALLER. The text keeps them.
fn stamp(line: &[u8], record: &mut Record) {
    let Some((inner, rest)) = bracket(line) else { return };
    let Some(point) = inner.iter().position(|byte| *byte == b'.') else { return };
    let (seconds, micros) = (inner[..point].trim_ascii(), &inner[point + 1..]);
    let (Some(seconds), Some(micros), 6) =
        (super::header::number(seconds), super::header::number(micros), micros.len())
    else {
        return;
    };
    record.kernel_usec = seconds.checked_mul(1_000_000).and_then(|usec| usec.checked_add(micros));
    if let Some((caller, _)) = bracket(rest) {
        let caller = caller.trim_ascii();
        let known = matches!(caller.split_first(), Some((b'T' | b'C', id)) if super::header::number(id).is_some());
        if let (true, Ok(caller)) = (known, std::str::from_utf8(caller)) {
            record.caller.push_str(caller);
        }
    }
}

fn bracket(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"[")?;
    let end = inner.iter().take(32).position(|byte| *byte == b']')?;
    Some((&inner[..end], &inner[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps() {
        let mut record = Record::default();
        decode(b"[   12.345678][    T1] usb: new device\n", &mut record);
        assert_eq!(record.kernel_usec, Some(12_345_678));
        assert_eq!(record.caller, "T1");
        assert_eq!(record.message, "[   12.345678][    T1] usb: new device");
        for plain in [&b"[drm] fine"[..], b"[1.2] x", b"[x.123456] y", b"", b"["] {
            record.clear();
            decode(plain, &mut record);
            assert_eq!((record.kernel_usec, record.caller.as_str()), (None, ""));
        }
    }
}
