//! Datagrams into records: netconsole basic and extended, syslog (RFC 5424 and 3164), raw.
//!
//! ```text
//! RawDatagram -> by listener port, or by trying
//!    +- syslog, raw ----------------------------------------------------------> record
//!    +- netconsole+ -> flow table -> queue by seq (fragments, duplicates) -+
//!    +- netconsole  -> flow table -> 1000-byte join -----------------------+-> crash groups -> record
//! ```
//! Nothing is dropped here but second copies: what cannot be parsed is raw text, what a limit or a
//! time-out cuts short goes out as far as it came and says so. So, at any moment (the ledger of this
//! stage, kept by [`DecodeCounters`] and [`Decoder::pending_datagrams`]):
//!
//! `datagrams = record_parts + duplicate_messages + duplicate_fragments + pending`.
//!
//! Time is that of the datagrams (and of [`Decoder::advance`]); no clock is read. The same datagrams
//! give the same records, whenever they are decoded. Memory: the flow table is fixed
//! ([`DecodeConfig::flows`]), what waits in it is bounded a flow and as a whole; past a bound the
//! messages that waited longest go out early.

mod basic;
mod body;
mod clock;
mod config;
mod crash;
mod flow;
mod fragments;
mod gap;
mod header;
mod held;
mod netconsole;
mod single;
#[cfg(feature = "store")]
mod snapshot;
mod syslog;
mod table;

use std::sync::Arc;

pub use config::{DecodeConfig, Listen, parse_listeners, show_listeners};
#[cfg(feature = "store")]
pub(crate) use gap::Gaps;
pub use gap::{Gap, GapKind};
pub(crate) use single::Single;
#[cfg(feature = "store")]
pub use snapshot::Snapshot;

use super::{
    batch::RawDatagram,
    loss::Loss,
    record::{Flags, Format, Record, text},
};
use flow::Flow;
use header::Header;
use table::Table;

crate::counters! {
    /// The ledger of decoding.
    pub struct DecodeCounters => DecodeStats {
        /// Datagrams taken.
        datagrams,
        /// Datagrams read as extended netconsole.
        as_netconsole_extended,
        /// Datagrams read as basic netconsole.
        as_netconsole_basic,
        /// Datagrams read as RFC 5424.
        as_rfc5424,
        /// Datagrams read as RFC 3164.
        as_rfc3164,
        /// Datagrams kept as raw text.
        as_raw,
        /// Datagrams that were second copies of whole messages.
        duplicate_messages,
        /// Datagrams that were second copies of fragments.
        duplicate_fragments,
        /// Records made.
        records,
        /// Datagrams that are in those records.
        record_parts,
        /// Records with missing parts.
        holed_records,
        /// Records let go before their end came.
        incomplete_records,
        /// Records that came after their place in the order had gone.
        late_records,
        /// Continuation messages joined into the line before.
        continuations_joined,
        /// Continuation messages without the line before.
        continuations_orphaned,
        /// Crash records.
        crash_records,
        /// Records with bytes that are no UTF-8.
        escaped_records,
        /// Fragments that contradicted a message of the same seq and time.
        fragment_conflicts,
        /// Messages let go before their time, by the limits of one flow.
        early_by_flow_limit,
        /// Times that messages were let go before their time by the limit on all flows.
        early_by_total_limit,
        /// Flows that lost their place in the table to another.
        flows_evicted,
        /// Boots seen (a sender's seq or clock went backwards).
        boots,
        /// Messages missing that were never sent.
        missing_never_sent,
        /// Messages missing that were sent and lost, and not here as far as is known.
        missing_lost,
        /// Messages missing, and nothing tells which.
        missing_unknown,
        /// Messages missing in a gap that the sink dropped itself.
        missing_here,
        /// Datagrams that the sink says it dropped.
        lost_here,
    }
}

/// Takes what a decoder makes.
pub trait Output {
    /// One record. It is the decoder's own and changes after the call.
    fn record(&mut self, record: &Record);

    /// Messages that are missing.
    fn gap(&mut self, gap: &Gap) {
        let _ = gap;
    }
}

/// Room for one record in the making.
#[derive(Debug, Default)]
struct Scratch {
    record: Record,
    joined: Record,
    escapes: Vec<u8>,
    body: Vec<u8>,
}

/// Decodes one stream of datagrams, in the order in which they were received.
#[derive(Debug)]
pub struct Decoder {
    config: DecodeConfig,
    table: Table,
    /// Never goes backwards, whatever the receive times do; drives every time-out.
    clk_ns: u64,
    time_ns: u64,
    swept_ns: u64,
    /// What all flows hold, in bytes.
    held_bytes: usize,
    here: gap::Here,
    scratch: Scratch,
    counters: Arc<DecodeCounters>,
}

/// How often the table is looked through for what is due.
const SWEEP_NS: u64 = 10_000_000;

impl Decoder {
    /// With nothing held.
    pub fn new(config: DecodeConfig) -> Decoder {
        let table = Table::new(config.flows, config.seed);
        Decoder {
            config,
            table,
            clk_ns: 0,
            time_ns: 0,
            swept_ns: 0,
            held_bytes: 0,
            here: gap::Here::default(),
            scratch: Scratch::default(),
            counters: Arc::default(),
        }
    }

