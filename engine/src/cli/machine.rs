//! `--lcores`, memory, `--idle`, EAL arguments: how the engine starts.

use std::{str::FromStr, time::Duration};

use clap::Args;
use netpoll::{
    LcoreId,
    config::{Device, Machine},
    dpdk::{EalConfig, LogLevel, Memory},
    engine::EngineConfig,
    netpoll::IdlePolicy,
};

/// What every command that starts the engine takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Machine")]
pub(super) struct MachineArgs {
    /// CPUs that poll, each an lcore of its number: `2` or `0-3,8` [default: as many as there are queues]
    #[arg(long, value_name = "LIST")]
    pub(super) lcores: Option<Lcores>,
    /// Ordinary memory: any user, any machine, devices without DMA [default where no hugepages are free, and for `demo`]
    #[arg(long)]
    no_huge: bool,
    /// Hugepages; fails where there are none.
    #[arg(long, conflicts_with = "no_huge")]
    hugepages: bool,
    /// Memory in MiB [default: as needed]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(16..=1 << 20))]
    megabytes: Option<u32>,
    /// For DPDK, passed on as they are
    #[arg(last = true, value_name = "EAL ARGUMENTS")]
    eal: Vec<String>,
}

/// What the poll loops do when idle.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine")]
pub(super) struct IdleArgs {
    /// An idle poll loop sleeps (up to 1 ms; `sleep:200`: 200 us), or burns its core: `pause`, `busy`. What that costs, at
    /// 200 lines/s (bench/idle.py): a datagram waits 0.35 ms in the median and 0.6 ms at p90 with `sleep` (10 % of a core),
    /// 0.13 and 0.22 ms with `sleep:200` (13 %), 0.04 and 0.07 ms with `sleep:50` (27 %), 0.01 ms with `pause` and `busy`.
    #[arg(long, value_name = "POLICY", value_parser = idle, default_value = "sleep")]
    idle: IdlePolicy,
    /// A poll loop that sleeps stays an ordinary thread. Without this it is a real-time one (SCHED_RR) where it may be and has slept
    /// in the last 20 ms: on a CPU that it shares it does not wait for others' slices then.
    #[arg(long)]
    no_real_time: bool,
}

/// A list of lcores, ascending, none twice, not empty.
#[derive(Clone, Debug)]
pub(super) struct Lcores(pub(super) Vec<LcoreId>);

impl FromStr for Lcores {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Lcores, Self::Err> {
        const EXPECTED: &str = "expected CPU numbers and ranges like `2` or `0-3,8`";
        let number = |text: &str| -> Option<u32> {
            let strict = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            // More CPUs than Linux knows.
            text.parse().ok().filter(|n| strict && *n < 8192)
        };
        let mut lcores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = number(first).zip(number(last)).filter(|(a, b)| a <= b).ok_or(EXPECTED)?;
            lcores.extend((first..=last).map(LcoreId));
        }
        lcores.sort_unstable();
        let count = lcores.len();
        lcores.dedup();
        if lcores.len() < count { Err("an lcore is named twice, expected each once") } else { Ok(Lcores(lcores)) }
    }
}

/// Longest sleep: half of the 100 ms in which a stop signal ends the loops.
const MAX_SLEEP_US: u64 = 50_000;

fn idle(text: &str) -> Result<IdlePolicy, String> {
    let sleep = |us: &str| us.parse().ok().filter(|us| (1..=MAX_SLEEP_US).contains(us) && !text.contains('+'));
    match (text, text.strip_prefix("sleep:")) {
        ("busy", _) => Ok(IdlePolicy::Busy),
        ("pause", _) => Ok(IdlePolicy::Pause),
        ("sleep", _) => Ok(IdlePolicy::default()),
        (_, Some(us)) if sleep(us).is_some() => {
            Ok(IdlePolicy::Sleep { max: Duration::from_micros(sleep(us).unwrap_or(1)) })
        }
        _ => Err(format!("expected `sleep`, `sleep:1` to `sleep:{MAX_SLEEP_US}` (microseconds), `pause` or `busy`")),
    }
}

