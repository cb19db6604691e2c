//! One step taken by every thread of the process, those that EAL and its drivers have made included.
//!
//! Capabilities and landlock belong to a thread, and the kernel lets nobody set another thread's (landlock can for all
//! threads at once, from Linux 7.0 on). So each thread gets a signal, and its handler takes the step for it, with
//! system calls only. It stands here as EAL's threads are nobody else's, and as it takes `unsafe`.

use std::{
    fs, io,
    os::fd::{AsRawFd, BorrowedFd},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{CapabilitySet, CapabilitySets};

/// What a thread does to itself.
#[derive(Clone, Copy, Debug)]
pub enum ThreadStep<'a> {
    /// Keeps its permitted capabilities when the process changes its user.
    KeepCapabilities,
    /// Gains no privileges any more, is held to the landlock ruleset, and has no capabilities but these.
    Restrict {
        /// Effective and permitted from now on.
        capabilities: CapabilitySet,
        /// A ruleset's descriptor, if the kernel has landlock.
        ruleset: Option<BorrowedFd<'a>>,
    },
}

/// How long a thread may take. It answers at once unless the kernel holds it, as a disk that stalls does, or gives its CPU to
/// others: lcores are bound to one, and on a busy machine two minutes of that were seen.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);

/// `ANSWER` while a thread has not answered; else an errno, 0 for success.
const PENDING: i32 = -1;

// What the handler reads. Written by `on_every_thread`, read by the one thread that was signalled: Relaxed, as ANSWER, which
// is set behind them and looked at first, orders them (T1 pairs with T2).
static KEEP: AtomicBool = AtomicBool::new(false);
static CAPABILITIES: AtomicU64 = AtomicU64::new(0);
static RULESET: AtomicI32 = AtomicI32::new(-1);
/// Written by the handler, awaited by `on_every_thread`: T3 pairs with T4.
static ANSWER: AtomicI32 = AtomicI32::new(0);

/// Has every thread of this process take the step, also threads that start meanwhile; their number. An error names the
/// thread that could not, or did not within five minutes; some threads then have taken the step, and some have not.
pub fn on_every_thread(step: ThreadStep) -> io::Result<usize> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    match step {
        ThreadStep::KeepCapabilities => KEEP.store(true, Ordering::Relaxed),
        ThreadStep::Restrict { capabilities, ruleset } => {
            KEEP.store(false, Ordering::Relaxed);
            CAPABILITIES.store(capabilities.bits(), Ordering::Relaxed);
            RULESET.store(ruleset.map_or(-1, |fd| fd.as_raw_fd()), Ordering::Relaxed);
        }
    }
    let own = rustix::thread::gettid().as_raw_nonzero().get();
    let handler = Handler::install()?;
    let mut done = vec![own];
    // Who has not taken the step may start threads that have not either; who has, only such that have.
    loop {
        let fresh: Vec<_> = thread_ids()?.into_iter().filter(|id| !done.contains(id)).collect();
        if fresh.is_empty() {
            break;
        }
        for id in fresh {
            handler.signal(id)?;
            done.push(id);
        }
    }
    drop(handler);
    take_step().map_err(|errno| failed(own, errno.into()))?;
    Ok(thread_ids()?.len())
}

/// The threads of this process.
fn thread_ids() -> io::Result<Vec<i32>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(ids)
}

fn failed(id: i32, error: io::Error) -> io::Error {
    let name = fs::read_to_string(format!("/proc/self/task/{id}/comm")).unwrap_or_default();
    io::Error::new(error.kind(), format!("thread {id} ({}): {error}", name.trim_end()))
}

/// On the calling thread. System calls only: it may have been anywhere, also in the allocator.
fn take_step() -> Result<(), rustix::io::Errno> {
    if KEEP.load(Ordering::Relaxed) {
        return rustix::thread::set_keep_capabilities(true);
    }
    rustix::thread::set_no_new_privs(true)?;
    let ruleset = RULESET.load(Ordering::Relaxed);
    if ruleset >= 0 {
        // SAFETY: takes two integers. `on_every_thread` borrows the descriptor until all have answered.
        let rc = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) };
        if rc != 0 {
            // SAFETY: this thread's own errno.
            return Err(rustix::io::Errno::from_raw_os_error(unsafe { *libc::__errno_location() }));
        }
    }
    let capabilities = CapabilitySet::from_bits_retain(CAPABILITIES.load(Ordering::Relaxed));
    let sets = CapabilitySets { effective: capabilities, permitted: capabilities, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)
}

extern "C" fn on_signal(_: libc::c_int) {
    // SAFETY: this thread's own errno, which the code that was interrupted may be about to read.
    let errno = unsafe { *libc::__errno_location() };
    // T2 pairs with T1.
    if ANSWER.load(Ordering::Acquire) == PENDING {
        let answer = take_step().map_or_else(|errno| errno.raw_os_error(), |()| 0);
        // T3 pairs with T4.
        ANSWER.store(answer, Ordering::Release);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// The signal's handler, until dropped.
struct Handler {
    signal: i32,
    before: libc::sigaction,
}

impl Handler {
    fn install() -> io::Result<Handler> {
        // Neither EAL nor its drivers nor glibc use this one.
        let signal = libc::SIGRTMIN() + 7;
        // SAFETY: all zeros is a sigaction: no handler, no flags, nothing masked.
        let (mut action, mut before): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        // SAFETY: both point to a sigaction, and the handler does nothing that is not safe at any moment: it loads and
        // stores atomics and makes system calls.
        if unsafe { libc::sigaction(signal, &action, &mut before) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Handler { signal, before })
    }

    /// Has the thread `id` take the step, if it is still there.
    fn signal(&self, id: i32) -> io::Result<()> {
        // T1 pairs with T2.
        ANSWER.store(PENDING, Ordering::Release);
        // SAFETY: takes integers; a thread that has ended is an error.
        let rc = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, self.signal) };
        if rc != 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(failed(id, error)) };
        }
        let limit = Instant::now() + ANSWER_LIMIT;
        loop {
            // T4 pairs with T3.
            match ANSWER.load(Ordering::Acquire) {
                0 => return Ok(()),
                PENDING if !fs::exists(format!("/proc/self/task/{id}"))? => return Ok(()),
                PENDING if Instant::now() > limit => {
                    return Err(failed(id, io::Error::new(io::ErrorKind::TimedOut, "does not take signals")));
                }
                PENDING => thread::sleep(Duration::from_micros(50)),
                errno => return Err(failed(id, io::Error::from_raw_os_error(errno))),
            }
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        // SAFETY: what `sigaction` gave us. Whoever was signalled has answered, or the process gives up.
        unsafe { libc::sigaction(self.signal, &self.before, std::ptr::null_mut()) };
    }
}
