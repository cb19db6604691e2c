//! Which files: landlock.

use std::{
    io,
    os::{fd::OwnedFd, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, Scope,
};

use super::{Report, Sandbox, SandboxError};

/// The newest rights that are asked for; an older kernel takes those that it knows.
const NEWEST: ABI = ABI::V6;

/// Read by anybody on any machine: libraries, for backtraces and for what glibc loads late.
const LIBRARIES: [&str; 3] = ["/usr", "/lib", "/lib64"];

/// The rules; `None` where the kernel has no landlock.
pub(super) fn ruleset(sandbox: &Sandbox, report: &mut Report) -> Result<Option<OwnedFd>, SandboxError> {
    let failed =
        |error: landlock::RulesetError| SandboxError::Step { step: "landlock", error: io::Error::other(error) };
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // Everything but to execute, and to make devices and sockets.
    let write = AccessFs::from_all(NEWEST)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSock | AccessFs::IoctlDev);
    let device = AccessFs::from_all(NEWEST) & !AccessFs::Execute;
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|rules| rules.scope(Scope::AbstractUnixSocket))
        .and_then(Ruleset::create)
        .map_err(failed)?;
    let own = [PathBuf::from("/proc/self")];
    let readable = sandbox.readable.iter().chain(&sandbox.needs.readable).chain(&own);
    for path in readable.map(PathBuf::as_path).chain(LIBRARIES.map(Path::new)) {
        rules = allow(rules, path, read).map_err(failed)?;
    }
    // The names of threads.
    rules = allow(rules, Path::new("/proc/self/task"), AccessFs::WriteFile | AccessFs::Truncate).map_err(failed)?;
    for path in &sandbox.needs.writable {
        rules = allow(rules, path, device).map_err(failed)?;
    }
    for folder in &sandbox.writable {
        rules = allow(rules, folder, write).map_err(failed)?;
    }
    let ruleset: Option<OwnedFd> = rules.into();
    if ruleset.is_some() {
        let folders: Vec<_> = sandbox.writable.iter().map(|folder| folder.display().to_string()).collect();
        let folders = if folders.is_empty() { "nowhere".into() } else { format!("below {}", folders.join(", ")) };
        report.taken.push(format!("files are written {folders}; no TCP (landlock)"));
    } else {
        report.degraded.push("this kernel has no landlock (or it is not in `lsm=`): files are not restricted".into());
    }
    Ok(ruleset)
}

/// Adds a rule for what is there.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, landlock::RulesetError> {
    let Ok(fd) = PathFd::new(path) else { return Ok(rules) };
    // Opened for both, so that it does not end with its writer.
    let fifo = path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
    let access = if fifo { access | AccessFs::WriteFile } else { access };
    // A file is not listed, nor are files made in it.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
    rules.add_rule(PathBeneath::new(fd, access))
}
