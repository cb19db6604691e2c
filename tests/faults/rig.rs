//! Ports with faults, the lcore that polls them, and how to ask whether they are well.

use super::*;

/// Nothing here takes longer than this unless it is broken.
pub const BOUND: Duration = Duration::from_secs(30);

#[track_caller]
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < BOUND, "waited in vain for {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A port whose faults can be set, with its wire.
pub struct Faulty {
    pub port: Arc<Port<FaultPort<MemoryPort>>>,
    pub faults: Arc<Faults>,
    pub wire: Wire,
}

impl Faulty {
    pub fn new(ring_frames: usize, buffers: usize) -> Faulty {
        let (io, wire) = MemoryPort::new(US_MAC, ring_frames, buffers);
        let (io, faults) = FaultPort::new(io);
        Faulty { port: Port::new(PortId(0), options(), vec![io]), faults, wire }
    }

    /// Its end: the receive equation holds, and every mbuf came back.
    #[track_caller]
    pub fn end(self) {
        let stats = self.port.stats();
        assert!(stats.balances(), "{stats}");
        let queue = &stats.queue;
        assert_eq!(queue.engine_submitted, queue.engine_sent + queue.engine_dropped);
        let queues = self.port.close().expect("no client is left");
        drop(queues);
        while self.wire.take_buf().is_some() {}
        assert_eq!(self.wire.pool().outstanding(), 0, "mbufs out = mbufs back");
    }
}

pub fn arp_request() -> Vec<u8> {
    let mut request = vec![0; 60];
    Arp::request(PEER_MAC, PEER_IP, US_IP).emit_frame(&mut request, MacAddr::BROADCAST).unwrap();
    request
}

pub fn is_arp_reply(frame: &[u8]) -> bool {
    frame[12..14] == [8, 6] && frame[21] == 2
}

/// Asks for our address and waits for the answer. What else comes is thrown away.
#[track_caller]
pub fn ask(wire: &Wire) {
    assert!(wire.inject(&arp_request()));
    wait_for("an ARP reply", || take_all(wire).iter().any(|frame| is_arp_reply(frame)));
}

/// ARP on a port that the calling thread polls, by this client of it.
#[track_caller]
pub fn answers_when_polled(faulty: &Faulty, np: &Netpoll<FaultPort<MemoryPort>>) {
    assert!(faulty.wire.inject(&arp_request()));
    poll_all(np);
    assert!(take_all(&faulty.wire).iter().any(|frame| is_arp_reply(frame)), "an ARP reply");
}

/// A thread that is an lcore and polls ports.
pub struct Lcore<P: netpoll::port::PortIo> {
    pub handle: PollLoopHandle<P>,
    pub thread: JoinHandle<()>,
}

impl<P: netpoll::port::PortIo> Lcore<P> {
    pub fn start(ports: &[&Arc<Port<P>>]) -> Lcore<P> {
        let mut poll_loop = PollLoop::new(IdlePolicy::Sleep { max: Duration::from_micros(100) }, 32);
        ports.iter().for_each(|port| poll_loop.add(port, QueueId(0)));
        let handle = poll_loop.handle();
        let thread = std::thread::spawn(move || {
            let _lcore = enter_lcore();
            poll_loop.run();
        });
        Lcore { handle, thread }
    }

    pub fn stop(self) -> std::thread::Result<()> {
        self.handle.stop();
        self.thread.join()
    }
}

/// The port with the fault and its neighbour, on one lcore.
pub struct Pair {
    pub faulty: Faulty,
    pub other: Faulty,
    pub keeper: Netpoll<FaultPort<MemoryPort>>,
    pub lcore: Lcore<FaultPort<MemoryPort>>,
}

impl Pair {
    pub fn start(ring_frames: usize, buffers: usize) -> Pair {
        let (faulty, other) = (Faulty::new(ring_frames, buffers), Faulty::new(64, 256));
        let keeper = other.port.setup(client("keeper").ring_frames(1)).unwrap();
        let lcore = Lcore::start(&[&faulty.port, &other.port]);
        Pair { faulty, other, keeper, lcore }
    }

    #[track_caller]
    pub fn other_answers(&self) {
        (0..3).for_each(|_| ask(&self.other.wire));
    }

    /// The clients of the port with the fault are gone.
    #[track_caller]
    pub fn end(self) {
        let Pair { faulty, other, keeper, lcore } = self;
        drop(keeper);
        lcore.stop().expect("no panic");
        faulty.end();
        other.end();
    }
}

pub fn hook_factory(make: impl Fn() -> Box<dyn RxHook>) -> impl FnMut(QueueId) -> Box<dyn RxHook> {
    move |_| make()
}

/// Whether ARP works, and the datagrams that the recorder has.
#[track_caller]
pub fn works_again(faulty: &Faulty, recorder: &Recorder) {
    ask(&faulty.wire);
    let before = recorder.payloads().len();
    assert!(faulty.wire.inject(&datagram(514, b"works again")));
    wait_for("a datagram", || recorder.payloads().len() > before);
}
