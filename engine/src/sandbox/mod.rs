//! Least privilege: after start-up the process keeps only what its ports need.
//!
//! ```text
//! ports are started -> Sandbox::apply -> user -> landlock, capabilities -> system calls -> every thread is looked at
//! ```
//! Applied once the ports run and before files are opened, so that those belong to the new user. Each step covers every
//! thread, those of EAL and of drivers included ([`on_every_thread`]; the filter of
//! system calls by the kernel's own means, the user by glibc's), and threads that start later inherit it. At the end
//! `/proc/self/task` is read: a thread that was missed is an error.
//!
//! What stays, by port, is in `needs.rs`, and was found by tracing each port's work and close. What a kernel does not
//! offer is left out and said ([`Report::degraded`]).
//!
//! Limits: who takes over the process still has what its ports have: frames in and out, the log folders. The filter
//! lists what is forbidden (refused by EPERM, so that a call that was forgotten is an error and no lost sink); it is
//! no list of what is allowed, since drivers, glibc and their versions differ. Chosen for x86-64 and arm64.

mod calls;
mod files;
mod needs;
mod user;

use std::{fs, io, os::fd::AsFd, path::PathBuf};

use rustix::thread::CapabilitySet;

pub use user::User;

use self::needs::Needs;
use crate::dpdk::{PortInfo, ThreadStep, keep_real_time, on_every_thread};

/// What the process may do from now on.
#[derive(Debug, Default)]
pub struct Sandbox {
    needs: Needs,
    user: Option<User>,
    writable: Vec<PathBuf>,
    readable: Vec<PathBuf>,
    /// Only the user is changed.
    open: bool,
    real_time: bool,
}

/// What was done, a line a step.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The steps that were taken.
    pub taken: Vec<String>,
    /// What this kernel or this process's rights did not allow.
    pub degraded: Vec<String>,
}

/// Why it could not be applied. Then some threads may be restricted and others not: end the process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The user or group is not known.
    #[error("no {kind} named {name:?} on this machine; `getent {database}` lists them, a number is taken as it is")]
    Unknown {
        /// User or group.
        kind: &'static str,
        /// The database that was asked.
        database: &'static str,
        /// What was asked for.
        name: String,
    },
    /// Only root changes its user.
    #[error("cannot become user {user}: {error}; start it as root, or leave the user out")]
    Become {
        /// The user.
        user: String,
        /// The system's word.
        error: io::Error,
    },
    /// A folder that cannot be written by who we are then.
    #[error(
        "{path}: user {user} cannot {what} ({error}); `chown -R {user} {folder}`, or choose another user or folder"
    )]
    Folder {
        /// The folder or a file in it.
        path: String,
        /// The folder.
        folder: String,
        /// Who.
        user: String,
        /// Read or write.
        what: &'static str,
        /// The system's word.
        error: io::Error,
    },
    /// A step failed that should not.
    #[error("{step}: {error}; --no-sandbox does without")]
    Step {
        /// Which.
        step: &'static str,
        /// The system's word.
        error: io::Error,
    },
    /// A thread that is not restricted, though every step succeeded.
    #[error("thread {thread} is not restricted: {line}; please report this. --no-sandbox does without")]
    Missed {
        /// Its number and name.
        thread: String,
        /// What its status says.
        line: String,
    },
}

impl Sandbox {
    /// Nothing is kept.
    pub fn new() -> Sandbox {
        Sandbox::default()
    }

    /// Keeps what this port needs to run and to close.
    pub fn port(mut self, info: &PortInfo) -> Sandbox {
        self.needs.run(&info.driver, &info.devargs);
        self
    }

    /// Keeps what it takes to attach a device later: its driver and arguments (`net_tap1,iface=np1`).
    pub fn attach_later(mut self, device: &str) -> Sandbox {
        self.needs.attach(device);
        self
    }

    /// Becomes this user.
    pub fn user(mut self, user: Option<User>) -> Sandbox {
        self.user = user;
        self
    }

    /// A folder to write in, made if it is not there. All in it is checked for being ours to write.
    pub fn writable(mut self, folder: impl Into<PathBuf>) -> Sandbox {
        self.writable.push(folder.into());
        self
    }

    /// A file or folder to read later.
    pub fn readable(mut self, path: impl Into<PathBuf>) -> Sandbox {
        self.readable.push(path.into());
        self
    }

    /// Changes only the user, and restricts nothing.
    pub fn open(mut self, open: bool) -> Sandbox {
        self.open = open;
        self
    }

    /// Whether threads become real-time ones later ([`Engine::is_real_time`](crate::engine::Engine::is_real_time)): by RLIMIT_RTPRIO; by
    /// CAP_SYS_NICE, which is then kept, where that cannot be raised.
    pub fn real_time(mut self, real_time: bool) -> Sandbox {
        self.real_time = real_time;
        self
    }

