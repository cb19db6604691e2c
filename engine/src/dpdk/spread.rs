//! Who spreads a port's frames over its queues: the device, or we.

use std::fmt;

use super::{
    device,
    error::{DpdkError, Result},
    port::{self, Port, PortInfo},
    queue::DpdkQueue,
    setup::{PortSetup, RSS},
    started::StartedPort,
};
use crate::port::spread::{self, Lane, SpreadBy};

/// How frames get to a port's queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spreading {
    /// There is one queue.
    One,
    /// The NIC hashes addresses and ports.
    Rss,
    /// What is on the device's other side has a way to each queue: a kernel, a hypervisor, a file a queue.
    OtherSide,
    /// One queue receives, and passes datagrams on by their source.
    Software {
        /// Queues that the device could have had.
        device_queues: u16,
    },
}

impl Port {
    /// How a port set up like this spreads its frames.
    pub fn spreading(&self, setup: &PortSetup) -> Result<Spreading> {
        let info = device::info(self.device.id)?;
        let most = info.max_rx_queues.min(info.max_tx_queues);
        let by_device = match setup.queues {
            // Of none the set-up knows what to say.
            0 | 1 => return Ok(Spreading::One),
            queues if queues > most => None,
            _ => by_device(&self.device.driver, info.flow_type_rss_offloads),
        };
        let software = Spreading::Software { device_queues: most };
        match (setup.spread, by_device) {
            (SpreadBy::Software, _) | (SpreadBy::Auto, None) => Ok(software),
            (SpreadBy::Auto | SpreadBy::Device, Some(by_device)) => Ok(by_device),
            // The set-up says so, and what to do.
            (SpreadBy::Device, None) if setup.queues > most => Ok(Spreading::OtherSide),
            (SpreadBy::Device, None) => Err(DpdkError::BadSetup {
                port: self.device.name.clone(),
                problem: format!(
                    "{} queues were asked for, spread by the device, but its driver {} has no RSS: all would come to \
                     one queue; have them spread in software",
                    setup.queues, self.device.driver
                ),
            }),
        }
    }

    /// Like [`Port::start`], but with as many queues as were asked for in any case: where the device does not spread its
    /// frames over so many, they are made in software (see [`crate::port::spread`]). The first is then the one that
    /// receives and sends, and its pool holds what would have been in theirs.
    pub fn start_spread(self, setup: &PortSetup) -> Result<(StartedPort, Vec<Lane<DpdkQueue>>, Spreading)> {
        let spreading = self.spreading(setup)?;
        let name = self.device.name.clone();
        if spreading != Spreading::One {
            tracing::info!(port = name, "{} queues, spread {spreading}", setup.queues);
        }
        if !matches!(spreading, Spreading::Software { .. }) {
            let (started, queues) = self.start(setup)?;
            return Ok((started, queues.into_iter().map(Lane::Device).collect(), spreading));
        }
        let queues = u32::from(setup.queues);
        let each = setup.mbufs();
        let one = PortSetup {
            queues: 1,
            mbufs_per_queue: Some(each * queues),
            client_mbufs_per_queue: setup.client_mbufs_per_queue.map(|mbufs| mbufs * queues),
            ..setup.clone()
        };
        let (started, mut device_queues) = self.start(&one)?;
        // One was asked for.
        let queue = device_queues.pop().ok_or(DpdkError::NoSuchPort { port: name, known: "no queue".into() })?;
        Ok((started, spread::over(queue, usize::from(setup.queues) - 1, each as usize), spreading))
    }
}

impl PortInfo {
    /// How its queues, were there several, would get their frames.
    pub fn spreading(&self) -> Spreading {
        let most = self.max_rx_queues.min(self.max_tx_queues);
        let by_device = if most > 1 { by_device(&self.driver, self.rss_offered) } else { None };
        by_device.unwrap_or(Spreading::Software { device_queues: most })
    }
}

/// How a device with several queues spreads over them, if it does.
fn by_device(driver: &str, rss_offered: u64) -> Option<Spreading> {
    match driver {
        _ if port::is_kernel_backed(driver) => Some(Spreading::OtherSide),
        _ if rss_offered & RSS != 0 => Some(Spreading::Rss),
        _ => has_a_way_to_each_queue(driver).then_some(Spreading::OtherSide),
    }
}

/// Whether frames come to each of the device's queues by another's doing. Of a NIC that is not known.
fn has_a_way_to_each_queue(driver: &str) -> bool {
    const DRIVERS: [&str; 6] = ["virtio", "vhost", "memif", "pcap", "ring", "null"];
    DRIVERS.iter().any(|name| driver.contains(name))
}

/// Follows "2 queues, spread ".
impl fmt::Display for Spreading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spreading::One => f.write_str("by nobody: there is one"),
            Spreading::Rss => f.write_str("by the device (RSS over IP addresses and UDP ports)"),
            Spreading::OtherSide => f.write_str("by the device's other side"),
            Spreading::Software { device_queues: 1 } => {
                f.write_str("in software by source, as the device has 1: queue 0 receives, answers and sends")
            }
            Spreading::Software { .. } => f.write_str("in software by source: queue 0 receives, answers and sends"),
        }
    }
}
