//! The spool: everything arrives and is readable by Arrow's own reader, over rolls, restarts and faults.

use std::{collections::BTreeSet, fs::File};

use arrow_ipc::reader::StreamReader;

use super::{
    super::{
        disk::faulty::Faults,
        spool::{Segment, SegmentReader, segments, spool_dir},
    },
    *,
};

fn spool_config(dir: &Path) -> SinkConfig {
    let config = small(SinkConfig { text: None, ..SinkConfig::new(dir) });
    SinkConfig { flush_interval: Duration::from_millis(1), ..config }
}

/// Payloads of a segment by our reader, and whether it is finished.
fn read_segment(path: &Path) -> (Vec<Vec<u8>>, bool) {
    let mut reader = SegmentReader::open(path).unwrap();
    let mut payloads = Vec::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        payloads.extend(batch.iter().map(|row| row.payload.to_vec()));
    }
    (payloads, reader.is_finished())
}

/// All payloads of a stopped sink's spool: by our reader and by Arrow's, which must agree; all segments
/// must be finished.
fn read_all(dir: &Path) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for Segment { path, .. } in segments(dir).unwrap() {
        let (payloads, finished) = read_segment(&path);
        assert!(finished, "{}", path.display());
        let reader = StreamReader::try_new_buffered(File::open(&path).unwrap(), None).unwrap();
        let rows: usize = reader.map(|batch| batch.unwrap().num_rows()).sum();
        assert_eq!(rows, payloads.len());
        all.extend(payloads);
    }
    all
}

fn deliver_paced(sink: &Sink, lane: &mut Lane, lines: &[Vec<u8>]) {
    for block in lines.chunks(100) {
        lane.deliver(1, block.iter().map(Vec::as_slice));
        wait_for("the writer keeps up", || {
            lane.tick();
            sink.stats().writer.taken_rows + 300 > sink.stats().all_queues().delivered
        });
    }
}

#[test]
fn what_goes_in_comes_out_over_rolls_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let roll = SpoolConfig { roll_bytes: 40_000, ..SpoolConfig::default() };
    let config = SinkConfig { spool: Some(roll), text: Some(TextConfig::default()), ..spool_config(dir.path()) };
    let mut numbers = BTreeSet::new();
    for run in 0..3 {
        let sink = Sink::open(config.clone()).unwrap();
        let mut lane = Lane::new(&sink);
        deliver_paced(&sink, &mut lane, &lines(run * 2000..run * 2000 + 2000));
        wait_for("rolls", || sink.stats().primary.rolls > 0);
        drop(lane);
        let ledger = sink.stop();
        assert_settled(&ledger);
        assert_eq!(ledger.stored as usize, run * 2000 + 2000, "{ledger}");
        let before = numbers.len();
        numbers.extend(segments(dir.path()).unwrap().into_iter().map(|segment| segment.number));
        assert!(numbers.len() > before + 1, "several segments a run, no number twice");
    }
    assert_eq!(read_all(dir.path()), lines(0..6000));
    // The text beside it has them too.
    let expected: Vec<_> = lines(0..6000).into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
    assert_eq!(messages(&dir.path().join("netpoll.log")), expected);
    // Whoever converts a segment removes it; its number is not used again all the same.
    for Segment { path, .. } in segments(dir.path()).unwrap() {
        std::fs::remove_file(path).unwrap();
    }
    let sink = Sink::open(config).unwrap();
    Lane::new(&sink).deliver(1, [&b"x"[..]]);
    sink.stop();
    assert!(segments(dir.path()).unwrap()[0].number > *numbers.last().unwrap());
}

#[test]
fn addresses_ports_and_times_survive() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::open(spool_config(dir.path())).unwrap();
    let mut hook = sink.hooks().hook(QueueId(3));
    let sent = DatagramBuf::new(
        "[2001:db8::7]:65535".parse().unwrap(),
        "192.0.2.1:6666".parse().unwrap(),
        b"\0\xff payload \n",
    );
    let now = Now { mono_ns: 1, real_ns: 1_795_443_419_000_123_456 };
    hook.rx_hook(&NoSend, &RxBurst { now, datagrams: &[sent.datagram()] });
    drop(hook);
    assert_settled(&sink.stop());
    let path = &segments(dir.path()).unwrap()[0].path;
    let batch = SegmentReader::open(path).unwrap().next_batch().unwrap().unwrap();
    let expected = RawDatagram {
        time_ns: now.real_ns,
        src_ip: "2001:db8::7".parse().unwrap(),
        src_port: 65_535,
        dst_ip: "192.0.2.1".parse().unwrap(),
        dst_port: 6666,
        payload: b"\0\xff payload \n",
    };
    assert_eq!(batch.iter().collect::<Vec<_>>(), [expected]);
}

