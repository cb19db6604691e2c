//! Where things are under a sink's directory, and how files come to be there whole or not at all.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::StoreError;
use crate::sink::record::civil::Utc;

/// Nanoseconds in an hour.
pub(crate) const HOUR_NS: u64 = 3_600_000_000_000;

/// Begins the name of a file that is being written.
const TEMPORARY: &str = ".tmp-";

/// What a file of the store is of: a segment, or a flush after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) struct FileId {
    pub segment: u64,
    /// 0 for the segment itself.
    pub flush: u32,
}

/// A file of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StoredFile {
    pub id: FileId,
    /// Start of its hour: nanoseconds since the Unix epoch.
    pub hour_ns: u64,
    pub path: PathBuf,
    /// A list of gaps, or else Parquet.
    pub gaps: bool,
}

/// The paths under one directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: impl Into<PathBuf>) -> Layout {
        Layout { root: root.into() }
    }

    /// The sink's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    pub fn manifest(&self) -> PathBuf {
        self.store().join("manifest")
    }

    /// Path of a spool segment.
    pub fn segment(&self, segment: u64) -> PathBuf {
        self.spool().join(format!("{segment:012}.arrows"))
    }

    fn hour(&self, hour_ns: u64) -> PathBuf {
        let utc = Utc::from_ns(i64::try_from(hour_ns).unwrap_or(i64::MAX));
        let date = format!("date={:04}-{:02}-{:02}", utc.year, utc.month, utc.day);
        self.store().join(date).join(format!("hour={:02}", utc.hour))
    }

    /// Path of a Parquet file of the hour that starts at `hour_ns`.
    pub fn parquet(&self, id: FileId, hour_ns: u64, part: u32) -> PathBuf {
        self.hour(hour_ns).join(format!("{:012}-{:03}-{part:03}.parquet", id.segment, id.flush))
    }

    /// Path of a list of gaps.
    pub fn gaps(&self, id: FileId, hour_ns: u64) -> PathBuf {
        self.hour(hour_ns).join(format!("{:012}-{:03}.gaps.jsonl", id.segment, id.flush))
    }

    /// All files of the store, in the order in which they were made. Temporary files are given to
    /// `left_over`.
    pub fn files(&self, left_over: &mut dyn FnMut(PathBuf)) -> Result<Vec<StoredFile>, StoreError> {
        let mut files = Vec::new();
        for date in entries(&self.store())? {
            let Some(day_ns) = name(&date).and_then(|name| parse_date(name.strip_prefix("date=")?)) else { continue };
            for hour in entries(&date)? {
                let number = name(&hour).and_then(|name| name.strip_prefix("hour=")?.parse::<u64>().ok());
                let Some(number) = number.filter(|hour| *hour < 24) else { continue };
                let hour_ns = day_ns + number * HOUR_NS;
                for path in entries(&hour)? {
                    let Some(file_name) = name(&path) else { continue };
                    if file_name.starts_with(TEMPORARY) {
                        left_over(path);
                    } else if let Some((id, gaps)) = parse_file(file_name) {
                        files.push(StoredFile { id, hour_ns, path, gaps });
                    }
                }
            }
        }
        files.sort_unstable();
        Ok(files)
    }
}

/// The entries of a directory; none where it is not there (any more).
fn entries(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(StoreError::io("list", dir)(error)),
    };
    let paths = listing.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<io::Result<_>>().map_err(StoreError::io("list", dir))
}

fn name(path: &Path) -> Option<&str> {
    path.file_name().and_then(OsStr::to_str)
}

fn parse_date(date: &str) -> Option<u64> {
    let mut numbers = date.splitn(3, '-').map(|number| number.parse::<u32>().ok());
    let mut next = || numbers.next().flatten();
    let (year, month, day) = (next()?, next()?, next()?);
    let utc = Utc { year: i64::from(year), month, day, hour: 0, minute: 0, second: 0, nanos: 0 };
    u64::try_from(utc.to_ns()?).ok()
}

/// `NNN-FFF-PPP.parquet` and `NNN-FFF.gaps.jsonl`.
fn parse_file(name: &str) -> Option<(FileId, bool)> {
    let (stem, gaps) = match (name.strip_suffix(".parquet"), name.strip_suffix(".gaps.jsonl")) {
        (Some(stem), _) => (stem.rsplit_once('-')?.0, false),
        (_, Some(stem)) => (stem, true),
        _ => return None,
    };
    let (segment, flush) = stem.split_once('-')?;
    Some((FileId { segment: segment.parse().ok()?, flush: flush.parse().ok()? }, gaps))
}

/// Start of the hour that `time_ns` lies in.
pub(crate) fn hour_of(time_ns: u64) -> u64 {
    time_ns / HOUR_NS * HOUR_NS
}

/// The name under which a file is written.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{TEMPORARY}{name}"))
}

/// Makes a directory and what is missing above it, and syncs what has a new entry.
pub(crate) fn make_dir(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_dir(parent)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StoreError::io("make the directory", dir)(error));
            }
            _ => sync_dir(parent)?,
        }
    }
    Ok(())
}

/// Syncs a directory: the names in it last.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let opened = File::open(if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
    opened.and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync the directory", dir))
}

/// Syncs a file that was written under its temporary name, and renames it. The directory is not synced.
pub(crate) fn publish(file: &File, path: &Path) -> Result<(), StoreError> {
    file.sync_all().map_err(StoreError::io("sync", path))?;
    fs::rename(temporary(path), path).map_err(StoreError::io("rename", path))
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let id = FileId { segment: 42, flush: 7 };
        let hour_ns = hour_of(1_700_000_000_000_000_000);
        let parquet = layout.parquet(id, hour_ns, 3);
        assert!(parquet.ends_with("store/date=2023-11-14/hour=22/000000000042-007-003.parquet"), "{parquet:?}");
        let gaps = layout.gaps(FileId::default(), hour_ns);
        for path in [&parquet, &gaps, &temporary(&gaps), &parquet.with_file_name("notes.txt")] {
            make_dir(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let mut left_over = Vec::new();
        let files = layout.files(&mut |path| left_over.push(path)).unwrap();
        assert_eq!(
            files,
            [
                StoredFile { id: FileId::default(), hour_ns, path: gaps.clone(), gaps: true },
                StoredFile { id, hour_ns, path: parquet, gaps: false },
            ]
        );
        assert_eq!(left_over, [temporary(&gaps)]);
    }

    #[test]
    fn an_empty_directory_has_no_files() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Layout::new(dir.path()).files(&mut |_| {}).unwrap(), []);
    }
}
