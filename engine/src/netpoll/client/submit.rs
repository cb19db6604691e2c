//! From a payload to a frame in the client's ring.

use super::{ClientShared, OnFull, frame};
use crate::{
    counters::Counter,
    netpoll::{
        SendError,
        ring::{ClientEnd, ExclusiveEnd, SharedRing},
    },
    port::Frame,
    sync::Ordering,
    wire::{
        checksum::{self, Job, Sum},
        ethernet, ipv4,
        template::{HEADERS_LEN, UdpTemplate},
    },
};

/// What stands before a payload.
#[derive(Clone, Copy)]
pub(super) enum Headers<'a> {
    /// These.
    Template(&'a UdpTemplate),
    /// Nobody knows: the client has no remote address.
    Unknown,
    /// What it brings itself: it is a whole frame.
    InPayload,
}

impl ClientShared {
    /// Fills a frame and pushes it, or says why not; counts either. The caller then marks the client
    /// ([`ClientShared::mark`]), at the latest before it waits for anything.
    #[inline]
    pub(super) fn submit<B: Frame, R: ClientEnd<B>>(
        &self,
        ring: &mut R,
        headers: Headers<'_>,
        payload: &[u8],
        wait: impl FnOnce(&mut R) -> Option<B>,
    ) -> Result<(), SendError> {
        let counters = &self.submit;
        let refuse = |counter: &Counter, error| {
            count(R::SHARED, counter, 1);
            Err(error)
        };
        count(R::SHARED, &counters.submitted, 1);
        if self.closing.is_closed() {
            return refuse(&counters.closed, SendError::Closed);
        }
        let most = match headers {
            Headers::Template(_) => self.max_payload,
            Headers::Unknown => return refuse(&counters.no_remote, SendError::NoRemote),
            Headers::InPayload => self.max_payload + HEADERS_LEN,
        };
        if payload.len() > most {
            return refuse(&counters.too_long, SendError::TooLong);
        }
        if !self.port.is_up() {
            return refuse(&counters.refused_port_down, SendError::PortDown);
        }
        let credit = ring.credit();
        let Some(mut frame) = credit.or_else(|| wait(ring)) else {
            if let OnFull::Callback(callback) = &self.on_full {
                callback(payload);
            }
            // Short of mbufs, or short of room? The poll context says which. Relaxed: it only chooses the reason.
            return if self.owed.load(Ordering::Relaxed) > 0 && ring.queued() < self.ring_frames {
                refuse(&counters.no_mbuf, SendError::NoMbuf)
            } else {
                refuse(&counters.ring_full, SendError::RingFull)
            };
        };
        let filled = match headers {
            Headers::Template(template) => {
                let ip_id = self.take_ip_id(R::SHARED);
                checksum::run(FillOne { shared: self, frame: &mut frame, template, payload, ip_id })
            }
            _ => frame::fill(&mut frame, payload),
        };
        if filled.is_none() || ring.push(frame).is_err() {
            return refuse(&counters.too_long, SendError::TooLong);
        }
        count(R::SHARED, &counters.queued_bytes, payload.len() as u64);
        Ok(())
    }

    /// `submit` for a client that several threads use: `close` waits for it.
    pub(super) fn submit_shared<'a, B: Frame>(
        &self,
        ring: &'a SharedRing<B>,
        headers: Headers<'_>,
        payload: &[u8],
        wait: impl FnOnce(&mut &'a SharedRing<B>) -> Option<B>,
    ) -> Result<(), SendError> {
        let result = self.closing.enter(|| {
            let result = self.submit(&mut { ring }, headers, payload, wait);
            if result.is_ok() {
                self.mark();
            }
            result
        });
        result.unwrap_or_else(|| {
            self.submit.submitted.add_shared(1);
            self.submit.closed.add_shared(1);
            Err(SendError::Closed)
        })
    }

    /// Submits from the first of `payloads` on, in one go, as many as there are credits for, up to one that `submit` would
    /// refuse; how many. Both rings and the counters are looked at and written once for all of them.
    #[inline]
    pub(super) fn submit_many<B: Frame>(&self, ring: &mut ExclusiveEnd<B>, payloads: &[&[u8]]) -> usize {
        let Some(template) = self.template.as_ref().filter(|_| !self.closing.is_closed() && self.port.is_up()) else {
            return 0;
        };
        // Relaxed: one thread sends.
        let first_id = self.ip_id.load(Ordering::Relaxed);
        let (queued, bytes) = checksum::run(FillMany { shared: self, ring, template, payloads, first_id });
        self.ip_id.store(first_id.wrapping_add(queued as u32), Ordering::Relaxed);
        self.submit.submitted.add(queued as u64);
        self.submit.queued_bytes.add(bytes);
        queued
    }

    /// Relaxed: each frame another one, in order where one thread sends.
    #[inline]
    fn take_ip_id(&self, shared: bool) -> u16 {
        if shared {
            return self.ip_id.fetch_add(1, Ordering::Relaxed) as u16;
        }
        let id = self.ip_id.load(Ordering::Relaxed);
        self.ip_id.store(id.wrapping_add(1), Ordering::Relaxed);
        id as u16
    }

    #[inline(always)] // See `Job`.
    fn fill<B: Frame, S: Sum>(&self, frame: &mut B, template: &UdpTemplate, payload: &[u8], ip_id: u16) -> Option<()> {
        let len = UdpTemplate::frame_len(payload.len()).max(ethernet::MIN_FRAME_LEN);
        let bytes = frame.resize(len)?;
        if self.port.offloads.tx_checksum {
            template.emit_offloaded(bytes, payload, ip_id)?;
            frame.request_tx_checksum(ethernet::HEADER_LEN as u8, ipv4::HEADER_LEN as u8);
            return Some(());
        }
        template.emit_by::<S>(bytes, payload, ip_id)
    }
}

#[inline]
fn count(shared: bool, counter: &Counter, n: u64) {
    if shared { counter.add_shared(n) } else { counter.add(n) }
}

/// One frame.
struct FillOne<'a, B> {
    shared: &'a ClientShared,
    frame: &'a mut B,
    template: &'a UdpTemplate,
    payload: &'a [u8],
    ip_id: u16,
}

impl<B: Frame> Job for FillOne<'_, B> {
    type Output = Option<()>;

    #[inline(always)] // As the trait says.
    fn run<S: Sum>(self) -> Self::Output {
        self.shared.fill::<B, S>(self.frame, self.template, self.payload, self.ip_id)
    }
}

/// As many as there are credits for.
struct FillMany<'a, B> {
    shared: &'a ClientShared,
    ring: &'a mut ExclusiveEnd<B>,
    template: &'a UdpTemplate,
    payloads: &'a [&'a [u8]],
    first_id: u32,
}

impl<B: Frame> Job for FillMany<'_, B> {
    /// Frames, and bytes of their payloads.
    type Output = (usize, u64);

    #[inline(always)] // As the trait says.
    fn run<S: Sum>(self) -> Self::Output {
        let Self { shared, ring, template, payloads, first_id } = self;
        let (mut bytes, mut ip_id) = (0, first_id as u16);
        let mut payloads_left = payloads.iter();
        let queued = ring.push_filled(payloads.len(), |frame| {
            let payload = *payloads_left.next()?;
            if payload.len() > shared.max_payload {
                return None;
            }
            shared.fill::<B, S>(frame, template, payload, ip_id)?;
            bytes += payload.len() as u64;
            ip_id = ip_id.wrapping_add(1);
            Some(())
        });
        (queued, bytes)
    }
}