#[test]
fn the_tail_can_be_followed_while_it_grows() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::open(spool_config(dir.path())).unwrap();
    let mut lane = Lane::new(&sink);
    let path = segments(dir.path()).unwrap()[0].path.clone();
    let mut reader = SegmentReader::open(&path).unwrap();
    let mut seen = Vec::new();
    for number in 0..20 {
        lane.deliver(1, [&line(number)[..]]);
        wait_for("the line to be readable", || {
            lane.tick();
            while let Some(batch) = reader.next_batch().unwrap() {
                seen.extend(batch.iter().map(|row| row.payload.to_vec()));
            }
            seen.len() == number + 1
        });
        assert!(!reader.is_finished());
    }
    assert_eq!(seen, lines(0..20));
    drop(lane);
    sink.stop();
    assert!(reader.next_batch().unwrap().is_none());
    assert!(reader.is_finished());
}

/// A directory as a killed sink leaves it: one unfinished segment of 3 batches. Where each message ends.
fn killed(dir: &Path) -> (std::path::PathBuf, Vec<u64>) {
    let sink = Sink::open(spool_config(dir)).unwrap();
    let mut lane = Lane::new(&sink);
    for number in 0..3 {
        lane.deliver(1, [&line(number)[..]]);
        wait_for("written", || {
            lane.tick();
            sink.stats().primary.written_rows == number as u64 + 1
        });
    }
    drop(lane);
    sink.stop();
    let path = segments(dir).unwrap()[0].path.clone();
    let mut reader = SegmentReader::open(&path).unwrap();
    let mut ends = Vec::new();
    while reader.next_batch().unwrap().is_some() {
        ends.push(reader.offset());
    }
    File::options().write(true).open(&path).unwrap().set_len(ends[2]).unwrap();
    let ledger = dir.join("ledger");
    let text = std::fs::read_to_string(&ledger).unwrap();
    // The last checkpoint came after the first batch; five had been delivered by then.
    let text = text.replace("clean 1", "clean 0").replace("delivered 3", "delivered 5").replace("stored 3", "stored 1");
    std::fs::write(&ledger, text.replace("checkpoint.rows 3", "checkpoint.rows 1")).unwrap();
    (path, ends)
}

#[test]
fn a_torn_tail_is_cut_and_counted_wherever_it_is_torn() {
    let original = tempfile::tempdir().unwrap();
    let (path, ends) = killed(original.path());
    let bytes = std::fs::read(&path).unwrap();
    let ledger = std::fs::read(original.path().join("ledger")).unwrap();
    let header = bytes.len() as u64 - (ends[2] - ends[0]) / 2 * 3;
    let cuts = (0..=bytes.len()).filter(|cut| cut % 41 == 0 || ends.iter().any(|&end| end.abs_diff(*cut as u64) < 3));
    for cut in cuts {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(spool_dir(dir.path())).unwrap();
        std::fs::write(spool_dir(dir.path()).join(path.file_name().unwrap()), &bytes[..cut]).unwrap();
        std::fs::write(dir.path().join("ledger"), &ledger).unwrap();
        let whole = ends.iter().filter(|&&end| end <= cut as u64).count();
        let sink = Sink::open(spool_config(dir.path())).unwrap();
        let stats = sink.stats().primary;
        let good = match whole {
            0 if (cut as u64) < header => 0,
            0 => header,
            _ => ends[whole - 1],
        };
        let torn = u64::from(cut as u64 > good);
        assert_eq!((stats.torn_tails, stats.torn_bytes), (torn, cut as u64 - good), "cut at {cut}");
        let found = whole.saturating_sub(1) as u64;
        assert_eq!(stats.recovered_rows, found, "cut at {cut}");
        let ledger = sink.stop();
        assert_settled(&ledger);
        assert_eq!((ledger.delivered, ledger.stored), (5, 1 + found), "cut at {cut}");
        assert_eq!(read_all(dir.path()), lines(0..whole));
    }
}

