//! Notes of what was lost, as metadata of a batch's message.
//!
//! An Arrow message may carry `custom_metadata`, which readers that do not know it pass over. The batch's own
//! message is made by the Arrow crate, which has no way to set it: so the message's head is made again with it.

use arrow_ipc::{KeyValue, KeyValueArgs, MessageArgs, RecordBatchArgs};
use flatbuffers::FlatBufferBuilder;

use crate::sink::loss::Loss;

/// The key of the metadata: a JSON array of [`Loss`].
const KEY: &str = "netpoll.losses";

/// Bytes before a message's metadata: the marker and a length.
const PREFIX: usize = 8;
/// What a head's length is a multiple of.
const ALIGN: usize = 64;

/// The head of a message (`prefix, metadata, padding`) with `losses` in it. `None` if `head` is not that of a batch.
pub(super) fn with_losses(head: &[u8], losses: &[Loss]) -> Option<Vec<u8>> {
    let message = arrow_ipc::root_as_message(head.get(PREFIX..)?).ok()?;
    let batch = message.header_as_record_batch()?;
    let text = serde_json::to_string(losses).ok()?;
    let mut builder = FlatBufferBuilder::new();
    let nodes = batch.nodes().map(|nodes| builder.create_vector_from_iter(nodes.iter().copied()));
    let buffers = batch.buffers().map(|buffers| builder.create_vector_from_iter(buffers.iter().copied()));
    let args = RecordBatchArgs { length: batch.length(), nodes, buffers, ..RecordBatchArgs::default() };
    let header = arrow_ipc::RecordBatch::create(&mut builder, &args).as_union_value();
    let (key, value) = (builder.create_string(KEY), builder.create_string(&text));
    let pair = KeyValue::create(&mut builder, &KeyValueArgs { key: Some(key), value: Some(value) });
    let args = MessageArgs {
        version: message.version(),
        header_type: message.header_type(),
        header: Some(header),
        bodyLength: message.bodyLength(),
        custom_metadata: Some(builder.create_vector(&[pair])),
    };
    let root = arrow_ipc::Message::create(&mut builder, &args);
    builder.finish(root, None);
    let metadata = builder.finished_data();
    let padded = (PREFIX + metadata.len()).next_multiple_of(ALIGN);
    let mut made = head[..4].to_vec();
    made.extend_from_slice(&u32::try_from(padded - PREFIX).ok()?.to_le_bytes());
    made.extend_from_slice(metadata);
    made.resize(padded, 0);
    Some(made)
}

/// The losses of a message's metadata. What is not understood is as if it were not there.
pub(super) fn losses_of(message: &arrow_ipc::Message<'_>) -> Vec<Loss> {
    let pairs = message.custom_metadata().into_iter().flatten();
    let value = pairs.filter(|pair| pair.key() == Some(KEY)).find_map(|pair| pair.value());
    value.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
