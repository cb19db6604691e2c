//! Raw bindings to DPDK, 22.11 and later. No policy: owners and safety are the business of whoever
//! depends on this crate.
//!
//! - `rte_*`: what the headers declare, by bindgen over an allowlist (`build.rs`).
//! - `shim_*`: one C function for each static inline call, thread-local variable or structure that Rust
//!   cannot use (`shim.c`).
//! - `DPDK_*`: constants that bindgen drops, and field offsets (`wrapper.h`).
//! - [`compat`]: what moves between DPDK releases.
//!
//! Linked dynamically; EAL then loads the drivers from DPDK's plugin directory.

#![allow(unsafe_code, missing_docs)]

pub mod compat;

#[allow(non_camel_case_types, non_snake_case, non_upper_case_globals, clippy::all, clippy::undocumented_unsafe_blocks)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;