#[test]
fn a_damaged_tail_is_cut_too() {
    let dir = tempfile::tempdir().unwrap();
    let (path, ends) = killed(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    // As a power failure may leave it: the size is there, the contents are not.
    bytes[ends[1] as usize..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let sink = Sink::open(spool_config(dir.path())).unwrap();
    let stats = sink.stats().primary;
    assert_eq!((stats.torn_tails, stats.torn_bytes), (1, ends[2] - ends[1]));
    assert_settled(&sink.stop());
    assert_eq!(read_all(dir.path()), lines(0..2));
}

/// Delivers until `condition` holds, a batch every few milliseconds.
fn deliver_until(what: &str, lane: &mut Lane, number: &mut usize, mut condition: impl FnMut() -> bool) {
    wait_for(what, || {
        let lines = lines(*number..*number + 64);
        *number += 64;
        lane.deliver(1, lines.iter().map(Vec::as_slice));
        std::thread::sleep(Duration::from_millis(2));
        lane.tick();
        condition()
    });
}

fn faulty(dir: &Path, config: SinkConfig) -> (Sink, Arc<Faults>) {
    let disk = FaultyDisk::default();
    let faults = disk.0.clone();
    (Sink::open_on(SinkConfig { dir: dir.to_owned(), ..config }, Arc::new(disk)).unwrap(), faults)
}

#[test]
fn every_kind_of_write_error_is_counted_and_leaves_a_readable_segment() {
    for (errno, reason) in [(28, "disk_full"), (30, "read_only"), (5, "write_error")] {
        for partial in [0, 1, 700, 5000] {
            let dir = tempfile::tempdir().unwrap();
            let config = SinkConfig { retry_for: Duration::from_millis(15), ..spool_config(dir.path()) };
            let (sink, faults) = faulty(dir.path(), config);
            let (mut lane, mut number) = (Lane::new(&sink), 0);
            deliver_until("stored", &mut lane, &mut number, || sink.ledger().stored > 100);
            faults.partial.store(partial, Ordering::Relaxed);
            *faults.write.lock().unwrap() = Some(errno);
            deliver_until("drops", &mut lane, &mut number, || sink.ledger().drop_count(reason) > 200);
            *faults.write.lock().unwrap() = None;
            let before = sink.ledger().stored;
            deliver_until("storing again", &mut lane, &mut number, || sink.ledger().stored > before + 300);
            drop(lane);
            let ledger = sink.stop();
            assert_settled(&ledger);
            let all = read_all(dir.path());
            assert_eq!(all.len() as u64, ledger.stored, "{ledger}");
            assert!(all.is_sorted_by(|a, b| a < b), "each line once, in order");
        }
    }
}

#[test]
fn a_tail_that_cannot_be_cut_at_once_is_cut_later() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, faults) = faulty(dir.path(), SinkConfig { retry_for: Duration::ZERO, ..spool_config(dir.path()) });
    let (mut lane, mut number) = (Lane::new(&sink), 0);
    deliver_until("stored", &mut lane, &mut number, || sink.ledger().stored > 100);
    faults.partial.store(500, Ordering::Relaxed);
    *faults.truncate.lock().unwrap() = Some(5);
    *faults.write.lock().unwrap() = Some(28);
    deliver_until("drops", &mut lane, &mut number, || sink.ledger().drop_count("disk_full") > 0);
    *faults.write.lock().unwrap() = None;
    deliver_until("more drops", &mut lane, &mut number, || sink.ledger().drop_count("write_error") > 0);
    *faults.truncate.lock().unwrap() = None;
    let before = sink.ledger().stored;
    deliver_until("storing again", &mut lane, &mut number, || sink.ledger().stored > before);
    drop(lane);
    let ledger = sink.stop();
    assert_settled(&ledger);
    assert_eq!(read_all(dir.path()).len() as u64, ledger.stored);
}

