//! Extended netconsole, sent byte for byte, with what networks do to it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    sender::{Dice, Line},
    *,
};

/// A sender: its address, and the lines in the order of their seq.
struct Source {
    src: (u32, u16),
    lines: Vec<Line>,
}

fn source(dice: &mut Dice, ip: u32, count: usize, longest: usize) -> Source {
    let mut seq = dice.below(100_000) as u64;
    let mut usec = 5_000_000;
    let msgids = dice.one_in(2);
    let release = dice.one_in(2).then_some("6.1.0-13-amd64");
    let first_msgid = dice.below(1000) as u32;
    let lines = (0..count as u32).map(|at| {
        // Seqs that the console's level kept back.
        seq += 1 + if dice.one_in(5) { dice.below(4) as u64 } else { 0 };
        usec += dice.below(1000) as u64;
        let len = if dice.one_in(6) { dice.below(longest) } else { dice.below(80) };
        let dictionary = match dice.below(4) {
            0 => vec![("SUBSYSTEM", "usb".into()), ("DEVICE", dice.text(12)), ("empty", String::new())],
            1 => vec![("cpu", dice.below(64).to_string())],
            _ => vec![],
        };
        Line {
            prio: dice.below(192) as u16,
            usec,
            caller: [None, Some("T42"), Some("C3")][dice.below(3)],
            release,
            // Words that open a crash group are another test's.
            text: format!("line {}", dice.text(len)),
            dictionary,
            msgid: msgids.then(|| first_msgid + at),
            ..Line::new(seq, "")
        }
    });
    Source { src: (ip, 6665), lines: lines.collect() }
}

/// One datagram under way: which source and line it is of, and what of the body it carries.
type Part = (usize, usize, std::ops::Range<usize>, Vec<u8>);

/// All datagrams of all sources, the sources' lines interleaved.
fn parts(dice: &mut Dice, sources: &[Source]) -> Vec<Part> {
    let mut nexts = vec![0; sources.len()];
    let mut out = Vec::new();
    while let Some(_left) = (0..sources.len()).find(|at| nexts[*at] < sources[*at].lines.len()) {
        let at = dice.below(sources.len());
        let Some(line) = sources[at].lines.get(nexts[at]) else { continue };
        out.extend(line.datagrams().into_iter().map(|(bytes, range)| (at, nexts[at], range, bytes)));
        nexts[at] += 1;
    }
    out
}

fn send(sources: &[Source], parts: &[Part]) -> Vec<Sent> {
    let sent = parts.iter().enumerate().map(|(at, (source, _, _, bytes))| Sent {
        time_ns: START_NS + at as u64 * 100_000,
        src: sources[*source].src,
        dst_port: 6666,
        payload: bytes.clone(),
    });
    sent.collect()
}

/// The records of one source, in the order in which they came out.
fn of(kept: &Kept, source: &Source) -> Vec<Record> {
    let ip = IpAddr::V4(Ipv4Addr::from_bits(source.src.0));
    kept.records.iter().filter(|record| record.src_ip == ip).cloned().collect()
}

