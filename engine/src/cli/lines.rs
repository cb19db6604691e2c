//! What a sink has written: the lines of its text files.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// The file in a sink's folder that is being written to.
const FILE: &str = "netpoll.log";
/// Most characters of a line that are shown.
const SHOWN_CHARS: usize = 112;

/// Lines of a file, from a place on.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    /// The file.
    pub(super) path: PathBuf,
    /// Lines in it.
    pub(super) lines: u64,
    /// Bytes in it.
    pub(super) bytes: u64,
    /// Where they start.
    from: u64,
}

impl Written {
    /// What came after `before`.
    pub(super) fn since(self, before: &Written) -> Written {
        Written {
            lines: self.lines.saturating_sub(before.lines),
            bytes: self.bytes.saturating_sub(before.bytes),
            from: before.bytes,
            path: self.path,
        }
    }
}

/// Counts the lines of the text file in `dir`.
pub(super) fn written(dir: &Path) -> io::Result<Written> {
    let path = dir.join(FILE);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Written { path, ..Written::default() }),
        Err(error) => return Err(error),
    };
    let mut block = vec![0; 1 << 20];
    let mut written = Written { path, ..Written::default() };
    loop {
        let len = file.read(&mut block)?;
        if len == 0 {
            return Ok(written);
        }
        written.bytes += len as u64;
        written.lines += block[..len].iter().filter(|byte| **byte == b'\n').count() as u64;
    }
}

/// The first `count` lines, indented, cut to a bearable length.
pub(super) fn first(written: &Written, count: usize) -> io::Result<String> {
    let mut file = File::open(&written.path)?;
    file.seek(SeekFrom::Start(written.from))?;
    let mut text = String::new();
    for line in BufReader::new(file).lines().take(count) {
        let line = line?;
        let shown: String = line.chars().take(SHOWN_CHARS).collect();
        let more = if shown.len() < line.len() { "..." } else { "" };
        text += &format!("  {shown}{more}\n");
    }
    Ok(text)
}
