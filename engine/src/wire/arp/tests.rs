use proptest::prelude::*;

use super::*;
use crate::wire::ethernet::MIN_FRAME_LEN;

const US: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x01]);
const PEER: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x02]);

fn good() -> [u8; LEN] {
    let mut body = [0; LEN];
    Arp::request(PEER, Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 1)).emit(&mut body);
    body
}

#[test]
fn every_refusal() {
    assert!(Arp::parse(&good()).is_ok());
    assert_eq!(Arp::parse(&good()[..LEN - 1]), Err(ArpError::Short));
    let cases: &[(usize, &[u8], ArpError)] = &[
        (0, &[0, 6], ArpError::NotEthernet),
        (2, &[0x86, 0xdd], ArpError::NotIpv4),
        (4, &[8], ArpError::Lengths),
        (5, &[16], ArpError::Lengths),
        (6, &[0, 0], ArpError::Operation),
        (6, &[0, 3], ArpError::Operation),
        (6, &[1, 1], ArpError::Operation),
        (8, &[0x03], ArpError::SenderMac),
        (8, &[0; 6], ArpError::SenderMac),
        (8, &[0xff; 6], ArpError::SenderMac),
        (14, &[224, 0, 0, 1], ArpError::SenderIp),
        (14, &[127, 0, 0, 1], ArpError::SenderIp),
        (14, &[255; 4], ArpError::SenderIp),
        (14, &[0, 0, 0, 1], ArpError::SenderIp),
        (24, &[127, 0, 0, 1], ArpError::TargetIp),
        (24, &[239, 1, 2, 3], ArpError::TargetIp),
    ];
    for (at, bytes, error) in cases {
        let mut body = good();
        body[*at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(Arp::parse(&body), Err(*error), "{bytes:?} at {at}");
    }
}

#[test]
fn a_probe_is_a_request_only() {
    let mut body = good();
    body[14..18].fill(0);
    assert!(Arp::parse(&body).unwrap().sender_ip.is_unspecified());
    body[7] = 2;
    assert_eq!(Arp::parse(&body), Err(ArpError::SenderIp));
}

#[test]
fn gratuitous_frame_is_byte_exact() {
    let mut frame = [0xee; MIN_FRAME_LEN];
    Arp::gratuitous(US, Ipv4Addr::new(10, 0, 0, 1)).emit_frame(&mut frame, MacAddr::BROADCAST).unwrap();
    let mut expected = [0; MIN_FRAME_LEN];
    // By hand, after RFC 826 and RFC 5227 section 3.
    expected[..FRAME_LEN].copy_from_slice(
        b"\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x08\x06\
          \x00\x01\x08\x00\x06\x04\x00\x01\
          \x02\x00\x00\x00\x00\x01\x0a\x00\x00\x01\
          \x00\x00\x00\x00\x00\x00\x0a\x00\x00\x01",
    );
    assert_eq!(frame, expected);
    assert_eq!(Arp::gratuitous(US, Ipv4Addr::LOCALHOST).emit_frame(&mut frame[..FRAME_LEN - 1], US), None);
    assert_eq!(frame, expected);
}

/// Every operation and any address that a host can have.
fn valid_arp() -> impl Strategy<Value = Arp> {
    let ip = (1u8..=126, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| Ipv4Addr::new(a, b, c, d));
    let mac = any::<[u8; 6]>().prop_map(|mut mac| {
        mac[0] = mac[0] & 0xfe | 0x02;
        MacAddr(mac)
    });
    (prop_oneof![Just(Operation::Request), Just(Operation::Reply)], mac, ip.clone(), any::<[u8; 6]>(), ip).prop_map(
        |(operation, sender_mac, sender_ip, target_mac, target_ip)| Arp {
            operation,
            sender_mac,
            sender_ip,
            target_mac: MacAddr(target_mac),
            target_ip,
        },
    )
}

proptest! {
    #[test]
    fn parse_emit_round_trip(arp in valid_arp()) {
        let mut body = [0; LEN];
        arp.emit(&mut body);
        prop_assert_eq!(Arp::parse(&body), Ok(arp));
    }

    #[test]
    fn reply_answers_the_request(arp in valid_arp(), frame_src: [u8; 6], tags in 0usize..3, padding in 0usize..20) {
        let request = Arp { operation: Operation::Request, ..arp };
        let at = ethernet::HEADER_LEN + 4 * tags;
        let mut frame = vec![0x77; at + LEN + padding];
        frame[6..12].copy_from_slice(&frame_src);
        request.emit((&mut frame[at..at + LEN]).try_into().unwrap());
        let before = frame.clone();
        reply_in_place(&mut frame, at, US);
        prop_assert_eq!(&frame[..6], &request.sender_mac.0);
        prop_assert_eq!(&frame[6..12], &US.0);
        prop_assert_eq!(&frame[12..at], &before[12..at]);
        prop_assert_eq!(&frame[at + LEN..], &before[at + LEN..]);
        prop_assert_eq!(Arp::parse(&frame[at..]), Ok(Arp {
            operation: Operation::Reply,
            sender_mac: US,
            sender_ip: request.target_ip,
            target_mac: request.sender_mac,
            target_ip: request.sender_ip,
        }));
    }

    #[test]
    fn never_panics(mut frame in proptest::collection::vec(any::<u8>(), 0..80), at in 0usize..100) {
        let _ = Arp::parse(&frame);
        let before = frame.clone();
        reply_in_place(&mut frame, at, US);
        if at + LEN > before.len() {
            prop_assert_eq!(frame, before);
        }
    }
}
