//! Any record that a decoder could make, for the tests of what is the inverse of what.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

/// Texts with what outputs must escape, as a record holds them.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["", "[ -~]{0,20}", "\\PC{0,10}", "[\"\\\\,;=\n\r\t\u{0}\u{7f}\u{85}]{1,6}"]
}

pub(crate) fn record() -> impl Strategy<Value = Record> {
    let endpoint = || (any::<IpAddr>(), any::<u16>());
    let event = (any::<i64>(), 0..=i64::MAX.cast_unsigned());
    let times = (0..=i64::MAX.cast_unsigned(), proptest::option::of(event));
    // A host that is no address: one that is the source's own is the same as none.
    let header = ("([a-z][a-z0-9.-]{0,12})?", text(), text(), text(), text(), text());
    let numbers = (any::<Option<u8>>(), any::<Option<u8>>(), any::<Option<u64>>(), any::<Option<u64>>(), any::<u32>());
    let fields = proptest::collection::vec((text(), text()), 0..6);
    let kind = (proptest::sample::select(Format::ALL.to_vec()), any::<u16>().prop_map(Flags));
    (endpoint(), endpoint(), times, header, text(), numbers, fields, kind).prop_map(
        |(src, dst, (time_ns, event), header, message, numbers, fields, (format, flags))| {
            let (host, app, pid, msgid, caller, release) = header;
            let (facility, severity, seq, kernel_usec, parts) = numbers;
            Record {
                time_ns,
                event_time: event.map(|(ns, error_ns)| EventTime { ns, error_ns }),
                src_ip: src.0,
                src_port: src.1,
                dst_ip: dst.0,
                dst_port: dst.1,
                host,
                facility,
                severity,
                app,
                pid,
                msgid,
                seq,
                kernel_usec,
                caller,
                release,
                message,
                fields: fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
                format,
                flags,
                parts,
            }
        },
    )
}
