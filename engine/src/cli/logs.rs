//! `netpoll logs`: what a sink has stored, newest lines included.

use std::{
    io::{ErrorKind, stdout},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use netpoll::{
    config::{Formats, LogLevel},
    sink::{
        decode::DecodeConfig,
        query::{self, LogQuery, OutputFormat, QueryError},
    },
};
use regex::Regex;

use super::{
    exit::Usage,
    log::LogArgs,
    moment,
    stop::Stop,
    store::{self, Text, formats},
};

/// Print what a sink with Parquet output has stored: its Parquet files and what waits to become Parquet, as one.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  netpoll logs --dir logs --since 10m
  netpoll logs --dir logs --since 2026-11-23T14:00 --until 2026-11-23T15:00Z --host 10.99.0.2
  netpoll logs --dir logs --severity err --grep 'I/O error|timed? out' --format json
  netpoll logs --dir logs --field app=sshd --field user=root --format csv > root.csv
  netpoll logs --dir logs --follow
  netpoll logs --dir logs --gaps           messages that did not come, by source

Gaps are `never_sent`, `lost_on_the_way`, `lost_here` with the reason (shed_debug, disk_full...: what the sink dropped), `lost`
(one of the last two: at that time the sink or the NIC lost something of unknown sources), or `unknown` (no msgid to go by).

Times are when a line was received. It may run beside the sink, and sees a line once the sink has written it: after
its flush interval (0.1 s), extended netconsole with fragments or gaps up to a second later.")]
pub(super) struct LogsArgs {
    /// The sink's folder.
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
    /// Received then or later: `15m`, `2h`, `7d` ago, or `2026-11-23T14:00` in UTC, or with an offset
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    since: Option<u64>,
    /// Received before.
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    until: Option<u64>,
    /// Which time text shows: `sent` is by the sender's clock, a kernel's (netconsole) by an estimate of when it booted,
    /// `~52ms` is how far it may be off; where it is not known, `received`. JSON and CSV have both.
    #[arg(long, value_enum, value_name = "WHICH", default_value = "received")]
    time: Time,
    /// From this host, by the name in the line or the source address.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// As severe as this or more: 0 to 7 or emerg, alert, crit, err, warning, notice, info, debug
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    severity: Option<u8>,
    /// The message has a match of this regular expression.
    #[arg(long, value_name = "REGEX")]
    grep: Option<Regex>,
    /// A column or field has this value: `app=sshd`, `dst_port=514`, `SUBSYSTEM=net`; all of several
    #[arg(long, value_name = "NAME=VALUE", value_parser = field)]
    field: Vec<(String, String)>,
    /// Gaps instead of records: messages never sent or lost on the way. Only time and host select.
    #[arg(long, conflicts_with_all = ["severity", "grep", "field"])]
    gaps: bool,
    /// Go on with what comes, until SIGINT or SIGTERM.
    #[arg(short, long)]
    follow: bool,
    /// How to print.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
    /// How what is not yet Parquet is decoded [default: as the sink does]
    #[arg(long, value_name = "FORMAT", value_parser = formats)]
    decode: Option<Text<Formats>>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Time {
    Received,
    Sent,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
    Csv,
}

fn severity(text: &str) -> Result<u8, &'static str> {
    const NAMES: [&[&str]; 8] = [
        &["0", "emerg", "emergency", "panic"],
        &["1", "alert"],
        &["2", "crit", "critical"],
        &["3", "err", "error"],
        &["4", "warning", "warn"],
        &["5", "notice"],
        &["6", "info"],
        &["7", "debug"],
    ];
    let at = NAMES.iter().position(|names| names.contains(&text));
    at.map(|at| at as u8).ok_or("expected 0 to 7 or emerg, alert, crit, err, warning, notice, info, debug")
}

fn field(text: &str) -> Result<(String, String), &'static str> {
    let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
    parts.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or("expected NAME=VALUE")
}

pub(super) fn run(args: &LogsArgs, log: &LogArgs) -> anyhow::Result<()> {
    log.start(LogLevel::Warn);
    if !args.dir.join("spool").is_dir() && !args.dir.join("store").is_dir() {
        let dir = args.dir.display();
        let problem = format!(
            "{dir}: no sink with Parquet output has written there; text output is in {dir}/netpoll.log or netpoll.jsonl"
        );
        return Err(Usage(problem).into());
    }
    let decode = DecodeConfig::default();
    let typed = args.decode.as_ref().map(|Text(formats)| formats.clone());
    let listeners = typed.or_else(|| store::formats_of(&args.dir)).unwrap_or(decode.listeners);
    let query = LogQuery {
        from_ns: args.since,
        to_ns: args.until,
        host: args.host.clone(),
        severity: args.severity,
        regex: args.grep.clone(),
        fields: args.field.clone(),
        gaps: args.gaps,
        follow: args.follow,
        sent_time: matches!(args.time, Time::Sent),
        format: match args.format {
            Format::Text => OutputFormat::Text,
            Format::Json => OutputFormat::JsonLines,
            Format::Csv => OutputFormat::Csv,
        },
        decode: DecodeConfig { listeners, ..DecodeConfig::default() },
    };
    let stop = Stop::install().context("cannot handle signals")?;
    match query::run(&args.dir, &query, &mut stdout().lock(), stop.flag()) {
        Ok(stats) => {
            if stats.damage > 0 {
                tracing::warn!("a segment of the spool is damaged: what lies behind the damage cannot be read");
            }
            Ok(())
        }
        // `| head` has had enough.
        Err(QueryError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_and_fields() {
        assert_eq!((severity("err"), severity("warn"), severity("7")), (Ok(3), Ok(4), Ok(7)));
        assert!(severity("8").is_err() && severity("").is_err() && severity("ERR").is_err());
        assert_eq!(field("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(field("a").is_err() && field("=b").is_err());
    }
}
