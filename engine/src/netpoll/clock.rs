//! Both clocks, read together.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use super::hook::Now;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Real time less monotonic time, and the monotonic time after which it is to be looked at again. Each word stands for
/// itself: whoever reads a new one with an old one is at most one refresh behind, so Relaxed will do.
static REAL_LEAD_NS: AtomicU64 = AtomicU64::new(0);
static REFRESH_AT_NS: AtomicU64 = AtomicU64::new(0);
/// How long a step of the real-time clock may go unseen.
const REFRESH_NS: u64 = 1_000_000;

/// Both clocks now, the real one as of the last millisecond's difference: one read of the vDSO (about 23 ns, two would
/// be 45), once a burst, not once a frame.
#[inline]
pub(crate) fn now() -> Now {
    // The start is taken one second early, so that time 0 means "never".
    let mono_ns = START.elapsed().as_nanos() as u64 + 1_000_000_000;
    if mono_ns >= REFRESH_AT_NS.load(Ordering::Relaxed) {
        refresh(mono_ns);
    }
    Now { mono_ns, real_ns: mono_ns.wrapping_add(REAL_LEAD_NS.load(Ordering::Relaxed)) }
}

#[cold]
fn refresh(mono_ns: u64) {
    let real_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    REAL_LEAD_NS.store(real_ns.wrapping_sub(mono_ns), Ordering::Relaxed);
    REFRESH_AT_NS.store(mono_ns + REFRESH_NS, Ordering::Relaxed);
}
