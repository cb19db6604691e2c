//! Going on with a text file after a restart: a torn last line is cut off, the lines are counted.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::{
    disk::Disk,
    ledger::{Checkpoint, LogCounters},
    log::Resume,
};

/// Looks at the text file `path`. `None` if there is none. Else where to go on, after the last whole line,
/// and its inode. What follows that line is cut off and counted.
pub(super) fn recover(disk: &dyn Disk, path: &Path, counters: &LogCounters) -> io::Result<(Option<Resume>, u64)> {
    let mut source = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, 0)),
        Err(error) => return Err(error),
    };
    let mut resume = Resume::default();
    let mut buffer = vec![0; 1 << 20];
    let mut read = 0;
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        let block = &buffer[..count];
        resume.rows += memchr::memchr_iter(b'\n', block).count() as u64;
        if let Some(last) = memchr::memrchr(b'\n', block) {
            resume.len = read + last as u64 + 1;
        }
        read += count as u64;
    }
    let file = disk.open(path)?;
    if read > resume.len {
        file.set_len(resume.len)?;
        counters.torn_tails.add(1);
        counters.torn_bytes.add(read - resume.len);
    }
    Ok((Some(resume), file.inode()?))
}

/// Lines of the file that the ledger does not know about, if `checkpoint` is what it says.
pub(super) fn lines_after(checkpoint: Checkpoint, resume: Option<Resume>, inode: u64) -> u64 {
    let rows = resume.map_or(0, |resume| resume.rows);
    // Another file: it rolled after the checkpoint. What the rolled one got in between is not looked for.
    if checkpoint.file == inode { rows.saturating_sub(checkpoint.rows) } else { rows }
}
