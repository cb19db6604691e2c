//! The store as a whole: nothing lost, nothing twice, wherever a conversion ends.

pub(crate) mod spooler;

use std::{collections::BTreeMap, fs, path::Path};

use super::*;
use crate::sink::{
    decode::{Decoder, Gap, Output},
    query::{self, LogQuery, OutputFormat},
    record::Record,
};
use spooler::{Datagram, START_NS, Spooler, traffic};

/// After all time-outs of the traffic.
const LATER_NS: u64 = START_NS + 86_400_000_000_000;

fn decode_config() -> DecodeConfig {
    DecodeConfig { seed: 11, ..DecodeConfig::default() }
}

fn config(dir: &Path) -> StoreConfig {
    StoreConfig { decode: decode_config(), min_free_bytes: 0, ..StoreConfig::new(dir) }
}

/// What one decoder without a store makes of it, as the JSON lines that a query prints, sorted; and gaps.
fn expected(sent: &[Datagram]) -> (Vec<String>, u64) {
    #[derive(Default)]
    struct Kept(Vec<Record>, u64);
    impl Output for Kept {
        fn record(&mut self, record: &Record) {
            self.0.push(record.clone());
        }
        fn gap(&mut self, gap: &Gap) {
            self.1 += gap.count;
        }
    }
    let mut kept = Kept::default();
    let mut decoder = Decoder::new(decode_config());
    sent.iter().for_each(|datagram| decoder.push(&datagram.raw(), &mut kept));
    decoder.flush(&mut kept);
    let mut lines: Vec<String> = query::json_lines(&kept.0);
    lines.sort();
    (lines, kept.1)
}

/// All that a query finds, sorted.
fn found(dir: &Path) -> Vec<String> {
    let query = LogQuery { format: OutputFormat::JsonLines, decode: decode_config(), ..LogQuery::default() };
    let mut out = Vec::new();
    query::run(dir, &query, &mut out, &false.into()).unwrap();
    let mut lines: Vec<String> = String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn gaps_found(dir: &Path) -> u64 {
    let query =
        LogQuery { format: OutputFormat::JsonLines, gaps: true, decode: decode_config(), ..LogQuery::default() };
    let mut out = Vec::new();
    query::run(dir, &query, &mut out, &false.into()).unwrap();
    let gaps = String::from_utf8(out).unwrap();
    gaps.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["count"].as_u64().unwrap()).sum()
}

/// `count` sealed segments and one that is being written.
fn spool(dir: &Path, sent: &[Datagram], count: usize) {
    for (at, part) in sent.chunks(sent.len().div_ceil(count + 1)).enumerate() {
        let mut spooler = Spooler::create(dir, at as u64 + 1);
        part.chunks(50).for_each(|batch| spooler.append(batch));
        if at < count {
            spooler.seal();
        }
    }
}

fn files(dir: &Path) -> Vec<StoredFile> {
    Layout::new(dir).files(&mut |path| panic!("left over: {path:?}")).unwrap()
}

#[test]
fn stored_is_what_was_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let sent = traffic(3, 3000);
    let (expected, missing) = expected(&sent);
    spool(dir.path(), &sent, 3);
    // From the spool alone, before any conversion.
    assert_eq!(found(dir.path()), expected);
    assert_eq!(gaps_found(dir.path()), missing);
    let mut converter = Converter::open(config(dir.path())).unwrap();
    for segment in 1..=3 {
        let Step::Converted { segment: converted, records } = converter.step(LATER_NS).unwrap() else { panic!() };
        assert_eq!(converted, segment);
        assert!(records > 0 && !Layout::new(dir.path()).segment(segment).exists());
        // Part of it from Parquet, part from the spool.
        assert_eq!(found(dir.path()), expected);
        assert_eq!(gaps_found(dir.path()), missing);
    }
    assert_eq!(converter.step(LATER_NS).unwrap(), Step::Idle, "the last one is being written");
    let totals = converter.totals();
    let taken = totals["record_parts"] + totals["duplicate_messages"] + totals["duplicate_fragments"];
    assert_eq!(totals["datagrams"], taken + converter.pending_datagrams());
    assert_eq!(totals["segments"], 3);
}

#[test]
fn a_stopped_sink_leaves_all_in_parquet() {
    let dir = tempfile::tempdir().unwrap();
    let sent = traffic(4, 1000);
    let mut spooler = Spooler::create(dir.path(), 7);
    spooler.append(&sent);
    spooler.seal();
    let mut converter = Converter::open(config(dir.path())).unwrap();
    converter.finish(START_NS).unwrap();
    assert_eq!(converter.pending_datagrams(), 0);
    assert_eq!(fs::read_dir(dir.path().join("spool")).unwrap().count(), 0);
    assert_eq!(found(dir.path()), expected(&sent).0);
    // And the next sink's segments come behind it.
    let more = traffic(5, 100);
    let mut spooler = Spooler::create(dir.path(), 8);
    spooler.append(&more);
    spooler.seal();
    Converter::open(config(dir.path())).unwrap().finish(START_NS).unwrap();
    assert!(found(dir.path()).len() > expected(&sent).0.len());
}

