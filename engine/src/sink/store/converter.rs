//! Sealed spool segments into Parquet, one after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufWriter, Write},
    path::PathBuf,
};

use parquet::arrow::ArrowWriter;

use super::{
    Layout, Manifest, Removed, SegmentReader, StoreConfig, StoreError, StoreLimits, hour_of,
    layout::{FileId, make_dir, publish, remove, sync_dir, temporary},
    list_segments,
    retention::retain,
    rows::Rows,
    schema,
    segment::Fingerprint,
};
use crate::sink::{
    decode::{DecodeStats, Decoder, Gap, Gaps, Output},
    record::Record,
    spool::SpoolError,
};

/// Rows handed to the Parquet writer at a time.
const BATCH_ROWS: usize = 8192;
/// Texts have 32-bit ends.
pub(super) const MAX_PART_BYTES: usize = 1 << 30;
/// Silence after which nothing that waits in the decoder can still be completed: more than all of its
/// time-outs.
const SILENCE_NS: u64 = 20_000_000_000;

/// What [`Converter::step`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A segment is in the store, and out of the spool.
    Converted {
        /// Its number.
        segment: u64,
        /// Records that it gave.
        records: u64,
    },
    /// What had waited in the decoder is in the store.
    Flushed {
        /// Records that it gave.
        records: u64,
    },
    /// There was nothing to do.
    Idle,
}

/// Converts the sealed segments of one directory, in order. One a directory.
#[derive(Debug)]
pub struct Converter {
    config: StoreConfig,
    layout: Layout,
    manifest: Manifest,
    decoder: Decoder,
    /// What the decoder's counters said at the last commit.
    counted: DecodeStats,
    rows: Rows,
    gaps: Gaps,
    /// The segment that is looked at for its end mark.
    watched: Option<(u64, SegmentReader)>,
    /// A conversion failed half-way: the state is to be read again.
    failed: bool,
    removed: Removed,
    faults: Faults,
}

impl Converter {
    /// Opens the store of a sink's directory, and clears away what an interrupted conversion left.
    pub fn open(config: StoreConfig) -> Result<Converter, StoreError> {
        let layout = Layout::new(&config.dir);
        make_dir(&layout.store())?;
        let decoder = Decoder::new(config.decode.clone());
        let mut converter = Converter {
            config,
            layout,
            manifest: Manifest::default(),
            decoder,
            counted: DecodeStats::default(),
            rows: Rows::default(),
            gaps: Gaps::default(),
            watched: None,
            failed: false,
            removed: Removed::default(),
            faults: Faults::default(),
        };
        converter.reload()?;
        Ok(converter)
    }

    /// The decoder's counters by name, and `segments`, `segments_damaged`, `parquet_rows` (rows that Parquet
    /// files were closed with), summed over all restarts. As of the last commit.
    pub fn totals(&self) -> &BTreeMap<String, u64> {
        &self.manifest.totals
    }

    /// Datagrams that wait in the decoder: in the manifest, and in no file yet.
    pub fn pending_datagrams(&self) -> u64 {
        self.decoder.pending_datagrams()
    }

    /// Goes on with other limits.
    pub fn set_limits(&mut self, limits: StoreLimits) {
        let StoreLimits { keep_ns, keep_bytes, min_free_bytes } = limits;
        self.config = StoreConfig { keep_ns, keep_bytes, min_free_bytes, ..self.config.clone() };
    }

    /// What retention has taken away since the store was opened.
    pub fn removed(&self) -> Removed {
        self.removed
    }

    /// Converts the next segment, if it is sealed. `now_ns`: nanoseconds since the Unix epoch. After an
    /// error the same is tried again from where the last commit left it.
    pub fn step(&mut self, now_ns: u64) -> Result<Step, StoreError> {
        if self.failed {
            self.reload()?;
            // What failed may have been a full disk.
            self.retain(now_ns)?;
        }
        // Set until the step has come to its end.
        self.failed = true;
        let step = match self.next_sealed()? {
            Some((segment, damaged)) => self.convert(segment, damaged)?,
            None if self.is_silent(now_ns)? => self.flush()?,
            None => Step::Idle,
        };
        if step != Step::Idle {
            self.retain(now_ns)?;
        }
        self.failed = false;
        Ok(step)
    }

