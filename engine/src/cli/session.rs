//! An engine with its sinks, from ready to the last line of the ledger.

use std::{
    cell::Cell,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use netpoll::{
    dpdk::Spreading,
    engine::Engine,
    netpoll::{ClientOptions, ClientStats, Netpoll, Port, PortStats, RxFilter},
    sink::{
        Sink, SinkConfig, SinkLedger,
        store::{Backlog, StoreConfig},
    },
};
use serde_json::json;

use super::{
    ledger::{Ledger, Running},
    out::Out,
    store::Store,
};

/// What runs.
pub(super) struct Session {
    pub(super) engine: Engine,
    sinks: Vec<PortSink>,
    started: Instant,
}

/// A sink and the port whose rx client it is.
struct PortSink {
    port: Arc<Port>,
    rx: Netpoll,
    sink: Sink,
    store: Option<Store>,
    /// The sums of earlier runs on the same folder.
    before: SinkLedger,
    listen: String,
    out: PathBuf,
    /// What the NIC had missed when it was asked last, and what workers of a spread had no room for.
    missed: Cell<[u64; 2]>,
}

/// What a client came to, and what it was called.
pub(super) struct Sent {
    pub(super) port: Arc<Port>,
    pub(super) name: String,
    pub(super) stats: ClientStats,
}

impl Session {
    pub(super) fn new(engine: Engine) -> Session {
        Session { engine, sinks: Vec::new(), started: Instant::now() }
    }

    /// Opens a sink and makes it the port's rx client.
    pub(super) fn add_sink(
        &mut self,
        port: &Arc<Port>,
        config: SinkConfig,
        store: Option<StoreConfig>,
        listen: String,
        filter: RxFilter,
    ) -> anyhow::Result<()> {
        let out = config.dir.clone();
        let sink = Sink::open(config)?;
        let before = sink.ledger();
        // With the folder locked, and before the first datagram.
        let store = store.map(|config| Store::start(config, &before)).transpose()?;
        // It only receives: the smallest ring does.
        let rx = port.setup_rx(ClientOptions::new("sink").ring_frames(1), filter, sink.hooks())?;
        self.sinks.push(PortSink { port: port.clone(), rx, sink, store, before, listen, out, missed: Cell::default() });
        Ok(())
    }

    /// Says that packets can come: a line a sink.
    pub(super) fn say_ready(&self, out: Out) {
        for PortSink { port, listen, out: dir, .. } in &self.sinks {
            let driver = self.engine.device(port).map_or("?".into(), |(info, _)| info.driver);
            let ip = port.options().ip.map(|(ip, len)| format!("{ip}/{len}"));
            let (name, mac) = (port.name(), port.mac());
            let spread = self.engine.spreading(port).filter(|spreading| *spreading != Spreading::One);
            let queues = spread.map_or(String::new(), |spread| format!("{} queues, spread {spread}, ", port.queues()));
            let text = format!(
                "ready: port {name} ({driver}) {mac} {}, {queues}listening on udp {listen}, writing to {}",
                ip.as_deref().unwrap_or("no address"),
                dir.display()
            );
            let dir = dir.display().to_string();
            let value = json!({
                "port": name, "driver": driver, "mac": mac.to_string(), "ip": ip, "listen": listen, "out": dir,
                "queues": port.queues(), "spread": spread.map(|spread| spread.to_string()),
            });
            out.event("ready", text, value);
        }
    }

    /// Goes on with other outputs, limits and filter of sink `at`.
    pub(super) fn reload(
        &self,
        at: usize,
        config: SinkConfig,
        store: Option<&StoreConfig>,
        filter: &RxFilter,
    ) -> anyhow::Result<()> {
        let PortSink { sink, store: running, rx, .. } = &self.sinks[at];
        sink.reload(config)?;
        if let (Some(running), Some(config)) = (running, store) {
            running.set_limits(config);
        }
        rx.set_filter(filter)?;
        Ok(())
    }

    /// Begins new files.
    pub(super) fn roll(&self) -> anyhow::Result<()> {
        Ok(self.sinks.iter().try_for_each(|sink| sink.sink.roll())?)
    }

    /// Tells the sinks what the NICs have missed since the last call, so that their gaps can be told from those of the
    /// way. Asks the devices: not for every turn of a loop.
    fn note_missed(&self) {
        for PortSink { port, sink, missed, .. } in &self.sinks {
            let now = port.stats().missed;
            let now = [now.ring + now.no_mbuf, now.spread_full];
            let before = missed.replace(now);
            for (at, reason) in ["nic_missed", "spread_full"].into_iter().enumerate() {
                if now[at] > before[at] {
                    sink.note_lost(reason, now[at] - before[at]);
                }
            }
        }
    }

    /// Datagrams that the sinks were given.
    pub(super) fn delivered(&self) -> u64 {
        self.sinks.iter().map(|sink| sink.port.stats().queue.delivered).sum()
    }

    /// The ledger as it stands, while everything moves: a line a port for people, for machines the object that comes at
    /// the end (`final` tells them apart).
    pub(super) fn say_ledger(&self, out: Out) {
        let seconds = self.started.elapsed().as_secs_f64();
        let mut now = Running::new(seconds);
        for port in self.engine.ports() {
            let sink = self.sinks.iter().find(|sink| Arc::ptr_eq(&sink.port, &port));
            // From the end of the way to its start: what moves meanwhile shows as not there yet.
            let written = sink.map(|sink| sink.sink.ledger().since(&sink.before));
            now.port(port.name(), port.is_up(), &port.stats(), written.as_ref());
            // What cannot be looked at is told by the converter, which looks at it too.
            let backlog = sink.filter(|sink| sink.store.is_some()).and_then(|sink| Backlog::of(&sink.out).ok());
            if let Some(backlog) = backlog {
                now.backlog(port.name(), &backlog, SystemTime::now());
            }
        }
        now.print(out);
    }

    /// Clean-up in order, then the ledger: rx clients (each hands its last batch over), sinks, poll loops, ports.
    /// `sent`: the clients, which are cleaned up already.
    pub(super) fn finish(self, sent: &[Sent], mut ledger: Ledger, out: Out) -> anyhow::Result<()> {
        let Session { engine, sinks, .. } = self;
        let ports = engine.ports();
        let mut stored = Vec::new();
        for PortSink { port, rx, sink, store, before, out, .. } in sinks {
            rx.cleanup()?;
            stored.push((port, before, sink.stop(), out, store));
        }
        // The ports are free again before the last conversion, which may take seconds.
        let stopped = engine.stop();
        let mut incomplete = None;
        for port in &ports {
            let stats = port.stats();
            tell_sent(&mut ledger, port, &stats, sent);
            ledger.port(&format!("{}.rx", port.name()), &format!("port {}, receiving", port.name()), &stats);
            for (_, before, after, dir, store) in stored.iter_mut().filter(|(of, ..)| Arc::ptr_eq(of, port)) {
                let (name, handed, got) = (port.name(), stats.queue.delivered, after.delivered - before.delivered);
                let left = format!("port {name}: {handed} delivered");
                let right = format!("{got} that the sink got");
                ledger.equal(&format!("{name}.hook"), (&left, handed), (&right, got));
                ledger.way(name, &stats, &after.since(before));
                let earlier = if before.delivered > 0 { ", all runs together" } else { "" };
                ledger.sink(&format!("{name}.sink"), &format!("sink {}{earlier}", dir.display()), after);
                if let Some(store) = store.take() {
                    // Told after the ledger, which is printed in any case.
                    incomplete = store.finish(name, dir, after, &mut ledger).err().or(incomplete);
                }
            }
        }
        // Where a poll loop panicked the rest is told all the same.
        if let Ok(closed) = &stopped {
            ledger.mbufs(closed);
        }
        let balanced = ledger.print(out);
        stopped?;
        incomplete.map_or(balanced, Err)
    }
}

/// Clients of a port that are told one by one; more are told as a sum.
const TOLD_CLIENTS: usize = 8;

/// The sending side of a port: its clients, and all of them against the port.
fn tell_sent(ledger: &mut Ledger, port: &Arc<Port>, stats: &PortStats, sent: &[Sent]) {
    let name = port.name();
    let clients: Vec<_> = sent.iter().filter(|client| Arc::ptr_eq(&client.port, port)).collect();
    let mut all = ClientStats::default();
    clients.iter().for_each(|client| all.merge(&client.stats));
    if clients.len() <= TOLD_CLIENTS {
        for client in &clients {
            let title = format!("client {} on {name}, sending", client.name);
            ledger.client(&format!("{name}.tx.{}", client.name), &title, &client.stats);
        }
    } else {
        ledger.client(&format!("{name}.tx.clients"), &format!("{} clients on {name}, sending", clients.len()), &all);
        let balanced = clients.iter().all(|client| client.stats.balances());
        ledger.verdict(&format!("{name}.tx.each"), "each client by itself", balanced);
    }
    let (out, of_clients, own) = (stats.queue.sent, all.sent.sent, stats.queue.engine_sent);
    let right = format!("{of_clients} of clients + {own} of ARP and ICMP");
    ledger.equal(&format!("{name}.tx"), (&format!("port {name}: {out} sent"), out), (&right, of_clients + own));
}

impl Session {
    /// Tells the ledger every `interval` until `done` or the end is asked for, or `limit` is over.
    pub(super) fn wait(
        &self,
        stop: &super::stop::Stop,
        interval: Option<Duration>,
        limit: Option<Duration>,
        out: Out,
        mut done: impl FnMut() -> bool,
    ) {
        /// How often `done` is asked, and every tenth time the devices.
        const STEP: Duration = Duration::from_millis(20);
        let start = Instant::now();
        let mut next = interval.map(|interval| start + interval);
        let end = limit.map(|limit| start + limit);
        let mut turn = 0_u32;
        while !done() && end.is_none_or(|end| Instant::now() < end) && !stop.wait(STEP) {
            turn = (turn + 1) % 10;
            if turn == 0 {
                self.note_missed();
                if let Some(lcore) = self.engine.stopped_lcore() {
                    tracing::error!("lcore {lcore} has stopped polling: ending");
                    break;
                }
            }
            if let (Some(at), Some(interval)) = (next, interval)
                && Instant::now() >= at
            {
                self.say_ledger(out);
                next = Some(at + interval);
            }
        }
    }
}
