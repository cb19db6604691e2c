//! What a message of ours looks like, before a byte of it is given to the decoder.
//!
//! `arrow_ipc` checks that metadata is a well-formed flatbuffer, and that columns fit together; in between it takes
//! offsets, lengths and counts as they are, and panics where they lead out of the message (found by fuzzing:
//! `tests/fuzz/corpus/spool/found-*`). A spool's messages are all alike, so they are held to that.

use arrow_ipc::{Message, MessageHeader};

use super::schema;

/// Buffers of a batch: validity and values of each column, and the payload's offsets.
const BUFFERS: usize = 13;

/// Whether `message`, with a body of `body_len` bytes, can be one of a spool; if not, what is wrong with it.
pub(super) fn check(message: &Message<'_>, body_len: usize) -> Result<(), String> {
    match message.header_type() {
        MessageHeader::Schema => check_schema(message),
        MessageHeader::RecordBatch => check_batch(message, body_len),
        other => Err(format!("a message of type {}", other.variant_name().unwrap_or("unknown"))),
    }
}

fn check_schema(message: &Message<'_>) -> Result<(), String> {
    let found = message.header_as_schema().and_then(|schema| schema.fields()).unwrap_or_default();
    let schema = schema();
    let names = schema.fields().iter().map(|field| Some(field.name().as_str()));
    if !found.iter().map(|field| field.name()).eq(names) {
        return Err("other columns than a spool's".into());
    }
    // The types are the decoder's to read, and compared once a batch is there.
    if found.iter().any(|field| field.dictionary().is_some() || field.children().is_some_and(|c| !c.is_empty())) {
        return Err("columns of other types than a spool's".into());
    }
    Ok(())
}

fn check_batch(message: &Message<'_>, body_len: usize) -> Result<(), String> {
    let batch = message.header_as_record_batch().ok_or("a batch without a header")?;
    let nodes = batch.nodes().ok_or("a batch without columns")?;
    let buffers = batch.buffers().ok_or("a batch without buffers")?;
    let columns = schema().fields().len();
    if batch.compression().is_some() || nodes.len() != columns || buffers.len() != BUFFERS {
        return Err(format!("a batch of {} columns in {} buffers", nodes.len(), buffers.len()));
    }
    let rows = batch.length();
    if nodes.iter().any(|node| node.length() != rows || node.null_count() != 0) {
        return Err(format!("columns of other lengths than {rows}"));
    }
    let inside = |buffer: &arrow_ipc::Buffer| {
        let (from, len) = (usize::try_from(buffer.offset()), usize::try_from(buffer.length()));
        matches!((from, len), (Ok(from), Ok(len)) if from.checked_add(len).is_some_and(|end| end <= body_len))
    };
    match buffers.iter().find(|buffer| !inside(buffer)) {
        Some(outside) => Err(format!("a column at {} of {} bytes, in {body_len}", outside.offset(), outside.length())),
        None => Ok(()),
    }
}
