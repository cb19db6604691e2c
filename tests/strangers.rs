//! Hostile senders, from the wire to the sink, over a port in memory: what each costs is bounded, ends in its own
//! counter, and harms nobody else.
//!
//! `NETPOLL_FORGED` says how many forged sources there are; `make strangers` has ten million of them.

#[path = "../engine/src/netpoll/filter/bad_frames.rs"]
mod bad_frames;
mod support;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use netpoll::{
    PortId,
    netpoll::{ClientOptions, Netpoll, Port, PortOptions, RxFilter, filter::Reason},
    port::memory::{MemoryPort, Wire},
    sink::{Sink, SinkConfig, SyncPolicy},
    wire::MacAddr,
};
use support::{enter_lcore, poll_all};

const BURST: u64 = 64;

/// A port in memory with the sink as its rx client, which takes UDP port 6666.
struct Rig {
    port: Arc<Port<MemoryPort>>,
    wire: Wire,
    np: Netpoll<MemoryPort>,
    sink: Sink,
}

impl Rig {
    fn start(config: SinkConfig) -> Rig {
        let (io, wire) = MemoryPort::new(MacAddr(bad_frames::US_MAC), 1024, 4096);
        let options = PortOptions::new("mem0").ip(bad_frames::US_IP.into(), 24);
        let port = Port::new(PortId(0), options, vec![io]);
        let sink = Sink::open(config).unwrap();
        let filter = RxFilter { local_ports: bad_frames::PORT.into(), ..RxFilter::default() };
        let np = port.setup_rx(ClientOptions::new("sink").ring_frames(1), filter, sink.hooks()).unwrap();
        while wire.take_buf().is_some() {}
        Rig { port, wire, np, sink }
    }

    /// Lets it be received, and the answers leave.
    fn poll(&self) {
        poll_all(&self.np);
        while self.wire.take_buf().is_some() {}
    }

