//! `--vdev`, `--device`, `--ip`: one port.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use clap::Args;
use netpoll::{
    LcoreId,
    config::{Device, Ipv4Net},
    dpdk::{self, DpdkError, PortSetup},
    engine::{Engine, EngineError},
    netpoll::{Port, PortOptions},
    port::spread::SpreadBy,
};

use super::{exit::Usage, stop::Stop};

/// The port of a command that has one.
#[derive(Args, Debug)]
#[command(next_help_heading = "Port")]
#[group(skip)]
pub(super) struct PortArgs {
    /// A virtual device that DPDK makes: `net_tap0,iface=np0`, `net_af_packet0,iface=eth0`, `net_null0`
    #[arg(long, value_name = "DEVICE", value_parser = vdev, required_unless_present = "device", conflicts_with = "device")]
    vdev: Option<Device>,
    /// A NIC that is bound to vfio-pci, by its PCI address: `0000:01:00.0`
    #[arg(long, value_name = "ADDRESS", value_parser = pci)]
    device: Option<Device>,
    /// The port's name [default: the device's `iface`, or the device's own name]
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// The port's address and its network's prefix length: `10.99.0.1/24`
    #[arg(long, value_name = "ADDRESS/LENGTH", value_parser = net)]
    pub(super) ip: Option<Ipv4Net>,
    /// Where frames for other networks go.
    #[arg(long, value_name = "ADDRESS", requires = "ip")]
    gateway: Option<Ipv4Addr>,
    /// Receive and transmit queues, spread over the lcores.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) queues: u16,
}

const VDEV: &str = "expected a virtual device like `net_tap0,iface=np0`, `net_af_packet0,iface=eth0` or `net_null0`: \
                    a driver, a number, and its arguments";
const PCI: &str = "expected a PCI address like `0000:01:00.0`; `netpoll ports` and `dpdk-devbind.py --status-dev net` \
                   list them";

/// A virtual device.
pub(super) fn vdev(text: &str) -> Result<Device, &'static str> {
    Device::parse(text).filter(|device| matches!(device, Device::Vdev { .. })).ok_or(VDEV)
}

/// A NIC.
pub(super) fn pci(text: &str) -> Result<Device, &'static str> {
    Device::parse(text).filter(|device| matches!(device, Device::Pci { .. })).ok_or(PCI)
}

fn name(text: &str) -> Result<String, &'static str> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let fits = (1..=32).contains(&text.len()) && text.bytes().all(good);
    fits.then(|| text.to_owned()).ok_or("expected 1 to 32 letters, digits, '_', '-' or '.'")
}

/// A host and its network.
pub(super) fn net(text: &str) -> Result<Ipv4Net, &'static str> {
    Ipv4Net::parse(text).ok_or("expected a host's IPv4 address with a prefix length like `10.99.0.1/24`")
}

impl PortArgs {
    /// The device behind it.
    pub(super) fn device(&self) -> &Device {
        // clap sees to it that one of them is there.
        self.vdev.as_ref().or(self.device.as_ref()).expect("--vdev or --device")
    }

    /// What the port is called.
    pub(super) fn name(&self) -> String {
        let (Device::Pci { args, .. } | Device::Vdev { args, .. }) = self.device();
        let iface = || args.split(',').find_map(|arg| arg.strip_prefix("iface=")).map(str::to_owned);
        self.name.clone().or_else(iface).unwrap_or_else(|| self.device().name().to_owned())
    }

    /// The port's options; a gateway outside its network is a mistake.
    pub(super) fn options(&self) -> anyhow::Result<PortOptions> {
        let mut options = PortOptions::new(self.name());
        if let Some(net) = self.ip {
            options = options.ip(net.ip, net.prefix_len);
            if let Some(gateway) = self.gateway.filter(|gateway| !net.is_host(*gateway) || *gateway == net.ip) {
                return Err(Usage(format!("--gateway {gateway}: expected another host in {net}")).into());
            }
        }
        options.gateway = self.gateway;
        Ok(options)
    }

    /// How the device is set up, for clients that hold `client_mbufs` in all.
    pub(super) fn setup(&self, client_mbufs: usize) -> PortSetup {
        setup_of(self.queues, self.device().rx_descriptors(), client_mbufs)
    }
}

/// How a device is set up, for clients that hold `client_mbufs` in all.
pub(super) fn setup(queues: u16, client_mbufs: usize) -> PortSetup {
    setup_of(queues, PortSetup::default().rx_desc, client_mbufs)
}

fn setup_of(queues: u16, rx_desc: u16, client_mbufs: usize) -> PortSetup {
    // A queue made in software only receives.
    let setup = PortSetup { queues, rx_desc, spread: SpreadBy::Device, ..PortSetup::default() };
    let clients = client_mbufs.div_ceil(usize::from(queues)) as u32;
    PortSetup {
        mbufs_per_queue: Some(2 * (u32::from(setup.rx_desc) + u32::from(setup.tx_desc)) + 1024),
        client_mbufs_per_queue: Some(u32::from(setup.tx_desc) + 4096 + clients),
        ..setup
    }
}

/// MiB of memory for the mbufs of `setup`, and for EAL.
pub(super) fn megabytes(setup: &PortSetup) -> u32 {
    // Header, headroom and room of an mbuf; twice, as EAL cannot use all of its memory for one pool.
    let mbuf_bytes = 64 + 128 + 128 + u64::from(setup.data_room);
    let mbufs = setup.mbufs_per_queue.unwrap_or_default() + setup.client_mbufs_per_queue.unwrap_or_default();
    (2 * u64::from(mbufs) * u64::from(setup.queues) * mbuf_bytes).div_ceil(1 << 20).max(192) as u32 + 64
}

/// Has the engine run `device`: one that EAL made or probed when it started, or a new one.
pub(super) fn attach(
    engine: &Engine,
    device: &Device,
    setup: &PortSetup,
    options: PortOptions,
    lcores: &[LcoreId],
) -> Result<Arc<Port>, EngineError> {
    match dpdk::Port::open(engine.eal(), device.name()) {
        Ok(port) => engine.run(port, setup, options, lcores),
        Err(DpdkError::NoSuchPort { .. }) => engine.attach(&device.to_string(), setup, options, lcores),
        Err(error) => Err(error.into()),
    }
}

/// Longest wait for the link.
const LINK_LIMIT: Duration = Duration::from_secs(5);

/// Waits until the link is up: a frame that is submitted before is refused.
pub(super) fn wait_for_link(port: &Port, stop: &Stop) -> anyhow::Result<()> {
    let step = Duration::from_millis(10);
    let steps = LINK_LIMIT.as_millis() / step.as_millis();
    for _ in 0..steps {
        if port.is_up() || stop.wait(step) {
            return Ok(());
        }
    }
    anyhow::bail!("port {}: its link is down; connect its other side and try again", port.name())
}
