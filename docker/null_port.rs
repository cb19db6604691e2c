//! The engine on net_null for some seconds, with clients sending and a hook receiving, and then every frame accounted for.
//! docker/test.sh runs it in a container that may do nothing.
//!
//! net_null delivers whatever its mbufs hold. So before it is polled each of them is received once, gets a frame for
//! our hook written into it, and is given back: from then on the port receives that datagram for ever.
//!
//! ```text
//! cargo run --release --example null_port -- 2      # seconds
//! ```

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use netpoll::{
    QueueId,
    dpdk::{self, DpdkQueue, Eal, EalConfig, Memory, PortSetup},
    netpoll::{
        ClientOptions, ClientStats, IdlePolicy, OnFull, PollLoop, Port, PortOptions, RxFilter,
        hook::{HookSend, RxBurst, RxHook},
    },
    port::{Frame, PortIo},
    wire::{
        MacAddr,
        template::{HEADERS_LEN, UdpFlow, UdpTemplate},
    },
};

const US: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
const LISTEN: u16 = 514;
const LINE: &[u8] = b"<14>sender: whatever the mbuf held";
const CLIENTS: usize = 8;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Counts lines, and those that are not the one that was written into the mbufs.
struct Lines {
    good: Arc<AtomicU64>,
    bad: Arc<AtomicU64>,
}

impl RxHook for Lines {
    fn rx_hook(&mut self, _: &dyn HookSend, burst: &RxBurst<'_>) {
        let good = burst.datagrams.iter().filter(|datagram| datagram.payload() == LINE).count() as u64;
        self.good.fetch_add(good, Ordering::Relaxed);
        self.bad.fetch_add(burst.datagrams.len() as u64 - good, Ordering::Relaxed);
    }
}

/// Writes the datagram into every mbuf that the device receives into.
fn fill(queue: &mut DpdkQueue) -> Result<usize> {
    let flow = UdpFlow {
        src_mac: MacAddr([2, 0, 0, 0, 0, 2]),
        dst_mac: MacAddr::BROADCAST,
        src_ip: PEER,
        dst_ip: US,
        src_port: LISTEN,
        dst_port: LISTEN,
    };
    let mut frame = [0; HEADERS_LEN + LINE.len()];
    UdpTemplate::new(&flow).emit(&mut frame, LINE, 1).ok_or("the frame has not the datagram's length")?;
    let mut mbufs = Vec::with_capacity(1 << 16);
    while queue.rx_burst(&mut mbufs, 32) > 0 {}
    for mbuf in &mut mbufs {
        mbuf.data_mut()[..frame.len()].copy_from_slice(&frame);
    }
    let count = mbufs.len();
    queue.free(&mut mbufs);
    Ok(count)
}

/// Sends from `clients` in turn until the end.
fn send_until(end: Instant, port: &Arc<Port<DpdkQueue>>, clients: std::ops::Range<usize>) -> Result<ClientStats> {
    let client = |n| {
        let wait = OnFull::Wait(Duration::from_millis(100));
        let options = ClientOptions::new(format!("client{n}")).remote(PEER, LISTEN).ring_frames(256).on_full(wait);
        port.setup(options)
    };
    let mut clients = clients.map(client).collect::<std::result::Result<Vec<_>, _>>()?;
    while Instant::now() < end {
        for client in &mut clients {
            for _ in 0..32 {
                // Refusals are in the ledger.
                let _ = client.send(LINE);
            }
        }
    }
    let mut sum = ClientStats::default();
    for client in clients {
        sum.merge(&client.cleanup()?);
    }
    Ok(sum)
}

fn main() -> Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(1), |seconds| seconds.parse())?;
    let eal = Eal::init(EalConfig { memory: Memory::NoHuge { megabytes: 128 }, ..EalConfig::default() })?;
    let device = dpdk::Port::attach(&eal, "net_null0,size=96,copy=0")?;
    let (device, mut queues) = device.start(&PortSetup { mbufs_per_queue: Some(4096), ..PortSetup::default() })?;
    println!("{} mbufs filled", fill(&mut queues[0])?);

    let port = Port::new(device.id(), PortOptions::new("null0").ip(US, 24), queues);
    let mut poll_loop = PollLoop::new(IdlePolicy::default(), 32);
    poll_loop.add(&port, QueueId(0));
    let handle = poll_loop.handle();
    let job = eal.launch(eal.main_lcore(), move || poll_loop.run())?;

    let (good, bad) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let counters = (good.clone(), bad.clone());
    let hook =
        move |_: QueueId| Box::new(Lines { good: counters.0.clone(), bad: counters.1.clone() }) as Box<dyn RxHook>;
    let filter = RxFilter { local_ports: LISTEN.into(), ..RxFilter::default() };
    let rx = port.setup_rx(ClientOptions::new("rx").local(US, LISTEN), filter, hook)?;

    let end = Instant::now() + Duration::from_secs(seconds);
    let failed = AtomicBool::new(false);
    let sent: Vec<ClientStats> = thread::scope(|scope| {
        let threads = [0..CLIENTS / 2, CLIENTS / 2..CLIENTS]
            .map(|n| scope.spawn(|| send_until(end, &port, n).map_err(|e| e.to_string())));
        threads
            .into_iter()
            .filter_map(|thread| match thread.join() {
                Ok(Ok(stats)) => Some(stats),
                problem => {
                    eprintln!("{problem:?}");
                    failed.store(true, Ordering::Relaxed);
                    None
                }
            })
            .collect()
    });
    rx.cleanup()?;
    handle.stop();
    job.join().map_err(|_| "the poll loop panicked")?;

    let stats = port.stats();
    let clients = sent.iter().fold(ClientStats::default(), |mut sum, client| {
        sum.merge(client);
        sum
    });
    drop(port.close()?);
    let closed = device.close()?;
    let hooked = good.load(Ordering::Relaxed);
    print!("port, receiving\n{stats}{CLIENTS} clients, sending\n{clients}");
    let out = closed.outstanding();
    let checks = BTreeMap::from([
        ("port balanced", stats.balances()),
        ("clients balanced", clients.balances()),
        ("port sent = clients sent + ARP", stats.queue.sent == clients.sent.sent + stats.queue.engine_sent),
        ("delivered = lines in the hook", stats.queue.delivered == hooked),
        ("lines as written", bad.load(Ordering::Relaxed) == 0),
        ("frames both ways", hooked > 0 && clients.sent.sent > 0),
        ("mbufs out = mbufs back", out == 0),
        ("clients ended well", !failed.into_inner()),
    ]);
    for (check, holds) in &checks {
        println!("{check}: {}", if *holds { "yes" } else { "NO" });
    }
    println!("hook {hooked} sent {} outstanding {out}", clients.sent.sent);
    if checks.values().all(|holds| *holds) { Ok(()) } else { Err("the ledger does not balance".into()) }
}
