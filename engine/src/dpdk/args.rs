//! From what was asked for to EAL's command line, checked before EAL sees it.
//!
//! EAL ends a wrong command line with a usage page and leaves the process dirty, so everything that can be
//! known beforehand is: lcores against the machine and the cpuset, memory against the hugepages there
//! are, and the user's own EAL arguments against what netpoll sets itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::{
    cpus,
    error::{DpdkError, Result},
};
use crate::ids::LcoreId;

/// Memory that `--no-huge` takes when nobody says how much.
const NO_HUGE_MEGABYTES: u32 = 256;

/// How EAL is started.
#[derive(Clone, Debug, Default)]
pub struct EalConfig {
    /// The lcores, each the CPU of that number; the first one is the main lcore. Empty: every CPU that the
    /// process may run on.
    pub lcores: Vec<LcoreId>,
    /// Where packet memory comes from.
    pub memory: Memory,
    /// Tells several DPDK processes on one machine apart (`--file-prefix`).
    pub file_prefix: Option<String>,
    /// What DPDK logs at most. `None`: as each of its parts thinks fit.
    pub log_level: Option<LogLevel>,
    /// EAL arguments as the user typed them. They go before the fields above where both speak of one thing.
    pub extra_args: Vec<String>,
}

/// Where packet memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Hugepages, without files (`--in-memory`).
    Hugepages {
        /// Taken at start; `None` = as needed.
        megabytes: Option<u32>,
    },
    /// Ordinary pages (`--no-huge`): any user, any machine, for devices without DMA.
    NoHuge {
        /// Taken at start, and all there is.
        megabytes: u32,
    },
}

impl Default for Memory {
    fn default() -> Self {
        Memory::Hugepages { megabytes: None }
    }
}

impl Memory {
    /// Hugepages if any are free, else ordinary memory.
    pub fn detect() -> Memory {
        if Hugepages::read(Path::new(HUGEPAGES)).free > 0 {
            Memory::default()
        } else {
            Memory::NoHuge { megabytes: NO_HUGE_MEGABYTES }
        }
    }
}

/// DPDK's log levels, as far as one would choose them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warning,
    Notice,
    Info,
    Debug,
}

/// What EAL gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) argv: Vec<String>,
    pub(super) memory: Memory,
    /// Devices that EAL is to make at start (`--vdev`): it goes on without those that fail.
    pub(super) vdevs: Vec<String>,
}

/// The machine, as far as planning needs to know it.
pub(super) struct Machine {
    pub(super) online: BTreeSet<u32>,
    pub(super) allowed: BTreeSet<u32>,
    pub(super) hugepages: Hugepages,
}

impl Machine {
    pub(super) fn this() -> Machine {
        let (online, allowed) = (cpus::online(), cpus::allowed());
        // Without /sys (a locked-down container): what we may use is there.
        let online = if online.is_empty() { allowed.clone() } else { online };
        Machine { online, allowed, hugepages: Hugepages::read(Path::new(HUGEPAGES)) }
    }
}

const HUGEPAGES: &str = "/sys/kernel/mm/hugepages";

/// Hugepages of all sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hugepages {
    reserved: u64,
    free: u64,
}

impl Hugepages {
    fn read(dir: &Path) -> Hugepages {
        let mut sum = Hugepages::default();
        for size in fs::read_dir(dir).into_iter().flatten().flatten() {
            let count = |file| -> u64 {
                fs::read_to_string(size.path().join(file)).ok().and_then(|n| n.trim().parse().ok()).unwrap_or(0)
            };
            sum.reserved += count("nr_hugepages");
            // Pages that the kernel may make on demand are as good as free ones.
            sum.free += count("free_hugepages") + count("nr_overcommit_hugepages");
        }
        sum
    }
}

/// What the user's own arguments said of what we manage.
#[derive(Default)]
struct Typed {
    lcores: Option<Vec<(u32, u32)>>,
    in_memory: bool,
    no_huge: bool,
    megabytes: Option<u32>,
    iova_mode: bool,
    file_prefix: bool,
    main_lcore: bool,
    vdevs: Vec<String>,
    rest: Vec<String>,
}

