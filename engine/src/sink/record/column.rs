//! A record's columns by name: what queries print, JSON and CSV name, and templates ask for.

#[cfg(feature = "store")]
use std::fmt::Write as _;
use std::net::IpAddr;

use super::{Fields, Flags, Record, civil::Utc};

/// The words for severities 0 to 7.
pub(crate) const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// One of a record's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in Record, and in the store's schema")]
pub enum Column {
    Time,
    EventTime,
    EventErrorNs,
    SrcIp,
    SrcPort,
    DstIp,
    DstPort,
    Host,
    Facility,
    Severity,
    App,
    Pid,
    Msgid,
    Seq,
    KernelUsec,
    Caller,
    Release,
    Message,
    Fields,
    Format,
    Flags,
    Parts,
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    /// It is not there.
    None,
    Time(Utc),
    Ip(IpAddr),
    Number(u64),
    Text(&'a str),
    Fields(&'a Fields),
    Flags(Flags),
}

impl Column {
    /// All of them, in the order of the store's schema.
    pub const ALL: [Column; 22] = [
        Column::Time,
        Column::EventTime,
        Column::EventErrorNs,
        Column::SrcIp,
        Column::SrcPort,
        Column::DstIp,
        Column::DstPort,
        Column::Host,
        Column::Facility,
        Column::Severity,
        Column::App,
        Column::Pid,
        Column::Msgid,
        Column::Seq,
        Column::KernelUsec,
        Column::Caller,
        Column::Release,
        Column::Message,
        Column::Fields,
        Column::Format,
        Column::Flags,
        Column::Parts,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Column::Time => "time",
            Column::EventTime => "event_time",
            Column::EventErrorNs => "event_error_ns",
            Column::SrcIp => "src_ip",
            Column::SrcPort => "src_port",
            Column::DstIp => "dst_ip",
            Column::DstPort => "dst_port",
            Column::Host => "host",
            Column::Facility => "facility",
            Column::Severity => "severity",
            Column::App => "app",
            Column::Pid => "pid",
            Column::Msgid => "msgid",
            Column::Seq => "seq",
            Column::KernelUsec => "kernel_usec",
            Column::Caller => "caller",
            Column::Release => "release",
            Column::Message => "message",
            Column::Fields => "fields",
            Column::Format => "format",
            Column::Flags => "flags",
            Column::Parts => "parts",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Column> {
        Column::ALL.into_iter().find(|column| column.name() == name)
    }

    /// Its value in `record`.
    pub(crate) fn of(self, record: &Record) -> Cell<'_> {
        let text = |text: &'static str| Cell::Text(text);
        let some = |text| if str::is_empty(text) { Cell::None } else { Cell::Text(text) };
        let number = |number: Option<u64>| number.map_or(Cell::None, Cell::Number);
        match self {
            Column::Time => Cell::Time(Utc::from_ns(i64::try_from(record.time_ns).unwrap_or(i64::MAX))),
            Column::EventTime => record.event_time.map_or(Cell::None, |time| Cell::Time(Utc::from_ns(time.ns))),
            Column::EventErrorNs => number(record.event_time.map(|time| time.error_ns)),
            Column::SrcIp => Cell::Ip(record.src_ip),
            Column::SrcPort => Cell::Number(record.src_port.into()),
            Column::DstIp => Cell::Ip(record.dst_ip),
            Column::DstPort => Cell::Number(record.dst_port.into()),
            Column::Host if record.host.is_empty() => Cell::Ip(record.src_ip),
            Column::Host => Cell::Text(&record.host),
            Column::Facility => number(record.facility.map(u64::from)),
            Column::Severity => number(record.severity.map(u64::from)),
            Column::App => some(&record.app),
            Column::Pid => some(&record.pid),
            Column::Msgid => some(&record.msgid),
            Column::Seq => number(record.seq),
            Column::KernelUsec => number(record.kernel_usec),
            Column::Caller => some(&record.caller),
            Column::Release => some(&record.release),
            Column::Message => Cell::Text(&record.message),
            Column::Fields if record.fields.is_empty() => Cell::None,
            Column::Fields => Cell::Fields(&record.fields),
            Column::Format => text(record.format.name()),
            Column::Flags if record.flags.is_empty() => Cell::None,
            Column::Flags => Cell::Flags(record.flags),
            Column::Parts => Cell::Number(record.parts.into()),
        }
    }

    /// Digits of the seconds' fraction of a time: fixed for the receive time, as needed for a sender's.
    #[cfg(feature = "store")]
    fn write_time(self, utc: Utc, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = if self == Column::Time { write!(out, "{utc:.9}") } else { write!(out, "{utc}") };
    }

    /// Appends the value as text; nothing where there is none. Fields are a JSON object.
    #[cfg(feature = "store")]
    pub(crate) fn write_plain(self, record: &Record, out: &mut String) {
        let _ = match self.of(record) {
            Cell::None => Ok(()),
            Cell::Time(utc) => {
                self.write_time(utc, out);
                Ok(())
            }
            Cell::Ip(ip) => write!(out, "{ip}"),
            Cell::Number(number) => write!(out, "{number}"),
            Cell::Text(text) => {
                out.push_str(text);
                Ok(())
            }
            Cell::Fields(fields) => {
                write_fields(fields, out);
                Ok(())
            }
            Cell::Flags(flags) => write!(out, "{flags}"),
        };
    }
}

/// Appends `record` as a JSON object in one line; what is not there is left out.
#[cfg(feature = "store")]
pub(crate) fn write_json(record: &Record, out: &mut String) {
    out.push('{');
    let mut first = true;
    for column in Column::ALL {
        let cell = column.of(record);
        if cell == Cell::None {
            continue;
        }
        let _ = write!(out, "{}\"{}\":", if first { "" } else { "," }, column.name());
        first = false;
        match cell {
            Cell::None => {}
            Cell::Number(number) => {
                let _ = write!(out, "{number}");
            }
            Cell::Time(utc) => {
                out.push('"');
                column.write_time(utc, out);
                out.push('"');
            }
            Cell::Ip(ip) => {
                let _ = write!(out, "\"{ip}\"");
            }
            Cell::Flags(flags) => {
                let _ = write!(out, "\"{flags}\"");
            }
            Cell::Text(text) => write_json_text(text, out),
            Cell::Fields(fields) => write_fields(fields, out),
        }
    }
    out.push('}');
}

#[cfg(feature = "store")]
fn write_fields(fields: &Fields, out: &mut String) {
    out.push('{');
    for (at, (key, value)) in fields.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_json_text(key, out);
        out.push(':');
        write_json_text(value, out);
    }
    out.push('}');
}

/// As a JSON string, quotes included.
#[cfg(feature = "store")]
fn write_json_text(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push('"');
    let mut rest = text;
    // RFC 8259, section 7: quotes, backslashes and what is below 0x20. (0x7f and up may stand as they are; 0x7f is escaped
    // for terminals' sake.)
    while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || matches!(byte, b'"' | b'\\' | 0x7f)) {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte => {
                out.push_str("\\u00");
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(all(test, feature = "store"))]
mod tests {
    use super::*;
    use crate::sink::record::EventTime;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn names_are_the_stores() {
        let names: Vec<_> = Column::ALL.into_iter().map(Column::name).collect();
        let schema = crate::sink::store::schema();
        assert_eq!(names, schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>());
        assert!(Column::ALL.into_iter().all(|column| Column::from_name(column.name()) == Some(column)));
    }

    #[test]
    fn a_record_as_json() {
        let mut record = Record {
            time_ns: 1_700_000_000_000_000_000,
            event_time: Some(EventTime { ns: 1_700_000_000_500_000_000, error_ns: 7 }),
            src_ip: [10, 0, 0, 9].into(),
            src_port: 5,
            severity: Some(3),
            message: "a \"b\"\n".into(),
            flags: Flags::CRASH | Flags::HOLES,
            ..Record::default()
        };
        record.fields.push("k\"", "v");
        let mut out = String::new();
        write_json(&record, &mut out);
        assert_eq!(
            out,
            "{\"time\":\"2023-11-14T22:13:20.000000000Z\",\"event_time\":\"2023-11-14T22:13:20.500Z\",\"event_error_ns\":7,\
             \"src_ip\":\"10.0.0.9\",\"src_port\":5,\"dst_ip\":\"0.0.0.0\",\"dst_port\":0,\"host\":\"10.0.0.9\",\
             \"severity\":3,\"message\":\"a \\\"b\\\"\\n\",\"fields\":{\"k\\\"\":\"v\"},\"format\":\"raw\",\
             \"flags\":\"holes,crash\",\"parts\":1}"
        );
    }

    proptest! {
        #[test]
        fn json_texts_are_read_back(text in ".{0,40}", control in "[\\x00-\\x1f\\x7f\"\\\\]{0,10}") {
            let text = text + &control;
            let mut out = String::new();
            write_json_text(&text, &mut out);
            prop_assert!(!out.contains(|c: char| c < ' '));
            prop_assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), Value::from(text));
        }
    }
}
