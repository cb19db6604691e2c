//! Datagrams through a decoder, its ledger exact after each.

use std::net::{IpAddr, Ipv4Addr};

use netpoll::sink::{
    RawDatagram,
    decode::{DecodeConfig, DecodeStats, Decoder, Gap, Listen, Output, Snapshot},
    record::Record,
};

use super::input::separated;

/// What waits in a decoder of these targets, at most.
const TOTAL_BYTES: usize = 8000;
/// Receive time of the first datagram.
const START_NS: u64 = 1_700_000_000_000_000_000;
/// What the time goes on by before a datagram; one of eight, by its head byte.
const STEPS_NS: [u64; 7] = [0, 1_000, 1_000_000, 60_000_000, 150_000_000, 1_100_000_000, 40_000_000_000];

/// All that a decoder made.
#[derive(Debug, Default, PartialEq)]
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

/// A datagram as an input says it: bits 0-1 of its head are the source, 2-4 the time since the last one (7: the clock
/// went back), 5-6 the listener, and bit 7 says that the decoder is put aside and taken up again after it.
struct Sent<'a> {
    raw: RawDatagram<'a>,
    interrupted: bool,
}

fn read<'a>(input: &'a [u8], listeners: &[u16; 4]) -> Vec<Sent<'a>> {
    let mut time_ns = START_NS;
    let sent = separated(input).take(256).map(|(head, payload)| {
        match STEPS_NS.get(usize::from(head >> 2 & 7)) {
            Some(step) => time_ns += step,
            None => time_ns -= 2_000_000_000.min(time_ns),
        }
        Sent {
            raw: RawDatagram {
                time_ns,
                src_ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2 + (head >> 1 & 1))),
                src_port: 6665 + u16::from(head & 1),
                dst_ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
                dst_port: listeners[usize::from(head >> 5 & 3)],
                payload: &payload[..payload.len().min(2000)],
            },
            interrupted: head & 0x80 != 0,
        }
    });
    sent.collect()
}

/// Decodes the input's datagrams for the listeners of these ports, twice: at once, and with interruptions, which must
/// make no difference.
pub fn run(input: &[u8], formats: &[(u16, Listen); 4]) {
    let sent = read(input, &formats.map(|(port, _)| port));
    let config = DecodeConfig {
        listeners: formats.iter().map(|&(port, listen)| (port..=port, listen)).collect(),
        flow_messages: 6,
        flow_bytes: 4000,
        total_bytes: TOTAL_BYTES,
        flows: 16,
        seed: 42,
        ..DecodeConfig::default()
    };
    let at_once = decode(&config, &sent, false);
    check_records(&sent, &at_once);
    if sent.iter().any(|sent| sent.interrupted) {
        let interrupted = decode(&config, &sent, true);
        assert_eq!(interrupted, at_once, "a restart makes no difference");
    }
}

fn decode(config: &DecodeConfig, sent: &[Sent<'_>], interrupt: bool) -> Kept {
    let mut decoder = Decoder::new(config.clone());
    let mut kept = Kept::default();
    let mut before = DecodeStats::default();
    for sent in sent {
        decoder.push(&sent.raw, &mut kept);
        check_ledger(&decoder, &before, &kept);
        if interrupt && sent.interrupted {
            let bytes = postcard::to_stdvec(&decoder.snapshot()).expect("a snapshot is plain data");
            let snapshot: Snapshot = postcard::from_bytes(&bytes).expect("what was written is read");
            assert_eq!(snapshot.pending_datagrams(), decoder.pending_datagrams());
            before.merge(&decoder.counters().snapshot());
            decoder = Decoder::restore(config.clone(), snapshot, &mut kept);
            check_ledger(&decoder, &before, &kept);
        }
    }
    decoder.flush(&mut kept);
    assert_eq!((decoder.pending_datagrams(), decoder.held_bytes()), (0, 0), "flushed");
    check_ledger(&decoder, &before, &kept);
    before.merge(&decoder.counters().snapshot());
    assert_eq!(before.datagrams, sent.len() as u64);
    kept
}

/// Every datagram is in one place, counted on both sides, and what waits is bounded.
fn check_ledger(decoder: &Decoder, before: &DecodeStats, kept: &Kept) {
    let mut stats = *before;
    stats.merge(&decoder.counters().snapshot());
    let duplicates = stats.duplicate_messages + stats.duplicate_fragments;
    assert_eq!(stats.datagrams, stats.record_parts + duplicates + decoder.pending_datagrams(), "{stats:?}");
    let netconsole = stats.as_netconsole_extended + stats.as_netconsole_basic;
    assert_eq!(stats.datagrams, netconsole + stats.as_rfc5424 + stats.as_rfc3164 + stats.as_raw, "{stats:?}");
    assert_eq!(stats.records, kept.records.len() as u64);
    assert_eq!(stats.record_parts, kept.records.iter().map(|record| u64::from(record.parts)).sum::<u64>());
    assert!(decoder.held_bytes() <= TOTAL_BYTES, "{} bytes held", decoder.held_bytes());
}

/// No record is larger than what came, as far as escapes can make it, and every one is somebody's.
fn check_records(sent: &[Sent<'_>], kept: &Kept) {
    let came: usize = sent.iter().map(|sent| sent.raw.payload.len()).sum();
    let mut made = 0;
    for record in &kept.records {
        assert!(sent.iter().any(|sent| (sent.raw.src_ip, sent.raw.src_port) == (record.src_ip, record.src_port)));
        assert!(record.severity.is_none_or(|severity| severity < 8));
        let texts = [&record.host, &record.app, &record.pid, &record.msgid, &record.caller, &record.release];
        made += record.message.len() + texts.map(String::len).iter().sum::<usize>();
        made += record.fields.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        // A hole is told in a few words.
        made -= 40.min(made);
    }
    assert!(made <= 4 * came + 64, "{made} bytes of text of {came} bytes");
}