/// Seqs that never were, between the lines that came: what gaps have to add up to.
fn missing(seqs: &[u64]) -> u64 {
    seqs.windows(2).map(|pair| pair[1] - pair[0] - 1).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Fragments, reordering and second copies leave no trace but in the counters.
    #[test]
    fn all_lines_come_out_once_and_in_order(seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let sources: Vec<_> = (1..4).map(|ip| source(&mut dice, ip, 60, 8000)).collect();
        let mut parts = parts(&mut dice, &sources);
        let copies: Vec<_> = parts.iter().map(|part| (dice.one_in(10), part.clone())).collect();
        let originals = parts.len();
        parts = copies.into_iter().flat_map(|(twice, part)| [Some(part.clone()), twice.then_some(part)]).flatten().collect();
        let copies = (parts.len() - originals) as u64;
        let parts = dice.jitter(parts, 12);
        let (kept, stats) = decode_all(config(), &send(&sources, &parts));
        prop_assert_eq!(stats.duplicate_messages + stats.duplicate_fragments, copies);
        for source in &sources {
            let records = of(&kept, source);
            prop_assert_eq!(records.len(), source.lines.len());
            for (line, record) in source.lines.iter().zip(&records) {
                line.assert_same(record);
                prop_assert!(record.flags.is_empty(), "{}", record.flags);
                prop_assert_eq!(record.parts as usize, line.datagrams().len());
            }
            let seqs: Vec<_> = source.lines.iter().map(|line| line.seq).collect();
            let of_source = kept.gaps.iter().filter(|gap| gap.src_ip == records[0].src_ip);
            prop_assert_eq!(of_source.clone().map(|gap| gap.count).sum::<u64>(), missing(&seqs));
            let kind = if source.lines[0].msgid.is_some() { GapKind::NeverSent } else { GapKind::Unknown };
            prop_assert!(of_source.clone().all(|gap| gap.kind == kind));
        }
    }

    /// What is lost is missing, and nothing else: whole lines are gaps of their kind, fragments are holes.
    #[test]
    fn loss_is_told_exactly(seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let sources: Vec<_> = (1..4).map(|ip| source(&mut dice, ip, 60, 5000)).collect();
        let mut parts = parts(&mut dice, &sources);
        parts.retain(|_| !dice.one_in(8));
        let parts = dice.jitter(parts, 6);
        let (kept, _) = decode_all(config(), &send(&sources, &parts));
        let mut came: BTreeMap<(usize, usize), Vec<std::ops::Range<usize>>> = BTreeMap::new();
        for (source, line, range, _) in &parts {
            came.entry((*source, *line)).or_default().push(range.clone());
        }
        for (at, source) in sources.iter().enumerate() {
            let records = of(&kept, source);
            let lines: Vec<_> = came.iter().filter(|((source, _), _)| *source == at).collect();
            prop_assert_eq!(records.len(), lines.len());
            let mut whole_msgids = true;
            for (((_, line), ranges), record) in lines.iter().zip(&records) {
                let line = &source.lines[*line];
                prop_assert_eq!(record.seq, Some(line.seq));
                let whole = ranges.len() == line.datagrams().len();
                prop_assert_eq!(record.flags.has(Flags::HOLES), !whole);
                if whole {
                    line.assert_same(record);
                } else {
                    whole_msgids = false;
                    prop_assert_eq!(record, &holed(line, ranges, record));
                }
            }
            let seqs: Vec<_> = lines.iter().map(|((_, line), _)| source.lines[*line].seq).collect();
            let count = |kind| -> u64 {
                let of_source = kept.gaps.iter().filter(|gap| gap.src_ip == records[0].src_ip && gap.kind == kind);
                of_source.map(|gap| gap.count).sum()
            };
            if source.lines[0].msgid.is_none() {
                prop_assert_eq!(count(GapKind::Unknown), missing(&seqs));
            } else if whole_msgids {
                let (first, last) = (lines[0].0.1, lines[lines.len() - 1].0.1);
                let lost = (last - first + 1 - lines.len()) as u64;
                prop_assert_eq!(count(GapKind::LostOnTheWay), lost);
                prop_assert_eq!(count(GapKind::NeverSent), missing(&seqs) - lost);
            }
        }
    }
}

/// What `record` has to be for a line of which only `ranges` of the body came.
fn holed(line: &Line, ranges: &[std::ops::Range<usize>], record: &Record) -> Record {
    let body = line.body_with_holes(ranges);
    let datagram = format!("{},{},{},-,caller={};{body}", line.prio, line.seq, line.usec, line.caller.unwrap_or(""));
    let (header, _) = Header::parse(datagram.as_bytes()).unwrap_or_else(|| panic!("{datagram}"));
    // The text of a holed line is only known to be what the same escaped body gives when it comes whole.
    let mut expected = Record { flags: Flags::HOLES | Flags::INCOMPLETE, ..record.clone() };
    expected.message.clear();
    expected.msgid.clear();
    expected.caller.clear();
    expected.release.clear();
    expected.fields.clear();
    body::decode(&header, body.as_bytes(), &mut Vec::new(), &mut expected);
    if let Some(release) = line.release.filter(|_| expected.release.is_empty()) {
        expected.release.push_str(release);
    }
    expected
}

#[test]
fn the_longest_message_in_any_order() {
    let line = Line { text: "x".repeat(65_990), caller: Some("T1"), ..Line::new(7, "") };
    let datagrams: Vec<_> = line.datagrams().into_iter().map(|(bytes, _)| bytes).collect();
    assert!(datagrams.len() > 66);
    for order in 0..3 {
        let mut sent: Vec<_> = datagrams.iter().map(|bytes| datagram(0, 6666, bytes)).collect();
        match order {
            0 => sent.reverse(),
            1 => sent = Dice::new(3).jitter(sent, 100),
            _ => {}
        }
        let (kept, _) = decode_all(config(), &sent);
        assert_eq!(kept.records.len(), 1);
        line.assert_same(&kept.records[0]);
    }
}