    /// Applies it to every thread of the process. For good; once.
    pub fn apply(self) -> Result<Report, SandboxError> {
        let mut report = Report::default();
        for folder in &self.writable {
            user::make(folder, self.user.as_ref())?;
        }
        let mut kept = if self.open { current()? } else { self.needs.capabilities & current()? };
        if self.real_time && !keep_real_time() {
            kept |= CapabilitySet::SYS_NICE & current()?;
        }
        match &self.user {
            Some(user) => {
                let kept = if self.open { CapabilitySet::empty() } else { kept };
                self.become_user(user, kept)?;
                report.taken.push(format!("user {user}, group {}, no others", user.gid));
            }
            None => kept |= self.overrides(&mut report)?,
        }
        if self.open {
            return Ok(report);
        }
        let ruleset = files::ruleset(&self, &mut report)?;
        let step =
            ThreadStep::Restrict { capabilities: kept, ruleset: ruleset.as_ref().map(|ruleset| ruleset.as_fd()) };
        let threads =
            on_every_thread(step).map_err(|error| SandboxError::Step { step: "capabilities, landlock", error })?;
        report.taken.push(format!("no new privileges; capabilities of {threads} threads: {}", names(kept)));
        let filtered = calls::apply(&self.needs, &mut report)?;
        verify(kept, filtered)?;
        Ok(report)
    }

    fn become_user(&self, user: &User, kept: CapabilitySet) -> Result<(), SandboxError> {
        if !kept.is_empty() {
            on_every_thread(ThreadStep::KeepCapabilities)
                .map_err(|error| SandboxError::Step { step: "keeping capabilities", error })?;
        }
        user.take()?;
        self.writable.iter().try_for_each(|folder| user::check(folder, &user.to_string()))
    }

    /// Root without capabilities is no longer above the permissions of files. So where a folder is somebody else's, it
    /// stays above them; landlock keeps that to the folder.
    fn overrides(&self, report: &mut Report) -> Result<CapabilitySet, SandboxError> {
        if self.open || !current()?.contains(CapabilitySet::DAC_OVERRIDE) {
            return Ok(CapabilitySet::empty());
        }
        for folder in &self.writable {
            // In a thread of its own, which ends as it is then.
            let checked = std::thread::scope(|scope| {
                let ours = || -> Result<(), SandboxError> {
                    let none = CapabilitySet::empty();
                    let sets = rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
                    rustix::thread::set_capabilities(None, sets)
                        .map_err(|error| SandboxError::Step { step: "capabilities", error: error.into() })?;
                    user::check(folder, "root")
                };
                scope.spawn(ours).join()
            });
            match checked {
                Ok(Err(SandboxError::Folder { path, .. })) => {
                    report
                        .taken
                        .push(format!("dac_override is kept: {path} is another user's; --user does without it"));
                    return Ok(CapabilitySet::DAC_OVERRIDE);
                }
                Ok(checked) => checked?,
                Err(_) => unreachable!("it does not panic"),
            }
        }
        Ok(CapabilitySet::empty())
    }
}

/// What this thread has now.
fn current() -> Result<CapabilitySet, SandboxError> {
    let sets = rustix::thread::capabilities(None);
    sets.map(|sets| sets.permitted).map_err(|error| SandboxError::Step { step: "capabilities", error: error.into() })
}

/// `none`, or `net_admin bpf`.
fn names(set: CapabilitySet) -> String {
    let names: Vec<_> = set.iter_names().map(|(name, _)| name.to_lowercase()).collect();
    if names.is_empty() { "none".into() } else { names.join(" ") }
}

/// Reads what the kernel says of each thread.
fn verify(kept: CapabilitySet, filtered: bool) -> Result<(), SandboxError> {
    let step = |error| SandboxError::Step { step: "reading /proc/self/task", error };
    for entry in fs::read_dir("/proc/self/task").map_err(step)? {
        let path = entry.map_err(step)?.path();
        let status = match fs::read_to_string(path.join("status")) {
            Ok(status) => status,
            // It has ended.
            Err(_) if !path.exists() => continue,
            Err(error) => return Err(step(error)),
        };
        let wanted = [
            ("NoNewPrivs:", "1".to_owned()),
            ("CapPrm:", format!("{:016x}", kept.bits())),
            ("CapEff:", format!("{:016x}", kept.bits())),
            ("CapInh:", format!("{:016x}", 0)),
            ("Seccomp:", if filtered { "2" } else { "" }.to_owned()),
        ];
        for (key, wanted) in wanted.iter().filter(|(_, wanted)| !wanted.is_empty()) {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            if line[key.len().min(line.len())..].trim() != wanted {
                let name = status.lines().next().unwrap_or_default().trim_start_matches("Name:").trim();
                let thread = format!("{} ({name})", path.file_name().unwrap_or_default().display());
                return Err(SandboxError::Missed { thread, line: line.replace('\t', " ") });
            }
        }
    }
    Ok(())
}
