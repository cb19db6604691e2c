//! What strangers send: no panic, no loss, no open ledger.

use proptest::prelude::*;

use super::*;

/// Bytes that reach deep: pieces of headers, in any order.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        &b"<13>"[..],
        b"<191>",
        b"<999>",
        b"1 ",
        b"- ",
        b"[a b=\"c\\]\"]",
        b"[",
        b"]",
        b"\\\"",
        b"=\"",
        b" ",
        b"\n",
        b"\0",
        b"\xef\xbb\xbf",
        b"2023-11-14T22:13:20.123456+01:00 ",
        b"Nov 14 22:13:20 ",
        b"Feb 30 99:99:99 ",
        b"host ",
        b"app[12]: ",
        b"app: ",
        b"6,1,2,-",
        b"6.1,30,18446744073709551615,18446744073709551615,c",
        b",caller=T1",
        b",ncfrag=0/10",
        b",ncfrag=5/10",
        b",ncfrag=70000/70000",
        b",k=v",
        b";",
        b"\\x41",
        b"\\xff",
        b"\xff",
        b"\\x",
        b" K=V",
        b"\n K=V\n",
        b"------------[ cut here ]------------",
        b"---[ end trace 0 ]---",
        b"[   12.345678][ T1] ",
        b"Mar  1 18:46:11.123 UTC: %SYS: ",
        b"2024 ",
        b"0123456789",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat()),
        (any::<u8>(), 995..1005_usize).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn anything_is_decoded(
        items in prop::collection::vec((payload(), 0..4_u32, 0..3_000_000_000_u64, 1..8_u16), 1..60),
    ) {
        let config = DecodeConfig {
            listeners: vec![
                (1..=1, Listen::Raw),
                (2..=2, Listen::NetconsoleBasic),
                (3..=3, Listen::NetconsoleExtended),
                (4..=4, Listen::Syslog),
                (5..=5, Listen::Netconsole),
            ],
            flow_messages: 4,
            flow_bytes: 4000,
            total_bytes: 8000,
            flows: 16,
            ..config()
        };
        // Receive times may go backwards too.
        let sent: Vec<_> = items
            .into_iter()
            .map(|(payload, ip, time_ns, dst_port)| Sent { time_ns: START_NS + time_ns, src: (ip, 1), dst_port, payload })
            .collect();
        decode_all(config, &sent);
    }

    /// The text of what has no header is all there.
    #[test]
    fn raw_is_lossless(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let config = DecodeConfig { listeners: vec![(1..=1, Listen::Raw)], ..config() };
        let (kept, _) = decode_all(config, &[datagram(0, 1, &bytes)]);
        let record = &kept.records[0];
        let mut line = &bytes[..];
        if let Some(cut) = line.strip_suffix(b"\n") {
            line = cut.strip_suffix(b"\r").unwrap_or(cut);
        } else {
            line = line.strip_suffix(b"\r").unwrap_or(line);
        }
        let back = match record.flags.has(Flags::ESCAPED) {
            true => text::unescape(&record.message),
            false => record.message.clone().into_bytes(),
        };
        prop_assert_eq!(back, line);
    }

    /// No word of a syslog datagram is lost, whatever its header looks like.
    #[test]
    fn syslog_keeps_every_letter(words in prop::collection::vec("[a-z0-9\\[\\]:/=\"-]{1,8}", 0..12), pri in 0..192_u16) {
        let line = format!("<{pri}>{}", words.join(" "));
        let (kept, _) = decode_all(config(), &[datagram(0, 514, line.as_bytes())]);
        let record = &kept.records[0];
        let mut all = [&record.host, &record.app, &record.pid, &record.msgid, &record.message].map(String::as_str).concat();
        for (key, value) in record.fields.iter() {
            all.push_str(key);
            all.push_str(value);
        }
        let letters = |text: &str| {
            let mut letters: Vec<char> = text.chars().filter(char::is_ascii_alphanumeric).collect();
            letters.sort_unstable();
            letters
        };
        if record.format == Format::Rfc3164 {
            prop_assert_eq!(letters(&all), letters(&words.join(" ")));
        }
    }
}
