//! Client options, the netconsole way: `[+][r][src-port]@[src-ip]/[dev],[dst-port]@<dst-ip>/[dst-mac]`, several
//! separated by `;`.
//!
//! Strict, and all or nothing: no blanks, no signs, no trailing characters, and one bad target refuses the whole
//! string. The error says at which byte, what stands there, and what was expected instead.
//!
//! The parser goes from left to right, a field and then the separator behind it, so it is the first fault that
//! is told.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::wire::MacAddr;

/// Source port where none is given.
pub const DEFAULT_SRC_PORT: u16 = 6665;
/// Destination port where none is given.
pub const DEFAULT_DST_PORT: u16 = 6666;

/// One target. What was left out and has a fixed default is filled in; the rest is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetconsoleTarget {
    /// `+`: netconsole's extended format.
    pub extended: bool,
    /// `r` after the `+`: each message starts with the kernel's release.
    pub release: bool,
    /// Our UDP port.
    pub src_port: u16,
    /// Our address; `None` is the port's.
    pub src_ip: Option<IpAddr>,
    /// The port; `None` is the first.
    pub dev: Option<DevSel>,
    /// The receiver's UDP port.
    pub dst_port: u16,
    /// The receiver's address.
    pub dst_ip: IpAddr,
    /// The next hop's MAC address; `None` is broadcast.
    pub dst_mac: Option<MacAddr>,
}

/// How a target names its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DevSel {
    /// By name: not empty, without `/ , ; @` and blanks; a `:` only together with a `.`, as in a PCI address.
    Name(String),
    /// By MAC address.
    Mac(MacAddr),
}

/// Where an option string is wrong, and how.
///
/// Its text is the message, then the target, then a line with a caret under the place:
/// ```text
/// byte 18: found "x", expected the receiver's port number, 0 to 65535, or nothing for 6666
///   6665@10.0.0.1/np0,x@10.0.0.2/
///                     ^
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionsError {
    /// Byte offset in the whole string.
    pub at: usize,
    /// What stands there, as far as it is wrong; empty at the end.
    pub found: String,
    /// What was expected there.
    pub expected: &'static str,
    /// The target that is wrong; of a long one, the part around the place. Control characters are shown as `?`.
    pub excerpt: String,
    /// Characters before the place in `excerpt`.
    pub caret: usize,
}

impl std::error::Error for OptionsError {}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, found, expected, excerpt, caret } = self;
        write!(f, "byte {at}: found ")?;
        if found.is_empty() {
            f.write_str("the end")?
        } else {
            write!(f, "{found:?}")?
        }
        write!(f, ", expected {expected}\n  {excerpt}\n  {:caret$}^", "")
    }
}

/// Parses targets separated by `;`. At least one; none may be empty.
pub fn parse_targets(text: &str) -> Result<Vec<NetconsoleTarget>, OptionsError> {
    let mut at = 0;
    let mut targets = Vec::new();
    for target in text.split(';') {
        targets.push(parse_target(target).map_err(|fault| fault.into_error(text, at, target))?);
        at += target.len() + 1;
    }
    Ok(targets)
}

impl FromStr for NetconsoleTarget {
    type Err = OptionsError;

    /// Parses a single target.
    fn from_str(text: &str) -> Result<Self, OptionsError> {
        parse_target(text).map_err(|fault| fault.into_error(text, 0, text))
    }
}

impl fmt::Display for NetconsoleTarget {
    /// The target as an option string, ports always written out, so that it parses back to the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = |set, mark| if set { mark } else { "" };
        write!(f, "{}{}{}@", mark(self.extended, "+"), mark(self.release, "r"), self.src_port)?;
        if let Some(ip) = self.src_ip {
            write!(f, "{ip}")?;
        }
        f.write_str("/")?;
        match &self.dev {
            Some(DevSel::Name(name)) => f.write_str(name)?,
            Some(DevSel::Mac(mac)) => write!(f, "{mac}")?,
            None => {}
        }
        write!(f, ",{}@{}/", self.dst_port, self.dst_ip)?;
        if let Some(mac) = self.dst_mac {
            write!(f, "{mac}")?;
        }
        Ok(())
    }
}

/// A fault at a byte range of one target.
struct Fault {
    at: usize,
    len: usize,
    expected: &'static str,
}

impl Fault {
    /// Most characters shown on either side of the place.
    const AROUND: usize = 60;

    /// For `target`, which starts at `target_at` of `text`.
    fn into_error(self, text: &str, target_at: usize, target: &str) -> OptionsError {
        let Fault { at, len, expected } = self;
        // Behind a target's end there may be a ';'.
        let len = if target_at + at < text.len() { len.max(1) } else { len };
        let (before, after) = target.split_at(at);
        let clean = |c: char| if c.is_control() { '?' } else { c };
        let skipped = before.chars().count().saturating_sub(Self::AROUND);
        let mut excerpt: String = before.chars().skip(skipped).map(clean).collect();
        let caret = excerpt.chars().count();
        excerpt.extend(after.chars().take(Self::AROUND).map(clean));
        OptionsError {
            at: target_at + at,
            found: text[target_at + at..][..len].chars().take(Self::AROUND).collect(),
            expected,
            excerpt,
            caret,
        }
    }
}

