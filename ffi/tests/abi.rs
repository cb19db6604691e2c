//! The library that is linked is the one whose headers were read, and Rust lays out what we touch as C does.

use std::{
    ffi::CStr,
    mem::{align_of, offset_of, size_of},
};

use dpdk_sys::*;

#[test]
fn linked_version_is_header_version() {
    // SAFETY: these take nothing and only return constants of the library.
    let linked = unsafe { (rte_version_year(), rte_version_month(), rte_version_minor()) };
    let header = (DPDK_HEADER_VERSION >> 24, DPDK_HEADER_VERSION >> 16 & 0xff, DPDK_HEADER_VERSION >> 8 & 0xff);
    assert_eq!(linked, header, "DPDK's headers and its shared libraries are of different versions");
    assert!(header >= (22, 11, 0), "older than the supported floor: {header:?}");
}

/// `(name, size, align or offset)` as Rust sees it.
type Seen = (&'static str, usize, usize);

fn size_of_field<S, F>(_: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! seen {
    ($($s:ident { $($f:ident),* })*) => {
        [$(
            &[(stringify!($s), size_of::<$s>(), align_of::<$s>())][..],
            &[$((concat!(stringify!($s), ".", stringify!($f)),
                size_of_field::<$s, _>(|s| &s.$f),
                offset_of!($s, $f))),*][..],
        )*].concat()
    };
}

#[test]
fn layouts_agree_with_c() {
    let mut count = 0;
    // SAFETY: returns a static array of `count` elements.
    let c = unsafe {
        let first = shim_layouts(&mut count);
        std::slice::from_raw_parts(first, count)
    };
    let c: Vec<(String, usize, usize)> = c
        .iter()
        // SAFETY: the names are string literals.
        .map(|l| (unsafe { CStr::from_ptr(l.name) }.to_str().unwrap().to_owned(), l.size, l.align_or_offset))
        .collect();
    let mbuf = |field: &'static str, size, offset: u32| (field, size, offset as usize);
    let mut rust: Vec<Seen> = vec![
        mbuf("rte_mbuf.buf_addr", 8, DPDK_MBUF_BUF_ADDR),
        mbuf("rte_mbuf.data_off", 2, DPDK_MBUF_DATA_OFF),
        mbuf("rte_mbuf.nb_segs", 2, DPDK_MBUF_NB_SEGS),
        mbuf("rte_mbuf.port", 2, DPDK_MBUF_PORT),
        mbuf("rte_mbuf.ol_flags", 8, DPDK_MBUF_OL_FLAGS),
        mbuf("rte_mbuf.pkt_len", 4, DPDK_MBUF_PKT_LEN),
        mbuf("rte_mbuf.data_len", 2, DPDK_MBUF_DATA_LEN),
        mbuf("rte_mbuf.buf_len", 2, DPDK_MBUF_BUF_LEN),
        mbuf("rte_mbuf.tx_offload", 8, DPDK_MBUF_TX_OFFLOAD),
    ];
    rust.extend(seen! {
        rte_ether_addr { addr_bytes }
        rte_malloc_socket_stats { heap_totalsz_bytes, heap_freesz_bytes, greatest_free_size }
        rte_eth_rxconf { offloads }
        rte_eth_txconf { offloads }
        rte_eth_desc_lim { nb_max, nb_min, nb_align }
        rte_eth_stats { ipackets, opackets, ibytes, obytes, imissed, ierrors, oerrors, rx_nombuf }
        rte_eth_dev_info {
            device, driver_name, min_mtu, max_mtu, max_rx_queues, max_tx_queues, rx_offload_capa, tx_offload_capa,
            flow_type_rss_offloads, default_rxconf, default_txconf, rx_desc_lim, tx_desc_lim, nb_rx_queues,
            nb_tx_queues
        }
    });
    for (name, size, at) in &c {
        if name == "rte_mbuf" {
            // Opaque, only ever behind a pointer: its size is all that Rust knows.
            assert_eq!(size_of::<rte_mbuf>(), *size);
            continue;
        }
        let seen = rust.iter().find(|(n, ..)| n == name).unwrap_or_else(|| panic!("{name} is not checked"));
        assert_eq!((seen.1, seen.2), (*size, *at), "{name}: (size, align or offset) in Rust and in C");
    }
    assert_eq!(rust.len() + 1, c.len(), "both tables name the same structs and fields");
}

#[test]
fn tx_offload_packs_the_header_lengths() {
    assert_eq!(compat::tx_offload(14, 20), 14 | 20 << 7, "7 bits of l2_len, then 9 of l3_len, as in rte_mbuf_core.h");
}
