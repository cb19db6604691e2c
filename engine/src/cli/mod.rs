//! What was typed, to commands, to printing.
//!
//! ```text
//! mod: parse, start the log, run one command, map its error to an exit code
//! check ports demo sink logs send run one file a command; pktgen/ a folder
//! machine port moment sandbox store   what was typed -> EAL, ports, clients
//! feed                                lines read -> clients that send them
//! ledger status out log stop          what is told, and when to end
//! ```
//! A command returns `anyhow::Result`; the error is printed here, once, and [`exit::code`] says what it exits with.

mod chatter;
mod check;
mod demo;
mod exit;
mod feed;
mod ledger;
mod lines;
mod log;
mod logs;
mod machine;
mod moment;
mod out;
mod pace;
mod pktgen;
mod port;
mod ports;
mod room;
mod run;
mod sandbox;
mod send;
mod session;
mod sink;
mod status;
mod stop;
mod store;
mod style;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::out::Out;

/// User-space netpoll over DPDK: many senders and one log sink on ports that never enter the kernel.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    log: log::LogArgs,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  netpoll demo                          see it work: no root, no NIC, no hugepages
  netpoll pktgen                        send at a rate, measure loss and latency: the same
  netpoll ports                         what DPDK sees on this machine
  netpoll sink --vdev net_tap0,iface=np0 --ip 10.99.0.1/24 --listen 514,6666 --out logs
  netpoll logs --dir logs --since 10m   what a sink with --output parquet has stored
  netpoll run -c /etc/netpoll.toml      the engine as configured

Arguments after `--` go to DPDK's EAL as they are: netpoll ports -- --log-level=eal:debug
Exit codes: 0 done, 1 failed at run time, 2 bad usage or config.";

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Sink(Box<sink::SinkArgs>),
    Logs(logs::LogsArgs),
    Send(send::SendArgs),
    Pktgen(Box<pktgen::PktgenArgs>),
    Run(run::RunArgs),
    Ports(ports::PortsArgs),
    Check(check::CheckArgs),
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and are no failure. A closed pipe is no news to anybody.
            let _ = error.print();
            return exit::usage(&error);
        }
    };
    let mut out = Out::new(cli.log.format());
    let result = match cli.command {
        Command::Demo(args) => demo::run(&args, &cli.log, out),
        Command::Sink(args) => sink::run(&args, &cli.log, out),
        Command::Logs(args) => logs::run(&args, &cli.log),
        Command::Send(args) => send::run(&args, &cli.log, out),
        Command::Pktgen(args) => pktgen::run(&args, &cli.log, out),
        Command::Run(args) => run::run(&args, &cli.log, &mut out),
        Command::Ports(args) => ports::run(&args, &cli.log, out),
        Command::Check(args) => check::run(&args, &cli.log, out),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out.error(&error);
            exit::code(&error)
        }
    }
}
