//! One frame's buffer.

use std::{fmt, ptr::NonNull, slice};

use dpdk_sys::{compat, rte_mbuf};

use crate::port::{ChecksumVerdict, Frame};

/// An mbuf that we own, alone: nothing here clones one, so no two owners share its bytes.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an mbuf belongs to no thread; freeing it puts it into a multi-producer pool.
unsafe impl Send for Mbuf {}

const RX_VERDICTS: u64 = dpdk_sys::DPDK_MBUF_RX_IP_CKSUM_MASK | dpdk_sys::DPDK_MBUF_RX_L4_CKSUM_MASK;

const RX_BOTH_GOOD: u64 = dpdk_sys::DPDK_MBUF_RX_IP_CKSUM_GOOD | dpdk_sys::DPDK_MBUF_RX_L4_CKSUM_GOOD;

/// What the flags say of IPv4 header and UDP.
#[cold] // Of a driver that says something, nearly every frame is good; taken apart in the filter's loop it costs all others.
fn verdicts(flags: u64) -> (ChecksumVerdict, ChecksumVerdict) {
    let verdict = |flags, good, bad| match flags {
        flags if flags == good => ChecksumVerdict::Good,
        flags if flags == bad => ChecksumVerdict::Bad,
        // Not looked at; or both bits, "no checksum but the data is right" (virtio), which says nothing here.
        _ => ChecksumVerdict::Unknown,
    };
    let ip = flags & dpdk_sys::DPDK_MBUF_RX_IP_CKSUM_MASK;
    let udp = flags & dpdk_sys::DPDK_MBUF_RX_L4_CKSUM_MASK;
    (
        verdict(ip, dpdk_sys::DPDK_MBUF_RX_IP_CKSUM_GOOD, dpdk_sys::DPDK_MBUF_RX_IP_CKSUM_BAD),
        verdict(udp, dpdk_sys::DPDK_MBUF_RX_L4_CKSUM_GOOD, dpdk_sys::DPDK_MBUF_RX_L4_CKSUM_BAD),
    )
}

impl Mbuf {
    #[inline]
    fn ol_flags(&self) -> u64 {
        // SAFETY: a valid mbuf, borrowed.
        unsafe { compat::mbuf_ol_flags(self.0.as_ptr()) }
    }

    #[inline]
    fn clear_flags(&mut self, mask: u64) {
        let flags = self.ol_flags();
        // Written only if needed: a frame that is just looked at keeps its cache line clean.
        if flags & mask != 0 {
            // SAFETY: a valid mbuf, borrowed for us alone.
            unsafe { compat::mbuf_set_ol_flags(self.0.as_ptr(), flags & !mask) };
        }
    }

    /// Says of the frame that both its checksums were found good, as a NIC does: for who has checked them by other means.
    #[inline]
    pub fn set_checksums_good(&mut self) {
        // SAFETY: a valid mbuf, borrowed for us alone.
        unsafe { compat::mbuf_set_ol_flags(self.0.as_ptr(), self.ol_flags() & !RX_VERDICTS | RX_BOTH_GOOD) };
    }

    /// Where the first segment's bytes are, and how many.
    #[inline]
    fn segment(&self) -> (*mut u8, usize) {
        let m = self.0.as_ptr();
        // SAFETY: a valid mbuf, borrowed; `data_off` lies inside its buffer.
        unsafe {
            let start = compat::mbuf_buf_addr(m).cast::<u8>().add(usize::from(compat::mbuf_data_off(m)));
            (start, usize::from(compat::mbuf_data_len(m)))
        }
    }
}

impl Frame for Mbuf {
    #[inline]
    fn data(&self) -> &[u8] {
        let (start, len) = self.segment();
        // SAFETY: DPDK keeps data_off + data_len inside the buffer, which was written when the pool was made
        // or received into; the borrow of `self` keeps it ours.
        unsafe { slice::from_raw_parts(start, len) }
    }

    /// What the NIC found out about the bytes no longer holds once they may change, so its verdicts go.
    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        self.clear_flags(RX_VERDICTS);
        let (start, len) = self.segment();
        // SAFETY: as in `data`, and borrowed for us alone.
        unsafe { slice::from_raw_parts_mut(start, len) }
    }

    /// Of a frame in several segments there is none: `None`.
    #[inline]
    fn resize(&mut self, len: usize) -> Option<&mut [u8]> {
        let m = self.0.as_ptr();
        // SAFETY: a valid mbuf, borrowed for us alone.
        let room = unsafe { compat::mbuf_buf_len(m).saturating_sub(compat::mbuf_data_off(m)) };
        if len > usize::from(room) || !self.is_contiguous() {
            return None;
        }
        self.clear_flags(RX_VERDICTS | dpdk_sys::DPDK_MBUF_TX_OFFLOAD_MASK);
        // SAFETY: as above, and `len` fits in the buffer behind `data_off`.
        unsafe {
            compat::mbuf_set_data_len(m, len as u16);
            compat::mbuf_set_pkt_len(m, len as u32);
        }
        let (start, len) = self.segment();
        // SAFETY: as in `data_mut`.
        Some(unsafe { slice::from_raw_parts_mut(start, len) })
    }

    #[inline]
    fn is_contiguous(&self) -> bool {
        // SAFETY: a valid mbuf, borrowed.
        unsafe { compat::mbuf_nb_segs(self.0.as_ptr()) == 1 }
    }

    #[inline]
    fn checksums(&self) -> (ChecksumVerdict, ChecksumVerdict) {
        match self.ol_flags() & RX_VERDICTS {
            0 => (ChecksumVerdict::Unknown, ChecksumVerdict::Unknown),
            RX_BOTH_GOOD => (ChecksumVerdict::Good, ChecksumVerdict::Good),
            flags => verdicts(flags),
        }
    }

    #[inline]
    fn request_tx_checksum(&mut self, l2_len: u8, l3_len: u8) {
        let m = self.0.as_ptr();
        let flags = self.ol_flags() & !RX_VERDICTS & !dpdk_sys::DPDK_MBUF_TX_OFFLOAD_MASK;
        // SAFETY: a valid mbuf, borrowed for us alone.
        unsafe {
            compat::mbuf_set_ol_flags(m, flags | dpdk_sys::DPDK_MBUF_TX_IPV4_UDP_CKSUM);
            compat::mbuf_set_tx_offload(m, compat::tx_offload(l2_len, l3_len));
        }
    }
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: a valid mbuf, ours alone, not used again; its pool lives while its mbufs do.
        unsafe { dpdk_sys::shim_free_one(self.0.as_ptr()) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf").field("len", &self.data().len()).field("contiguous", &self.is_contiguous()).finish()
    }
}
