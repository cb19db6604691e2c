//! Wire formats on byte slices: parse and emit, byte-exact. No I/O, no clock, no allocation, no unsafe (but to call AVX2: `checksum`).
//!
//! Each protocol has a module with a *parse* that checks every length before it looks, and an *emit*
//! such that `parse(emit(x)) == x`. All multi-byte fields are big-endian on the wire and native in Rust.
//!
//! A parse takes the bytes from its own header on (never a whole frame with an assumed offset), so the
//! same code serves tagged and untagged frames. What changes a frame in place takes the frame and the
//! offset of the header in it.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
mod mac;
pub mod template;
pub mod udp;
pub mod vlan;

pub use mac::{MacAddr, MacParseError};
pub use template::{UdpFlow, UdpTemplate};
