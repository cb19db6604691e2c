//! One log message, as it is stored and queried: what every decoder ends in.
//!
//! Text is UTF-8. A datagram (or an unescaped netconsole body) that is not valid UTF-8 is kept without
//! loss: the record gets [`Flags::ESCAPED`], and in each of its strings a byte that is no UTF-8 reads
//! `\xNN` and a backslash reads `\x5c`. Without that flag, strings hold exactly what was sent.
//!
//! An empty string means "not there", for every string but `message`.

#[cfg(all(test, feature = "store"))]
pub(crate) mod arbitrary;
pub mod civil;
pub(crate) mod column;
mod fields;
pub(crate) mod text;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    ops::{BitOr, BitOrAssign},
};

pub use column::Column;
pub use fields::{Fields, MAX_FIELDS, REST};

/// When something happened, by the sender's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub struct EventTime {
    /// Nanoseconds since the Unix epoch.
    pub ns: i64,
    /// How far off it may be, in nanoseconds. It bounds what is known here (resolution, time zone, clock
    /// offset), not whether the sender's own clock is right.
    pub error_ns: u64,
}

/// One log message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub struct Record {
    /// When its first datagram was received: nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// When the sender says that it happened.
    pub event_time: Option<EventTime>,
    /// Source address of the datagram.
    pub src_ip: IpAddr,
    /// Source port, host byte order.
    pub src_port: u16,
    /// Destination address.
    pub dst_ip: IpAddr,
    /// Destination port, host byte order.
    pub dst_port: u16,
    /// The host name that a syslog header carries.
    pub host: String,
    /// Syslog facility: 0 to 23 from syslog, 0 to 255 from netconsole.
    pub facility: Option<u8>,
    /// Syslog severity, 0 (emergency) to 7 (debug).
    pub severity: Option<u8>,
    /// APP-NAME (RFC 5424) or TAG (RFC 3164).
    pub app: String,
    /// PROCID (RFC 5424) or the tag's `[pid]` (RFC 3164).
    pub pid: String,
    /// MSGID (RFC 5424) or netconsole's ` msgid=`.
    pub msgid: String,
    /// netconsole's record number.
    pub seq: Option<u64>,
    /// The kernel's monotonic clock, in microseconds since its boot.
    pub kernel_usec: Option<u64>,
    /// netconsole's `caller=`: `T<pid>` or `C<cpu>`.
    pub caller: String,
    /// The kernel release that netconsole sent.
    pub release: String,
    /// The message, without the line end.
    pub message: String,
    /// Structured data, printk dictionary, user data, unknown header fields.
    pub fields: Fields,
    /// Which decoder made it.
    pub format: Format,
    /// What is special about it.
    pub flags: Flags,
    /// Number of datagrams that it was made of.
    pub parts: u32,
}

impl Default for Record {
    fn default() -> Self {
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Record {
            time_ns: 0,
            event_time: None,
            src_ip: nowhere,
            src_port: 0,
            dst_ip: nowhere,
            dst_port: 0,
            host: String::new(),
            facility: None,
            severity: None,
            app: String::new(),
            pid: String::new(),
            msgid: String::new(),
            seq: None,
            kernel_usec: None,
            caller: String::new(),
            release: String::new(),
            message: String::new(),
            fields: Fields::default(),
            format: Format::Raw,
            flags: Flags::default(),
            parts: 1,
        }
    }
}

impl Record {
    /// As new, but with its strings' room kept: a decoder makes all its records in one.
    pub fn clear(&mut self) {
        let Record { host, app, pid, msgid, caller, release, message, fields, .. } = self;
        for text in [host, app, pid, msgid, caller, release, message] {
            text.clear();
        }
        fields.clear();
        self.event_time = None;
        self.facility = None;
        self.severity = None;
        self.seq = None;
        self.kernel_usec = None;
        self.format = Format::Raw;
        self.flags = Flags::default();
        self.parts = 1;
    }

