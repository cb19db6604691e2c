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

use std::hash::{BuildHasher, RandomState};

use super::batch::ADDR_BYTES;

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
    hasher: RandomState,
}

impl Shedder {
    pub(super) fn new(policy: ShedPolicy) -> Shedder {
        let mut shedder =
            Shedder { policy, watch_from: 0, rates: Rates::new(), crashes: Crashes::new(), hasher: RandomState::new() };
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
            let key = self.hasher.hash_one(src);
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
        let key = self.hasher.hash_one(src);
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

/// What the first bytes of a datagram say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    /// 0..=7, or [`UNKNOWN`].
    severity: u8,
    /// Whether it may be a kernel's line: netconsole of either format, or syslog of facility 0.
    kernel: bool,
    /// Where to look for a crash marker: the text, or for syslog the rest behind the PRI.
    text: usize,
}

impl Header {
    #[inline]
    fn of(payload: &[u8]) -> Header {
        match payload {
            [b'<', rest @ ..] => match number(rest) {
                // 191 is the largest PRI: facility 23, severity 7.
                Some((pri, digits)) if pri <= 191 && digits <= 3 && rest.get(digits) == Some(&b'>') => {
                    let kernel = pri < 8;
                    let text = if kernel { kernel_text(payload, digits + 2) } else { 0 };
                    Header { severity: (pri & 7) as u8, kernel, text }
                }
                _ => Header::RAW,
            },
            [b'0'..=b'9', ..] => {
                Header::extended(payload, 0).or_else(|| Header::with_release(payload)).unwrap_or(Header::RAW)
            }
            _ => Header::with_release(payload).unwrap_or(Header::RAW),
        }
    }

    /// No header that we know: raw text, or basic netconsole.
    const RAW: Header = Header { severity: UNKNOWN, kernel: true, text: 0 };

    /// `prio,seq,usec,...;text` from `at` on.
    fn extended(payload: &[u8], at: usize) -> Option<Header> {
        let rest = payload.get(at..)?;
        let (prio, digits) = number(rest)?;
        let after = rest.get(digits..)?.strip_prefix(b",")?;
        let (_, seq_digits) = number(after)?;
        if after.get(seq_digits) != Some(&b',') {
            return None;
        }
        // The header fields take well below 256 bytes.
        let window = &payload[..payload.len().min(256)];
        let text = memchr::memchr(b';', window).map_or(payload.len(), |semicolon| semicolon + 1);
        Some(Header { severity: (prio & 7) as u8, kernel: true, text })
    }

