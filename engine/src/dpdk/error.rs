//! What DPDK refused, why, and what to do about it.

use std::fmt;

use crate::ids::LcoreId;

/// The result of a DPDK set-up call.
pub type Result<T> = std::result::Result<T, DpdkError>;

/// A failure of DPDK or of what was asked of it. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DpdkError {
    /// EAL was started in this process before, whether it still runs or not.
    #[error("EAL runs once a process, and was started in this one before; start a new process")]
    AlreadyInitialised,
    /// An EAL argument that cannot be passed on.
    #[error("EAL argument `{argument}`: {problem}; {advice}")]
    Argument {
        /// As it was typed.
        argument: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        advice: String,
    },
    /// No such CPU on this machine, or not an lcore of this EAL.
    #[error("lcore {lcore} does not exist; choose from {known}")]
    UnknownLcore {
        /// The one asked for.
        lcore: LcoreId,
        /// The ones there are, as a list like `0-3,8`.
        known: String,
    },
    /// The CPU exists, but this process may not run on it.
    #[error(
        "lcore {lcore} is outside the CPUs that this process may use ({allowed}); choose from those, or widen its cpuset (taskset, systemd AllowedCPUs, docker --cpuset-cpus)"
    )]
    LcoreNotAllowed {
        /// The one asked for.
        lcore: LcoreId,
        /// The allowed ones, as a list like `0-3,8`.
        allowed: String,
    },
    /// The lcore runs a job already.
    #[error("lcore {lcore} runs a job already; join that one first, or choose another lcore")]
    LcoreBusy {
        /// The busy one.
        lcore: LcoreId,
    },
    /// Hugepages were asked for and there are none.
    #[error(
        "{problem}; reserve some as root with `sysctl -w vm.nr_hugepages=512` (1 GB in pages of 2 MB), or run without them (--no-huge)"
    )]
    NoHugepages {
        /// None reserved, or none free.
        problem: String,
    },
    /// `rte_eal_init` failed. EAL cannot be started again in this process.
    #[error("rte_eal_init failed: {errno}{log}; {advice}")]
    EalInit {
        /// Why.
        errno: Errno,
        /// What to do.
        advice: String,
        /// EAL's own words.
        log: LogLines,
    },
    /// The operating system did not give us a thread.
    #[error("cannot start the EAL thread: {0}")]
    Spawn(#[source] std::io::Error),
    /// `rte_thread_register` refused, or would corrupt the calling thread.
    #[error("cannot make this thread an lcore: {problem}")]
    Register {
        /// Why, and what to do.
        problem: String,
    },
    /// No loaded driver claims the device.
    #[error("{device}: no driver for it is loaded{log}; {advice}")]
    UnknownDriver {
        /// As it was typed.
        device: String,
        /// What to do, with the drivers that are loaded.
        advice: String,
        /// DPDK's own words.
        log: LogLines,
    },
    /// A device of that name is there already.
    #[error(
        "{device}: a device of that name exists already; give this one another name (a number at the end will do), or open the existing port"
    )]
    AlreadyExists {
        /// Its name.
        device: String,
    },
    /// The kernel interface that the device arguments name is not there.
    #[error("{device}: there is no network interface `{interface}` here; the ones there are: {known}")]
    NoSuchInterface {
        /// As it was typed.
        device: String,
        /// The missing interface.
        interface: String,
        /// Those in this network namespace.
        known: String,
    },
    /// The device is refused before DPDK sees it.
    #[error("{device}: {problem}")]
    BadDevice {
        /// As it was typed.
        device: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The process lacks a right that the device needs.
    #[error("{device}: {call} was not permitted: {errno}{log}; {advice}")]
    Permission {
        /// The call that failed.
        call: &'static str,
        /// The device.
        device: String,
        /// Why.
        errno: Errno,
        /// Which right, and how to give it.
        advice: String,
        /// DPDK's own words.
        log: LogLines,
    },
    /// No such port.
    #[error("there is no port `{port}`; the ports there are: {known}")]
    NoSuchPort {
        /// The one asked for.
        port: String,
        /// Names of those that exist.
        known: String,
    },
    /// Someone in this process has the port.
    #[error("port {port} is in use in this process; a port has one owner")]
    PortInUse {
        /// Its name.
        port: String,
    },
    /// More queues than the device has.
    #[error(
        "port {port}: {asked} queues were asked for, its driver {driver} gives {most} here; ask for fewer{advice}, or (to receive) spread them in software"
    )]
    TooManyQueues {
        /// Its name.
        port: String,
        /// As asked for.
        asked: u16,
        /// What the device has.
        most: u16,
        /// Its driver.
        driver: String,
        /// How to get more, where there is a way.
        advice: &'static str,
    },
    /// A setting that the device cannot have.
    #[error("port {port}: {problem}")]
    BadSetup {
        /// Its name.
        port: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// DPDK's memory is used up.
    #[error("{what} wants {wanted_bytes} bytes of DPDK memory, of which {free_bytes} are free: {errno}{log}; {advice}")]
    NoMemory {
        /// What was to be allocated.
        what: String,
        /// How much.
        wanted_bytes: u64,
        /// How much there is.
        free_bytes: u64,
        /// Why.
        errno: Errno,
        /// How to give more.
        advice: &'static str,
        /// DPDK's own words.
        log: LogLines,
    },
    /// The port's queues are still held. It closes by itself once the last one is dropped.
    #[error("port {port} cannot be closed while {queues} of its queues are in use; end their poll loops first")]
    QueuesInUse {
        /// Its name.
        port: String,
        /// How many.
        queues: usize,
    },
    /// Any other call that failed.
    #[error("{device}: {call} failed: {errno}{log}; {advice}")]
    Call {
        /// The call that failed.
        call: &'static str,
        /// The device or port.
        device: String,
        /// Why.
        errno: Errno,
        /// What to do.
        advice: String,
        /// DPDK's own words.
        log: LogLines,
    },
}

/// An `errno` value, positive; 0 where a driver says only that it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// `EPERM`.
    pub const EPERM: Errno = Errno(1);
    /// `ENOMEM`.
    pub const ENOMEM: Errno = Errno(12);
    /// `EACCES`.
    pub const EACCES: Errno = Errno(13);
    /// `EEXIST`.
    pub const EEXIST: Errno = Errno(17);
    /// `EINVAL`.
    pub const EINVAL: Errno = Errno(22);
    /// `ENOTSUP`.
    pub const ENOTSUP: Errno = Errno(95);

    /// From a negative return code. DPDK's drivers return a bare -1 for "it failed", which is not `EPERM`.
    pub(super) fn from_code(rc: i32) -> Errno {
        Errno(if rc == -1 { 0 } else { rc.saturating_neg() })
    }

    /// DPDK's thread-local `rte_errno`.
    pub(super) fn last() -> Errno {
        // SAFETY: reads a thread-local integer.
        Errno(unsafe { dpdk_sys::shim_errno() })
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("the driver refused");
        }
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        write!(f, "{} (errno {})", text, self.0)
    }
}

/// What DPDK logged while a call failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogLines(pub Vec<String>);

impl fmt::Display for LogLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.0.iter();
        if let Some(first) = lines.next() {
            write!(f, "; DPDK said `{first}`")?;
        }
        lines.try_for_each(|line| write!(f, ", `{line}`"))
    }
}
