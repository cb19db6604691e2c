//! Two clients on one port, one with a hook and one without: the case that the patch of 2005 was written for. The
//! second one to register used to hide the first one's hook.
//!
//! ```text
//! cargo run --example two_clients
//! ```

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use netpoll::{
    QueueId,
    dpdk::PortSetup,
    engine::{Engine, EngineConfig},
    netpoll::{
        ClientOptions, PortOptions, RxFilter,
        hook::{HookSend, RxBurst, RxHook},
    },
};

/// Keeps every line.
struct Lines(Arc<Mutex<Vec<String>>>);

impl RxHook for Lines {
    fn rx_hook(&mut self, _: &dyn HookSend, burst: &RxBurst<'_>) {
        let lines = burst.datagrams.iter().map(|datagram| String::from_utf8_lossy(datagram.payload()).into_owned());
        self.0.lock().unwrap().extend(lines);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::start(EngineConfig::default())?;
    let options = |name, last| PortOptions::new(name).ip([10, 99, 0, last].into(), 24);
    let [ours, peer] = engine.ring_pair(1024, &PortSetup::default(), [options("ours", 1), options("peer", 2)])?;

    // First a client with a hook, then one without, on the same port.
    let lines = Arc::new(Mutex::new(Vec::new()));
    let keep = lines.clone();
    let hook = move |_: QueueId| Box::new(Lines(keep.clone())) as Box<dyn RxHook>;
    let with_hook = ours.setup_rx(ClientOptions::new("with a hook"), RxFilter::default(), hook)?;
    let mut without = ours.setup(ClientOptions::new("without").remote([10, 99, 0, 2], 6666))?;

    // A second hook is refused, and the answer names the holder.
    let nobody = |_: QueueId| Box::new(Lines(Arc::default())) as Box<dyn RxHook>;
    let refused = ours.setup_rx(ClientOptions::new("a third"), RxFilter::default(), nobody);
    println!("a second hook: {}", refused.expect_err("one rx client a port"));

    without.send(b"out through the same port")?;
    let mut remote = peer.setup(ClientOptions::new("remote").remote([10, 99, 0, 1], 6666))?;
    remote.send(b"still delivered")?;
    let start = Instant::now();
    while lines.lock().unwrap().is_empty() && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("the hook received: {:?}", lines.lock().unwrap());

    without.cleanup()?;
    remote.cleanup()?;
    with_hook.cleanup()?;
    engine.stop()?;
    Ok(())
}
