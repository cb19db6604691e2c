//! What a reload changes for hooks that run: written by whoever reloads, read by each hook once a poll.
//!
//! Every value is an atomic of its own; a hook may read some of them new and others old while a reload is under way. The
//! generation, bumped behind all of them, then makes it read again: it never stays with old values.
//!
//! Labels: `S1` pairs with `S2`.

use super::{
    SinkConfig,
    shed::{SEVERITIES, ShedPolicy},
};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// The values, and how often they were changed. Reloads take turns (they are the writer thread's).
///
/// All but the generation are relaxed: it is what orders them.
#[derive(Debug, Default)]
pub(super) struct HookSettings {
    flush_ns: AtomicU64,
    /// Lines a second and source; 0: no limit.
    lines_per_source: AtomicU32,
    /// A policy's levels, packed.
    everyone: AtomicU64,
    screaming: AtomicU64,
    generation: AtomicU64,
    /// The writer has ended; relaxed: it only chooses the reason of a drop.
    closed: AtomicBool,
}

/// The values as a hook has read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) generation: u64,
    pub(super) flush_ns: u64,
    pub(super) lines_per_source: u32,
    pub(super) shed: ShedPolicy,
}

impl HookSettings {
    pub(super) fn set(&self, config: &SinkConfig) {
        let lines = config.max_lines_per_source_per_s.unwrap_or(0);
        self.store(config.flush_interval.as_nanos() as u64, lines, &config.shed);
    }

    fn store(&self, flush_ns: u64, lines_per_source: u32, shed: &ShedPolicy) {
        self.flush_ns.store(flush_ns, Ordering::Relaxed);
        self.lines_per_source.store(lines_per_source, Ordering::Relaxed);
        self.everyone.store(pack(shed.everyone), Ordering::Relaxed);
        self.screaming.store(pack(shed.screaming), Ordering::Relaxed);
        // S1: Release, behind the values, so that who reads this count reads no older ones with it.
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Whether they are others than those of `generation`: the one question a poll.
    #[inline]
    pub(super) fn changed_since(&self, generation: u64) -> bool {
        // Relaxed: only a reason to call `read`, which synchronises.
        self.generation.load(Ordering::Relaxed) != generation
    }

    pub(super) fn read(&self) -> Settings {
        // S2: Acquire, before the values; pairs with S1.
        let generation = self.generation.load(Ordering::Acquire);
        let levels = |packed: &AtomicU64| unpack(packed.load(Ordering::Relaxed));
        Settings {
            generation,
            flush_ns: self.flush_ns.load(Ordering::Relaxed),
            lines_per_source: self.lines_per_source.load(Ordering::Relaxed),
            shed: ShedPolicy { everyone: levels(&self.everyone), screaming: levels(&self.screaming) },
        }
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Bits of one level; a larger one than fits means the same as the largest.
const LEVEL_BITS: usize = 7;
const LEVEL_MASK: u64 = (1 << LEVEL_BITS) - 1;

fn pack(levels: [u8; SEVERITIES]) -> u64 {
    const { assert!(SEVERITIES * LEVEL_BITS <= 64) };
    levels.iter().rev().fold(0, |packed, level| packed << LEVEL_BITS | u64::from(*level).min(LEVEL_MASK))
}

fn unpack(packed: u64) -> [u8; SEVERITIES] {
    std::array::from_fn(|i| (packed >> (i * LEVEL_BITS) & LEVEL_MASK) as u8)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn levels_there_and_back(levels in proptest::array::uniform9(0..128_u8)) {
            proptest::prop_assert_eq!(unpack(pack(levels)), levels);
        }
    }

    #[test]
    fn what_was_set_is_read_and_nothing_is_new_afterwards() {
        let (settings, shed) = (HookSettings::default(), ShedPolicy::default());
        assert!(!settings.changed_since(0));
        settings.store(1, 2, &shed);
        assert!(settings.changed_since(0));
        let read = settings.read();
        assert_eq!(read, Settings { generation: 1, flush_ns: 1, lines_per_source: 2, shed });
        assert!(!settings.changed_since(read.generation));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::{sync::Arc, thread};

    /// A reload while a hook polls: whatever the hook reads meanwhile, with the new generation it has the new values.
    ///
    /// Seen to fail with S1 Relaxed, with S2 Relaxed, with the generation raised before the values, and with it read behind
    /// them.
    #[test]
    fn no_hook_stays_with_old_limits() {
        loom::model(|| {
            let settings = Arc::new(HookSettings::default());
            let reload = {
                let settings = settings.clone();
                thread::spawn(move || {
                    let shed = ShedPolicy { everyone: [0, 0, 0, 0, 0, 0, 0, 7, 0], ..ShedPolicy::OFF };
                    settings.store(5, 6, &shed);
                })
            };
            let mut has = settings.read();
            if settings.changed_since(has.generation) {
                has = settings.read();
            }
            if has.generation == 1 {
                assert_eq!(
                    (has.flush_ns, has.lines_per_source, has.shed.everyone[7]),
                    (5, 6, 7),
                    "stays with old ones"
                );
            }
            reload.join().unwrap();
            assert_eq!(settings.changed_since(has.generation), has.generation == 0);
        });
    }
}