#[test]
fn two_targets_of_one_host_are_two_flows() {
    let line = Line::new(1, "hello");
    let bytes = &line.datagrams()[0].0;
    let sent = [datagram(0, 6666, bytes), datagram(0, 6666, bytes), datagram(0, 6667, bytes)];
    let (kept, stats) = decode_all(config(), &sent);
    assert_eq!((kept.records.len(), stats.duplicate_messages), (2, 1));
}

#[test]
fn a_second_copy_is_known_after_the_first_has_left() {
    let line = Line { text: "y".repeat(2000), ..Line::new(1, "") };
    let mut sent: Vec<_> = line.datagrams().iter().map(|(bytes, _)| datagram(0, 6666, bytes)).collect();
    sent.push(datagram(0, 6666, &Line::new(2, "short").datagrams()[0].0));
    let later: Vec<_> = sent.iter().map(|sent| Sent { time_ns: sent.time_ns + 500_000_000, ..sent.clone() }).collect();
    let (kept, stats) = decode_all(config(), &[sent.clone(), later].concat());
    assert_eq!(kept.records.len(), 2);
    assert_eq!(stats.duplicate_messages + stats.duplicate_fragments, sent.len() as u64);
}

#[test]
fn a_lost_fragment_is_waited_for_and_then_marked() {
    let line = Line { text: "z".repeat(1500), ..Line::new(1, "") };
    let fragments = line.datagrams();
    let next = Line::new(2, "next").datagrams();
    let mut decoder = Decoder::new(config());
    let mut kept = Kept::default();
    decoder.push(&datagram(0, 6666, &fragments[1].0).raw(), &mut kept);
    decoder.push(&datagram(1_000_000, 6666, &next[0].0).raw(), &mut kept);
    decoder.advance(START_NS + 900_000_000, &mut kept);
    assert!(kept.records.is_empty());
    decoder.advance(START_NS + 1_100_000_000, &mut kept);
    let seqs: Vec<_> = kept.records.iter().map(|record| record.seq.unwrap()).collect();
    assert_eq!(seqs, [1, 2]);
    let lost = fragments[0].1.len();
    assert_eq!(kept.records[0].message, format!("[{lost} bytes lost]{}", "z".repeat(1500 - lost)));
    // The fragment comes after all: it is neither thrown away nor taken for a whole message.
    decoder.push(&datagram(1_200_000_000, 6666, &fragments[0].0).raw(), &mut kept);
    decoder.flush(&mut kept);
    assert!(kept.records[2].flags.has(Flags::LATE | Flags::HOLES));
    assert!(kept.records[2].message.starts_with("zzz"));
}

#[test]
fn continuations_join_the_line_of_their_caller() {
    let part = |seq, caller, continuation, text: &str| {
        let line = Line { caller: Some(caller), continuation, msgid: Some(seq as u32), ..Line::new(seq, text) };
        datagram(seq * 1000, 6666, &line.datagrams()[0].0)
    };
    let sent = [
        part(1, "T1", false, "loading"),
        part(2, "T2", false, "other"),
        part(3, "T1", true, " ... "),
        part(4, "T1", true, "done"),
        part(5, "T1", false, "next"),
        part(6, "T3", true, "orphan"),
    ];
    let (kept, stats) = decode_all(config(), &sent);
    let messages: Vec<_> = kept.records.iter().map(|record| record.message.as_str()).collect();
    assert_eq!(messages, ["loading ... done", "other", "next", "orphan"]);
    assert_eq!(kept.records[0].flags, Flags::JOINED);
    assert_eq!(kept.records[3].flags, Flags::ORPHAN);
    assert_eq!((stats.continuations_joined, stats.continuations_orphaned), (2, 1));
    assert_eq!(kept.gaps, []);
}

