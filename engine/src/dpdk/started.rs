//! A port that runs, and its end.
//!
//! The end goes in one order, whoever starts it: the queues are dropped, the device is stopped and closed (its
//! descriptors give their mbufs back), frames left in rings are freed, the pools are counted and freed.
//! Ownership makes it so: a queue holds the running port, that holds the device and the pools, those EAL.

use std::{
    mem::MaybeUninit,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    device::Device,
    error::{DpdkError, Errno, Result},
    log,
    mempool::Mempool,
    port::{self, PortInfo},
    setup::PortSetup,
    xdp::{self, XdpSockets},
};
use crate::{
    ids::PortId,
    port::{Missed, Offloads},
    wire::MacAddr,
};

/// How long an answer about the link holds. Asking the driver may be a system call.
const LINK_AGE_MS: u64 = 100;

/// Milliseconds that the kernel gets to finish sending when a net_af_xdp port closes.
const FLUSHES: u32 = 20;

/// A port that runs. It ends by [`StartedPort::close`], or by itself once this and all its queues are dropped.
#[derive(Debug)]
pub struct StartedPort {
    running: Arc<Running>,
}

/// What the port and its queues share.
#[derive(Debug)]
pub(super) struct Running {
    /// Taken at the end, before the pools go.
    device: Option<Device>,
    pub(super) pools: Vec<Arc<Mempool>>,
    pub(super) id: PortId,
    pub(super) mac: MacAddr,
    pub(super) offloads: Offloads,
    started: bool,
    /// Opened by the set-up of net_af_xdp queues.
    pub(super) xdp_sockets: XdpSockets,
    link: LinkCache,
    /// The device's counters when it was started.
    baseline: PortStats,
}

/// The device's own counters, since the port was started. Many virtual devices count little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames that found no descriptor.
    pub rx_missed: u64,
    /// Frames that were broken.
    pub rx_errors: u64,
    /// Frames that found no mbuf.
    pub rx_no_mbuf: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
}

/// What a port's end leaves: its pools' accounts.
#[derive(Debug)]
pub struct ClosedPort {
    name: String,
    pools: Vec<Arc<Mempool>>,
}

/// One pool's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolAccount {
    /// The pool's name.
    pub name: String,
    /// Mbufs in all.
    pub count: u32,
    /// Mbufs that are not back.
    pub outstanding: u32,
}

#[derive(Debug)]
struct LinkCache {
    epoch: Instant,
    /// When to ask again, in ms since `epoch`. Whoever moves it on asks.
    next_ms: AtomicU64,
    up: AtomicBool,
}

impl StartedPort {
    pub(super) fn new(running: Arc<Running>) -> StartedPort {
        StartedPort { running }
    }

    /// Its number.
    pub fn id(&self) -> PortId {
        self.running.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.running.name()
    }

    /// Its address.
    pub fn mac(&self) -> MacAddr {
        self.running.mac
    }

    /// What it does in hardware.
    pub fn offloads(&self) -> Offloads {
        self.running.offloads
    }

    /// What DPDK knows of it.
    pub fn info(&self) -> Result<PortInfo> {
        let _control = self.running.device()?.eal.control();
        PortInfo::read(self.running.id)
    }

    /// Its link, as of the last 100 ms. Any thread.
    pub fn link_up(&self) -> bool {
        self.running.link_up()
    }

    /// The device's counters since it was started. Any thread; may be a system call or slow.
    pub fn stats(&self) -> PortStats {
        self.running.stats()
    }

    /// The accounts of its pools now. Any thread.
    pub fn pools(&self) -> Vec<PoolAccount> {
        accounts(&self.running.pools)
    }

    /// Queues that are still held.
    pub fn queues_in_use(&self) -> usize {
        Arc::strong_count(&self.running) - 1
    }

    /// Stops and closes the port and removes its device. Refused while queues are held; the port then closes by
    /// itself once the last one is dropped.
    pub fn close(self) -> Result<ClosedPort> {
        let name = self.name().to_owned();
        let mut running = Arc::try_unwrap(self.running).map_err(|running| DpdkError::QueuesInUse {
            port: name.clone(),
            queues: Arc::strong_count(&running) - 1,
        })?;
        running.shut_down()?;
        Ok(ClosedPort { name, pools: std::mem::take(&mut running.pools) })
    }
}

