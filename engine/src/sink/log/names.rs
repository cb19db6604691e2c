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

/// The part of a rolled file's name that [`rolled_name`] appends, without the dot: `9` stands for a digit.
const STAMP: &[u8] = b"9999-99-99T999999.999999Z";

/// `name` is that of a rolled file (compressed, being compressed, or not) of the one called `live`. Files that others
/// have rolled, such as logrotate's, are not ours to compress or remove.
pub(in crate::sink) fn is_rolled(live: &str, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(live).and_then(|rest| rest.strip_prefix('.')) else { return false };
    let Some((stamp, suffix)) = rest.split_at_checked(STAMP.len()) else { return false };
    let matches = |(byte, wanted): (u8, &u8)| if *wanted == b'9' { byte.is_ascii_digit() } else { byte == *wanted };
    matches!(suffix, "" | ".zst" | ".zst.part") && stamp.bytes().zip(STAMP).all(matches)
}

/// `<path>.2026-11-23T141659.000123Z`: sorts by time, no colon (some file systems refuse it).
pub(super) fn rolled_name(path: &Path) -> PathBuf {
    rolled_name_at(path, std::time::SystemTime::now())
}

/// The same for another moment.
pub(in crate::sink) fn rolled_name_at(path: &Path, time: std::time::SystemTime) -> PathBuf {
    let now = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let second = utc_second(now.as_secs()).replace(':', "");
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{second}.{:06}Z", now.subsec_micros()));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_rolled_here_is_ours() {
        let name = rolled_name(Path::new("netpoll.log"));
        let name = name.to_str().unwrap();
        for suffix in ["", ".zst", ".zst.part"] {
            assert!(is_rolled("netpoll.log", &format!("{name}{suffix}")), "{name}{suffix}");
        }
        for other in ["netpoll.log", "netpoll.log.1", "netpoll.log-20261123", "netpoll.log.1.gz", "netpoll.log."] {
            assert!(!is_rolled("netpoll.log", other), "{other}");
        }
        assert!(!is_rolled("netpoll.log", &format!("{name}.gz")) && !is_rolled("netpoll.jsonl", name));
    }
}
