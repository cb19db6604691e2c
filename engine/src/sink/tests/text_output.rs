//! The text output: everything arrives, in order, over rolls, restarts and faults.

use super::*;

#[test]
fn every_datagram_becomes_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::open(small(SinkConfig::text_only(dir.path()))).unwrap();
    let mut lanes = [Lane::new(&sink), Lane::new(&sink)];
    for block in 0..50 {
        for (lane, source) in lanes.iter_mut().zip([1, 2]) {
            let lines = lines(block * 100..block * 100 + 100);
            lane.deliver(source, lines.iter().map(Vec::as_slice));
        }
        let delivered = sink.stats().all_queues().delivered;
        wait_for("the writer keeps up", || sink.stats().writer.taken_rows + 500 > delivered);
    }
    assert_eq!(sink.ledger().delivered, 10_000);
    drop(lanes);
    let ledger = sink.stop();
    assert_settled(&ledger);
    assert_eq!((ledger.delivered, ledger.stored), (10_000, 10_000), "{ledger}");
    let text = std::fs::read_to_string(dir.path().join("netpoll.log")).unwrap();
    for source in ["10.0.0.1:1001", "10.0.0.2:1002"] {
        let found: Vec<_> = text.lines().filter(|line| line.contains(source)).collect();
        assert_eq!(found.len(), 5000);
        for (number, found) in found.iter().enumerate() {
            assert!(found.ends_with(&format!("line {number:08}")), "{found}");
        }
    }
}

#[test]
fn a_few_lines_are_there_within_the_flush_interval() {
    let dir = tempfile::tempdir().unwrap();
    let config = SinkConfig { flush_interval: Duration::from_millis(20), ..SinkConfig::text_only(dir.path()) };
    let sink = Sink::open(small(config)).unwrap();
    let mut lane = Lane::new(&sink);
    lane.deliver(1, [&b"one\n"[..], b"two\0", b"three\nlines\nin one\n"]);
    assert_eq!(sink.ledger().in_flight, 3);
    wait_for("stored", || {
        lane.tick();
        sink.ledger().stored == 3
    });
    assert!(lane.start.elapsed() >= Duration::from_millis(20));
    assert_eq!(messages(&dir.path().join("netpoll.log")), ["one", "two", "three\\nlines\\nin one"]);
    assert_settled(&sink.ledger());
}

#[test]
fn restarts_add_up_and_a_torn_line_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("netpoll.log");
    let config = small(SinkConfig::text_only(dir.path()));
    for run in 1..=3 {
        let sink = Sink::open(config.clone()).unwrap();
        Lane::new(&sink).deliver(1, [&b"a line"[..], b"another"]);
        let ledger = sink.stop();
        assert_settled(&ledger);
        assert_eq!((ledger.delivered, ledger.stored), (run * 2, run * 2));
    }
    // As if the process had been killed: the ledger still shows the state before these lines.
    let ledger = std::fs::read_to_string(dir.path().join("ledger")).unwrap();
    std::fs::write(
        dir.path().join("ledger"),
        ledger.replace("clean 1", "clean 0").replace("delivered 6", "delivered 11"),
    )
    .unwrap();
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(b"T 1.2.3.4:5 whole\nT 1.2.3.4:5 whole too\nT 1.2.3.4:5 to");
    std::fs::write(&path, text).unwrap();
    let sink = Sink::open(config.clone()).unwrap();
    let stats = sink.stats().primary;
    assert_eq!((stats.torn_tails, stats.torn_bytes, stats.recovered_rows), (1, 14, 2));
    let ledger = sink.stop();
    assert_settled(&ledger);
    assert_eq!((ledger.delivered, ledger.stored, ledger.drop_count("lost_in_crash")), (11, 8, 3));
    assert_eq!(messages(&path).len(), 8);
    // A ledger that makes no sense is put aside; counting starts anew.
    std::fs::write(dir.path().join("ledger"), "rubbish").unwrap();
    assert_eq!(Sink::open(config).unwrap().stop().delivered, 0);
    assert_eq!(std::fs::read_to_string(dir.path().join("ledger.bad")).unwrap(), "rubbish");
}

#[test]
fn a_second_sink_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(SinkConfig::text_only(dir.path()));
    let sink = Sink::open(config.clone()).unwrap();
    let error = Sink::open(config.clone()).unwrap_err().to_string();
    assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    sink.stop();
    Sink::open(config).unwrap();
}

#[test]
fn files_roll_without_losing_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let text = TextConfig { roll_bytes: 20_000, keep_bytes: u64::MAX, ..TextConfig::default() };
    let config = SinkConfig { text: Some(text), ..SinkConfig::text_only(dir.path()) };
    let sink = Sink::open(small(config)).unwrap();
    let mut lane = Lane::new(&sink);
    for block in 0..100 {
        let lines = lines(block * 30..block * 30 + 30);
        lane.deliver(1, lines.iter().map(Vec::as_slice));
        wait_for("the writer keeps up", || sink.stats().writer.taken_rows + 300 > sink.stats().all_queues().delivered);
    }
    drop(lane);
    wait_for("rolls", || sink.stats().primary.rolls >= 3);
    let ledger = sink.stop();
    assert_settled(&ledger);
    assert_eq!(ledger.stored, 3000, "{ledger}");
    let mut files = rolled_files(dir.path());
    files.push(dir.path().join("netpoll.log"));
    assert!(files.len() >= 4, "{files:?}");
    let all: Vec<_> = files.iter().flat_map(|path| messages(path)).collect();
    let expected: Vec<_> = lines(0..3000).into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
    assert_eq!(all, expected);
    assert!(!dir.path().join(".netpoll.log.next").exists());
}

