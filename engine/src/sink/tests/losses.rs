//! Gaps: what the sink dropped, what never came to it, and what was never sent, each told as what it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::AtomicBool,
};

use serde_json::Value;

use super::*;
use query::{LogQuery, OutputFormat};
use store::{Converter, StoreConfig};

/// A kernel that sends extended netconsole with msgids.
#[derive(Default)]
struct Kernel {
    source: u8,
    seq: u64,
    msgid: u32,
    /// Seqs that came to the sink.
    came: BTreeSet<u64>,
    lost_on_the_way: u64,
    never_sent: u64,
}

impl Kernel {
    /// The next datagram, if it comes to the sink.
    fn next(&mut self, severity: u64) -> Option<Vec<u8>> {
        self.seq += 1;
        if self.seq.is_multiple_of(13) {
            self.never_sent += 1;
            return None;
        }
        self.msgid += 1;
        if self.seq.is_multiple_of(29) {
            self.lost_on_the_way += 1;
            return None;
        }
        self.came.insert(self.seq);
        let Kernel { seq, msgid, source, .. } = self;
        Some(format!("{severity},{seq},{},-;line {seq} of {source}\n msgid={msgid}\n", *seq * 100).into_bytes())
    }
}

/// `netpoll logs`, as objects.
fn logs(dir: &Path, gaps: bool) -> Vec<Value> {
    let decode =
        decode::DecodeConfig { listeners: vec![(0..=u16::MAX, decode::Listen::Netconsole)], ..Default::default() };
    let query = LogQuery { gaps, format: OutputFormat::JsonLines, decode, ..LogQuery::default() };
    let mut out = Vec::new();
    query::run(dir, &query, &mut out, &AtomicBool::new(false)).unwrap();
    String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn convert(dir: &Path) {
    let decode =
        decode::DecodeConfig { listeners: vec![(0..=u16::MAX, decode::Listen::Netconsole)], ..Default::default() };
    Converter::open(StoreConfig { decode, min_free_bytes: 0, ..StoreConfig::new(dir) }).unwrap().finish(0).unwrap();
}

/// Sums of `count` by what `key` makes of a gap.
fn sums<K: Ord>(gaps: &[Value], kind: &str, key: impl Fn(&Value) -> K) -> BTreeMap<K, u64> {
    let mut sums = BTreeMap::new();
    for gap in gaps.iter().filter(|gap| gap["kind"] == kind) {
        *sums.entry(key(gap)).or_default() += gap["count"].as_u64().unwrap();
    }
    sums
}

fn source(value: &Value) -> String {
    value["src_ip"].as_str().unwrap().to_owned()
}

/// The writer stalls, then the disk is full, then all is well again: three kernels' messages, and a fourth source's lines
/// without any number. The gaps say exactly what became of those that are not there.
#[test]
fn every_missing_message_is_told_as_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let faults = disk.0.clone();
    let config =
        SinkConfig { retry_for: Duration::ZERO, flush_interval: Duration::ZERO, ..SinkConfig::new(dir.path()) };
    let sink = Sink::open_on(small(config), Arc::new(disk)).unwrap();
    let mut lane = Lane::new(&sink);
    let mut kernels = [1, 2, 3].map(|source| Kernel { source, ..Kernel::default() });
    let mut plain = 0_u64;
    let mut round = |lane: &mut Lane, count: u64| {
        for at in 0..count {
            for kernel in &mut kernels {
                let severity = (at + u64::from(kernel.source)) % 8;
                let source = kernel.source;
                kernel.next(severity).iter().for_each(|line| lane.deliver(source, [line.as_slice()]));
            }
            plain += 1;
            lane.deliver(9, [format!("<{}>line {plain}", plain % 8).as_bytes()]);
        }
    };
    let settled = |lane: &mut Lane| {
        wait_for("all is stored or dropped", || {
            lane.tick();
            sink.ledger().in_flight == 0
        });
    };
    round(&mut lane, 10);
    settled(&mut lane);
    faults.stall.store(true, Ordering::Relaxed);
    round(&mut lane, 2000);
    faults.stall.store(false, Ordering::Relaxed);
    settled(&mut lane);
    round(&mut lane, 10);
    settled(&mut lane);
    *faults.write.lock().unwrap() = Some(28);
    round(&mut lane, 50);
    settled(&mut lane);
    *faults.write.lock().unwrap() = None;
    // Only a write now and then is tried while it fails: until one works again, and a message of each is there.
    let before = sink.ledger().stored;
    wait_for("storing again", || {
        round(&mut lane, 1);
        settled(&mut lane);
        sink.ledger().stored > before + 40
    });
    drop(lane);
    let ledger = sink.stop();
    assert_settled(&ledger);
    for reason in ["shed_debug", "shed_emergency", "disk_full"] {
        assert!(ledger.drop_count(reason) > 0, "{reason}: {ledger}");
    }

    let check = |records: &[Value], gaps: &[Value]| {
        assert_eq!(records.len() as u64, ledger.stored);
        // By reason the ledger's own sums.
        let by_reason = sums(gaps, "lost_here", |gap| gap["reason"].as_str().unwrap().to_owned());
        let drops = ledger.drops.iter().filter(|reason| reason.count > 0);
        assert_eq!(by_reason, drops.map(|reason| (reason.name.clone(), reason.count)).collect());
        // By source what came and is not stored.
        let mut lost: BTreeMap<String, u64> = BTreeMap::new();
        for kernel in &kernels {
            lost.insert(format!("10.0.0.{}", kernel.source), kernel.came.len() as u64);
        }
        lost.insert("10.0.0.9".to_owned(), plain);
        records.iter().for_each(|record| *lost.get_mut(&source(record)).unwrap() -= 1);
        assert_eq!(sums(gaps, "lost_here", source), lost);
        // And the two others, by source.
        for (kind, count) in [
            ("lost_on_the_way", (|kernel| kernel.lost_on_the_way) as fn(&Kernel) -> u64),
            ("never_sent", |kernel| kernel.never_sent),
        ] {
            let expected: BTreeMap<_, _> =
                kernels.iter().map(|kernel| (format!("10.0.0.{}", kernel.source), count(kernel))).collect();
            let found = sums(gaps, kind, source);
            for (source, expected) in expected {
                // The last of them may have been the last of all: nothing came behind it.
                let found = found.get(&source).copied().unwrap_or(0);
                assert!(found == expected || found + 1 == expected, "{kind} {source}: {found} of {expected}");
            }
        }
        for kind in ["lost", "unknown"] {
            assert!(sums(gaps, kind, source).is_empty(), "{kind}: {gaps:#?}");
        }
    };
    // From the spool, and once it is Parquet.
    check(&logs(dir.path(), false), &logs(dir.path(), true));
    convert(dir.path());
    check(&logs(dir.path(), false), &logs(dir.path(), true));
}

