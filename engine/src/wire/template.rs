//! A sender's headers, prebuilt: what is left to do for each frame is to copy, to sum, and to patch six fields.

use std::net::Ipv4Addr;

use super::{
    MacAddr,
    checksum::{self, Sum},
    ethernet::{self, ETHERTYPE_IPV4, Ethernet},
    ipv4::{self, Ipv4},
    udp::{self, Udp},
};

/// Bytes before the payload: Ethernet 14, IPv4 20, UDP 8.
pub const HEADERS_LEN: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN + udp::HEADER_LEN;

const IP: usize = ethernet::HEADER_LEN;
const UDP: usize = IP + ipv4::HEADER_LEN;

/// Both ends of what a sender sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpFlow {
    /// The port's MAC address.
    pub src_mac: MacAddr,
    /// The next hop's.
    pub dst_mac: MacAddr,
    /// Our address.
    pub src_ip: Ipv4Addr,
    /// The receiver's address.
    pub dst_ip: Ipv4Addr,
    /// Our port.
    pub src_port: u16,
    /// The receiver's port.
    pub dst_port: u16,
}

/// The headers of a flow, and the sums of those of their fields that never change.
///
/// IPv4: TTL 64, no options, flags 0 ("don't fragment" is not set). Cheap enough to build on the fly for a
/// single answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpTemplate {
    header: [u8; HEADERS_LEN],
    /// IPv4 header with total length, id and checksum 0.
    ip_sum: u64,
    /// Pseudo-header and UDP header with their lengths and the checksum 0.
    udp_sum: u64,
    /// Pseudo-header alone, with its length 0.
    pseudo_sum: u64,
}

impl UdpTemplate {
    /// Builds the headers.
    pub fn new(flow: &UdpFlow) -> Self {
        let UdpFlow { src_mac, dst_mac, src_ip, dst_ip, src_port, dst_port } = *flow;
        let (mut eth, mut ip, mut udp) = ([0; ethernet::HEADER_LEN], [0; ipv4::HEADER_LEN], [0; udp::HEADER_LEN]);
        Ethernet { dst: dst_mac, src: src_mac, ethertype: ETHERTYPE_IPV4 }.emit(&mut eth);
        Ipv4 {
            header_len: ipv4::HEADER_LEN as u16,
            total_len: 0,
            id: 0,
            flags_offset: 0,
            ttl: ipv4::TTL,
            protocol: ipv4::PROTOCOL_UDP,
            src: src_ip,
            dst: dst_ip,
        }
        .emit(&mut ip);
        ip[10..12].fill(0);
        Udp { src_port, dst_port, checksum: [0; 2] }.emit(&mut udp, 0);
        let mut header = [0; HEADERS_LEN];
        header[..IP].copy_from_slice(&eth);
        header[IP..UDP].copy_from_slice(&ip);
        header[UDP..].copy_from_slice(&udp);
        let pseudo_sum = checksum::pseudo_header(src_ip, dst_ip, ipv4::PROTOCOL_UDP, 0);
        Self { header, ip_sum: checksum::sum(&ip), udp_sum: pseudo_sum + checksum::sum(&udp), pseudo_sum }
    }

    /// The next hop from now on.
    pub fn set_dst_mac(&mut self, dst: MacAddr) {
        ethernet::set_dst(&mut self.header, dst);
    }

    /// Bytes of the frame for a payload of `payload_len` bytes, without padding.
    #[inline]
    pub const fn frame_len(payload_len: usize) -> usize {
        HEADERS_LEN + payload_len
    }

    /// Writes the frame, both checksums computed. What is left of `frame` behind the datagram is zeroed, so that
    /// short ones can be padded to [`ethernet::MIN_FRAME_LEN`].
    ///
    /// `None`, and no change, if `frame` is shorter than [`UdpTemplate::frame_len`] or the payload longer than
    /// [`udp::MAX_PAYLOAD`].
    #[inline]
    pub fn emit(&self, frame: &mut [u8], payload: &[u8], ip_id: u16) -> Option<()> {
        self.emit_by::<checksum::Any>(frame, payload, ip_id)
    }

