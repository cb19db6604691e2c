//! Forged sources: a fixed amount of memory, counted, nothing lost.

use super::{
    sender::{Dice, Line},
    *,
};

/// Counts, and keeps nothing.
#[derive(Default)]
struct Count {
    records: u64,
    parts: u64,
}

impl Output for Count {
    fn record(&mut self, record: &Record) {
        self.records += 1;
        self.parts += u64::from(record.parts);
    }
}

#[test]
fn a_million_forged_sources_cost_a_fixed_amount() {
    let config = DecodeConfig { total_bytes: 1 << 20, flows: 1024, ..config() };
    let total_bytes = config.total_bytes;
    let mut decoder = Decoder::new(config);
    let mut count = Count::default();
    let mut dice = Dice::new(9);
    // A real source, heard before the flood and in it.
    let real = |seq| datagram(seq * 1000, 6666, &Line::new(seq, "real").datagrams()[0].0);
    for seq in 0..10 {
        decoder.push(&real(seq).raw(), &mut count);
    }
    let forged = 1_000_000_u64;
    let payload = b"6,9,9,-,ncfrag=0/60000;a fragment whose others never come";
    let (mut largest, mut datagrams) = (0, 10);
    for at in 0..forged {
        let mut sent = datagram(10_000 + at * 1000, 6666, payload);
        sent.src = (dice.below(1 << 31) as u32 + (1 << 30), dice.below(65_536) as u16);
        decoder.push(&sent.raw(), &mut count);
        largest = largest.max(decoder.held_bytes());
        datagrams += 1;
        if at % 1000 == 0 {
            let seq = 10 + at / 1000;
            let sent = Sent { time_ns: sent.time_ns, ..real(seq) };
            decoder.push(&sent.raw(), &mut count);
            datagrams += 1;
        }
    }
    assert_eq!(decoder.table.slots(), 1024);
    assert!(largest <= total_bytes, "{largest}");
    let stats = decoder.counters().snapshot();
    assert_eq!(stats.datagrams, datagrams);
    // No gap: the real source never lost its place, though a thousand times as many others came.
    assert_eq!(stats.missing_unknown, 0);
    assert!(stats.flows_evicted > forged / 2, "{}", stats.flows_evicted);
    decoder.flush(&mut count);
    assert_eq!(count.parts, datagrams);
    assert_eq!(decoder.held_bytes(), 0);
}

#[test]
fn one_source_cannot_hold_more_than_its_share() {
    let config = config();
    let most = config.flow_bytes + 66_000 * 2;
    let mut decoder = Decoder::new(config);
    let mut count = Count::default();
    for seq in 0..100_000_u64 {
        let line = format!("6,{seq},{seq},-,ncfrag=0/60000;{}", "x".repeat(900));
        decoder.push(&datagram(0, 6666, line.as_bytes()).raw(), &mut count);
        assert!(decoder.held_bytes() <= most);
    }
    assert!(decoder.counters().snapshot().early_by_flow_limit > 90_000);
}

#[test]
fn all_sources_together_stay_below_the_total() {
    let config = DecodeConfig { total_bytes: 1 << 20, ..config() };
    let most = config.total_bytes;
    let mut decoder = Decoder::new(config);
    let mut count = Count::default();
    for seq in 0..200_u64 {
        for ip in 0..100 {
            let line = format!("6,{seq},{seq},-,ncfrag=0/60000;{}", "x".repeat(900));
            let mut sent = datagram(0, 6666, line.as_bytes());
            sent.src.0 = ip;
            decoder.push(&sent.raw(), &mut count);
            assert!(decoder.held_bytes() <= most);
        }
    }
    assert!(decoder.counters().snapshot().early_by_total_limit > 0);
    decoder.flush(&mut count);
    assert_eq!(count.parts, 20_000);
}
