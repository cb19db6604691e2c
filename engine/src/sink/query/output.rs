//! Records and gaps as text, JSON lines or CSV.
//!
//! Text is for terminals: control characters are shown as `\xNN`, so that no sender moves the cursor, and
//! the lines of a message of several are indented, so that no sender makes up lines of others. JSON and
//! CSV (RFC 4180) carry the values as they are.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::sink::{
    decode::Gap,
    record::{
        Column, EventTime, Record,
        civil::Utc,
        column::{SEVERITIES, write_json},
    },
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
    room: String,
    /// Text shows when a record was sent, where that is known.
    sent_time: bool,
}

impl<'a> Printer<'a> {
    pub fn new(out: &'a mut dyn Write, format: OutputFormat, gaps: bool, sent_time: bool) -> io::Result<Printer<'a>> {
        let mut out = io::BufWriter::with_capacity(1 << 16, out);
        if format == OutputFormat::Csv {
            let columns = if gaps { GAP_COLUMNS.to_vec() } else { Column::ALL.map(Column::name).to_vec() }.join(",");
            write!(out, "{columns}\r\n")?;
        }
        Ok(Printer { out, format, room: String::new(), sent_time })
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        match self.format {
            OutputFormat::Text => self.record_text(record),
            OutputFormat::JsonLines => {
                self.room.clear();
                write_json(record, &mut self.room);
                writeln!(self.out, "{}", self.room)
            }
            OutputFormat::Csv => self.record_csv(record),
        }
    }

    pub fn gap(&mut self, gap: &Gap) -> io::Result<()> {
        match self.format {
            OutputFormat::Text => self.gap_text(gap),
            OutputFormat::JsonLines => self.json(gap_json(gap)),
            OutputFormat::Csv => self.gap_csv(&gap_json(gap)),
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
        match record.event_time.filter(|_| self.sent_time) {
            Some(EventTime { ns, error_ns }) if error_ns >= 1_000_000 => {
                write!(self.out, "{:.3}~{}ms ", Utc::from_ns(ns), error_ns.div_ceil(1_000_000))?;
            }
            Some(EventTime { ns, .. }) => write!(self.out, "{:.6} ", Utc::from_ns(ns))?,
            None => write!(self.out, "{:.6} ", utc(record.time_ns))?,
        }
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

    fn record_csv(&mut self, record: &Record) -> io::Result<()> {
        let mut room = std::mem::take(&mut self.room);
        for (at, column) in Column::ALL.into_iter().enumerate() {
            if at > 0 {
                self.out.write_all(b",")?;
            }
            room.clear();
            column.write_plain(record, &mut room);
            self.csv_text(&room)?;
        }
        self.room = room;
        self.out.write_all(b"\r\n")
    }

    fn gap_csv(&mut self, object: &Map<String, Value>) -> io::Result<()> {
        for (at, column) in GAP_COLUMNS.iter().enumerate() {
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
