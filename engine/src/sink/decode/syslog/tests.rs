//! Lines from the RFCs and from the field.

use super::*;
use crate::sink::record::{Format, civil::Utc};

/// 2023-11-14T22:13:20Z.
const RECEIVED_NS: u64 = 1_700_000_000_000_000_000;

fn record(payload: &[u8]) -> Record {
    zoned(payload, None)
}

fn zoned(payload: &[u8], zone_s: Option<i32>) -> Record {
    let mut record = Record { time_ns: RECEIVED_NS, ..Record::default() };
    assert!(decode(payload, false, zone_s, &mut record), "{}", String::from_utf8_lossy(payload));
    record
}

fn time(record: &Record) -> String {
    record.event_time.map(|time| Utc::from_ns(time.ns).to_string()).unwrap_or_default()
}

fn columns(record: &Record) -> [&str; 5] {
    [&record.host, &record.app, &record.pid, &record.msgid, &record.message].map(String::as_str)
}

#[test]
fn rfc5424_examples() {
    let one = record(b"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \xef\xbb\xbf'su root' failed for lonvick on /dev/pts/8");
    assert_eq!(
        columns(&one),
        ["mymachine.example.com", "su", "", "ID47", "'su root' failed for lonvick on /dev/pts/8"]
    );
    assert_eq!((one.facility, one.severity, one.format), (Some(4), Some(2), Format::Rfc5424));
    assert_eq!(time(&one), "2003-10-11T22:14:15.003Z");
    assert_eq!(one.event_time.unwrap().error_ns, 1_000_000);
    let two =
        record(b"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.");
    assert_eq!(columns(&two), ["192.0.2.1", "myproc", "8710", "", "%% It's time to make the do-nuts."]);
    assert_eq!(time(&two), "2003-08-24T12:14:15.000003Z");
    let four = record(
        b"<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut=\"3\" eventSource=\"Application\" eventID=\"1011\"][examplePriority@32473 class=\"high\"]",
    );
    assert_eq!(four.message, "");
    assert_eq!(
        four.fields.iter().collect::<Vec<_>>(),
        [
            ("exampleSDID@32473.iut", "3"),
            ("exampleSDID@32473.eventSource", "Application"),
            ("exampleSDID@32473.eventID", "1011"),
            ("examplePriority@32473.class", "high"),
        ]
    );
}