    /// The same behind `release,`. A release has no blank and at most 64 characters.
    fn with_release(payload: &[u8]) -> Option<Header> {
        let window = &payload[..payload.len().min(65)];
        let comma = window.iter().position(|&b| b == b',' || b == b' ')?;
        if window[comma] == b' ' { None } else { Header::extended(payload, comma + 1) }
    }
}

/// The decimal number that `bytes` starts with (at most 20 digits of it) and how many digits it has.
#[inline]
fn number(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    let mut digits = 0;
    for &byte in bytes.iter().take(20) {
        if !byte.is_ascii_digit() {
            break;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
        digits += 1;
    }
    (digits > 0).then_some((value, digits))
}

/// Where the kernel's text starts in a syslog line: behind the tag `kernel`, else right behind the PRI.
fn kernel_text(payload: &[u8], after_pri: usize) -> usize {
    let window = &payload[after_pri..payload.len().min(after_pri + 160)];
    memchr::memmem::find(window, b"kernel").map_or(after_pri, |at| after_pri + at + b"kernel".len())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    Start,
    End,
}

/// Whether a kernel's line starts or ends a crash report. `text` may begin with what separates a tag
/// from the text (`: `, ` - - - `), dashes, and a `[  12.345678] ` time stamp.
#[inline]
fn crash_marker(text: &[u8]) -> Option<Marker> {
    const START: [&[u8]; 9] = [
        b"[ cut here ]",
        b"Kernel panic",
        b"BUG: ",
        b"Oops",
        b"Internal error: ",
        b"general protection fault",
        b"Unable to handle kernel",
        b"kernel BUG at",
        b"watchdog: BUG",
    ];
    const END: [&[u8]; 2] = [b"[ end trace", b"[ end Kernel panic"];
    let text = skip_separators(skip_stamp(skip_separators(text)));
    // One look at the first byte settles nearly every line.
    if !matches!(text.first()?, b'[' | b'K' | b'B' | b'O' | b'I' | b'g' | b'U' | b'k' | b'w') {
        return None;
    }
    if START.iter().any(|start| text.starts_with(start)) {
        Some(Marker::Start)
    } else if END.iter().any(|end| text.starts_with(end)) {
        Some(Marker::End)
    } else {
        None
    }
}

fn skip_separators(text: &[u8]) -> &[u8] {
    let skipped = text.iter().take(32).take_while(|b| matches!(b, b' ' | b':' | b'-')).count();
    &text[skipped..]
}

fn skip_stamp(text: &[u8]) -> &[u8] {
    let Some(rest) = text.strip_prefix(b"[") else { return text };
    let stamp = rest.iter().take(24).take_while(|b| matches!(b, b' ' | b'.' | b'0'..=b'9')).count();
    match rest.get(stamp) {
        Some(b']') => &rest[stamp + 1..],
        _ => text,
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
        let mut estimate = u32::MAX;
        for (row, shift) in self.rows.iter_mut().zip([0, 32]) {
            let counter = &mut row[(key >> shift) as usize % Rates::WIDTH];
            *counter = counter.saturating_add(cost);
            estimate = estimate.min(*counter);
        }
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
mod tests {
    use super::*;

    fn src(last: u8) -> [u8; ADDR_BYTES] {
        let mut addr = [0; ADDR_BYTES];
        addr[ADDR_BYTES - 1] = last;
        addr
    }

    #[test]
    fn headers_of_every_kind() {
        let cases: [(&[u8], u8, bool); 16] = [
            (b"<0>x", 0, true),
            (b"<7>x", 7, true),
            (b"<13>Nov 23 host app: x", 5, false),
            (b"<191>x", 7, false),
            (b"<192>x", UNKNOWN, true),
            (b"<0013>x", UNKNOWN, true),
            (b"<>x", UNKNOWN, true),
            (b"<1", UNKNOWN, true),
            (b"6,1234,5678,-;text", 6, true),
            (b"30,1,2,-,caller=T1;text", 6, true),
            (b"6.1.0-13-amd64,4,1234,5678,-;text", 4, true),
            (b"vendor+x,3,1,2,c;text", 3, true),
            (b"12,x", UNKNOWN, true),
            (b"12 monkeys, 3,4", UNKNOWN, true),
            (b"", UNKNOWN, true),
            (b"plain text", UNKNOWN, true),
        ];
        for (payload, severity, kernel) in cases {
            let header = Header::of(payload);
            assert_eq!((header.severity, header.kernel), (severity, kernel), "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn crash_markers_in_every_wrapping() {
        let marker = |payload: &[u8]| {
            let header = Header::of(payload);
            if header.kernel { crash_marker(&payload[header.text..]) } else { None }
        };
        let start: [&[u8]; 9] = [
            b"4,1000,99,-;------------[ cut here ]------------\n",
            b"6.12.1,4,1000,99,-,caller=T7;------------[ cut here ]------------\n",
            b"------------[ cut here ]------------\n",
            b"[   12.345678] ------------[ cut here ]------------",
            b"<4>Nov 23 14:00:00 host kernel: [   12.345678] ------------[ cut here ]------------",
            b"<4>1 2026-11-23T14:00:00Z host kernel - - - ------------[ cut here ]------------",
            b"0,1,2,-;Kernel panic - not syncing: Fatal exception",
            b"1,1,2,-;BUG: kernel NULL pointer dereference, address: 0000000000000000",
            b"4,5,6,-;Oops: 0002 [#1] PREEMPT SMP",
        ];
        for payload in start {
            assert_eq!(marker(payload), Some(Marker::Start), "{}", payload.escape_ascii());
        }
        assert_eq!(marker(b"4,9,9,-;---[ end trace 0000000000000000 ]---"), Some(Marker::End));
        assert_eq!(marker(b"0,9,9,-;---[ end Kernel panic - not syncing: x ]---"), Some(Marker::End));
        for payload in [
            &b"6,1,2,-;usb 1-1: new device"[..],
            b"<13>app: ------------[ cut here ]------------",
            b"6,1,2,-;",
            b"6,1,2,-",
            b"",
            b"[",
            b"[ 1.",
            b"<4>",
            b"- : - : ",
        ] {
            assert_eq!(marker(payload), None, "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn debug_goes_first_and_worse_than_error_last() {
        let mut shedder = Shedder::new(ShedPolicy::default());
        let mut shed_from = [0; 8];
        for level in (0..=16).rev() {
            for severity in 0..8u8 {
                let payload = [b"<", (128 + severity).to_string().as_bytes(), b">x"].concat();
                // Another source each time: none of them sends more than its share.
                if shedder.judge(&src(severity), &payload, level, 1) == Verdict::Severity(severity) {
                    shed_from[usize::from(severity)] = shed_from[usize::from(severity)].max(level + 1);
                }
            }
        }
        assert_eq!(shed_from, [1, 1, 1, 2, 3, 5, 6, 8]);
    }

    #[test]
    fn a_crash_is_kept_at_any_level_and_only_from_its_source() {
        let mut shedder = Shedder::new(ShedPolicy::default());
        let line = b"4,7,7,-; asm_exc_page_fault+0x22/0x30";
        assert_eq!(shedder.judge(&src(1), line, 0, 1), Verdict::Severity(4));
        // The marker came while there was no pressure yet.
        assert_eq!(shedder.judge(&src(1), b"4,6,6,-;------------[ cut here ]------------", 16, 1), Verdict::Keep);
        assert_eq!(shedder.judge(&src(1), line, 0, 2), Verdict::Keep);
        assert_eq!(shedder.judge(&src(2), line, 0, 2), Verdict::Severity(4));
        assert_eq!(shedder.judge(&src(1), b"<134>an application's line", 0, 2), Verdict::Severity(6));
        assert_eq!(shedder.judge(&src(1), b"4,8,8,-;---[ end trace 00 ]---", 0, 3), Verdict::Keep);
        for _ in 0..Crashes::LINES_AFTER - 1 {
            assert_eq!(shedder.judge(&src(1), line, 0, 3), Verdict::Keep);
        }
        assert_eq!(shedder.judge(&src(1), line, 0, 3), Verdict::Severity(4));
        shedder.judge(&src(1), b"0,1,1,-;Kernel panic - not syncing", 0, 3);
        assert_eq!(shedder.judge(&src(1), line, 0, 4), Verdict::Keep);
        assert_eq!(shedder.judge(&src(1), line, 0, 4 + Crashes::LASTS_NS), Verdict::Severity(4), "it lapses");
    }

    #[test]
    fn one_screaming_source_is_shed_before_the_others() {
        let mut shedder = Shedder::new(ShedPolicy::default());
        let line = b"<14>x";
        let mut now = 0;
        let mut shed = [0; 4];
        for _ in 0..50 {
            now += Rates::HALF_LIFE_NS / 10;
            shedder.tick(now);
            for _ in 0..100 {
                shed[0] += u32::from(shedder.judge(&src(0), line, 10, now) == Verdict::FairShare);
            }
            for quiet in 1..4 {
                shed[usize::from(quiet)] += u32::from(shedder.judge(&src(quiet), line, 10, now) != Verdict::Keep);
            }
        }
        assert!(shed[0] > 3900, "{shed:?}");
        assert_eq!(shed[1..], [0, 0, 0]);
    }

    #[test]
    fn a_source_alone_or_among_equals_does_not_scream() {
        for sources in [1, 2, 5, 50] {
            let mut shedder = Shedder::new(ShedPolicy::default());
            for now in 1..40 {
                shedder.tick(now * Rates::HALF_LIFE_NS / 4);
                for _ in 0..100 {
                    for source in 0..sources {
                        let verdict = shedder.judge(&src(source), &[b'x'; 200], 10, now);
                        assert_eq!(verdict, Verdict::Keep, "{sources} sources");
                    }
                }
            }
        }
    }

    #[test]
    fn off_keeps_everything() {
        let mut shedder = Shedder::new(ShedPolicy::OFF);
        assert_eq!(shedder.judge(&src(1), b"<15>x", 0, 1), Verdict::Keep);
    }
}
