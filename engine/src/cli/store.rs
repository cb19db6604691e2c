//! The store beside a sink: what was typed, the converter, its part of the ledger.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use netpoll::{
    config::Formats,
    sink::{
        SinkConfig, SinkLedger, Template, TextConfig, TextFormat,
        decode::{DecodeConfig, Listen, parse_listeners, show_listeners},
        store::{Converter, ConverterThread, StoreConfig, StoreLimits},
    },
};

use super::{exit::Usage, ledger::Ledger, moment};

/// What a sink writes, for how long.
#[derive(Args, Debug)]
pub(super) struct StoreArgs {
    /// What to write: lines of text or JSON objects (netpoll.log, netpoll.jsonl: one of one datagram, at once), decoded
    /// records as Parquet; one of the first two beside the last: `jsonl,parquet`. `both` is `text,parquet`.
    #[arg(long, value_enum, value_name = "OUTPUTS", value_delimiter = ',', default_value = "text")]
    output: Vec<Output>,
    /// How a line of text is made of a datagram: names of columns in braces, `source`, `payload` and `field.NAME`. What
    /// they name is decoded from that one datagram: fragments stay apart. [default: time, source, payload]
    #[arg(long, value_name = "TEMPLATE", value_parser = template)]
    template: Option<Template>,
    /// Text files roll before they grow larger. `100M`, `1G`. [default: 256M]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    roll_bytes: Option<u64>,
    /// Text files roll when their first line is this old: `90s`, `15m`, `1h`, `1d`. [default: 1d]
    #[arg(long, value_name = "AGE", value_parser = moment::span)]
    roll_age: Option<Duration>,
    /// Rolled text files are compressed.
    #[arg(long)]
    zstd: bool,
    /// How datagrams are decoded: auto, netconsole, netconsole-basic, netconsole-extended, syslog or raw;
    /// by port: `514=syslog,6666=netconsole,auto` (this is the default)
    #[arg(long, value_name = "FORMAT", value_parser = formats)]
    format: Option<Text<Formats>>,
    /// Most bytes of Parquet, and of text, that are kept: the oldest go. `500M`, `20G`.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    keep_bytes: Option<u64>,
    /// Lines that one source may send in a second: a second's worth at once, then at this rate. The rest is dropped and
    /// counted as source_rate; the log says when a source begins to be limited, and when it ends.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_lines_per_source_per_s: Option<u32>,
    /// Days that Parquet files, and rolled text files, are kept.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    keep_days: Option<u32>,
    /// Bytes of the disk that are left free: lines that would take them are dropped and counted. `0`: none
    /// [default: 128M]
    #[arg(long, value_name = "BYTES", value_parser = bytes_or_none)]
    min_free: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Jsonl,
    Parquet,
    Both,
}

fn template(text: &str) -> Result<Template, String> {
    Template::parse(text).map_err(|error| error.to_string())
}

/// The text output's files and lines; `jsonl`: as JSON.
pub(super) fn text(jsonl: bool, template: Option<&Template>, formats: Option<&Formats>) -> TextConfig {
    let text = TextConfig::default();
    let format = template.map_or(TextFormat::Payload, |template| TextFormat::Template(template.clone()));
    let listeners = formats.unwrap_or(&text.listeners).clone();
    match jsonl {
        true => TextConfig { file_name: "netpoll.jsonl".to_owned(), format: TextFormat::JsonLines, listeners, ..text },
        false => TextConfig { format, listeners, ..text },
    }
}

/// Keeps clap from taking a `Vec` for an option that repeats.
#[derive(Clone, Debug)]
pub(super) struct Text<T>(pub(super) T);

pub(super) fn formats(text: &str) -> Result<Text<Formats>, String> {
    parse_listeners(text).map(Text).ok_or_else(|| format!("expected {}", Listen::EXPECTED))
}

/// `1048576`, `500M`, `20G`, `2T`: of 1024.
fn bytes(text: &str) -> Result<u64, &'static str> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        Some(b'T' | b't') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number: Option<u64> = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    let bytes = number.filter(|number| *number > 0).and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or("expected a number of bytes like `500M` or `20G`")
}

fn bytes_or_none(text: &str) -> Result<u64, &'static str> {
    if text == "0" { Ok(0) } else { bytes(text) }
}

impl StoreArgs {
    fn any(&self, outputs: &[Output]) -> bool {
        self.output.iter().any(|output| outputs.contains(output))
    }

    /// Whether there is to be a spool and a store.
    pub(super) fn spools(&self) -> bool {
        self.any(&[Output::Parquet, Output::Both])
    }

