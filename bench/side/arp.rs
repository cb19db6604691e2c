//! ARP: from the moment in which a request is on the wire to the one in which its answer is.
//!
//! Both ends run on the measured lcore, by turns: the peer fills the ring and puts the request last, then the engine
//! polls until the answer is there. So the time is the engine's own, not the scheduler's, and comes with
//! the number of polls.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use netpoll::{
    QueueId, dpdk,
    dpdk::{DpdkQueue, Mbuf, StartedPort},
    netpoll::{
        ClientOptions, Netpoll, Port, RxFilter,
        hook::{HookSend, RxBurst, RxHook},
    },
    port::{Frame, PortIo},
    wire::{MacAddr, arp::Arp},
};

use super::{
    frames,
    rig::{self, Arguments, BURST, Report, Result, Rig, Side},
};

/// Places of the ring, one of which stays empty: two bursts.
const RING: u32 = 64;

/// What the lcore works with.
struct Both {
    peer: DpdkQueue,
    client: Netpoll<DpdkQueue>,
    flood: usize,
    request: Vec<u8>,
    datagram: Vec<u8>,
}

pub struct ArpSide {
    both: Arc<Mutex<Both>>,
    port: Arc<Port<DpdkQueue>>,
    started: [StartedPort; 2],
}

/// What one slice found.
#[derive(Default)]
struct Found {
    answers: u64,
    most_polls: u64,
    /// Time in polls, and their number: only those that found a full burst.
    full: (Duration, u64),
}

impl ArpSide {
    /// `flood=N` datagrams lie in the ring before the request.
    pub fn new(rig: &Rig, arguments: &Arguments) -> Result<Self> {
        let [a, b]: [dpdk::Port; 2] = dpdk::Port::ring_pair(&rig.eal, ["peer", "engine"], 1, RING)?.into();
        let (peer_started, mut peer) = rig.start_port(a, arguments)?;
        let (started, queue) = rig.start_port(b, arguments)?;
        let port = Port::new(started.id(), rig::options("engine"), vec![queue]);
        let hook = |_: QueueId| Box::new(Silent) as Box<dyn RxHook>;
        let client = port.setup_rx(ClientOptions::new("bench"), RxFilter::default(), hook)?;
        drain(&mut peer);
        let mut request = vec![0; 60];
        Arp::request(frames::PEER_MAC, frames::PEER, frames::US).emit_frame(&mut request, MacAddr::BROADCAST);
        let flood = arguments.number("flood", 0)?;
        let datagram = frames::asked(arguments)?;
        let both = Arc::new(Mutex::new(Both { peer, client, flood, request, datagram }));
        Ok(ArpSide { both, port, started: [peer_started, started] })
    }
}

impl Side for ArpSide {
    fn run(&mut self, rig: &Rig, slice: Duration) -> Result<Report> {
        let stop = Arc::new(AtomicBool::new(false));
        let result = Arc::new(Mutex::new((Found::default(), rig::times())));
        let (both, until, found) = (self.both.clone(), stop.clone(), result.clone());
        let start = Instant::now();
        let job = rig.launch(move || {
            let mut both = both.lock().expect("one job at a time");
            let mut found = found.lock().expect("one job at a time");
            let (found, times_ns) = &mut *found;
            while !until.load(Ordering::Relaxed) {
                both.ask(found, times_ns);
            }
        })?;
        thread::sleep(slice);
        stop.store(true, Ordering::Relaxed);
        rig::join(job)?;
        let result = result.lock().expect("one job at a time");
        let (found, times_ns) = &*result;
        let mut more = rig::percentiles(times_ns);
        more.push(("most_polls", found.most_polls as f64));
        if found.full.1 > 0 {
            more.push(("burst_ns", found.full.0.as_nanos() as f64 / found.full.1 as f64));
        }
        Ok(Report { frames: found.answers, wall: start.elapsed(), more })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let Ok(both) = Arc::try_unwrap(self.both) else { return Err("a job still runs".into()) };
        let Both { mut peer, client, .. } = both.into_inner()?;
        let [peer_started, started] = self.started;
        rig::close(vec![client], &self.port, started)?;
        drain(&mut peer);
        drop(peer);
        assert_eq!(peer_started.close()?.outstanding(), 0, "the peer's mbufs are missing");
        Ok(())
    }
}

impl Both {
    /// One request behind the flood, and its answer.
    fn ask(&mut self, found: &mut Found, times_ns: &mut Histogram<u64>) {
        let mut frames: Vec<Mbuf> = Vec::with_capacity(RING as usize);
        self.peer.alloc(&mut frames, self.flood + 1, false);
        let (last, flood) = frames.split_last_mut().expect("the pool has mbufs");
        flood.iter_mut().for_each(|mbuf| fill(mbuf, &self.datagram));
        fill(last, &self.request);
        let asked = Instant::now();
        self.peer.tx_burst(&mut frames);
        assert!(frames.is_empty(), "the ring is empty before");
        let mut polls = 0;
        let mut answers = Vec::with_capacity(BURST);
        while self.peer.rx_burst(&mut answers, BURST) == 0 {
            let start = Instant::now();
            let work = self.client.poll(BURST).expect("nobody else polls");
            if work >= BURST {
                found.full = (found.full.0 + start.elapsed(), found.full.1 + 1);
            }
            polls += 1;
            assert!(polls < 1000, "no answer");
        }
        times_ns.saturating_record(asked.elapsed().as_nanos() as u64);
        assert_eq!(answers.len(), 1, "one request, one answer");
        self.peer.free(&mut answers);
        found.answers += 1;
        found.most_polls = found.most_polls.max(polls);
    }
}

fn fill(mbuf: &mut Mbuf, frame: &[u8]) {
    mbuf.resize(frame.len()).expect("an mbuf holds a frame").copy_from_slice(frame);
}

fn drain(queue: &mut DpdkQueue) {
    let mut frames = Vec::with_capacity(BURST);
    while queue.rx_burst(&mut frames, BURST) > 0 {
        queue.free(&mut frames);
    }
}

struct Silent;

impl RxHook for Silent {
    fn rx_hook(&mut self, _: &dyn HookSend, burst: &RxBurst<'_>) {
        std::hint::black_box(burst.datagrams);
    }
}
