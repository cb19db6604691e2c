//! What net_af_xdp leaves behind when it closes, and how that is cleaned up. Seen with DPDK 22.11 and libxdp 1.3:
//!
//! - The AF_XDP socket stays open. The interface's queue then stays taken, so that the port cannot be attached again,
//!   and the kernel keeps the right to write into the pool. So the sockets that a queue's set-up opens are noted,
//!   and those that are still open after the port's end are closed.
//! - The mbufs in the kernel's rings do not come back: see `Mempool::write_off`.
//! - Frames that the kernel has sent are collected only by the next send: see `Running::flush_tx`.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{FromRawFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// How long the kernel takes to let go of the queue behind a closed socket (a work queue), with a margin.
const RELEASE: Duration = Duration::from_millis(50);

/// Open AF_XDP sockets, by what tells one from a later one of the same number.
#[derive(Debug, Default)]
pub(super) struct XdpSockets(BTreeMap<RawFd, PathBuf>);

pub(super) fn is_xdp(driver: &str) -> bool {
    driver.contains("af_xdp")
}

impl XdpSockets {
    /// Those that are open now.
    pub(super) fn open_now() -> XdpSockets {
        let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let fds = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // SAFETY: only asks about the descriptor; one that is closed meanwhile is an error there.
        let sockets = fds.filter(|fd| unsafe { dpdk_sys::shim_is_xdp_socket(*fd) });
        XdpSockets(sockets.filter_map(|fd| Some((fd, identity(fd)?))).collect())
    }

    /// Those of `self` that were not there `before`.
    pub(super) fn since(mut self, before: &XdpSockets) -> XdpSockets {
        self.0.retain(|fd, identity| before.0.get(fd) != Some(identity));
        self
    }

    /// Adds another queue's.
    pub(super) fn extend(&mut self, more: Option<XdpSockets>) {
        self.0.extend(more.unwrap_or_default().0);
    }

    /// Closes those that the driver, which is closed, has left open.
    pub(super) fn close(self) {
        let mut closed = false;
        for (fd, was) in self.0 {
            if identity(fd) == Some(was) {
                // SAFETY: the very socket that the closed driver opened and forgot: nobody else knows of it.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
                closed = true;
            }
        }
        if closed {
            thread::sleep(RELEASE);
        }
    }
}

/// `socket:[inode]`.
fn identity(fd: RawFd) -> Option<PathBuf> {
    fs::read_link(Path::new("/proc/self/fd").join(fd.to_string())).ok()
}
