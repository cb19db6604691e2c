use proptest::prelude::*;

use super::*;

fn target() -> NetconsoleTarget {
    NetconsoleTarget {
        extended: false,
        release: false,
        src_port: 6665,
        src_ip: None,
        dev: None,
        dst_port: 6666,
        dst_ip: "10.0.0.2".parse().unwrap(),
        dst_mac: None,
    }
}

#[test]
fn shortest_and_longest() {
    assert_eq!(parse_targets("@/,@10.0.0.2/"), Ok(vec![target()]));
    assert_eq!(
        parse_targets("+r4444@10.0.0.1/eth1,9353@10.0.0.2/12:34:56:78:9a:bc"),
        Ok(vec![NetconsoleTarget {
            extended: true,
            release: true,
            src_port: 4444,
            src_ip: Some("10.0.0.1".parse().unwrap()),
            dev: Some(DevSel::Name("eth1".into())),
            dst_port: 9353,
            dst_mac: Some(MacAddr([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc])),
            ..target()
        }])
    );
}

#[test]
fn each_part_alone() {
    let dev = |dev| Some(NetconsoleTarget { dev: Some(dev), ..target() });
    for (text, expected) in [
        ("+@/,@10.0.0.2/", Some(NetconsoleTarget { extended: true, ..target() })),
        ("0@/,65535@10.0.0.2/", Some(NetconsoleTarget { src_port: 0, dst_port: 65535, ..target() })),
        ("@/02:00:00:00:00:01,@10.0.0.2/", dev(DevSel::Mac(MacAddr([2, 0, 0, 0, 0, 1])))),
        ("@/0000:03:00.0,@10.0.0.2/", dev(DevSel::Name("0000:03:00.0".into()))),
        ("@/,@fe80::1/", Some(NetconsoleTarget { dst_ip: "fe80::1".parse().unwrap(), ..target() })),
    ] {
        assert_eq!(text.parse().ok(), expected, "{text}");
    }
}

#[test]
fn several_targets_all_or_nothing() {
    let two = parse_targets("@/,@10.0.0.2/;1@/,2@10.0.0.2/").unwrap();
    assert_eq!(two, [target(), NetconsoleTarget { src_port: 1, dst_port: 2, ..target() }]);
    assert_eq!(parse_targets("@/,@10.0.0.2/;1@/,x@10.0.0.2/").unwrap_err().at, 18);
}

/// Text, byte of the fault, what is found there, a part of what is expected.
const BAD: &[(&str, usize, &str, &str)] = &[
    ("", 0, "", "'@'"),
    ("@/,@10.0.0.2/;", 14, "", "'@'"),
    (";@/,@10.0.0.2/", 0, ";", "'@'"),
    ("r@/,@10.0.0.2/", 0, "r", "'+' before 'r'"),
    ("r+@/,@10.0.0.2/", 0, "r", "'+' before 'r'"),
    ("++@/,@10.0.0.2/", 1, "+", "port number"),
    ("+rr@/,@10.0.0.2/", 2, "r", "port number"),
    ("-1@/,@10.0.0.2/", 0, "-1", "port number"),
    ("++1@/,@10.0.0.2/", 1, "+1", "port number"),
    (" 1@/,@10.0.0.2/", 0, " 1", "port number"),
    ("1 @/,@10.0.0.2/", 0, "1 ", "port number"),
    ("65536@/,@10.0.0.2/", 0, "65536", "port number"),
    ("0x10@/,@10.0.0.2/", 0, "0x10", "port number"),
    ("6665", 4, "", "'@'"),
    ("6665/eth0,@10.0.0.2/", 4, "/", "'@'"),
    ("@10.0.0/,@10.0.0.2/", 1, "10.0.0", "source's IP address"),
    ("@10.0.0.1,@10.0.0.2/", 9, ",", "'/'"),
    ("@10.0.0.01/,@10.0.0.2/", 1, "10.0.0.01", "source's IP address"),
    ("@/e h,@10.0.0.2/", 2, "e h", "port's name"),
    ("@/02:00,@10.0.0.2/", 2, "02:00", "MAC address"),
    ("@/eth0@10.0.0.2/", 6, "@", "','"),
    ("@/eth0", 6, "", "','"),
    ("@/,+1@10.0.0.2/", 3, "+1", "receiver's port number"),
    ("@/,6666", 7, "", "'@'"),
    ("@/,@/", 4, "/", "receiver's IP address"),
    ("@/,@", 4, "", "receiver's IP address"),
    ("@/,@host/", 4, "host", "receiver's IP address"),
    ("@/,@10.0.0.2", 12, "", "'/'"),
    ("@10.0.0.1/,@fe80::1/", 12, "fe80::1", "an IPv4 address"),
    ("@fe80::1/,@10.0.0.1/", 11, "10.0.0.1", "an IPv6 address"),
    ("@/,@10.0.0.2/02:00:00:00:00", 13, "02:00:00:00:00", "MAC address"),
    ("@/,@10.0.0.2/02:00:00:00:00:01 ", 13, "02:00:00:00:00:01 ", "MAC address"),
    ("@/,@10.0.0.2/,", 13, ",", "the end"),
    ("@/,@10.0.0.2/02:00:00:00:00:01/", 30, "/", "the end"),
    ("@/é,é@10.0.0.2/", 5, "é", "port number"),
];

