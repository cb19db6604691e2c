//! New files when somebody asks for them, and disks that are too small.

use super::*;

/// Delivers lines `range` and waits until they are stored.
fn store(sink: &Sink, lane: &mut Lane, range: std::ops::Range<usize>) {
    let end = range.end as u64;
    let lines = lines(range);
    lane.deliver(1, lines.iter().map(Vec::as_slice));
    wait_for("stored", || {
        lane.tick();
        sink.ledger().stored == end
    });
}

fn numbers(path: &Path) -> Vec<usize> {
    messages(path).iter().map(|message| message.rsplit(' ').next().unwrap().parse().unwrap()).collect()
}

fn text_sink(dir: &Path) -> Sink {
    // Whatever was rolled here is removed at once: what others have rolled must not be.
    let text = TextConfig { keep_bytes: 0, ..TextConfig::default() };
    let config = SinkConfig { text: Some(text), flush_interval: Duration::ZERO, ..SinkConfig::text_only(dir) };
    Sink::open(small(config)).unwrap()
}

/// What logrotate does: the file gets another name, with `create` an empty one takes its place, then comes SIGHUP.
#[test]
fn a_file_that_was_moved_away_is_left_for_a_new_one() {
    for create in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("netpoll.log"), dir.path().join("netpoll.log.1"));
        let sink = text_sink(dir.path());
        let mut lane = Lane::new(&sink);
        store(&sink, &mut lane, 0..100);
        std::fs::rename(&path, &moved).unwrap();
        if create {
            std::fs::write(&path, "").unwrap();
        }
        // Until it is told it goes on in the old file.
        store(&sink, &mut lane, 100..200);
        sink.roll().unwrap();
        wait_for("a new file", || sink.stats().primary.rolls == 1);
        store(&sink, &mut lane, 200..300);
        drop(lane);
        let ledger = sink.stop();
        assert_settled(&ledger);
        assert_eq!((ledger.delivered, ledger.stored), (300, 300));
        assert_eq!(numbers(&moved), (0..200).collect::<Vec<_>>());
        assert_eq!(numbers(&path), (200..300).collect::<Vec<_>>());
        let names = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 4, "lock, ledger, the file and the moved one");
    }
}

#[test]
fn asked_for_a_new_file_the_old_one_gets_its_own_name() {
    let dir = tempfile::tempdir().unwrap();
    let sink =
        Sink::open(small(SinkConfig { flush_interval: Duration::ZERO, ..SinkConfig::text_only(dir.path()) })).unwrap();
    let mut lane = Lane::new(&sink);
    // Nothing in it: it stays.
    sink.roll().unwrap();
    store(&sink, &mut lane, 0..10);
    assert_eq!(sink.stats().primary.rolls, 0);
    sink.roll().unwrap();
    wait_for("a new file", || sink.stats().primary.rolls == 1);
    store(&sink, &mut lane, 10..20);
    drop(lane);
    assert_settled(&sink.stop());
    let path = dir.path().join("netpoll.log");
    let rolled: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with('Z'))
        .collect();
    assert_eq!(rolled.len(), 1);
    assert_eq!((numbers(&rolled[0]), numbers(&path)), ((0..10).collect(), (10..20).collect()));
}

/// The spool's segment is sealed, so that the converter takes it; so is the text beside it.
#[cfg(feature = "store")]
#[test]
fn both_outputs_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let config = SinkConfig { text: Some(TextConfig::default()), ..SinkConfig::new(dir.path()) };
    let sink = Sink::open(small(SinkConfig { flush_interval: Duration::ZERO, ..config })).unwrap();
    let mut lane = Lane::new(&sink);
    store(&sink, &mut lane, 0..10);
    sink.roll().unwrap();
    wait_for("both", || sink.stats().primary.rolls == 1 && sink.stats().text.rolls == 1);
    let first = spool::segments(dir.path()).unwrap()[0].path.clone();
    wait_for("the seal", || {
        let mut reader = spool::SegmentReader::open(&first).unwrap();
        while reader.next_batch().unwrap().is_some() {}
        reader.is_finished()
    });
    store(&sink, &mut lane, 10..20);
    drop(lane);
    assert_settled(&sink.stop());
}

#[test]
fn a_disk_that_is_smaller_than_its_reserve_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = |min_free_bytes, total| {
        let disk = FaultyDisk::default();
        disk.0.total.store(total, Ordering::Relaxed);
        let config = SinkConfig { min_free_bytes, ..small(SinkConfig::text_only(dir.path())) };
        Sink::open_on(config, Arc::new(disk))
    };
    let error = open(64 << 20, 48 << 20).unwrap_err();
    assert!(matches!(error, SinkError::DiskTooSmall { .. }));
    let said = error.to_string();
    assert!(
        said.contains("48.0 MiB in all") && said.contains("64.0 MiB free") && said.contains("--min-free"),
        "{said}"
    );
    // Nothing was begun there.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let sink = open(1 << 20, 48 << 20).unwrap();
    let config = SinkConfig { min_free_bytes: 48 << 20, ..small(SinkConfig::text_only(dir.path())) };
    assert!(matches!(sink.reload(config), Err(SinkError::DiskTooSmall { .. })), "a reload is held to the same");
    sink.stop();
    // No reserve: the disk itself says when it is full.
    open(0, 1).unwrap().stop();
}