#[test]
fn what_a_failed_sync_leaves_in_doubt_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let roll = SpoolConfig { roll_bytes: 30_000, ..SpoolConfig::default() };
    let config = SinkConfig { sync: SyncPolicy::EveryBatch, spool: Some(roll), ..spool_config(dir.path()) };
    let (sink, faults) = faulty(dir.path(), config);
    let (mut lane, mut number) = (Lane::new(&sink), 0);
    for round in 1..=3 {
        deliver_until("rolls", &mut lane, &mut number, || sink.stats().primary.rolls > 2 * round);
        *faults.sync.lock().unwrap() = Some(5);
        deliver_until("counted", &mut lane, &mut number, || sink.ledger().drop_count("sync_error") > 100 * round);
        *faults.sync.lock().unwrap() = None;
    }
    drop(lane);
    let ledger = sink.stop();
    assert_settled(&ledger);
    let all = read_all(dir.path());
    assert_eq!(all.len() as u64, ledger.stored, "{ledger}");
    assert!(all.is_sorted_by(|a, b| a < b));
}

#[test]
fn the_spool_keeps_to_its_size_and_goes_on_when_segments_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let spool = SpoolConfig { roll_bytes: 20_000, max_bytes: 80_000, ..SpoolConfig::default() };
    let config = SinkConfig { spool: Some(spool), retry_for: Duration::ZERO, ..spool_config(dir.path()) };
    let sink = Sink::open(config).unwrap();
    let (mut lane, mut number) = (Lane::new(&sink), 0);
    deliver_until("the limit", &mut lane, &mut number, || sink.ledger().drop_count("size_limit") > 200);
    let bytes: u64 = segments(dir.path()).unwrap().iter().map(|segment| segment.path.metadata().unwrap().len()).sum();
    assert!(bytes <= 80_000 + 2048, "{bytes}");
    // Take the finished ones, as the converter does.
    let mut taken = 0;
    for Segment { path, .. } in segments(dir.path()).unwrap() {
        let (payloads, finished) = read_segment(&path);
        if finished {
            taken += payloads.len() as u64;
            std::fs::remove_file(path).unwrap();
        }
    }
    assert!(taken > 0);
    let before = sink.ledger().stored;
    deliver_until("storing again", &mut lane, &mut number, || sink.ledger().stored > before);
    drop(lane);
    let ledger = sink.stop();
    assert_settled(&ledger);
    assert_eq!(read_all(dir.path()).len() as u64 + taken, ledger.stored);
}

#[test]
fn rolling_by_time_finishes_a_segment_without_more_traffic() {
    let dir = tempfile::tempdir().unwrap();
    let spool = SpoolConfig { roll_every: Duration::from_millis(50), ..SpoolConfig::default() };
    let sink = Sink::open(SinkConfig { spool: Some(spool), ..spool_config(dir.path()) }).unwrap();
    let mut lane = Lane::new(&sink);
    lane.deliver(1, [&b"alone"[..]]);
    let first = segments(dir.path()).unwrap()[0].path.clone();
    wait_for("finished", || {
        lane.tick();
        read_segment(&first) == (vec![b"alone".to_vec()], true)
    });
    drop(lane);
    assert_settled(&sink.stop());
    assert_eq!(read_all(dir.path()).len(), 1, "and no empty segment stays");
    assert_eq!(segments(dir.path()).unwrap().len(), 1);
}

#[test]
fn a_slow_sync_does_not_hold_the_writer_up() {
    let dir = tempfile::tempdir().unwrap();
    let spool = SpoolConfig { roll_bytes: 20_000, ..SpoolConfig::default() };
    let config = SinkConfig { spool: Some(spool), sync: SyncPolicy::EveryBatch, ..spool_config(dir.path()) };
    let (sink, faults) = faulty(dir.path(), config);
    faults.stall_sync.store(true, Ordering::Relaxed);
    let (mut lane, mut number) = (Lane::new(&sink), 0);
    deliver_until("written", &mut lane, &mut number, || sink.stats().primary.written_rows > 3000);
    let stats = sink.stats();
    assert_eq!((stats.primary.stored, stats.all_queues().batch_ring_full), (0, 0));
    faults.stall_sync.store(false, Ordering::Relaxed);
    drop(lane);
    let ledger = sink.stop();
    assert_settled(&ledger);
    assert_eq!(read_all(dir.path()).len() as u64, ledger.stored);
}

