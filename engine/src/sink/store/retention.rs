//! What is old goes: by age, by all files' bytes, by what the disk has left.

use std::fs;

use super::{
    Layout, StoreConfig, StoreError, StoredFile,
    layout::{HOUR_NS, remove},
};

/// What retention took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Removes what the limits leave no room for, oldest hours first. `now_ns` is nanoseconds since the Unix
/// epoch; `committed` says which files may be removed at all.
pub(crate) fn retain(
    layout: &Layout,
    config: &StoreConfig,
    now_ns: u64,
    committed: impl Fn(&StoredFile) -> bool,
) -> Result<Removed, StoreError> {
    let mut files = layout.files(&mut |_| {})?;
    files.retain(committed);
    files.sort_by_key(|file| file.hour_ns);
    let sizes: Vec<u64> = files.iter().map(|file| fs::metadata(&file.path).map_or(0, |data| data.len())).collect();
    let mut total: u64 = sizes.iter().sum();
    let mut removed = Removed::default();
    for (file, size) in files.iter().zip(sizes) {
        let end_ns = file.hour_ns.saturating_add(HOUR_NS);
        let too_old = config.keep_ns.is_some_and(|keep_ns| end_ns.saturating_add(keep_ns) <= now_ns);
        let too_much = config.keep_bytes.is_some_and(|keep_bytes| total > keep_bytes);
        if !too_old && !too_much && !disk_is_short(layout, config)? {
            break;
        }
        remove(&file.path)?;
        removed.files += 1;
        removed.bytes += size;
        total -= size;
        // An empty hour, and then an empty day, go too; one that is not empty stays.
        if let Some(hour) = file.path.parent() {
            let _ = fs::remove_dir(hour);
            let _ = hour.parent().map(fs::remove_dir);
        }
    }
    Ok(removed)
}

fn disk_is_short(layout: &Layout, config: &StoreConfig) -> Result<bool, StoreError> {
    let dir = layout.store();
    let stat =
        rustix::fs::statvfs(&dir).map_err(|errno| StoreError::io("ask for the free space of", dir)(errno.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize) < config.min_free_bytes)
}
