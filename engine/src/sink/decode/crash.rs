//! Kernel crashes: from `cut here` (or an oops, a BUG, a panic) to `end trace`, the lines of one source
//! and cpu become one record.
//!
//! A group ends with its end marker, when its cpu has been silent, or at its limits; a group that ends
//! at a limit goes on in another, marked [`Flags::CONTINUED`]. No line is ever dropped. Lines that carry
//! neither `cpu=` nor a caller (basic netconsole without `CONFIG_PRINTK_CALLER`) share one group.

use crate::sink::record::{Flags, Record};

/// Most lines of a group.
const MAX_LINES: u32 = 2000;
/// Most bytes of a group's message.
const MAX_BYTES: usize = 128 * 1024;
/// Silence that ends a group, in nanoseconds.
const IDLE_NS: u64 = 2_000_000_000;
/// Longest time that a group may take.
const MAX_NS: u64 = 15_000_000_000;
/// Open groups of one source; one more ends the oldest.
const MAX_GROUPS: usize = 8;

/// What a line means for crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Begin,
    End,
    None,
}

/// An open group: its record grows.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Group {
    pub key: String,
    pub record: Record,
    pub lines: u32,
    pub started_ns: u64,
    pub latest_ns: u64,
}

impl Group {
    pub fn deadline_ns(&self) -> u64 {
        (self.latest_ns + IDLE_NS).min(self.started_ns + MAX_NS)
    }

    pub fn held_bytes(&self) -> usize {
        size_of::<Group>() + self.record.message.len() + 512
    }
}

/// The open groups of one flow, oldest first.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Crashes(pub Vec<Group>);

impl Crashes {
    /// Offers a record. `true`: it was taken into a group. Groups that end by it go to `done`.
    pub fn offer(&mut self, record: &Record, clk_ns: u64, done: &mut dyn FnMut(&Record)) -> bool {
        let mark = mark(&record.message);
        if self.0.is_empty() && mark != Mark::Begin {
            return false;
        }
        let key = group_key(record);
        let open = self.0.iter().position(|group| group.key == key);
        let at = match (open, mark) {
            (Some(at), _) => {
                append(&mut self.0[at], record, clk_ns);
                at
            }
            (None, Mark::Begin) => {
                if self.0.len() >= MAX_GROUPS {
                    done(&self.0.remove(0).record);
                }
                self.0.push(open_group(key, record, clk_ns));
                self.0.len() - 1
            }
            (None, _) => return false,
        };
        let group = &self.0[at];
        if mark == Mark::End {
            done(&self.0.remove(at).record);
        } else if group.lines >= MAX_LINES || group.record.message.len() >= MAX_BYTES {
            self.cut(at, done);
        }
        true
    }

    /// Lets a group go that has reached a limit; what follows of it is another record.
    fn cut(&mut self, at: usize, done: &mut dyn FnMut(&Record)) {
        let group = &mut self.0[at];
        done(&group.record);
        let record = &mut group.record;
        record.message.clear();
        record.fields.clear();
        record.parts = 0;
        record.flags = Flags::CRASH | Flags::CONTINUED;
        group.lines = 0;
    }

    /// Lets go the groups whose time is over.
    pub fn expire(&mut self, clk_ns: u64, done: &mut dyn FnMut(&Record)) {
        let mut at = 0;
        while at < self.0.len() {
            if self.0[at].deadline_ns() <= clk_ns {
                let group = self.0.remove(at);
                // A group that was cut and got nothing since has nothing to say.
                if group.record.parts > 0 {
                    done(&group.record);
                }
            } else {
                at += 1;
            }
        }
    }

    pub fn deadline_ns(&self) -> Option<u64> {
        self.0.iter().map(Group::deadline_ns).min()
    }

    pub fn held_bytes(&self) -> usize {
        self.0.iter().map(Group::held_bytes).sum()
    }

    pub fn parts(&self) -> u64 {
        self.0.iter().map(|group| u64::from(group.record.parts)).sum()
    }
}

fn open_group(key: String, record: &Record, clk_ns: u64) -> Group {
    let mut record = record.clone();
    record.flags |= Flags::CRASH;
    Group { key, record, lines: 1, started_ns: clk_ns, latest_ns: clk_ns }
}

fn append(group: &mut Group, line: &Record, clk_ns: u64) {
    let record = &mut group.record;
    let separator = if record.parts > 0 { "\n" } else { "" };
    if record.parts == 0 {
        record.time_ns = line.time_ns;
        record.event_time = line.event_time;
        record.seq = line.seq;
        record.kernel_usec = line.kernel_usec;
        group.started_ns = clk_ns;
    }
    record.append(separator, line);
    record.severity = [record.severity, line.severity].into_iter().flatten().min();
    group.lines += 1;
    group.latest_ns = clk_ns;
}