#[test]
fn a_boot_starts_seq_and_clock_anew() {
    let mut sent = Vec::new();
    for (boot, first_usec) in [(0, 900_000_000), (1, 1_000_000)] {
        for seq in 0..3_u64 {
            let usec = first_usec + seq;
            // The first boot's seqs are high, the second's low.
            let line = Line { usec, ..Line::new(seq + (1 - boot) * 500, "up") };
            sent.push(datagram(boot * 10_000_000_000 + seq * 1000, 6666, &line.datagrams()[0].0));
        }
    }
    let (kept, stats) = decode_all(config(), &sent);
    assert_eq!((kept.records.len(), stats.boots, kept.gaps.len(), stats.late_records), (6, 1, 0, 0));
    let last = kept.records[5].event_time.unwrap();
    assert!(last.ns.abs_diff((START_NS + 10_000_000_000).cast_signed()) <= last.error_ns);
}

#[test]
fn the_kernels_clock_becomes_the_time_of_day() {
    // A boot an hour before; ways of 0 to 3 ms.
    let mut sent = Vec::new();
    for at in 0..200_u64 {
        let line = Line { usec: 3_600_000_000 + at * 10_000, ..Line::new(at, "tick") };
        sent.push(datagram(at * 10_000_000 + (at * 7 % 4) * 1_000_000, 6666, &line.datagrams()[0].0));
    }
    let (kept, _) = decode_all(config(), &sent);
    for (at, record) in kept.records.iter().enumerate() {
        let time = record.event_time.unwrap();
        let happened = START_NS + at as u64 * 10_000_000;
        assert!(time.ns.abs_diff(happened.cast_signed()) <= time.error_ns);
    }
    assert!(kept.records[199].event_time.unwrap().error_ns < 10_000_000);
}

/// A machine boots for five minutes before netconsole can send: all of it comes in 10 ms, then lines come as they are made.
#[test]
fn boot_messages_that_come_late_are_within_their_error() {
    for extended in [true, false] {
        let (burst, sent_s) = (300_u64, 300);
        let live = (0..10).map(|n| sent_s + 1 + n * 2).map(|second| (second, second * 1_000_000_000 + 300_000));
        let lines = (0..burst).map(|second| (second, sent_s * 1_000_000_000 + second * 33_000)).chain(live);
        let lines: Vec<(u64, u64)> = lines.collect();
        let sent: Vec<_> = (0..)
            .zip(&lines)
            .map(|(seq, (second, received_ns))| {
                let line = Line { usec: second * 1_000_000, ..Line::new(seq, "said at boot") };
                let basic = || format!("[{second:5}.000000] said at boot\n").into_bytes();
                let bytes = if extended { line.datagrams()[0].0.clone() } else { basic() };
                datagram(*received_ns, 6666, &bytes)
            })
            .collect();
        let (kept, _) = decode_all(config(), &sent);
        assert_eq!(kept.records.len(), lines.len());
        for (record, (second, _)) in kept.records.iter().zip(&lines) {
            let time = record.event_time.unwrap();
            let off_ns = time.ns.abs_diff((START_NS + second * 1_000_000_000).cast_signed());
            assert!(off_ns <= time.error_ns, "extended {extended}, {second} s: {off_ns} > {}", time.error_ns);
        }
        // By the first that came as it was made, 300 us late, all later ones are told.
        let last = kept.records.last().unwrap().event_time.unwrap();
        assert!(last.error_ns < 10_000_000, "{last:?}");
        assert_eq!(last.ns, (START_NS + lines.last().unwrap().1).cast_signed());
    }
}

#[test]
fn a_crash_is_one_record() {
    let said = [
        "------------[ cut here ]------------",
        "kernel BUG at mm/slub.c:305!",
        "RIP: 0010:kfree+0x1",
        "---[ end trace 0000000000000000 ]---",
    ];
    let mut sent = Vec::new();
    for (at, text) in said.iter().enumerate() {
        let seq = at as u64 * 2;
        let crash = Line { caller: Some("C1"), prio: if at == 1 { 2 } else { 4 }, ..Line::new(seq, text) };
        let other = Line { caller: Some("T9"), ..Line::new(seq + 1, "eth0: up") };
        for line in [crash, other] {
            sent.push(datagram(seq * 1000, 6666, &line.datagrams()[0].0));
        }
    }
    let (kept, stats) = decode_all(config(), &sent);
    assert_eq!((kept.records.len(), stats.crash_records), (5, 1));
    let crash = kept.records.iter().find(|record| record.flags.has(Flags::CRASH)).unwrap();
    assert_eq!(crash.message, said.join("\n"));
    assert_eq!((crash.parts, crash.severity, crash.caller.as_str()), (4, Some(2), "C1"));
}
