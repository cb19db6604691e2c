//! What a frame carries for its receiver: which run and stream it is of, its number, when it was sent.
//!
//! Two forms. In binary 18 bytes, as many as a frame of 64 has room for, all big-endian: `nP`, run 16 bits, stream 24,
//! number 48, time 40. In text, for log lines, the same in hexadecimal digits, somewhere near the payload's start:
//! `pktgen run=6f21 stream=000001 seq=00000000002a sent=0123456789`.
//! Time: the low 40 bits of nanoseconds, which is enough for differences of up to nine minutes either way.

use std::io::Write as _;

use memchr::memmem;

/// Bytes of the binary form.
pub(super) const BINARY_LEN: usize = 18;
/// Bytes of the text form.
pub(super) const TEXT_LEN: usize = 62;
/// Streams at most: 24 bits.
pub(super) const MOST_STREAMS: usize = 1 << 24;

const MAGIC: [u8; 2] = *b"nP";
const TIME_BITS: u32 = 40;
const SEQ_BITS: u32 = 48;
const RUN_WORD: &[u8] = b"pktgen run=";
const STREAM_WORD: &[u8] = b" stream=";
const SEQ_WORD: &[u8] = b" seq=";
const SENT_WORD: &[u8] = b" sent=";
/// The text form starts within so many bytes of the payload.
const TEXT_WITHIN: usize = 160;

/// A frame's marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Tells the runs of generators apart.
    pub(super) run: u16,
    /// 24 bits.
    pub(super) stream: u32,
    /// 48 bits; counts up by one within its stream.
    pub(super) seq: u64,
    /// 40 bits of nanoseconds.
    pub(super) sent: u64,
}

/// How it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Binary,
    Text,
}

impl Stamp {
    /// Writes the binary form.
    #[inline]
    pub(super) fn write_binary(&self, to: &mut [u8; BINARY_LEN]) {
        to[..2].copy_from_slice(&MAGIC);
        to[2..4].copy_from_slice(&self.run.to_be_bytes());
        to[4..7].copy_from_slice(&self.stream.to_be_bytes()[1..]);
        to[7..13].copy_from_slice(&self.seq.to_be_bytes()[2..]);
        to[13..].copy_from_slice(&self.sent.to_be_bytes()[3..]);
    }

    /// Writes the text form, [`TEXT_LEN`] bytes.
    pub(super) fn write_text(&self, mut to: &mut [u8]) {
        let Stamp { run, stream, seq, sent } = self;
        let (stream, seq, sent) = (stream & 0xff_ffff, seq & mask(SEQ_BITS), sent & mask(TIME_BITS));
        // Fails only where there is no room, which the caller has seen to.
        let _ = write!(to, "pktgen run={run:04x} stream={stream:06x} seq={seq:012x} sent={sent:010x}");
    }

    /// The stamp in a payload, if there is one.
    #[inline]
    pub(super) fn read(payload: &[u8]) -> Option<(Stamp, Form)> {
        if let Some(bytes) = payload.first_chunk::<BINARY_LEN>()
            && bytes[..2] == MAGIC
        {
            return Some((Stamp::read_binary(bytes), Form::Binary));
        }
        Some((Stamp::read_text(payload)?, Form::Text))
    }

    #[inline]
    fn read_binary(bytes: &[u8; BINARY_LEN]) -> Stamp {
        let number =
            |range: std::ops::Range<usize>| bytes[range].iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
        Stamp { run: number(2..4) as u16, stream: number(4..7) as u32, seq: number(7..13), sent: number(13..18) }
    }

    fn read_text(payload: &[u8]) -> Option<Stamp> {
        let head = &payload[..payload.len().min(TEXT_WITHIN)];
        let at = memmem::find(head, RUN_WORD)?;
        let mut rest = &payload[at..];
        let mut field = |word: &[u8], digits: usize| -> Option<u64> {
            let (text, after) = rest.strip_prefix(word)?.split_at_checked(digits)?;
            rest = after;
            let digit = |byte: &u8| char::from(*byte).to_digit(16).map(u64::from);
            text.iter().try_fold(0, |number, byte| Some(number << 4 | digit(byte)?))
        };
        let (run, stream) = (field(RUN_WORD, 4)? as u16, field(STREAM_WORD, 6)? as u32);
        Some(Stamp { run, stream, seq: field(SEQ_WORD, 12)?, sent: field(SENT_WORD, 10)? })
    }

    /// Nanoseconds from sending to `now_ns`, both by the same clock. `None`: it was sent later than that.
    #[inline]
    pub(super) fn age_ns(&self, now_ns: u64) -> Option<u64> {
        let age = now_ns.wrapping_sub(self.sent) & mask(TIME_BITS);
        (age < 1 << (TIME_BITS - 1)).then_some(age)
    }
}

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(run: u16, stream in 0_u32..1 << 24, seq in 0_u64..1 << 48, sent in 0_u64..1 << 40, before in 0_usize..98) {
            let stamp = Stamp { run, stream, seq, sent };
            let mut binary = [0xee; BINARY_LEN + 3];
            stamp.write_binary(binary.first_chunk_mut().unwrap());
            prop_assert_eq!(Stamp::read(&binary), Some((stamp, Form::Binary)));
            let mut text = vec![b'x'; before + TEXT_LEN];
            stamp.write_text(&mut text[before..]);
            prop_assert_eq!(Stamp::read(&text), Some((stamp, Form::Text)));
            for cut in 0..text.len() {
                prop_assert_eq!(Stamp::read(&text[..cut]), None);
            }
        }

        #[test]
        fn anything_is_read_without_panic(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Stamp::read(&payload);
        }
    }

    #[test]
    fn ages_survive_the_wrap() {
        let sent = |ns| Stamp { sent: ns & mask(TIME_BITS), ..Stamp::default() };
        assert_eq!(sent((1 << 40) - 5).age_ns((1 << 40) + 10), Some(15));
        assert_eq!(sent(100).age_ns(100), Some(0));
        assert_eq!(sent(101).age_ns(100), None, "from the future");
    }
}
