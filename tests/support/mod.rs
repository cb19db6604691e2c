//! What the engine's tests share: ports in memory, frames, a hook that records.

#![allow(dead_code)]

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use netpoll::{
    LcoreId, PortId, QueueId,
    ids::EnteredLcore,
    netpoll::{
        ClientOptions, Netpoll, Port, PortOptions,
        hook::{HookSend, RxBurst, RxHook},
    },
    port::{
        PortIo,
        memory::{MemoryPort, Wire},
    },
    wire::{
        MacAddr,
        template::{UdpFlow, UdpTemplate},
    },
};

pub const US_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub const US_IP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub const PEER_IP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// Makes the calling thread an lcore that no other test thread is.
pub fn enter_lcore() -> EnteredLcore {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    LcoreId(NEXT.fetch_add(1, Ordering::Relaxed)).enter()
}

/// A port in memory at 10.99.0.1/24, with its wire.
pub fn port() -> (Arc<Port<MemoryPort>>, Wire) {
    let (io, wire) = MemoryPort::new(US_MAC, 1024, 8192);
    (Port::new(PortId(0), options(), vec![io]), wire)
}

pub fn options() -> PortOptions {
    PortOptions::new("mem0").ip(US_IP, 24)
}

/// A client that sends to the peer.
pub fn client(name: &str) -> ClientOptions {
    ClientOptions::new(name).remote(PEER_IP, 6666)
}

/// A frame from the peer to us.
pub fn datagram(dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let flow = UdpFlow { src_mac: PEER_MAC, dst_mac: US_MAC, src_ip: PEER_IP, dst_ip: US_IP, src_port: 4000, dst_port };
    let mut frame = vec![0; UdpTemplate::frame_len(payload.len()).max(60)];
    UdpTemplate::new(&flow).emit(&mut frame, payload, 1).unwrap();
    frame
}

/// The payload of a UDP frame.
pub fn payload(frame: &[u8]) -> &[u8] {
    let udp_len = usize::from(u16::from_be_bytes([frame[38], frame[39]]));
    &frame[42..42 + udp_len - 8]
}

/// Whether it is a UDP frame (not ARP).
pub fn is_udp(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0] && frame[23] == 17
}

/// Polls until nothing moves any more.
pub fn poll_all<P: PortIo>(client: &Netpoll<P>) {
    while client.poll(64).expect("nobody else polls") > 0 {}
}

/// Takes every frame off the wire.
pub fn take_all(wire: &Wire) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| wire.take()).collect()
}

/// A hook that keeps every payload.
#[derive(Clone, Default)]
pub struct Recorder(pub Arc<Mutex<Vec<Vec<u8>>>>);

impl Recorder {
    pub fn factory(&self) -> impl FnMut(QueueId) -> Box<dyn RxHook> + use<> {
        let this = self.clone();
        move |_| Box::new(this.clone())
    }

    pub fn payloads(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }
}

impl RxHook for Recorder {
    fn rx_hook(&mut self, _: &dyn HookSend, burst: &RxBurst<'_>) {
        self.0.lock().unwrap().extend(burst.datagrams.iter().map(|datagram| datagram.payload().to_vec()));
    }
}

/// A hook made of a closure.
pub struct Hook<F>(pub F);

impl<F: FnMut(&dyn HookSend, &RxBurst<'_>) + Send> RxHook for Hook<F> {
    fn rx_hook(&mut self, np: &dyn HookSend, burst: &RxBurst<'_>) {
        (self.0)(np, burst);
    }
}