#[test]
fn a_sink_starts_on_a_full_disk_and_stores_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let faults = disk.0.clone();
    *faults.open.lock().unwrap() = Some(28);
    let config = SinkConfig { retry_for: Duration::ZERO, ..spool_config(dir.path()) };
    let sink = Sink::open_on(config, Arc::new(disk)).unwrap();
    let (mut lane, mut number) = (Lane::new(&sink), 0);
    deliver_until("drops", &mut lane, &mut number, || sink.ledger().drop_count("disk_full") > 0);
    *faults.open.lock().unwrap() = None;
    deliver_until("stored", &mut lane, &mut number, || sink.ledger().stored > 0);
    drop(lane);
    let ledger = sink.stop();
    assert_settled(&ledger);
    assert_eq!(read_all(dir.path()).len() as u64, ledger.stored);
}

/// A file system of 4 MiB of its own, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Result<SmallDisk, String> {
        let dir = tempfile::tempdir().unwrap();
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "netpoll-test"])
            .arg(dir.path())
            .output()
            .map_err(|error| error.to_string())?;
        if mount.status.success() {
            Ok(SmallDisk(dir))
        } else {
            Err(String::from_utf8_lossy(&mount.stderr).into_owned())
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_disk_that_is_really_full() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(why) => {
            eprintln!("skipped a_disk_that_is_really_full: a tmpfs cannot be mounted here: {why}");
            return;
        }
    };
    let dir = disk.0.path();
    let spool = SpoolConfig { roll_bytes: 500_000, ..SpoolConfig::default() };
    let config = SinkConfig { spool: Some(spool), retry_for: Duration::from_millis(20), ..spool_config(dir) };
    let sink = Sink::open(config).unwrap();
    let (mut lane, mut number) = (Lane::new(&sink), 0);
    let filler = dir.join("filler");
    std::fs::write(&filler, vec![0; 2 << 20]).unwrap();
    let mut taken = 0;
    for round in 1..=2 {
        deliver_until("full", &mut lane, &mut number, || sink.ledger().drop_count("disk_full") > 500 * round);
        let _ = std::fs::remove_file(&filler);
        for Segment { path, .. } in segments(dir).unwrap() {
            if let (payloads, true) = read_segment(&path) {
                taken += payloads.len() as u64;
                std::fs::remove_file(path).unwrap();
            }
        }
        let before = sink.ledger().stored;
        deliver_until("storing again", &mut lane, &mut number, || sink.ledger().stored > before + 500);
    }
    drop(lane);
    let ledger = sink.stop();
    assert_settled(&ledger);
    // The end-of-stream marker and the ledger of a segment may have found no room: so all that can be read.
    let left: u64 = segments(dir).unwrap().iter().map(|segment| read_segment(&segment.path).0.len() as u64).sum();
    assert_eq!(taken + left, ledger.stored, "{ledger}");
}

#[test]
fn text_and_policy_change_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let config = SinkConfig { sync: SyncPolicy::Every(Duration::from_secs(3600)), ..spool_config(dir.path()) };
    let sink = Sink::open(config.clone()).unwrap();
    let mut lane = Lane::new(&sink);
    let with_text = SinkConfig { text: Some(TextConfig::default()), ..config.clone() };
    let policies = [SyncPolicy::Never, SyncPolicy::EveryBatch, SyncPolicy::Every(Duration::from_secs(3600))];
    let steps = [&with_text, &config].into_iter().cycle().zip(policies.into_iter().cycle()).take(12);
    for (step, (config, sync)) in steps.enumerate() {
        deliver_paced(&sink, &mut lane, &lines(step * 500..step * 500 + 500));
        sink.reload(SinkConfig { sync, ..config.clone() }).unwrap();
        assert!(sink.ledger().delivered == (step as u64 + 1) * 500);
    }
    let error = sink.reload(SinkConfig { spool: None, ..with_text }).unwrap_err().to_string();
    assert_eq!(error, "spool cannot change while the sink runs");
    drop(lane);
    let ledger = sink.stop();
    assert_settled(&ledger);
    assert_eq!(ledger.stored, 6000, "{ledger}");
    assert_eq!(read_all(dir.path()), lines(0..6000));
    let text = messages(&dir.path().join("netpoll.log"));
    assert!((2000..5000).contains(&text.len()) && text.is_sorted_by(|a, b| a < b), "{}", text.len());
}

#[test]
fn a_sink_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Sink>();
}
