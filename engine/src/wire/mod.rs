//! Wire formats on byte slices: parse and emit, byte-exact. No I/O, no clock, no allocation, no unsafe.
//!
//! Each protocol has a module with a *parse* that checks every length before it looks, and an *emit*
//! such that `parse(emit(x)) == x`. All multi-byte fields are big-endian on the wire and native in Rust.

mod mac;

pub use mac::{MacAddr, MacParseError};
