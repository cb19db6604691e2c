//! Records and gaps as text, JSON lines or CSV.
//!
//! Text is for terminals: control characters are shown as `\xNN`, so that no sender moves the cursor, and
//! the lines of a message of several are indented, so that no sender makes up lines of others. JSON and
//! CSV (RFC 4180) carry the values as they are.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::sink::{
    decode::Gap,
    record::{Record, civil::Utc},
};

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OutputFormat {
    /// One record a line: time, host, severity, app, message, fields.
    #[default]
    Text,
    /// One JSON object a line; what is not there is left out.
    JsonLines,
    /// A header line, then one record a line; fields as JSON.
    Csv,
}

const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

const COLUMNS: [&str; 22] = [
    "time",
    "event_time",
    "event_error_ns",
    "src_ip",
    "src_port",
    "dst_ip",
    "dst_port",
    "host",
    "facility",
    "severity",
    "app",
    "pid",
    "msgid",
    "seq",
    "kernel_usec",
    "caller",
    "release",
    "message",
    "fields",
    "format",
    "flags",
    "parts",
];

const GAP_COLUMNS: [&str; 11] = [
    "after",
    "before",
    "src_ip",
    "src_port",
    "dst_ip",
    "dst_port",
    "kind",
    "count",
    "after_seq",
    "before_seq",
    "reason",
];

pub(super) struct Printer<'a> {
    out: io::BufWriter<&'a mut dyn Write>,
    format: OutputFormat,
}

impl<'a> Printer<'a> {
    pub fn new(out: &'a mut dyn Write, format: OutputFormat, gaps: bool) -> io::Result<Printer<'a>> {
        let mut out = io::BufWriter::with_capacity(1 << 16, out);
        if format == OutputFormat::Csv {
            let columns = if gaps { GAP_COLUMNS.join(",") } else { COLUMNS.join(",") };
            write!(out, "{columns}\r\n")?;
        }
        Ok(Printer { out, format })
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        match self.format {
            OutputFormat::Text => self.record_text(record),
            OutputFormat::JsonLines => self.json(record_json(record)),
            OutputFormat::Csv => self.csv(&record_json(record), &COLUMNS),
        }
    }

    pub fn gap(&mut self, gap: &Gap) -> io::Result<()> {
        match self.format {
            OutputFormat::Text => self.gap_text(gap),
            OutputFormat::JsonLines => self.json(gap_json(gap)),
            OutputFormat::Csv => self.csv(&gap_json(gap), &GAP_COLUMNS),
        }
    }

    fn gap_text(&mut self, gap: &Gap) -> io::Result<()> {
        write!(self.out, "{:.6} ", utc(gap.before_ns))?;
        match gap.src_ip.is_unspecified() {
            true => write!(self.out, "unknown sources")?,
            false => write!(self.out, "{}:{} -> {}:{}", gap.src_ip, gap.src_port, gap.dst_ip, gap.dst_port)?,
        }
        write!(self.out, " {} {}", gap.count, gap.kind.name())?;
        if let Some(reason) = &gap.reason {
            write!(self.out, " ({reason})")?;
        }
        write!(self.out, " since {:.6}", utc(gap.after_ns))?;
        if let (Some(after), Some(before)) = (gap.after_seq, gap.before_seq) {
            write!(self.out, ", between seq {after} and {before}")?;
        }
        self.out.write_all(b"\n")
    }

    fn record_text(&mut self, record: &Record) -> io::Result<()> {
        write!(self.out, "{:.6} ", utc(record.time_ns))?;
        match record.host.as_str() {
            "" => write!(self.out, "{}", record.src_ip)?,
            host => self.plain(host)?,
        }
        match record.severity {
            Some(severity) => write!(self.out, " {}", SEVERITIES[usize::from(severity & 7)])?,
            None => write!(self.out, " -")?,
        }
        self.out.write_all(b" ")?;
        if !record.app.is_empty() {
            self.plain(&record.app)?;
            if !record.pid.is_empty() {
                self.out.write_all(b"[")?;
                self.plain(&record.pid)?;
                self.out.write_all(b"]")?;
            }
            self.out.write_all(b": ")?;
        }
        self.plain(&record.message)?;
        for (key, value) in record.fields.iter() {
            self.out.write_all(b" ")?;
            self.plain(key)?;
            write!(self.out, "={}", Value::from(value))?;
        }
        if !record.flags.is_empty() {
            write!(self.out, " ({})", record.flags)?;
        }
        self.out.write_all(b"\n")
    }

    fn plain(&mut self, text: &str) -> io::Result<()> {
        let mut rest = text;
        while let Some(at) = rest.find(char::is_control) {
            let control = rest[at..].chars().next().unwrap_or_default();
            self.out.write_all(&rest.as_bytes()[..at])?;
            match control {
                '\n' => self.out.write_all(b"\n    ")?,
                '\t' => self.out.write_all(b"\t")?,
                _ => write!(self.out, "\\x{:02x}", u32::from(control))?,
            }
            rest = &rest[at + control.len_utf8()..];
        }
        self.out.write_all(rest.as_bytes())
    }

    fn json(&mut self, object: Map<String, Value>) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, &object)?;
        self.out.write_all(b"\n")
    }

    fn csv(&mut self, object: &Map<String, Value>, columns: &[&str]) -> io::Result<()> {
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                self.out.write_all(b",")?;
            }
            match object.get(*column) {
                None => {}
                Some(Value::String(text)) => self.csv_text(text)?,
                Some(value) => self.csv_text(&value.to_string())?,
            }
        }
        self.out.write_all(b"\r\n")
    }

    fn csv_text(&mut self, text: &str) -> io::Result<()> {
        if text.contains([',', '"', '\n', '\r']) {
            write!(self.out, "\"{}\"", text.replace('"', "\"\""))
        } else {
            self.out.write_all(text.as_bytes())
        }
    }
}