    /// Converts all that is sealed and what waits in the decoder: the sink has stopped.
    pub fn finish(&mut self, now_ns: u64) -> Result<(), StoreError> {
        while self.step(now_ns)? != Step::Idle {}
        if self.pending_datagrams() > 0 || self.rows.len() > 0 {
            self.failed = true;
            self.flush()?;
            self.failed = false;
        }
        Ok(())
    }

    /// Removes what the limits leave no room for. [`Converter::step`] does so after each conversion.
    pub fn retain(&mut self, now_ns: u64) -> Result<Removed, StoreError> {
        let manifest = &self.manifest;
        let removed = retain(&self.layout, &self.config, now_ns, |file| manifest.holds(file.id))?;
        self.removed.files += removed.files;
        self.removed.bytes += removed.bytes;
        Ok(removed)
    }

    /// The state of the last commit, and nothing else in the store.
    fn reload(&mut self) -> Result<(), StoreError> {
        self.manifest = Manifest::load(&self.layout)?;
        let mut left_over = Vec::new();
        let files = self.layout.files(&mut |path| left_over.push(path))?;
        left_over.extend(files.into_iter().filter(|file| !self.manifest.holds(file.id)).map(|file| file.path));
        left_over.iter().try_for_each(|path| remove(path))?;
        self.rows.clear();
        self.gaps.clear();
        self.watched = None;
        let config = self.config.decode.clone();
        self.decoder = match self.manifest.decoder.clone() {
            // What a smaller configuration has no room for goes into the next files.
            Some(snapshot) => {
                Decoder::restore(config, snapshot, &mut Carried { rows: &mut self.rows, gaps: &mut self.gaps })
            }
            None => Decoder::new(config),
        };
        self.counted = DecodeStats::default();
        self.failed = false;
        Ok(())
    }