#[test]
fn faults_name_place_and_expectation() {
    for &(text, at, found, expected) in BAD {
        let error = parse_targets(text).expect_err(text);
        assert_eq!((error.at, error.found.as_str()), (at, found), "{text:?}");
        assert!(error.expected.contains(expected), "{text:?}: {}", error.expected);
    }
}

#[test]
fn the_caret_stands_under_the_place() {
    let error = parse_targets("@/,@10.0.0.9/;6665@10.0.0.1/np0,x@10.0.0.2/").unwrap_err();
    assert_eq!(
        error.to_string(),
        "byte 32: found \"x\", expected the receiver's port number, 0 to 65535, or nothing for 6666\n\
         \x20 6665@10.0.0.1/np0,x@10.0.0.2/\n\
         \x20                   ^"
    );
    let end = parse_targets("6665").unwrap_err().to_string();
    assert_eq!(end, "byte 4: found the end, expected '@' behind the source's port number\n  6665\n      ^");
}

#[test]
fn a_long_text_is_shown_in_part() {
    let error = parse_targets(&format!("@/{},{}@10.0.0.2/", "n".repeat(1000), "\n".repeat(1000))).unwrap_err();
    assert_eq!((error.at, error.caret, error.found.len()), (1003, 60, 60));
    assert_eq!(error.excerpt, format!("{},{}", "n".repeat(59), "?".repeat(60)));
}

fn any_target() -> impl Strategy<Value = NetconsoleTarget> {
    let v4 = || any::<[u8; 4]>().prop_map(IpAddr::from);
    let v6 = || any::<[u16; 8]>().prop_map(IpAddr::from);
    let addresses = prop_oneof![(proptest::option::of(v4()), v4()), (proptest::option::of(v6()), v6())];
    let mac = || any::<[u8; 6]>().prop_map(MacAddr);
    let dev = proptest::option::of(prop_oneof![
        "[a-zA-Z0-9_.+-]{1,15}".prop_map(DevSel::Name),
        "[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\\.[0-7]".prop_map(DevSel::Name),
        mac().prop_map(DevSel::Mac),
    ]);
    let mark = prop_oneof![Just((false, false)), Just((true, false)), Just((true, true))];
    (mark, any::<(u16, u16)>(), addresses, dev, proptest::option::of(mac())).prop_map(
        |((extended, release), (src_port, dst_port), (src_ip, dst_ip), dev, dst_mac)| NetconsoleTarget {
            extended,
            release,
            src_port,
            src_ip,
            dev,
            dst_port,
            dst_ip,
            dst_mac,
        },
    )
}

proptest! {
    #[test]
    fn display_parses_back(targets in proptest::collection::vec(any_target(), 1..4)) {
        let text = targets.iter().map(NetconsoleTarget::to_string).collect::<Vec<_>>().join(";");
        prop_assert_eq!(parse_targets(&text), Ok(targets));
    }

    #[test]
    fn whatever_parses_is_shown_as_what_parses_to_the_same(text in "[+]?r?[0-9]{0,6}@([0-9.:a-f]{0,9})/[a-z0-9:.]{0,4},[0-9]{0,6}@(10\\.0\\.0\\.[0-9]{1,3}|::[0-9a-f]{1,4})/") {
        if let Ok(target) = text.parse::<NetconsoleTarget>() {
            prop_assert_eq!(target.to_string().parse(), Ok(target));
        }
    }

    /// Any change to a right string is told at a place inside it, and the caret is under that place.
    #[test]
    fn faults_point_into_the_text(target in any_target(), at in 0usize..60, new in any::<char>()) {
        let mut chars: Vec<char> = target.to_string().chars().collect();
        let at = at % chars.len();
        chars[at] = new;
        let text: String = chars.iter().collect();
        if let Err(error) = parse_targets(&text) {
            prop_assert!(text.is_char_boundary(error.at));
            prop_assert!(text[error.at..].starts_with(&error.found));
            let line = error.to_string();
            let shown: Vec<&str> = line.rsplitn(3, '\n').collect();
            prop_assert_eq!(shown[0].chars().count(), 2 + error.caret + 1);
            prop_assert!(shown[1].chars().count() >= 2 + error.caret);
        }
    }

    #[test]
    fn noise_never_panics(text in "\\PC*") {
        let _ = parse_targets(&text);
    }
}
