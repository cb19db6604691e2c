//! The sections `[[sink]]`: at most one a port, as a port has one rx hook.

use super::{
    client::path,
    eal::starved,
    plan::{Formats, Idle, Output, PortPlan, SinkLimits, SinkPlan, Sync},
    port::{self, NAME, RawPort},
    section::{At, Report, Section, Value},
    value::{self, Ipv4Prefix, PortRanges},
};
use crate::{
    LcoreId,
    sink::{
        Template,
        decode::{Listen, parse_listeners},
    },
};
use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

/// `[[sink]]` as read. A field that could not be read is `None`, and that is noted already.
pub(super) struct RawSink {
    section: At<&'static str>,
    port: Option<At<String>>,
    listen: Option<PortRanges>,
    local_ip: Option<Ipv4Addr>,
    remote_ip: Option<Ipv4Addr>,
    allow: Vec<Ipv4Prefix>,
    out: Option<At<PathBuf>>,
    outputs: Vec<Output>,
    template: Option<Template>,
    compress: bool,
    format: Option<Formats>,
    flush_interval: Duration,
    sync: Sync,
    limits: SinkLimits,
    cpu: Option<At<u32>>,
}

impl RawSink {
    pub fn read(mut s: Section) -> RawSink {
        let folder = "a folder to write to";
        let address = |v: Value| v.text("an address like \"10.99.0.2\"", value::unicast).map(|at| at.value);
        let outputs = s.get("outputs").and_then(|v| outputs(&v)).unwrap_or_else(|| vec![Output::Text]);
        let sink = RawSink {
            section: At { value: "sink", key: s.path("port"), span: s.span.clone() },
            port: s.get("port").and_then(|v| v.text(NAME, value::name)),
            listen: s.require("listen", PortRanges::EXPECTED).and_then(|v| listen(&v)),
            local_ip: s.get("local_ip").and_then(address),
            remote_ip: s.get("remote_ip").and_then(address),
            allow: s.get("allow").and_then(|v| allow(&v)).unwrap_or_default(),
            out: s.require("out", folder).and_then(|v| v.text(folder, path)),
            template: s.get("template").and_then(|v| template(&v, &outputs)),
            compress: s.flag("compress", false),
            format: s.get("format").and_then(|v| v.text(Listen::EXPECTED, parse_listeners)).map(|at| at.value),
            limits: limits(s.section("limits"), outputs.contains(&Output::Parquet)),
            outputs,
            flush_interval: Duration::from_millis(s.number("flush_interval_ms", 1..=60_000, 100)),
            sync: s.get("sync").and_then(|v| sync(&v)).unwrap_or(Sync::Every(Duration::from_millis(200))),
            cpu: s.get("cpu").and_then(|v| v.number(0..=8191)),
        };
        s.finish();
        sink
    }

    /// `None` only where a mistake was noted.
    pub fn resolve(self, ports: &[PortPlan]) -> Option<SinkPlan> {
        let port = match &self.port {
            Some(name) => ports.iter().position(|p| p.name == name.value)?,
            None => 0,
        };
        Some(SinkPlan {
            port,
            listen: self.listen?,
            local_ip: self.local_ip,
            remote_ip: self.remote_ip,
            allow: self.allow,
            out: self.out?.value,
            outputs: self.outputs,
            template: self.template,
            compress: self.compress,
            format: self.format,
            flush_interval: self.flush_interval,
            sync: self.sync,
            limits: self.limits,
            cpu: self.cpu.map(|at| at.value),
        })
    }
}

/// Compares the sinks' keys with each other and with the ports'.
pub(super) fn check(report: &Report, sinks: &[RawSink], ports: &[RawPort], idle: Idle, lcores: &[LcoreId]) {
    let mut taken = Vec::new();
    for (i, sink) in sinks.iter().enumerate() {
        let place = port::find(report, ports, sink.port.as_ref(), &sink.section);
        if let Some(place) = place {
            if taken.contains(&place) {
                let at = sink.port.as_ref().map(|at| (at.span.clone(), at.key.as_str()));
                let (span, key) = at.unwrap_or((sink.section.span.clone(), &sink.section.key));
                let name = ports[place].name.as_ref().map_or("this port", |at| at.value.as_str());
                let message =
                    format_args!("{name} has a sink already and a port has one rx hook, expected another port");
                report.mistake(span, key, message);
            }
            taken.push(place);
        }
        if let Some(out) = &sink.out {
            let shares =
                |other: &At<PathBuf>| other.value.starts_with(&out.value) || out.value.starts_with(&other.value);
            if sinks[..i].iter().filter_map(|s| s.out.as_ref()).any(shares) {
                out.wrong(report, "another sink writes there already, expected a folder of its own");
            }
        }
        if let Some(at) = sink.cpu.as_ref().filter(|at| starved(at.value, idle, lcores)) {
            at.wrong(report, format_args!("CPU {} polls and never sleeps, expected another", at.value));
        }
    }
}