#[test]
fn structured_data_escapes_and_errors() {
    let good = record(br#"<13>1 - - - - - [a b="q\"q" c="x\]x" d="y\\y" e="n\n"][f] msg"#);
    let fields: Vec<_> = good.fields.iter().collect();
    assert_eq!(fields, [("a.b", "q\"q"), ("a.c", "x]x"), ("a.d", "y\\y"), ("a.e", "n\\n"), ("f", "")]);
    assert_eq!(good.message, "msg");
    for bad in ["[a b=\"c\" msg", "[a b=c] msg", "[] msg", "[a b=\"c\"]msg", "no data at all", "[a b=\"c\\"] {
        let record = record(format!("<13>1 - h - - - {bad}").as_bytes());
        assert_eq!((record.message.as_str(), record.host.as_str(), record.fields.len()), (bad, "h", 0));
    }
}

#[test]
fn rfc5424_with_a_bad_time_keeps_it() {
    let record = record(b"<13>1 2023-02-30T00:00:00Z h a p m - text");
    assert_eq!(columns(&record), ["h", "a", "p", "m", "text"]);
    assert_eq!(record.fields.get("timestamp"), Some("2023-02-30T00:00:00Z"));
}

#[test]
fn rfc3164_examples() {
    let one = record(b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8");
    assert_eq!(columns(&one), ["mymachine", "su", "", "", "'su root' failed for lonvick on /dev/pts/8"]);
    assert_eq!(time(&one), "2023-10-11T22:14:15Z");
    // 5.4, example 2: a sender without header; a relay adds PRI, time and its own name.
    let two = record(b"<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!");
    assert_eq!(columns(&two), ["10.0.0.99", "", "", "", "Use the BFG!"]);
}

#[test]
fn rfc3164_deviations() {
    let table: [(&[u8], [&str; 5], &str); 17] = [
        (b"<13>Nov 14 22:13:20 host app[12]: msg\n\0", ["host", "app", "12", "", "msg"], "2023-11-14T22:13:20Z"),
        (b"<13>Nov  4 22:13:20 host app: msg\r\n", ["host", "app", "", "", "msg"], "2023-11-04T22:13:20Z"),
        (b"<13>Nov 14 22:13:20 app[12]: msg", ["", "app", "12", "", "msg"], "2023-11-14T22:13:20Z"),
        (b"<13>Nov 14 22:13:20 app: msg", ["", "app", "", "", "msg"], "2023-11-14T22:13:20Z"),
        (b"<13>Nov 14 22:13:20 host no tag here", ["host", "", "", "", "no tag here"], "2023-11-14T22:13:20Z"),
        (b"<13>Nov 14 2023 22:13:20 host a: m", ["host", "a", "", "", "m"], "2023-11-14T22:13:20Z"),
        (b"<13>Nov 14 22:13:20 2022 host a: m", ["host", "a", "", "", "m"], "2022-11-14T22:13:20Z"),
        (b"<13>Nov 14 22:13:20.123 host a: m", ["host", "a", "", "", "m"], "2023-11-14T22:13:20.123Z"),
        (b"<13>2023-11-14T23:13:20.5+01:00 host a[1]: m", ["host", "a", "1", "", "m"], "2023-11-14T22:13:20.500Z"),
        (b"<13>app[12]: msg", ["", "app", "12", "", "msg"], ""),
        (b"<13>app: msg", ["", "app", "", "", "msg"], ""),
        (b"<13>just text", ["", "", "", "", "just text"], ""),
        (b"<13>std::bad_alloc thrown", ["", "", "", "", "std::bad_alloc thrown"], ""),
        (b"<13>a[1]=2", ["", "", "", "", "a[1]=2"], ""),
        (
            b"<189>*Nov 14 22:13:20.123 UTC: %SYS-5-CONFIG_I: done",
            ["", "%SYS-5-CONFIG_I", "", "", "done"],
            "2023-11-14T22:13:20.123Z",
        ),
        (b"\xef\xbb\xbf<13>Nov 14 22:13:20 fe80::1 a: m", ["fe80::1", "a", "", "", "m"], "2023-11-14T22:13:20Z"),
        (b"<13>", ["", "", "", "", ""], ""),
    ];
    for (payload, expected, expected_time) in table {
        let record = record(payload);
        assert_eq!(columns(&record), expected, "{}", String::from_utf8_lossy(payload));
        assert_eq!(time(&record), expected_time, "{}", String::from_utf8_lossy(payload));
        assert_eq!((record.format, record.facility.is_some()), (Format::Rfc3164, true));
    }
}

#[test]
fn a_missing_pri_is_taken_where_a_time_leads() {
    let timed = record(b"Nov 14 22:13:20 host app: msg");
    assert_eq!(columns(&timed), ["host", "app", "", "", "msg"]);
    assert_eq!((timed.facility, timed.severity), (None, None));
    let mut other = Record::default();
    assert!(!decode(b"no syslog", false, None, &mut other));
    assert!(!decode(b"Nov 14 22:13:20 host app: msg", true, None, &mut other));
    for bad in [&b"<>x"[..], b"<192>x", b"<1234>x", b"<13", b"<-1>x", b"<1a>x"] {
        assert!(!decode(bad, true, None, &mut other), "{}", String::from_utf8_lossy(bad));
    }
}

#[test]
fn the_year_is_the_nearest_and_the_zone_is_guessed() {
    // New Year's Eve, received in November: last year's.
    assert_eq!(time(&record(b"<13>Dec 31 23:59:59 h a: m")), "2023-12-31T23:59:59Z");
    assert_eq!(time(&record(b"<13>Feb 29 00:00:00 h a: m")), "2024-02-29T00:00:00Z");
    assert_eq!(time(&record(b"<13>Jan  1 00:00:00 h a: m")), "2024-01-01T00:00:00Z");
    // 5 h 30 min ahead of UTC and 2 s old.
    let guessed = record(b"<13>Nov 15 03:43:18 h a: m");
    assert_eq!(time(&guessed), "2023-11-14T22:13:18Z");
    assert_eq!(guessed.event_time.unwrap().error_ns, 450_000_000_000);
    let known = zoned(b"<13>Nov 14 23:13:20 h a: m", Some(3600));
    assert_eq!(time(&known), "2023-11-14T22:13:20Z");
    assert_eq!(known.event_time.unwrap().error_ns, 1_000_000_000);
}

#[test]
fn bytes_that_are_no_text_stay_escaped() {
    let record = record(b"<13>1 - h\xff - - - [a b=\"\\\\\xfe\"] c:\\d");
    assert!(record.flags.has(Flags::ESCAPED));
    assert_eq!((record.host.as_str(), record.message.as_str()), (r"h\xff", r"c:\x5cd"));
    assert_eq!(record.fields.get("a.b"), Some(r"\x5c\xfe"));
}
