//! Who we are.

use std::{
    fmt, fs,
    io::ErrorKind,
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

use nix::unistd::{self, Gid, Group, Uid};
use rustix::fs::{Access, AtFlags, CWD};

use super::SandboxError;

/// An unprivileged user and its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    name: String,
    uid: u32,
    pub(super) gid: u32,
}

impl User {
    /// By name or number; the group by name or number, or the user's own one (a number that nobody has: the same one).
    pub fn find(user: &str, group: Option<&str>) -> Result<User, SandboxError> {
        let unknown = |kind, database, name: &str| SandboxError::Unknown { kind, database, name: name.into() };
        let no_user = || unknown("user", "passwd", user);
        let found = match user.parse() {
            Ok(uid) => unistd::User::from_uid(Uid::from_raw(uid)).ok().flatten(),
            Err(_) => Some(unistd::User::from_name(user).ok().flatten().ok_or_else(no_user)?),
        };
        let uid = found.as_ref().map_or_else(|| user.parse().map_err(|_| no_user()), |found| Ok(found.uid.as_raw()))?;
        let gid = match group {
            None => found.map_or(uid, |found| found.gid.as_raw()),
            Some(group) => match group.parse() {
                Ok(gid) => gid,
                Err(_) => {
                    let found = Group::from_name(group).ok().flatten();
                    found.ok_or_else(|| unknown("group", "group", group))?.gid.as_raw()
                }
            },
        };
        Ok(User { name: user.into(), uid, gid })
    }

    /// Becomes it, in every thread: glibc sees to that.
    pub(super) fn take(&self) -> Result<(), SandboxError> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let taken = unistd::setgroups(&[])
            .and_then(|()| unistd::setresgid(gid, gid, gid))
            .and_then(|()| unistd::setresuid(uid, uid, uid));
        taken.map_err(|error| SandboxError::Become { user: self.name.clone(), error: error.into() })
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Makes the folder; a new one is the user's.
pub(super) fn make(folder: &Path, user: Option<&User>) -> Result<(), SandboxError> {
    if folder.is_dir() {
        return Ok(());
    }
    // If not, whoever wants to write there says so better.
    if fs::create_dir_all(folder).is_ok()
        && let Some(user) = user
    {
        let failed = |error| folder_error(folder, folder, &user.name, "be given it", error);
        chown(folder, Some(user.uid), Some(user.gid)).map_err(failed)?;
    }
    Ok(())
}

/// Folders that are looked into: what a sink keeps open or makes anew. Not the hours of Parquet files.
const DEPTH: usize = 2;

/// Whether the calling thread may write in the folder, and what is in it.
pub(super) fn check(folder: &Path, who: &str) -> Result<(), SandboxError> {
    let mut waiting: Vec<(PathBuf, usize)> = vec![(folder.to_owned(), 0)];
    while let Some((path, depth)) = waiting.pop() {
        let is_dir = path.is_dir();
        let access = if is_dir { Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
        match rustix::fs::accessat(CWD, &path, access, AtFlags::EACCESS) {
            // Gone already, or a link to nowhere.
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(folder_error(&path, folder, who, "write there", error.into())),
        }
        if is_dir && depth < DEPTH {
            for entry in fs::read_dir(&path).map_err(|error| folder_error(&path, folder, who, "read it", error))? {
                waiting.extend(entry.ok().map(|entry| (entry.path(), depth + 1)));
            }
        }
    }
    Ok(())
}

fn folder_error(path: &Path, folder: &Path, who: &str, what: &'static str, error: std::io::Error) -> SandboxError {
    // Only the kind: the rest is said.
    let error = if error.kind() == ErrorKind::PermissionDenied { error.kind().into() } else { error };
    let (path, folder) = (path.display().to_string(), folder.display().to_string());
    SandboxError::Folder { path, folder, user: who.into(), what, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_by_name_and_number() {
        let user = |user, group| User::find(user, group).map(|user| (user.uid, user.gid));
        assert_eq!(user("root", None).unwrap(), (0, 0));
        assert_eq!(user("4000111222", None).unwrap(), (4_000_111_222, 4_000_111_222));
        assert_eq!(user("4000111222", Some("7")).unwrap(), (4_000_111_222, 7));
        assert_eq!(user("12", Some("root")).unwrap(), (12, 0));
        let error = user("no-such-user", None).unwrap_err().to_string();
        assert!(error.contains("no user named \"no-such-user\"") && error.contains("getent passwd"), "{error}");
        let error = user("root", Some("no-such-group")).unwrap_err().to_string();
        assert!(error.contains("no group named \"no-such-group\""), "{error}");
    }

    #[test]
    fn a_folder_of_ours_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("a/b");
        make(&out, None).unwrap();
        fs::write(out.join("file"), "x").unwrap();
        check(&out, "me").unwrap();
        assert!(check(&dir.path().join("a/b/file/x"), "me").is_err());
    }
}