/// Losses that nothing followed are written all the same, those of before the sink and of a crash without a source; a
/// gap at that time is not called one of the way.
#[test]
fn what_has_no_source_is_told_too() {
    let dir = tempfile::tempdir().unwrap();
    let config = || SinkConfig { flush_interval: Duration::ZERO, ..small(SinkConfig::new(dir.path())) };
    let sink = Sink::open(config()).unwrap();
    let mut lane = Lane::new(&sink);
    let line = |seq: u64, msgid: u64| format!("6,{seq},{seq}00,-;line\n msgid={msgid}\n").into_bytes();
    let too_long = [b"6,2,200,-;".as_slice(), &[b'x'; 9000]].concat();
    lane.deliver(1, [line(1, 1).as_slice(), &too_long]);
    sink.note_lost("nic_missed", 5);
    wait_for("written without a row behind it", || {
        lane.tick();
        logs(dir.path(), true).len() == 2
    });
    lane.deliver(1, [line(3, 3).as_slice(), &line(5, 5)]);
    drop(lane);
    assert_settled(&sink.stop());
    let kinds = |gaps: &[Value]| {
        let told = |gap: &Value| format!("{} {} {}", gap["count"], gap["kind"], gap["reason"]).replace('"', "");
        gaps.iter().map(told).collect::<BTreeSet<_>>()
    };
    let expected = ["1 lost null", "1 lost_here too_long", "5 lost_here nic_missed"].map(str::to_owned);
    assert_eq!(kinds(&logs(dir.path(), true)), expected.clone().into());
    // As a killed run leaves it: three more were delivered than are to be found.
    let path = dir.path().join("ledger");
    let ledger = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, ledger.replace("clean 1", "clean 0").replace("delivered 4", "delivered 7")).unwrap();
    let sink = Sink::open(config()).unwrap();
    wait_for("it is told", || logs(dir.path(), true).len() == 4);
    assert_eq!(sink.stop().drop_count("lost_in_crash"), 3);
    convert(dir.path());
    let expected = expected.into_iter().chain(["3 lost_here lost_in_crash".to_owned()]).collect();
    assert_eq!(kinds(&logs(dir.path(), true)), expected);
}

/// A kernel crashes while another source floods a writer that does not move: everything else is shed, the crash is one
/// record with all of its lines.
#[test]
fn a_crash_in_overload_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let faults = disk.0.clone();
    let config = SinkConfig { batches_per_queue: 64, ..small(SinkConfig::new(dir.path())) };
    let sink = Sink::open_on(config, Arc::new(disk)).unwrap();
    faults.stall.store(true, Ordering::Relaxed);
    let mut lane = Lane::new(&sink);
    let flood = |lane: &mut Lane| {
        for at in 0..10_000 {
            lane.deliver(2, [format!("<{}>{}", at % 8, "flood ".repeat(10)).as_bytes()]);
        }
    };
    flood(&mut lane);
    let mut text = vec!["------------[ cut here ]------------".to_owned()];
    text.extend((0..100).map(|at| format!(" frame_{at}+0x1/0x2")));
    text.push("---[ end trace 0000000000000000 ]---".to_owned());
    for (seq, line) in text.iter().enumerate() {
        lane.deliver(1, [format!("4,{seq},{seq}000,-,caller=C3;{line}\n").as_bytes()]);
        // What the same kernel says on another cpu meanwhile is protected with it.
        if seq % 10 == 5 {
            flood(&mut lane);
        }
    }
    faults.stall.store(false, Ordering::Relaxed);
    drop(lane);
    let ledger = sink.stop();
    assert_settled(&ledger);
    assert!(ledger.drop_count("shed_emergency") > 0, "nothing but the crash had a place: {ledger}");
    convert(dir.path());
    let records = logs(dir.path(), false);
    let crashes: Vec<_> = records.iter().filter(|record| record["flags"] == "crash").collect();
    assert_eq!(crashes.len(), 1);
    assert_eq!((source(crashes[0]), &crashes[0]["parts"]), ("10.0.0.1".to_owned(), &102.into()));
    assert_eq!(crashes[0]["message"].as_str().unwrap().lines().collect::<Vec<_>>(), text);
    let lost = sums(&logs(dir.path(), true), "lost_here", source);
    assert_eq!(lost, [("10.0.0.2".to_owned(), ledger.dropped())].into(), "{ledger}");
}