#[test]
fn what_waits_is_stored_when_nothing_more_comes() {
    let dir = tempfile::tempdir().unwrap();
    let sent = traffic(6, 400);
    let mut spooler = Spooler::create(dir.path(), 1);
    spooler.append(&sent);
    spooler.seal();
    // The next one is there already, and empty.
    let _next = Spooler::create(dir.path(), 2);
    let mut converter = Converter::open(config(dir.path())).unwrap();
    let end_ns = sent.last().unwrap().time_ns;
    assert!(matches!(converter.step(end_ns).unwrap(), Step::Converted { .. }));
    assert!(converter.pending_datagrams() > 0);
    assert_eq!(converter.step(end_ns + 1_000_000_000).unwrap(), Step::Idle);
    assert!(matches!(converter.step(end_ns + 60_000_000_000).unwrap(), Step::Flushed { .. }));
    assert_eq!(converter.pending_datagrams(), 0);
    assert_eq!(found(dir.path()), expected(&sent).0);
}

/// The process ends at each point of the conversions in turn: readers see all of it at once, and the
/// next process stores each record once.
#[test]
fn killed_at_any_point_nothing_is_lost_or_doubled() {
    let sent = traffic(8, 1200);
    let (expected, missing) = expected(&sent);
    let mut points = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        spool(dir.path(), &sent, 2);
        // Small parts: several files a segment.
        let config = StoreConfig { part_bytes: 60_000, ..config(dir.path()) };
        let mut converter = Converter::open(config.clone()).unwrap();
        converter.fail_at(points);
        let ended = loop {
            match converter.step(LATER_NS) {
                Ok(Step::Idle) => break false,
                Ok(_) => {}
                Err(_) => break true,
            }
        };
        drop(converter);
        assert_eq!(found(dir.path()), expected, "point {points}");
        let mut converter = Converter::open(config).unwrap();
        while converter.step(LATER_NS).unwrap() != Step::Idle {}
        assert_eq!(found(dir.path()), expected, "point {points}, restarted");
        assert_eq!(gaps_found(dir.path()), missing);
        assert_eq!(converter.totals()["segments"], 2);
        if !ended {
            break;
        }
        points += 1;
    }
    assert!(points > 10, "{points}");
}

/// An interrupted conversion made more files than the next one makes: those who read the files without the
/// manifest find each record once as well.
#[test]
fn left_over_files_go_before_the_segment_is_converted_again() {
    let dir = tempfile::tempdir().unwrap();
    let sent = traffic(15, 800);
    let mut spooler = Spooler::create(dir.path(), 1);
    spooler.append(&sent);
    spooler.seal();
    let mut converter = Converter::open(StoreConfig { part_bytes: 30_000, ..config(dir.path()) }).unwrap();
    // Behind the third file, and in the middle of the fourth.
    converter.fail_at(6);
    assert!(converter.step(LATER_NS).is_err());
    drop(converter);
    let temporary =
        layout::temporary(&Layout::new(dir.path()).parquet(layout::FileId::default(), hour_of(START_NS), 9));
    fs::write(&temporary, "half a file").unwrap();
    Converter::open(config(dir.path())).unwrap().finish(START_NS).unwrap();
    let rows: i64 = files(dir.path())
        .iter()
        .filter(|file| !file.gaps)
        .map(|file| {
            let read = parquet::file::reader::SerializedFileReader::new(fs::File::open(&file.path).unwrap()).unwrap();
            parquet::file::reader::FileReader::metadata(&read).file_metadata().num_rows()
        })
        .sum();
    assert_eq!(rows as usize, expected(&sent).0.len());
    assert!(!temporary.exists());
}

/// The same without a restart: what fails is done again.
#[test]
fn a_failed_step_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let sent = traffic(9, 600);
    spool(dir.path(), &sent, 2);
    let mut converter = Converter::open(config(dir.path())).unwrap();
    converter.fail_at(2);
    assert!(converter.step(LATER_NS).is_err());
    converter.fail_at(1000);
    while converter.step(LATER_NS).unwrap() != Step::Idle {}
    assert_eq!(found(dir.path()), expected(&sent).0);
    assert_eq!(converter.totals()["segments"], 2);
}

