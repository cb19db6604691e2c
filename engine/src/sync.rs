//! What our own protocols are made of: `std`'s atomics and locks; `loom`'s under `--cfg loom`, so that the models of single
//! protocols run the very code that ships, in every interleaving and every order that the memory model allows; `shuttle`'s
//! under `--cfg shuttle`, for whole lives of clients, too large for loom, in interleavings at random.

#[cfg(loom)]
pub(crate) use loom::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
    },
    thread::yield_now,
};
#[cfg(shuttle)]
pub(crate) use shuttle::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
    },
    thread::yield_now,
    thread_local,
};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
    },
    thread::yield_now,
    thread_local,
};

pub(crate) use std::sync::{PoisonError, TryLockError};

/// loom's does not know `const`.
#[cfg(loom)]
macro_rules! loom_thread_local {
    (static $name:ident: $type:ty = const { $init:expr };) => {
        loom::thread_local! { static $name: $type = $init; }
    };
}
#[cfg(loom)]
pub(crate) use loom_thread_local as thread_local;

/// Sleeps; in a model, where no time passes, only lets the others get on.
pub(crate) fn sleep(time: std::time::Duration) {
    if cfg!(any(loom, shuttle)) { yield_now() } else { std::thread::sleep(time) }
}

/// Lets whom the caller waits for get on; `rounds` says how often it has waited already.
pub(crate) fn wait(rounds: u32) {
    match rounds {
        0..64 if !cfg!(any(loom, shuttle)) => std::hint::spin_loop(),
        0..256 => yield_now(),
        _ => sleep(std::time::Duration::from_micros(20)),
    }
}
