//! What the fuzz targets do with an input: panic if a promise was broken, whatever the input is.
//!
//! The targets in `fuzz_targets/` call these from libFuzzer; `tests/fuzz_replay.rs` includes this file and calls them
//! on the checked-in corpus, without a fuzzing toolchain. `tests/fuzz/README.md` says how to add to it.

// The replay includes only what it calls.
#![allow(dead_code)]

pub mod config;
pub mod decode;
pub mod frame;
pub mod input;
pub mod netconsole;
pub mod options;
pub mod spool;
pub mod syslog;

/// A target: its name, which is that of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 6] = [
    ("frame", frame::run),
    ("netconsole", netconsole::run),
    ("syslog", syslog::run),
    ("options", options::run),
    ("config", config::run),
    ("spool", spool::run),
];
