//! From a port to queues that run.

use std::sync::Arc;

use super::{
    device::{self, Device},
    error::{DpdkError, Result},
    log,
    mempool::Mempool,
    port::{self, Port},
    queue::{DpdkQueue, QueuePools},
    started::{Running, StartedPort},
    xdp::{self, XdpSockets},
};
use crate::{
    ids::{NumaSocket, QueueId},
    port::{MAX_BURST, Offloads, spread::SpreadBy},
    wire::MacAddr,
};

/// Mbufs of each queue's reserve, for urgent frames when its pool is empty.
const RESERVE: u32 = 32;
/// Mbufs of each queue's clients, beside what the transmit descriptors hold.
const CLIENT_MBUFS: u32 = 4096;
/// Mbufs that an lcore keeps at hand.
const CACHE: u32 = 256;
/// Ethernet header, two VLAN tags, frame check sequence.
const L2_OVERHEAD: u32 = 14 + 2 * 4 + 4;
/// NICs take receive buffers in steps of 1 KB, rounded down.
const BUFFER_STEP: u32 = 1024;

/// How a port is to run.
#[derive(Clone, Debug)]
pub struct PortSetup {
    /// Queues, each for receive and transmit. Over one: the device spreads flows by RSS where it can.
    pub queues: u16,
    /// Who spreads frames over several queues, where the port is started by [`Port::start_spread`].
    pub spread: SpreadBy,
    /// Receive descriptors a queue; moved into the device's limits.
    pub rx_desc: u16,
    /// Transmit descriptors a queue; moved into the device's limits.
    pub tx_desc: u16,
    /// Mbufs a queue to receive into. `None`: twice the descriptors, and 1024.
    pub mbufs_per_queue: Option<u32>,
    /// Mbufs a queue for the frames of its clients, in a pool apart: however many its clients hold, receiving goes on.
    /// `None`: the transmit descriptors, and 4096.
    pub client_mbufs_per_queue: Option<u32>,
    /// Bytes of frame that an mbuf holds at least; raised to what `mtu` needs.
    pub data_room: u16,
    /// The largest IP packet, in bytes. `None`: as the device has it.
    pub mtu: Option<u16>,
    /// Whether to receive everybody's frames.
    pub promiscuous: bool,
    /// Multicast addresses to receive. A device that cannot filter them gets all multicast.
    pub multicast: Vec<MacAddr>,
    /// Where the mbufs lie. `None`: at the device's node.
    pub numa: Option<NumaSocket>,
}

impl Default for PortSetup {
    fn default() -> Self {
        PortSetup {
            queues: 1,
            spread: SpreadBy::Auto,
            rx_desc: 1024,
            tx_desc: 1024,
            mbufs_per_queue: None,
            client_mbufs_per_queue: None,
            data_room: 2048,
            mtu: None,
            promiscuous: false,
            multicast: Vec::new(),
            numa: None,
        }
    }
}

impl PortSetup {
    /// Mbufs a queue to receive into, with this many descriptors.
    pub(super) fn mbufs(&self) -> u32 {
        self.mbufs_per_queue.unwrap_or(2 * (u32::from(self.rx_desc) + u32::from(self.tx_desc)) + 1024)
    }
}

/// What the device makes of a [`PortSetup`].
struct Fitted {
    rx_offloads: u64,
    tx_offloads: u64,
    rss_hf: u64,
    data_room: u16,
    rx_desc: u16,
    tx_desc: u16,
    socket: NumaSocket,
    offloads: Offloads,
}

impl Port {
    /// Sets the port up and starts it. Each queue goes to one poll context. When this fails, the port is closed.
    pub fn start(self, setup: &PortSetup) -> Result<(StartedPort, Vec<DpdkQueue>)> {
        let device = self.device;
        let info = device::info(device.id)?;
        let mut fitted = fit(&device, setup, &info)?;
        configure(&device, setup, &mut fitted)?;

        // The running port holds the device and the pools, and sees to it that the device goes first: a queue that is
        // set up may hold mbufs.
        let mut running = Running::new(device, fitted.offloads);
        let mut pools = Vec::new();
        for queue in 0..setup.queues {
            pools.push(running.add_queue(setup, &info, &fitted, queue)?);
        }
        running.start(setup)?;

        let running = Arc::new(running);
        let queue = |(number, pools)| DpdkQueue::new(running.clone(), QueueId(number as u16), pools);
        let queues = pools.into_iter().enumerate().map(queue).collect();
        Ok((StartedPort::new(running), queues))
    }
}

