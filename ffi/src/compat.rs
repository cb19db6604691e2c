//! What moves between DPDK releases, in one place. Known to have moved, and how it is kept out of the way:
//!
//! | release | what moved | here |
//! |---|---|---|
//! | 24.11 | `rte_mbuf` fields went into anonymous unions | read by offset, below |
//! | 23.11, 24.11 | `rte_eth_link` became a union of anonymous structs | `shim_link_get` |
//! | 23.11 | `rte_eth_rss_conf` grew a field; `rte_eth_conf` holds it | `shim_eth_configure` |
//! | 25.11 | `rte_eth_stats` lost its `q_*` arrays | only its scalar fields are used |
//! | any | `RTE_MAX_LCORE` and other build options | constants from the headers that are compiled against |

use core::ffi::c_void;

use crate::{
    DPDK_MBUF_BUF_ADDR, DPDK_MBUF_BUF_LEN, DPDK_MBUF_DATA_LEN, DPDK_MBUF_DATA_OFF, DPDK_MBUF_L2_LEN_SHIFT,
    DPDK_MBUF_L3_LEN_SHIFT, DPDK_MBUF_NB_SEGS, DPDK_MBUF_OL_FLAGS, DPDK_MBUF_PKT_LEN, DPDK_MBUF_TX_OFFLOAD, rte_mbuf,
};

macro_rules! field {
    ($get:ident, $set:ident, $offset:expr, $ty:ty) => {
        /// # Safety
        /// `m` points to an mbuf that nobody writes meanwhile.
        #[inline(always)]
        pub unsafe fn $get(m: *const rte_mbuf) -> $ty {
            // SAFETY: the offset comes from the C compiler, for a field of this type; the caller vouches for `m`.
            unsafe { m.byte_add($offset as usize).cast::<$ty>().read() }
        }

        /// # Safety
        /// `m` points to an mbuf that the caller alone uses.
        #[inline(always)]
        pub unsafe fn $set(m: *mut rte_mbuf, value: $ty) {
            // SAFETY: as above.
            unsafe { m.byte_add($offset as usize).cast::<$ty>().write(value) }
        }
    };
}

// `inline(always)`: each is one load or store at a constant offset.
field!(mbuf_buf_addr, mbuf_set_buf_addr, DPDK_MBUF_BUF_ADDR, *mut c_void);
field!(mbuf_data_off, mbuf_set_data_off, DPDK_MBUF_DATA_OFF, u16);
field!(mbuf_nb_segs, mbuf_set_nb_segs, DPDK_MBUF_NB_SEGS, u16);
field!(mbuf_ol_flags, mbuf_set_ol_flags, DPDK_MBUF_OL_FLAGS, u64);
field!(mbuf_pkt_len, mbuf_set_pkt_len, DPDK_MBUF_PKT_LEN, u32);
field!(mbuf_data_len, mbuf_set_data_len, DPDK_MBUF_DATA_LEN, u16);
field!(mbuf_buf_len, mbuf_set_buf_len, DPDK_MBUF_BUF_LEN, u16);
field!(mbuf_tx_offload, mbuf_set_tx_offload, DPDK_MBUF_TX_OFFLOAD, u64);

/// The value of `tx_offload` with these header lengths, in bytes, and nothing else.
#[inline]
pub const fn tx_offload(l2_len: u8, l3_len: u8) -> u64 {
    ((l2_len as u64) << DPDK_MBUF_L2_LEN_SHIFT) | ((l3_len as u64) << DPDK_MBUF_L3_LEN_SHIFT)
}
