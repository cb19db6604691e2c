//! Going on with what is written.

use std::{
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    super::store::{SegmentReader, list_segments},
    Decoder, QueryError, Run, Tail, View,
};

const POLL: Duration = Duration::from_millis(100);
/// How far behind the clock a datagram may still come to the spool: the hook's flush interval, and some.
const LAG_NS: u64 = 300_000_000;

impl Run<'_> {
    pub(super) fn follow(&mut self, view: View) -> Result<(), QueryError> {
        self.stored(&view.files)?;
        let mut tail = Tail::new(self.query);
        let mut decoder = view.decoder(&self.query.decode, &mut tail);
        // What was read last: a segment, or the last that is in the store.
        let mut number = view.manifest.last.map(|last| last.segment);
        let mut reader: Option<SegmentReader> = None;
        while !self.stopped() {
            let sealed = self.read_on(&mut reader, &mut decoder, &mut tail)?;
            if sealed || reader.is_none() || self.has_rolled(number)? {
                // Rows that were written between the last look and the roll.
                self.read_on(&mut reader, &mut decoder, &mut tail)?;
                if self.next_segment(&mut number, &mut reader, &mut decoder, &mut tail)? {
                    continue;
                }
            }
            decoder.advance_to(now_ns().saturating_sub(LAG_NS), &mut tail);
            self.print(&mut tail)?;
            self.printer.flush().map_err(QueryError::Output)?;
            thread::sleep(POLL);
        }
        self.print(&mut tail)
    }

    /// Reads to the end of what is there. `true`: the segment is done.
    fn read_on(
        &mut self,
        reader: &mut Option<SegmentReader>,
        decoder: &mut Decoder,
        tail: &mut Tail<'_>,
    ) -> Result<bool, QueryError> {
        let Some(reader) = reader else { return Ok(false) };
        while self.decode_some(reader, decoder, tail)? {
            if tail.is_full() {
                self.print(tail)?;
            }
            if self.stopped() {
                return Ok(false);
            }
        }
        Ok(reader.is_sealed())
    }

    /// The sink writes to a later segment already.
    fn has_rolled(&self, number: Option<u64>) -> Result<bool, QueryError> {
        for next in list_segments(self.layout)?.into_iter().filter(|next| number.is_none_or(|number| *next > number)) {
            if let Some(mut reader) = SegmentReader::open(&self.layout.segment(next))?
                && reader.survey().is_ok_and(|(_, has_rows)| has_rows)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Goes to the next segment, if there is one. Where the converter has been faster, what it stored
    /// comes from there.
    fn next_segment(
        &mut self,
        number: &mut Option<u64>,
        reader: &mut Option<SegmentReader>,
        decoder: &mut Decoder,
        tail: &mut Tail<'_>,
    ) -> Result<bool, QueryError> {
        let view = View::take(self.layout)?;
        if let Some(last) = view.manifest.last.filter(|last| number.is_none_or(|number| last.segment > number)) {
            self.print(tail)?;
            // A flush behind the segment that was read here holds what waits in this decoder, or what it
            // let go itself.
            let waits = decoder.pending_datagrams() > 0;
            let mut files = view.files.clone();
            files.retain(|file| {
                number.is_none_or(|number| {
                    file.id.segment > number || (waits && file.id.segment == number && file.id.flush > 0)
                })
            });
            self.stored(&files)?;
            *decoder = view.decoder(&self.query.decode, tail);
            *number = Some(last.segment);
            *reader = None;
        }
        let next = view.segments.into_iter().find(|(next, _)| number.is_none_or(|number| *next > number));
        let Some((next, opened)) = next else { return Ok(false) };
        *number = Some(next);
        *reader = Some(opened);
        Ok(true)
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
