//! The engine, its ports and the sink; what happens to them; and what must hold when all is quiet.

use std::{
    net::UdpSocket,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use netpoll::{
    QueueId,
    dpdk::{self, EalConfig, Memory, PortSetup, StartedPort},
    engine::{Engine, EngineConfig},
    netpoll::{
        ClientOptions, IdlePolicy, Netpoll, Port, PortOptions, RxFilter, SetupError,
        hook::{HookSend, Now, RxBurst, RxHook},
    },
    sink::{
        Sink, SinkConfig, SinkHook, SinkHooks, SpoolConfig, TextConfig,
        store::{Converter, ConverterThread, StoreConfig},
    },
};

use super::{
    bad_frames::US_IP,
    machine::{Folder, run},
    random::Random,
    traffic::{Stranger, Totals, Traffic},
};

pub struct Rig {
    engine: Engine,
    /// Clients send on it.
    a: Arc<Port>,
    /// The sink's.
    b: Arc<Port>,
    /// Strangers send to it.
    s: Arc<Port>,
    stranger: Arc<Mutex<Option<Stranger>>>,
    stranger_port: StartedPort,
    sink: Sink,
    sink_hooks: SinkHooks,
    config: SinkConfig,
    converter: ConverterThread,
    b_rx: Option<Netpoll>,
    s_rx: Netpoll,
    /// Nanoseconds that the sink's hook sleeps at its next burst.
    stall_ns: Arc<AtomicU64>,
    next_device: u32,
}

/// The sink's hook, that stalls when told to.
struct Stalling {
    sink: SinkHook,
    stall_ns: Arc<AtomicU64>,
}

impl RxHook for Stalling {
    fn rx_hook(&mut self, np: &dyn HookSend, burst: &RxBurst<'_>) {
        match self.stall_ns.swap(0, Ordering::Relaxed) {
            0 => {}
            ns => thread::sleep(Duration::from_nanos(ns)),
        }
        self.sink.rx_hook(np, burst);
    }

    fn tick(&mut self, now: Now) {
        self.sink.tick(now);
    }
}

/// Takes datagrams and does nothing with them.
struct Nothing;

impl RxHook for Nothing {
    fn rx_hook(&mut self, _: &dyn HookSend, _: &RxBurst<'_>) {}
}

fn nothing(_: QueueId) -> Box<dyn RxHook> {
    Box::new(Nothing)
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited a minute for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn setup() -> PortSetup {
    PortSetup { mbufs_per_queue: Some(8191), ..PortSetup::default() }
}

impl Rig {
    pub fn start(folder: &Folder) -> Rig {
        let memory = Memory::NoHuge { megabytes: 512 };
        let eal = EalConfig { memory, extra_args: vec!["--no-pci".into()], ..EalConfig::default() };
        let idle = IdlePolicy::Sleep { max: Duration::from_micros(500) };
        let engine = Engine::start(EngineConfig { eal, idle, burst: 32, ..EngineConfig::default() }).unwrap();
        let options = [("a", 1), ("b", 2)].map(|(name, host)| PortOptions::new(name).ip([10, 99, 0, host].into(), 24));
        let [a, b] = engine.ring_pair(4096, &setup(), options).unwrap();
        let (s, other) = dpdk::Port::ring_pair(engine.eal(), ["s", "stranger"], 1, 2048).unwrap();
        let (stranger_port, mut queues) = other.start(&setup()).unwrap();
        let s = engine.run(s, &setup(), PortOptions::new("s").ip(US_IP.into(), 24), &[]).unwrap();
        let stranger = Stranger::new(queues.remove(0), s.mac().0);
        let s_rx = s.setup_rx(ClientOptions::new("rx"), RxFilter::default(), nothing).unwrap();

        let config = SinkConfig {
            text: Some(TextConfig { roll_bytes: 2 << 20, keep_bytes: 6 << 20, ..TextConfig::default() }),
            spool: Some(SpoolConfig {
                roll_bytes: 4 << 20,
                roll_every: Duration::from_secs(2),
                ..SpoolConfig::default()
            }),
            min_free_bytes: 1 << 20,
            retry_for: Duration::from_millis(100),
            ..SinkConfig::new(folder.path())
        };
        let sink = Sink::open(config.clone()).unwrap();
        let store = StoreConfig {
            part_bytes: 4 << 20,
            keep_bytes: Some(16 << 20),
            min_free_bytes: 2 << 20,
            ..StoreConfig::new(folder.path())
        };
        let converter = ConverterThread::start(Converter::open(store).unwrap(), Duration::from_millis(100));
        let mut rig = Rig {
            engine,
            a,
            b,
            s,
            stranger: Arc::new(Mutex::new(Some(stranger))),
            stranger_port,
            sink_hooks: sink.hooks(),
            sink,
            config,
            converter,
            b_rx: None,
            s_rx,
            stall_ns: Arc::default(),
            next_device: 0,
        };
        rig.listen();
        rig
    }

    fn listen(&mut self) {
        let (hooks, stall_ns) = (self.sink_hooks.clone(), self.stall_ns.clone());
        let factory = move |queue| -> Box<dyn RxHook> {
            Box::new(Stalling { sink: hooks.hook(queue), stall_ns: stall_ns.clone() })
        };
        let options = ClientOptions::new("sink").ring_frames(1);
        self.b_rx = Some(self.b.setup_rx(options, RxFilter::default(), factory).unwrap());
    }

    pub fn traffic(&self, random: &mut Random) -> Traffic {
        let stranger = self.stranger.lock().unwrap().take().expect("the last round has given it back");
        Traffic::start(random, &self.a, stranger, self.stranger.clone())
    }

    /// Other limits, and at times no text beside the spool.
    pub fn reload(&self, random: &mut Random, totals: &mut Totals) {
        totals.event("reloads");
        let config = SinkConfig {
            flush_interval: Duration::from_millis(10 + random.below(190)),
            max_lines_per_source_per_s: (random.below(2) == 0).then(|| 500 + random.below(5000) as u32),
            text: self.config.text.clone().filter(|_| random.below(2) > 0),
            ..self.config.clone()
        };
        match self.sink.reload(config) {
            Ok(()) => {}
            // The disk may be full: then nothing changes.
            Err(error) => println!("soak: not reloaded: {error}"),
        }
    }

    pub fn roll(&self, totals: &mut Totals) {
        totals.event("rotations");
        self.sink.roll().unwrap();
    }

    pub fn stall(&self, random: &mut Random, totals: &mut Totals) {
        totals.event("stalls");
        self.stall_ns.store((20 + random.below(280)) * 1_000_000, Ordering::Relaxed);
    }

    /// A TAP, datagrams of the kernel, and the TAP goes again.
    pub fn tap(&mut self, random: &mut Random, totals: &mut Totals) {
        totals.event("TAPs");
        let pid = std::process::id();
        self.next_device += 1;
        let name = format!("npk{}x{}", pid % 100_000, self.next_device % 10_000);
        // Of the range for benchmarks (RFC 2544): four addresses for this process.
        let net = [198, 18 + (pid >> 14 & 1) as u8, (pid >> 6) as u8, (pid << 2) as u8];
        let [ours, kernels] = [1, 2].map(|host| std::net::Ipv4Addr::new(net[0], net[1], net[2], net[3] | host));
        let device = format!("net_tap{},iface={name}", self.next_device);
        let port = self.engine.attach(&device, &setup(), PortOptions::new(&name).ip(ours, 30), &[]).unwrap();
        let rx = port.setup_rx(ClientOptions::new("rx"), RxFilter::default(), nothing).unwrap();
        run("ip", &format!("addr add {kernels}/30 dev {name}"));
        run("ip", &format!("link set {name} up"));
        let socket = UdpSocket::bind((kernels, 0)).unwrap();
        let datagrams = 1 + random.below(200);
        for number in 0..datagrams {
            socket.send_to(b"<14>from the kernel", (ours, 514)).unwrap();
            // The first one waits for ARP, with not many others.
            if number == 0 {
                wait_for("the kernel's first datagram", || port.stats().queue.delivered == 1);
            }
        }
        wait_for("the kernel's datagrams", || port.stats().queue.delivered == datagrams);
        rx.cleanup().unwrap();
        self.detach(&port);
    }

    /// A net_null with a client of its own: it receives at full speed as long as it is there.
    pub fn null_port(&mut self, random: &mut Random, totals: &mut Totals) {
        totals.event("net_nulls");
        self.next_device += 1;
        let name = format!("net_null{}", self.next_device);
        let port = self.engine.attach(&name, &setup(), PortOptions::new(&name), &[]).unwrap();
        let mut client = port.setup(ClientOptions::new("client").remote([10, 9, 9, 9], 514)).unwrap();
        let lines = random.below(300);
        let queued = (0..lines).filter(|_| client.send(b"into nothing").is_ok()).count() as u64;
        let stats = client.cleanup().unwrap();
        assert!(stats.balances() && stats.submit.submitted == lines && stats.sent.sent <= queued, "{stats:?}");
        self.detach(&port);
    }

    fn detach(&self, port: &Arc<Port>) {
        let closed = self.engine.detach(port).unwrap();
        assert_eq!(closed.outstanding(), 0, "{}: mbufs out = mbufs back", port.name());
        assert!(port.stats().balances(), "{}:\n{}", port.name(), port.stats());
    }

    /// Refused, and named.
    pub fn second_hook(&self, totals: &mut Totals) {
        totals.event("second hooks");
        let second = self.b.setup_rx(ClientOptions::new("second"), RxFilter::default(), nothing);
        assert!(matches!(second, Err(SetupError::RxTaken { .. })), "{:?}", second.err());
    }

    /// The rx client goes while traffic flows, and comes again.
    pub fn hook_again(&mut self, totals: &mut Totals) {
        totals.event("new hooks");
        self.b_rx.take().expect("there is one").cleanup().unwrap();
        thread::sleep(Duration::from_millis(5));
        self.listen();
    }

    /// Clients that register, say nothing, and go.
    pub fn link_of_idle_clients(&self, random: &mut Random, totals: &mut Totals) {
        totals.event("crowds");
        let options = |n| ClientOptions::new(format!("idle{n}")).remote([10, 99, 0, 2], 514).ring_frames(1);
        let clients: Vec<_> = (0..random.below(60)).map(|n| self.a.setup(options(n)).unwrap()).collect();
        for client in clients {
            assert_eq!(client.cleanup().unwrap().submit.submitted, 0);
        }
    }

    /// Nothing moves: every equation, both sides counted apart.
    pub fn checkpoint(&self, totals: &Totals) {
        wait_for("what a sent to arrive at b", || self.b.stats().arrived() == self.a.stats().queue.sent);
        wait_for("the stranger's frames", || self.s.stats().arrived() == totals.stranger);
        wait_for("the sink to be done", || {
            let ledger = self.sink.ledger();
            ledger.in_flight == 0 && ledger.delivered == self.b.stats().queue.delivered
        });
        let (a, b, s, sink) = (self.a.stats(), self.b.stats(), self.s.stats(), self.sink.ledger());
        for (port, stats) in [(&self.a, &a), (&self.b, &b), (&self.s, &s)] {
            assert!(stats.balances(), "{}:\n{stats}", port.name());
        }
        assert!(totals.clients.balances() && totals.clients.queued == 0, "{:#?}", totals.clients);
        assert_eq!(a.queue.sent, totals.clients.sent.sent + a.queue.engine_sent, "sent by a = by clients + by itself");
        assert!(sink.balanced(), "{sink:#?}");
        assert_eq!(sink.delivered, b.queue.delivered, "what b delivered = what the sink got");
        let mut stranger = self.stranger.lock().unwrap();
        let stranger = stranger.as_mut().expect("traffic has ended");
        wait_for("the answers to the stranger", || {
            stranger.take_answers();
            stranger.answers == self.s.stats().queue.sent
        });
    }

    /// Clean-up in order, and the last equations.
    pub fn finish(self, totals: &Totals) {
        let Rig { engine, a, b, s, stranger, stranger_port, sink, sink_hooks, converter, b_rx, s_rx, .. } = self;
        b_rx.expect("there is one").cleanup().unwrap();
        s_rx.cleanup().unwrap();
        drop(sink_hooks);
        let ledger = sink.stop();
        assert!(ledger.balanced() && ledger.in_flight == 0, "{ledger:#?}");
        assert_eq!(ledger.delivered, b.stats().queue.delivered);
        let converter = converter.stop().unwrap();
        let total = |name: &str| converter.totals().get(name).copied().unwrap_or(0);
        assert_eq!(
            ledger.stored,
            total("datagrams") + converter.spooled_datagrams().unwrap(),
            "stored = decoded + spool"
        );
        assert_eq!(total("records"), total("parquet_rows"), "records = rows in Parquet");
        let closed = engine.stop().unwrap();
        assert_eq!(
            closed.iter().map(dpdk::ClosedPort::outstanding).sum::<u64>(),
            0,
            "mbufs out = mbufs back: {closed:#?}"
        );
        drop(stranger);
        assert_eq!(stranger_port.close().unwrap().outstanding(), 0, "the stranger's mbufs");
        let (stored, dropped) = (ledger.stored, ledger.dropped());
        println!("soak: {} delivered = {stored} stored + {dropped} dropped, each named:", ledger.delivered);
        for reason in ledger.drops.iter().filter(|reason| reason.count > 0) {
            println!("soak:   {} {}", reason.count, reason.name);
        }
        println!("soak: port s: {} frames of a stranger, {} answered", totals.stranger, s.stats().queue.sent);
        drop((a, b, s));
    }
}
