//! At most so many lines a second of one source, in fixed memory.
//!
//! A table of sources, in sets of a few places; which set is a source's is decided by a keyed hash, so that nobody can
//! prepare addresses that meet. A place is its source's own bucket: it holds one second's worth of lines and fills
//! at the permitted rate. A source without a place takes the one in its set whose bucket is the fullest. So, whatever
//! is sent and whatever addresses are forged:
//! - A source within the limit never loses a line: it shares its bucket with nobody, and to be forgotten fills it.
//! - A source over the limit keeps its place against any number of sources that send less.
//!
//! Limits: where all places of a set belong to sources that are being limited, a further one passes unwatched. Each queue
//! has a table of its own: flows of one source that a NIC spreads over several queues are limited one by one.

use rtrb::Producer;

use super::{batch::ADDR_BYTES, notices::Notice, shed::SourceKeys};
use crate::counters::Counter;

const SETS: usize = 4096;
const WAYS: usize = 4;
/// Sources that can be limited at once with notices.
const LISTED: usize = 256;
/// A source counts as limited until so long after the last line that was dropped.
const QUIET_NS: u64 = 1_000_000_000;
const SWEEP_NS: u64 = 100_000_000;

/// One hook's table.
#[derive(Debug)]
pub(super) struct SourceLimit {
    /// What one line costs; 0 where there is no limit.
    line_ns: u64,
    /// What a bucket holds.
    burst_ns: u64,
    places: Box<[Place]>,
    keys: SourceKeys,
    /// The sources that are being limited and whose beginning was told, if there was room: not more than [`LISTED`].
    limited: Vec<Limited>,
    swept_ns: u64,
    notices: Producer<Notice>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// All zeros (no source has that) while it is free.
    src: [u8; ADDR_BYTES],
    /// When its bucket will be full again.
    full_ns: u64,
    /// Lines dropped since it began to be limited; 0 while it is not.
    dropped: u64,
    dropped_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Limited {
    place: u32,
    since_ns: u64,
}

impl Place {
    const FREE: Place = Place { src: [0; ADDR_BYTES], full_ns: 0, dropped: 0, dropped_ns: 0 };

    fn is_limited(&self, mono_ns: u64) -> bool {
        self.dropped > 0 && mono_ns.saturating_sub(self.dropped_ns) < QUIET_NS
    }
}

impl SourceLimit {
    /// Without a limit. All memory that it will ever use, touched.
    pub(super) fn new(notices: Producer<Notice>) -> SourceLimit {
        SourceLimit::keyed(notices, SourceKeys::random())
    }

    fn keyed(notices: Producer<Notice>, keys: SourceKeys) -> SourceLimit {
        SourceLimit {
            line_ns: 0,
            burst_ns: 0,
            places: vec![Place::FREE; SETS * WAYS].into_boxed_slice(),
            keys,
            limited: Vec::with_capacity(LISTED),
            swept_ns: 0,
            notices,
        }
    }

    /// Lines a second and source, at most 1,000,000; 0: as many as come.
    pub(super) fn set_lines_per_s(&mut self, lines: u32, hidden: &Counter) {
        let line_ns = 1_000_000_000_u64.checked_div(lines.into()).unwrap_or(0);
        if line_ns == self.line_ns {
            return;
        }
        self.end_all(hidden);
        self.places.fill(Place::FREE);
        self.line_ns = line_ns;
        self.burst_ns = line_ns * u64::from(lines);
    }

    /// Whether one more line of `src` is within its limit. `hidden` counts the notices that found no room.
    #[inline]
    pub(super) fn allows(&mut self, src: &[u8; ADDR_BYTES], mono_ns: u64, hidden: &Counter) -> bool {
        self.line_ns == 0 || self.take(src, mono_ns, hidden)
    }

    fn take(&mut self, src: &[u8; ADDR_BYTES], mono_ns: u64, hidden: &Counter) -> bool {
        let first = (self.keys.key(src) >> 32) as usize % SETS * WAYS;
        let set = &self.places[first..first + WAYS];
        let at = match set.iter().position(|place| place.src == *src) {
            Some(way) => first + way,
            None => {
                let fullest = (first..first + WAYS).min_by_key(|&at| self.places[at].full_ns).unwrap_or(first);
                if self.places[fullest].is_limited(mono_ns) {
                    return true;
                }
                self.end(fullest, hidden);
                self.places[fullest] = Place { src: *src, ..Place::FREE };
                fullest
            }
        };
        let place = &mut self.places[at];
        let full_ns = place.full_ns.max(mono_ns);
        if full_ns - mono_ns + self.line_ns <= self.burst_ns {
            place.full_ns = full_ns + self.line_ns;
            return true;
        }
        self.drop_line(at, mono_ns, hidden);
        false
    }

    #[inline(never)]
    fn drop_line(&mut self, at: usize, mono_ns: u64, hidden: &Counter) {
        if self.places[at].dropped > 0 && !self.places[at].is_limited(mono_ns) {
            self.end(at, hidden);
        }
        let place = &mut self.places[at];
        place.dropped += 1;
        place.dropped_ns = mono_ns;
        if place.dropped > 1 {
            return;
        }
        let src = place.src;
        if self.limited.len() < LISTED {
            self.limited.push(Limited { place: at as u32, since_ns: mono_ns });
            self.tell(Notice::Begins { src }, hidden);
        } else {
            hidden.add(1);
        }
    }

    /// Tells of those that are not limited any more. Called once a poll.
    #[inline]
    pub(super) fn tick(&mut self, mono_ns: u64, hidden: &Counter) {
        if !self.limited.is_empty() && mono_ns.wrapping_sub(self.swept_ns) >= SWEEP_NS {
            self.sweep(mono_ns, hidden);
        }
    }

    #[cold]
    fn sweep(&mut self, mono_ns: u64, hidden: &Counter) {
        self.swept_ns = mono_ns;
        for index in (0..self.limited.len()).rev() {
            let at = self.limited[index].place as usize;
            if !self.places[at].is_limited(mono_ns) {
                self.end(at, hidden);
            }
        }
    }

    /// Tells of all ends: there is no limit any more.
    pub(super) fn end_all(&mut self, hidden: &Counter) {
        while let Some(limited) = self.limited.last() {
            self.end(limited.place as usize, hidden);
        }
    }

    /// Whoever has the place is not limited any more.
    fn end(&mut self, at: usize, hidden: &Counter) {
        let place = &mut self.places[at];
        let dropped = std::mem::take(&mut place.dropped);
        if dropped == 0 {
            return;
        }
        let (src, until_ns) = (place.src, place.dropped_ns);
        match self.limited.iter().position(|limited| limited.place as usize == at) {
            Some(index) => {
                let lasted_ns = until_ns - self.limited.swap_remove(index).since_ns;
                self.tell(Notice::Ended { src, dropped, lasted_ns }, hidden);
            }
            // Its beginning was hidden, too.
            None => hidden.add(1),
        }
    }

    fn tell(&mut self, notice: Notice, hidden: &Counter) {
        if self.notices.push(notice).is_err() {
            hidden.add(1);
        }
    }
}

#[cfg(test)]
mod tests;