    /// Waits while the writer is so far behind that the sink would shed: what it does then is tested elsewhere.
    fn let_the_writer_keep_up(&self) {
        let limit = Instant::now() + Duration::from_secs(60);
        while self.sink.stats().all_queues().delivered - self.sink.stats().all_queues().source_rate
            > self.sink.stats().writer.taken_rows + 20_000
        {
            assert!(Instant::now() < limit, "the writer stands still");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Ends it; the port's counters that are not 0, and the sink's ledger.
    fn end(self) -> (BTreeMap<&'static str, u64>, netpoll::sink::SinkLedger) {
        let Rig { port, wire, np, sink } = self;
        np.cleanup().unwrap();
        let ledger = sink.stop();
        assert!(ledger.balanced() && ledger.in_flight == 0, "{ledger}");
        let stats = port.stats();
        assert!(stats.balances(), "{stats}");
        assert_eq!(stats.queue.delivered, ledger.delivered);
        assert_eq!(stats.queue.engine_submitted, stats.queue.engine_sent);
        while wire.take_buf().is_some() {}
        assert_eq!(wire.pool().outstanding(), 0, "mbufs out = mbufs back");
        (stats.endings().filter(|(_, count)| *count > 0).collect(), ledger)
    }
}

/// With few batches: what the tests' rigs hold at once is in one process.
fn config(dir: &Path) -> SinkConfig {
    SinkConfig { batches_per_queue: 64, min_free_bytes: 0, sync: SyncPolicy::Never, ..SinkConfig::text_only(dir) }
}

/// A line's frame that can be sent as another source's, without being built anew.
struct Line(Vec<u8>);

impl Line {
    fn new(text: &str) -> Line {
        let udp = bad_frames::datagram([0; 4], bad_frames::US_IP, bad_frames::PORT, text.as_bytes());
        let mut frame =
            bad_frames::frame(bad_frames::US_MAC, 0x0800, &bad_frames::packet([0; 4], bad_frames::US_IP, 17, &udp));
        // No UDP checksum: the header's is all that depends on the source.
        frame[40..42].fill(0);
        Line(frame)
    }

    fn from(&mut self, src: u32) -> &[u8] {
        let frame = &mut self.0;
        frame[26..30].copy_from_slice(&src.to_be_bytes());
        frame[24..26].fill(0);
        let checksum = bad_frames::internet_checksum(&frame[14..34]).to_be_bytes();
        frame[24..26].copy_from_slice(&checksum);
        frame
    }
}

/// An address that a host can have; another for each `n`, and none of 10.0.0.0/8.
fn forged(n: u64) -> u32 {
    // Odd: each value once in 2^24, spread over the prefixes.
    let low = (n as u32).wrapping_mul(0x9e37_79b1) & 0x00ff_ffff;
    (11 + (n >> 24) as u32 % 100) << 24 | low
}

/// Floods of ARP, ping, broken checksums, fragments and more: each frame under its own reason, answers up to the limit,
/// and the lines of a quiet sender beside them all there.
#[test]
fn floods_end_in_their_counters_and_the_quiet_sender_loses_nothing() {
    const ROUNDS: u64 = 2000;
    let _lcore = enter_lcore();
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(config(dir.path()));
    // What a port on which anybody may send can meet.
    let elsewhere = [
        Reason::Segmented,
        Reason::NoRxClient,
        Reason::UdpPartialRefused,
        Reason::NotLocalIp,
        Reason::NotRemoteIp,
        Reason::NotAllowed,
    ];
    let bad: Vec<_> = bad_frames::bad_frames().into_iter().filter(|(reason, _)| !elsewhere.contains(reason)).collect();
    let (arp, echo, mut line) = (bad_frames::good_arp(), bad_frames::good_echo(), Line::new("<14>a quiet line"));
    let mut expected = BTreeMap::new();
    let allocations = |round: u64| {
        let send = || {
            for (_, frame) in &bad {
                assert!(rig.wire.inject(frame));
            }
            for _ in 0..8 {
                assert!(rig.wire.inject(&arp) && rig.wire.inject(&echo));
            }
            assert!(rig.wire.inject(line.from(0x0a00_0002)));
            rig.poll();
        };
        let allocated = allocation_counter::measure(send);
        // The first rounds make up what is made lazily (the clock).
        assert!(round < 2 || allocated.count_total == 0, "{allocated:?}");
    };
    (0..ROUNDS).for_each(allocations);
    for (reason, _) in &bad {
        *expected.entry(reason.name()).or_insert(0) += ROUNDS;
    }
    let (mut counted, ledger) = rig.end();
    let answers: Vec<_> =
        ["arp_answered", "icmp_answered", "rate_limited"].map(|name| counted.remove(name).unwrap_or(0)).to_vec();
    assert_eq!(answers.iter().sum::<u64>(), 16 * ROUNDS, "{answers:?}");
    assert!(answers[0] > 0 && answers[1] > 0 && answers[2] > 0, "{answers:?}");
    expected.insert("delivered", ROUNDS);
    assert_eq!(counted, expected);
    assert_eq!((ledger.delivered, ledger.stored), (ROUNDS, ROUNDS), "{ledger}");
}

/// One source at full rate beside 1,000 quiet ones, with a limit: the quiet ones lose nothing, to the line.
#[test]
fn one_source_at_full_rate_beside_a_thousand_quiet_ones() {
    const ROUNDS: u64 = 20;
    const LOUD_EACH: u64 = 10;
    let _lcore = enter_lcore();
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(SinkConfig { max_lines_per_source_per_s: Some(1000), ..config(dir.path()) });
    let start = Instant::now();
    let (mut loud, mut sent) = (Line::new("<14>loud"), 0);
    for round in 0..ROUNDS {
        let mut quiet = Line::new(&format!("<14>quiet {round:02}"));
        for source in 0..1000 {
            for _ in 0..LOUD_EACH {
                assert!(rig.wire.inject(loud.from(0x0a63_6363)));
            }
            assert!(rig.wire.inject(quiet.from(0x0a00_0000 + source)));
            sent += LOUD_EACH + 1;
            if source % 5 == 4 {
                rig.poll();
            }
        }
        rig.let_the_writer_keep_up();
    }
    let seconds = start.elapsed().as_secs() + 1;
    let (counted, ledger) = rig.end();
    assert_eq!(counted, BTreeMap::from([("delivered", sent)]));
    let (stored, dropped) = (ledger.stored, ledger.drop_count("source_rate"));
    assert_eq!(ledger.dropped(), dropped, "for no other reason: {ledger}");
    let text = std::fs::read_to_string(dir.path().join("netpoll.log")).unwrap();
    let mut quiet = BTreeMap::<&str, Vec<&str>>::new();
    let mut loud = 0;
    for line in text.lines() {
        let mut words = line.splitn(3, ' ').skip(1);
        let (source, message) = (words.next().unwrap(), words.next().unwrap());
        match message.strip_prefix("<14>quiet ") {
            Some(round) => quiet.entry(source).or_default().push(round),
            None => loud += 1,
        }
    }
    let all: Vec<_> = (0..ROUNDS).map(|round| format!("{round:02}")).collect();
    assert_eq!(quiet.len(), 1000);
    assert!(quiet.values().all(|rounds| *rounds == all), "each of the quiet ones' lines, in order");
    assert_eq!((stored, dropped), (1000 * ROUNDS + loud, sent - 1000 * ROUNDS - loud));
    // A second's worth at once, and a thousand a second since.
    assert!((1000..=1000 * (seconds + 1)).contains(&loud), "{loud} in {seconds} s");
}

/// Resident memory now (`VmRSS`) or at its most (`VmHWM`), in bytes; `None` where the system does not tell.
fn resident_bytes(which: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// A line each from ever new sources, among them one that is real and one that is over its limit: nothing allocates on the
/// polling lcore, memory stays where it is, every line is stored, and the limit holds as if the others were not there.
#[test]
fn forged_sources_cost_nothing_and_harm_nobody() {
    let count: u64 = std::env::var("NETPOLL_FORGED").map_or(300_000, |text| text.parse().expect("NETPOLL_FORGED"));
    let _lcore = enter_lcore();
    let dir = tempfile::tempdir().unwrap();
    let sink = config(dir.path());
    #[cfg(feature = "store")]
    let sink = SinkConfig { text: None, spool: Some(netpoll::sink::SpoolConfig::default()), ..sink };
    let (at_first, bound) = (resident_bytes("VmRSS"), sink.memory_bytes(1));
    let rig = Rig::start(SinkConfig { max_lines_per_source_per_s: Some(100), ..sink });
    #[cfg(feature = "store")]
    let (converter, bound) = {
        use netpoll::sink::store::{Converter, ConverterThread, StoreConfig};
        let store = StoreConfig { min_free_bytes: 0, keep_bytes: Some(64 << 20), ..StoreConfig::new(dir.path()) };
        let bound = bound + store.memory_bytes();
        let converter = ConverterThread::start(Converter::open(store).unwrap(), Duration::from_millis(10));
        (converter, bound)
    };
    let start = Instant::now();
    let (mut stranger, mut real, mut loud) = (Line::new("<14>forged"), Line::new("<14>real"), Line::new("<14>loud"));
    let (mut reals, mut louds) = (0, 0);
    for burst in 0..count.div_ceil(BURST) {
        let allocated = allocation_counter::measure(|| {
            for n in burst * BURST..((burst + 1) * BURST).min(count) {
                assert!(rig.wire.inject(stranger.from(forged(n))));
            }
            assert!(rig.wire.inject(loud.from(0x0a00_0009)));
            rig.poll();
        });
        louds += 1;
        assert!(burst < 2 || allocated.count_total == 0, "{allocated:?}");
        // As often as its limit lets it, whatever this machine's speed.
        if start.elapsed().as_millis() / 10 > reals {
            assert!(rig.wire.inject(real.from(0x0a00_0002)));
            rig.poll();
            reals += 1;
        }
        if burst % 128 == 0 {
            rig.let_the_writer_keep_up();
        }
    }
    let seconds = start.elapsed().as_secs() + 1;
    let (_, ledger) = rig.end();
    let dropped = ledger.drop_count("source_rate");
    println!("{count} forged sources in {seconds} s; {dropped} of {louds} loud lines were dropped");
    assert_eq!(ledger.delivered, count + reals as u64 + louds);
    assert_eq!(ledger.stored, ledger.delivered - dropped, "{ledger}");
    // The loud one's, and no other's.
    let passed = louds - dropped;
    assert!(passed >= 100.min(louds) && passed <= 100 * (seconds + 1), "{passed} in {seconds} s");
    #[cfg(feature = "store")]
    {
        let converter = converter.stop().unwrap();
        let total = |name: &str| converter.totals().get(name).copied().unwrap_or(0);
        assert_eq!(
            (total("datagrams"), total("records"), total("parquet_rows")),
            (ledger.stored, ledger.stored, ledger.stored)
        );
    }
    let took = resident_bytes("VmHWM").zip(at_first).map_or(0, |(most, at_first)| most.saturating_sub(at_first));
    println!("memory: {} MiB at the most, bound {} MiB", took >> 20, bound >> 20);
    // The rig and the other tests of this process are in it, too: without the store they are more than the bound. 16 bytes for
    // each of ten million sources would be more than both.
    let rig = if cfg!(feature = "store") { 0 } else { 96 << 20 };
    assert!(took < bound + rig, "{took} bytes, and the bound is {bound}");
}
