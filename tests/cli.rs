//! The program `netpoll`, as a user has it: what it prints, writes, and exits with.

#[path = "cli/config.rs"]
mod config;
#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/reload.rs"]
mod reload;
#[path = "cli/signals.rs"]
mod signals;
#[path = "cli/support.rs"]
mod support;
#[path = "cli/usage.rs"]
mod usage;
#[path = "cli/vdev.rs"]
mod vdev;
