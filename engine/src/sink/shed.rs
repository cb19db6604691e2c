//! What to give up first when the writer falls behind.
//!
//! The measure of overload is how many empty batches the hook has left. As they run out, datagrams are
//! shed by severity, debug first; a source that sends more than its share is shed earlier than the
//! others, so that it cannot starve them; lines of a kernel crash are never shed.
//!
//! Everything works in fixed memory, whatever the number of sources or the addresses that they forge:
//! a sketch of 2 x 1024 counters for the rates (halved every 100 ms, keyed at random so that
//! collisions cannot be prepared), and a table of 512 places for the sources that are crashing.
//!
//! Limits: rates are only watched once batches run out, so a source that was alone may have filled all of
//! them before another one is known, which then waits until some have come back. Sources that share both counters of the sketch share one rate; a flood from forged addresses
//! raises everybody's rate alike, and severity alone decides then. A source whose place in the crash table
//! is taken by another one's newer crash loses its protection. Markers are looked for in netconsole
//! datagrams and in syslog lines of facility 0 only.

mod header;

use std::hash::{BuildHasher, RandomState};

use super::batch::ADDR_BYTES;
pub(super) use header::seq;
use header::{Header, Marker, crash_marker};

/// Severities as they are counted: the eight of syslog, and "no header told".
pub const SEVERITIES: usize = 9;

/// The index of datagrams whose header names no severity.
pub const UNKNOWN: u8 = 8;

/// From how few empty batches on a datagram is shed, in sixteenths of all of them; one number a severity
/// (0 = emergency .. 7 = debug, 8 = unknown). 0 never sheds, 16 sheds unless all are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShedPolicy {
    /// For every source.
    pub everyone: [u8; SEVERITIES],
    /// For a source that sends more than its fair share.
    pub screaming: [u8; SEVERITIES],
}

impl Default for ShedPolicy {
    /// The screaming ones have half of the batches to themselves, the last sixteenth is for crashes alone.
    fn default() -> Self {
        ShedPolicy { everyone: [1, 1, 1, 2, 3, 5, 6, 8, 6], screaming: [5, 5, 5, 7, 9, 10, 11, 12, 11] }
    }
}

impl ShedPolicy {
    /// Sheds nothing: what finds no room is dropped whatever it is.
    pub const OFF: ShedPolicy = ShedPolicy { everyone: [0; SEVERITIES], screaming: [0; SEVERITIES] };

    fn first_step(&self) -> u8 {
        self.everyone.iter().chain(&self.screaming).copied().max().unwrap_or(0)
    }
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    /// Shed for its severity.
    Severity(u8),
    /// Shed because its source sends more than its share; at its severity another source's was kept.
    FairShare,
}

/// One hook's shedding state.
#[derive(Debug)]
pub(super) struct Shedder {
    policy: ShedPolicy,
    /// Sources are watched from this fill level on: a little before the first step of the policy.
    watch_from: u8,
    rates: Rates,
    crashes: Crashes,
    keys: SourceKeys,
}

impl Shedder {
    pub(super) fn new(policy: ShedPolicy) -> Shedder {
        Shedder::keyed(policy, SourceKeys::random())
    }

    fn keyed(policy: ShedPolicy, keys: SourceKeys) -> Shedder {
        let mut shedder = Shedder { policy, watch_from: 0, rates: Rates::new(), crashes: Crashes::new(), keys };
        shedder.set_policy(policy);
        shedder
    }

    pub(super) fn set_policy(&mut self, policy: ShedPolicy) {
        self.policy = policy;
        self.watch_from = match policy.first_step() {
            0 => 0,
            step => step + 2,
        };
    }

    /// Ages the rates. Called once a poll.
    #[inline]
    pub(super) fn tick(&mut self, mono_ns: u64) {
        self.rates.tick(mono_ns);
    }

    /// Decides about one datagram while `level` sixteenths of the batches are empty.
    #[inline]
    pub(super) fn judge(&mut self, src: &[u8; ADDR_BYTES], payload: &[u8], level: u8, mono_ns: u64) -> Verdict {
        let header = Header::of(payload);
        if header.kernel
            && let Some(marker) = crash_marker(&payload[header.text..])
        {
            let key = self.keys.key(src);
            self.crashes.mark(key, marker, mono_ns);
        }
        if level >= self.watch_from { Verdict::Keep } else { self.judge_scarce(src, payload, header, level, mono_ns) }
    }

    fn judge_scarce(
        &mut self,
        src: &[u8; ADDR_BYTES],
        payload: &[u8],
        header: Header,
        level: u8,
        mono_ns: u64,
    ) -> Verdict {
        let key = self.keys.key(src);
        let screaming = self.rates.add(key, payload.len());
        let severity = usize::from(header.severity);
        let (everyone, screaming_at) = (self.policy.everyone[severity], self.policy.screaming[severity]);
        let verdict = if level < everyone {
            Verdict::Severity(header.severity)
        } else if screaming && level < screaming_at {
            Verdict::FairShare
        } else {
            return Verdict::Keep;
        };
        if header.kernel && self.crashes.protects(key, mono_ns) { Verdict::Keep } else { verdict }
    }
}

/// Hashes source addresses with secret keys, so that nobody can choose addresses that collide. Two folded
/// multiplications: 3 ns where SipHash takes 15, and a forged collision gains too little to need more.
#[derive(Debug)]
pub(super) struct SourceKeys([u64; 2]);

