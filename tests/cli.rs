//! The program `netpoll`, as a user has it: what it prints, writes, and exits with.

#[path = "../engine/src/netpoll/filter/bad_frames.rs"]
mod bad_frames;
#[path = "cli/config.rs"]
mod config;
#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/disks.rs"]
mod disks;
#[path = "cli/faults.rs"]
mod faults;
#[path = "cli/outputs.rs"]
mod outputs;
#[path = "cli/pktgen.rs"]
mod pktgen;
#[path = "cli/readme.rs"]
mod readme;
#[path = "cli/reload.rs"]
mod reload;
#[path = "cli/restart.rs"]
mod restart;
#[path = "cli/ring.rs"]
mod ring;
#[path = "cli/sandbox.rs"]
mod sandbox;
#[path = "cli/signals.rs"]
mod signals;
#[path = "cli/spread.rs"]
mod spread;
#[path = "cli/strangers.rs"]
mod strangers;
#[path = "cli/support.rs"]
mod support;
#[path = "cli/usage.rs"]
mod usage;
#[path = "cli/vdev.rs"]
mod vdev;

use netpoll::netpoll::filter::Reason;
