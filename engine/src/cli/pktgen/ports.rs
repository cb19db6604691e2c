//! The ports of a run: two joined by rings, or the user's own.

use std::net::Ipv4Addr;

use clap::Args;
use netpoll::{
    config::{Device, Ipv4Net},
    dpdk::PortSetup,
    engine::Engine,
    netpoll::PortOptions,
};

use super::{
    super::{
        machine::{IdleArgs, MachineArgs},
        port,
    },
    trial::Ends,
};

/// Frames that are between the two ports at most, where rings join them.
const RING_FRAMES: u32 = 8192;
/// Prefix of the two networks that RFC 2544 (C.2.2) sets aside for such tests, together.
const TEST_PREFIX: u8 = 15;

#[derive(Args, Debug)]
#[command(next_help_heading = "Ports")]
#[group(skip)]
pub(super) struct PortsArgs {
    /// A virtual device to send from, or to receive on with --receive [default: two ports of this process, joined by rings]
    #[arg(long, value_name = "DEVICE", value_parser = port::vdev, conflicts_with = "device")]
    vdev: Option<Device>,
    /// The same, a NIC that is bound to vfio-pci
    #[arg(long, value_name = "ADDRESS", value_parser = port::pci)]
    device: Option<Device>,
    /// Its address and its network's prefix length.
    #[arg(long, value_name = "ADDRESS/LENGTH", value_parser = port::net)]
    ip: Option<Ipv4Net>,
    /// Where frames for other networks go, with --arp
    #[arg(long, value_name = "ADDRESS", requires = "ip")]
    gateway: Option<Ipv4Addr>,
    /// A virtual device that receives, in this process.
    #[arg(long, value_name = "DEVICE", value_parser = port::vdev, conflicts_with = "rx_device")]
    rx_vdev: Option<Device>,
    /// The same, a NIC.
    #[arg(long, value_name = "ADDRESS", value_parser = port::pci)]
    rx_device: Option<Device>,
    /// Its address and its network's prefix length: it answers ARP for it
    #[arg(long, value_name = "ADDRESS/LENGTH", value_parser = port::net)]
    rx_ip: Option<Ipv4Net>,
}

impl PortsArgs {
    fn tx(&self) -> Option<&Device> {
        self.vdev.as_ref().or(self.device.as_ref())
    }

    fn rx(&self) -> Option<&Device> {
        self.rx_vdev.as_ref().or(self.rx_device.as_ref())
    }

    /// Whether there is a device to send from, and one to receive on.
    pub(super) fn named(&self) -> (bool, bool) {
        (self.tx().is_some(), self.rx().is_some())
    }

    /// The engine with its ports, for clients that hold `client_mbufs` in all and send to `to`.
    pub(super) fn start(
        &self,
        machine: &MachineArgs,
        idle: &IdleArgs,
        client_mbufs: usize,
        to: Ipv4Addr,
    ) -> anyhow::Result<(Engine, Ends)> {
        let setup = port::setup(1, client_mbufs + RING_FRAMES as usize);
        let Some(tx) = self.tx() else { return self.start_joined(machine, idle, &setup, to) };
        let devices: Vec<&Device> = [Some(tx), self.rx()].into_iter().flatten().collect();
        let megabytes = devices.len() as u32 * port::megabytes(&setup);
        let eal = machine.eal(Some(&devices), devices.len(), megabytes);
        let engine = Engine::start(machine.engine(eal, idle))?;
        let mut options = options(tx, self.ip);
        options.gateway = self.gateway;
        let tx = port::attach(&engine, tx, &setup, options, &[])?;
        let rx = self.rx().map(|rx| port::attach(&engine, rx, &setup, self::options(rx, self.rx_ip), &[]));
        let rx = rx.transpose()?;
        Ok((engine, Ends { tx, rx, joined: false }))
    }

    fn start_joined(
        &self,
        machine: &MachineArgs,
        idle: &IdleArgs,
        setup: &PortSetup,
        to: Ipv4Addr,
    ) -> anyhow::Result<(Engine, Ends)> {
        let eal = machine.own_eal(2, 2 * port::megabytes(setup));
        let engine = Engine::start(machine.engine(eal, idle))?;
        let options = [PortOptions::new("pktgen0"), PortOptions::new("pktgen1").ip(to, TEST_PREFIX)];
        let [tx, rx] = engine.ring_pair(RING_FRAMES, setup, options)?;
        Ok((engine, Ends { tx, rx: Some(rx), joined: true }))
    }
}

fn options(device: &Device, ip: Option<Ipv4Net>) -> PortOptions {
    let (Device::Pci { args, .. } | Device::Vdev { args, .. }) = device;
    let iface = args.split(',').find_map(|arg| arg.strip_prefix("iface="));
    let options = PortOptions::new(iface.unwrap_or(device.name()));
    match ip {
        Some(net) => options.ip(net.ip, net.prefix_len),
        None => options,
    }
}