    /// As [`UdpTemplate::emit`], for a [`checksum::Job`].
    #[inline(always)] // As the job asks.
    pub(crate) fn emit_by<S: Sum>(&self, frame: &mut [u8], payload: &[u8], ip_id: u16) -> Option<()> {
        let (header, data, udp_len) = self.emit_parts(frame, payload.len(), ip_id)?;
        let payload_sum = S::copy(data, payload);
        self.emit_sums(header, udp_len, ip_id, payload_sum);
        Some(())
    }

    /// The same where the payload lies in its place already, and the frame ends with it.
    #[inline]
    pub fn emit_around(&self, frame: &mut [u8], ip_id: u16) -> Option<()> {
        let (header, payload) = frame.split_first_chunk_mut::<HEADERS_LEN>()?;
        let udp_len = self.emit_headers(header, payload.len(), ip_id)?;
        self.emit_sums(header, udp_len, ip_id, checksum::sum(payload));
        Some(())
    }

    /// Fills in both checksums.
    #[inline]
    fn emit_sums(&self, header: &mut [u8; HEADERS_LEN], udp_len: u16, ip_id: u16, payload_sum: u64) {
        let total_len = udp_len + ipv4::HEADER_LEN as u16;
        let ip_sum = self.ip_sum + checksum::word(total_len) + checksum::word(ip_id);
        header[IP + 10..IP + 12].copy_from_slice(&checksum::finish(ip_sum));
        // The length counts twice: once in the header, once in the pseudo-header.
        let udp_sum = self.udp_sum + 2 * checksum::word(udp_len) + payload_sum;
        header[UDP + 6..UDP + 8].copy_from_slice(&udp::finish(udp_sum));
    }

    /// The same for a NIC that fills in the checksums: the IPv4 field is 0, the UDP field holds the
    /// pseudo-header's sum.
    #[inline]
    pub fn emit_offloaded(&self, frame: &mut [u8], payload: &[u8], ip_id: u16) -> Option<()> {
        let (header, data, udp_len) = self.emit_parts(frame, payload.len(), ip_id)?;
        data.copy_from_slice(payload);
        let pseudo = checksum::fold(self.pseudo_sum + checksum::word(udp_len));
        header[UDP + 6..UDP + 8].copy_from_slice(&pseudo.to_ne_bytes());
        Some(())
    }

