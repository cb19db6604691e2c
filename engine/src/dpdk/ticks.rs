//! The CPU's counter.

/// What reads the CPU's counter, where that counts at one rate whatever the CPU does (an invariant TSC).
pub(crate) fn ticks() -> Option<fn() -> u64> {
    // SAFETY: both ask the CPU and nothing else, at any time.
    unsafe { dpdk_sys::shim_ticks_are_steady() }.then_some(|| unsafe { dpdk_sys::shim_ticks() })
}
