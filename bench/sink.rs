//! What a datagram costs the sink: in the hook on the polling lcore, and in the writer on its way to the
//! disk. The hook is driven by hand, without a port.
//!
//! `cargo bench --bench sink -- [DIR]`; `DIR` (default: a temporary one) decides which disk is measured.
//! Numbers are the best of several rounds: single ones swing on a shared machine.

use std::{
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use netpoll::{
    QueueId,
    netpoll::hook::{DatagramBuf, NoSend, Now, RxBurst, RxHook},
    sink::{ShedPolicy, Sink, SinkConfig, SyncPolicy, Template, TextConfig, TextFormat},
};

const PAYLOAD_BYTES: usize = 160;
const BURST: usize = 32;
const ROUNDS: usize = 5;
const LINES: usize = 2_000_000;

fn line() -> Vec<u8> {
    let mut line = b"<134>Nov 23 14:16:59 host-17 service[4242]: ".to_vec();
    line.extend((line.len()..PAYLOAD_BYTES).map(|i| b'a' + (i % 26) as u8));
    line
}

/// 32 datagrams from 8 sources, as a burst brings them.
fn burst(payload: &[u8]) -> Vec<DatagramBuf> {
    let from =
        |i: usize| DatagramBuf::new(([10, 0, 0, (i / 4) as u8], 40_000).into(), ([10, 0, 0, 200], 514).into(), payload);
    (0..BURST).map(from).collect()
}

/// Nanoseconds a datagram in `rx_hook` and `tick`, in runs of `bursts` between which the writer catches up.
fn hook_ns(dir: &Path, bursts: u64) -> f64 {
    let config = SinkConfig { sync: SyncPolicy::Never, ..SinkConfig::new(dir) };
    let sink = Sink::open(config).expect("a sink");
    let mut hook = sink.hooks().hook(QueueId(0));
    let payload = line();
    let datagrams = burst(&payload);
    let datagrams: Vec<_> = datagrams.iter().map(DatagramBuf::datagram).collect();
    let mut best = f64::MAX;
    for round in 0..400u64 {
        let start = Instant::now();
        for step in 0..bursts {
            let ns = (round * bursts + step) * 1000;
            let now = Now { mono_ns: ns, real_ns: 1_795_443_419_000_000_000 + ns };
            hook.rx_hook(&NoSend, &RxBurst { now, datagrams: &datagrams });
            hook.tick(now);
        }
        best = best.min(start.elapsed().as_nanos() as f64 / (bursts * BURST as u64) as f64);
        while sink.stats().writer.taken_rows + 2048 < sink.stats().all_queues().delivered {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    drop(hook);
    let ledger = sink.stop();
    assert!(ledger.balanced() && ledger.dropped() == 0, "{ledger}");
    best
}

/// Nanoseconds a datagram in `rx_hook` where the writer is far behind: nearly all of them are dropped, counted, and noted with
/// their source. And the share that was dropped. `sources` take turns.
fn overload_ns(dir: &Path, sources: u32) -> (f64, f64) {
    let config = SinkConfig {
        sync: SyncPolicy::Never,
        shed: ShedPolicy::OFF,
        batches_per_queue: 2,
        batch_rows: 64,
        ..SinkConfig::text_only(dir)
    };
    let sink = Sink::open(config).expect("a sink");
    let mut hook = sink.hooks().hook(QueueId(0));
    let payload = line();
    let from = |number: u32| {
        let src = (std::net::Ipv4Addr::from_bits(0x0a00_0000 + number % sources), 40_000);
        DatagramBuf::new(src.into(), ([10, 0, 0, 200], 514).into(), &payload)
    };
    let datagrams: Vec<_> = (0..sources.next_multiple_of(BURST as u32)).map(from).collect();
    let datagrams: Vec<_> = datagrams.iter().map(DatagramBuf::datagram).collect();
    let (mut best, mut ns) = (f64::MAX, 0);
    for _ in 0..200 {
        let start = Instant::now();
        let mut count = 0;
        while count < 20_000 {
            for burst in datagrams.chunks(BURST) {
                ns += 1000;
                let now = Now { mono_ns: ns, real_ns: 1_795_443_419_000_000_000 + ns };
                hook.rx_hook(&NoSend, &RxBurst { now, datagrams: burst });
                hook.tick(now);
                count += burst.len();
            }
        }
        best = best.min(start.elapsed().as_nanos() as f64 / count as f64);
    }
    drop(hook);
    let ledger = sink.stop();
    assert!(ledger.balanced(), "{ledger}");
    (best, ledger.dropped() as f64 / ledger.delivered as f64)
}

/// CPU time of this process's threads called `name`, from /proc.
fn cpu(name: &str) -> Duration {
    let mut ns = 0;
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if read("comm").trim() == name {
            // The first field: nanoseconds on the CPU.
            ns += read("schedstat").split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(ns)
}

/// Payload MB/s from the hook to "stored", and the writer's CPU nanoseconds a line; best of the rounds.
fn writer(base: &Path, config: impl Fn(&Path) -> SinkConfig) -> (f64, f64) {
    let (mut rate, mut cpu_ns) = (0.0_f64, f64::MAX);
    for _ in 0..ROUNDS {
        let dir = base.join("sink");
        let sink = Sink::open(SinkConfig { shed: ShedPolicy::OFF, ..config(&dir) }).expect("a sink");
        let mut hook = sink.hooks().hook(QueueId(0));
        let payload = line();
        let datagrams = burst(&payload);
        let datagrams: Vec<_> = datagrams.iter().map(DatagramBuf::datagram).collect();
        let start = Instant::now();
        let mut sent = 0;
        while sent < LINES {
            let ns = start.elapsed().as_nanos() as u64;
            let now = Now { mono_ns: ns, real_ns: 1_795_443_419_000_000_000 + ns };
            for _ in 0..32 {
                hook.rx_hook(&NoSend, &RxBurst { now, datagrams: &datagrams });
            }
            hook.tick(now);
            sent += 32 * BURST;
            // As fast as the writer goes, and no faster: 64 batches hold about 100,000 lines.
            while sent as u64 > sink.stats().writer.taken_rows + 60_000 {
                std::thread::yield_now();
            }
        }
        drop(hook);
        while sink.stats().writer.taken_rows < sent as u64 {
            std::thread::yield_now();
        }
        cpu_ns = cpu_ns.min(cpu("netpoll-writer").as_nanos() as f64 / sent as f64);
        let ledger = sink.stop();
        assert!(ledger.balanced() && ledger.stored == sent as u64, "{ledger}");
        rate = rate.max((sent * PAYLOAD_BYTES) as f64 / 1e6 / start.elapsed().as_secs_f64());
        std::fs::remove_dir_all(&dir).expect("removable");
    }
    (rate, cpu_ns)
}

/// The same payload bytes by plain `write(2)`s of 256 KiB, MB/s.
fn plain_write(base: &Path, sync: bool) -> f64 {
    let block = line().repeat((256 << 10) / PAYLOAD_BYTES);
    let mut rate = 0.0_f64;
    for _ in 0..ROUNDS {
        let path = base.join("plain");
        let start = Instant::now();
        let mut file = std::fs::File::create(&path).expect("a file");
        for _ in 0..LINES * PAYLOAD_BYTES / block.len() {
            file.write_all(&block).expect("room");
        }
        if sync {
            file.sync_data().expect("synced");
        }
        rate = rate.max((LINES * PAYLOAD_BYTES) as f64 / 1e6 / start.elapsed().as_secs_f64());
        std::fs::remove_file(&path).expect("removable");
    }
    rate
}

fn main() {
    let given = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let base = given.map_or(temporary.path().to_owned(), Into::into);
    // 250 bursts fill 5 of the 64 batches, 1000 fill 20: from the 8th on, sources are watched.
    for (what, bursts) in [("the writer keeps up", 250), ("it is behind", 1000)] {
        let ns = hook_ns(&base.join("hook"), bursts);
        println!("hook, {PAYLOAD_BYTES} B, {what}: {ns:.1} ns a datagram");
        let _ = std::fs::remove_dir_all(base.join("hook"));
    }
    for sources in [8, 100_000] {
        let (ns, share) = overload_ns(&base.join("hook"), sources);
        println!(
            "hook, {PAYLOAD_BYTES} B, overloaded, {sources} sources: {ns:.1} ns a datagram, {:.0} % of them dropped and noted",
            share * 100.0
        );
        let _ = std::fs::remove_dir_all(base.join("hook"));
    }
    for (name, sync) in [("never", SyncPolicy::Never), ("200 ms", SyncPolicy::Every(Duration::from_millis(200)))] {
        let plain = plain_write(&base, sync != SyncPolicy::Never);
        println!("plain write(2) of 256 KiB, sync {name}: {plain:.0} MB/s");
        for (output, config) in outputs() {
            let (rate, cpu_ns) = writer(&base, |dir| SinkConfig { sync, ..config(dir) });
            let ratio = rate / plain;
            println!(
                "{output}, sync {name}: {rate:.0} MB/s of payload ({ratio:.2} of plain), writer {cpu_ns:.0} ns a line"
            );
        }
    }
}

fn template() -> Template {
    Template::parse("{time} {host} {severity} {app}: {message}").expect("a template")
}

fn with_format(dir: &Path, format: TextFormat) -> SinkConfig {
    SinkConfig { text: Some(TextConfig { format, ..TextConfig::default() }), ..SinkConfig::text_only(dir) }
}

type Configure = fn(&Path) -> SinkConfig;

fn outputs() -> Vec<(&'static str, Configure)> {
    vec![
        ("text", |dir| SinkConfig::text_only(dir)),
        ("text by a template", |dir| with_format(dir, TextFormat::Template(template()))),
        #[cfg(feature = "store")]
        ("JSON lines", |dir| with_format(dir, TextFormat::JsonLines)),
        #[cfg(feature = "store")]
        ("spool", |dir| SinkConfig { text: None, ..SinkConfig::new(dir) }),
    ]
}
