//! Bytes to text without loss.

use std::fmt::Write;

/// The bytes need escapes to become text: they are not valid UTF-8.
#[inline]
pub(crate) fn needs_escapes(bytes: &[u8]) -> bool {
    // ASCII is the common case, and its check is a third of the price.
    !bytes.is_ascii() && std::str::from_utf8(bytes).is_err()
}

/// Appends `bytes` to `out`. With `escaped` (see [`needs_escapes`], asked for the whole that `bytes` is
/// a slice of), a byte that is no UTF-8 becomes `\xNN` and a backslash `\x5c`.
#[inline]
pub(crate) fn push(out: &mut String, bytes: &[u8], escaped: bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) if !escaped => out.push_str(text),
        _ => push_escaped(out, bytes),
    }
}

#[cold]
fn push_escaped(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for (at, piece) in chunk.valid().split('\\').enumerate() {
            if at > 0 {
                out.push_str("\\x5c");
            }
            out.push_str(piece);
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// What plain text reads like among escaped text.
pub(crate) fn escape_backslashes(text: &str) -> String {
    text.replace('\\', "\\x5c")
}

/// The opposite of [`push`] with `escaped`: the bytes that were sent.
#[cfg(test)]
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut pieces = text.split("\\x");
    let mut out = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        out.push(u8::from_str_radix(&piece[..2], 16).unwrap());
        out.extend_from_slice(&piece.as_bytes()[2..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn valid_text_stays_as_it_is() {
        let mut out = String::new();
        push(&mut out, "a\\b\u{e9}".as_bytes(), false);
        assert_eq!(out, "a\\b\u{e9}");
    }

    proptest! {
        #[test]
        fn nothing_is_lost(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut out = String::new();
            push(&mut out, &bytes, true);
            prop_assert_eq!(unescape(&out), bytes);
        }
    }
}
