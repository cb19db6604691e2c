//! What a client is told to be.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use crate::wire::MacAddr;

/// How the remote MAC address is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteMac {
    /// As given; [`MacAddr::BROADCAST`] is netconsole's default.
    Fixed(MacAddr),
    /// Asked for by ARP: the remote address's where it is on the link, else the gateway's.
    Arp,
}

/// Called with each payload that a full ring refuses.
pub type DropCallback = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// What happens to a payload when the client has no credit left (its ring is full, or the pool is empty).
#[derive(Clone, Default)]
pub enum OnFull {
    /// Dropped and counted.
    #[default]
    Drop,
    /// Waits up to that long for room, and makes room itself where the calling thread is an lcore; then as `Drop`.
    /// Inside the client's own hook it does not wait.
    Wait(Duration),
    /// Dropped, counted, and shown to the callback.
    Callback(DropCallback),
}

impl fmt::Debug for OnFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnFull::Drop => f.write_str("Drop"),
            OnFull::Wait(limit) => write!(f, "Wait({limit:?})"),
            OnFull::Callback(_) => f.write_str("Callback"),
        }
    }
}

/// What a client is: Linux's `struct netpoll`, as far as the user fills it in.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Name, for messages; need not be unique.
    pub name: String,
    /// Source address; `None`: the port's.
    pub local_ip: Option<IpAddr>,
    /// Source UDP port.
    pub local_port: u16,
    /// Where it sends; `None`: it only receives.
    pub remote: Option<(IpAddr, u16)>,
    /// The remote MAC address.
    pub remote_mac: RemoteMac,
    /// Frames that its ring holds.
    pub ring_frames: usize,
    /// Mbufs that it holds from the start; `None`: as many as its ring takes. With fewer, its first frame brings the
    /// rest: so 10,000 silent clients need not hold a ring's worth each.
    pub first_credits: Option<usize>,
    /// What happens when the ring is full.
    pub on_full: OnFull,
    /// May use the port's small reserve when the mempool is empty.
    pub urgent: bool,
    /// Several threads send through it (see [`Netpoll::shared`](super::Netpoll::shared)). Always so for a client with an rx hook.
    pub shared: bool,
}

impl ClientOptions {
    /// A client with netconsole's defaults: port 6665 to 6666, broadcast MAC, a ring of 128 frames, dropping when full.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            local_ip: None,
            local_port: 6665,
            remote: None,
            remote_mac: RemoteMac::Fixed(MacAddr::BROADCAST),
            ring_frames: 128,
            first_credits: None,
            on_full: OnFull::Drop,
            urgent: false,
            shared: false,
        }
    }

    /// Sends to `ip:port`.
    pub fn remote(mut self, ip: impl Into<IpAddr>, port: u16) -> Self {
        self.remote = Some((ip.into(), port));
        self
    }

    /// Sends from `ip:port`.
    pub fn local(mut self, ip: impl Into<IpAddr>, port: u16) -> Self {
        (self.local_ip, self.local_port) = (Some(ip.into()), port);
        self
    }

    /// Finds the remote MAC this way.
    pub fn remote_mac(mut self, remote_mac: RemoteMac) -> Self {
        self.remote_mac = remote_mac;
        self
    }

    /// Has a ring of that many frames.
    pub fn ring_frames(mut self, frames: usize) -> Self {
        self.ring_frames = frames;
        self
    }

    /// Starts with that many mbufs.
    pub fn first_credits(mut self, mbufs: usize) -> Self {
        self.first_credits = Some(mbufs);
        self
    }

    /// Does this when the ring is full.
    pub fn on_full(mut self, on_full: OnFull) -> Self {
        self.on_full = on_full;
        self
    }

    /// May use the reserve.
    pub fn urgent(mut self) -> Self {
        self.urgent = true;
        self
    }

    /// Is used by several threads.
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }
}
