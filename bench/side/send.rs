//! Sending: through a client's ring on the measured lcore, from another core, and how long that takes.

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
    dpdk::{DpdkQueue, StartedPort},
    netpoll::{ClientOptions, Netpoll, Port},
    port::PortIo,
    wire::template::HEADERS_LEN,
};

use super::{
    frames,
    rig::{self, Arguments, BURST, OTHER, Report, Result, Rig, Side},
    wrappers::Stamped,
};

type Clients<P> = Arc<Mutex<Vec<Netpoll<P>>>>;

/// A port with clients on it.
struct Senders<P: PortIo> {
    port: Arc<Port<P>>,
    started: StartedPort,
    clients: Clients<P>,
    payload: Vec<u8>,
}

impl<P: PortIo> Senders<P> {
    /// `clients=N`; with `silent=yes` all but the last hold one mbuf each, as those would that hardly ever send.
    fn new(started: StartedPort, queue: P, arguments: &Arguments) -> Result<Self> {
        let port = Port::new(started.id(), rig::options(started.name()), vec![queue]);
        let count = arguments.number("clients", 1)?;
        let silent = arguments.is("silent", "yes");
        let ring_frames = arguments.number("ring", 128)?;
        let client = |number| {
            let options = ClientOptions::new(format!("c{number}")).remote(frames::PEER, 6666).ring_frames(ring_frames);
            port.setup(if silent && number + 1 < count { options.first_credits(1) } else { options })
        };
        let clients = (0..count).map(client).collect::<std::result::Result<_, _>>()?;
        let payload = vec![0x5a; arguments.number("size", 64)? - HEADERS_LEN];
        Ok(Senders { port, started, clients: Arc::new(Mutex::new(clients)), payload })
    }

    fn sent(&self) -> u64 {
        self.port.stats().queue.sent
    }

    fn finish(self) -> Result<()> {
        let clients = std::mem::take(&mut *self.clients.lock().expect("one job at a time"));
        rig::close(clients, &self.port, self.started)
    }
}

/// One client sends and polls, on the measured lcore: the whole cost of a frame on one core. The others are silent.
pub struct Send {
    senders: Senders<DpdkQueue>,
    /// By `send_burst`, not frame by frame.
    bursts: bool,
}

impl Send {
    pub fn new(rig: &Rig, arguments: &Arguments) -> Result<Self> {
        let (started, queue) = rig.start("net_null0,no-rx=1", arguments)?;
        Ok(Send { senders: Senders::new(started, queue, arguments)?, bursts: !arguments.is("by", "frame") })
    }
}

impl Side for Send {
    fn run(&mut self, rig: &Rig, slice: Duration) -> Result<Report> {
        let sent = self.senders.sent();
        let stop = Arc::new(AtomicBool::new(false));
        let (clients, payload, until) = (self.senders.clients.clone(), self.senders.payload.clone(), stop.clone());
        let (bursts, start) = (self.bursts, Instant::now());
        let job = rig.launch(move || {
            let mut clients = clients.lock().expect("one job at a time");
            let client = clients.last_mut().expect("there is a client");
            let payloads = [&payload[..]; BURST];
            while !until.load(Ordering::Relaxed) {
                // There is room: what it sent before has left.
                if bursts {
                    assert_eq!(client.send_burst(&payloads), BURST, "a burst fits");
                } else {
                    payloads.iter().for_each(|payload| client.send(payload).expect("a burst fits"));
                }
                client.poll(BURST);
            }
            while client.poll(BURST).is_some_and(|work| work > 0) {}
        })?;
        thread::sleep(slice);
        stop.store(true, Ordering::Relaxed);
        rig::join(job)?;
        Ok(Report { frames: self.senders.sent() - sent, wall: start.elapsed(), more: Vec::new() })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.senders.finish()
    }
}

/// Clients send as fast as they can from threads on the other core, the poll loop drains them.
pub struct Stream {
    senders: Senders<DpdkQueue>,
    threads: usize,
}

impl Stream {
    pub fn new(rig: &Rig, arguments: &Arguments) -> Result<Self> {
        let (started, queue) = rig.start("net_null0,no-rx=1", arguments)?;
        Ok(Stream { senders: Senders::new(started, queue, arguments)?, threads: arguments.number("threads", 1)? })
    }
}