impl Plan {
    pub(super) fn new(config: &EalConfig, machine: &Machine) -> Result<Plan> {
        let typed = Typed::parse(&config.extra_args)?;
        let lcores = match &typed.lcores {
            Some(lcores) => lcores.clone(),
            None if config.lcores.is_empty() => every_allowed(&machine.allowed),
            None => config.lcores.iter().map(|lcore| (lcore.0, lcore.0)).collect(),
        };
        check_lcores(&lcores, machine)?;
        let memory = typed.memory(config.memory)?;
        if matches!(memory, Memory::Hugepages { .. }) {
            check_hugepages(machine.hugepages)?;
        }

        let mut argv =
            vec!["netpoll".to_owned(), format!("--lcores={}", lcore_map(&lcores)), "--no-telemetry".to_owned()];
        if !typed.main_lcore {
            argv.push(format!("--main-lcore={}", lcores[0].0));
        }
        if !typed.iova_mode {
            argv.push("--iova-mode=va".to_owned());
        }
        match memory {
            Memory::Hugepages { megabytes } => {
                argv.push("--in-memory".to_owned());
                argv.extend(megabytes.iter().flat_map(|mb| ["-m".to_owned(), mb.to_string()]));
            }
            Memory::NoHuge { megabytes } => {
                argv.extend(["--no-huge", "--no-shconf", "-m"].map(str::to_owned));
                argv.push(megabytes.to_string());
            }
        }
        if let (Some(prefix), false) = (&config.file_prefix, typed.file_prefix) {
            argv.push(format!("--file-prefix={prefix}"));
        }
        if let Some(level) = config.log_level {
            argv.push(format!("--log-level={}", format!("{level:?}").to_lowercase()));
        }
        argv.extend(typed.rest);
        Ok(Plan { argv, memory, vdevs: typed.vdevs })
    }
}

impl Typed {
    fn parse(args: &[String]) -> Result<Typed> {
        let mut typed = Typed::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (name, attached) = split(arg);
            let mut value = || {
                attached
                    .or_else(|| args.next().map(String::as_str))
                    .ok_or_else(|| refused(arg, "it needs a value", "give one"))
            };
            match name {
                "-l" | "--lcores" => {
                    let list = value()?;
                    typed.set_lcores(arg, parse_lcores(list).ok_or_else(|| bad_lcores(arg))?)?;
                }
                "-c" => {
                    let mask = value()?;
                    typed.set_lcores(arg, parse_mask(mask).ok_or_else(|| bad_lcores(arg))?)?;
                }
                "--main-lcore" => {
                    let lcore = value()?;
                    typed.main_lcore = true;
                    typed.rest.push(format!("--main-lcore={lcore}"));
                }
                "--in-memory" => typed.in_memory = true,
                "--no-huge" => typed.no_huge = true,
                "-m" => {
                    let number = cpus::number(value()?).filter(|&mb| mb > 0);
                    typed.megabytes =
                        Some(number.ok_or_else(|| refused(arg, "expected a number of megabytes", "like `-m 256`"))?);
                }
                "--no-telemetry" | "--no-shconf" => {}
                "--telemetry" => return Err(refused(arg, "netpoll runs without DPDK's telemetry", "leave it out")),
                "--iova-mode" => {
                    let mode = value()?;
                    typed.iova_mode = true;
                    typed.rest.push(format!("--iova-mode={mode}"));
                }
                "--file-prefix" => {
                    let prefix = value()?;
                    typed.file_prefix = true;
                    typed.rest.push(format!("--file-prefix={prefix}"));
                }
                "--vdev" => {
                    let vdev = value()?;
                    typed.vdevs.push(vdev.to_owned());
                    typed.rest.push(format!("--vdev={vdev}"));
                }
                "--proc-type" => {
                    return Err(refused(arg, "netpoll is always a primary process of its own", "leave it out"));
                }
                "-h" | "--help" => {
                    return Err(refused(arg, "EAL would print its usage and exit", "see `dpdk-testpmd --help`"));
                }
                "--" => return Err(refused(arg, "EAL would stop reading there", "leave it out")),
                // Not ours: EAL knows what it means, and its value follows by itself.
                _ => typed.rest.push(arg.clone()),
            }
        }
        Ok(typed)
    }

    fn set_lcores(&mut self, arg: &str, lcores: Vec<(u32, u32)>) -> Result<()> {
        if self.lcores.replace(lcores).is_some() {
            return Err(refused(arg, "the lcores are given twice", "use one of -l, --lcores, -c"));
        }
        Ok(())
    }

    fn memory(&self, config: Memory) -> Result<Memory> {
        let of_config = match config {
            Memory::Hugepages { megabytes } => megabytes,
            Memory::NoHuge { megabytes } => Some(megabytes),
        };
        let no_huge = match (self.no_huge, self.in_memory) {
            (true, true) => {
                return Err(refused("--no-huge", "it excludes --in-memory, which means hugepages", "use one of them"));
            }
            (true, false) => true,
            (false, true) => false,
            (false, false) => matches!(config, Memory::NoHuge { .. }),
        };
        let megabytes = self.megabytes.or(of_config);
        Ok(match no_huge {
            true => Memory::NoHuge { megabytes: megabytes.unwrap_or(NO_HUGE_MEGABYTES) },
            // What was meant for ordinary memory says nothing about hugepages.
            false if matches!(config, Memory::NoHuge { .. }) => Memory::Hugepages { megabytes: self.megabytes },
            false => Memory::Hugepages { megabytes },
        })
    }
}

