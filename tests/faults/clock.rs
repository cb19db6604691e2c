//! The machine's clock.

use netpoll::{
    QueueId,
    netpoll::hook::{DatagramBuf, NoSend, Now, RxBurst, RxHook},
    sink::{
        Sink, SinkConfig,
        store::{Converter, StoreConfig},
    },
};

use super::support::*;

/// The wall clock jumps, both ways and far, while lines come: each is stored, under the hour that the clock showed, and
/// time-outs, which run by the monotonic clock, do not notice.
#[test]
fn a_clock_that_steps_costs_no_line_and_files_each_under_its_hour() {
    const HOUR_NS: u64 = 3_600_000_000_000;
    const LINES: u64 = 100;
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::open(SinkConfig { min_free_bytes: 0, ..SinkConfig::new(dir.path()) }).unwrap();
    let mut hook = sink.hooks().hook(QueueId(0));
    let start_ns = 1_800_000_000_000_000_000 / HOUR_NS * HOUR_NS;
    // Ahead, back, to the epoch (a machine without a clock), to the year 2200, and right again.
    let steps =
        [start_ns, start_ns + 3 * HOUR_NS, start_ns - 2 * HOUR_NS, 0, 7_258_118_400_000_000_000, start_ns + HOUR_NS];
    let mut mono_ns = 1_000_000_000;
    for (step, real_ns) in steps.into_iter().enumerate() {
        for n in 0..LINES {
            mono_ns += 1_000_000;
            let text = format!("6,{},{},-;line {n} of step {step}\n", step as u64 * LINES + n, mono_ns / 1000);
            let line = DatagramBuf::new((PEER_IP, 6665).into(), (US_IP, 6666).into(), text.as_bytes());
            let now = Now { mono_ns, real_ns: real_ns + n * 1_000_000 };
            hook.rx_hook(&NoSend, &RxBurst { now, datagrams: &[line.datagram()] });
            hook.tick(now);
        }
    }
    drop(hook);
    let ledger = sink.stop();
    let all = LINES * steps.len() as u64;
    assert!(ledger.balanced() && ledger.stored == all, "{ledger}");
    let mut converter = Converter::open(StoreConfig { min_free_bytes: 0, ..StoreConfig::new(dir.path()) }).unwrap();
    converter.finish(start_ns + 2 * HOUR_NS).unwrap();
    let total = |name: &str| converter.totals().get(name).copied().unwrap_or(0);
    assert_eq!((total("datagrams"), total("records"), total("parquet_rows")), (all, all, all));
    assert_eq!(total("incomplete_records") + total("missing_unknown"), 0, "no time-out has run out");
    let mut hours: Vec<_> = std::fs::read_dir(dir.path().join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .flat_map(|day| std::fs::read_dir(day).unwrap().map(|hour| hour.unwrap().path()))
        .map(|hour| hour.strip_prefix(dir.path().join("store")).unwrap().display().to_string())
        .collect();
    hours.sort();
    assert_eq!(hours.len(), steps.len(), "{hours:?}");
    assert_eq!((&hours[0][..], &hours[5][..]), ("date=1970-01-01/hour=00", "date=2200-01-01/hour=00"));
}
