//! How a line is put into a datagram: as it is, or in netconsole's extended format.

use std::{fs, io::Write, time::Instant};

/// Priority of a line that does not start with one: user.info.
const PRIORITY: u16 = 14;

/// A client's way to write lines.
#[derive(Clone, Debug)]
pub(super) enum Style {
    /// As it is.
    Plain,
    /// `[<release>,]<prio>,<seq>,<usec>,-;<text>\n`
    Extended {
        /// With its comma, or empty.
        release: String,
        seq: u64,
        start: Instant,
    },
}

impl Style {
    pub(super) fn new(extended: bool, release: bool) -> Style {
        if !extended {
            return Style::Plain;
        }
        let read = || fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_else(|_| "unknown".into());
        let release = if release { format!("{},", read().trim()) } else { String::new() };
        Style::Extended { release, seq: 0, start: Instant::now() }
    }

    /// Writes `line` into `to`, which is cleared first. A leading `<prio>` becomes the extended header's priority.
    pub(super) fn write(&mut self, line: &[u8], to: &mut Vec<u8>) {
        to.clear();
        let Style::Extended { release, seq, start } = self else {
            return to.extend_from_slice(line);
        };
        let (priority, text) = priority(line).unwrap_or((PRIORITY, line));
        // Writing to a vector does not fail.
        let _ = write!(to, "{release}{priority},{seq},{},-;", start.elapsed().as_micros());
        *seq += 1;
        for &byte in text {
            if matches!(byte, b' '..=b'~') && byte != b'\\' {
                to.push(byte);
            } else {
                let _ = write!(to, "\\x{byte:02x}");
            }
        }
        to.push(b'\n');
    }
}

/// `<13>text` as 13 and `text`.
fn priority(line: &[u8]) -> Option<(u16, &[u8])> {
    let rest = line.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|byte| *byte == b'>')?;
    let digits = str::from_utf8(&rest[..end]).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    // 23 facilities of 8 levels (RFC 5424, 6.2.1).
    let priority = digits.parse().ok().filter(|priority| *priority <= 191)?;
    Some((priority, &rest[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(style: &mut Style, line: &[u8]) -> String {
        let mut to = b"before".to_vec();
        style.write(line, &mut to);
        String::from_utf8(to).expect("ASCII")
    }

    #[test]
    fn plain_lines_stay_as_they_are() {
        assert_eq!(written(&mut Style::new(false, false), b"<13>a\tb\\"), "<13>a\tb\\");
    }

    #[test]
    fn extended_lines_have_a_header_and_escapes() {
        let mut style = Style::new(true, false);
        let first = written(&mut style, b"a\\b\t\xc3");
        assert!(first.starts_with("14,0,") && first.ends_with(",-;a\\x5cb\\x09\\xc3\n"), "{first}");
        let second = written(&mut style, b"<3>disk");
        assert!(second.starts_with("3,1,") && second.ends_with(",-;disk\n"), "{second}");
        for odd in ["<>x", "<192>x", "<+1>x", "<1x", "<00013>x"] {
            let text = written(&mut style, odd.as_bytes());
            assert!(text.starts_with("14,") && text.ends_with(&format!(";{odd}\n")), "{text}");
        }
        let release = written(&mut Style::new(true, true), b"x");
        assert_eq!(release.split(',').count(), 5, "{release}");
    }
}
