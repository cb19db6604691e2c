//! The manifest: the one file whose rename commits a conversion.
//!
//! Layout: `MAGIC`, length of the body (u64), CRC-32 of the body (u32, both little-endian), the body
//! (postcard). It is replaced, never changed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{ErrorKind, Write},
};

use serde::{Deserialize, Serialize};

use super::{
    Layout, StoreError,
    layout::{FileId, publish, sync_dir, temporary},
    segment::Fingerprint,
};
use crate::sink::decode::Snapshot;

const MAGIC: &[u8; 8] = b"npstore2";

/// What is in the store.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The last conversion that is in.
    pub last: Option<FileId>,
    /// Of its segment; whether that is damaged, and stays.
    pub segment: Fingerprint,
    pub damaged: bool,
    /// The decoder's state behind it.
    pub decoder: Option<Snapshot>,
    /// The decoder's counters and the converter's, summed over all restarts, by name.
    pub totals: BTreeMap<String, u64>,
}

impl Manifest {
    /// The conversion of that segment, or flush, is in.
    pub fn holds(&self, id: FileId) -> bool {
        self.last.is_some_and(|last| id <= last)
    }

    /// The store is done with that segment of the spool.
    pub fn is_past(&self, segment: u64) -> bool {
        self.last.is_some_and(|last| segment <= last.segment)
    }

    /// The one of that store; an empty one where there is none.
    pub fn load(layout: &Layout) -> Result<Manifest, StoreError> {
        let path = layout.manifest();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Manifest::default()),
            Err(error) => return Err(StoreError::io("read", path)(error)),
        };
        let damaged = |what: &str| StoreError::Manifest { path: path.clone(), what: what.to_owned() };
        let body = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("it does not begin as one"))?;
        let (len, body) = body.split_first_chunk::<8>().ok_or_else(|| damaged("it is cut off"))?;
        let (sum, body) = body.split_first_chunk::<4>().ok_or_else(|| damaged("it is cut off"))?;
        if u64::from_le_bytes(*len) != body.len() as u64 {
            return Err(damaged("its length is wrong"));
        }
        if u32::from_le_bytes(*sum) != crc32(body) {
            return Err(damaged("its checksum is wrong"));
        }
        postcard::from_bytes(body).map_err(|error| damaged(&error.to_string()))
    }

    /// Puts it in the place of the one that is there: the commit.
    pub fn store(&self, layout: &Layout) -> Result<(), StoreError> {
        let path = layout.manifest();
        let damaged = |error: postcard::Error| StoreError::Manifest { path: path.clone(), what: error.to_string() };
        let body = postcard::to_stdvec(self).map_err(damaged)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&crc32(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        let written = File::create(temporary(&path)).and_then(|mut file| file.write_all(&bytes).map(|()| file));
        let file = written.map_err(StoreError::io("write", &path))?;
        publish(&file, &path)?;
        sync_dir(&layout.store())
    }
}

/// CRC-32 (IEEE 802.3), a byte at a time: the manifest is written once a segment.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|at| {
        (0..8).fold(at as u32, |sum, _| if sum & 1 == 1 { 0xedb8_8320 ^ (sum >> 1) } else { sum >> 1 })
    });
    !bytes.iter().fold(u32::MAX, |sum, byte| table[usize::from(sum as u8 ^ byte)] ^ (sum >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_standards_check_string() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_stored_is_loaded(
            last in proptest::option::of((0..=u64::MAX, 0..=u32::MAX)),
            damaged in proptest::bool::ANY,
            totals in proptest::collection::btree_map("\\PC{0,12}", 0..=u64::MAX, 0..5),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let layout = Layout::new(dir.path());
            fs::create_dir(layout.store()).unwrap();
            let last = last.map(|(segment, flush)| FileId { segment, flush });
            let manifest = Manifest { last, damaged, totals, ..Manifest::default() };
            manifest.store(&layout).unwrap();
            let loaded = Manifest::load(&layout).unwrap();
            proptest::prop_assert_eq!((loaded.last, loaded.damaged, loaded.totals), (last, damaged, manifest.totals));
        }
    }

    #[test]
    fn there_and_back_and_every_damage_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        assert_eq!(Manifest::load(&layout).unwrap().last, None);
        fs::create_dir(layout.store()).unwrap();
        let last = Some(FileId { segment: 3, flush: 1 });
        let manifest = Manifest { last, totals: [("records".to_owned(), 5)].into(), ..Manifest::default() };
        manifest.store(&layout).unwrap();
        let loaded = Manifest::load(&layout).unwrap();
        assert_eq!((loaded.last, loaded.totals), (last, manifest.totals));
        assert!(!temporary(&layout.manifest()).exists());
        let bytes = fs::read(layout.manifest()).unwrap();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            fs::write(layout.manifest(), &bad).unwrap();
            assert!(Manifest::load(&layout).is_err(), "byte {at}");
            fs::write(layout.manifest(), &bytes[..at]).unwrap();
            assert!(Manifest::load(&layout).is_err(), "cut at {at}");
        }
    }
}
