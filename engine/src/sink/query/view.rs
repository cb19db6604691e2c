//! What is in a sink's directory at one moment.

use super::{
    super::store::{Manifest, SegmentReader, StoredFile, list_segments},
    DecodeConfig, Decoder, Layout, Output, StoreError,
};

/// Times that a view is taken anew because the converter went on meanwhile; a commit comes once a
/// segment, so twice in a row is rare.
const MAX_TRIES: usize = 50;

pub(super) struct View {
    pub manifest: Manifest,
    /// The files that are in, in the order of their making.
    pub files: Vec<StoredFile>,
    /// The segments behind them, open.
    pub segments: Vec<(u64, SegmentReader)>,
}

impl View {
    pub fn take(layout: &Layout) -> Result<View, StoreError> {
        let mut manifest = Manifest::load(layout)?;
        for _ in 0..MAX_TRIES {
            let mut segments = Vec::new();
            for number in list_segments(layout)? {
                if !manifest.is_past(number)
                    && let Some(reader) = SegmentReader::open(&layout.segment(number))?
                {
                    segments.push((number, reader));
                }
            }
            let mut files = layout.files(&mut |_| {})?;
            files.retain(|file| manifest.holds(file.id));
            let now = Manifest::load(layout)?;
            if now.last == manifest.last {
                return Ok(View { manifest, files, segments });
            }
            manifest = now;
        }
        Err(StoreError::Manifest { path: layout.manifest(), what: "it changes faster than it can be read".to_owned() })
    }

    /// A decoder for the segments.
    pub fn decoder(&self, config: &DecodeConfig, out: &mut dyn Output) -> Decoder {
        match self.manifest.decoder.clone() {
            Some(snapshot) => Decoder::restore(config.clone(), snapshot, out),
            None => Decoder::new(config.clone()),
        }
    }
}
