//! Signals. When to end: SIGINT and SIGTERM; the first asks, the second does not. SIGHUP: see [`Hangup`].

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
    iterator::Signals,
};

/// Whether the user has asked for the end. Any thread.
#[derive(Clone, Debug)]
pub(super) struct Stop(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    asked: Arc<AtomicBool>,
    lock: Mutex<()>,
    changed: Condvar,
}

/// SIGHUP, for who looks now and then.
#[derive(Debug)]
pub(super) struct Hangup(Arc<AtomicBool>);

impl Hangup {
    /// From now on the signal is noted, and ends nothing.
    pub(super) fn install() -> io::Result<Hangup> {
        let came = Arc::new(AtomicBool::new(false));
        flag::register(SIGHUP, came.clone())?;
        Ok(Hangup(came))
    }

    /// Whether it came since the last call.
    pub(super) fn taken(&self) -> bool {
        // Relaxed: the flag carries nothing but itself.
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Stop {
    /// Not asked for by any signal.
    #[cfg(test)]
    pub(super) fn new() -> Stop {
        Stop(Arc::new(Inner { asked: Arc::default(), lock: Mutex::new(()), changed: Condvar::new() }))
    }

    /// From now on signals ask for the end, and a second one ends the process at once with exit code 1.
    pub(super) fn install() -> io::Result<Stop> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset and sets it, the second finds it set.
            flag::register_conditional_shutdown(signal, 1, asked.clone())?;
            flag::register(signal, asked.clone())?;
        }
        let inner = Arc::new(Inner { asked, lock: Mutex::new(()), changed: Condvar::new() });
        let (mut signals, waiters) = (Signals::new([SIGINT, SIGTERM])?, inner.clone());
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for _ in signals.forever() {
                drop(waiters.lock.lock());
                waiters.changed.notify_all();
            }
        })?;
        Ok(Stop(inner))
    }

    /// Whether it was asked for, for who looks by itself.
    pub(super) fn flag(&self) -> &AtomicBool {
        &self.0.asked
    }

    /// Whether it was asked for. Cheap.
    pub(super) fn asked(&self) -> bool {
        // Relaxed: as above.
        self.0.asked.load(Ordering::Relaxed)
    }

    /// Sleeps until `until` or until the end is asked for; whether it was.
    pub(super) fn wait_until(&self, until: Instant) -> bool {
        let mut guard = self.0.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.asked() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            guard = self.0.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// The same, for a time.
    pub(super) fn wait(&self, time: Duration) -> bool {
        self.wait_until(Instant::now() + time)
    }
}
