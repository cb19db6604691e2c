//! Pools of mbufs.
//!
//! A pool outlives its mbufs. Its owner's end with mbufs still out is somebody's leak: the pool is then
//! kept for good, EAL with it, and an error is logged; freeing it would hand out freed memory.
//!
//! That the buffers are all back is read from the pool's counts, so nothing may touch the pool once a
//! buffer counts as back. That holds for a single free and for the burst of a stranger, which go past
//! the lcore caches (`shim_free_one`), and for a queue's own bursts, since a queue holds its pool. It does not
//! hold for a frame that one port's queue transmits out of another port's pool and whose driver frees it
//! on another thread in the very moment in which that pool's port is closed: close ports that forward to each
//! other after the poll loops of both have ended, as the engine does.

use std::{
    ffi::CString,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{
    args::Memory,
    eal::Eal,
    error::{DpdkError, Errno, Result},
    log,
    mbuf::Mbuf,
};
use crate::ids::NumaSocket;

/// EAL's room for a pool's name, without its own prefix and the end.
const NAME_LEN: usize = 25;

/// Tells pools of one name apart; a leaked one keeps its name. Relaxed: each number is given out once, which is all.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A pool of mbufs of one size.
#[derive(Debug)]
pub struct Mempool {
    raw: NonNull<dpdk_sys::rte_mempool>,
    name: String,
    count: u32,
    /// Buffers that the driver is known never to give back (net_af_xdp). Relaxed: a count among counts, each as of some moment.
    kept: AtomicU32,
    eal: Arc<Eal>,
}

// SAFETY: a mempool is a multi-producer, multi-consumer structure: any thread may take and put.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// A pool of `count` mbufs with room for a frame of `data_room` bytes each (the headroom comes on top), of
    /// which each lcore caches up to `cache`.
    pub fn new(
        eal: &Arc<Eal>,
        name: &str,
        count: u32,
        cache: u32,
        data_room: u16,
        socket: NumaSocket,
    ) -> Result<Arc<Mempool>> {
        let serial = format!("-{}", SERIAL.fetch_add(1, Ordering::Relaxed));
        let short: String = name.chars().filter(char::is_ascii_graphic).take(NAME_LEN - serial.len()).collect();
        let name = short + &serial;
        let c_name = CString::new(name.as_str()).unwrap_or_default();
        let room = data_room.saturating_add(dpdk_sys::DPDK_PKTMBUF_HEADROOM as u16);
        // EAL's own bounds on a cache.
        let cache = cache.min(512).min(count * 2 / 3);
        let control = eal.control();
        let start = log::mark();
        // SAFETY: EAL runs, the name is a string; DPDK checks the numbers.
        let raw = unsafe { dpdk_sys::rte_pktmbuf_pool_create(c_name.as_ptr(), count, cache, 0, room, socket.0) };
        let Some(raw) = NonNull::new(raw) else {
            let errno = Errno::last();
            drop(control);
            // An mbuf's own header, and the mempool's per object.
            let wanted_bytes = u64::from(count) * (size_of::<dpdk_sys::rte_mbuf>() as u64 + 64 + u64::from(room));
            return Err(DpdkError::NoMemory {
                what: format!("pool {name} of {count} mbufs"),
                wanted_bytes,
                free_bytes: free_bytes(),
                errno,
                advice: advice(eal.memory()),
                log: start.quote(),
            });
        };
        drop(control);
        Ok(Arc::new(Mempool { raw, name, count, kept: AtomicU32::new(0), eal: eal.clone() }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Mbufs in all.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Mbufs that someone holds now: a ring, a descriptor, a queue, a client. Any thread; a snapshot while
    /// others take and put; walks every lcore's cache.
    pub fn in_use(&self) -> u32 {
        self.count.saturating_sub(self.available()).saturating_sub(self.kept.load(Ordering::Relaxed))
    }

    /// Mbufs that can be had now.
    pub fn available(&self) -> u32 {
        // SAFETY: the pool lives as long as `self`.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.raw.as_ptr()) }
    }

    /// Writes off what the driver holds now: it is not going to give that back.
    pub(super) fn write_off(&self) {
        self.kept.store(self.in_use(), Ordering::Relaxed);
    }

    /// Takes the write-off back if the driver, which is closed now, did give its mbufs back after all.
    pub(super) fn settle(&self) {
        if self.count.saturating_sub(self.available()) < self.kept.load(Ordering::Relaxed) {
            self.kept.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn raw(&self) -> *mut dpdk_sys::rte_mempool {
        self.raw.as_ptr()
    }

    /// Appends up to `count` mbufs, as many as there are, without growing `frames`.
    pub(super) fn alloc(&self, frames: &mut Vec<Mbuf>, count: usize) -> usize {
        let count = count.min(frames.capacity() - frames.len());
        let len = frames.len();
        // SAFETY: there is spare room for `count` pointers, and `Mbuf` is one; the vector's length covers
        // them only once they were written.
        let got = unsafe {
            let mut to = frames.as_mut_ptr().add(len).cast::<*mut dpdk_sys::rte_mbuf>();
            if dpdk_sys::shim_alloc_bulk(self.raw(), to, count as u32) == 0 {
                count
            } else {
                // Fewer than `count` are left: take those one by one.
                let mut got = 0;
                while got < count && dpdk_sys::shim_alloc_bulk(self.raw(), to, 1) == 0 {
                    to = to.add(1);
                    got += 1;
                }
                got
            }
        };
        // SAFETY: as above.
        unsafe { frames.set_len(len + got) };
        got
    }

    /// Gives all of `frames` back, whichever pools they are of.
    pub(super) fn free(&self, frames: &mut Vec<Mbuf>) {
        let count = frames.len();
        // SAFETY: the vector gives up its mbufs before they are freed; they are valid and ours.
        unsafe {
            frames.set_len(0);
            dpdk_sys::shim_free_burst(self.raw(), frames.as_mut_ptr().cast(), count as u32);
        }
    }
}

impl Drop for Mempool {
    fn drop(&mut self) {
        let out = self.in_use();
        if out == 0 {
            let _control = self.eal.control();
            // SAFETY: every mbuf is back, and this was the pool's last owner.
            unsafe { dpdk_sys::rte_mempool_free(self.raw.as_ptr()) };
        } else {
            tracing::error!(pool = self.name, mbufs = out, "mbufs are out at the pool's end; the pool is never freed");
            // Its memory belongs to EAL, which must not be cleaned up either.
            std::mem::forget(self.eal.clone());
        }
    }
}

/// What is free in DPDK's memory, on all sockets.
fn free_bytes() -> u64 {
    let mut free = 0;
    for socket in 0..8 {
        let mut stats = std::mem::MaybeUninit::uninit();
        // SAFETY: a socket that is not there is refused (-1); otherwise the structure is filled in.
        unsafe {
            if dpdk_sys::rte_malloc_get_socket_stats(socket, stats.as_mut_ptr()) == 0 {
                let stats: dpdk_sys::rte_malloc_socket_stats = stats.assume_init();
                free += stats.heap_freesz_bytes as u64;
            }
        }
    }
    free
}

fn advice(memory: Memory) -> &'static str {
    match memory {
        Memory::NoHuge { .. } => "raise the memory (`-m` in megabytes), or use fewer mbufs, queues or descriptors",
        Memory::Hugepages { .. } => {
            "reserve more hugepages (`sysctl -w vm.nr_hugepages=...`), or use fewer mbufs, queues or descriptors"
        }
    }
}