    /// Its counters; this decoder is their only writer.
    pub fn counters(&self) -> &Arc<DecodeCounters> {
        &self.counters
    }

    /// Datagrams taken that are in no record yet, and are no second copies.
    pub fn pending_datagrams(&self) -> u64 {
        self.table.iter().map(|(_, flow)| flow.parts()).sum()
    }

    /// What is held for messages that wait, in bytes (the fixed table not counted).
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Takes one datagram.
    pub fn push(&mut self, datagram: &RawDatagram<'_>, out: &mut dyn Output) {
        self.advance(datagram.time_ns, out);
        self.counters.datagrams.add(1);
        match self.config.listen(datagram.dst_port) {
            Listen::Auto => match datagram.payload.first() {
                Some(b'<') => self.syslog(datagram, true, out),
                _ => match Header::parse(datagram.payload) {
                    Some((header, body)) => self.extended(datagram, &header, body, out),
                    None => self.raw(datagram, out),
                },
            },
            Listen::Netconsole => match Header::parse(datagram.payload) {
                Some((header, body)) => self.extended(datagram, &header, body, out),
                None => self.basic(datagram, out),
            },
            Listen::NetconsoleExtended => match Header::parse(datagram.payload) {
                Some((header, body)) => self.extended(datagram, &header, body, out),
                None => self.raw(datagram, out),
            },
            Listen::NetconsoleBasic => self.basic(datagram, out),
            Listen::Syslog => self.syslog(datagram, false, out),
            Listen::Raw => self.raw(datagram, out),
        }
    }

    /// Takes note of what was lost here before the datagrams to come.
    pub fn lost(&mut self, loss: &Loss, out: &mut dyn Output) {
        self.counters.lost_here.add(loss.count);
        self.here.add(loss);
        out.gap(&Gap::here(loss));
    }

    /// Lets go what is due at `time_ns` (receive time, nanoseconds since the Unix epoch).
    pub fn advance(&mut self, time_ns: u64, out: &mut dyn Output) {
        // The first datagram starts the clock; a receive time that was set back stops it for a moment.
        self.clk_ns += if self.time_ns == 0 { 0 } else { time_ns.saturating_sub(self.time_ns) };
        self.time_ns = time_ns;
        if self.clk_ns - self.swept_ns >= SWEEP_NS {
            self.swept_ns = self.clk_ns;
            self.release(self.clk_ns, false, out);
        }
    }

    /// [`Decoder::advance`], but never backwards: for a clock that may be behind the datagrams.
    pub fn advance_to(&mut self, time_ns: u64, out: &mut dyn Output) {
        if time_ns > self.time_ns && self.time_ns > 0 {
            self.advance(time_ns, out);
        }
    }

    /// Lets go everything: the stream ends here.
    pub fn flush(&mut self, out: &mut dyn Output) {
        self.release(netconsole::FLUSH_NS, true, out);
    }

    fn syslog(&mut self, datagram: &RawDatagram<'_>, pri_only: bool, out: &mut dyn Output) {
        let record = &mut self.scratch.record;
        start(datagram, record);
        if !syslog::decode(datagram.payload, pri_only, self.config.syslog_zone_s, record) {
            return self.raw(datagram, out);
        }
        match record.format {
            Format::Rfc5424 => self.counters.as_rfc5424.add(1),
            _ => self.counters.as_rfc3164.add(1),
        }
        emit(&self.counters, record, out);
    }

    fn raw(&mut self, datagram: &RawDatagram<'_>, out: &mut dyn Output) {
        self.counters.as_raw.add(1);
        let record = &mut self.scratch.record;
        start(datagram, record);
        escape_if_needed(datagram.payload, record);
        emit(&self.counters, record, out);
    }
}

/// Takes bytes of no format for the message, without the line end.
fn escape_if_needed(payload: &[u8], record: &mut Record) {
    let line = payload.strip_suffix(b"\n").unwrap_or(payload);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let escaped = text::needs_escapes(line);
    if escaped {
        record.flags |= Flags::ESCAPED;
    }
    text::push(&mut record.message, line, escaped);
}

/// Makes `record` an empty one of that datagram.
fn start(datagram: &RawDatagram<'_>, record: &mut Record) {
    record.clear();
    record.time_ns = datagram.time_ns;
    (record.src_ip, record.src_port) = (datagram.src_ip, datagram.src_port);
    (record.dst_ip, record.dst_port) = (datagram.dst_ip, datagram.dst_port);
}

/// Counts a record and gives it out.
fn emit(counters: &DecodeCounters, record: &Record, out: &mut dyn Output) {
    counters.records.add(1);
    counters.record_parts.add(u64::from(record.parts));
    if !record.flags.is_empty() {
        for (flag, counter) in [
            (Flags::HOLES, &counters.holed_records),
            (Flags::INCOMPLETE, &counters.incomplete_records),
            (Flags::LATE, &counters.late_records),
            (Flags::CRASH, &counters.crash_records),
            (Flags::ESCAPED, &counters.escaped_records),
        ] {
            counter.add(u64::from(record.flags.has(flag)));
        }
    }
    out.record(record);
}

#[cfg(test)]
mod tests;
