//! A plan as `netpoll check` prints it: a short table.

use super::plan::{
    ClientPlan, EnginePlan, Idle, Input, Memory, OnFull, Output, Plan, RemoteMac, SecurityPlan, SinkPlan, Sync, Target,
};
use super::{security::UserName, value::Ipv4Prefix};
use crate::{LcoreId, port::spread::SpreadBy, sink::SinkConfig};
use std::fmt;

/// The table of `netpoll check`.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EnginePlan { idle, burst_frames, replies_per_s, .. } = self.engine;
        writeln!(f, "eal      lcores {}, memory {}", list(&self.eal.lcores), self.eal.memory)?;
        writeln!(f, "engine   idle {idle}, burst {burst_frames} frames, {replies_per_s} ARP/ICMP replies/s a port")?;
        for port in &self.ports {
            write!(f, "port     {:<10} {}", port.name, port.device)?;
            match port.ip {
                Some(ip) => write!(f, ", ip {ip}")?,
                None => write!(f, ", no ip")?,
            }
            if let Some(gateway) = port.gateway {
                write!(f, " via {gateway}")?;
            }
            let queues: Vec<_> = port.queues().map(|(queue, lcore)| format!("{queue}@{lcore}")).collect();
            let spread = match (port.spread, queues.len()) {
                (SpreadBy::Auto, _) | (_, 1) => "",
                (SpreadBy::Device, _) => " spread by the device",
                (SpreadBy::Software, _) => " spread in software",
            };
            writeln!(
                f,
                "\n{:20}queues@lcores {}{spread}, descriptors {}/{}, mbufs {} a queue, mtu {}",
                "",
                queues.join(" "),
                port.rx_descriptors,
                port.tx_descriptors,
                port.mbufs_per_queue,
                port.mtu_bytes
            )?;
        }
        for client in &self.clients {
            let port = &self.ports[client.port].name;
            let ClientPlan { name, target, input, on_full, ring_frames, .. } = client;
            writeln!(f, "client   {name:<10} {input} -> {target} on {port}")?;
            writeln!(f, "{:20}ring {ring_frames} frames, when full {on_full}", "")?;
        }
        for sink in &self.sinks {
            let port = &self.ports[sink.port].name;
            let outputs: Vec<_> = sink.outputs.iter().map(Output::to_string).collect();
            let SinkPlan { listen, allow, out, flush_interval, sync, .. } = sink;
            writeln!(f, "sink     {port:<10} udp {listen} -> {} ({})", out.display(), outputs.join(", "))?;
            if !allow.is_empty() {
                let allow: Vec<_> = allow.iter().map(Ipv4Prefix::to_string).collect();
                writeln!(f, "{:20}only from {}", "", allow.join(", "))?;
            }
            if let Some(lines) = sink.limits.max_lines_per_source_per_s {
                writeln!(f, "{:20}at most {lines} lines/s of one source", "")?;
            }
            writeln!(f, "{:20}flush after {flush_interval:?}, sync {sync}", "")?;
            let queues = self.ports[sink.port].queue_lcores.len();
            writeln!(f, "{:20}memory up to {} MiB, however many send", "", sink.memory_bytes(queues) >> 20)?;
        }
        let SecurityPlan { user, sandbox } = &self.security;
        let user = user.as_ref().map_or("as started".into(), |UserName { user, group }| match group {
            Some(group) => format!("{user}:{group}"),
            None => user.clone(),
        });
        writeln!(f, "security user {user}, sandbox {}", if *sandbox { "on" } else { "off" })?;
        Ok(())
    }
}

impl SinkPlan {
    /// What the sink takes at most on a port of so many queues: batches, tables, and where it writes Parquet the conversion.
    fn memory_bytes(&self, queues: usize) -> u64 {
        let hooks = SinkConfig {
            batch_bytes: self.limits.batch_bytes as usize,
            batches_per_queue: self.limits.batches_per_queue.into(),
            ..SinkConfig::new(&self.out)
        };
        #[cfg(feature = "store")]
        if self.outputs.contains(&Output::Parquet) {
            return hooks.memory_bytes(queues) + crate::sink::store::StoreConfig::new(&self.out).memory_bytes();
        }
        hooks.memory_bytes(queues)
    }
}

fn list(lcores: &[LcoreId]) -> String {
    lcores.iter().map(LcoreId::to_string).collect::<Vec<_>>().join(",")
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Memory::Hugepages { megabytes: None } => write!(f, "hugepages as needed"),
            Memory::Hugepages { megabytes: Some(n) } => write!(f, "{n} MiB of hugepages"),
            Memory::NoHuge { megabytes } => write!(f, "{megabytes} MiB without hugepages"),
        }
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Idle::Busy => write!(f, "busy"),
            Idle::Pause => write!(f, "pause"),
            Idle::Sleep { max_us, real_time } => {
                write!(f, "sleep up to {max_us} us, {}", if *real_time { "real-time" } else { "not real-time" })
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { extended, release, local_ip, local_port, remote_ip, remote_port, remote_mac } = self;
        let format = match (extended, release) {
            (false, _) => "",
            (true, false) => ", extended",
            (true, true) => ", extended with release",
        };
        write!(f, "{local_ip}:{local_port} -> {remote_ip}:{remote_port} ({remote_mac}{format})")
    }
}

impl fmt::Display for RemoteMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteMac::Arp => write!(f, "arp"),
            RemoteMac::Broadcast => write!(f, "broadcast"),
            RemoteMac::Given(mac) => mac.fmt(f),
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Stdin => write!(f, "stdin"),
            Input::Path(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Display for OnFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnFull::Drop => write!(f, "drop"),
            OnFull::Wait { us } => write!(f, "wait {us} us"),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Output::Text => "text",
            Output::JsonLines => "jsonl",
            Output::Parquet => "parquet",
        })
    }
}

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sync::Never => write!(f, "never"),
            Sync::Every(interval) => write!(f, "every {interval:?}"),
            Sync::Batch => write!(f, "each batch"),
        }
    }
}
