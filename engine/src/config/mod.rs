//! The config file of `netpoll run`: TOML in, a [`Plan`] or all of its mistakes out.
//!
//! ```text
//! text -> toml (with places) -> section: keys, one by one -> eal, port, client, sink: checks -> Plan
//! ```
//! A section's reader takes what it understands and notes what it does not ([`Mistake`]); checks that
//! compare keys follow; only a file without a mistake gives a plan. The plan leaves no default open:
//! queues have their lcores, pools their sizes, memory its amount.
//!
//! Limits: one file of at most 1 MiB. Relative paths are taken from the working directory. Whether
//! devices, folders and CPUs exist is for the set-up to find out: a file may be checked on another
//! machine than the one that it is for.

mod client;
mod eal;
mod error;
mod machine;
mod plan;
mod port;
mod section;
mod security;
mod show;
mod sink;
mod target;
#[cfg(test)]
mod tests;
mod value;

pub use error::{ConfigError, Mistake, Mistakes};
pub use machine::Machine;
pub use plan::{
    ClientPlan, EalPlan, EnginePlan, Formats, Idle, Input, LogFormat, LogLevel, LogPlan, Memory, OnFull, Output, Plan,
    PortPlan, RemoteMac, SecurityPlan, SinkLimits, SinkPlan, Sync, Target,
};
pub use security::UserName;
pub use value::{Device, Ipv4Net, Ipv4Prefix, PortRanges};

use section::{Report, Section};
use std::{fs::File, io::Read, path::Path};
use toml::de::DeTable;

/// Longest config file.
const FILE_LIMIT_BYTES: u64 = 1 << 20;

/// DPDK's own bound (RTE_MAX_ETHPORTS, rte_config.h).
const MAX_PORTS: usize = 32;
/// Each has a thread that reads its input.
const MAX_CLIENTS: usize = 1024;

/// Reads and checks the config file at `path` for `machine`.
pub fn load(path: &Path, machine: &Machine) -> Result<Plan, ConfigError> {
    let read_error = |error| ConfigError::Read { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(read_error)?;
    file.take(FILE_LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(read_error)?;
    if bytes.len() as u64 > FILE_LIMIT_BYTES {
        return Err(ConfigError::TooLong { path: path.to_owned(), limit_bytes: FILE_LIMIT_BYTES });
    }
    let text = str::from_utf8(&bytes).map_err(|e| ConfigError::NotText {
        path: path.to_owned(),
        line: bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1,
    })?;
    Ok(parse(&path.display().to_string(), text, machine)?)
}

/// Reads and checks `text`; `file` is what messages call it.
pub fn parse(file: &str, text: &str, machine: &Machine) -> Result<Plan, Mistakes> {
    let report = Report::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        report.mistake(error.span().unwrap_or(0..0), "", format_args!("not TOML: {}", error.message()));
    }
    // What was recovered of a file that is not TOML would only lead to mistakes that nobody made.
    let plan =
        if errors.is_empty() { Some(read(Section::new("", document.get_ref(), 0..0, &report), machine)) } else { None };
    let (notes, uncounted) = report.into_notes();
    match plan {
        Some(Some(plan)) if notes.is_empty() => Ok(plan),
        _ => Err(Mistakes::new(file, text, notes, uncounted)),
    }
}

/// Reads the whole document. The plan means something only if no mistake was noted; where there is no
/// plan, one was.
fn read(mut top: Section, machine: &Machine) -> Option<Plan> {
    let report = top.report;
    let eal = eal::RawEal::read(top.section("eal"));
    let engine = eal::engine(top.section("engine"));
    let log = eal::log(top.section("log"));
    let security = security::read(top.section("security"));
    let ports: Vec<_> = top.sections("port", MAX_PORTS).into_iter().map(port::RawPort::read).collect();
    let clients: Vec<_> = top.sections("client", MAX_CLIENTS).into_iter().map(client::RawClient::read).collect();
    let sinks: Vec<_> = top.sections("sink", MAX_PORTS).into_iter().map(sink::RawSink::read).collect();
    if !top.has("port") {
        report.mistake(0..0, "port", "missing, expected at least one [[port]]");
    }
    top.finish();

    let lcores = eal.lcores(report, &ports, machine);
    port::check(report, &ports);
    client::check(report, &clients, &ports, engine.idle, &lcores);
    sink::check(report, &sinks, &ports, engine.idle, &lcores);

    let ports = port::resolve(report, ports, &lcores, engine.burst_frames)?;
    let clients = clients.into_iter().map(|c| c.resolve(&ports)).collect::<Option<_>>()?;
    let sinks = sinks.into_iter().map(|s| s.resolve(&ports)).collect::<Option<_>>()?;
    let eal = eal.resolve(report, lcores, &ports);
    Some(Plan { eal, engine, ports, clients, sinks, security, log })
}
