//! User-space netpoll: a DPDK-backed polling engine with many transmit clients and one receive hook a port.
//!
//! ```text
//! PMD -> rx_burst                                          client threads
//!         | up to one burst                                  | Netpoll::send: fills an mbuf that it was given
//!      poll   (only by the poll_owner lcore)                 ring (one a client, bounded)
//!         | filter                                           |
//!         +- ARP, echo -> answered in place -> send <--------+ drained fairly, dirty rings only
//!         +- UDP       -> the rx client's hook
//!         +- other     -> counted by reason                  send -> tx_burst -> PMD
//! ```
//!
//! Start with [`engine::Engine`] (EAL, poll loops, ports), set up clients with
//! [`Port::setup`](netpoll::Port::setup) and [`Port::setup_rx`](netpoll::Port::setup_rx), send with
//! [`Netpoll::send`](netpoll::Netpoll::send), receive in an [`RxHook`](netpoll::hook::RxHook). The examples `sender`,
//! `echo` and `two_clients` are whole programs.
//!
//! # Threads
//!
//! - A queue is polled by one lcore at a time: its `poll_owner`. Poll loops run on EAL's lcores; a program without them
//!   calls [`Netpoll::poll`](netpoll::Netpoll::poll) from a thread that is an lcore.
//! - A client sends from one thread at a time; [`Netpoll::shared`](netpoll::Netpoll::shared) is for several.
//! - Set-up and clean-up are for any thread but one that is inside a hook, and return after a grace period.
//!
//! # Teardown
//!
//! Clients first (`cleanup`, or drop), then [`Engine::stop`](engine::Engine::stop): loops drain and end, ports close,
//! mbufs are counted back; EAL is cleaned up with its last owner. Each owner holds what it needs, so another order is
//! refused or waits, it never frees what is in use.
//!
//! # Features
//!
//! `dpdk` (default): real ports. Without it everything else builds and tests on any machine, over ports in memory.
//! `store` (default): the log store. `cli` (default): the program.

pub mod config;
pub mod counters;
#[cfg(feature = "dpdk")]
pub mod dpdk;
#[cfg(feature = "dpdk")]
pub mod engine;
pub mod ids;
pub mod netpoll;
pub mod port;
#[cfg(feature = "dpdk")]
pub mod sandbox;
pub mod sink;
mod sync;
pub mod wire;

pub use ids::{LcoreId, NumaSocket, PortId, QueueId};