impl ClosedPort {
    /// The port's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The accounts of its pools now: a frame that another port or a ring held at the close may have come back since.
    pub fn pools(&self) -> Vec<PoolAccount> {
        accounts(&self.pools)
    }

    /// Mbufs that are not back, of all its pools. 0 = mbufs out equal mbufs back.
    pub fn outstanding(&self) -> u64 {
        self.pools.iter().map(|pool| u64::from(pool.in_use())).sum()
    }
}

fn accounts(pools: &[Arc<Mempool>]) -> Vec<PoolAccount> {
    let account =
        |pool: &Arc<Mempool>| PoolAccount { name: pool.name().into(), count: pool.count(), outstanding: pool.in_use() };
    pools.iter().map(account).collect()
}

impl Running {
    pub(super) fn new(device: Device, offloads: Offloads) -> Running {
        Running {
            id: device.id,
            mac: port::mac(device.id),
            device: Some(device),
            pools: Vec::new(),
            offloads,
            started: false,
            xdp_sockets: XdpSockets::default(),
            link: LinkCache { epoch: Instant::now(), next_ms: AtomicU64::new(0), up: AtomicBool::new(false) },
            baseline: PortStats::default(),
        }
    }

    pub(super) fn start(&mut self, setup: &PortSetup) -> Result<()> {
        let device = self.device()?;
        let control = device.eal.control();
        let start = log::mark();
        // SAFETY: the port is ours, configured, with all its queues set up.
        let rc = unsafe { dpdk_sys::rte_eth_dev_start(self.id.0) };
        let advice = "is the device's other side (interface, socket, cable) as it should be?";
        device.check("rte_eth_dev_start", rc, start, advice)?;
        receive_modes(device, setup, start)?;
        drop(control);
        if xdp::is_xdp(&device.driver) {
            // The driver has filled the kernel's ring from the pool and does not empty it when it closes: what it
            // holds before the first frame is what it keeps at the end.
            self.pools.iter().for_each(|pool| pool.write_off());
        }
        self.baseline = self.read_stats();
        // Some drivers make the address when they start.
        self.mac = port::mac(self.id);
        self.started = true;
        Ok(())
    }

    /// The device; it is there until `shut_down`.
    pub(super) fn device(&self) -> Result<&Device> {
        self.device.as_ref().ok_or_else(|| DpdkError::NoSuchPort { port: self.id.to_string(), known: "closed".into() })
    }

    fn name(&self) -> &str {
        self.device.as_ref().map_or("", |device| &device.name)
    }

    pub(super) fn link_up(&self) -> bool {
        let now = self.link.epoch.elapsed().as_millis() as u64;
        // Relaxed: two words that stand each for itself; one caller wins and asks the driver, the others take
        // what is there.
        let next = self.link.next_ms.load(Ordering::Relaxed);
        if now >= next
            && self.link.next_ms.compare_exchange(next, now + LINK_AGE_MS, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.link.up.store(port::link(self.id).up, Ordering::Relaxed);
        }
        self.link.up.load(Ordering::Relaxed)
    }

    pub(super) fn stats(&self) -> PortStats {
        self.read_stats().since(&self.baseline)
    }

    /// Frames lost in the device, as its counters tell.
    pub(super) fn missed(&self) -> Missed {
        let stats = self.stats();
        Missed { ring: stats.rx_missed, no_mbuf: stats.rx_no_mbuf, ..Missed::default() }
    }

    fn read_stats(&self) -> PortStats {
        let mut stats = MaybeUninit::<dpdk_sys::rte_eth_stats>::zeroed();
        // SAFETY: fills in the structure; all zeros, where a driver has no counters, are valid.
        let stats = unsafe {
            dpdk_sys::rte_eth_stats_get(self.id.0, stats.as_mut_ptr());
            stats.assume_init()
        };
        PortStats {
            rx_frames: stats.ipackets,
            rx_bytes: stats.ibytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            rx_no_mbuf: stats.rx_nombuf,
            tx_frames: stats.opackets,
            tx_bytes: stats.obytes,
            tx_errors: stats.oerrors,
        }
    }

