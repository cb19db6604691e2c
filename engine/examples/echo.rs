//! An echo on an rx hook: every datagram goes back to where it came from.
//!
//! ```text
//! cargo run --example echo          # two ports joined by rings: asks itself, then ends
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use netpoll::{
    QueueId,
    dpdk::PortSetup,
    engine::{Engine, EngineConfig},
    netpoll::{
        ClientOptions, PortOptions, RemoteMac, RxFilter,
        hook::{HookSend, RxBurst, RxHook},
    },
};

/// Sends each datagram back. Runs on the polling lcore: no lock, no allocation.
struct Echo;

impl RxHook for Echo {
    fn rx_hook(&mut self, np: &dyn HookSend, burst: &RxBurst<'_>) {
        // Refused only where there is no room; the client's counters tell.
        np.send_back(burst.datagrams);
    }
}

/// Counts what comes back.
struct Count(Arc<AtomicU64>);

impl RxHook for Count {
    fn rx_hook(&mut self, _: &dyn HookSend, burst: &RxBurst<'_>) {
        self.0.fetch_add(burst.datagrams.len() as u64, Ordering::Relaxed);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::start(EngineConfig::default())?;
    let options = |name, last| PortOptions::new(name).ip([10, 99, 0, last].into(), 24);
    let [near, far] = engine.ring_pair(1024, &PortSetup::default(), [options("near", 1), options("far", 2)])?;

    let filter = RxFilter { local_ports: 7.into(), ..RxFilter::default() };
    let echo = far.setup_rx(ClientOptions::new("echo"), filter, |_: QueueId| Box::new(Echo) as Box<dyn RxHook>)?;

    let echoes = Arc::new(AtomicU64::new(0));
    let count = echoes.clone();
    let asker = ClientOptions::new("asker").remote([10, 99, 0, 2], 7).remote_mac(RemoteMac::Arp);
    let hook = move |_: QueueId| Box::new(Count(count.clone())) as Box<dyn RxHook>;
    let asker = near.setup_rx(asker, RxFilter::default(), hook)?;
    // A client with a hook is shared between its hook and the application's threads.
    let sender = asker.shared().expect("a client with a hook is shared");
    for _ in 0..100 {
        sender.send(b"is there an echo?")?;
    }
    let start = Instant::now();
    while echoes.load(Ordering::Relaxed) < 100 && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("{} of 100 echoes came back", echoes.load(Ordering::Relaxed));
    asker.cleanup()?;
    print!("the echo's client:\n{}", echo.cleanup()?);
    print!("its port:\n{}", far.stats());
    engine.stop()?;
    Ok(())
}
