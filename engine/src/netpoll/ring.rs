//! The rings between a client and its poll context.
//!
//! A client never touches a mempool: it owns a few empty mbufs (its *credits*) that the poll context hands it
//! through the free ring, fills one, and pushes it on the tx ring. The poll context takes filled frames out and
//! gives as many fresh credits back. Credits and filled frames together never exceed the ring's capacity, so
//! neither ring can overflow, and a client's memory is bounded by it.
//!
//! Why not allocate in the client: a mempool that the poll lcore shares with preemptible threads makes it wait
//! for a thread that is not running (measured 12 -> 3,958 ns an mbuf). Filling in the client's thread also keeps
//! copying and checksumming off the poll lcore.
//!
//! Two kinds: SPSC rings (rtrb) for a client used by one thread, array queues (crossbeam) for one that several
//! threads share. Limit of the second: a thread preempted in the middle of a push makes the poller's pop of that
//! one ring spin until it runs again.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

/// The client's ends, as `send` uses them.
pub(crate) trait ClientEnd<B> {
    /// Whether several threads use it at the same time.
    const SHARED: bool;
    /// Takes a credit.
    fn credit(&mut self) -> Option<B>;
    /// Pushes a filled frame. There is room for every credit, so it comes back only where a credit was made
    /// elsewhere.
    fn push(&mut self, frame: B) -> Result<(), B>;
    /// Filled frames that wait for the poll context.
    fn queued(&self) -> usize;
}

/// The client's ends for one thread at a time.
pub(crate) struct ExclusiveEnd<B> {
    tx: rtrb::Producer<B>,
    free: rtrb::Consumer<B>,
}

/// The client's ends, of either kind.
pub(crate) enum ClientRing<B> {
    Exclusive(ExclusiveEnd<B>),
    Shared(Arc<SharedRing<B>>),
}

/// The poll context's ends.
pub(crate) enum EngineRing<B> {
    Exclusive { tx: rtrb::Consumer<B>, free: rtrb::Producer<B> },
    Shared(Arc<SharedRing<B>>),
}

/// A pair of queues that many threads may use.
pub(crate) struct SharedRing<B> {
    pub(crate) tx: ArrayQueue<B>,
    pub(crate) free: ArrayQueue<B>,
}

/// Makes both ends of a client's rings, without credits.
pub(crate) fn ring<B>(frames: usize, shared: bool) -> (ClientRing<B>, EngineRing<B>) {
    if shared {
        let ring = Arc::new(SharedRing { tx: ArrayQueue::new(frames), free: ArrayQueue::new(frames) });
        (ClientRing::Shared(ring.clone()), EngineRing::Shared(ring))
    } else {
        let (tx, tx_out) = rtrb::RingBuffer::new(frames);
        let (free_in, free) = rtrb::RingBuffer::new(frames);
        (ClientRing::Exclusive(ExclusiveEnd { tx, free }), EngineRing::Exclusive { tx: tx_out, free: free_in })
    }
}

impl<B> EngineRing<B> {
    /// Moves up to `max` filled frames, in the order of submission, to the end of `frames`.
    #[inline]
    pub(crate) fn take(&mut self, frames: &mut Vec<B>, max: usize) -> usize {
        match self {
            EngineRing::Exclusive { tx, .. } => {
                let count = tx.slots().min(max);
                match tx.read_chunk(count) {
                    Ok(chunk) => frames.extend(chunk),
                    Err(_) => return 0,
                }
                count
            }
            EngineRing::Shared(ring) => {
                let before = frames.len();
                frames.extend(std::iter::from_fn(|| ring.tx.pop()).take(max));
                frames.len() - before
            }
        }
    }

    /// Hands credits to the client: as many of `buffers` as there is room for, from its end.
    #[inline]
    pub(crate) fn give(&mut self, buffers: &mut Vec<B>) {
        match self {
            EngineRing::Exclusive { free, .. } => {
                let count = free.slots().min(buffers.len());
                if let Ok(chunk) = free.write_chunk_uninit(count) {
                    chunk.fill_from_iter(buffers.drain(buffers.len() - count..));
                }
            }
            EngineRing::Shared(ring) => {
                while let Some(buffer) = buffers.pop() {
                    if let Err(back) = ring.free.push(buffer) {
                        buffers.push(back);
                        return;
                    }
                }
            }
        }
    }

