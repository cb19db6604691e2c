//! How a log's files are called.

use std::path::{Path, PathBuf};

use crate::sink::text::utc_second;

/// How the files are called.
#[derive(Clone, Debug)]
pub(in crate::sink) enum Names {
    /// `<dir>/000000000042.<extension>`, counting up.
    #[cfg_attr(not(feature = "store"), allow(dead_code, reason = "the spool's"))]
    Numbered { dir: PathBuf, extension: &'static str },
    /// `<dir>/<name>`, and for a rolled one `<dir>/<name>.<UTC time>.<microseconds>`.
    Live { dir: PathBuf, name: String },
}

impl Names {
    pub(super) fn dir(&self) -> &Path {
        match self {
            Names::Numbered { dir, .. } | Names::Live { dir, .. } => dir,
        }
    }

    /// The path of file `number` while it is being written to.
    pub(in crate::sink) fn active(&self, number: u64) -> PathBuf {
        match self {
            Names::Numbered { dir, extension } => dir.join(format!("{number:012}.{extension}")),
            Names::Live { dir, name } => dir.join(name),
        }
    }

    /// Where file `number` waits until it is needed.
    pub(super) fn ahead(&self, number: u64) -> PathBuf {
        match self {
            Names::Numbered { .. } => self.active(number),
            // Not a name that a rolled file's pattern matches.
            Names::Live { dir, name } => dir.join(format!(".{name}.next")),
        }
    }
}

/// `<path>.2026-11-23T141659.000123Z`: sorts by time, no colon (some file systems refuse it).
pub(super) fn rolled_name(path: &Path) -> PathBuf {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let second = utc_second(now.as_secs()).replace(':', "");
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{second}.{:06}Z", now.subsec_micros()));
    PathBuf::from(name)
}