    /// Adds `line`'s message behind `separator`, its fields that are new, its flags and parts.
    pub(crate) fn append(&mut self, separator: &str, line: &Record) {
        let (mine, its) = (self.flags.has(Flags::ESCAPED), line.flags.has(Flags::ESCAPED));
        if its && !mine {
            self.message = text::escape_backslashes(&self.message);
            self.fields = self.fields.map_values(text::escape_backslashes);
        }
        let escape = mine && !its;
        self.message.push_str(separator);
        match escape {
            true => self.message.push_str(&text::escape_backslashes(&line.message)),
            false => self.message.push_str(&line.message),
        }
        for (key, value) in line.fields.iter() {
            if self.fields.get(key) == Some(value) {
                continue;
            }
            match escape {
                true => self.fields.push(key, &text::escape_backslashes(value)),
                false => self.fields.push(key, value),
            }
        }
        self.flags |= line.flags;
        self.parts += line.parts;
    }
}

/// Which decoder made a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
#[repr(u8)]
pub enum Format {
    /// Bytes of no known format.
    Raw = 0,
    /// netconsole text without a header.
    NetconsoleBasic = 1,
    /// netconsole with a header.
    NetconsoleExtended = 2,
    /// RFC 3164 and what goes by that name.
    Rfc3164 = 3,
    /// RFC 5424.
    Rfc5424 = 4,
}

impl Format {
    /// All of them, by their number.
    pub const ALL: [Format; 5] =
        [Format::Raw, Format::NetconsoleBasic, Format::NetconsoleExtended, Format::Rfc3164, Format::Rfc5424];

    /// Its name in the store and in queries.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::NetconsoleBasic => "netconsole",
            Format::NetconsoleExtended => "netconsole+",
            Format::Rfc3164 => "rfc3164",
            Format::Rfc5424 => "rfc5424",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// What is special about a record: a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
#[repr(transparent)]
pub struct Flags(pub u16);

impl Flags {
    /// Parts of it never came; the message says where and how much.
    pub const HOLES: Flags = Flags(1);
    /// It was let go before its end came (time-out, memory limit).
    pub const INCOMPLETE: Flags = Flags(2);
    /// Continuation lines were joined into it.
    pub const JOINED: Flags = Flags(4);
    /// A continuation whose beginning was not there to be joined.
    pub const ORPHAN: Flags = Flags(8);
    /// A kernel crash: all its lines as one message.
    pub const CRASH: Flags = Flags(16);
    /// It holds `\xNN` for bytes that are no UTF-8, and `\x5c` for backslashes.
    pub const ESCAPED: Flags = Flags(32);
    /// It came after later ones had been let go: its place in the order is lost.
    pub const LATE: Flags = Flags(64);
    /// It continues the crash record before it, which had reached a limit.
    pub const CONTINUED: Flags = Flags(128);

    const NAMES: [(Flags, &'static str); 8] = [
        (Flags::HOLES, "holes"),
        (Flags::INCOMPLETE, "incomplete"),
        (Flags::JOINED, "joined"),
        (Flags::ORPHAN, "orphan"),
        (Flags::CRASH, "crash"),
        (Flags::ESCAPED, "escaped"),
        (Flags::LATE, "late"),
        (Flags::CONTINUED, "continued"),
    ];

    /// All of `other` are set.
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// None is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of those that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMES.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Flags {
    /// The names, comma separated.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.names().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_leaves_nothing_behind() {
        let mut record = Record { host: "h".into(), seq: Some(1), parts: 3, flags: Flags::CRASH, ..Record::default() };
        record.fields.push("k", "v");
        record.clear();
        assert_eq!(record, Record::default());
    }

    #[test]
    fn append_keeps_escapes_apart_from_backslashes() {
        let line = |message: &str, flags| Record { message: message.into(), flags, ..Record::default() };
        let (plain, escaped) = (line("a\\", Flags::default()), line("\\xff", Flags::ESCAPED));
        let mut joined = plain.clone();
        joined.append("", &escaped);
        assert_eq!((joined.message.as_str(), joined.flags, joined.parts), ("a\\x5c\\xff", Flags::ESCAPED, 2));
        let mut joined = escaped;
        joined.append("", &plain);
        assert_eq!(joined.message, "\\xffa\\x5c");
    }

    #[test]
    fn names_round_trip() {
        for format in Format::ALL {
            assert_eq!(Format::from_name(format.name()), Some(format));
            assert_eq!(Format::ALL[format as usize], format);
        }
        assert_eq!((Flags::HOLES | Flags::LATE).to_string(), "holes,late");
        assert_eq!(Flags::default().to_string(), "");
    }
}
