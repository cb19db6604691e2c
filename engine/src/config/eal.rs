//! The sections `[eal]`, `[engine]` and `[log]`.

use super::{
    machine::Machine,
    plan::{EalPlan, EnginePlan, Idle, LogFormat, LogLevel, LogPlan, Memory, PortPlan},
    port::RawPort,
    section::{At, Report, Section, Value},
};
use crate::{LcoreId, port::MAX_BURST};
use std::time::Duration;

/// DPDK's own bound in the distributions' packages (RTE_MAX_LCORE, rte_config.h).
const MAX_LCORE: u64 = 127;
/// What the EAL itself takes beside the mbufs.
const EAL_MEGABYTES: u64 = 32;
/// Least memory without hugepages when the file does not say.
const NO_HUGE_MEGABYTES: u64 = 128;

/// `[eal]` as read.
pub(super) struct RawEal {
    lcores: Option<Vec<At<u32>>>,
    huge: bool,
    megabytes: Option<At<u32>>,
    args: Vec<At<String>>,
}

impl RawEal {
    pub fn read(mut s: Section) -> RawEal {
        let lcores = s.get("lcores").and_then(|v| lcores(&v));
        let huge = s.get("memory").and_then(|v| v.word(&[("no-huge", false), ("hugepages", true)]));
        let megabytes = s.get("megabytes").and_then(|v| v.number(16..=1 << 20));
        let args = s.get("args").and_then(|v| v.list("an array of EAL arguments", 64, eal_arg)).unwrap_or_default();
        s.finish();
        RawEal { lcores, huge: huge.is_some_and(|at| at.value), megabytes, args }
    }

    /// The lcores: named, or as many CPUs of the machine as there are queues, but for one, which is left
    /// to everything else. Ports must not name others.
    pub fn lcores(&self, report: &Report, ports: &[RawPort], machine: &Machine) -> Vec<LcoreId> {
        let named_by_ports = || ports.iter().filter_map(|p| p.lcores.as_ref()).flatten();
        let mut lcores: Vec<LcoreId> = match &self.lcores {
            Some(lcores) => lcores.iter().map(|at| LcoreId(at.value)).collect(),
            None => {
                let automatic: usize = ports.iter().filter(|p| p.lcores.is_none()).map(|p| p.queues as usize).sum();
                let cpus: Vec<_> = machine.cpus().iter().filter(|cpu| u64::from(**cpu) <= MAX_LCORE).collect();
                let count = automatic.min(cpus.len().saturating_sub(1).max(1));
                let named = named_by_ports().map(|at| LcoreId(at.value));
                named.chain(cpus.into_iter().take(count).map(|cpu| LcoreId(*cpu))).collect()
            }
        };
        lcores.sort_unstable();
        lcores.dedup();
        if lcores.is_empty() {
            // Only without a port, which is a mistake, or on CPUs beyond what DPDK counts to.
            lcores.push(LcoreId(0));
        }
        for at in named_by_ports().filter(|at| !lcores.contains(&LcoreId(at.value))) {
            let known: Vec<_> = lcores.iter().map(LcoreId::to_string).collect();
            let message = format_args!("found lcore {}, expected one of eal.lcores ({})", at.value, known.join(", "));
            at.wrong(report, message);
        }
        lcores
    }

    pub fn resolve(self, report: &Report, lcores: Vec<LcoreId>, ports: &[PortPlan]) -> EalPlan {
        let mbufs: u64 = ports.iter().map(PortPlan::mbuf_bytes).sum();
        let needed = mbufs.div_ceil(1 << 20) + EAL_MEGABYTES;
        let given = self.megabytes.as_ref().map(|at| at.value);
        if let Some(at) = self.megabytes.filter(|at| u64::from(at.value) < needed) {
            at.wrong(report, format_args!("found {}, expected at least {needed} for the ports' mbufs", at.value));
        }
        let memory = if self.huge {
            Memory::Hugepages { megabytes: given }
        } else {
            // Twice what is needed: the EAL cannot use all of it for one pool.
            let automatic = || (needed * 2).max(NO_HUGE_MEGABYTES).try_into().unwrap_or(u32::MAX);
            Memory::NoHuge { megabytes: given.unwrap_or_else(automatic) }
        };
        EalPlan { lcores, memory, args: self.args.into_iter().map(|at| at.value).collect() }
    }
}

