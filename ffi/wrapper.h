/* What is bound: the headers, and as constants what bindgen cannot see (macros with casts or shifts)
 * or what must come from the C compiler (offsets of fields that move between DPDK releases). */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_config.h>
#include <rte_version.h>
#include <rte_errno.h>
#include <rte_eal.h>
#include <rte_lcore.h>
#include <rte_launch.h>
#include <rte_log.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_bus.h>
#include <rte_bus_vdev.h>
#include <rte_malloc.h>
#include <rte_mempool.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <rte_ether.h>
#include <rte_ethdev.h>
#include <rte_eth_ring.h>

#include "shim.h"

/* Macros that bindgen drops in silence. */
static const uint32_t DPDK_HEADER_VERSION = RTE_VERSION;
static const uint32_t DPDK_LCORE_ID_ANY = LCORE_ID_ANY;
static const uint32_t DPDK_MAX_LCORE = RTE_MAX_LCORE;
static const uint32_t DPDK_MAX_ETHPORTS = RTE_MAX_ETHPORTS;
static const int32_t DPDK_SOCKET_ID_ANY = SOCKET_ID_ANY;
static const uint32_t DPDK_PKTMBUF_HEADROOM = RTE_PKTMBUF_HEADROOM;

static const uint64_t DPDK_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t DPDK_RX_OFFLOAD_UDP_CKSUM = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t DPDK_TX_OFFLOAD_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t DPDK_TX_OFFLOAD_UDP_CKSUM = RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t DPDK_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t DPDK_RSS_UDP = RTE_ETH_RSS_UDP;

static const uint64_t DPDK_MBUF_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t DPDK_MBUF_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t DPDK_MBUF_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t DPDK_MBUF_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t DPDK_MBUF_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t DPDK_MBUF_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t DPDK_MBUF_TX_OFFLOAD_MASK = RTE_MBUF_F_TX_OFFLOAD_MASK;
static const uint64_t DPDK_MBUF_TX_IPV4_UDP_CKSUM =
	RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_UDP_CKSUM;

static const uint32_t DPDK_RING_F_SP_ENQ = RING_F_SP_ENQ;
static const uint32_t DPDK_RING_F_SC_DEQ = RING_F_SC_DEQ;

/* Fields of struct rte_mbuf by offset: 24.11 moves them into anonymous unions, the offsets stay. */
enum {
	DPDK_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	DPDK_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	DPDK_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	DPDK_MBUF_PORT = offsetof(struct rte_mbuf, port),
	DPDK_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	DPDK_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	DPDK_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	DPDK_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	DPDK_MBUF_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload),
	/* Bit positions inside tx_offload. */
	DPDK_MBUF_L2_LEN_SHIFT = RTE_MBUF_L2_LEN_OFS,
	DPDK_MBUF_L3_LEN_SHIFT = RTE_MBUF_L3_LEN_OFS,
};
