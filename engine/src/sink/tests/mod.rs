//! Tests of the sink as a whole, over hooks driven by hand.

#[cfg(feature = "store")]
mod crash;
#[cfg(feature = "store")]
mod losses;
mod overload;
mod roll;
#[cfg(feature = "store")]
mod spool_output;
mod text_output;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{disk::faulty::FaultyDisk, *};
use crate::{
    netpoll::hook::{DatagramBuf, NoSend, Now, RxBurst},
    port::MAX_BURST,
};

/// Nothing in these tests takes longer than this unless it is broken.
const BOUND: Duration = Duration::from_secs(20);

fn now_ns(start: Instant) -> Now {
    let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Now { mono_ns: start.elapsed().as_nanos() as u64, real_ns: real.as_nanos() as u64 }
}

fn datagram(source: u8, payload: &[u8]) -> DatagramBuf {
    DatagramBuf::new(([10, 0, 0, source], 1000 + u16::from(source)).into(), ([10, 0, 0, 1], 514).into(), payload)
}

/// A hook and the clock that drives it.
struct Lane {
    hook: SinkHook,
    start: Instant,
}

impl Lane {
    fn new(sink: &Sink) -> Lane {
        Lane { hook: sink.hooks().hook(QueueId(0)), start: Instant::now() }
    }

    /// Delivers `lines` from `source` in bursts.
    fn deliver<'a>(&mut self, source: u8, lines: impl IntoIterator<Item = &'a [u8]>) {
        let datagrams: Vec<_> = lines.into_iter().map(|line| datagram(source, line)).collect();
        let datagrams: Vec<_> = datagrams.iter().map(DatagramBuf::datagram).collect();
        for burst in datagrams.chunks(MAX_BURST) {
            let now = now_ns(self.start);
            self.hook.rx_hook(&NoSend, &RxBurst { now, datagrams: burst });
            self.hook.tick(now);
        }
    }

    fn tick(&mut self) {
        self.hook.tick(now_ns(self.start));
    }
}

/// Waits until `condition` holds; fails the test if that takes too long.
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < BOUND, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn line(number: usize) -> Vec<u8> {
    format!("<14>Nov 23 12:00:00 host app[1]: line {number:08}").into_bytes()
}

fn lines(range: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    range.map(line).collect()
}

/// The messages of a text file's lines.
fn messages(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| line.splitn(3, ' ').nth(2).unwrap().to_owned()).collect()
}

fn small(config: SinkConfig) -> SinkConfig {
    SinkConfig { batch_rows: 64, batch_bytes: 8 << 10, batches_per_queue: 16, min_free_bytes: 0, ..config }
}

#[track_caller]
fn assert_settled(ledger: &SinkLedger) {
    assert!(ledger.balanced(), "{ledger}");
    assert_eq!(ledger.in_flight, 0, "{ledger}");
}
