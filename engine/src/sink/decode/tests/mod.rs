//! The decoder as a whole: against a byte-exact netconsole sender, real syslog senders, and noise.

mod basic;
mod extended;
mod flood;
mod noise;
mod sender;
mod syslog_senders;

use std::net::{IpAddr, Ipv4Addr};

use super::*;

/// Keeps all that a decoder makes.
#[derive(Default)]
struct Kept {
    records: Vec<Record>,
    gaps: Vec<Gap>,
}

impl Output for Kept {
    fn record(&mut self, record: &Record) {
        self.records.push(record.clone());
    }

    fn gap(&mut self, gap: &Gap) {
        self.gaps.push(gap.clone());
    }
}

/// A datagram of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    time_ns: u64,
    src: (u32, u16),
    dst_port: u16,
    payload: Vec<u8>,
}

impl Sent {
    fn raw(&self) -> RawDatagram<'_> {
        RawDatagram {
            time_ns: self.time_ns,
            src_ip: IpAddr::V4(Ipv4Addr::from_bits(self.src.0)),
            src_port: self.src.1,
            dst_ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            dst_port: self.dst_port,
            payload: &self.payload,
        }
    }
}

/// Receive time of the first datagram in these tests: 2023-11-14T22:13:20Z.
const START_NS: u64 = 1_700_000_000_000_000_000;

fn config() -> DecodeConfig {
    DecodeConfig { seed: 42, ..DecodeConfig::default() }
}

fn datagram(time_ns: u64, dst_port: u16, payload: &[u8]) -> Sent {
    Sent { time_ns: START_NS + time_ns, src: (0x0a00_0002, 6665), dst_port, payload: payload.to_vec() }
}

/// Decodes all, checking the ledger after every datagram, and flushes.
fn decode_all(config: DecodeConfig, sent: &[Sent]) -> (Kept, DecodeStats) {
    let mut decoder = Decoder::new(config);
    let mut kept = Kept::default();
    for datagram in sent {
        decoder.push(&datagram.raw(), &mut kept);
        check_ledger(&decoder, &kept);
    }
    decoder.flush(&mut kept);
    assert_eq!((decoder.pending_datagrams(), decoder.held_bytes()), (0, 0));
    check_ledger(&decoder, &kept);
    let stats = decoder.counters().snapshot();
    assert_eq!(stats.datagrams, sent.len() as u64);
    (kept, stats)
}

/// Every datagram is in one place, counted on both sides.
fn check_ledger(decoder: &Decoder, kept: &Kept) {
    let stats = decoder.counters().snapshot();
    let duplicates = stats.duplicate_messages + stats.duplicate_fragments;
    assert_eq!(stats.datagrams, stats.record_parts + duplicates + decoder.pending_datagrams());
    let by_format = stats.as_netconsole_extended + stats.as_netconsole_basic;
    assert_eq!(stats.datagrams, by_format + stats.as_rfc5424 + stats.as_rfc3164 + stats.as_raw);
    assert_eq!(stats.records, kept.records.len() as u64);
}
