//! Room in the kernel for what comes while a receiver waits for its CPU: arguments that kernel-backed devices get where
//! none were typed.

use std::fs;

use netpoll::config::Device;
use rustix::{
    process::{Resource, getrlimit},
    thread::{CapabilitySet, capabilities},
};

/// A slot of net_af_packet's rings: a frame of an ordinary MTU, and the kernel's header of it.
const SLOT_BYTES: u64 = 2048;
/// What the driver makes by itself, and as much as other receivers' buffers hold when they are told to: 1 and 64 MiB each way.
const SLOTS: std::ops::RangeInclusive<u64> = 512..=32_768;
/// Of the machine's memory, and of what may be locked, the rings take this part at most.
const MEMORY_DIVISOR: u64 = 64;
const LOCKED_DIVISOR: u64 = 2;

/// `device` for who receives as much as comes.
pub(super) fn for_receiver(device: &Device, queues: u16) -> Device {
    with_args(device, || slots(lockable_bytes(), queues))
}

fn with_args(device: &Device, slots: impl FnOnce() -> u64) -> Device {
    let Device::Vdev { name, args } = device else { return device.clone() };
    let typed = |keys: &[&str]| args.split(',').any(|arg| keys.iter().any(|key| arg.split('=').next() == Some(key)));
    let more = if name.contains("_af_packet") && !typed(&["blocksz", "framesz", "framecnt"]) {
        format!("blocksz=65536,framesz={SLOT_BYTES},framecnt={}", slots())
    } else if name.contains("_af_xdp") && !typed(&["busy_budget"]) {
        // With it each poll of an empty queue does the kernel's share of the work: 1.6 us a line instead of 0.7.
        "busy_budget=0".to_owned()
    } else {
        return device.clone();
    };
    let args = if args.is_empty() { more } else { format!("{args},{more}") };
    Device::Vdev { name: name.clone(), args }
}

/// Slots of each of a queue's two rings.
fn slots(lockable_bytes: u64, queues: u16) -> u64 {
    let slots = lockable_bytes / (2 * SLOT_BYTES * u64::from(queues.max(1)));
    // The largest power of two that is not larger.
    let slots = slots.checked_ilog2().map_or(0, |log| 1 << log);
    slots.clamp(*SLOTS.start(), *SLOTS.end())
}

/// Memory that the rings may take: they are locked.
fn lockable_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"));
    let memory: u64 = kibibytes.and_then(|text| text.trim().parse().ok()).map_or(0, |kib: u64| kib << 10);
    let may_lock_all = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    let locked = getrlimit(Resource::Memlock).current.filter(|_| !may_lock_all).unwrap_or(u64::MAX);
    (memory / MEMORY_DIVISOR).min(locked / LOCKED_DIVISOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(device: &str) -> String {
        with_args(&Device::parse(device).expect("a device"), || 4096).to_string()
    }

    #[test]
    fn only_what_was_not_typed_is_added() {
        assert_eq!(
            with("net_af_packet0,iface=eth0"),
            "net_af_packet0,iface=eth0,blocksz=65536,framesz=2048,framecnt=4096"
        );
        assert_eq!(with("net_af_xdp0,iface=eth0"), "net_af_xdp0,iface=eth0,busy_budget=0");
        for as_typed in [
            "net_af_packet0,iface=eth0,framecnt=512",
            "net_af_packet0,framesz=4096,iface=eth0",
            "net_af_xdp0,iface=eth0,busy_budget=64",
            "net_tap0,iface=np0",
            "0000:01:00.0",
        ] {
            assert_eq!(with(as_typed), as_typed);
        }
    }

    #[test]
    fn rings_fit_into_what_may_be_locked() {
        // (lockable MiB, queues): slots.
        for (mebibytes, queues, expected) in [
            (0, 1, 512),
            (2, 1, 512),
            (4, 1, 1024),
            (16, 1, 4096),
            (100, 1, 16_384),
            (128, 1, 32_768),
            (4096, 1, 32_768),
            (128, 4, 8192),
            (128, 3, 8192),
        ] {
            assert_eq!(slots(mebibytes << 20, queues), expected, "{mebibytes} MiB, {queues} queues");
        }
        assert!(lockable_bytes() > 0);
    }
}
