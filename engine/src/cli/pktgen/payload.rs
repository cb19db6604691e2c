//! What the frames say.

use std::io::{Cursor, Write as _};

use clap::ValueEnum;
use netpoll::{netpoll::options::DEFAULT_DST_PORT, sink::record::civil::Utc};

use super::{
    size::{payload_len, with_payload},
    stamp::{BINARY_LEN, Stamp, TEXT_LEN},
};
use crate::cli::chatter::SYSLOG_PORT;

/// Kinds of payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// 18 bytes of numbers, then a pattern that the receiver checks
    Udp,
    /// A kernel's line, without a header
    Netconsole,
    /// The same in the extended format: priority, sequence number, time
    NetconsoleExt,
    /// A line of RFC 5424
    Syslog,
}

/// Longest payload that netconsole sends.
const NETCONSOLE_LEN: usize = 1000;
/// UDP's discard service.
const DISCARD_PORT: u16 = 9;
/// What a stamp in binary is followed by: bytes that count up.
pub(super) const PATTERN: [u8; payload_len(super::size::LONGEST)] = {
    let mut pattern = [0; payload_len(super::size::LONGEST)];
    let mut at = 0;
    while at < pattern.len() {
        pattern[at] = at as u8;
        at += 1;
    }
    pattern
};

/// A batch's time, for the lines that tell it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moment {
    /// Since the run's start.
    pub(super) up_ns: u64,
    /// Since the Unix epoch.
    pub(super) real_ns: u64,
}

impl Kind {
    /// Where such datagrams go.
    pub(super) fn port(self) -> u16 {
        match self {
            Kind::Udp => DISCARD_PORT,
            Kind::Netconsole | Kind::NetconsoleExt => DEFAULT_DST_PORT,
            Kind::Syslog => SYSLOG_PORT,
        }
    }

    /// The frame size, if none is asked for.
    pub(super) fn usual_size(self) -> u16 {
        match self {
            Kind::Udp => 64,
            _ => 200,
        }
    }

    /// Shortest and longest frame, with FCS.
    pub(super) fn sizes(self) -> (usize, usize) {
        // Heads at their longest: sequence numbers of 48 bits are 15 digits, uptimes in microseconds at most 17.
        let (least, most) = match self {
            Kind::Udp => (BINARY_LEN, PATTERN.len()),
            Kind::Netconsole => ("[18446744073.999999] ".len() + TEXT_LEN + 1, NETCONSOLE_LEN),
            Kind::NetconsoleExt => ("6,,,-,caller=T;\n".len() + 15 + 17 + 8 + TEXT_LEN, NETCONSOLE_LEN),
            Kind::Syslog => (RFC5424_HEAD_LEN + TEXT_LEN, PATTERN.len()),
        };
        (with_payload(least), with_payload(most))
    }

    /// Fills `to`, a payload of a length within [`Kind::sizes`].
    #[inline]
    pub(super) fn write(self, stamp: &Stamp, moment: Moment, to: &mut [u8]) {
        if self != Kind::Udp {
            return self.write_line(stamp, moment, to);
        }
        let Some((head, rest)) = to.split_first_chunk_mut::<BINARY_LEN>() else { return };
        stamp.write_binary(head);
        rest.copy_from_slice(&PATTERN[..rest.len()]);
    }

    fn write_line(self, stamp: &Stamp, Moment { up_ns, real_ns }: Moment, to: &mut [u8]) {
        let mut head = Cursor::new(&mut to[..]);
        let (up_us, stream) = (up_ns / 1000, stamp.stream);
        // Fails only where there is no room, which the sizes have seen to.
        let _ = match self {
            Kind::Udp => Ok(()),
            Kind::Netconsole => write!(head, "[{:5}.{:06}] ", up_us / 1_000_000, up_us % 1_000_000),
            Kind::NetconsoleExt => write!(head, "6,{},{up_us},-,caller=T{stream};", stamp.seq),
            Kind::Syslog => {
                let Utc { year, month, day, hour, minute, second, nanos } = Utc::from_ns(real_ns as i64);
                let us = nanos / 1000;
                write!(
                    head,
                    "<14>1 {year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{us:06}Z pktgen netpoll - - - "
                )
            }
        };
        let at = (head.position() as usize).min(to.len());
        let (_, body) = to.split_at_mut(at);
        let Some((text, padding)) = body.split_at_mut_checked(TEXT_LEN) else { return };
        stamp.write_text(text);
        for (byte, letter) in padding.iter_mut().zip(b" abcdefghijklmnopqrstuvwxyz".iter().cycle()) {
            *byte = *letter;
        }
        if let (Kind::Netconsole | Kind::NetconsoleExt, Some(last)) = (self, padding.last_mut()) {
            *last = b'\n';
        }
    }
}

