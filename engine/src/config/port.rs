//! The sections `[[port]]`.

use super::{
    eal,
    plan::PortPlan,
    section::{At, Report, Section, quoted},
    value::{self, Device, Ipv4Net},
};
use crate::{LcoreId, port::spread::SpreadBy, wire::MacAddr};
use std::net::Ipv4Addr;

/// Mbufs that a mempool cache may hold back (RTE_MEMPOOL_CACHE_MAX_SIZE, rte_config.h).
const CACHE_MBUFS: u32 = 512;

/// `[[port]]` as read. A field that could not be read is `None`, and that is noted already.
pub(super) struct RawPort {
    pub name: Option<At<String>>,
    device: Option<At<Device>>,
    pub ip: Option<At<Ipv4Net>>,
    pub gateway: Option<At<Ipv4Addr>>,
    pub queues: u16,
    spread: SpreadBy,
    pub lcores: Option<Vec<At<u32>>>,
    rx_descriptors: u16,
    tx_descriptors: u16,
    mbufs_per_queue: Option<At<u32>>,
    mtu_bytes: u16,
    promiscuous: bool,
    multicast: Vec<MacAddr>,
}

impl RawPort {
    pub fn read(mut s: Section) -> RawPort {
        let name = s.require("name", NAME).and_then(|v| v.text(NAME, value::name));
        let device = s.require("device", Device::EXPECTED).and_then(|v| v.text(Device::EXPECTED, Device::parse));
        let ip = s.get("ip").and_then(|v| v.text(Ipv4Net::EXPECTED, Ipv4Net::parse));
        let gateway = s.get("gateway").and_then(|v| v.text("an address like \"10.99.0.254\"", value::unicast));
        let queues = s.number("queues", 1..=64, 1);
        let spread = s.get("spread").and_then(|v| v.word(&SpreadBy::WORDS)).map_or(SpreadBy::Auto, |at| at.value);
        let lcores = s.get("lcores").filter(|v| v.as_str() != Some("auto")).and_then(|v| {
            let list = eal::lcores(&v)?;
            if list.len() > queues as usize {
                v.wrong(format_args!(
                    "found {} lcores for {queues} queue(s), expected at most one a queue",
                    list.len()
                ));
            }
            Some(list)
        });
        let multicast = s.get("multicast").and_then(|v| {
            v.list("an array of multicast addresses", 64, |v| {
                v.text("a multicast address like \"01:00:5e:00:00:fb\" or \"224.0.0.251\"", value::multicast)
            })
        });
        let rx_descriptors = device.as_ref().map_or(1024, |device| device.value.rx_descriptors());
        let port = RawPort {
            name,
            device,
            ip,
            gateway,
            queues,
            spread,
            lcores,
            rx_descriptors: s.number("rx_descriptors", 32..=32_768, rx_descriptors),
            tx_descriptors: s.number("tx_descriptors", 32..=32_768, 1024),
            mbufs_per_queue: s.get("mbufs_per_queue").and_then(|v| v.number(64..=8_388_607)),
            // RFC 791: every host takes 576. Above: what most NICs can do.
            mtu_bytes: s.number("mtu_bytes", 576..=9_600, 1500),
            promiscuous: s.flag("promiscuous", false),
            multicast: multicast.unwrap_or_default().into_iter().map(|at| at.value).collect(),
        };
        s.finish();
        port
    }

    /// Mbufs that one queue can have under way at once.
    fn least_mbufs(&self, burst_frames: u16) -> u32 {
        u32::from(self.rx_descriptors) + u32::from(self.tx_descriptors) + 2 * u32::from(burst_frames)
    }
}

/// What a name must look like, for messages.
pub(super) const NAME: &str = "a name of 1 to 32 letters, digits, '_', '-' or '.'";

/// Compares the ports' keys with each other.
pub(super) fn check(report: &Report, ports: &[RawPort]) {
    for (i, port) in ports.iter().enumerate() {
        let before = &ports[..i];
        unique(report, before.iter().map(|p| &p.name), &port.name, |name| quoted(name));
        if let Some(at) = &port.device
            && let Some(other) =
                before.iter().find(|p| p.device.as_ref().is_some_and(|d| d.value.name() == at.value.name()))
        {
            let name = other.name.as_ref().map_or("another port", |at| at.value.as_str());
            at.wrong(
                report,
                format_args!("{} is the device of port {name} already, expected another", at.value.name()),
            );
        }
        let ip_of = |at: &At<Ipv4Net>| at.value.ip;
        if let Some(at) = &port.ip
            && before.iter().any(|p| p.ip.as_ref().map(ip_of) == Some(at.value.ip))
        {
            at.wrong(report, format_args!("{} is the address of another port already, expected another", at.value.ip));
        }
        if let Some(gateway) = &port.gateway {
            check_gateway(report, gateway, port.ip.as_ref());
        }
    }
}

