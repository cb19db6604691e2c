//! `netpoll check`: is the config right, and what does it come to?

use std::path::PathBuf;

use clap::Args;
use netpoll::config::{self, LogLevel, Machine};
use serde_json::json;

use super::{log::LogArgs, out::Out};

/// Check a config file and print what it comes to, without starting anything.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  netpoll check -c /etc/netpoll.toml

Every mistake is told as FILE:LINE:COLUMN with what was found and what was expected; exit code 2.")]
pub(super) struct CheckArgs {
    /// The TOML file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(args: &CheckArgs, log: &LogArgs, out: Out) -> anyhow::Result<()> {
    log.start(LogLevel::Warn);
    let plan = config::load(&args.config, &Machine::here())?;
    let file = args.config.display();
    let counts = json!({
        "file": file.to_string(),
        "ok": true,
        "ports": plan.ports.len(),
        "clients": plan.clients.len(),
        "sinks": plan.sinks.len(),
    });
    out.event("check", format_args!("{plan}\n{file}: no mistake found"), counts);
    Ok(())
}
