//! netpoll: per-port state, clients, the receive filter, ARP, sending, the poll gate.
//!
//! [`Port`] carries a [`NetpollInfo`] while it has clients; a client is a [`Netpoll`]. A [`PollLoop`] polls queues on an
//! lcore. Everything that changes while lcores poll goes through the mailbox of the queue it concerns.

mod arp;
mod client;
mod clock;
mod closing;
mod context;
mod dirty;
pub mod filter;
mod gate;
#[cfg(all(test, loom))]
mod handover_loom_tests;
pub mod hook;
mod idle;
mod info;
#[cfg(all(test, shuttle))]
mod life_tests;
mod mailbox;
pub mod options;
mod poll;
mod poll_loop;
mod port;
mod published;
mod rate;
mod ring;
mod send;
mod stats;
mod urgency;

use std::net::IpAddr;

pub use client::{ClientOptions, DropCallback, Netpoll, OnFull, POLL_BUDGET, RemoteMac, SharedNetpoll};
pub use idle::IdlePolicy;
pub use info::{NetpollInfo, RX_DROP, RX_ENABLED, RxFilter};
pub use poll_loop::{PollLoop, PollLoopHandle};
pub use port::{Port, PortOptions};
pub use stats::{ClientStats, PortStats, QueueStats, SentStats, SubmitStats};

/// The port that the type parameters default to: DPDK's where it is built in, its queues the device's own or made in
/// software.
#[cfg(feature = "dpdk")]
pub type DefaultIo = crate::port::spread::Lane<crate::dpdk::DpdkQueue>;
/// The port that the type parameters default to: the one in memory.
#[cfg(not(feature = "dpdk"))]
pub type DefaultIo = crate::port::memory::MemoryPort;

/// Why `send` refused a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The client's ring holds as many frames as it can.
    #[error("ring full: the port sends more slowly than this client submits")]
    RingFull,
    /// The port's mempool is empty.
    #[error("no mbuf: the port's mempool is empty")]
    NoMbuf,
    /// The payload does not fit in one frame.
    #[error("too long: the payload does not fit in one frame")]
    TooLong,
    /// The port's link is down, or the port is gone.
    #[error("port down: the link is down or the port was removed")]
    PortDown,
    /// The client was closed.
    #[error("closed: the client was cleaned up")]
    Closed,
    /// The client has no remote address.
    #[error("no remote address: the client was set up to receive only")]
    NoRemote,
}

/// Why a client could not be set up or cleaned up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The port has its rx client already.
    #[error("port {port} has an rx hook already: client {holder:?} holds it; clean that one up first")]
    RxTaken {
        /// The port.
        port: String,
        /// The client that holds it.
        holder: String,
    },
    /// The port was closed.
    #[error("port {port} is closed")]
    PortClosed {
        /// The port.
        port: String,
    },
    /// The port has clients.
    #[error("port {port} still has {clients} clients; clean them up first")]
    InUse {
        /// The port.
        port: String,
        /// How many.
        clients: usize,
    },
    /// Called from inside an rx hook.
    #[error("called from inside an rx hook, which would wait for itself; call it from another thread")]
    InsideHook,
    /// A poll context has as many clients as it can.
    #[error("too many clients: a queue takes {most} at most; give the port more queues")]
    TooManyClients {
        /// How many a queue takes.
        most: usize,
    },
    /// Not IPv4.
    #[error("client {client:?}: {ip} is an IPv6 address, which is not supported yet; use IPv4")]
    AddressFamily {
        /// The client.
        client: String,
        /// The address.
        ip: IpAddr,
    },
    /// A ring of no frames.
    #[error("client {client:?}: a ring of 0 frames can send nothing; give it at least 1")]
    NoRing {
        /// The client.
        client: String,
    },
}