/// An array of lcores, none twice.
pub(super) fn lcores(value: &Value) -> Option<Vec<At<u32>>> {
    let list = value.list("an array of lcores like [0, 1]", 128, |v| v.number(0..=MAX_LCORE))?;
    for (i, at) in list.iter().enumerate() {
        if list[..i].iter().any(|before: &At<u32>| before.value == at.value) {
            value.wrong(format_args!("found lcore {} twice, expected each once", at.value));
            return None;
        }
    }
    Some(list)
}

/// An EAL argument that contradicts no key of the file.
fn eal_arg(value: &Value) -> Option<At<String>> {
    const KEYS: [(&[&str], &str); 4] = [
        (&["-l", "-c", "--lcores", "--main-lcore"], "eal.lcores"),
        (&["--no-huge", "--in-memory", "--no-shconf"], "eal.memory"),
        (&["-m", "--socket-mem"], "eal.megabytes"),
        (&["--vdev", "-a", "--allow", "--no-pci"], "port.device"),
    ];
    let at = value.text("an EAL argument", |s| (!s.is_empty() && !s.contains('\0')).then(|| s.to_owned()))?;
    let is = |option: &&str| {
        let rest = at.value.strip_prefix(*option);
        // `-l0-3` is `-l 0-3`; of a long option only `=` may follow.
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('=') || !option.starts_with("--"))
    };
    match KEYS.iter().find(|(options, _)| options.iter().any(is)) {
        Some((_, key)) => {
            value.expected(&format!("{key} to say that"));
            None
        }
        None => Some(at),
    }
}

/// `[engine]`.
pub(super) fn engine(mut s: Section) -> EnginePlan {
    #[derive(Clone, Copy, PartialEq)]
    enum Word {
        Busy,
        Pause,
        Sleep,
    }
    let words = [("busy", Word::Busy), ("pause", Word::Pause), ("sleep", Word::Sleep)];
    // The default must not burn a core: it may be a laptop's.
    let word = s.get("idle").and_then(|v| v.word(&words)).map_or(Word::Sleep, |at| at.value);
    let sleep = s.get("idle_max_sleep_us");
    if let Some(sleep) = sleep.as_ref().filter(|_| word != Word::Sleep) {
        sleep.wrong("only idle = \"sleep\" sleeps, expected no such key");
    }
    // A stop signal ends every loop within 100 ms: half of that for the longest sleep.
    let max_us = sleep.and_then(|v| v.number(1..=50_000)).map_or(200, |at| at.value);
    let real_time = s.get("real_time");
    if let Some(real_time) = real_time.as_ref().filter(|_| word != Word::Sleep) {
        real_time.wrong("only with idle = \"sleep\" a poll loop is a real-time thread, expected no such key");
    }
    let real_time = real_time.and_then(|v| v.flag()).unwrap_or(true);
    let idle = match word {
        Word::Busy => Idle::Busy,
        Word::Pause => Idle::Pause,
        Word::Sleep => Idle::Sleep { max_us, real_time },
    };
    let plan = EnginePlan {
        idle,
        burst_frames: s.number("burst_frames", 1..=MAX_BURST as u64, 32),
        replies_per_s: s.number("replies_per_s", 1..=1_000_000, 10_000),
        accept_partial_checksum: s.flag("accept_partial_checksum", true),
    };
    s.finish();
    plan
}

/// `[log]`.
pub(super) fn log(mut s: Section) -> LogPlan {
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let plan = LogPlan {
        level: s.get("level").and_then(|v| v.word(&levels)).map_or(LogLevel::Info, |at| at.value),
        format: s.get("format").and_then(|v| v.word(&formats)).map_or(LogFormat::Text, |at| at.value),
        ledger_interval: match s.number("ledger_interval_s", 0..=86_400, 60) {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        },
    };
    s.finish();
    plan
}

/// Whether a thread pinned to CPU `cpu` would never run: a poll loop holds that CPU and does not let go.
pub(super) fn starved(cpu: u32, idle: Idle, lcores: &[LcoreId]) -> bool {
    !matches!(idle, Idle::Sleep { .. }) && lcores.contains(&LcoreId(cpu))
}
