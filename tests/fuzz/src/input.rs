//! How several frames or datagrams lie in one input.

/// Ends a datagram in an input of several.
pub const SEPARATOR: &[u8] = b"\0\xff";

/// Pieces of a head byte, a length (u16, little endian) and that many bytes; the last may be cut short.
pub fn counted(mut input: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[head, low, high], rest) = input.split_first_chunk::<3>()?;
        let len = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
        let (piece, rest) = rest.split_at(len);
        input = rest;
        Some((head, piece))
    })
}

/// The bytes of one piece of [`counted`].
pub fn count(head: u8, piece: &[u8]) -> Vec<u8> {
    let len = u16::try_from(piece.len()).expect("a frame is short").to_le_bytes();
    [&[head], &len[..], piece].concat()
}

/// Pieces of a head byte and all that follows up to [`SEPARATOR`]: such inputs are nearly text, and stay pieces
/// whatever is put in or cut out.
pub fn separated(input: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = Some(input);
    std::iter::from_fn(move || {
        let all = rest?;
        let end = all.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        rest = end.map(|end| &all[end + SEPARATOR.len()..]);
        let piece = &all[..end.unwrap_or(all.len())];
        Some(piece.split_first().map_or((0, piece), |(head, piece)| (*head, piece)))
    })
}
