//! Whole frames through a client's ring: Linux's `netpoll_send_skb`.
//!
//! For generators and relays, which bring headers of their own. Everything else is as for payloads: credits, drop policy,
//! order, the ledger.

use super::{ClientRing, ExclusiveEnd, Headers, Netpoll, send_shared, wait_for_credit};
use crate::{
    netpoll::SendError,
    port::{Frame, PortIo},
    wire::ethernet,
};

impl<P: PortIo> Netpoll<P> {
    /// Sends `frame` as it is, from the Ethernet destination address on and without FCS; a short one is padded with zeros
    /// to 60 bytes. The client needs no remote address; only where its remote MAC is found by ARP, the frame's destination
    /// MAC is overwritten. Checksums are the caller's. Longest: [`Netpoll::max_frame`].
    pub fn send_frame(&mut self, frame: &[u8]) -> Result<(), SendError> {
        let shared = &self.shared;
        match &mut self.ring {
            ClientRing::Exclusive(end) => {
                let wait = |end: &mut ExclusiveEnd<P::Buf>| wait_for_credit(&self.info, self.queue, shared, end);
                let result = shared.submit(end, Headers::InPayload, frame, wait);
                if result.is_ok() {
                    shared.mark();
                }
                result
            }
            ClientRing::Shared(ring) => send_shared(shared, ring, &self.info, self.queue, Headers::InPayload, frame),
        }
    }

    /// Longest frame that it sends, in bytes, without FCS.
    pub fn max_frame(&self) -> usize {
        self.max_payload() + super::HEADERS_LEN
    }
}

/// Copies `from` into `frame`.
pub(super) fn fill<B: Frame>(frame: &mut B, from: &[u8]) -> Option<()> {
    let bytes = frame.resize(from.len().max(ethernet::MIN_FRAME_LEN))?;
    let (head, padding) = bytes.split_at_mut(from.len());
    head.copy_from_slice(from);
    padding.fill(0);
    Some(())
}
