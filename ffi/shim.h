/* C functions for what Rust cannot call: static inline functions, thread-local variables, variadic or
 * moving structures. No policy. */
#ifndef DPDK_SYS_SHIM_H
#define DPDK_SYS_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct rte_mbuf;
struct rte_mempool;
struct rte_ring;
struct rte_devargs;

int shim_errno(void);
uint32_t shim_lcore_id(void);

/* The CPU's counter, and whether it counts at one rate whatever the CPU does. */
uint64_t shim_ticks(void);
bool shim_ticks_are_steady(void);

/* A stream for rte_openlog_stream(): `sink` gets every chunk written, with the level of the message
 * that the calling thread is logging (RTE_LOG_*). NULL when there is no memory for it. */
typedef void (*shim_log_sink)(int level, const char *text, size_t len);
FILE *shim_log_stream(shim_log_sink sink);

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count);
uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count);

/* All or nothing: 0, or a negative errno. */
int shim_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **frames, unsigned int count);

/* Frees one frame past the lcore cache, so that nothing of the pool is touched once the buffer counts as
 * available: whoever sees all buffers back may free the pool. */
void shim_free_one(struct rte_mbuf *frame);

/* Frees a burst. The common case, every frame plain and from `pool`, is one put. */
void shim_free_burst(struct rte_mempool *pool, struct rte_mbuf **frames, unsigned int count);

/* Frees every frame that the ring holds and says how many. The caller is its only consumer. */
unsigned int shim_ring_drain(struct rte_ring *ring);

/* rte_eth_link_get_nowait(): 0 or a negative errno. Speed in Mbit/s, 0 if unknown. */
int shim_link_get(uint16_t port, bool *up, uint32_t *speed_mbps);

/* What RSS hashes on this port now (RTE_ETH_RSS_*); 0 = there is none. */
uint64_t shim_rss_get(uint16_t port);
/* rte_eth_dev_configure() with the few settings that we use. `rss_hf` 0 = no RSS; `mtu` 0 = the default. */
int shim_eth_configure(uint16_t port, uint16_t rx_queues, uint16_t tx_queues, uint64_t rx_offloads,
		       uint64_t tx_offloads, uint64_t rss_hf, uint32_t mtu);

/* Whether the descriptor is an AF_XDP socket. */
bool shim_is_xdp_socket(int fd);

/* The driver's arguments of a device, or NULL. */
const char *shim_devargs_args(const struct rte_devargs *devargs);

/* The layout that the C compiler gives to what bindgen has read: `name` is "struct" or "struct.field". */
struct shim_layout {
	const char *name;
	size_t size;
	size_t align_or_offset;
};
const struct shim_layout *shim_layouts(size_t *count);

#endif