fn fit(device: &Device, setup: &PortSetup, info: &dpdk_sys::rte_eth_dev_info) -> Result<Fitted> {
    let most = info.max_rx_queues.min(info.max_tx_queues);
    if setup.queues == 0 || setup.queues > most {
        let advice = match device.driver.as_str() {
            driver if driver.contains("af_packet") => ", or give the device more with qpairs=N",
            driver if driver.contains("af_xdp") => ", or give the device more with queue_count=N",
            driver if driver.contains("vhost") || driver.contains("virtio") => {
                ", or give the device more with queues=N"
            }
            driver if driver.contains("pcap") => ", or name a file a queue",
            _ => "",
        };
        return Err(DpdkError::TooManyQueues {
            port: device.name.clone(),
            asked: setup.queues,
            most,
            driver: device.driver.clone(),
            advice,
        });
    }
    if let Some(mtu) = setup.mtu.filter(|mtu| *mtu < info.min_mtu || *mtu > info.max_mtu) {
        let (min, max) = (info.min_mtu, info.max_mtu);
        return Err(bad(device, format!("an MTU of {mtu} is outside what the device can do, {min} to {max} bytes")));
    }
    let mut mtu = 1500;
    // SAFETY: the port exists; the place for the answer is ours.
    unsafe { dpdk_sys::rte_eth_dev_get_mtu(device.id.0, &mut mtu) };
    let frame = u32::from(setup.mtu.unwrap_or(mtu)) + L2_OVERHEAD;
    let room = frame.max(u32::from(setup.data_room)).next_multiple_of(BUFFER_STEP);
    // Some virtual devices state an MTU of 65535, which no frame of theirs has.
    let data_room = room.min(u32::from(u16::MAX) - dpdk_sys::DPDK_PKTMBUF_HEADROOM) as u16;

    let kernel_backed = port::is_kernel_backed(&device.driver);
    // A kernel-backed driver would check in software, and call a partial sum bad.
    let rx_wanted = if kernel_backed { 0 } else { RX_CHECKSUMS };
    let rx_offloads = info.rx_offload_capa & rx_wanted;
    let both = info.tx_offload_capa & TX_CHECKSUMS == TX_CHECKSUMS;
    // SAFETY: the port exists.
    let node = unsafe { dpdk_sys::rte_eth_dev_socket_id(device.id.0) };
    Ok(Fitted {
        rx_offloads,
        tx_offloads: if both { TX_CHECKSUMS } else { 0 },
        rss_hf: if setup.queues > 1 { info.flow_type_rss_offloads & RSS } else { 0 },
        data_room,
        rx_desc: setup.rx_desc,
        tx_desc: setup.tx_desc,
        socket: setup.numa.unwrap_or(NumaSocket(node)),
        offloads: Offloads {
            tx_checksum: both,
            rx_checksum: rx_offloads & dpdk_sys::DPDK_RX_OFFLOAD_UDP_CKSUM != 0,
            kernel_backed,
        },
    })
}

const RX_CHECKSUMS: u64 = dpdk_sys::DPDK_RX_OFFLOAD_IPV4_CKSUM | dpdk_sys::DPDK_RX_OFFLOAD_UDP_CKSUM;
const TX_CHECKSUMS: u64 = dpdk_sys::DPDK_TX_OFFLOAD_IPV4_CKSUM | dpdk_sys::DPDK_TX_OFFLOAD_UDP_CKSUM;
pub(super) const RSS: u64 = dpdk_sys::DPDK_RSS_IP | dpdk_sys::DPDK_RSS_UDP;

fn bad(device: &Device, problem: String) -> DpdkError {
    DpdkError::BadSetup { port: device.name.clone(), problem }
}

