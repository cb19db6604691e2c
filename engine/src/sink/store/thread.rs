//! The converter's thread.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{Converter, Step, StoreError, StoreLimits, clock::BelievedClock};

/// A converter on a thread of its own.
#[derive(Debug)]
pub struct ConverterThread {
    stop: Arc<AtomicBool>,
    /// New limits, until the thread takes them.
    limits: Arc<Mutex<Option<StoreLimits>>>,
    thread: JoinHandle<Result<Converter, StoreError>>,
}

impl ConverterThread {
    /// Looks for sealed segments every `poll`. What fails is logged and tried again.
    pub fn start(mut converter: Converter, poll: Duration) -> ConverterThread {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let limits = Arc::<Mutex<Option<StoreLimits>>>::default();
        let new_limits = limits.clone();
        let run = move || {
            let mut failing = false;
            let mut clock = BelievedClock::new(now_ns(), Instant::now());
            let mut believed_ns = move || clock.believe(now_ns(), Instant::now());
            // Relaxed: the flag carries nothing but itself.
            while !stopped.load(Ordering::Relaxed) {
                let changed = new_limits.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(limits) = changed {
                    converter.set_limits(limits);
                    // A failure shows again, and is told, in the steps.
                    let _ = converter.retain(believed_ns());
                }
                let step = converter.step(believed_ns());
                match &step {
                    // Said once, until it works again.
                    Err(error) if !failing => tracing::error!("the store is not written: {error}; trying again"),
                    Ok(_) if failing => tracing::info!("the store is written again"),
                    _ => {}
                }
                failing = step.is_err();
                if !matches!(step, Ok(Step::Converted { .. } | Step::Flushed { .. })) {
                    thread::park_timeout(if failing { poll.max(Duration::from_secs(1)) } else { poll });
                }
            }
            converter.finish(believed_ns())?;
            Ok(converter)
        };
        let thread = thread::Builder::new().name("netpoll-store".into()).spawn(run).expect("a thread can be made");
        ConverterThread { stop, limits, thread }
    }

    /// Goes on with other limits, soon.
    pub fn set_limits(&self, limits: StoreLimits) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = Some(limits);
        self.thread.thread().unpark();
    }

    /// Converts what is left, and ends. To be called after the sink has stopped.
    pub fn stop(self) -> Result<Converter, StoreError> {
        // Relaxed: as above; what the sink has written is in files.
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
