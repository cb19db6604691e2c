//! Rolling: the active file ends and the next one takes its place; what happens to files that were rolled.

use std::{io, os::unix::fs::MetadataExt, path::Path, time::Instant};

use super::{Job, Log, LogFile, Names, Resume, create, names::rolled_name};
use crate::sink::helper::Tidy;

/// Rolled files that may wait for their last sync; beyond that the active one grows past its size.
const MAX_ROLLING: usize = 4;

impl Log {
    /// The active file is to end as soon as it can, if anything is in it or if it is not where it belongs any more
    /// (logrotate has moved it): what comes then goes into a new one.
    pub(in crate::sink) fn ask_roll(&mut self) {
        self.roll_asked = true;
    }

    pub(super) fn roll_if_due(&mut self, len: u64, now: Instant) {
        let limits = &self.setup.limits;
        let Some(active) = &self.active else { return };
        let full = active.len + len > limits.roll_bytes && active.rows > 0;
        let old = active.first_row.is_some_and(|first| now.duration_since(first) >= limits.roll_every);
        if self.roll_asked && active.rows == 0 && !self.was_moved(active) {
            self.roll_asked = false;
        }
        let due = full || old || self.roll_asked;
        if due && self.rolling.len() < MAX_ROLLING && now >= self.housekeeping_after {
            match self.roll() {
                Ok(rolled) => self.roll_asked &= !rolled,
                Err(_) => self.housekeeping_failed(now),
            }
        }
    }

    fn was_moved(&self, active: &LogFile) -> bool {
        match &self.setup.names {
            Names::Numbered { .. } => false,
            names @ Names::Live { .. } => !is_file(&names.active(active.number), active.id),
        }
    }

    /// Makes the next file the active one. `false`: it is not there yet.
    fn roll(&mut self) -> io::Result<bool> {
        let number = self.next_number;
        let ahead = self.setup.names.ahead(number);
        let file = match self.next.take() {
            Some(file) => file,
            // It is being made right now: rather than two hands on one file, go on with the old one.
            None if self.next_asked => return Ok(false),
            None => create(&*self.setup.disk, &ahead, &self.header)?,
        };
        let next = self.log_file(file, number, Resume { len: self.header.len() as u64, rows: 0 })?;
        let path = self.setup.names.active(number);
        if ahead != path {
            self.take_place(&ahead, &path)?;
        }
        self.next_number = number + 1;
        self.setup.counters.rolls.add(1);
        self.rolling.extend(self.active.replace(next));
        Ok(true)
    }

    /// Gives the file `ahead` the name `path`. What has that name gets a rolled one's, unless it is an empty file
    /// (logrotate's, for us to write to).
    fn take_place(&self, ahead: &Path, path: &Path) -> io::Result<()> {
        let disk = &self.setup.disk;
        let in_the_way = match std::fs::metadata(path) {
            Ok(there) => there.len() > 0 || self.active.as_ref().is_some_and(|active| active.id == there.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !in_the_way {
            return disk.rename(ahead, path);
        }
        let rolled = rolled_name(path);
        disk.rename(path, &rolled)?;
        disk.rename(ahead, path).inspect_err(|_| {
            // Better the old file under its name than none.
            let _ = disk.rename(&rolled, path);
        })
    }

    /// Finishes the oldest rolled file once its rows are all stored, after a checkpoint that says so. (Should
    /// the ledger not get written, it is finished all the same: only a crash right then could miscount.)
    pub(super) fn finish_rolled(&mut self, now: Instant) {
        let ready = self.rolling.front().is_some_and(|file| file.rows == file.synced_rows && !file.finishing);
        if !ready || now < self.housekeeping_after {
            return;
        }
        self.give_ledger(false);
        let Some(file) = self.rolling.front_mut() else { return };
        file.finishing = true;
        let LogFile { id, len, .. } = *file;
        self.helper.give(Job::Finish { file: file.file.clone(), id, len, trailer: self.trailer.clone() });
    }

    pub(super) fn take_finished(&mut self, id: u64, result: io::Result<()>, now: Instant) {
        if result.is_err() {
            self.housekeeping_failed(now);
            if let Some(file) = self.rolling.iter_mut().find(|file| file.id == id) {
                file.finishing = false;
            }
            return;
        }
        self.rolling.retain(|file| file.id != id);
        self.tidy();
    }

    /// Has the rolled files looked after.
    pub(super) fn tidy(&self) {
        if let (Some(limits), Names::Live { dir, name }) = (self.setup.limits.tidy, &self.setup.names) {
            self.helper.give(Job::Tidy(Tidy { dir: dir.clone(), live: name.clone(), limits }));
        }
    }
}

/// `path` is the file of that inode number.
fn is_file(path: &Path, inode: u64) -> bool {
    std::fs::metadata(path).is_ok_and(|there| there.ino() == inode)
}
