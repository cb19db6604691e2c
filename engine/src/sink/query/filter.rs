//! Does a record match?

use super::{LogQuery, ip_text};
use crate::sink::{decode::Gap, record::Record};

impl LogQuery {
    pub(super) fn matches_time(&self, time_ns: u64) -> bool {
        self.from_ns.is_none_or(|from| time_ns >= from) && self.to_ns.is_none_or(|to| time_ns < to)
    }

    /// Some moment of `first..=last` may match.
    pub(super) fn matches_span(&self, first_ns: u64, last_ns: u64) -> bool {
        self.from_ns.is_none_or(|from| last_ns >= from) && self.to_ns.is_none_or(|to| first_ns < to)
    }

    pub(super) fn matches(&self, record: &Record) -> bool {
        self.matches_time(record.time_ns)
            && self.severity.is_none_or(|most| record.severity.is_some_and(|severity| severity <= most))
            && self.host.as_ref().is_none_or(|host| record.host == *host || ip_text(record.src_ip) == *host)
            && self.fields.iter().all(|(name, value)| field_is(record, name, value))
            && self.regex.as_ref().is_none_or(|regex| regex.is_match(&record.message))
    }

    pub(super) fn matches_gap(&self, gap: &Gap) -> bool {
        self.matches_time(gap.before_ns) && self.host.as_ref().is_none_or(|host| ip_text(gap.src_ip) == *host)
    }
}

/// A column, or else a field, of that name has that value.
fn field_is(record: &Record, name: &str, value: &str) -> bool {
    let number = |number: Option<u64>| number.is_some_and(|number| value.parse() == Ok(number));
    let text = |text: &str| !text.is_empty() && text == value;
    let column = match name {
        "app" => text(&record.app),
        "pid" => text(&record.pid),
        "msgid" => text(&record.msgid),
        "caller" => text(&record.caller),
        "release" => text(&record.release),
        "format" => record.format.name() == value,
        "flags" => record.flags.names().any(|flag| flag == value),
        "src_ip" => ip_text(record.src_ip) == value,
        "dst_ip" => ip_text(record.dst_ip) == value,
        "src_port" => number(Some(record.src_port.into())),
        "dst_port" => number(Some(record.dst_port.into())),
        "facility" => number(record.facility.map(u64::from)),
        "severity" => number(record.severity.map(u64::from)),
        "seq" => number(record.seq),
        "kernel_usec" => number(record.kernel_usec),
        _ => false,
    };
    column || record.fields.get(name) == Some(value)
}