fn rolled_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("netpoll.log."));
    files.sort();
    files
}

#[test]
fn old_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let text = TextConfig { roll_bytes: 10_000, keep_bytes: 30_000, ..TextConfig::default() };
    let sink = Sink::open(small(SinkConfig { text: Some(text), ..SinkConfig::text_only(dir.path()) })).unwrap();
    let (mut lane, mut number) = (Lane::new(&sink), 0);
    wait_for("removed files", || {
        let lines = lines(number..number + 60);
        number += 60;
        lane.deliver(1, lines.iter().map(Vec::as_slice));
        sink.stats().primary.removed_files >= 3
    });
    drop(lane);
    assert_eq!(sink.stats().primary.housekeeping_errors, 0);
    assert_settled(&sink.stop());
    let left: u64 = rolled_files(dir.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(left <= 30_000, "{left}");
}

#[cfg(feature = "store")]
#[test]
fn rolled_files_are_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let text = TextConfig { roll_bytes: 10_000, zstd: true, ..TextConfig::default() };
    let sink = Sink::open(small(SinkConfig { text: Some(text), ..SinkConfig::text_only(dir.path()) })).unwrap();
    // What a crash left half done.
    std::fs::write(dir.path().join("netpoll.log.2020-01-01T000000.000000Z.zst.part"), "half").unwrap();
    let (mut lane, mut number) = (Lane::new(&sink), 0);
    wait_for("rolls", || {
        let lines = lines(number..number + 60);
        number += 60;
        lane.deliver(1, lines.iter().map(Vec::as_slice));
        sink.stats().primary.rolls >= 3
    });
    drop(lane);
    let ledger = sink.stop();
    assert_settled(&ledger);
    let mut text = Vec::new();
    for path in rolled_files(dir.path()) {
        assert!(path.to_str().unwrap().ends_with("Z.zst"), "{}", path.display());
        zstd::stream::copy_decode(std::fs::File::open(path).unwrap(), &mut text).unwrap();
    }
    text.extend_from_slice(&std::fs::read(dir.path().join("netpoll.log")).unwrap());
    assert_eq!(text.iter().filter(|&&byte| byte == b'\n').count() as u64, ledger.stored);
}

#[test]
fn a_full_disk_is_counted_and_storing_resumes() {
    for (errno, reason) in [(28, "disk_full"), (30, "read_only"), (5, "write_error"), (122, "disk_full")] {
        let dir = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::default();
        let faults = disk.0.clone();
        let config = SinkConfig { retry_for: Duration::from_millis(30), ..small(SinkConfig::text_only(dir.path())) };
        let config = SinkConfig { flush_interval: Duration::from_millis(1), ..config };
        let sink = Sink::open_on(config, Arc::new(disk)).unwrap();
        let mut lane = Lane::new(&sink);
        let mut number = 0;
        let mut deliver = |lane: &mut Lane| {
            let lines = lines(number..number + 64);
            number += 64;
            lane.deliver(1, lines.iter().map(Vec::as_slice));
        };
        deliver(&mut lane);
        wait_for("stored", || {
            lane.tick();
            sink.ledger().stored == 64
        });
        faults.partial.store(100, Ordering::Relaxed);
        *faults.write.lock().unwrap() = Some(errno);
        wait_for("drops", || {
            deliver(&mut lane);
            std::thread::sleep(Duration::from_millis(3));
            sink.ledger().drop_count(reason) > 640
        });
        assert!(sink.stats().primary.retries > 0);
        *faults.write.lock().unwrap() = None;
        let before = sink.ledger().stored;
        wait_for("storing again", || {
            deliver(&mut lane);
            std::thread::sleep(Duration::from_millis(3));
            sink.ledger().stored > before + 640
        });
        drop(lane);
        let ledger = sink.stop();
        assert_settled(&ledger);
        // What the failed writes wrote is gone: whole lines only, each once.
        let found = messages(&dir.path().join("netpoll.log"));
        assert_eq!(found.len() as u64, ledger.stored);
        assert!(found.is_sorted_by(|a, b| a < b), "each line once, in order");
    }
}

