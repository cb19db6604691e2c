//! A port before it runs: attached or found, described.

use std::sync::Arc;

use super::{
    device::{self, Device},
    eal::Eal,
    error::Result,
    ring::RingLink,
};
use crate::{
    ids::{NumaSocket, PortId},
    wire::MacAddr,
};

/// A port that this process owns and that does not run yet. [`Port::start`] runs it; dropping it closes it and
/// takes the device away.
#[derive(Debug)]
pub struct Port {
    pub(super) device: Device,
}

/// What DPDK knows of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// Its number.
    pub id: PortId,
    /// Its name: the virtual device's, or the PCI address.
    pub name: String,
    /// Its driver, such as `net_tap`.
    pub driver: String,
    /// The arguments that its device was made with.
    pub devargs: String,
    /// Its address.
    pub mac: MacAddr,
    /// Its link.
    pub link: Link,
    /// The largest IP packet that it takes now, in bytes.
    pub mtu: u16,
    /// The most that `mtu` can be.
    pub max_mtu: u16,
    /// Receive queues that it could have.
    pub max_rx_queues: u16,
    /// Transmit queues that it could have.
    pub max_tx_queues: u16,
    /// Receive queues that it has now (0 before it is started).
    pub rx_queues: u16,
    /// Transmit queues that it has now.
    pub tx_queues: u16,
    /// DPDK's names of what it does on receive.
    pub rx_offloads: Vec<String>,
    /// DPDK's names of what it does on transmit.
    pub tx_offloads: Vec<String>,
    /// What its RSS could hash, as `RTE_ETH_RSS_*` (rte_ethdev.h); 0: it has none.
    pub rss_offered: u64,
    /// What its RSS hashes now; 0 before it is started, and with one queue.
    pub rss: u64,
    /// Its NUMA node, -1 if it has none.
    pub numa: NumaSocket,
}

/// A port's link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether it is up.
    pub up: bool,
    /// Mbit/s, where the driver knows.
    pub speed_mbps: Option<u32>,
}

impl Port {
    /// Makes a virtual device (`net_tap0,iface=np0`) or probes a PCI address (`0000:03:00.0`), at any time.
    pub fn attach(eal: &Arc<Eal>, devargs: &str) -> Result<Port> {
        Ok(Port { device: Device::attach(eal, devargs)? })
    }

    /// Takes a port that is there already (EAL probes PCI devices and `--vdev` at start), by its name, PCI address
    /// or number.
    pub fn open(eal: &Arc<Eal>, port: &str) -> Result<Port> {
        Ok(Port { device: Device::open(eal, port)? })
    }

    /// Two ports joined by rings: frames sent on queue *n* of the one arrive on queue *n* of the other. Each ring
    /// has `ring_size` places (a power of two, less one) and each port up to `queues` queues.
    pub fn ring_pair(eal: &Arc<Eal>, names: [&str; 2], queues: u16, ring_size: u32) -> Result<(Port, Port)> {
        let (a, b) = RingLink::pair(eal, names, queues, ring_size)?;
        Ok((Port { device: a }, Port { device: b }))
    }

    /// Every port there is, owned or not.
    pub fn list(eal: &Arc<Eal>) -> Vec<PortInfo> {
        let _control = eal.control();
        device::ports().filter_map(|port| PortInfo::read(port).ok()).collect()
    }

    /// Its number.
    pub fn id(&self) -> PortId {
        self.device.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.device.name
    }

    /// Its driver, such as `net_tap`.
    pub fn driver(&self) -> &str {
        &self.device.driver
    }

    /// What DPDK knows of it.
    pub fn info(&self) -> Result<PortInfo> {
        let _control = self.device.eal.control();
        PortInfo::read(self.device.id)
    }
}

impl PortInfo {
    /// With EAL's control lock held.
    pub(super) fn read(id: PortId) -> Result<PortInfo> {
        let info = device::info(id)?;
        let mut mtu = 0;
        // SAFETY: the port exists (`info`); the place for the answer is ours.
        unsafe { dpdk_sys::rte_eth_dev_get_mtu(id.0, &mut mtu) };
        let names = |capabilities: u64, name: unsafe extern "C" fn(u64) -> *const std::ffi::c_char| {
            (0..u64::BITS)
                .map(|bit| 1 << bit)
                .filter(|bit| capabilities & bit != 0)
                // SAFETY: returns a constant string for any value.
                .map(|bit| device::text(unsafe { name(bit) }))
                .collect()
        };
        Ok(PortInfo {
            id,
            name: device::name_of(id).unwrap_or_default(),
            driver: device::text(info.driver_name),
            devargs: device::devargs_of(info.device),
            mac: mac(id),
            link: link(id),
            mtu,
            max_mtu: info.max_mtu,
            max_rx_queues: info.max_rx_queues,
            max_tx_queues: info.max_tx_queues,
            rx_queues: info.nb_rx_queues,
            tx_queues: info.nb_tx_queues,
            rx_offloads: names(info.rx_offload_capa, dpdk_sys::rte_eth_dev_rx_offload_name),
            tx_offloads: names(info.tx_offload_capa, dpdk_sys::rte_eth_dev_tx_offload_name),
            rss_offered: info.flow_type_rss_offloads,
            // SAFETY: the port exists; a driver that does not know is 0.
            rss: unsafe { dpdk_sys::shim_rss_get(id.0) },
            // SAFETY: the port exists.
            numa: NumaSocket(unsafe { dpdk_sys::rte_eth_dev_socket_id(id.0) }),
        })
    }
}

pub(super) fn mac(port: PortId) -> MacAddr {
    let mut mac = dpdk_sys::rte_ether_addr { addr_bytes: [0; 6] };
    // SAFETY: fills in the address, or leaves it.
    unsafe { dpdk_sys::rte_eth_macaddr_get(port.0, &mut mac) };
    MacAddr(mac.addr_bytes)
}

pub(super) fn link(port: PortId) -> Link {
    let (mut up, mut speed) = (false, 0);
    // SAFETY: fills in both, or leaves them.
    unsafe { dpdk_sys::shim_link_get(port.0, &mut up, &mut speed) };
    Link { up, speed_mbps: (speed != 0).then_some(speed) }
}

/// Drivers whose other end is a kernel on this machine.
pub(super) fn is_kernel_backed(driver: &str) -> bool {
    ["net_tap", "net_af_packet", "net_af_xdp"].iter().any(|kernel| driver.contains(kernel.trim_start_matches("net_")))
}
