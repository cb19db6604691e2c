//! Real-time threads: the lowest priority of SCHED_RR, which goes before every ordinary thread and behind every other real-time one.
//!
//! The kernel keeps a twentieth of each CPU for ordinary threads all the same (`sched_rt_runtime_us`, from Linux 6.12 on its fair
//! server).

use std::io;

use rustix::{
    process::{Resource, Rlimit},
    thread::CapabilitySet,
};

const PRIORITY: u8 = 1;

/// The calling thread becomes a real-time one, or an ordinary one again. What it starts is ordinary. Becoming ordinary anybody may; for
/// the way back see [`may_be_real_time`].
pub fn set_real_time(real_time: bool) -> io::Result<()> {
    let (policy, sched_priority) = if real_time { (libc::SCHED_RR, PRIORITY.into()) } else { (libc::SCHED_OTHER, 0) };
    let parameters = libc::sched_param { sched_priority };
    // SAFETY: the call reads one valid struct; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, policy | libc::SCHED_RESET_ON_FORK, &parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the calling thread may become a real-time one: by CAP_SYS_NICE or RLIMIT_RTPRIO. Not where somebody has chosen for
/// it already, as `chrt` does: that stays.
pub fn may_be_real_time() -> bool {
    // SAFETY: takes an integer; 0 is the calling thread.
    let policy = unsafe { libc::sched_getscheduler(0) } & !libc::SCHED_RESET_ON_FORK;
    let capable = rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_NICE));
    let limit = rustix::process::getrlimit(Resource::Rtprio).current;
    policy == libc::SCHED_OTHER && (capable || limit.is_none_or(|limit| limit >= PRIORITY.into()))
}

/// Sees to it, for the whole process, that its threads may become real-time ones when its rights are gone; whether that is so. It takes
/// CAP_SYS_RESOURCE, or a limit that is high enough.
pub fn keep_real_time() -> bool {
    let before = rustix::process::getrlimit(Resource::Rtprio);
    let at_least = |limit: Option<u64>| limit.map(|limit| limit.max(PRIORITY.into()));
    let wanted = Rlimit { current: at_least(before.current), maximum: at_least(before.maximum) };
    rustix::process::setrlimit(Resource::Rtprio, wanted).is_ok()
}