fn check_gateway(report: &Report, gateway: &At<Ipv4Addr>, ip: Option<&At<Ipv4Net>>) {
    let address = gateway.value;
    match ip.map(|at| at.value) {
        None => gateway.wrong(report, "a gateway without `ip`, expected the port to have an address"),
        Some(net) if net.ip == address => {
            gateway.wrong(report, format_args!("{address} is the port's own address, expected another host's"));
        }
        Some(net) if !net.is_host(address) => {
            gateway.wrong(report, format_args!("{address} is not a host in {net}, expected one on the port's network"));
        }
        Some(_) => {}
    }
}

/// Notes it when `this` is among those `before` it.
pub(super) fn unique<'a, T: PartialEq + 'a>(
    report: &Report,
    before: impl Iterator<Item = &'a Option<At<T>>>,
    this: &Option<At<T>>,
    show: impl Fn(&T) -> String,
) {
    if let Some(this) = this
        && before.flatten().any(|other| other.value == this.value)
    {
        this.wrong(report, format_args!("{} is there already, expected another", show(&this.value)));
    }
}

/// The place of the port `name`. A file with one port need not name it.
pub(super) fn find(report: &Report, ports: &[RawPort], name: Option<&At<String>>, section: &At<&str>) -> Option<usize> {
    let known: Vec<&str> = ports.iter().filter_map(|p| p.name.as_ref()).map(|at| at.value.as_str()).collect();
    // Where a port has no readable name it may be the one that is meant.
    let all_known = known.len() == ports.len() && !ports.is_empty();
    let Some(name) = name else {
        if ports.len() > 1 {
            section.wrong(report, format_args!("missing, expected one of the ports ({})", known.join(", ")));
        }
        return (ports.len() == 1).then_some(0);
    };
    let place = ports.iter().position(|p| p.name.as_ref().is_some_and(|at| at.value == name.value));
    if place.is_none() && all_known {
        let message = format_args!("no port is called {}, expected one of {}", quoted(&name.value), known.join(", "));
        name.wrong(report, message);
    }
    place
}

/// Fills in what the file left open: lcores round robin, the least busy one first.
pub(super) fn resolve(
    report: &Report,
    ports: Vec<RawPort>,
    lcores: &[LcoreId],
    burst_frames: u16,
) -> Option<Vec<PortPlan>> {
    let mut load: Vec<(LcoreId, usize)> = lcores.iter().map(|lcore| (*lcore, 0)).collect();
    // The queues whose lcores are named come first, so that the automatic ones go around them.
    let named: Vec<Option<Vec<LcoreId>>> = ports
        .iter()
        .map(|port| {
            let named = port.lcores.as_ref()?;
            let queues: Vec<_> = named.iter().map(|at| LcoreId(at.value)).cycle().take(port.queues as usize).collect();
            for queue in &queues {
                load.iter_mut().filter(|(lcore, _)| lcore == queue).for_each(|(_, n)| *n += 1);
            }
            Some(queues)
        })
        .collect();
    // `but` is taken only where there is no other.
    let mut least_busy = |but: Option<LcoreId>| {
        let (lcore, queues) = load.iter_mut().min_by_key(|(lcore, queues)| (Some(*lcore) == but, *queues))?;
        *queues += 1;
        Some(*lcore)
    };
    let mut plans = Vec::new();
    for (port, named) in ports.into_iter().zip(named) {
        let least = port.least_mbufs(burst_frames);
        if let Some(at) = port.mbufs_per_queue.as_ref().filter(|at| at.value < least) {
            at.wrong(
                report,
                format_args!("found {}, expected at least {least} for the descriptors and a burst", at.value),
            );
        }
        let queue_lcores = match named {
            Some(queues) => queues,
            None => {
                let receiver = least_busy(None)?;
                // Who spreads in software has enough to do with that.
                let but = (port.spread == SpreadBy::Software).then_some(receiver);
                let others = (1..port.queues).map(|_| least_busy(but));
                std::iter::once(Some(receiver)).chain(others).collect::<Option<_>>()?
            }
        };
        plans.push(PortPlan {
            name: port.name?.value,
            device: port.device?.value,
            ip: port.ip.map(|at| at.value),
            gateway: port.gateway.map(|at| at.value),
            queue_lcores,
            spread: port.spread,
            rx_descriptors: port.rx_descriptors,
            tx_descriptors: port.tx_descriptors,
            // 2^n - 1 is the size that wastes no memory (rte_mempool.h).
            mbufs_per_queue: port
                .mbufs_per_queue
                .map_or((least + CACHE_MBUFS + 1).next_power_of_two() - 1, |at| at.value),
            mtu_bytes: port.mtu_bytes,
            promiscuous: port.promiscuous,
            multicast: port.multicast,
        });
    }
    Some(plans)
}
