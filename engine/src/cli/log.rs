//! The program's own log: `tracing` to stderr.

use clap::{Args, ValueEnum};
use netpoll::config::{LogFormat, LogLevel, LogPlan};
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// `--log-format`, `-v`, `-q`: for every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub(super) struct LogArgs {
    /// How results and log lines look: for people, or one JSON object a line for machines.
    #[arg(long, value_enum, value_name = "FORMAT", global = true)]
    log_format: Option<Format>,
    /// Log more to stderr: -v DPDK's own words, -vv everything.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    /// Log errors only.
    #[arg(short, long, conflicts_with = "verbose", global = true)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl LogArgs {
    /// The format, as typed or else text.
    pub(super) fn format(&self) -> LogFormat {
        self.typed_format().unwrap_or(LogFormat::Text)
    }

    /// Starts the log at level `default` unless the user said otherwise.
    pub(super) fn start(&self, default: LogLevel) {
        // An error of ours quotes what DPDK said. What else it says while it looks around is noise to most.
        self.install(self.format(), self.level(default), LevelFilter::OFF);
    }

    /// Starts the log as a config file says, unless the user said otherwise; the format that this comes to.
    pub(super) fn start_as(&self, plan: &LogPlan) -> LogFormat {
        let format = self.typed_format().unwrap_or(plan.format);
        self.install(format, self.level(plan.level), LevelFilter::ERROR);
        format
    }

    fn typed_format(&self) -> Option<LogFormat> {
        self.log_format.map(|format| match format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        })
    }

    fn level(&self, default: LogLevel) -> LevelFilter {
        match (self.quiet, self.verbose) {
            (true, _) => LevelFilter::ERROR,
            (false, 1) => LevelFilter::DEBUG,
            (false, 2..) => LevelFilter::TRACE,
            (false, 0) => match default {
                LogLevel::Error => LevelFilter::ERROR,
                LogLevel::Warn => LevelFilter::WARN,
                LogLevel::Info => LevelFilter::INFO,
                LogLevel::Debug => LevelFilter::DEBUG,
                LogLevel::Trace => LevelFilter::TRACE,
            },
        }
    }

    /// `dpdk`: the level of DPDK's own words where the user did not ask for more.
    fn install(&self, format: LogFormat, level: LevelFilter, dpdk: LevelFilter) {
        let dpdk = if self.verbose > 0 { level } else { dpdk };
        let filter = Targets::new().with_default(level).with_target("dpdk", dpdk);
        let log = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        let layer = match format {
            LogFormat::Text => log.with_filter(filter).boxed(),
            LogFormat::Json => log.json().flatten_event(true).with_filter(filter).boxed(),
        };
        // Refused only if there is a log already: there is one command a process.
        let _ = tracing_subscriber::registry().with(layer).try_init();
    }
}
