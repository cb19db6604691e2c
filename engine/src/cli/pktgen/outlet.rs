//! A thread's way out: its clients, or the one that its templates share.

use std::time::Duration;

use arrayvec::ArrayVec;
use netpoll::{
    netpoll::Netpoll,
    wire::{ethernet::MIN_FRAME_LEN, template::UdpTemplate},
};

use super::super::stop::Stop;

/// Payloads in one go at most.
const MOST: usize = 64;
/// Looks at a full ring before the thread sleeps between two.
const YIELDS: u32 = 1000;
const ROOM_STEP: Duration = Duration::from_micros(100);

/// Where frames go.
pub(super) enum Outlet {
    /// A client a stream.
    Clients(Vec<Netpoll>),
    /// One client, and a template a stream.
    Raw { client: Box<Netpoll>, templates: Vec<UdpTemplate>, frame: Vec<u8>, ip_id: u16 },
}

impl Outlet {
    fn client(&self, stream: usize) -> &Netpoll {
        match self {
            Outlet::Clients(clients) => &clients[stream],
            Outlet::Raw { client, .. } => client,
        }
    }

    /// How many frames stream number `stream` of this thread may send now, at least one: waits until there is room. `None`:
    /// the end was asked for.
    pub(super) fn room(&self, stream: usize, ring_frames: u64, stop: &Stop) -> Option<u64> {
        let client = self.client(stream);
        for looks in 0_u32.. {
            let room = ring_frames.saturating_sub(client.stats().queued);
            if room > 0 {
                return Some(room);
            }
            if stop.asked() {
                break;
            }
            // A poll loop on the same core must come to its turn.
            if looks < YIELDS { std::thread::yield_now() } else { std::thread::sleep(ROOM_STEP) }
        }
        None
    }

    /// Sends the first `lens[n]` bytes of `payloads[n]`, each. What is refused is counted by the client, and told at the end.
    #[inline]
    pub(super) fn send(&mut self, stream: usize, payloads: &[Vec<u8>], lens: &[usize]) {
        let payloads = payloads.iter().zip(lens).map(|(payload, len)| &payload[..*len]);
        match self {
            Outlet::Clients(clients) => {
                let payloads: ArrayVec<&[u8], MOST> = payloads.collect();
                clients[stream].send_burst(&payloads);
            }
            Outlet::Raw { client, templates, frame, ip_id } => {
                for payload in payloads {
                    frame.resize(UdpTemplate::frame_len(payload.len()).max(MIN_FRAME_LEN), 0);
                    // The frame has the length that it takes.
                    let _ = templates[stream].emit(frame, payload, *ip_id);
                    *ip_id = ip_id.wrapping_add(1);
                    let _ = client.send_frame(frame);
                }
            }
        }
    }

    /// Sends a whole frame, through the first client.
    pub(super) fn send_frame(&mut self, frame: &[u8]) {
        let client = match self {
            Outlet::Clients(clients) => &mut clients[0],
            Outlet::Raw { client, .. } => client,
        };
        // As above.
        let _ = client.send_frame(frame);
    }

    /// Frames that have not left.
    pub(super) fn queued(&self) -> u64 {
        match self {
            Outlet::Clients(clients) => clients.iter().map(|client| client.stats().queued).sum(),
            Outlet::Raw { client, .. } => client.stats().queued,
        }
    }

    pub(super) fn into_clients(self) -> Vec<Netpoll> {
        match self {
            Outlet::Clients(clients) => clients,
            Outlet::Raw { client, .. } => vec![*client],
        }
    }
}
