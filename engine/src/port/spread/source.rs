//! Which worker a frame goes to.

use crate::wire::{ethernet, ipv4, vlan};

/// The source address of a frame that is UDP over IPv4, under up to two VLAN tags. Nothing else is looked at: that is
/// the filter's work, on the worker's lcore.
#[inline]
pub(super) fn source(frame: &[u8]) -> Option<u32> {
    let mut at = ethernet::HEADER_LEN;
    for _ in 0..2 {
        if vlan::is_tag(ethertype_before(frame, at)?) {
            at += vlan::TAG_LEN;
        }
    }
    if ethertype_before(frame, at)? != ethernet::ETHERTYPE_IPV4 {
        return None;
    }
    let header: &[u8; ipv4::HEADER_LEN] = frame.get(at..)?.first_chunk()?;
    (header[9] == ipv4::PROTOCOL_UDP).then(|| u32::from_be_bytes([header[12], header[13], header[14], header[15]]))
}

#[inline]
fn ethertype_before(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*frame.get(at - 2..)?.first_chunk()?))
}

/// Neighbouring addresses go different ways: Fibonacci hashing, its high bits scaled to the number of workers.
#[inline]
pub(super) fn worker_of(source: u32, workers: usize) -> usize {
    let hash = source.wrapping_mul(0x9E37_79B9);
    ((u64::from(hash) * workers as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Destination, source, tags, EtherType, and an IPv4 header from 10.1.2.3.
    fn frame(tags: &[[u8; 4]], ethertype: [u8; 2], protocol: u8) -> Vec<u8> {
        let mut frame = vec![0x22; 12];
        frame.extend(tags.iter().flatten());
        frame.extend(ethertype);
        frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 1, 2, 3, 10, 99, 0, 1]);
        frame
    }

    #[test]
    fn datagrams_have_a_source_and_nothing_else_has() {
        let (ip, tag, outer) = ([8, 0], [0x81, 0, 0, 7], [0x88, 0xa8, 0, 9]);
        for tags in [&[][..], &[tag], &[outer, tag]] {
            let whole = frame(tags, ip, 17);
            assert_eq!(source(&whole), Some(0x0a01_0203), "{tags:?}");
            for len in 0..whole.len() {
                assert_eq!(source(&whole[..len]), None, "cut after {len} bytes");
            }
            assert_eq!(source(&frame(tags, ip, 1)), None, "ICMP");
            assert_eq!(source(&frame(tags, [8, 6], 17)), None, "ARP");
            assert_eq!(source(&frame(tags, [0x86, 0xdd], 17)), None, "IPv6");
        }
        assert_eq!(source(&frame(&[tag, tag, tag], ip, 17)), None, "three tags are no frame of ours");
    }

    /// A subnet's hosts, in a row, come out even to within a fifth; so do hosts that lie 256 apart.
    #[test]
    fn sources_are_spread_evenly() {
        for workers in 1..=7 {
            for step in [1, 256] {
                let mut counts = vec![0; workers];
                for host in 0..1000 {
                    counts[worker_of(0x0a63_0001 + host * step, workers)] += 1;
                }
                let even = 1000 / workers as i32;
                let off = counts.iter().map(|count: &i32| (count - even).abs()).max().unwrap();
                assert!(off <= even / 5, "{workers} workers, every {step}: {counts:?}");
            }
        }
    }
}