    /// For a sink that writes to `dir`.
    pub(super) fn configs(&self, dir: &Path) -> anyhow::Result<(SinkConfig, Option<StoreConfig>)> {
        let (texts, jsonl) = (self.any(&[Output::Text, Output::Both]), self.any(&[Output::Jsonl]));
        let spools = self.spools();
        let wrong = |problem: &str| Err(Usage(problem.to_owned()).into());
        if texts && jsonl {
            return wrong("--output: text and jsonl, expected one of them: each is the text output");
        }
        if self.template.is_some() && !texts {
            return wrong("--template is for text, expected `--output text` or `--output text,parquet`");
        }
        if !texts && !jsonl && (self.roll_bytes.is_some() || self.roll_age.is_some() || self.zstd) {
            return wrong("--roll-bytes, --roll-age and --zstd are for text files, expected text or jsonl in --output");
        }
        let formats = self.format.as_ref().map(|Text(formats)| formats);
        let age = self.keep_days.map(|days| Duration::from_secs(u64::from(days) * 86_400));
        let text = text(jsonl, self.template.as_ref(), formats);
        let text = TextConfig {
            roll_bytes: self.roll_bytes.unwrap_or(text.roll_bytes),
            roll_every: self.roll_age.unwrap_or(text.roll_every),
            keep_bytes: self.keep_bytes.unwrap_or(text.keep_bytes),
            keep_for: age,
            zstd: self.zstd,
            ..text
        };
        let mut sink = if spools { SinkConfig::new(dir) } else { SinkConfig::text_only(dir) };
        sink.min_free_bytes = self.min_free.unwrap_or(sink.min_free_bytes);
        sink.max_lines_per_source_per_s = self.max_lines_per_source_per_s;
        sink.text = (texts || jsonl).then_some(text);
        let keep = Keep { bytes: self.keep_bytes, age };
        let store = spools.then(|| config(dir, formats, keep, sink.min_free_bytes));
        Ok((sink, store))
    }
}

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    pub(super) bytes: Option<u64>,
    pub(super) age: Option<Duration>,
}

/// Old records go while there is still this much more room than the sink leaves, so that it goes on storing.
const ROOM_BYTES: u64 = 128 << 20;

/// The store of the sink in `dir`, which leaves `min_free_bytes` on the disk.
pub(super) fn config(dir: &Path, formats: Option<&Formats>, keep: Keep, min_free_bytes: u64) -> StoreConfig {
    let decode = DecodeConfig::default();
    StoreConfig {
        decode: DecodeConfig { listeners: formats.unwrap_or(&decode.listeners).clone(), ..decode },
        keep_ns: keep.age.map(|age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)),
        keep_bytes: keep.bytes,
        min_free_bytes: min_free_bytes.saturating_add(ROOM_BYTES),
        ..StoreConfig::new(dir)
    }
}

/// How the sink in `dir` decodes, for who reads its spool: written by [`Store::start`].
pub(super) fn formats_of(dir: &Path) -> Option<Formats> {
    parse_listeners(fs::read_to_string(formats_file(dir)).ok()?.trim_end())
}

fn formats_file(dir: &Path) -> PathBuf {
    dir.join("formats")
}

/// A converter that runs beside a sink.
pub(super) struct Store {
    thread: ConverterThread,
    /// Before this run: datagrams decoded, those in the spool, those the sink's ledger says are stored.
    decoded: u64,
    spooled: u64,
    stored: u64,
}

/// How soon a sealed segment is seen.
const POLL: Duration = Duration::from_millis(200);

impl Store {
    /// Starts it. The sink has locked the directory, and has stored nothing yet.
    pub(super) fn start(config: StoreConfig, ledger: &SinkLedger) -> anyhow::Result<Store> {
        let file = formats_file(&config.dir);
        let text = show_listeners(&config.decode.listeners) + "\n";
        let fresh = file.with_extension("new");
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &file))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let converter = Converter::open(config)?;
        let decoded = total(&converter, "datagrams");
        let spooled = converter.spooled_datagrams()?;
        Ok(Store { thread: ConverterThread::start(converter, POLL), decoded, spooled, stored: ledger.stored })
    }

    pub(super) fn set_limits(&self, config: &StoreConfig) {
        let StoreConfig { keep_ns, keep_bytes, min_free_bytes, .. } = *config;
        self.thread.set_limits(StoreLimits { keep_ns, keep_bytes, min_free_bytes });
    }

    /// The sink has stopped: converts what is left, and tells what it came to.
    pub(super) fn finish(self, port: &str, dir: &Path, sink: &SinkLedger, ledger: &mut Ledger) -> anyhow::Result<()> {
        let context = || format!("the store in {} is not complete; the rest is in its spool", dir.display());
        let converter = self.thread.stop().with_context(context)?;
        let spooled = converter.spooled_datagrams().with_context(context)?;
        let (decoded, stored) = (total(&converter, "datagrams") - self.decoded, sink.stored - self.stored);
        let left = format!("{stored} stored + {} in the spool before", self.spooled);
        let right = format!("{decoded} decoded + {spooled} in the spool");
        ledger.equal(&format!("{port}.spool"), (&left, stored + self.spooled), (&right, decoded + spooled));
        let parts = [
            ("in_records", total(&converter, "record_parts")),
            ("duplicate_messages", total(&converter, "duplicate_messages")),
            ("duplicate_fragments", total(&converter, "duplicate_fragments")),
            ("pending", converter.pending_datagrams()),
        ];
        let title = format!("decoding in {}, all runs together", dir.display());
        ledger.parts(&format!("{port}.decode"), &title, ("datagrams", total(&converter, "datagrams")), &parts);
        let (records, rows) = (total(&converter, "records"), total(&converter, "parquet_rows"));
        let right = format!("{rows} rows in Parquet files");
        ledger.equal(&format!("{port}.store"), (&format!("{records} records"), records), (&right, rows));
        Ok(())
    }
}

fn total(converter: &Converter, name: &str) -> u64 {
    converter.totals().get(name).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_strict() {
        assert_eq!((bytes("1"), bytes("3K"), bytes("2g"), bytes("1T")), (Ok(1), Ok(3072), Ok(2 << 30), Ok(1 << 40)));
        for bad in ["", "0", "K", "-1", "+1", "1.5G", "1 G", "1GB", "99999999999T", "é"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