fn configure(device: &Device, setup: &PortSetup, fitted: &mut Fitted) -> Result<()> {
    let _control = device.eal.control();
    let start = log::mark();
    let (id, queues) = (device.id.0, setup.queues);
    let mtu = u32::from(setup.mtu.unwrap_or(0));
    // SAFETY: the port is ours and does not run.
    let rc = unsafe {
        dpdk_sys::shim_eth_configure(id, queues, queues, fitted.rx_offloads, fitted.tx_offloads, fitted.rss_hf, mtu)
    };
    device.check("rte_eth_dev_configure", rc, start, "ask for fewer queues or a smaller MTU")?;
    if let Some(mtu) = setup.mtu {
        // SAFETY: as above.
        let rc = unsafe { dpdk_sys::rte_eth_dev_set_mtu(id, mtu) };
        // A driver without the call has taken it from the configuration.
        if rc != -super::error::Errno::ENOTSUP.0 {
            device.check("rte_eth_dev_set_mtu", rc, start, "leave the MTU as it is")?;
        }
    }
    // SAFETY: as above; both numbers are ours.
    let rc = unsafe { dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut fitted.rx_desc, &mut fitted.tx_desc) };
    device.check("rte_eth_dev_adjust_nb_rx_tx_desc", rc, start, "ask for fewer descriptors")
}

impl Running {
    /// Makes the queue's pools, and sets the queue up.
    fn add_queue(
        &mut self,
        setup: &PortSetup,
        info: &dpdk_sys::rte_eth_dev_info,
        fitted: &Fitted,
        queue: u16,
    ) -> Result<QueuePools> {
        let device = self.device()?;
        let pools = pools_of(device, setup, fitted, queue)?;
        let control = device.eal.control();
        // Under the lock, so that another port's sockets are not taken for this one's.
        let before = xdp::is_xdp(&device.driver).then(XdpSockets::open_now);
        let done = setup_queue(device, info, fitted, queue, &pools.rx);
        let opened = before.map(|before| XdpSockets::open_now().since(&before));
        drop(control);
        self.xdp_sockets.extend(opened);
        self.pools.extend([&pools.rx, &pools.clients, &pools.reserve].map(Arc::clone));
        done.map(|()| pools)
    }
}

fn pools_of(device: &Device, setup: &PortSetup, fitted: &Fitted, queue: u16) -> Result<QueuePools> {
    let descriptors = u32::from(fitted.rx_desc) + u32::from(fitted.tx_desc);
    let count = setup.mbufs_per_queue.unwrap_or(2 * descriptors + 1024);
    // Descriptors may hold this many; one burst each way must be left over.
    let least = descriptors + 2 * MAX_BURST as u32;
    if count < least {
        let problem = format!(
            "{count} mbufs a queue are too few for {} + {} descriptors; give it at least {least}, or fewer descriptors",
            fitted.rx_desc, fitted.tx_desc
        );
        return Err(bad(device, problem));
    }
    let pool =
        |name: String, count, cache| Mempool::new(&device.eal, &name, count, cache, fitted.data_room, fitted.socket);
    let id = device.id;
    let clients = setup.client_mbufs_per_queue.unwrap_or(u32::from(fitted.tx_desc) + CLIENT_MBUFS);
    Ok(QueuePools {
        rx: pool(format!("np{id}.{queue}"), count, CACHE)?,
        clients: pool(format!("np{id}.{queue}c"), clients, CACHE)?,
        reserve: pool(format!("np{id}.{queue}r"), RESERVE, 0)?,
    })
}

/// With EAL's control lock held.
fn setup_queue(
    device: &Device,
    info: &dpdk_sys::rte_eth_dev_info,
    fitted: &Fitted,
    queue: u16,
    pool: &Mempool,
) -> Result<()> {
    let start = log::mark();
    let (id, socket) = (device.id.0, fitted.socket.0 as u32);
    let mut rx = info.default_rxconf;
    rx.offloads = fitted.rx_offloads;
    // SAFETY: the port is ours, configured and not running; the pool outlives it (`Running`).
    let rc = unsafe { dpdk_sys::rte_eth_rx_queue_setup(id, queue, fitted.rx_desc, socket, &rx, pool.raw()) };
    device.check("rte_eth_rx_queue_setup", rc, start, "ask for fewer descriptors, or a larger data room")?;
    let mut tx = info.default_txconf;
    tx.offloads = fitted.tx_offloads;
    // SAFETY: as above.
    let rc = unsafe { dpdk_sys::rte_eth_tx_queue_setup(id, queue, fitted.tx_desc, socket, &tx) };
    device.check("rte_eth_tx_queue_setup", rc, start, "ask for fewer descriptors")
}