const RFC5424_HEAD_LEN: usize = "<14>1 2026-11-25T09:39:22.123456Z pktgen netpoll - - - ".len();

#[cfg(test)]
mod tests {
    use netpoll::sink::{
        RawDatagram,
        decode::{DecodeConfig, Decoder, Output},
        record::Record,
    };

    use super::*;
    use crate::cli::pktgen::stamp::Form;

    const MOST: Stamp = Stamp { run: u16::MAX, stream: (1 << 24) - 1, seq: (1 << 48) - 1, sent: (1 << 40) - 1 };
    const LATE: Moment = Moment { up_ns: u64::MAX, real_ns: 1_764_063_562_123_456_789 };

    #[test]
    fn the_shortest_and_the_longest_hold_the_stamp() {
        for kind in Kind::value_variants() {
            let (least, most) = kind.sizes();
            for size in [least, most] {
                let mut payload = vec![0; payload_len(size as u16)];
                kind.write(&MOST, LATE, &mut payload);
                let (stamp, form) = Stamp::read(&payload).unwrap_or_else(|| panic!("{kind:?} {size}"));
                assert_eq!((stamp, form == Form::Binary), (MOST, *kind == Kind::Udp), "{kind:?} {size}");
                let ends_lines = matches!(kind, Kind::Netconsole | Kind::NetconsoleExt);
                assert_eq!(payload.ends_with(b"\n"), ends_lines, "{kind:?} {size}");
                assert!(!payload.contains(&0) || *kind == Kind::Udp, "{kind:?} {size}");
            }
            assert!((least..=most).contains(&kind.usual_size().into()));
        }
        assert_eq!(Kind::Udp.sizes(), (64, 1518));
    }

    #[test]
    fn lines_are_what_their_readers_expect() {
        let stamp = Stamp { run: 0x6f21, stream: 3, seq: 42, sent: 7 };
        let moment = Moment { up_ns: 1_500_000_000, ..LATE };
        let line = |kind: Kind| {
            let mut payload = vec![0; 150];
            kind.write(&stamp, moment, &mut payload);
            String::from_utf8(payload).unwrap()
        };
        let text = "pktgen run=6f21 stream=000003 seq=00000000002a sent=0000000007 abcdef";
        let (basic, extended, syslog) = (line(Kind::Netconsole), line(Kind::NetconsoleExt), line(Kind::Syslog));
        assert!(basic.starts_with(&format!("[    1.500000] {text}")), "{basic:?}");
        assert!(extended.starts_with(&format!("6,42,1500000,-,caller=T3;{text}")), "{extended:?}");
        assert!(
            syslog.starts_with(&format!("<14>1 2025-11-25T09:39:22.123456Z pktgen netpoll - - - {text}")),
            "{syslog:?}"
        );
    }

    struct Nowhere;
    impl Output for Nowhere {
        fn record(&mut self, _: &Record) {}
    }

    /// The sink's decoder takes each kind for what it is.
    #[test]
    fn the_decoder_agrees() {
        let mut decoder = Decoder::new(DecodeConfig::default());
        for (kind, count) in [(Kind::Netconsole, 2), (Kind::NetconsoleExt, 3), (Kind::Syslog, 4)] {
            for seq in 0..count {
                let mut payload = vec![0; 150];
                kind.write(&Stamp { seq, ..Stamp::default() }, Moment { up_ns: seq, ..LATE }, &mut payload);
                let src_ip = [10, 0, 0, 2].into();
                let (dst_ip, dst_port) = ([10, 0, 0, 1].into(), kind.port());
                let src_port = 1000 + kind as u16;
                let raw = RawDatagram { time_ns: LATE.real_ns, src_ip, src_port, dst_ip, dst_port, payload: &payload };
                decoder.push(&raw, &mut Nowhere);
            }
        }
        let stats = decoder.counters().snapshot();
        let kinds = (stats.as_netconsole_basic, stats.as_netconsole_extended, stats.as_rfc5424);
        assert_eq!((kinds, stats.duplicate_messages), ((2, 3, 4), 0));
    }
}
