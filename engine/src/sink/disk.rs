//! The disk as the writer sees it: few operations, each of which a test can make fail.

use std::{
    fmt::Debug,
    fs::{self, File, OpenOptions},
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
};

/// A directory tree to keep logs in.
pub(super) trait Disk: Send + Sync + Debug {
    /// Opens `path` for writing, made if it is not there; its contents stay.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file, replacing `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Makes what was created, renamed and removed in `dir` last.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    /// Bytes that the file system of `dir` has room for in all.
    fn total_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    /// Bytes that an ordinary user may still write below `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// An open file; any thread may sync it while another one writes.
pub(super) trait DiskFile: Send + Sync + Debug {
    /// Writes at `offset`; may write less than asked.
    fn write_at(&self, bytes: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Makes what was written last.
    fn sync(&self) -> io::Result<()>;

    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Its inode number.
    fn inode(&self) -> io::Result<u64>;
}

/// The file system.
#[derive(Debug)]
pub(super) struct FileSystem;

impl Disk for FileSystem {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Arc::new(file))
    }
}

impl DiskFile for File {
    fn write_at(&self, bytes: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self, bytes, offset)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn inode(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(self.metadata()?.ino())
    }
}

/// Writes all of `bytes` at `offset`.
pub(super) fn write_all_at(file: &dyn DiskFile, mut bytes: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    // Empty slices at the front would make a whole write look like no progress.
    IoSlice::advance_slices(&mut bytes, 0);
    while !bytes.is_empty() {
        // IOV_MAX is 1024 on Linux.
        let some = &bytes[..bytes.len().min(1024)];
        match file.write_at(some, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                IoSlice::advance_slices(&mut bytes, count);
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Replaces the file `path` by one that holds `bytes`: afterwards, and after a crash at any point, it is
/// the old one or the new one.
pub(super) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let file = disk.open(&temporary)?;
    file.set_len(0)?;
    write_all_at(&*file, &mut [IoSlice::new(bytes)], 0)?;
    file.sync()?;
    disk.rename(&temporary, path)
}

#[cfg(test)]
pub(super) mod faulty {
    //! A file system that can be told to fail.

    use std::sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    };

    use super::*;

    /// What goes wrong, shared with the test.
    #[derive(Debug, Default)]
    pub(in crate::sink) struct Faults {
        /// Writes fail with this errno.
        pub write: Mutex<Option<i32>>,
        /// Before it fails, a write writes this many bytes.
        pub partial: AtomicU64,
        /// Syncs fail with this errno.
        pub sync: Mutex<Option<i32>>,
        /// Opening fails with this errno.
        pub open: Mutex<Option<i32>>,
        /// Truncating fails with this errno.
        pub truncate: Mutex<Option<i32>>,
        /// Writes take at most this many bytes at a time (0: no limit).
        pub short: AtomicU64,
        /// Writes wait while this is set.
        pub stall: AtomicBool,
        /// Syncs wait while this is set.
        pub stall_sync: AtomicBool,
        /// Overrides the free space where it is not 0.
        pub free: AtomicU64,
        /// Overrides the size of the disk where it is not 0.
        pub total: AtomicU64,
    }

    impl Faults {
        fn check(errno: &Mutex<Option<i32>>) -> io::Result<()> {
            errno.lock().unwrap().map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
        }
    }

    #[derive(Debug, Default)]
    pub(in crate::sink) struct FaultyDisk(pub Arc<Faults>);

    impl Disk for FaultyDisk {
        fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
            Faults::check(&self.0.open)?;
            Ok(Arc::new(FaultyFile(FileSystem.open(path)?, self.0.clone())))
        }

        fn total_bytes(&self, dir: &Path) -> io::Result<u64> {
            match self.0.total.load(Ordering::Relaxed) {
                0 => FileSystem.total_bytes(dir),
                total => Ok(total),
            }
        }

        fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
            match self.0.free.load(Ordering::Relaxed) {
                0 => FileSystem.free_bytes(dir),
                free => Ok(free),
            }
        }
    }

    #[derive(Debug)]
    struct FaultyFile(Arc<dyn DiskFile>, Arc<Faults>);

    impl DiskFile for FaultyFile {
        fn write_at(&self, bytes: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
            while self.1.stall.load(Ordering::Relaxed) {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            if let Err(error) = Faults::check(&self.1.write) {
                let partial = self.1.partial.load(Ordering::Relaxed) as usize;
                let all: Vec<u8> = bytes.iter().flat_map(|slice| slice.iter().copied()).collect();
                if partial > 0 {
                    self.0.write_at(&[IoSlice::new(&all[..partial.min(all.len())])], offset)?;
                }
                return Err(error);
            }
            match self.1.short.load(Ordering::Relaxed) as usize {
                0 => self.0.write_at(bytes, offset),
                most => {
                    let first = bytes.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
                    self.0.write_at(&[IoSlice::new(&first[..most.min(first.len())])], offset)
                }
            }
        }

        fn sync(&self) -> io::Result<()> {
            while self.1.stall_sync.load(Ordering::Relaxed) {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Faults::check(&self.1.sync)?;
            self.0.sync()
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            Faults::check(&self.1.truncate)?;
            self.0.set_len(len)
        }

        fn inode(&self) -> io::Result<u64> {
            self.0.inode()
        }
    }
}
