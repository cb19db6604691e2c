//! A damaged spool segment: what is whole is read, the rest is damage with a place, never a panic or a lost row.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use netpoll::sink::{
    decode::DecodeConfig,
    query::{LogQuery, run as query},
    spool::{SegmentReader, spool_dir},
};
use tempfile::TempDir;

/// The input is the segment file.
pub fn run(input: &[u8]) {
    let dir = temporary();
    fs::create_dir(spool_dir(dir.path())).expect("a folder");
    let path = spool_dir(dir.path()).join("000000000007.arrows");
    fs::write(&path, input).expect("a file");
    let whole = read(&path);
    assert!(whole.offset <= input.len() as u64, "read to {} of {} bytes", whole.offset, input.len());
    assert_eq!(read_growing(&dir.path().join("growing"), input), whole, "read while it grew");
    let decode = DecodeConfig { flows: 16, seed: 42, ..DecodeConfig::default() };
    let all = LogQuery { decode, ..LogQuery::default() };
    let mut printed = Vec::new();
    let stats = query(dir.path(), &all, &mut printed, &AtomicBool::new(false)).expect("damage is counted");
    assert_eq!(stats.damage, u64::from(whole.damaged));
    assert!(stats.printed <= whole.rows.len() as u64, "{stats:?}");
}

/// A folder in memory where there is one.
fn temporary() -> TempDir {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::tempdir_in(parent).expect("a folder")
}

/// What was read of a segment.
#[derive(Debug, Default, PartialEq)]
struct Read {
    /// Payload and ports of each row.
    rows: Vec<(Vec<u8>, u16, u16)>,
    offset: u64,
    damaged: bool,
    finished: bool,
}

impl Read {
    /// Goes on to the end of what is there.
    fn go_on(&mut self, reader: &mut SegmentReader) {
        while !self.damaged {
            match reader.next_batch() {
                Ok(Some(batch)) => {
                    let before = self.rows.len();
                    self.rows.extend(batch.iter().map(|row| (row.payload.to_vec(), row.src_port, row.dst_port)));
                    assert_eq!(self.rows.len() - before, batch.rows(), "every row of a batch can be read");
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    self.damaged = true;
                    // It stays there, and the same.
                    assert_eq!(
                        reader.next_batch().map(|_| ()).map_err(|error| error.to_string()),
                        Err(error.to_string())
                    );
                }
            }
        }
        (self.offset, self.finished) = (reader.offset(), reader.is_finished());
    }
}

fn read(path: &Path) -> Read {
    let mut read = Read::default();
    read.go_on(&mut SegmentReader::open(path).expect("it is there"));
    read
}

/// The same file, read while it becomes longer.
fn read_growing(path: &Path, input: &[u8]) -> Read {
    let mut file = File::create(path).expect("a file");
    let mut reader = SegmentReader::open(path).expect("it is there");
    let mut read = Read::default();
    for piece in input.chunks((input.len() / 3).max(1)) {
        file.write_all(piece).expect("room");
        read.go_on(&mut reader);
    }
    read
}