#[test]
fn files_are_sorted_by_host_and_time_in_their_hour() {
    let dir = tempfile::tempdir().unwrap();
    let sent: Vec<Datagram> = (0..2000_u64)
        .map(|at| {
            let line = format!("<13>1 - host{} app - - - line {at}", at * 7 % 5);
            Datagram::new(START_NS + at * 10_000_000_000, 1, 514, line.as_bytes())
        })
        .collect();
    let mut spooler = Spooler::create(dir.path(), 1);
    spooler.append(&sent);
    spooler.seal();
    Converter::open(config(dir.path())).unwrap().finish(START_NS).unwrap();
    let files = files(dir.path());
    // 20,000 seconds from 22:13:20 on.
    let hours: Vec<_> =
        files.iter().map(|file| file.path.strip_prefix(dir.path().join("store")).unwrap().parent().unwrap()).collect();
    assert_eq!(hours[0], Path::new("date=2023-11-14/hour=22"));
    assert_eq!(hours.last().unwrap(), &Path::new("date=2023-11-15/hour=03"));
    for file in files {
        let read = fs::File::open(&file.path).unwrap();
        let reader =
            parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(read).unwrap().build().unwrap();
        let mut keys = Vec::new();
        for batch in reader {
            let batch = batch.unwrap();
            let mut record = Record::default();
            for row in 0..batch.num_rows() {
                query::read_row(&batch, row, &mut record);
                assert_eq!(hour_of(record.time_ns), file.hour_ns);
                keys.push((record.host.clone(), record.time_ns));
            }
        }
        assert!(keys.is_sorted());
    }
}

#[test]
fn retention_by_age_bytes_and_what_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    const HOUR_NS: u64 = 3_600_000_000_000;
    for segment in 1..=5_u64 {
        let line = "x".repeat(300);
        let sent: Vec<_> = (0..100)
            .map(|at| Datagram::new(START_NS + segment * HOUR_NS + at, 1, 514, format!("<13>{at} {line}").as_bytes()))
            .collect();
        let mut spooler = Spooler::create(dir.path(), segment);
        spooler.append(&sent);
        spooler.seal();
    }
    let mut converter = Converter::open(config(dir.path())).unwrap();
    converter.finish(START_NS).unwrap();
    assert_eq!(files(dir.path()).len(), 5);
    // The hours begin at 23:00; the first ended at 00:00.
    let ended_ns = hour_of(START_NS) + 2 * HOUR_NS;
    converter.config_mut().keep_ns = Some(HOUR_NS);
    assert_eq!(converter.retain(ended_ns + HOUR_NS - 1).unwrap().files, 0);
    assert_eq!(converter.retain(ended_ns + HOUR_NS).unwrap().files, 1);
    assert!(!dir.path().join("store/date=2023-11-14").exists(), "an empty day goes too");
    let size = fs::metadata(&files(dir.path())[0].path).unwrap().len();
    converter.config_mut().keep_bytes = Some(size * 5 / 2);
    let removed = converter.retain(0).unwrap();
    assert_eq!((removed.files, files(dir.path()).len()), (2, 2));
    assert!(removed.bytes > 0);
    // A disk that is never free enough loses all, but nothing that a commit does not know of.
    converter.config_mut().min_free_bytes = u64::MAX;
    let foreign = files(dir.path())[0].path.with_file_name("000000000009-000-000.parquet");
    fs::write(&foreign, "").unwrap();
    converter.retain(0).unwrap();
    assert_eq!(files(dir.path()).iter().map(|file| file.path.clone()).collect::<Vec<_>>(), [foreign]);
    assert_eq!(converter.removed().files, 5);
}

#[test]
fn a_damaged_segment_is_kept_and_read_up_to_the_damage() {
    let dir = tempfile::tempdir().unwrap();
    let sent: Vec<_> =
        (0..200).map(|at| Datagram::new(START_NS + at, 1, 514, format!("<13>line {at}").as_bytes())).collect();
    let mut spooler = Spooler::create(dir.path(), 1);
    spooler.append(&sent[..100]);
    let good = spooler.len();
    spooler.append(&sent[100..]);
    spooler.seal();
    let path = Layout::new(dir.path()).segment(1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[good as usize] ^= 0xff;
    fs::write(&path, bytes).unwrap();
    let mut converter = Converter::open(config(dir.path())).unwrap();
    assert_eq!(found(dir.path()).len(), 100, "a query reads what is before the damage");
    assert_eq!(converter.step(LATER_NS).unwrap(), Step::Idle, "it may be the one that is being written");
    let mut next = Spooler::create(dir.path(), 2);
    next.append(&sent[..1]);
    assert_eq!(converter.step(LATER_NS).unwrap(), Step::Converted { segment: 1, records: 100 });
    assert_eq!(converter.totals()["segments_damaged"], 1);
    assert!(path.with_extension("arrows.damaged").exists() && !path.exists());
    assert_eq!(found(dir.path()).len(), 101);
}

#[test]
fn an_end_mark_in_a_payload_seals_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut spooler = Spooler::create(dir.path(), 1);
    for len in 0..64 {
        // At any alignment, with the zeros that pad a buffer behind it.
        let payload = [vec![b'x'; len], vec![0xff; 4], vec![0; 4]].concat();
        spooler.append(&[Datagram::new(START_NS, 1, 9, &payload)]);
        let mut reader = SegmentReader::open(&Layout::new(dir.path()).segment(1)).unwrap().unwrap();
        assert_eq!(reader.survey().unwrap(), (false, true));
    }
    let mut converter = Converter::open(config(dir.path())).unwrap();
    assert_eq!(converter.step(LATER_NS).unwrap(), Step::Idle);
    spooler.seal();
    assert_eq!(converter.step(LATER_NS).unwrap(), Step::Converted { segment: 1, records: 64 });
}

