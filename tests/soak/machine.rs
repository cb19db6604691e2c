//! What the run takes of the machine: a small file system, memory, descriptors.

use std::{
    fmt, fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use super::traffic::Totals;

pub fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").unwrap().lines().any(|line| line.starts_with("Uid:\t0\t0"))
}

/// Runs `program`; it must end well.
pub fn run(program: &str, arguments: &str) {
    let status = Command::new(program).args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "{program} {arguments}: {status}");
}

/// A folder to write to, on a tmpfs of its own where root allows.
pub struct Folder {
    dir: tempfile::TempDir,
    small: bool,
}

impl Folder {
    pub fn new() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let small = is_root();
        if small {
            run("mount", &format!("-t tmpfs -o size=96m netpoll-soak {}", dir.path().display()));
        } else {
            println!("SKIPPED soak, parts `full disk` and `net_tap`: they need root");
        }
        Folder { dir, small }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// Nothing is left on the disk for a while.
    pub fn fill_for(&self, time: Duration, totals: &mut Totals) {
        if !self.small {
            return;
        }
        totals.event("disk full");
        let ballast = self.dir.path().join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        let block = vec![0x55; 1 << 20];
        // Until it is full; what is freed meanwhile is taken, too.
        while file.write_all(&block).is_ok() {}
        thread::sleep(time);
        let _ = file.write_all(&block);
        drop(file);
        fs::remove_file(&ballast).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.small {
            let path: &Path = self.dir.path();
            let _ = Command::new("umount").arg("-l").arg(path).status();
        }
    }
}

/// What the process holds.
#[derive(Clone, Copy)]
pub struct Use {
    pub resident_mib: u64,
    pub descriptors: u64,
}

impl Use {
    pub fn now() -> Use {
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        Use { resident_mib: (pages * 4096) >> 20, descriptors }
    }

    pub fn most(all: &[Use]) -> Use {
        let most = |of: fn(&Use) -> u64| all.iter().map(of).max().unwrap_or_default();
        Use { resident_mib: most(|u| u.resident_mib), descriptors: most(|u| u.descriptors) }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB, {} descriptors", self.resident_mib, self.descriptors)
    }
}