/// Which cpu or task says it.
fn group_key(record: &Record) -> String {
    match record.fields.get("cpu") {
        Some(cpu) => format!("C{cpu}"),
        None => record.caller.clone(),
    }
}

/// Basic lines may begin with `[   12.345678][ T1] `.
fn mark(message: &str) -> Mark {
    let mut text = message;
    while let Some(inner) = text.strip_prefix('[') {
        let Some((stamp, rest)) = inner.split_once(']') else { break };
        if !stamp.trim_start_matches([' ', 'T', 'C']).starts_with(|first: char| first.is_ascii_digit()) {
            break;
        }
        text = rest;
    }
    let text = text.trim_start_matches(' ');
    let begins = [
        "------------[ cut here ]------------",
        "Kernel panic - not syncing",
        "BUG: ",
        "kernel BUG at ",
        "Oops",
        "Internal error: ",
        "Unable to handle kernel ",
        "general protection fault",
        "watchdog: BUG: ",
        "double fault: ",
        "stack segment: ",
        "invalid opcode: ",
        "divide error: ",
    ];
    let is_end = text
        .strip_prefix("---[ end ")
        .is_some_and(|rest| rest.starts_with("trace ") || rest.starts_with("Kernel panic "));
    match () {
        () if is_end => Mark::End,
        () if begins.iter().any(|begin| text.starts_with(begin)) => Mark::Begin,
        () => Mark::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(cpu: &str, message: &str) -> Record {
        let mut record = Record { message: message.into(), severity: Some(4), ..Record::default() };
        record.fields.push("cpu", cpu);
        record
    }

    fn offer(crashes: &mut Crashes, clk_ns: u64, record: &Record) -> (bool, Vec<Record>) {
        let mut done = Vec::new();
        let taken = crashes.offer(record, clk_ns, &mut |record| done.push(record.clone()));
        (taken, done)
    }

    #[test]
    fn two_cpus_crash_at_once() {
        let mut crashes = Crashes::default();
        assert!(!offer(&mut crashes, 0, &line("0", "all is well")).0);
        for cpu in ["0", "1"] {
            let begin = line(cpu, "------------[ cut here ]------------");
            assert_eq!(offer(&mut crashes, 0, &begin), (true, vec![]));
            assert_eq!(offer(&mut crashes, 1, &line(cpu, "WARNING: CPU")), (true, vec![]));
        }
        assert!(!offer(&mut crashes, 2, &line("2", "eth0: link up")).0);
        for cpu in ["1", "0"] {
            let (taken, done) = offer(&mut crashes, 3, &line(cpu, "---[ end trace 0123 ]---"));
            assert!(taken);
            assert_eq!(done.len(), 1);
            assert_eq!(done[0].message, "------------[ cut here ]------------\nWARNING: CPU\n---[ end trace 0123 ]---");
            assert_eq!((done[0].parts, done[0].fields.get("cpu")), (3, Some(cpu)));
            assert!(done[0].flags.has(Flags::CRASH));
        }
        assert_eq!(crashes.parts(), 0);
    }

    #[test]
    fn a_group_ends_in_silence_and_at_its_limits() {
        let mut crashes = Crashes::default();
        offer(&mut crashes, 0, &line("0", "Kernel panic - not syncing: Attempted to kill init!"));
        let mut done = Vec::new();
        crashes.expire(IDLE_NS - 1, &mut |record| done.push(record.clone()));
        assert!(done.is_empty());
        let mut parts = 1;
        for _ in 0..MAX_LINES {
            parts += 1;
            done.extend(offer(&mut crashes, 0, &line("0", "Call Trace:")).1);
        }
        crashes.expire(IDLE_NS, &mut |record| done.push(record.clone()));
        assert_eq!(done.len(), 2);
        assert!(done[1].flags.has(Flags::CONTINUED) && !done[0].flags.has(Flags::CONTINUED));
        assert_eq!(done.iter().map(|record| record.parts).sum::<u32>(), parts);
        assert!(crashes.0.is_empty());
    }

    #[test]
    fn open_groups_are_bounded() {
        let mut crashes = Crashes::default();
        let mut done = 0;
        for cpu in 0..100 {
            done += offer(&mut crashes, 0, &line(&cpu.to_string(), "BUG: soft lockup")).1.len();
        }
        assert_eq!((done, crashes.0.len()), (100 - MAX_GROUPS, MAX_GROUPS));
    }

    #[test]
    fn markers_behind_a_stamp() {
        assert_eq!(mark("[   12.345678][    T1] BUG: unable to handle page fault"), Mark::Begin);
        assert_eq!(mark("[   12.345678] ---[ end trace 0 ]---"), Mark::End);
        assert_eq!(mark("[drm] BUG: no"), Mark::None);
    }
}