impl SourceKeys {
    pub(super) fn random() -> SourceKeys {
        let random = RandomState::new();
        SourceKeys([random.hash_one(0), random.hash_one(1)])
    }

    #[cfg(test)]
    pub(super) fn fixed(keys: [u64; 2]) -> SourceKeys {
        SourceKeys(keys)
    }

    #[inline]
    pub(super) fn key(&self, src: &[u8; ADDR_BYTES]) -> u64 {
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            (product as u64) ^ (product >> 64) as u64
        };
        let addr = u128::from_ne_bytes(*src);
        let mixed = fold(addr as u64 ^ self.0[0], (addr >> 64) as u64 ^ self.0[1]);
        fold(mixed ^ self.0[1], 0x9e37_79b9_7f4a_7c15)
    }
}

/// Bytes offered a source, roughly: a count-min sketch whose counters halve every [`Rates::HALF_LIFE_NS`].
#[derive(Debug)]
struct Rates {
    rows: [Box<[u32; Rates::WIDTH]>; 2],
    /// What all sources offered, halved alike.
    total: u64,
    /// Sources that are sending: counters of the first row in use.
    active: u64,
    halved_ns: u64,
}

impl Rates {
    const WIDTH: usize = 1024;
    const HALF_LIFE_NS: u64 = 100_000_000;
    /// A source below this is not screaming, whatever the others do: so little says nothing about a rate.
    const FLOOR_BYTES: u32 = 4096;

    fn new() -> Rates {
        Rates { rows: [Box::new([0; Rates::WIDTH]), Box::new([0; Rates::WIDTH])], total: 0, active: 0, halved_ns: 0 }
    }

    #[inline]
    fn tick(&mut self, mono_ns: u64) {
        if self.total > 0 && mono_ns.wrapping_sub(self.halved_ns) >= Rates::HALF_LIFE_NS {
            self.halve(mono_ns);
        }
    }

    #[cold]
    fn halve(&mut self, mono_ns: u64) {
        self.halved_ns = mono_ns;
        for row in &mut self.rows {
            row.iter_mut().for_each(|counter| *counter /= 2);
        }
        // With more than some hundred sources this is too low, which makes the fair share too large, never
        // too small.
        self.active = self.rows[0].iter().filter(|&&counter| counter > 0).count() as u64;
        self.total /= 2;
    }

    /// Counts one datagram (with its header: empty ones are not free) and says whether its source offers
    /// a quarter more than the fair share.
    fn add(&mut self, key: u64, len: usize) -> bool {
        let cost = len as u32 + 48;
        self.total += u64::from(cost);
        self.active += u64::from(self.rows[0][key as usize % Rates::WIDTH] == 0);
        let [first, second] = &mut self.rows;
        let first = &mut first[key as usize % Rates::WIDTH];
        let second = &mut second[(key >> 32) as usize % Rates::WIDTH];
        // Conservative update: a counter is raised no further than the estimate needs, so that a source shares a
        // rate only with one that it meets in both rows (one pair in a million), not with one of each row (of 50
        // equal sources, one run in nine had a source that looked twice its size).
        let estimate = (*first).min(*second).saturating_add(cost);
        *first = (*first).max(estimate);
        *second = (*second).max(estimate);
        estimate > Rates::FLOOR_BYTES && u64::from(estimate) * self.active * 4 > self.total * 5
    }
}

/// Who is in the middle of a crash report.
#[derive(Debug)]
struct Crashes {
    places: Box<[Crash]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Crash {
    key: u64,
    until_ns: u64,
    /// Lines that are still protected until then, so that whoever forges markers gains little.
    lines: u32,
    /// Lines of them before the report counts as over; `u32::MAX` before its end was seen.
    tail: u32,
}

impl Crashes {
    const PLACES: usize = 512;
    /// A report on a slow console takes seconds, all CPUs' backtraces thousands of lines.
    const LASTS_NS: u64 = 10_000_000_000;
    const LINES: u32 = 8192;
    /// After the end marker come the registers once more, and often a panic.
    const LINES_AFTER: u32 = 64;

    fn new() -> Crashes {
        Crashes { places: vec![Crash::default(); Crashes::PLACES].into_boxed_slice() }
    }

    #[cold]
    fn mark(&mut self, key: u64, marker: Marker, mono_ns: u64) {
        let crash = &mut self.places[key as usize % Crashes::PLACES];
        if crash.key != key || mono_ns >= crash.until_ns {
            *crash = Crash { key, until_ns: mono_ns + Crashes::LASTS_NS, lines: Crashes::LINES, tail: 0 };
        }
        // The end marker is a line to keep too, even where the start was not seen.
        crash.tail = if marker == Marker::Start { u32::MAX } else { Crashes::LINES_AFTER };
    }

    fn protects(&mut self, key: u64, mono_ns: u64) -> bool {
        let crash = &mut self.places[key as usize % Crashes::PLACES];
        let protected = crash.key == key && mono_ns < crash.until_ns && crash.lines > 0 && crash.tail > 0;
        if protected {
            crash.lines -= 1;
            crash.tail -= u32::from(crash.tail != u32::MAX);
        }
        protected
    }
}

#[cfg(test)]
mod tests;
