//! A netconsole sender, byte for byte, after the kernel's documentation (netconsole.rst, dev-kmsg): what
//! it sends is made from records of its own, and so is what a decoder has to make of it.

use std::fmt::Write;

use super::*;
use crate::sink::record::Fields;

/// Longest datagram, as in the kernel.
const MAX_PRINT_CHUNK: usize = 1000;

/// A record, as the sender knows it.
#[derive(Clone, Debug)]
pub struct Line {
    pub prio: u16,
    pub seq: u64,
    pub usec: u64,
    pub continuation: bool,
    pub caller: Option<&'static str>,
    pub release: Option<&'static str>,
    pub text: String,
    pub dictionary: Vec<(&'static str, String)>,
    pub msgid: Option<u32>,
}

impl Line {
    pub fn new(seq: u64, text: &str) -> Line {
        Line {
            prio: 6,
            seq,
            usec: seq * 1000,
            continuation: false,
            caller: None,
            release: None,
            text: text.into(),
            dictionary: Vec::new(),
            msgid: None,
        }
    }

    fn header(&self) -> String {
        let mut header = String::new();
        if let Some(release) = self.release {
            write!(header, "{release},").unwrap();
        }
        let flag = if self.continuation { 'c' } else { '-' };
        write!(header, "{},{},{},{flag}", self.prio, self.seq, self.usec).unwrap();
        if let Some(caller) = self.caller {
            write!(header, ",caller={caller}").unwrap();
        }
        header
    }

    fn body(&self) -> Vec<u8> {
        let mut body = escape(&self.text);
        body.push('\n');
        for (key, value) in &self.dictionary {
            writeln!(body, " {key}={}", escape(value)).unwrap();
        }
        if let Some(msgid) = self.msgid {
            writeln!(body, " msgid={msgid}").unwrap();
        }
        body.into_bytes()
    }

    /// Its datagrams, and what of the body each carries.
    pub fn datagrams(&self) -> Vec<(Vec<u8>, std::ops::Range<usize>)> {
        let (header, body) = (self.header(), self.body());
        let whole = [header.as_bytes(), b";", &body].concat();
        if whole.len() <= MAX_PRINT_CHUNK {
            return vec![(whole, 0..body.len())];
        }
        let mut out = Vec::new();
        let mut offset = 0;
        while offset < body.len() {
            let mut datagram = format!("{header},ncfrag={offset}/{};", body.len()).into_bytes();
            let len = (MAX_PRINT_CHUNK - datagram.len()).min(body.len() - offset);
            datagram.extend_from_slice(&body[offset..offset + len]);
            out.push((datagram, offset..offset + len));
            offset += len;
        }
        out
    }

    /// The escaped body of which only `got` came, holes marked, as the decoder's documentation has it.
    pub fn body_with_holes(&self, got: &[std::ops::Range<usize>]) -> String {
        let body = self.body();
        let mut text = String::new();
        let mut missing = 0;
        for (at, byte) in body.iter().enumerate() {
            if got.iter().any(|range| range.contains(&at)) {
                mark_hole(&mut missing, &mut text);
                text.push(char::from(*byte));
            } else {
                missing += 1;
            }
        }
        mark_hole(&mut missing, &mut text);
        text
    }

    /// The fields that a decoder has to find.
    pub fn fields(&self) -> Fields {
        self.dictionary.iter().map(|(key, value)| (*key, value.as_str())).collect()
    }

    /// `record` says what this line says.
    pub fn assert_same(&self, record: &Record) {
        assert_eq!(record.message, self.text, "seq {}", self.seq);
        assert_eq!((record.seq, record.kernel_usec), (Some(self.seq), Some(self.usec)));
        assert_eq!((record.facility, record.severity), (Some((self.prio >> 3) as u8), Some((self.prio & 7) as u8)));
        assert_eq!(
            (record.caller.as_str(), record.release.as_str()),
            (self.caller.unwrap_or(""), self.release.unwrap_or(""))
        );
        assert_eq!(record.msgid, self.msgid.map(|msgid| msgid.to_string()).unwrap_or_default());
        assert_eq!(record.fields, self.fields());
        assert_eq!(record.format, Format::NetconsoleExtended);
    }
}

fn mark_hole(missing: &mut usize, text: &mut String) {
    if *missing > 0 {
        write!(text, "[{missing} bytes lost]").unwrap();
        *missing = 0;
    }
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'\\' | 0..0x20 | 0x7f.. => write!(out, "\\x{byte:02x}").unwrap(),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

/// Pseudo-random numbers (xorshift64*), so that a failing case is named by its seed alone.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % limit.max(1)
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// Text of about `len` characters: words, controls, backslashes, letters beyond ASCII.
    pub fn text(&mut self, len: usize) -> String {
        let letters =
            ['a', 'b', 'z', ' ', '0', '9', ';', ',', '=', '\\', '\n', '\t', '\u{7f}', 'é', '語', 'x', '[', ']'];
        (0..len).map(|_| letters[self.below(letters.len())]).collect()
    }

    /// Moves each element by less than `reach` places.
    pub fn jitter<T>(&mut self, items: Vec<T>, reach: usize) -> Vec<T> {
        let mut keyed: Vec<(usize, T)> =
            items.into_iter().enumerate().map(|(at, item)| (at + self.below(reach), item)).collect();
        keyed.sort_by_key(|(key, _)| *key);
        keyed.into_iter().map(|(_, item)| item).collect()
    }
}
