//! Receiving: bare, with the filter and a hook, and sent back.

use std::{
    hint::black_box,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use netpoll::{
    QueueId,
    dpdk::{DpdkQueue, StartedPort},
    netpoll::{
        ClientOptions, Netpoll, Port, RxFilter,
        hook::{HookSend, RxBurst, RxHook},
    },
    port::PortIo,
};

use super::{
    frames,
    rig::{self, Arguments, BURST, Report, Result, Rig, Side},
    wrappers::{Recycle, Verified},
};

/// Frames that go round in a loopback ring.
const CIRCULATING: usize = 256;

/// `rx_burst` and `free`, nothing else: what testpmd's rxonly does.
pub struct Free<P: PortIo> {
    queue: Arc<Mutex<P>>,
    started: StartedPort,
}

impl Free<DpdkQueue> {
    pub fn new(rig: &Rig, arguments: &Arguments) -> Result<Self> {
        let (started, queue) = rig.start(arguments.text("device")?, arguments)?;
        Ok(Free { queue: Arc::new(Mutex::new(queue)), started })
    }
}

impl Free<Recycle> {
    /// Received frames go back into the ring.
    pub fn loopback(rig: &Rig, arguments: &Arguments) -> Result<Self> {
        let (started, queue) = rig.start("net_ring0", arguments)?;
        let queue = Recycle::new(queue, &frames::asked(arguments)?, CIRCULATING, Arc::new(true.into()));
        Ok(Free { queue: Arc::new(Mutex::new(queue)), started })
    }
}

impl<P: PortIo> Side for Free<P> {
    fn run(&mut self, rig: &Rig, slice: Duration) -> Result<Report> {
        let stop = Arc::new(AtomicBool::new(false));
        let result = Arc::new(Mutex::new(0));
        let (queue, until, received) = (self.queue.clone(), stop.clone(), result.clone());
        let start = Instant::now();
        let job = rig.launch(move || {
            let mut queue = queue.lock().expect("one job at a time");
            let mut frames = Vec::with_capacity(BURST);
            let mut count = 0;
            while !until.load(Ordering::Relaxed) {
                count += queue.rx_burst(&mut frames, BURST) as u64;
                queue.free(&mut frames);
            }
            *received.lock().expect("written once") = count;
        })?;
        thread::sleep(slice);
        stop.store(true, Ordering::Relaxed);
        rig::join(job)?;
        let frames = *result.lock().expect("written once");
        Ok(Report { frames, wall: start.elapsed(), more: Vec::new() })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        drop(self.queue);
        assert_eq!(self.started.close()?.outstanding(), 0, "mbufs are missing");
        Ok(())
    }
}

/// The whole way: poll loop, filter, hook.
pub struct Receive<P: PortIo> {
    ports: Vec<One<P>>,
    echoes: bool,
    /// For loopback rings: see [`Recycle`].
    turning: Arc<AtomicBool>,
}

/// A port with its rx client.
struct One<P: PortIo> {
    client: Netpoll<P>,
    port: Arc<Port<P>>,
    started: StartedPort,
}

impl Receive<DpdkQueue> {
    pub fn new(rig: &Rig, arguments: &Arguments) -> Result<Self> {
        Ok(Receive {
            ports: vec![Self::one(rig, arguments, arguments.text("device")?, false)?],
            echoes: false,
            turning: Arc::default(),
        })
    }

    /// Two ports; each sends back what it gets.
    pub fn echo(rig: &Rig, arguments: &Arguments) -> Result<Self> {
        let one = |number| Self::one(rig, arguments, &format!("net_null{number},size=64"), true);
        Ok(Receive { ports: vec![one(0)?, one(1)?], echoes: true, turning: Arc::default() })
    }

    fn one(rig: &Rig, arguments: &Arguments, device: &str, echoes: bool) -> Result<One<DpdkQueue>> {
        let (started, queue) = Self::queue(rig, arguments, device, echoes)?;
        One::new(queue, started, echoes)
    }

    fn queue(rig: &Rig, arguments: &Arguments, device: &str, echoes: bool) -> Result<(StartedPort, DpdkQueue)> {
        let (started, mut queue) = rig.start(device, arguments)?;
        // An echo turns the frame in the very buffer that net_null delivers next, so it must be one for us either way round.
        let frame = match echoes {
            true => frames::asked_between(queue.mac(), queue.mac(), arguments)?,
            false => frames::asked(arguments)?,
        };
        if device.starts_with("net_null") {
            frames::prefill(&started, &mut queue, &frame);
        }
        Ok((started, queue))
    }
}

impl Receive<Verified> {
    /// As [`Receive::new`], of a port whose NIC has verified the checksums.
    pub fn verified(rig: &Rig, arguments: &Arguments) -> Result<Self> {
        let (started, queue) = Receive::queue(rig, arguments, arguments.text("device")?, false)?;
        Ok(Receive {
            ports: vec![One::new(Verified { queue }, started, false)?],
            echoes: false,
            turning: Arc::default(),
        })
    }
}

impl Receive<Recycle> {
    /// Received frames go back into the ring instead of being freed.
    pub fn loopback(rig: &Rig, arguments: &Arguments) -> Result<Self> {
        let (started, queue) = rig.start("net_ring0", arguments)?;
        let turning = Arc::new(AtomicBool::new(false));
        let queue = Recycle::new(queue, &frames::asked(arguments)?, CIRCULATING, turning.clone());
        let one = One::new(queue, started, false)?;
        // Our own announcement comes back first.
        rig.poll(std::slice::from_ref(&one.port), Duration::from_millis(5), || Ok(()))?;
        turning.store(true, Ordering::Relaxed);
        Ok(Receive { ports: vec![one], echoes: false, turning })
    }
}

impl<P: PortIo> One<P> {
    fn new(queue: P, started: StartedPort, echoes: bool) -> Result<One<P>> {
        let port = Port::new(started.id(), rig::options(started.name()), vec![queue]);
        let client = listen(&port, echoes)?;
        Ok(One { client, port, started })
    }
}

/// The rx client of a port, with the hook [`Count`].
pub fn listen<P: PortIo>(port: &Arc<Port<P>>, echoes: bool) -> Result<Netpoll<P>> {
    let options = ClientOptions::new("bench").local(frames::US, frames::PORT).ring_frames(256);
    let filter = RxFilter { local_ports: frames::PORT.into(), ..RxFilter::default() };
    let hook = move |_: QueueId| Box::new(Count { echoes, bytes: 0 }) as Box<dyn RxHook>;
    Ok(port.setup_rx(options, filter, hook)?)
}

impl<P: PortIo> Side for Receive<P> {
    fn run(&mut self, rig: &Rig, slice: Duration) -> Result<Report> {
        let ports: Vec<_> = self.ports.iter().map(|one| one.port.clone()).collect();
        let total = |count: fn(&netpoll::netpoll::QueueStats) -> u64| -> u64 {
            ports.iter().map(|port| count(&port.stats().queue)).sum()
        };
        let (delivered, sent) = (total(|stats| stats.delivered), total(|stats| stats.sent));
        let wall = rig.poll(&ports, slice, || Ok(()))?;
        let received = total(|stats| stats.delivered) - delivered;
        let sent = total(|stats| stats.sent) - sent;
        let frames = if self.echoes { sent } else { received };
        let more = if self.echoes { vec![("received", received as f64)] } else { Vec::new() };
        Ok(Report { frames, wall, more })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.turning.store(false, Ordering::Relaxed);
        for One { client, port, started } in self.ports {
            let stats = port.stats();
            // What a device delivered was what we meant it to: all but our own announcement, on a loopback ring.
            let meant = stats.queue.delivered + stats.queue.stale;
            assert!(stats.queue.received - meant <= 1, "frames were refused:\n{stats}");
            rig::close(vec![client], &port, started)?;
        }
        Ok(())
    }
}

/// Looks at each datagram; sends it back where that is asked for.
struct Count {
    echoes: bool,
    bytes: u64,
}

impl RxHook for Count {
    fn rx_hook(&mut self, np: &dyn HookSend, burst: &RxBurst<'_>) {
        for datagram in burst.datagrams {
            self.bytes += datagram.payload().len() as u64;
        }
        if self.echoes {
            // A full ring refuses; the frames that left are what counts, and the client's ledger knows the rest.
            np.send_back(burst.datagrams);
        }
        black_box(self.bytes);
    }
}