#[test]
fn a_failed_sync_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let faults = disk.0.clone();
    let config = SinkConfig { sync: SyncPolicy::EveryBatch, ..small(SinkConfig::text_only(dir.path())) };
    let sink = Sink::open_on(config, Arc::new(disk)).unwrap();
    let mut lane = Lane::new(&sink);
    let block = lines(0..64);
    lane.deliver(1, block.iter().map(Vec::as_slice));
    lane.deliver(1, [&b"<14>next"[..]]);
    wait_for("stored", || sink.ledger().stored == 64);
    *faults.sync.lock().unwrap() = Some(5);
    lane.deliver(1, block.iter().map(Vec::as_slice));
    wait_for("counted", || sink.ledger().drop_count("sync_error") == 64);
    assert_eq!(sink.ledger().stored, 64);
    *faults.sync.lock().unwrap() = None;
    drop(lane);
    let ledger = sink.stop();
    assert_settled(&ledger);
    assert_eq!((ledger.stored, ledger.drop_count("sync_error")), (65, 64), "{ledger}");
    assert_eq!(messages(&dir.path().join("netpoll.log")).len(), 65);
}

#[test]
fn stored_means_synced() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let faults = disk.0.clone();
    let config = SinkConfig { sync: SyncPolicy::EveryBatch, ..small(SinkConfig::text_only(dir.path())) };
    let sink = Sink::open_on(config, Arc::new(disk)).unwrap();
    faults.stall_sync.store(true, Ordering::Relaxed);
    let mut lane = Lane::new(&sink);
    let block = lines(0..128);
    lane.deliver(1, block.iter().map(Vec::as_slice));
    drop(lane);
    wait_for("written", || sink.stats().primary.written_rows == 128);
    let ledger = sink.ledger();
    assert_eq!((ledger.stored, ledger.in_flight), (0, 128));
    assert!(ledger.balanced());
    faults.stall_sync.store(false, Ordering::Relaxed);
    wait_for("stored", || sink.ledger().stored == 128);
    assert_settled(&sink.stop());
}

#[test]
fn short_writes_are_completed() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    disk.0.short.store(7, Ordering::Relaxed);
    let sink = Sink::open_on(small(SinkConfig::text_only(dir.path())), Arc::new(disk)).unwrap();
    let block = lines(0..200);
    Lane::new(&sink).deliver(1, block.iter().map(Vec::as_slice));
    let ledger = sink.stop();
    assert_settled(&ledger);
    assert_eq!(messages(&dir.path().join("netpoll.log")).len(), 200, "{ledger}");
}

#[test]
fn the_free_space_to_leave_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let faults = disk.0.clone();
    let config = SinkConfig { min_free_bytes: 1 << 30, retry_for: Duration::ZERO, ..SinkConfig::text_only(dir.path()) };
    faults.free.store(1 << 30, Ordering::Relaxed);
    let sink = Sink::open_on(config, Arc::new(disk)).unwrap();
    Lane::new(&sink).deliver(1, [&b"x"[..]]);
    wait_for("counted", || sink.ledger().drop_count("disk_reserve") == 1);
    faults.free.store(2 << 30, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(110));
    Lane::new(&sink).deliver(1, [&b"x"[..]]);
    let ledger = sink.stop();
    assert_settled(&ledger);
    assert_eq!((ledger.stored, ledger.drop_count("disk_reserve")), (1, 1));
}

#[test]
fn a_reload_changes_what_may_change_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(SinkConfig::text_only(dir.path()));
    let config = SinkConfig { flush_interval: Duration::from_secs(3600), ..config };
    let sink = Sink::open(config.clone()).unwrap();
    let mut lane = Lane::new(&sink);
    lane.deliver(1, [&b"x"[..]]);
    let error = sink.reload(SinkConfig { batch_rows: 1, ..config.clone() }).unwrap_err().to_string();
    assert_eq!(error, "batch_rows cannot change while the sink runs");
    sink.reload(SinkConfig { flush_interval: Duration::ZERO, ..config }).unwrap();
    wait_for("stored by the new interval", || {
        lane.tick();
        sink.ledger().stored == 1
    });
    drop(lane);
    assert_settled(&sink.stop());
}

#[test]
fn hooks_that_outlive_the_sink_count_what_they_get() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::open(small(SinkConfig::text_only(dir.path()))).unwrap();
    let shared = sink.shared.clone();
    let mut lane = Lane::new(&sink);
    lane.deliver(1, [&b"in a batch"[..]]);
    let ledger = sink.stop();
    assert!(ledger.balanced());
    assert_eq!(ledger.in_flight, 1);
    lane.deliver(1, [&b"too late"[..]]);
    drop(lane);
    let ledger = shared.ledger();
    assert_settled(&ledger);
    assert_eq!((ledger.delivered, ledger.drop_count("sink_closed")), (2, 2));
}

#[test]
fn bad_configurations_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let config = SinkConfig { text: None, ..SinkConfig::text_only(dir.path()) };
    assert!(matches!(Sink::open(config), Err(SinkError::NoOutput)));
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Sink::open(SinkConfig::text_only(&file)).unwrap_err().to_string();
    assert!(error.starts_with("cannot use the directory"), "{error}");
    let config = SinkConfig { writer_cpu: Some(100_000), ..SinkConfig::text_only(dir.path()) };
    assert!(matches!(Sink::open(config), Err(SinkError::Pin { cpu: 100_000 })));
}