    /// Headers without checksums, and padding; gives back the headers, the payload's place and the UDP length.
    #[inline(always)] // Called in jobs.
    fn emit_parts<'a>(
        &self,
        frame: &'a mut [u8],
        payload_len: usize,
        ip_id: u16,
    ) -> Option<(&'a mut [u8; HEADERS_LEN], &'a mut [u8], u16)> {
        let (header, rest) = frame.split_first_chunk_mut::<HEADERS_LEN>()?;
        let (data, padding) = rest.split_at_mut_checked(payload_len)?;
        let udp_len = self.emit_headers(header, payload_len, ip_id)?;
        if !padding.is_empty() {
            padding.fill(0);
        }
        Some((header, data, udp_len))
    }

    /// The headers without their checksums; gives back the UDP length.
    #[inline]
    fn emit_headers(&self, header: &mut [u8; HEADERS_LEN], payload_len: usize, ip_id: u16) -> Option<u16> {
        if payload_len > udp::MAX_PAYLOAD {
            return None;
        }
        let udp_len = (udp::HEADER_LEN + payload_len) as u16;
        *header = self.header;
        header[IP + 2..IP + 4].copy_from_slice(&(udp_len + ipv4::HEADER_LEN as u16).to_be_bytes());
        header[IP + 4..IP + 6].copy_from_slice(&ip_id.to_be_bytes());
        header[UDP + 4..UDP + 6].copy_from_slice(&udp_len.to_be_bytes());
        Some(udp_len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::udp::Checked;

    fn flow() -> impl Strategy<Value = UdpFlow> {
        any::<([u8; 6], [u8; 6], [u8; 4], [u8; 4], u16, u16)>().prop_map(
            |(src_mac, dst_mac, src_ip, dst_ip, src_port, dst_port)| UdpFlow {
                src_mac: MacAddr(src_mac),
                dst_mac: MacAddr(dst_mac),
                src_ip: src_ip.into(),
                dst_ip: dst_ip.into(),
                src_port,
                dst_port,
            },
        )
    }

    proptest! {
        #[test]
        fn every_layer_parses_back(
            flow in flow(), ip_id: u16, payload in proptest::collection::vec(any::<u8>(), 0..1500), padding in 0usize..20,
        ) {
            let mut frame = vec![0xee; UdpTemplate::frame_len(payload.len()) + padding];
            UdpTemplate::new(&flow).emit(&mut frame, &payload, ip_id).unwrap();
            let eth = Ethernet::parse(&frame).unwrap();
            prop_assert_eq!((eth.dst, eth.src, eth.ethertype), (flow.dst_mac, flow.src_mac, ETHERTYPE_IPV4));
            let ip = Ipv4::parse(&frame[IP..], None).unwrap();
            prop_assert_eq!(ip, Ipv4 {
                header_len: 20, total_len: 28 + payload.len() as u16, id: ip_id, flags_offset: 0, ttl: 64, protocol: 17,
                src: flow.src_ip, dst: flow.dst_ip,
            });
            let end = IP + usize::from(ip.total_len);
            let udp = Udp::parse(&frame[UDP..end]).unwrap();
            prop_assert_eq!((udp.src_port, udp.dst_port), (flow.src_port, flow.dst_port));
            prop_assert_eq!(udp::check(&frame[UDP..end], flow.src_ip, flow.dst_ip), Checked::Good);
            prop_assert_eq!(&frame[HEADERS_LEN..end], &payload[..]);
            prop_assert!(frame[end..].iter().all(|&b| b == 0));
        }

        #[test]
        fn offloaded_differs_in_the_checksums_only(flow in flow(), ip_id: u16, payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (mut soft, mut hard) = (vec![0; HEADERS_LEN + payload.len()], vec![0xee; HEADERS_LEN + payload.len()]);
            let template = UdpTemplate::new(&flow);
            template.emit(&mut soft, &payload, ip_id).unwrap();
            template.emit_offloaded(&mut hard, &payload, ip_id).unwrap();
            prop_assert_eq!(&hard[IP + 10..IP + 12], &[0, 0]);
            // What a NIC does: sum the datagram with what the field holds, complement, store.
            let finished = udp::finish(checksum::sum(&hard[UDP..]));
            hard[UDP + 6..UDP + 8].copy_from_slice(&finished);
            let header = checksum::finish(checksum::sum(&hard[IP..UDP]));
            hard[IP + 10..IP + 12].copy_from_slice(&header);
            prop_assert_eq!(hard, soft);
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let template = UdpTemplate::new(&UdpFlow {
            src_mac: MacAddr::default(),
            dst_mac: MacAddr::BROADCAST,
            src_ip: Ipv4Addr::new(10, 0, 0, 1),
            dst_ip: Ipv4Addr::new(10, 0, 0, 2),
            src_port: 1,
            dst_port: 2,
        });
        let mut frame = vec![0xee; 70_000];
        assert_eq!(template.emit(&mut frame[..HEADERS_LEN + 3], b"four", 0), None);
        assert_eq!(template.emit_offloaded(&mut frame[..HEADERS_LEN - 1], b"", 0), None);
        let long = vec![0; udp::MAX_PAYLOAD + 1];
        assert_eq!(template.emit(&mut frame, &long, 0), None);
        assert!(frame.iter().all(|&b| b == 0xee));
        template.emit(&mut frame, &long[1..], 0).unwrap();
        assert_eq!(frame[IP + 2..IP + 4], [0xff, 0xff]);
        assert_eq!(Ipv4::parse(&frame[IP..], None).unwrap().total_len, 65_535);
    }

    #[test]
    fn next_hop_can_change() {
        let flow = UdpFlow {
            src_mac: MacAddr([2; 6]),
            dst_mac: MacAddr::BROADCAST,
            src_ip: Ipv4Addr::new(10, 0, 0, 1),
            dst_ip: Ipv4Addr::new(10, 0, 0, 2),
            src_port: 1,
            dst_port: 2,
        };
        let mut template = UdpTemplate::new(&flow);
        template.set_dst_mac(MacAddr([4; 6]));
        assert_eq!(template, UdpTemplate::new(&UdpFlow { dst_mac: MacAddr([4; 6]), ..flow }));
    }
}