/// What is left of a target, and where that starts in it.
struct Cursor<'a> {
    rest: &'a str,
    at: usize,
}

/// A field's text, and where it starts in the target.
struct Field<'a> {
    text: &'a str,
    at: usize,
}

const SEPARATORS: [char; 4] = ['@', '/', ',', ';'];

impl<'a> Cursor<'a> {
    /// Takes `mark` if it comes next.
    fn take(&mut self, mark: char) -> bool {
        let Some(rest) = self.rest.strip_prefix(mark) else { return false };
        self.at += mark.len_utf8();
        self.rest = rest;
        true
    }

    /// Takes what comes before the next separator, whichever it is, or the end.
    fn field(&mut self) -> Field<'a> {
        let (text, rest) = self.rest.split_at(self.rest.find(SEPARATORS).unwrap_or(self.rest.len()));
        let field = Field { text, at: self.at };
        self.at += text.len();
        self.rest = rest;
        field
    }

    /// Takes `mark`, which must come next.
    fn expect(&mut self, mark: char, expected: &'static str) -> Result<(), Fault> {
        if self.take(mark) { Ok(()) } else { Err(self.fault(expected)) }
    }

    /// A fault at the next character.
    fn fault(&self, expected: &'static str) -> Fault {
        Fault { at: self.at, len: self.rest.chars().next().map_or(0, char::len_utf8), expected }
    }
}

impl Field<'_> {
    /// A port number: digits alone, at most 65535.
    fn port(&self, default: u16, expected: &'static str) -> Result<u16, Fault> {
        // `u16::from_str` would take a sign.
        let digits = self.text.bytes().all(|b| b.is_ascii_digit());
        match self.text.parse() {
            _ if self.text.is_empty() => Ok(default),
            Ok(port) if digits => Ok(port),
            _ => Err(self.fault(expected)),
        }
    }

    /// `None` if the field is empty.
    fn optional<T: FromStr>(&self, expected: &'static str) -> Result<Option<T>, Fault> {
        if self.text.is_empty() { Ok(None) } else { self.text.parse().map(Some).map_err(|_| self.fault(expected)) }
    }

    fn fault(&self, expected: &'static str) -> Fault {
        Fault { at: self.at, len: self.text.len(), expected }
    }
}

/// Why a string names no port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a port's name (without blanks and any of '@/,;') or its MAC address")]
pub struct DevParseError;

impl FromStr for DevSel {
    type Err = DevParseError;

    /// What has a `:` but no `.` can only be meant as a MAC address; all else is a name.
    fn from_str(text: &str) -> Result<Self, DevParseError> {
        if text.contains(':') && !text.contains('.') {
            return text.parse().map(DevSel::Mac).map_err(|_| DevParseError);
        }
        let bad = |c: char| SEPARATORS.contains(&c) || c.is_whitespace() || c.is_control();
        if text.is_empty() || text.contains(bad) { Err(DevParseError) } else { Ok(DevSel::Name(text.to_owned())) }
    }
}

/// The grammar, from left to right.
fn parse_target(text: &str) -> Result<NetconsoleTarget, Fault> {
    let mut cursor = Cursor { rest: text, at: 0 };
    let extended = cursor.take('+');
    if !extended && text.starts_with('r') {
        return Err(cursor.fault("'+' before 'r': the release goes with the extended format only"));
    }
    let release = cursor.take('r');
    let src_port =
        cursor.field().port(DEFAULT_SRC_PORT, "the source's port number, 0 to 65535, or nothing for 6665")?;
    cursor.expect('@', "'@' behind the source's port number")?;
    let src_ip = cursor.field().optional("the source's IP address, or nothing for the port's")?;
    cursor.expect('/', "'/' behind the source's address")?;
    let dev = cursor.field().optional("a port's name or MAC address, or nothing for the first")?;
    cursor.expect(',', "',' behind the port")?;
    let dst_port =
        cursor.field().port(DEFAULT_DST_PORT, "the receiver's port number, 0 to 65535, or nothing for 6666")?;
    cursor.expect('@', "'@' behind the receiver's port number")?;
    let dst_field = cursor.field();
    let dst_ip = dst_field.optional(DST_IP)?.ok_or_else(|| cursor.fault(DST_IP))?;
    check_family(src_ip, dst_ip).map_err(|expected| dst_field.fault(expected))?;
    cursor.expect('/', "'/' behind the receiver's address")?;
    let dst_mac = cursor.field().optional("the next hop's MAC address, or nothing for broadcast")?;
    if !cursor.rest.is_empty() {
        return Err(cursor.fault("the end, or ';' and another target"));
    }
    Ok(NetconsoleTarget { extended, release, src_port, src_ip, dev, dst_port, dst_ip, dst_mac })
}

const DST_IP: &str = "the receiver's IP address";

/// Both addresses must be of one family; if not, says which one is missing.
fn check_family(src: Option<IpAddr>, dst: IpAddr) -> Result<(), &'static str> {
    match (src, dst) {
        (Some(IpAddr::V4(_)), IpAddr::V6(_)) => Err("an IPv4 address, as the source has one"),
        (Some(IpAddr::V6(_)), IpAddr::V4(_)) => Err("an IPv6 address, as the source has one"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
