//! A sink whose hooks come and go while it is reloaded, rolled and read; and one that is stopped under its hooks.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use netpoll::{
    QueueId,
    netpoll::hook::{DatagramBuf, NoSend, Now, RxBurst, RxHook},
    sink::{Sink, SinkConfig, SinkHooks, SyncPolicy, TextConfig},
};

use super::{Through, rounds};

const HOOKS: u16 = 3;

fn config(dir: &Path) -> SinkConfig {
    SinkConfig {
        min_free_bytes: 0,
        sync: SyncPolicy::Never,
        flush_interval: Duration::ZERO,
        batch_rows: 50,
        batch_bytes: 4096,
        batches_per_queue: 3,
        ..SinkConfig::text_only(dir)
    }
}

/// What one lcore does: hooks one after the other, each with so many bursts. Datagrams handed over.
fn deliver(hooks: &SinkHooks, queue: QueueId, hook_count: u64, bursts: u64) -> u64 {
    let src = SocketAddr::from((Ipv4Addr::new(10, 0, 0, queue.0 as u8 + 1), 514));
    let lines: Vec<_> = (0..8)
        .map(|n| DatagramBuf::new(src, (Ipv4Addr::new(10, 0, 0, 99), 514).into(), format!("<{n}>a line").as_bytes()))
        .collect();
    let datagrams: Vec<_> = lines.iter().map(DatagramBuf::datagram).collect();
    let mut now = Now::default();
    for _ in 0..hook_count {
        let mut hook = hooks.hook(queue);
        for _ in 0..bursts {
            now = Now { mono_ns: now.mono_ns + 1_000_000, real_ns: now.real_ns + 1_000_000 };
            hook.rx_hook(&NoSend, &RxBurst { now, datagrams: &datagrams });
            hook.tick(now);
            if now.mono_ns % 16_000_000 == 0 {
                thread::yield_now();
            }
        }
    }
    hook_count * bursts * datagrams.len() as u64
}

fn lines(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("netpoll.log"));
    logs.map(|path| fs::read(path).unwrap().iter().filter(|byte| **byte == b'\n').count() as u64).sum()
}

#[test]
fn hooks_come_and_go_while_the_sink_is_reloaded_rolled_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::open(config(dir.path())).unwrap();
    let through = AtomicBool::new(false);
    let delivered = thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !through.load(Ordering::Relaxed) {
                let mut config = config(dir.path());
                config.flush_interval = Duration::from_millis(round % 3);
                config.max_lines_per_source_per_s = (round % 2 == 0).then_some(1000);
                config.text = Some(TextConfig { roll_bytes: 1 << (16 + round % 3), ..TextConfig::default() });
                sink.reload(config).unwrap();
                if round % 4 == 0 {
                    sink.roll().unwrap();
                }
                round += 1;
                thread::sleep(Duration::from_micros(500));
            }
        });
        scope.spawn(|| {
            let mut before = 0;
            while !through.load(Ordering::Relaxed) {
                // A hook that is gone goes on counting among those that are.
                let delivered = sink.stats().all_queues().delivered;
                assert!(delivered >= before, "{before} had been delivered, now {delivered}");
                before = delivered;
                thread::yield_now();
            }
        });
        let _through = Through(&through);
        let lcores: Vec<_> = (0..HOOKS)
            .map(|queue| (sink.hooks(), QueueId(queue)))
            .map(|(hooks, queue)| scope.spawn(move || deliver(&hooks, queue, rounds(1500), 40)))
            .collect();
        lcores.into_iter().map(|lcore| lcore.join().unwrap()).sum::<u64>()
    });
    let ledger = sink.stop();
    assert!(ledger.balanced() && ledger.in_flight == 0, "{ledger}");
    assert_eq!(ledger.delivered, delivered);
    assert!(ledger.stored > 0);
    assert_eq!(lines(dir.path()), ledger.stored, "what counts as stored is there");
}

#[test]
fn a_sink_is_stopped_under_its_hooks() {
    for round in 0..rounds(40) {
        let dir = tempfile::tempdir().unwrap();
        let sink = Sink::open(config(dir.path())).unwrap();
        let hooks = sink.hooks();
        let lcores: Vec<_> = (0..HOOKS)
            .map(|queue| (hooks.clone(), QueueId(queue)))
            .map(|(hooks, queue)| thread::spawn(move || deliver(&hooks, queue, 10, 40)))
            .collect();
        thread::sleep(Duration::from_micros(300 * (round % 16)));
        let ledger = sink.stop();
        lcores.into_iter().for_each(|lcore| assert_eq!(lcore.join().unwrap(), 10 * 40 * 8));
        // Not balanced to the last one: the lcores went on while it was read.
        assert!(ledger.stored <= ledger.delivered && ledger.delivered <= u64::from(HOOKS) * 10 * 40 * 8, "{ledger}");
        assert_eq!(lines(dir.path()), ledger.stored, "what counts as stored is there");
    }
}
