//! User-space netpoll over DPDK.

pub mod config;
pub mod counters;
#[cfg(feature = "dpdk")]
pub mod dpdk;
#[cfg(feature = "dpdk")]
pub mod engine;
pub mod ids;
pub mod netpoll;
pub mod port;
pub mod sink;
mod sync;
pub mod wire;

pub use ids::{LcoreId, NumaSocket, PortId, QueueId};
