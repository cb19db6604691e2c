//! Basic netconsole, raw, and the choice between formats.

use super::*;

#[test]
fn a_long_line_is_joined_at_1000_bytes() {
    let text = "0123456789".repeat(250);
    let line = format!("{text}\n");
    let sent: Vec<_> = line.as_bytes().chunks(1000).map(|chunk| datagram(0, 6666, chunk)).collect();
    let (kept, _) = decode_all(config(), &sent);
    assert_eq!(kept.records.len(), 1);
    assert_eq!((&kept.records[0].message, kept.records[0].parts), (&text, 3));
    assert!(kept.records[0].flags.is_empty());
}

#[test]
fn only_the_same_source_is_joined() {
    let long = "a".repeat(1000);
    let mut sent =
        vec![datagram(0, 6666, long.as_bytes()), datagram(0, 6666, b"other\n"), datagram(1, 6666, b"rest\n")];
    sent[1].src = (1, 6665);
    let (kept, _) = decode_all(config(), &sent);
    let messages: Vec<_> = kept.records.iter().map(|record| record.message.clone()).collect();
    assert_eq!(messages, ["other".to_string(), long + "rest"]);
}

#[test]
fn a_full_datagram_that_ends_its_line_is_not_joined() {
    let line = format!("{}\n", "b".repeat(999));
    let (kept, _) = decode_all(config(), &[datagram(0, 6666, line.as_bytes()), datagram(0, 6666, b"next\n")]);
    assert_eq!(kept.records.len(), 2);
}

#[test]
fn the_rest_is_not_waited_for_longer_than_a_second() {
    let sent = [datagram(0, 6666, &[b'c'; 1000]), datagram(1_500_000_000, 6666, b"another line\n")];
    let (kept, stats) = decode_all(config(), &sent);
    assert_eq!((kept.records.len(), stats.incomplete_records), (2, 1));
    assert_eq!(kept.records[0].flags, Flags::INCOMPLETE);
}

#[test]
fn a_line_without_end_is_bounded() {
    let sent: Vec<_> = (0..1000).map(|_| datagram(0, 6666, &[b'd'; 1000])).collect();
    let (kept, _) = decode_all(config(), &sent);
    assert!(kept.records.iter().all(|record| record.message.len() <= 66_000));
    assert_eq!(kept.records.iter().map(|record| record.message.len()).sum::<usize>(), 1_000_000);
}

#[test]
fn by_listener_and_by_trying() {
    let formats = |port, payload: &[u8]| {
        let config = DecodeConfig {
            listeners: vec![
                (1..=1, Listen::Raw),
                (2..=2, Listen::NetconsoleBasic),
                (3..=3, Listen::NetconsoleExtended),
                (4..=4, Listen::Syslog),
                (5..=9, Listen::Netconsole),
            ],
            ..config()
        };
        decode_all(config, &[datagram(0, port, payload)]).0.records[0].format
    };
    let extended = b"6,1,2,-;text\n";
    let pri = b"<13>text";
    let timed = b"Nov 14 22:13:20 host app: text";
    let table = [
        (1, &extended[..], Format::Raw),
        (2, extended, Format::NetconsoleBasic),
        (3, extended, Format::NetconsoleExtended),
        (3, pri, Format::Raw),
        (4, pri, Format::Rfc3164),
        (4, timed, Format::Rfc3164),
        (4, extended, Format::Raw),
        (7, extended, Format::NetconsoleExtended),
        (7, pri, Format::NetconsoleBasic),
        (99, extended, Format::NetconsoleExtended),
        (99, pri, Format::Rfc3164),
        (99, timed, Format::Raw),
        (99, b"<13>1 - - - - - -", Format::Rfc5424),
        (99, b"", Format::Raw),
        (99, b"<192>text", Format::Raw),
    ];
    for (port, payload, format) in table {
        assert_eq!(formats(port, payload), format, "{port} {}", String::from_utf8_lossy(payload));
    }
}

#[test]
fn a_crash_without_callers_is_one_record() {
    let said = [
        "[    1.000000] BUG: unable to handle page fault\n",
        "[    1.000001] RIP: 0010:x\n",
        "[    1.000002] ---[ end trace 0 ]---\n",
    ];
    let sent: Vec<_> = said.iter().map(|line| datagram(0, 6666, line.as_bytes())).collect();
    let (kept, _) = decode_all(config(), &sent);
    assert_eq!(kept.records.len(), 1);
    assert_eq!(kept.records[0].message, said.concat().trim_end());
    assert_eq!(kept.records[0].kernel_usec, Some(1_000_000));
}