#[test]
fn a_segment_that_is_cut_anywhere_gives_its_whole_batches() {
    let dir = tempfile::tempdir().unwrap();
    let sent: Vec<_> = (0..30).map(|at| Datagram::new(START_NS + at, 1, 514, b"<13>x")).collect();
    let mut spooler = Spooler::create(dir.path(), 1);
    let mut ends = vec![(spooler.len(), 0)];
    for batch in sent.chunks(10) {
        spooler.append(batch);
        ends.push((spooler.len(), ends.len() * 10));
    }
    spooler.seal();
    let path = Layout::new(dir.path()).segment(1);
    let bytes = fs::read(&path).unwrap();
    for cut in (0..bytes.len()).step_by(7) {
        fs::write(&path, &bytes[..cut]).unwrap();
        let whole = ends.iter().rev().find(|(end, _)| *end <= cut as u64).map_or(0, |(_, rows)| *rows);
        assert_eq!(found(dir.path()).len(), whole, "cut at {cut}");
    }
}

#[test]
fn a_thread_converts_until_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let sent = traffic(12, 500);
    let thread =
        ConverterThread::start(Converter::open(config(dir.path())).unwrap(), std::time::Duration::from_millis(1));
    for (at, part) in sent.chunks(100).enumerate() {
        let mut spooler = Spooler::create(dir.path(), at as u64);
        spooler.append(part);
        spooler.seal();
    }
    let converter = thread.stop().unwrap();
    assert_eq!(converter.totals()["datagrams"], 500);
    assert_eq!(found(dir.path()), expected(&sent).0);
}

/// A sink that has lost its ledger, or a segment put back by hand: what is not in the store stays.
#[test]
fn a_segment_with_a_used_number_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(next_segment(dir.path()), 0);
    let sent = traffic(14, 100);
    let write = |segment, sent: &[Datagram]| {
        let mut spooler = Spooler::create(dir.path(), segment);
        spooler.append(sent);
        spooler.seal();
    };
    let path = |segment| Layout::new(dir.path()).segment(segment);
    write(1, &sent);
    let stored = fs::read(path(1)).unwrap();
    write(2, &sent);
    Converter::open(config(dir.path())).unwrap().finish(START_NS).unwrap();
    assert_eq!(next_segment(dir.path()), 3);
    for segment in [1, 2] {
        write(segment, &sent[..50]);
        let error = Converter::open(config(dir.path())).unwrap().step(START_NS).unwrap_err();
        assert!(matches!(&error, StoreError::Reused { path: reused } if *reused == path(segment)), "{error}");
        assert!(path(segment).exists());
        fs::remove_file(path(segment)).unwrap();
    }
    // The last one, as it was stored, is only a left-over.
    fs::write(path(2), stored).unwrap();
    assert_eq!(Converter::open(config(dir.path())).unwrap().step(START_NS).unwrap(), Step::Idle);
    assert!(!path(2).exists());
    // The files know the number too.
    fs::remove_file(Layout::new(dir.path()).manifest()).unwrap();
    assert_eq!(next_segment(dir.path()), 3);
}

/// The totals of all restarts close the ledger.
#[test]
fn totals_survive_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let sent = traffic(13, 900);
    let mut totals = BTreeMap::new();
    for (at, part) in sent.chunks(300).enumerate() {
        let mut spooler = Spooler::create(dir.path(), at as u64);
        spooler.append(part);
        spooler.seal();
        let mut converter = Converter::open(config(dir.path())).unwrap();
        while converter.step(START_NS).unwrap() != Step::Idle {}
        totals = converter.totals().clone();
        let taken = totals["record_parts"] + totals["duplicate_messages"] + totals["duplicate_fragments"];
        assert_eq!(totals["datagrams"], taken + converter.pending_datagrams());
    }
    assert_eq!((totals["datagrams"], totals["segments"]), (900, 3));
}