fn utc(ns: u64) -> Utc {
    Utc::from_ns(i64::try_from(ns).unwrap_or(i64::MAX))
}

fn record_json(record: &Record) -> Map<String, Value> {
    let mut object = Map::new();
    let mut set = |name: &str, value: Value| object.insert(name.to_owned(), value);
    set("time", format!("{:.9}", utc(record.time_ns)).into());
    if let Some(time) = record.event_time {
        set("event_time", Utc::from_ns(time.ns).to_string().into());
        set("event_error_ns", time.error_ns.into());
    }
    set("src_ip", record.src_ip.to_string().into());
    set("src_port", record.src_port.into());
    set("dst_ip", record.dst_ip.to_string().into());
    set("dst_port", record.dst_port.into());
    let host = if record.host.is_empty() { record.src_ip.to_string() } else { record.host.clone() };
    set("host", host.into());
    for (name, number) in [("facility", record.facility), ("severity", record.severity)] {
        number.map(|number| set(name, number.into()));
    }
    for (name, number) in [("seq", record.seq), ("kernel_usec", record.kernel_usec)] {
        number.map(|number| set(name, number.into()));
    }
    for (name, text) in [
        ("app", &record.app),
        ("pid", &record.pid),
        ("msgid", &record.msgid),
        ("caller", &record.caller),
        ("release", &record.release),
    ] {
        (!text.is_empty()).then(|| set(name, text.as_str().into()));
    }
    set("message", record.message.as_str().into());
    if !record.fields.is_empty() {
        let fields = record.fields.iter().map(|(key, value)| (key.to_owned(), Value::from(value)));
        set("fields", Value::Object(fields.collect()));
    }
    set("format", record.format.name().into());
    if !record.flags.is_empty() {
        set("flags", record.flags.to_string().into());
    }
    set("parts", record.parts.into());
    object
}

fn gap_json(gap: &Gap) -> Map<String, Value> {
    let value = json!({
        "after": format!("{:.9}", utc(gap.after_ns)),
        "before": format!("{:.9}", utc(gap.before_ns)),
        "src_ip": gap.src_ip,
        "src_port": gap.src_port,
        "dst_ip": gap.dst_ip,
        "dst_port": gap.dst_port,
        "kind": gap.kind.name(),
        "count": gap.count,
        "after_seq": gap.after_seq,
        "before_seq": gap.before_seq,
        "reason": gap.reason,
    });
    match value {
        Value::Object(object) => object.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}
