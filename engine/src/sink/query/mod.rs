//! Reading a sink's directory back: Parquet and the spool's not yet converted tail as one.
//!
//! A query takes a view: the manifest, the files that it says are in, and the segments behind it, all of
//! one moment (if the converter commits meanwhile, the view is taken again). Segments are opened at once,
//! so that a converter that removes one does not take it away. Files are pruned by their hour, row groups
//! by their statistics of time, host and severity. The tail goes through a decoder that starts in the
//! manifest's state, so a message that began in a converted segment is whole here too.
//!
//! Order: by receive time within a segment, segments in turn. What waited in the decoder over the end of
//! a segment (seconds at most) comes with the next one. Memory: the matching rows of one segment.
//!
//! `follow` goes on with what is written, until it is stopped. It reads the spool itself, so new lines are
//! there as soon as the sink has written them, and extended netconsole a moment later, when its order is
//! sure.

mod filter;
mod follow;
#[cfg(test)]
mod inverse_tests;
mod output;
mod stored;
#[cfg(test)]
mod tests;
mod view;

use std::{
    io::{self, Write},
    net::IpAddr,
    path::Path,
    sync::atomic::AtomicBool,
};

use regex::Regex;

pub use output::OutputFormat;

use super::{
    decode::{DecodeConfig, Decoder, Gap, Gaps, Output},
    record::Record,
    spool::SpoolError,
    store::{Layout, Rows, SegmentReader, StoreError},
};
use output::Printer;
use view::View;

/// What to read, and how to print it.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    /// Received at this moment or later: nanoseconds since the Unix epoch.
    pub from_ns: Option<u64>,
    /// Received before this moment.
    pub to_ns: Option<u64>,
    /// The host, or the source address.
    pub host: Option<String>,
    /// As severe as this or more (0 is the most severe). Records without a severity do not match.
    pub severity: Option<u8>,
    /// Found in the message.
    pub regex: Option<Regex>,
    /// Each column (`app`, `pid`, `msgid`, `caller`, `release`, `format`, `src_ip`, `seq`...) or field of
    /// that name has that value.
    pub fields: Vec<(String, String)>,
    /// Gaps instead of records: time and host are asked, and nothing else.
    pub gaps: bool,
    /// Text shows when a record was sent, by the sender's clock and with its error, where that is known; or else when it
    /// was received.
    pub sent_time: bool,
    /// Goes on with what comes, until stopped.
    pub follow: bool,
    /// How to print.
    pub format: OutputFormat,
    /// How the spool's tail is decoded; what the sink's converter uses.
    pub decode: DecodeConfig,
}

/// Why a query ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output takes no more.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
}

/// What a query did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryStats {
    /// Records or gaps printed.
    pub printed: u64,
    /// Parquet files opened.
    pub files: u64,
    /// Row groups read.
    pub row_groups: u64,
    /// Row groups that their statistics ruled out.
    pub row_groups_pruned: u64,
    /// Times that a segment of the spool ended in damage instead of its end.
    pub damage: u64,
}

/// Runs `query` on a sink's directory and prints to `out`. Ends early, without an error, once `stop` is
/// set; with `follow` it ends in no other way.
pub fn run(dir: &Path, query: &LogQuery, out: &mut dyn Write, stop: &AtomicBool) -> Result<QueryStats, QueryError> {
    let layout = Layout::new(dir);
    let mut run = Run {
        layout: &layout,
        query,
        printer: Printer::new(out, query.format, query.gaps, query.sent_time).map_err(QueryError::Output)?,
        stop,
        stats: QueryStats::default(),
    };
    let view = View::take(&layout)?;
    if query.follow {
        run.follow(view)?;
    } else {
        run.once(view)?;
    }
    run.printer.flush().map_err(QueryError::Output)?;
    Ok(run.stats)
}

/// A query under way.
struct Run<'a> {
    layout: &'a Layout,
    query: &'a LogQuery,
    printer: Printer<'a>,
    stop: &'a AtomicBool,
    stats: QueryStats,
}

impl Run<'_> {
    fn once(&mut self, view: View) -> Result<(), QueryError> {
        self.stored(&view.files)?;
        let mut tail = Tail::new(self.query);
        let mut decoder = view.decoder(&self.query.decode, &mut tail);
        for (_, mut reader) in view.segments {
            if self.stopped() {
                return Ok(());
            }
            loop {
                let more = self.decode_some(&mut reader, &mut decoder, &mut tail)?;
                if !more || tail.is_full() {
                    self.print(&mut tail)?;
                }
                if !more || self.stopped() {
                    break;
                }
            }
        }
        decoder.flush(&mut tail);
        self.print(&mut tail)
    }

    /// Gives the next rows of a segment to the decoder. `false`: there are none; a damaged segment has none
    /// behind the damage, and is counted each time that it is met.
    fn decode_some(
        &mut self,
        reader: &mut SegmentReader,
        decoder: &mut Decoder,
        tail: &mut Tail<'_>,
    ) -> Result<bool, QueryError> {
        match reader.decode_some(decoder, tail) {
            Err(StoreError::Segment(SpoolError::Damaged { .. })) => {
                self.stats.damage += 1;
                Ok(false)
            }
            result => Ok(result?),
        }
    }

    /// Prints what a tail has collected.
    fn print(&mut self, tail: &mut Tail<'_>) -> Result<(), QueryError> {
        if self.query.gaps {
            for gap in tail.gaps.take() {
                self.stats.printed += 1;
                self.printer.gap(&gap).map_err(QueryError::Output)?;
            }
        } else if tail.rows.len() > 0 {
            let batch = stored::by_time(&tail.rows)?;
            tail.rows.clear();
            let mut record = Record::default();
            for row in 0..batch.num_rows() {
                stored::read(&batch, row, &mut record);
                self.stats.printed += 1;
                self.printer.record(&record).map_err(QueryError::Output)?;
            }
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        // Relaxed: the flag carries nothing but itself.
        self.stop.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Takes what a decoder makes of the spool's tail, as far as it matches.
struct Tail<'a> {
    query: &'a LogQuery,
    rows: Rows,
    gaps: Gaps,
}

/// Matching rows that are collected before they are printed, in bytes.
const TAIL_BYTES: usize = 64 << 20;

impl<'a> Tail<'a> {
    fn new(query: &'a LogQuery) -> Tail<'a> {
        Tail { query, rows: Rows::default(), gaps: Gaps::default() }
    }

    fn is_full(&self) -> bool {
        self.rows.held_bytes() >= TAIL_BYTES
    }
}

impl Output for Tail<'_> {
    fn record(&mut self, record: &Record) {
        if !self.query.gaps && self.query.matches(record) {
            self.rows.push(record);
        }
    }

    fn gap(&mut self, gap: &Gap) {
        if self.query.gaps && self.query.matches_gap(gap) {
            self.gaps.push(gap);
        }
    }
}

/// Records as a query prints them.
#[cfg(test)]
pub(crate) fn json_lines(records: &[Record]) -> Vec<String> {
    let mut out = Vec::new();
    let mut sink: &mut Vec<u8> = &mut out;
    let mut printer = Printer::new(&mut sink, OutputFormat::JsonLines, false, false).expect("memory");
    records.iter().for_each(|record| printer.record(record).expect("memory"));
    printer.flush().expect("memory");
    drop(printer);
    String::from_utf8(out).expect("text").lines().map(str::to_owned).collect()
}

#[cfg(test)]
pub(crate) use stored::read as read_row;

/// The text of an address, as the store has it.
fn ip_text(ip: IpAddr) -> String {
    ip.to_string()
}