    /// Stop, close, remove, drain. Once; the queues are gone.
    fn shut_down(&mut self) -> Result<()> {
        let Some(mut device) = self.device.take() else { return Ok(()) };
        let start = log::mark();
        let mut stopped = Ok(());
        if self.started {
            self.flush_tx(&device);
            let _control = device.eal.control();
            // SAFETY: the port runs, and no queue uses it any more.
            let rc = unsafe { dpdk_sys::rte_eth_dev_stop(self.id.0) };
            stopped = device.check("rte_eth_dev_stop", rc, start, "the port is closed all the same");
        }
        let link = device.link.take();
        // Closes and removes it.
        drop(device);
        std::mem::take(&mut self.xdp_sockets).close();
        self.pools.iter().for_each(|pool| pool.settle());
        if let Some(link) = link {
            link.keep(&self.pools);
            link.drain();
        }
        stopped
    }
}

impl Running {
    /// Lets net_af_xdp collect what the kernel has sent: it does so only when it is asked to send, and forgets
    /// the rest when it closes. Bounded, since frames may be out for other reasons.
    fn flush_tx(&self, device: &Device) {
        if !xdp::is_xdp(&device.driver) {
            return;
        }
        for _ in 0..FLUSHES {
            if self.pools.iter().all(|pool| pool.in_use() == 0) {
                return;
            }
            for queue in 0..self.pools.len() as u16 / 2 {
                // SAFETY: the port runs, has a queue for each two pools, and nobody else uses them any more; of an
                // empty burst nothing is read.
                unsafe { dpdk_sys::shim_tx_burst(self.id.0, queue, std::ptr::null_mut(), 0) };
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let name = self.name().to_owned();
        if let Err(error) = self.shut_down() {
            tracing::warn!(port = name, "{error}");
        }
    }
}

/// What the port listens to.
fn receive_modes(device: &Device, setup: &PortSetup, start: log::Mark) -> Result<()> {
    let id = device.id.0;
    if setup.promiscuous {
        // SAFETY: the port is ours and runs.
        let rc = unsafe { dpdk_sys::rte_eth_promiscuous_enable(id) };
        unless_unsupported(device, "rte_eth_promiscuous_enable", rc, start)?;
    }
    if !setup.multicast.is_empty() {
        let mut macs: Vec<_> =
            setup.multicast.iter().map(|mac| dpdk_sys::rte_ether_addr { addr_bytes: mac.0 }).collect();
        // SAFETY: as above; an array of the length given.
        let mut rc = unsafe { dpdk_sys::rte_eth_dev_set_mc_addr_list(id, macs.as_mut_ptr(), macs.len() as u32) };
        if rc < 0 {
            // SAFETY: as above.
            rc = unsafe { dpdk_sys::rte_eth_allmulticast_enable(id) };
        }
        unless_unsupported(device, "rte_eth_allmulticast_enable", rc, start)?;
    }
    Ok(())
}

/// A driver without the call has no filter either: it delivers everything.
fn unless_unsupported(device: &Device, call: &'static str, rc: i32, start: log::Mark) -> Result<()> {
    if rc == -Errno::ENOTSUP.0 {
        tracing::debug!(port = device.name, "{call} is not supported by {}", device.driver);
        return Ok(());
    }
    device.check(call, rc, start, "leave out the promiscuous mode or the multicast addresses")
}

impl PortStats {
    fn since(&self, earlier: &PortStats) -> PortStats {
        PortStats {
            rx_frames: self.rx_frames.saturating_sub(earlier.rx_frames),
            rx_bytes: self.rx_bytes.saturating_sub(earlier.rx_bytes),
            rx_missed: self.rx_missed.saturating_sub(earlier.rx_missed),
            rx_errors: self.rx_errors.saturating_sub(earlier.rx_errors),
            rx_no_mbuf: self.rx_no_mbuf.saturating_sub(earlier.rx_no_mbuf),
            tx_frames: self.tx_frames.saturating_sub(earlier.tx_frames),
            tx_bytes: self.tx_bytes.saturating_sub(earlier.tx_bytes),
            tx_errors: self.tx_errors.saturating_sub(earlier.tx_errors),
        }
    }
}