impl MachineArgs {
    /// EAL for `devices` (`None`: all there are) with `queues` queues in all, which need about `megabytes` of memory.
    pub(super) fn eal(&self, devices: Option<&[&Device]>, queues: usize, megabytes: u32) -> EalConfig {
        let wanted = self.megabytes.unwrap_or(megabytes);
        let memory = match (self.no_huge, self.hugepages) {
            (true, _) => Memory::NoHuge { megabytes: wanted },
            (_, true) => Memory::Hugepages { megabytes: self.megabytes },
            _ => match Memory::detect() {
                Memory::NoHuge { .. } => Memory::NoHuge { megabytes: wanted },
                _ => Memory::Hugepages { megabytes: self.megabytes },
            },
        };
        let lcores = self.lcores.as_ref().map_or_else(|| first_cpus(queues), |lcores| lcores.0.clone());
        let mut extra_args = self.eal.clone();
        extra_args.extend(devices.map(|devices| bus_args(devices, &self.eal)).unwrap_or_default());
        EalConfig { lcores, memory, log_level: Some(LogLevel::Notice), extra_args, ..EalConfig::default() }
    }

    /// EAL without a device of the machine's and without hugepages, unless the user typed otherwise.
    pub(super) fn own_eal(&self, queues: usize, megabytes: u32) -> EalConfig {
        let eal = self.eal(Some(&[]), queues, megabytes);
        let megabytes = self.megabytes.unwrap_or(megabytes);
        if self.hugepages { eal } else { EalConfig { memory: Memory::NoHuge { megabytes }, ..eal } }
    }

    /// The engine on that EAL.
    pub(super) fn engine(&self, eal: EalConfig, idle: &IdleArgs) -> EngineConfig {
        EngineConfig { eal, idle: idle.idle, real_time: !idle.no_real_time, ..EngineConfig::default() }
    }
}

/// As many of the machine's CPUs as there are queues, at most.
pub(super) fn first_cpus(queues: usize) -> Vec<LcoreId> {
    Machine::here().cpus().iter().take(queues.max(1)).map(|cpu| LcoreId(*cpu)).collect()
}

/// EAL takes every PCI device that is bound to vfio-pci, also those of another program: so it is told which.
pub(super) fn bus_args(devices: &[&Device], typed: &[String]) -> Vec<String> {
    let about_pci = ["-a", "--allow", "-b", "--block", "--no-pci"];
    if typed.iter().any(|arg| about_pci.iter().any(|option| arg.starts_with(option))) {
        return Vec::new();
    }
    let pci: Vec<_> = devices.iter().filter(|device| matches!(device, Device::Pci { .. })).collect();
    if pci.is_empty() {
        return vec!["--no-pci".into()];
    }
    pci.into_iter().flat_map(|device| ["-a".to_owned(), device.to_string()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lcore_lists_are_strict() {
        let list = |text: &str| text.parse::<Lcores>().ok().map(|l| l.0.iter().map(|l| l.0).collect::<Vec<_>>());
        assert_eq!(list("8,0-3"), Some(vec![0, 1, 2, 3, 8]));
        for bad in ["", "x", "3-1", "0,0", "-1", "1-", "+1", "99999", "0, 1"] {
            assert_eq!(list(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn idle_policies() {
        assert_eq!(idle("busy"), Ok(IdlePolicy::Busy));
        assert_eq!(idle("sleep:200"), Ok(IdlePolicy::Sleep { max: Duration::from_micros(200) }));
        for bad in ["", "sleep:", "sleep:0", "sleep:50001", "sleep:+5", "Busy"] {
            assert!(idle(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_what_was_asked_for_is_probed() {
        let device = |text| Device::parse(text).expect("a device");
        let (tap, nic) = (device("net_tap0,iface=a"), device("0000:01:00.0"));
        assert_eq!(bus_args(&[&tap], &[]), ["--no-pci"]);
        assert_eq!(bus_args(&[&tap, &nic], &[]), ["-a", "0000:01:00.0"]);
        assert_eq!(bus_args(&[&nic], &["--no-pci".into()]), [""; 0]);
    }
}
