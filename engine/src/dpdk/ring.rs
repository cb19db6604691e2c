//! Two ports joined by rings.
//!
//! Queue *n* of a port is the only producer and the only consumer of its two rings (a queue has one
//! owner), so the rings are single-producer, single-consumer.

use std::{
    ffi::CString,
    ptr::NonNull,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    device::{self, Device},
    eal::Eal,
    error::{DpdkError, Errno, Result},
    log,
    mempool::Mempool,
};
use crate::ids::PortId;

/// One port's side of the rings.
#[derive(Debug)]
pub(super) struct RingLink {
    rings: Arc<Rings>,
    side: usize,
}

/// The rings themselves; freed after both ports.
#[derive(Debug)]
struct Rings {
    /// Per side, the rings that it receives from.
    rx: [Vec<NonNull<dpdk_sys::rte_ring>>; 2],
    /// Pools of a closed port whose frames may still be on their way to the other one.
    pools: Mutex<Vec<Arc<Mempool>>>,
    eal: Arc<Eal>,
}

// SAFETY: the rings are used through the ports' queues, one owner each; `drain` says when it may be called.
unsafe impl Send for Rings {}
// SAFETY: as above.
unsafe impl Sync for Rings {}

impl RingLink {
    pub(super) fn pair(eal: &Arc<Eal>, names: [&str; 2], queues: u16, size: u32) -> Result<(Device, Device)> {
        let bad = |port: &str, problem: &str| DpdkError::BadSetup { port: port.into(), problem: problem.into() };
        if queues == 0 || queues > 16 {
            return Err(bad(names[0], "a ring port has 1 to 16 queues"));
        }
        if !size.is_power_of_two() || !(2..=1 << 20).contains(&size) {
            return Err(bad(
                names[0],
                &format!("its rings cannot have {size} places; choose a power of two, 2 to 1048576"),
            ));
        }
        let mut rings = Rings { rx: [Vec::new(), Vec::new()], pools: Mutex::default(), eal: eal.clone() };
        for (side, name) in names.into_iter().enumerate() {
            // RTE_RING_NAMESIZE, less DPDK's "net_ring_" and ours.
            if name.is_empty() || name.len() > 15 || !name.bytes().all(|b| b.is_ascii_graphic() && b != b',') {
                return Err(bad(name, "a ring port's name has 1 to 15 printable characters, no comma"));
            }
            for queue in 0..queues {
                rings.rx[side].push(create(eal, &format!("np_{name}_{queue}"), size)?);
            }
        }
        let rings = Arc::new(rings);
        let a = port(eal, names[0], &rings, 0)?;
        let b = port(eal, names[1], &rings, 1)?;
        Ok((a, b))
    }

    /// Frees what lies unread for this side, whose queues are gone.
    pub(super) fn drain(&self) {
        self.rings.drain(self.side);
    }

    /// Keeps the pools until nothing of theirs can be in a ring.
    pub(super) fn keep(&self, pools: &[Arc<Mempool>]) {
        self.rings.pools.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(pools);
    }
}

fn create(eal: &Arc<Eal>, name: &str, size: u32) -> Result<NonNull<dpdk_sys::rte_ring>> {
    let c_name = CString::new(name).unwrap_or_default();
    let _control = eal.control();
    let start = log::mark();
    let flags = dpdk_sys::DPDK_RING_F_SP_ENQ | dpdk_sys::DPDK_RING_F_SC_DEQ;
    // SAFETY: EAL runs; DPDK checks the name and the size.
    let ring = unsafe { dpdk_sys::rte_ring_create(c_name.as_ptr(), size, dpdk_sys::DPDK_SOCKET_ID_ANY, flags) };
    NonNull::new(ring).ok_or_else(|| match Errno::last() {
        Errno::EEXIST => DpdkError::AlreadyExists { device: name.into() },
        errno => device::call_error(
            "rte_ring_create",
            name,
            -errno.0,
            start,
            "give DPDK more memory, or choose smaller rings",
        ),
    })
}

fn port(eal: &Arc<Eal>, name: &str, rings: &Arc<Rings>, side: usize) -> Result<Device> {
    let c_name = CString::new(name).unwrap_or_default();
    let mut claims = eal.control();
    let start = log::mark();
    let array = |side: usize| (rings.rx[side].as_ptr().cast::<*mut dpdk_sys::rte_ring>(), rings.rx[side].len() as u32);
    let ((rx, rx_count), (tx, tx_count)) = (array(side), array(1 - side));
    // SAFETY: arrays of valid rings of the lengths given; the device copies the pointers, and the rings outlive it
    // (`RingLink`).
    let id =
        unsafe { dpdk_sys::rte_eth_from_rings(c_name.as_ptr(), rx.cast_mut(), rx_count, tx.cast_mut(), tx_count, 0) };
    if id < 0 {
        return Err(match Errno::last() {
            Errno::EEXIST => DpdkError::AlreadyExists { device: name.into() },
            errno => device::call_error("rte_eth_from_rings", name, -errno.0, start, "is the name free?"),
        });
    }
    let mut device = Device::claim(eal, &mut claims, PortId(id as u16))?;
    device.link = Some(RingLink { rings: rings.clone(), side });
    Ok(device)
}

impl Rings {
    /// `side`'s queues, the only consumers, are gone.
    fn drain(&self, side: usize) {
        for ring in &self.rx[side] {
            // SAFETY: a valid ring of mbufs, and nobody else takes from it.
            unsafe { dpdk_sys::shim_ring_drain(ring.as_ptr()) };
        }
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        // Both ports are closed. The pools follow, as a field.
        self.drain(0);
        self.drain(1);
        let _control = self.eal.control();
        for ring in self.rx.iter().flatten() {
            // SAFETY: empty, and used by nobody any more.
            unsafe { dpdk_sys::rte_ring_free(ring.as_ptr()) };
        }
    }
}
