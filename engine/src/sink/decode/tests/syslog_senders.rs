//! Lines of a real sender: util-linux `logger`, over loopback.

use std::{
    net::UdpSocket,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::*;

/// What `logger` with these arguments sends, received now; `None` (said by name) where there is no logger.
fn logger(args: &[&str]) -> Option<Sent> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
    let port = socket.local_addr().expect("an address").port().to_string();
    let status = Command::new("logger").args(["-d", "-n", "127.0.0.1", "-P", &port]).args(args).status();
    let Ok(status) = status else {
        eprintln!("skipped syslog_senders: no `logger` (util-linux) here");
        return None;
    };
    assert!(status.success());
    let mut payload = vec![0; 65_536];
    let len = socket.recv(&mut payload).expect("a datagram from logger");
    payload.truncate(len);
    let time_ns = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos() as u64;
    Some(Sent { time_ns, src: (0x7f00_0001, 9), dst_port: 514, payload })
}

fn decoded(sent: &Sent) -> Record {
    decode_all(config(), std::slice::from_ref(sent)).0.records.remove(0)
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_string()
}

fn assert_time_is_now(record: &Record) {
    let time = record.event_time.expect("a time");
    // `logger` stamps before it sends; RFC 3164 has whole seconds.
    assert!(time.ns.abs_diff(record.time_ns.cast_signed()) <= time.error_ns + 5_000_000_000, "{time:?}");
}

#[test]
fn logger_rfc5424() {
    let args = [
        "--rfc5424",
        "-p",
        "daemon.warning",
        "-t",
        "my-app",
        "--id=4711",
        "--msgid",
        "MID",
        "--sd-id",
        "zoo@123",
        "--sd-param",
        "tiger=\"hungry \\\"very\\\"\"",
        "--sd-param",
        "zebra=\"no\"",
        "a message: with [brackets] é",
    ];
    let Some(sent) = logger(&args) else { return };
    let record = decoded(&sent);
    assert_eq!(record.format, Format::Rfc5424, "{}", String::from_utf8_lossy(&sent.payload));
    assert_eq!((record.facility, record.severity), (Some(3), Some(4)));
    assert_eq!((record.app.as_str(), record.pid.as_str(), record.msgid.as_str()), ("my-app", "4711", "MID"));
    assert_eq!(record.message, "a message: with [brackets] é");
    assert_eq!(record.fields.get("zoo@123.zebra"), Some("no"));
    assert!(record.fields.get("zoo@123.tiger").is_some_and(|value| value.starts_with("hungry")));
    assert!(record.fields.get("timeQuality.tzKnown").is_some());
    assert!(host_name().starts_with(&record.host) && !record.host.is_empty());
    assert_time_is_now(&record);
}

#[test]
fn logger_rfc3164() {
    let Some(sent) = logger(&["--rfc3164", "-p", "user.err", "-t", "my-app", "--id=4711", "disk: it is full"]) else {
        return;
    };
    let record = decoded(&sent);
    assert_eq!(record.format, Format::Rfc3164, "{}", String::from_utf8_lossy(&sent.payload));
    assert_eq!((record.facility, record.severity), (Some(1), Some(3)));
    assert_eq!((record.app.as_str(), record.pid.as_str()), ("my-app", "4711"));
    assert_eq!(record.message, "disk: it is full");
    assert!(host_name().starts_with(&record.host) && !record.host.is_empty());
    assert_time_is_now(&record);
}

#[test]
fn logger_without_time_and_host() {
    let Some(sent) = logger(&["--rfc5424=notime,notq,nohost", "-t", "t", "plain"]) else { return };
    let record = decoded(&sent);
    assert_eq!(record.format, Format::Rfc5424);
    assert_eq!((record.event_time, record.host.as_str(), record.app.as_str()), (None, "", "t"));
    assert_eq!(record.message, "plain");
}
