//! netpoll: per-port state, clients, the receive filter, ARP, sending, the poll gate.

pub mod filter;
pub mod hook;
pub mod options;

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
}
