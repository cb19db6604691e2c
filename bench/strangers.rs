//! What it costs to choose whom to listen to: an allow-list in the filter, a limit for each source in the sink's hook.
//!
//! `cargo bench --bench strangers`. The cases take turns; each number is the best of its rounds, in nanoseconds a frame.

#[path = "../engine/src/netpoll/filter/bad_frames.rs"]
mod bad_frames;

use std::{hint::black_box, net::Ipv4Addr, time::Instant};

use netpoll::{
    QueueId,
    netpoll::{
        filter::{Filter, FilterRules, PrefixSet, Reason, Verdict},
        hook::{DatagramBuf, NoSend, Now, RxBurst, RxHook},
    },
    port::ChecksumVerdict,
    sink::{ShedPolicy, Sink, SinkConfig, SyncPolicy},
    wire::MacAddr,
};

const ROUNDS: usize = 400;

fn main() {
    filter();
    hook();
}

/// One round of a case: nanoseconds a frame.
type Run<'a> = Box<dyn FnMut() -> f64 + 'a>;

/// Runs the cases in turns, and prints the best of each.
fn compare(title: &str, cases: &mut [(&str, Run)]) {
    let mut best = vec![f64::MAX; cases.len()];
    for _ in 0..ROUNDS {
        for (best, (_, run)) in best.iter_mut().zip(cases.iter_mut()) {
            *best = best.min(run());
        }
    }
    println!("{title}, ns a frame");
    for (best, (name, _)) in best.iter().zip(cases.iter()) {
        println!("  {name:<44}{best:>8.2}");
    }
}

/// 64 sources of 10.0.0.0/8, 64 bytes a frame, the NIC has checked the sums.
fn filter() {
    let frames: Vec<Vec<u8>> = (0..64u8)
        .map(|n| {
            let (src, payload) = ([10, n.wrapping_mul(37), 3, n], b"twenty-two bytes here!");
            let udp = bad_frames::datagram(src, bad_frames::US_IP, bad_frames::PORT, payload);
            bad_frames::frame(bad_frames::US_MAC, 0x0800, &bad_frames::packet(src, bad_frames::US_IP, 17, &udp))
        })
        .collect();
    let rules = |allow: PrefixSet| FilterRules {
        mac: MacAddr(bad_frames::US_MAC),
        rx_client: true,
        allow,
        local_ports: bad_frames::PORT.into(),
        ..FilterRules::default()
    };
    // None of which joins another, and the sources' own.
    let many = |count: u32| -> PrefixSet {
        let others = (1..count).map(|n| (Ipv4Addr::from(0x0b00_0000 + (n << 16)), 17));
        others.chain([([10, 0, 0, 0].into(), 8)]).collect()
    };
    let all = [
        ("no list", rules(PrefixSet::Any)),
        ("1 network", rules(many(1))),
        ("16 networks", rules(many(16))),
        ("1024 networks", rules(many(1024))),
    ];
    let mut cases: Vec<(&str, Run)> = Vec::new();
    for (name, rules) in all {
        let frames = &frames;
        let filter = Filter::new(rules);
        cases.push((
            name,
            Box::new(move || {
                let start = Instant::now();
                for frame in (0..100).flat_map(|_| frames) {
                    let good = ChecksumVerdict::Good;
                    let verdict = black_box(&filter).classify(black_box(frame), true, good, good);
                    black_box(matches!(verdict, Verdict::Udp(_)));
                }
                start.elapsed().as_nanos() as f64 / 6400.0
            }),
        ));
    }
    compare("filter", &mut cases);
}

/// Lines of 160 bytes in the sink's hook; between rounds the writer catches up.
fn hook() {
    let dir = tempfile::tempdir().expect("a folder");
    let line = [b"<134>".as_slice(), &[b'x'; 155]].concat();
    let datagram =
        |src: u32| DatagramBuf::new((Ipv4Addr::from(src), 40_000).into(), ([10, 0, 0, 200], 514).into(), &line);
    let of = |sources: u32| -> Vec<_> {
        (0..16_384u32).map(|n| datagram(0x0b00_0000 + (n % sources).wrapping_mul(0x9e37_79b1) % 0x00ff_ffff)).collect()
    };
    let bufs = [of(1), of(64), of(1000), of(16_384)];
    let lines = bufs.each_ref().map(|bufs| bufs.iter().map(DatagramBuf::datagram).collect::<Vec<_>>());
    let sources = ["1 source", "64 sources", "1,000 sources", "16,384 sources"];
    let mut all = Vec::new();
    for (limit, what) in [(None, "no limit"), (Some(1_000_000), "limit"), (Some(1), "limit of 1, nearly all dropped")] {
        let config = SinkConfig {
            sync: SyncPolicy::Never,
            shed: ShedPolicy::OFF,
            max_lines_per_source_per_s: limit,
            ..SinkConfig::new(dir.path().join(what))
        };
        let sink = Sink::open(config).expect("a sink");
        for (lines, sources) in lines.iter().zip(sources) {
            all.push((format!("{what}, {sources}"), sink.hooks().hook(QueueId(0)), lines));
        }
        std::mem::forget(sink);
    }
    let mut clock_ns = 1_000_000_000;
    let mut best = vec![f64::MAX; all.len()];
    for _ in 0..ROUNDS / 4 {
        for (best, (_, hook, lines)) in best.iter_mut().zip(&mut all) {
            clock_ns += 50_000_000;
            let start = Instant::now();
            for burst in lines.chunks(32) {
                clock_ns += 32_000;
                let now = Now { mono_ns: clock_ns, real_ns: 1_795_443_419_000_000_000 + clock_ns };
                hook.rx_hook(&NoSend, &RxBurst { now, datagrams: burst });
                hook.tick(now);
            }
            *best = best.min(start.elapsed().as_nanos() as f64 / lines.len() as f64);
            std::thread::sleep(std::time::Duration::from_millis(8));
        }
    }
    println!("sink's hook, ns a line");
    for (best, (name, ..)) in best.iter().zip(&all) {
        println!("  {name:<52}{best:>8.2}");
    }
    std::process::exit(0);
}