    /// Whether no filled frame waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            EngineRing::Exclusive { tx, .. } => tx.is_empty(),
            EngineRing::Shared(ring) => ring.tx.is_empty(),
        }
    }
}

impl<B> ExclusiveEnd<B> {
    /// Fills credits and pushes them, in order, at most `most` and as long as there are any and `fill` says yes; how many.
    /// The other side is looked at, and told, once for all of them.
    #[inline(always)] // `fill` sums: see `checksum::Job`.
    pub(crate) fn push_filled(&mut self, most: usize, mut fill: impl FnMut(&mut B) -> Option<()>) -> usize {
        let count = most.min(self.free.slots());
        let (Ok(credits), Ok(room)) = (self.free.read_chunk(count), self.tx.write_chunk_uninit(count)) else {
            return 0;
        };
        room.fill_from_iter(credits.into_iter().map_while(|mut credit| fill(&mut credit).map(|()| credit)))
    }
}

impl<B> ClientEnd<B> for ExclusiveEnd<B> {
    const SHARED: bool = false;

    #[inline]
    fn credit(&mut self) -> Option<B> {
        self.free.pop().ok()
    }

    #[inline]
    fn push(&mut self, frame: B) -> Result<(), B> {
        self.tx.push(frame).map_err(|rtrb::PushError::Full(frame)| frame)
    }

    fn queued(&self) -> usize {
        self.tx.buffer().capacity() - self.tx.slots()
    }
}

impl<B> ClientEnd<B> for &SharedRing<B> {
    const SHARED: bool = true;

    #[inline]
    fn credit(&mut self) -> Option<B> {
        self.free.pop()
    }

    #[inline]
    fn push(&mut self, frame: B) -> Result<(), B> {
        self.tx.push(frame)
    }

    fn queued(&self) -> usize {
        self.tx.len()
    }
}

impl<B> ClientRing<B> {
    /// Filled frames that wait for the poll context.
    pub(crate) fn queued(&self) -> usize {
        match self {
            ClientRing::Exclusive(end) => end.queued(),
            ClientRing::Shared(ring) => ring.as_ref().queued(),
        }
    }

    /// Takes all credits back out, to return them to the pool.
    pub(crate) fn reclaim(&mut self) -> Vec<B> {
        match self {
            ClientRing::Exclusive(end) => std::iter::from_fn(|| end.credit()).collect(),
            ClientRing::Shared(ring) => std::iter::from_fn(|| ring.as_ref().credit()).collect(),
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn credits_go_round_in_order_in_both_kinds() {
        for shared in [false, true] {
            let (mut client, mut engine) = ring::<u32>(4, shared);
            assert!(client.reclaim().is_empty());
            let mut credits = vec![1, 2, 3, 4, 5];
            engine.give(&mut credits);
            assert_eq!(credits.len(), 1, "no more than the capacity");
            for _ in 0..3 {
                match &mut client {
                    ClientRing::Exclusive(end) => move_one(end),
                    ClientRing::Shared(ring) => move_one(&mut ring.as_ref()),
                }
            }
            assert_eq!(client.queued(), 3);
            assert!(!engine.is_empty());
            let mut frames = Vec::with_capacity(8);
            assert_eq!(engine.take(&mut frames, 2), 2);
            assert_eq!(engine.take(&mut frames, 2), 1);
            assert_eq!(engine.take(&mut frames, 2), 0);
            assert!(engine.is_empty());
            assert_eq!(frames.len() + client.reclaim().len(), 4);
        }
    }

    fn move_one(end: &mut impl ClientEnd<u32>) {
        let credit = end.credit().unwrap();
        end.push(credit).unwrap();
    }
}