    /// The next segment if it can be converted, and whether it is damaged.
    fn next_sealed(&mut self) -> Result<Option<(u64, bool)>, StoreError> {
        let segments = list_segments(&self.layout)?;
        let (past, ahead): (Vec<u64>, Vec<u64>) =
            segments.into_iter().partition(|segment| self.manifest.is_past(*segment));
        past.iter().try_for_each(|segment| self.put_away(*segment))?;
        let Some(first) = ahead.first().copied() else { return Ok(None) };
        if self.watched.as_ref().is_none_or(|(watched, _)| *watched != first) {
            self.watched = SegmentReader::open(&self.layout.segment(first))?.map(|reader| (first, reader));
        }
        let Some((_, reader)) = &mut self.watched else { return Ok(None) };
        match reader.survey() {
            Ok((sealed, _)) => Ok(sealed.then_some((first, false))),
            // Damage in the segment that the sink writes to is the sink's; behind it, it stays for ever.
            Err(StoreError::Segment(SpoolError::Damaged { .. })) if self.has_rows_behind(&ahead)? => {
                Ok(Some((first, true)))
            }
            Err(StoreError::Segment(SpoolError::Damaged { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn has_rows_behind(&self, ahead: &[u64]) -> Result<bool, StoreError> {
        for segment in &ahead[1..] {
            let reader = SegmentReader::open(&self.layout.segment(*segment))?;
            if reader.is_some_and(|mut reader| reader.survey().is_ok_and(|(_, has_rows)| has_rows)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Something waits in the decoder, and nothing has come for so long that it waits in vain.
    fn is_silent(&self, now_ns: u64) -> Result<bool, StoreError> {
        let last_ns = self.manifest.decoder.as_ref().map_or(0, |snapshot| snapshot.time_ns());
        let nothing_waits = self.pending_datagrams() == 0 && self.rows.len() == 0;
        // Either way: a clock that was set back must not hold it until it has come this far again.
        if nothing_waits || now_ns.abs_diff(last_ns) < SILENCE_NS {
            return Ok(false);
        }
        for segment in list_segments(&self.layout)? {
            if let Some(mut reader) = SegmentReader::open(&self.layout.segment(segment))?
                && !matches!(reader.survey(), Ok((_, false)))
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn convert(&mut self, segment: u64, damaged: bool) -> Result<Step, StoreError> {
        let path = self.layout.segment(segment);
        let mut damaged = damaged;
        self.watched = None;
        let id = FileId { segment, flush: 0 };
        let mut files = Files::new(&self.layout, &self.config, id, &mut self.rows, &mut self.gaps, &mut self.faults);
        if let Some(mut reader) = SegmentReader::open(&path)? {
            match reader.decode(&mut self.decoder, &mut files) {
                Ok(()) => {}
                // What comes before the damage is kept, and the segment too, under another name.
                Err(StoreError::Segment(SpoolError::Damaged { .. })) => damaged = true,
                Err(error) => return Err(error),
            }
        }
        let records = files.end()?;
        self.commit(id, Fingerprint::of(&path)?.unwrap_or_default(), damaged, records)?;
        self.put_away(segment)?;
        self.faults.point("segment removed")?;
        Ok(Step::Converted { segment, records })
    }

    fn flush(&mut self) -> Result<Step, StoreError> {
        let last = self.manifest.last.unwrap_or_default();
        let id = FileId { segment: last.segment, flush: last.flush + 1 };
        let mut files = Files::new(&self.layout, &self.config, id, &mut self.rows, &mut self.gaps, &mut self.faults);
        self.decoder.flush(&mut files);
        let records = files.end()?;
        self.commit(id, self.manifest.segment, self.manifest.damaged, records)?;
        Ok(Step::Flushed { records })
    }

    /// Takes a segment out of the spool that is in the store: the last one. Any other that has come by its
    /// number is not what was stored, and nobody takes it away.
    fn put_away(&self, segment: u64) -> Result<(), StoreError> {
        let path = self.layout.segment(segment);
        let is_last = self.manifest.last.is_some_and(|last| last.segment == segment);
        match Fingerprint::of(&path)? {
            None => Ok(()),
            Some(found) if !is_last || found != self.manifest.segment => Err(StoreError::Reused { path }),
            Some(_) if self.manifest.damaged => {
                let kept = path.with_extension("arrows.damaged");
                fs::rename(&path, kept).map_err(StoreError::io("rename", &path))
            }
            Some(_) => remove(&path),
        }
    }

    fn commit(&mut self, id: FileId, segment: Fingerprint, damaged: bool, rows: u64) -> Result<(), StoreError> {
        let counted = self.decoder.counters().snapshot();
        let mut totals = self.manifest.totals.clone();
        let mut add = |name: &str, count: u64| *totals.entry(name.to_owned()).or_default() += count;
        counted.since(&self.counted).iter().for_each(|(name, _, count)| add(name, count));
        add("segments", u64::from(id.flush == 0));
        add("segments_damaged", u64::from(damaged && id.flush == 0));
        add("parquet_rows", rows);
        let decoder = Some(self.decoder.snapshot());
        let manifest = Manifest { last: Some(id), segment, damaged, decoder, totals };
        manifest.store(&self.layout)?;
        self.manifest = manifest;
        self.counted = counted;
        self.faults.point("committed")
    }

    /// Datagrams in the spool that are not converted yet. Reads all of their segments.
    pub fn spooled_datagrams(&self) -> Result<u64, StoreError> {
        let mut count = 0;
        for segment in list_segments(&self.layout)? {
            if !self.manifest.is_past(segment)
                && let Some(mut reader) = SegmentReader::open(&self.layout.segment(segment))?
            {
                count += reader.count_rows()?;
            }
        }
        Ok(count)
    }

    /// To change the limits.
    #[cfg(test)]
    pub(crate) fn config_mut(&mut self) -> &mut StoreConfig {
        &mut self.config
    }

    /// Fails at the `countdown`-th point from here, as if the process had ended there.
    #[cfg(test)]
    pub(crate) fn fail_at(&mut self, countdown: u32) {
        self.faults.countdown = Some(countdown);
    }
}

/// Keeps what a restored decoder has no room for.
struct Carried<'a> {
    rows: &'a mut Rows,
    gaps: &'a mut Gaps,
}

impl Output for Carried<'_> {
    fn record(&mut self, record: &Record) {
        self.rows.push(record);
    }

    fn gap(&mut self, gap: &Gap) {
        self.gaps.push(gap);
    }
}

/// Points at which tests end a conversion.
#[derive(Debug, Default)]
struct Faults {
    #[cfg(test)]
    countdown: Option<u32>,
}

impl Faults {
    #[cfg(test)]
    fn point(&mut self, name: &'static str) -> Result<(), StoreError> {
        match &mut self.countdown {
            Some(0) => {
                Err(StoreError::Io { action: name, path: PathBuf::new(), source: std::io::ErrorKind::Other.into() })
            }
            Some(countdown) => {
                *countdown -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)]
    fn point(&mut self, _name: &'static str) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The files of one conversion.
struct Files<'a> {
    layout: &'a Layout,
    config: &'a StoreConfig,
    id: FileId,
    rows: &'a mut Rows,
    gaps: &'a mut Gaps,
    part: u32,
    records: u64,
    /// Directories with new names.
    dirs: BTreeSet<PathBuf>,
    /// Nothing more is written after an error; the caller hears of it at the end.
    error: Option<StoreError>,
    faults: &'a mut Faults,
}

impl Output for Files<'_> {
    fn record(&mut self, record: &Record) {
        if self.error.is_some() {
            return;
        }
        self.rows.push(record);
        // Looked at now and then: adding it up costs more than a short row.
        let is_time = self.rows.len().is_multiple_of(64);
        if is_time && self.rows.held_bytes() >= self.config.part_bytes.min(MAX_PART_BYTES) {
            self.error = self.write_part().err();
            self.rows.clear();
        }
    }

    fn gap(&mut self, gap: &Gap) {
        self.gaps.push(gap);
    }
}

impl<'a> Files<'a> {
    fn new(
        layout: &'a Layout,
        config: &'a StoreConfig,
        id: FileId,
        rows: &'a mut Rows,
        gaps: &'a mut Gaps,
        faults: &'a mut Faults,
    ) -> Files<'a> {
        Files { layout, config, id, rows, gaps, part: 0, records: 0, dirs: BTreeSet::new(), error: None, faults }
    }

    /// All is on the disk, under its names. Gives the number of records.
    fn end(mut self) -> Result<u64, StoreError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.rows.len() > 0 {
            self.write_part()?;
            self.rows.clear();
        }
        self.write_gaps()?;
        self.dirs.iter().try_for_each(|dir| sync_dir(dir))?;
        self.faults.point("directories synced")?;
        Ok(self.records)
    }

    fn write_part(&mut self) -> Result<(), StoreError> {
        for (hour_ns, order) in self.rows.sorted() {
            let path = self.layout.parquet(self.id, hour_ns, self.part);
            self.make_room(&path)?;
            let file = File::create(temporary(&path)).map_err(StoreError::io("make", &path))?;
            let (file, rows) = self
                .write_parquet(file, &order)
                .map_err(|source| StoreError::Parquet { path: path.clone(), source })?;
            self.records += rows;
            self.faults.point("file written")?;
            publish(&file, &path)?;
            self.faults.point("file published")?;
        }
        self.part += 1;
        Ok(())
    }

    /// The file, and the rows that its own footer says.
    fn write_parquet(&self, file: File, order: &[u32]) -> parquet::errors::Result<(File, u64)> {
        let properties = schema::properties(self.config.zstd_level);
        let mut file = BufWriter::with_capacity(1 << 20, file);
        let mut writer = ArrowWriter::try_new(&mut file, schema::schema(), Some(properties))?;
        for rows in order.chunks(BATCH_ROWS) {
            writer.write(&schema::batch(self.rows, rows)?)?;
        }
        let rows = writer.close()?.file_metadata().num_rows().unsigned_abs();
        Ok((file.into_inner().map_err(|error| error.into_error())?, rows))
    }

    fn write_gaps(&mut self) -> Result<(), StoreError> {
        let mut by_hour: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for gap in self.gaps.take() {
            let lines = by_hour.entry(hour_of(gap.before_ns)).or_default();
            // Writing to memory, and a plain struct: neither fails.
            if serde_json::to_writer(&mut *lines, &gap).is_ok() {
                lines.push(b'\n');
            }
        }
        for (hour_ns, lines) in by_hour {
            let path = self.layout.gaps(self.id, hour_ns);
            self.make_room(&path)?;
            let written = File::create(temporary(&path)).and_then(|mut file| file.write_all(&lines).map(|()| file));
            publish(&written.map_err(StoreError::io("write", &path))?, &path)?;
            self.faults.point("gaps published")?;
        }
        Ok(())
    }

    fn make_room(&mut self, path: &std::path::Path) -> Result<(), StoreError> {
        if let Some(dir) = path.parent() {
            make_dir(dir)?;
            self.dirs.insert(dir.to_owned());
        }
        Ok(())
    }
}
