//! `netpoll ports`: what DPDK sees.

use std::fmt::Write as _;

use clap::Args;
use netpoll::{
    config::{Device, LogLevel},
    dpdk::{self, Eal, PortInfo, Spreading},
};
use serde_json::{Value, json};

use super::{log::LogArgs, machine::MachineArgs, out::Out, port};

/// Show the ports that DPDK sees: driver, MAC address, link, queues and who spreads over them, offloads, NUMA node.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  netpoll ports
  netpoll ports --vdev net_tap0,iface=np0 --vdev net_null0")]
pub(super) struct PortsArgs {
    /// Make this virtual device first, to see what it can do. May be given several times.
    #[arg(long, value_name = "DEVICE", value_parser = port::vdev)]
    vdev: Vec<Device>,
    #[command(flatten)]
    machine: MachineArgs,
}

const NONE: &str = "\
DPDK sees no port on this machine.

A NIC: load vfio-pci, give the NIC to it (it then leaves the kernel), and look again:
  modprobe vfio-pci
  dpdk-devbind.py --status-dev net
  dpdk-devbind.py --bind=vfio-pci 0000:01:00.0
Without a NIC, a virtual device:
  netpoll ports --vdev net_tap0,iface=np0           a network interface of this kernel (root)
  netpoll ports --vdev net_af_packet0,iface=eth0    beside the kernel on an interface (root)
  netpoll ports --vdev net_null0                    nothing on the other side (any user)
Or see it work at once: netpoll demo";

pub(super) fn run(args: &PortsArgs, log: &LogArgs, out: Out) -> anyhow::Result<()> {
    log.start(LogLevel::Warn);
    let eal = Eal::init(args.machine.eal(None, 1, 128))?;
    let made: Vec<_> =
        args.vdev.iter().map(|device| dpdk::Port::attach(&eal, &device.to_string())).collect::<Result<_, _>>()?;
    let ports = dpdk::Port::list(&eal);
    if ports.is_empty() {
        out.text(NONE);
    } else {
        out.text(format_args!("{}, {} port{}", dpdk::version(), ports.len(), if ports.len() == 1 { "" } else { "s" }));
    }
    ports.iter().for_each(|port| out.event("port", describe(port), to_json(port)));
    drop(made);
    Ok(())
}

fn describe(port: &PortInfo) -> String {
    let PortInfo { id, name, driver, devargs, mac, link, mtu, max_mtu, .. } = port;
    let mut text = format!("\nport {id}  {name}\n");
    let mut line = |key: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {key:<12}{value}");
    };
    line("driver", if devargs.is_empty() { driver.clone() } else { format!("{driver} ({devargs})") });
    line("mac", mac.to_string());
    let speed = link.speed_mbps.map_or(String::new(), |mbps| format!(", {mbps} Mbit/s"));
    line("link", format!("{}{speed}", if link.up { "up" } else { "down" }));
    line("mtu", format!("{mtu} bytes, at most {max_mtu}"));
    line("queues", format!("at most {} rx, {} tx", port.max_rx_queues, port.max_tx_queues));
    line("spread", spread(port).1);
    line("numa node", if port.numa.0 < 0 { "none".into() } else { port.numa.to_string() });
    let list = |names: &[String]| if names.is_empty() { "none".into() } else { names.join(" ") };
    line("rx offloads", list(&port.rx_offloads));
    line("tx offloads", list(&port.tx_offloads));
    text
}

/// Who spreads frames over several queues (`--queues`): for programs, and for people.
fn spread(port: &PortInfo) -> (&'static str, String) {
    let by = port.spreading();
    let name = match by {
        Spreading::Rss => "rss",
        Spreading::OtherSide => "other_side",
        Spreading::One | Spreading::Software { .. } => "software",
    };
    let text = match by {
        Spreading::Software { device_queues: 2.. } => "in software by source: the device has no RSS".into(),
        Spreading::Software { .. } => "in software by source: the device has 1 queue".into(),
        _ => format!("{by}, over at most {} queues", port.max_rx_queues.min(port.max_tx_queues)),
    };
    (name, text)
}

fn to_json(port: &PortInfo) -> Value {
    json!({
        "id": port.id.0,
        "name": port.name,
        "driver": port.driver,
        "devargs": port.devargs,
        "mac": port.mac.to_string(),
        "link_up": port.link.up,
        "speed_mbps": port.link.speed_mbps,
        "mtu": port.mtu,
        "max_mtu": port.max_mtu,
        "max_rx_queues": port.max_rx_queues,
        "max_tx_queues": port.max_tx_queues,
        "spread": spread(port).0,
        "numa": port.numa.0,
        "rx_offloads": port.rx_offloads,
        "tx_offloads": port.tx_offloads,
    })
}
