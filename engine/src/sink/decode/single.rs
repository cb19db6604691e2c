//! Datagrams decoded each by itself, for outputs that make one line of one datagram.
//!
//! No state: fragments stay apart (the field `ncfrag` says which), nothing is joined, ordered or grouped, second copies are
//! not known, and a kernel's clock is not turned into a time.

use std::ops::RangeInclusive;

use super::{Format, Header, Listen, basic, body, config::listen_of, escape_if_needed, start, syslog};
use crate::sink::{batch::RawDatagram, record::Record};

/// Decodes single datagrams.
#[derive(Debug, Default)]
pub(crate) struct Single {
    listeners: Vec<(RangeInclusive<u16>, Listen)>,
    escapes: Vec<u8>,
}

impl Single {
    pub fn new(listeners: &[(RangeInclusive<u16>, Listen)]) -> Single {
        Single { listeners: listeners.to_vec(), escapes: Vec::new() }
    }

    /// Makes `record` that of the datagram.
    pub fn decode(&mut self, datagram: &RawDatagram<'_>, record: &mut Record) {
        start(datagram, record);
        let listen = listen_of(&self.listeners, datagram.dst_port);
        let done = match (listen, datagram.payload.first()) {
            (Listen::Auto, Some(b'<')) => syslog::decode(datagram.payload, true, None, record),
            (Listen::Syslog, _) => syslog::decode(datagram.payload, false, None, record),
            (Listen::Auto | Listen::Netconsole | Listen::NetconsoleExtended, _) => self.extended(datagram, record),
            (Listen::NetconsoleBasic | Listen::Raw, _) => false,
        };
        if done {
            return;
        }
        start(datagram, record);
        if matches!(listen, Listen::Netconsole | Listen::NetconsoleBasic) {
            basic::decode(datagram.payload, record);
        } else {
            record.format = Format::Raw;
            escape_if_needed(datagram.payload, record);
        }
    }

    fn extended(&mut self, datagram: &RawDatagram<'_>, record: &mut Record) -> bool {
        let Some((header, body)) = Header::parse(datagram.payload) else { return false };
        body::decode(&header, body, &mut self.escapes, record);
        if let Some(slice) = header.slice {
            record.fields.push("ncfrag", &format!("{}/{}", slice.offset, slice.total));
        }
        true
    }
}