/// `--name=value`, `-lvalue` and the bare names of those.
fn split(arg: &str) -> (&str, Option<&str>) {
    if arg.starts_with("--") {
        return arg.split_once('=').map_or((arg, None), |(name, value)| (name, Some(value)));
    }
    match arg.get(..2) {
        Some(name @ ("-l" | "-c" | "-m")) if arg.len() > 2 => (name, Some(&arg[2..])),
        _ => (arg, None),
    }
}

fn refused(argument: &str, problem: &str, advice: &str) -> DpdkError {
    DpdkError::Argument { argument: argument.into(), problem: problem.into(), advice: advice.into() }
}

fn bad_lcores(arg: &str) -> DpdkError {
    refused(arg, "expected a list of lcores", "like `-l 0-3,8`, `--lcores 0@128,1@129` or `-c 0xf`")
}

/// `0-3,8` or `0@128,1@129` as (lcore, CPU).
fn parse_lcores(list: &str) -> Option<Vec<(u32, u32)>> {
    let mut lcores = Vec::new();
    for item in list.split(',') {
        match item.split_once('@') {
            Some((lcore, cpu)) => lcores.push((cpus::number(lcore)?, cpus::number(cpu)?)),
            None => lcores.extend(cpus::parse(item)?.into_iter().map(|cpu| (cpu, cpu))),
        }
    }
    Some(lcores)
}

fn parse_mask(mask: &str) -> Option<Vec<(u32, u32)>> {
    let digits = mask.strip_prefix("0x").or_else(|| mask.strip_prefix("0X")).unwrap_or(mask);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let bits = u128::from_str_radix(digits, 16).ok().filter(|&bits| bits != 0)?;
    Some((0..u128::BITS).filter(|bit| bits >> bit & 1 == 1).map(|cpu| (cpu, cpu)).collect())
}

/// Every allowed CPU as the lcore of its number; those past EAL's highest lcore get free numbers.
fn every_allowed(allowed: &BTreeSet<u32>) -> Vec<(u32, u32)> {
    let (direct, far): (Vec<u32>, Vec<u32>) = allowed.iter().partition(|cpu| **cpu < dpdk_sys::DPDK_MAX_LCORE);
    let free = (0..dpdk_sys::DPDK_MAX_LCORE).filter(|lcore| !allowed.contains(lcore));
    direct.iter().map(|&cpu| (cpu, cpu)).chain(free.zip(far)).collect()
}

fn check_lcores(lcores: &[(u32, u32)], machine: &Machine) -> Result<()> {
    if lcores.is_empty() {
        return Err(refused("--lcores", "there is no CPU that this process may run on", "widen its cpuset"));
    }
    let mut seen = BTreeMap::new();
    for &(lcore, cpu) in lcores {
        if !machine.online.contains(&cpu) {
            return Err(DpdkError::UnknownLcore {
                lcore: LcoreId(cpu),
                known: cpus::format(machine.online.iter().copied()),
            });
        }
        if !machine.allowed.contains(&cpu) {
            return Err(DpdkError::LcoreNotAllowed {
                lcore: LcoreId(cpu),
                allowed: cpus::format(machine.allowed.iter().copied()),
            });
        }
        let most = dpdk_sys::DPDK_MAX_LCORE;
        if lcore >= most {
            let advice = format!("give CPU {cpu} a lower number: `--lcores 0@{cpu}`");
            return Err(refused(&lcore.to_string(), &format!("this DPDK knows lcores 0-{}", most - 1), &advice));
        }
        if seen.insert(lcore, cpu).is_some() {
            return Err(refused(&lcore.to_string(), "the lcore is named twice", "name each lcore once"));
        }
    }
    Ok(())
}

fn lcore_map(lcores: &[(u32, u32)]) -> String {
    let item = |&(lcore, cpu): &(u32, u32)| {
        if lcore == cpu { lcore.to_string() } else { format!("{lcore}@{cpu}") }
    };
    lcores.iter().map(item).collect::<Vec<_>>().join(",")
}

fn check_hugepages(pages: Hugepages) -> Result<()> {
    let problem = match pages {
        Hugepages { free: 1.., .. } => return Ok(()),
        Hugepages { reserved: 0, .. } => "no hugepages are reserved on this machine".to_owned(),
        Hugepages { reserved, .. } => format!("all {reserved} hugepages are in use by other programs"),
    };
    Err(DpdkError::NoHugepages { problem })
}

#[cfg(test)]
mod tests;
