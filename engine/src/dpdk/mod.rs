//! Safe owners of DPDK's objects: apart from one AVX2 sum in `wire`, the only module that says `unsafe`.
//!
//! ```text
//! Eal <- Mempool <- Device <- Running <- StartedPort, DpdkQueue      a <- b: b holds a
//!  ^                  ^- Port (not running yet)
//!  +- LcoreJob's task, RegisteredThread
//! ```
//!
//! Each C object has one owner, which frees it when dropped; each owner holds what it needs. So whatever the order
//! in which a program lets go of them, a port is closed after its queues, a pool is freed after the port, and
//! EAL is cleaned up last. What EAL needs is known before it starts where that is possible, since a failed start
//! cannot be repeated in the same process.
//!
//! Threads: [`Eal`], [`Mempool`], [`StartedPort`] are for any thread; a [`DpdkQueue`] is for one at a time. Set-up
//! calls take turns.
//!
//! Limits: one EAL a process, primary processes only. Frames in several segments are received, and not made.

#![allow(unsafe_code)]

mod args;
mod cpus;
mod device;
mod eal;
mod error;
mod lcore;
mod log;
mod mbuf;
mod mempool;
mod port;
mod queue;
mod real_time;
mod ring;
mod setup;
mod spread;
mod started;
mod threads;
mod ticks;
mod xdp;

pub use args::{EalConfig, LogLevel, Memory};
pub use eal::Eal;
pub use error::{DpdkError, Errno, LogLines, Result};
pub use lcore::{LcoreJob, RegisteredThread};
pub use mbuf::Mbuf;
pub use mempool::Mempool;
pub use port::{Link, Port, PortInfo};
pub use queue::DpdkQueue;
pub use real_time::{keep_real_time, may_be_real_time, set_real_time};
pub use setup::PortSetup;
pub use spread::Spreading;
pub use started::{ClosedPort, PoolAccount, PortStats, StartedPort};
pub use threads::{ThreadStep, on_every_thread};
pub(crate) use ticks::ticks;

/// The version of the DPDK that is linked, such as `DPDK 22.11.11`.
pub fn version() -> String {
    // SAFETY: returns a constant string.
    device::text(unsafe { dpdk_sys::rte_version() })
}
