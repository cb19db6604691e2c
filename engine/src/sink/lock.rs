//! One sink a directory.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// Why the directory cannot be locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another sink has it.
    #[error("{} is in use by another sink (pid {pid})", dir.display())]
    Held {
        /// The directory.
        dir: PathBuf,
        /// The other one's process id, or what its lock file said instead.
        pid: String,
    },
    /// The lock file cannot be made or locked.
    #[error("cannot lock {}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The lock on a sink's directory; held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Locks `dir`, which exists, through the file `lock` in it; writes our process id there. The file
    /// stays when the lock goes: removing it would let two sinks lock two files of one name.
    pub(super) fn take(dir: &Path) -> Result<DirLock, LockError> {
        let path = dir.join("lock");
        let io_error = |source| LockError::Io { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io_error)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let _ = file.take(32).read_to_string(&mut pid);
                return Err(LockError::Held { dir: dir.to_owned(), pid: pid.trim().to_owned() });
            }
            Err(errno) => return Err(io_error(errno.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(io_error)?;
        writeln!(file, "{}", std::process::id()).map_err(io_error)?;
        Ok(DirLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::take(dir.path()).unwrap();
        let error = DirLock::take(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with(&format!("(pid {})", std::process::id())), "{error}");
        drop(lock);
        DirLock::take(dir.path()).unwrap();
        let error = DirLock::take(&dir.path().join("missing")).unwrap_err();
        assert!(matches!(error, LockError::Io { .. }));
    }
}
