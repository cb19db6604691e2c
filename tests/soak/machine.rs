//! What a run takes of the machine: a small file system, memory, descriptors, threads.

use std::{
    fmt, fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

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

    /// Nothing is left on the disk for a while; false where the disk is everybody's.
    pub fn fill_for(&self, time: Duration) -> bool {
        if !self.small {
            return false;
        }
        let ballast = self.dir.path().join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        let block = vec![0x55; 1 << 20];
        // Until it is full; what is freed meanwhile is taken, too.
        while file.write_all(&block).is_ok() {}
        thread::sleep(time);
        let _ = file.write_all(&block);
        drop(file);
        fs::remove_file(&ballast).unwrap();
        true
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

/// What a process holds.
#[derive(Clone, Copy)]
pub struct Use {
    pub resident_mib: u64,
    pub descriptors: u64,
    pub threads: u64,
}

impl Use {
    /// Of the process with that id, or of `self`.
    pub fn of(pid: &str) -> Use {
        let entries = |folder: &str| fs::read_dir(format!("/proc/{pid}/{folder}")).unwrap().count() as u64;
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
        let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        Use { resident_mib: (pages * 4096) >> 20, descriptors: entries("fd"), threads: entries("task") }
    }

    /// The most of each in the first and in the last third: what is flat does not rise from one to the other by more than
    /// `limit`.
    pub fn is_flat(all: &[Use], limit: Use) -> (Use, Use) {
        let third = all.len().div_ceil(3);
        let (first, last) = (Use::most(&all[..third]), Use::most(&all[all.len() - third..]));
        assert!(last.resident_mib <= first.resident_mib + limit.resident_mib, "memory grows: {first}, then {last}");
        assert!(last.descriptors <= first.descriptors + limit.descriptors, "descriptors grow: {first}, then {last}");
        assert!(last.threads <= first.threads + limit.threads, "threads grow: {first}, then {last}");
        (first, last)
    }

    fn most(all: &[Use]) -> Use {
        let most = |of: fn(&Use) -> u64| all.iter().map(of).max().unwrap_or_default();
        Use {
            resident_mib: most(|u| u.resident_mib),
            descriptors: most(|u| u.descriptors),
            threads: most(|u| u.threads),
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB, {} descriptors, {} threads", self.resident_mib, self.descriptors, self.threads)
    }
}
