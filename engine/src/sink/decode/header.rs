//! The header of extended netconsole: `[release,]prio,seq,usec,flag[,caller=..][,k=v..];`
//! (Documentation/networking/netconsole.rst, Documentation/ABI/testing/dev-kmsg).
//!
//! The parse is strict, since a listener that tries formats decides by it: numbers are all digits,
//! the flag is one character, `;` is there within [`MAX_HEADER`] bytes.

/// Longest header that is looked at, `;` included.
pub(crate) const MAX_HEADER: usize = 512;

/// Longest body that fragments may announce. The kernel's own limit is near 66,000.
pub(crate) const MAX_TOTAL: u32 = 70_000;

/// Where a fragment's bytes lie in the message's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub offset: u32,
    pub total: u32,
}

/// A parsed header, borrowed from the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    pub release: &'a [u8],
    pub facility: u8,
    pub severity: u8,
    pub seq: u64,
    pub usec: u64,
    /// The record continues the line before it, of the same caller.
    pub continuation: bool,
    /// `T<pid>` or `C<cpu>`; empty where it was not sent.
    pub caller: &'a [u8],
    /// `k=v` items that have no meaning here, commas between them.
    pub extra: &'a [u8],
    /// Set on a fragment.
    pub slice: Option<Slice>,
}

impl<'a> Header<'a> {
    /// Splits a datagram into its header and its body (what follows `;`), or `None` when it is no
    /// extended netconsole.
    pub fn parse(datagram: &'a [u8]) -> Option<(Header<'a>, &'a [u8])> {
        let end = memchr::memchr(b';', &datagram[..datagram.len().min(MAX_HEADER)])?;
        let header = Header::parse_items(&datagram[..end])?;
        let body = &datagram[end + 1..];
        if let Some(Slice { offset, total }) = header.slice {
            // A slice that lies outside of its message, or is empty, is not the kernel's.
            let inside = offset as usize + body.len() <= total as usize;
            if total > MAX_TOTAL || !inside || body.is_empty() {
                return None;
            }
        }
        Some((header, body))
    }

    /// Parses a header that was cut off behind its `;`, as that of the first fragment is kept.
    pub fn parse_stored(header: &'a [u8]) -> Option<Header<'a>> {
        Header::parse_items(header.strip_suffix(b";")?)
    }

    fn parse_items(header: &'a [u8]) -> Option<Header<'a>> {
        let mut rest = header;
        let first = next_item(&mut rest)?;
        // A release of digits alone cannot be told from a prio at the first item: the flag decides.
        let (release, prio) = match Header::looks_like_prio(first, rest) {
            true => (&header[..0], first),
            false => (first, next_item(&mut rest)?),
        };
        let prio = u16::try_from(number(prio)?).ok().filter(|prio| *prio < 2048)?;
        let seq = number(next_item(&mut rest)?)?;
        let usec = number(next_item(&mut rest)?)?;
        let continuation = match next_item(&mut rest)? {
            b"-" => false,
            // Kernels before 4.10 marked the later fragments of a line with `+`.
            b"c" | b"+" => true,
            _ => return None,
        };
        let mut parsed = Header {
            release,
            facility: (prio >> 3) as u8,
            severity: (prio & 7) as u8,
            seq,
            usec,
            continuation,
            caller: &header[..0],
            extra: &header[..0],
            slice: None,
        };
        let mut extra_from = None;
        let extra_start = rest;
        while let Some(item) = next_item(&mut rest) {
            if let Some(caller) = item.strip_prefix(b"caller=") {
                parsed.caller = caller;
            } else if let Some(slice) = item.strip_prefix(b"ncfrag=") {
                parsed.slice = Some(parse_slice(slice)?);
            } else if extra_from.is_none() {
                extra_from = Some(extra_start);
            }
        }
        // All optional items are kept together: which of them are known is asked again when the record
        // is made, which is rare.
        parsed.extra = extra_from.unwrap_or(parsed.extra);
        Some(parsed)
    }

    fn looks_like_prio(first: &[u8], mut rest: &[u8]) -> bool {
        let mut next = || next_item(&mut rest);
        number(first).is_some()
            && next().is_some_and(|seq| number(seq).is_some())
            && next().is_some_and(|usec| number(usec).is_some())
            && next().is_some_and(|flag| matches!(flag, b"-" | b"c" | b"+"))
    }

    /// The unknown `k=v` items: key and value.
    pub fn extra_items(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.extra
            .split(|byte| *byte == b',')
            .filter(|item| !item.is_empty() && !item.starts_with(b"caller=") && !item.starts_with(b"ncfrag="))
            .map(split_at_equals)
    }
}

/// `key=value` in two; the value is empty where there is no `=`.
pub(crate) fn split_at_equals(item: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'=', item) {
        Some(at) => (&item[..at], &item[at + 1..]),
        None => (item, &item[item.len()..]),
    }
}

fn next_item<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if rest.is_empty() {
        return None;
    }
    let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
    let item = &rest[..end];
    *rest = rest.get(end + 1..).unwrap_or_default();
    Some(item)
}

/// Digits only, without overflow.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

fn parse_slice(value: &[u8]) -> Option<Slice> {
    let slash = value.iter().position(|byte| *byte == b'/')?;
    let offset = u32::try_from(number(&value[..slash])?).ok()?;
    let total = u32::try_from(number(&value[slash + 1..])?).ok()?;
    Some(Slice { offset, total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_documentations_examples() {
        let (header, body) = Header::parse(b"6,416,1758426,-,ncfrag=0/33;the first chunk, ").unwrap();
        assert_eq!((header.facility, header.severity, header.seq, header.usec), (0, 6, 416, 1_758_426));
        assert_eq!(header.slice, Some(Slice { offset: 0, total: 33 }));
        assert_eq!(body, b"the first chunk, ");
        let (header, body) = Header::parse(b"6.4.0,6,444,501151268,-;netconsole: network logging started\n").unwrap();
        assert_eq!(header.release, b"6.4.0");
        assert_eq!(body, b"netconsole: network logging started\n");
        assert!(header.slice.is_none() && !header.continuation);
    }

    #[test]
    fn optional_items() {
        let (header, _) = Header::parse(b"30,1,2,c,a=b,caller=T17,new=x=y;").unwrap();
        assert_eq!((header.facility, header.severity), (3, 6));
        assert!(header.continuation);
        assert_eq!(header.caller, b"T17");
        let extra: Vec<_> = header.extra_items().collect();
        assert_eq!(extra, [(&b"a"[..], &b"b"[..]), (b"new", b"x=y")]);
    }

    #[test]
    fn a_release_of_digits() {
        assert_eq!(Header::parse(b"6,6,1,2,-;").unwrap().0.release, b"6");
        assert_eq!(Header::parse(b"6,1,2,-;").unwrap().0.release, b"");
    }

    #[test]
    fn what_is_no_header() {
        for bad in [
            &b""[..],
            b"6,1,2,-",
            b"6,1,2;text",
            b"6,1,2,x;text",
            b"2048,1,2,-;text",
            b"6,-1,2,-;text",
            b"6,18446744073709551616,2,-;text",
            b"6,1,2,-,ncfrag=0;text",
            b"6,1,2,-,ncfrag=1/4;text",
            b"6,1,2,-,ncfrag=0/70001;text",
            b"6,1,2,-,ncfrag=0/4;",
            b"<13>1 - - - - - - a;b",
            b"some text, with; semicolon",
        ] {
            assert_eq!(Header::parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }
}