/// `514`, `[514, 6666]` or `"514,6666-6670"`.
fn listen(value: &Value) -> Option<PortRanges> {
    let one = |v: &Value| v.as_number().and_then(|n| u16::try_from(n).ok()).map(|n| n..=n);
    let ranges = match (value.as_str(), value.as_array()) {
        (Some(text), _) => PortRanges::parse(text),
        (_, Some(items)) if items.len() <= PortRanges::MAX => {
            items.iter().map(one).collect::<Option<Vec<_>>>().and_then(PortRanges::new)
        }
        (_, Some(_)) => None,
        (None, None) => one(value).and_then(|range| PortRanges::new(vec![range])),
    };
    if ranges.is_none() {
        value.expected(&format!("{}, none twice", PortRanges::EXPECTED));
    }
    ranges
}

/// Most networks in one `allow`.
const ALLOWED: usize = 1024;

fn allow(value: &Value) -> Option<Vec<Ipv4Prefix>> {
    let prefix = |v: &Value| v.text(Ipv4Prefix::EXPECTED, Ipv4Prefix::parse);
    let list = value.list("an array of networks like [\"10.0.0.0/8\"]", ALLOWED, prefix)?;
    Some(list.into_iter().map(|at| at.value).collect())
}

fn outputs(value: &Value) -> Option<Vec<Output>> {
    let words = [("text", Output::Text), ("jsonl", Output::JsonLines), ("parquet", Output::Parquet)];
    let list = value.list("an array like [\"text\"]", words.len(), |v| v.word(&words))?;
    let outputs: Vec<_> = list.into_iter().map(|at| at.value).collect();
    if (1..outputs.len()).any(|i| outputs[..i].contains(&outputs[i])) {
        value.wrong("found an output twice, expected each once");
        return None;
    }
    if outputs.contains(&Output::Text) && outputs.contains(&Output::JsonLines) {
        value.wrong("found both \"text\" and \"jsonl\", expected one of them: each is the text output");
        return None;
    }
    Some(outputs)
}

fn template(value: &Value, outputs: &[Output]) -> Option<Template> {
    if !outputs.contains(&Output::Text) {
        value.wrong("a template is for the output \"text\", expected that in outputs");
        return None;
    }
    let text = value.as_str().or_else(|| {
        value.expected("a template like \"{time} {host} {severity} {message}\"");
        None
    })?;
    Template::parse(text).map_err(|error| value.wrong(error)).ok()
}

/// `"never"`, `"batch"` or `{ every_ms = 200 }`.
fn sync(value: &Value) -> Option<Sync> {
    if let Some(mut s) = value.as_section() {
        let every = s.require("every_ms", "an interval in milliseconds").and_then(|v| v.number(1..=60_000));
        s.finish();
        return every.map(|at| Sync::Every(Duration::from_millis(at.value)));
    }
    match value.as_str() {
        Some("never") => Some(Sync::Never),
        Some("batch") => Some(Sync::Batch),
        _ => {
            value.expected("\"never\", \"batch\" or { every_ms = 200 }");
            None
        }
    }
}

/// `spools`: Parquet is among the outputs, and what of the spool becomes Parquet when is asked; or else
/// when text files roll.
fn limits(mut s: Section, spools: bool) -> SinkLimits {
    const MIB: u64 = 1 << 20;
    const TIB: u64 = 1 << 40;
    let year_s = 366 * 86_400;
    let limits = SinkLimits {
        // 64 to 256 KB is where copying is cheapest; the hook must not wait for one to be written.
        batch_bytes: s.number("batch_bytes", 65_536..=16 * MIB, 262_144),
        batches_per_queue: s.number("batches_per_queue", 2..=1024, 256),
        segment_bytes: s.number("segment_bytes", MIB..=64 << 30, 128 * MIB),
        segment_age: Duration::from_secs(s.number("segment_age_s", 1..=86_400, if spools { 60 } else { 3600 })),
        max_lines_per_source_per_s: s
            .get("max_lines_per_source_per_s")
            .and_then(|v| v.number(1..=1_000_000))
            .map(|at| at.value),
        min_free_bytes: s.number("min_free_bytes", 0..=1024 * TIB, 256 * MIB),
        retain_bytes: s.get("retain_bytes").and_then(|v| v.number(16 * MIB..=1024 * TIB)).map(|at| at.value),
        retain_age: s
            .get("retain_age_s")
            .and_then(|v| v.number(60..=100 * year_s))
            .map(|at| Duration::from_secs(at.value)),
    };
    s.finish();
    limits
}
