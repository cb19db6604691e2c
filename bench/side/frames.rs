//! The frames that every side receives: one UDP datagram, over and over.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    net::Ipv4Addr,
};

use netpoll::{
    dpdk::{DpdkQueue, StartedPort},
    port::{Frame, PortIo},
    wire::{
        MacAddr,
        template::{HEADERS_LEN, UdpFlow, UdpTemplate},
    },
};

use super::{
    offer::{LINE, line},
    rig::{Arguments, Result},
};

pub const US: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
pub const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub const PORT: u16 = 6666;

/// A datagram for us in a frame of `len` bytes, to `dst_mac`. `checksum`: with a UDP checksum, which then is to be checked in
/// software, since the devices here give no verdict; without (field 0) the filter skips it, as it would on a
/// good verdict.
pub fn datagram(len: usize, src_mac: MacAddr, dst_mac: MacAddr, checksum: bool) -> Vec<u8> {
    let payload: Vec<u8> = (0..len - HEADERS_LEN).map(|at| (at * 7) as u8).collect();
    let mut frame = vec![0; len];
    let flow = UdpFlow { src_mac, dst_mac, src_ip: PEER, dst_ip: US, src_port: PORT, dst_port: PORT };
    UdpTemplate::new(&flow).emit(&mut frame, &payload, 1).expect("the frame has the datagram's length");
    if !checksum {
        frame[40..42].fill(0);
    }
    frame
}

/// The frame that the arguments ask for, to broadcast, as netconsole does by default: so it fits every device.
pub fn asked(arguments: &Arguments) -> Result<Vec<u8>> {
    asked_between(PEER_MAC, MacAddr::BROADCAST, arguments)
}

/// The same between these addresses.
pub fn asked_between(src: MacAddr, dst: MacAddr, arguments: &Arguments) -> Result<Vec<u8>> {
    if arguments.is("payload", "line") {
        let flow = UdpFlow { src_mac: src, dst_mac: dst, src_ip: PEER, dst_ip: US, src_port: PORT, dst_port: PORT };
        let mut frame = vec![0; UdpTemplate::frame_len(LINE)];
        UdpTemplate::new(&flow).emit(&mut frame, &line(), 1).expect("the frame has the line's length");
        return Ok(frame);
    }
    Ok(datagram(arguments.number("size", 64)?, src, dst, !arguments.is("checksum", "none")))
}

/// Writes `frame` into every mbuf that the device receives into: net_null (copy=0) then receives it.
pub fn prefill(started: &StartedPort, queue: &mut DpdkQueue, frame: &[u8]) {
    let all: u32 = started.pools().iter().map(|pool| pool.count).sum();
    let mut mbufs = Vec::with_capacity(all as usize);
    // One by one, to the last: net_null takes a whole burst from the pool or nothing.
    while queue.rx_burst(&mut mbufs, 1) > 0 {}
    for mbuf in &mut mbufs {
        mbuf.resize(frame.len()).expect("an mbuf holds a frame").copy_from_slice(frame);
    }
    queue.free(&mut mbufs);
}

/// Writes a capture of 64 times the asked-for frame to `file`.
pub fn write_pcap(arguments: &Arguments) -> Result<()> {
    let frame = asked(arguments)?;
    let mut file = BufWriter::new(File::create(arguments.text("file")?)?);
    let words = |file: &mut BufWriter<File>, words: &[u32]| -> io::Result<()> {
        words.iter().try_for_each(|word| file.write_all(&word.to_le_bytes()))
    };
    // libpcap's file header: magic, version 2.4, zone, accuracy, snapshot length, Ethernet.
    words(&mut file, &[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1])?;
    for _ in 0..64 {
        words(&mut file, &[0, 0, frame.len() as u32, frame.len() as u32])?;
        file.write_all(&frame)?;
    }
    Ok(file.flush()?)
}