impl Side for Stream {
    fn run(&mut self, rig: &Rig, slice: Duration) -> Result<Report> {
        let sent = self.senders.sent();
        let stop = Arc::new(AtomicBool::new(false));
        let (clients, payload, until) = (self.senders.clients.clone(), self.senders.payload.clone(), stop.clone());
        let threads = self.threads;
        let feed = rig.eal.launch(OTHER, move || {
            let mut clients = clients.lock().expect("one job at a time");
            let share = clients.len().div_ceil(threads);
            // Threads made here inherit the other core.
            thread::scope(|scope| {
                for clients in clients.chunks_mut(share) {
                    let (payload, until) = (&payload, &until);
                    scope.spawn(move || feed(clients, payload, until));
                }
            });
        })?;
        let wall = rig.poll(std::slice::from_ref(&self.senders.port), slice, move || {
            thread::sleep(slice);
            stop.store(true, Ordering::Relaxed);
            rig::join(feed)
        })?;
        // Of all slices so far: in one slice the scheduler may prefer one thread.
        let each = self.each_sent();
        let (least, most) = (each.iter().min().copied().unwrap_or(0), each.iter().max().copied().unwrap_or(1));
        let more = vec![("fairness", least as f64 / most.max(1) as f64)];
        Ok(Report { frames: self.senders.sent() - sent, wall, more })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.senders.finish()
    }
}

impl Stream {
    fn each_sent(&self) -> Vec<u64> {
        let clients = self.senders.clients.lock().expect("one job at a time");
        clients.iter().map(|client| client.stats().sent.sent).collect()
    }
}

/// Keeps the rings of `clients` full.
fn feed(clients: &mut [Netpoll<DpdkQueue>], payload: &[u8], until: &AtomicBool) {
    while !until.load(Ordering::Relaxed) {
        let mut refused = 0;
        for client in &mut *clients {
            refused += usize::from(client.send_burst(&[payload; BURST]) < BURST);
        }
        if refused == clients.len() {
            (0..64).for_each(|_| std::hint::spin_loop());
        }
    }
}

/// From `send` to `tx_burst`, at `share=PERCENT` of the most that the client gets off frame by frame. The first slice finds
/// that out.
pub struct Latency {
    senders: Senders<Stamped>,
    ages_ns: Arc<Mutex<Histogram<u64>>>,
    epoch: Instant,
    percent: u64,
    most_per_s: Option<u64>,
}

impl Latency {
    pub fn new(rig: &Rig, arguments: &Arguments) -> Result<Self> {
        let (started, queue) = rig.start("net_null0,no-rx=1", arguments)?;
        let ages_ns = Arc::new(Mutex::new(rig::times()));
        let epoch = Instant::now();
        let queue = Stamped { queue, epoch, ages_ns: ages_ns.clone() };
        let percent = arguments.number("share", 50)? as u64;
        Ok(Latency { senders: Senders::new(started, queue, arguments)?, ages_ns, epoch, percent, most_per_s: None })
    }
}

impl Side for Latency {
    fn run(&mut self, rig: &Rig, slice: Duration) -> Result<Report> {
        let sent = self.senders.sent();
        let (clients, mut payload) = (self.senders.clients.clone(), self.senders.payload.clone());
        let epoch = self.epoch;
        // As fast as it can: each frame is due at once.
        let frames_per_s = self.most_per_s.map_or(u64::MAX, |most| most * self.percent / 100);
        let feed = rig.eal.launch(OTHER, move || {
            let mut clients = clients.lock().expect("one job at a time");
            let start = epoch.elapsed();
            let mut submitted = 0;
            loop {
                let now = epoch.elapsed();
                if now - start > slice {
                    return;
                }
                // Late frames are stamped when they were due: a stalled sender does not hide what it made wait.
                let due = start + Duration::from_nanos(submitted * 1_000_000_000 / frames_per_s);
                if now >= due {
                    payload[..8].copy_from_slice(&(due.as_nanos() as u64).to_le_bytes());
                    // A refusal is in the ledger.
                    let _ = clients[0].send(&payload);
                    submitted += 1;
                }
            }
        })?;
        let wall = rig.poll(std::slice::from_ref(&self.senders.port), slice, move || rig::join(feed))?;
        let frames = self.senders.sent() - sent;
        let most_per_s = *self.most_per_s.get_or_insert((frames as f64 / slice.as_secs_f64()) as u64);
        let mut ages_ns = self.ages_ns.lock().expect("nobody panics with it");
        let mut more = rig::percentiles(&ages_ns);
        ages_ns.reset();
        drop(ages_ns);
        more.push(("most_mpps", most_per_s as f64 / 1e6));
        Ok(Report { frames, wall, more })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.senders.finish()
    }
}
