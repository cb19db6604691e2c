//! Records in columns, on their way to a Parquet file.

use std::{collections::HashMap, net::IpAddr, path::PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;

use super::{StoreError, hour_of};
use crate::sink::record::Record;

/// Texts, end to end. `u32` ends: a part is cut long before 4 GiB.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    bytes: String,
    ends: Vec<u32>,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len() as u32);
    }

    pub fn get(&self, row: usize) -> &str {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..self.ends[row] as usize]
    }

    fn held_bytes(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<u32>()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// The columns; public ones are what the schema's columns are made of.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub time_ns: Vec<i64>,
    pub event_ns: Vec<Option<i64>>,
    pub event_error_ns: Vec<u64>,
    /// Of `names`.
    pub src_ip: Vec<u32>,
    pub dst_ip: Vec<u32>,
    pub host: Vec<u32>,
    pub ports: Vec<(u16, u16)>,
    pub facility: Vec<Option<u8>>,
    pub severity: Vec<Option<u8>>,
    pub app: Texts,
    pub pid: Texts,
    pub msgid: Texts,
    pub seq: Vec<Option<u64>>,
    pub kernel_usec: Vec<Option<u64>>,
    pub caller: Texts,
    pub release: Texts,
    pub message: Texts,
    /// For each row, where its fields end in `keys` and `values`.
    pub field_ends: Vec<u32>,
    pub keys: Texts,
    pub values: Texts,
    pub format: Vec<u8>,
    pub flags: Vec<u16>,
    pub parts: Vec<u32>,
    names: Names,
}

/// Hosts and addresses, each once.
#[derive(Debug, Default)]
struct Names {
    texts: Vec<Box<str>>,
    by_text: HashMap<Box<str>, u32>,
    by_ip: HashMap<IpAddr, u32>,
    last_ip: Option<(IpAddr, u32)>,
    bytes: usize,
}

impl Names {
    fn text(&mut self, text: &str) -> u32 {
        if let Some(id) = self.by_text.get(text) {
            return *id;
        }
        let id = self.texts.len() as u32;
        self.texts.push(text.into());
        self.by_text.insert(text.into(), id);
        self.bytes += 2 * text.len() + 64;
        id
    }

    fn ip(&mut self, ip: IpAddr) -> u32 {
        if let Some((last, id)) = self.last_ip.filter(|(last, _)| *last == ip) {
            debug_assert_eq!(last, ip);
            return id;
        }
        let id = match self.by_ip.get(&ip) {
            Some(id) => *id,
            None => {
                let id = self.text(&ip.to_string());
                self.by_ip.insert(ip, id);
                self.bytes += 48;
                id
            }
        };
        self.last_ip = Some((ip, id));
        id
    }
}

impl Rows {
    /// Adds a record.
    pub fn push(&mut self, record: &Record) {
        self.time_ns.push(i64::try_from(record.time_ns).unwrap_or(i64::MAX));
        self.event_ns.push(record.event_time.map(|time| time.ns));
        self.event_error_ns.push(record.event_time.map_or(0, |time| time.error_ns));
        let dst_ip = self.names.ip(record.dst_ip);
        let src_ip = self.names.ip(record.src_ip);
        let host = if record.host.is_empty() { src_ip } else { self.names.text(&record.host) };
        self.src_ip.push(src_ip);
        self.dst_ip.push(dst_ip);
        self.host.push(host);
        self.ports.push((record.src_port, record.dst_port));
        self.facility.push(record.facility);
        self.severity.push(record.severity);
        self.app.push(&record.app);
        self.pid.push(&record.pid);
        self.msgid.push(&record.msgid);
        self.seq.push(record.seq);
        self.kernel_usec.push(record.kernel_usec);
        self.caller.push(&record.caller);
        self.release.push(&record.release);
        self.message.push(&record.message);
        for (key, value) in record.fields.iter() {
            self.keys.push(key);
            self.values.push(value);
        }
        self.field_ends.push(self.keys.ends.len() as u32);
        self.format.push(record.format as u8);
        self.flags.push(record.flags.0);
        self.parts.push(record.parts);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.time_ns.len()
    }

    /// What it takes in memory, about.
    pub fn held_bytes(&self) -> usize {
        let texts =
            [&self.app, &self.pid, &self.msgid, &self.caller, &self.release, &self.message, &self.keys, &self.values];
        texts.into_iter().map(Texts::held_bytes).sum::<usize>() + self.len() * 120 + self.names.bytes
    }

    pub fn name(&self, id: u32) -> &str {
        &self.names.texts[id as usize]
    }

    /// The rows by hour, and in each hour by host and time (equal ones in the order in which they came).
    pub fn sorted(&self) -> Vec<(u64, Vec<u32>)> {
        let mut by_name: Vec<u32> = (0..self.names.texts.len() as u32).collect();
        by_name.sort_unstable_by_key(|id| self.name(*id));
        let mut ranks = vec![0_u32; by_name.len()];
        for (rank, id) in by_name.iter().enumerate() {
            ranks[*id as usize] = rank as u32;
        }
        let mut keyed: Vec<(u64, u32, i64, u32)> = (0..self.len())
            .map(|row| {
                let time_ns = self.time_ns[row];
                (hour_of(time_ns.cast_unsigned()), ranks[self.host[row] as usize], time_ns, row as u32)
            })
            .collect();
        keyed.sort_unstable();
        let hours = keyed.chunk_by(|a, b| a.0 == b.0);
        hours.map(|hour| (hour[0].0, hour.iter().map(|key| key.3).collect())).collect()
    }

    /// Those rows, in that order, as the store's schema has them.
    pub fn batch(&self, order: &[u32]) -> Result<RecordBatch, StoreError> {
        let failed = |error: ArrowError| StoreError::Parquet { path: PathBuf::new(), source: error.into() };
        super::schema::batch(self, order).map_err(failed)
    }

    /// Takes all rows out. Names stay known, unless they have become many.
    pub fn clear(&mut self) {
        let Rows {
            time_ns,
            event_ns,
            event_error_ns,
            src_ip,
            dst_ip,
            host,
            ports,
            facility,
            severity,
            app,
            pid,
            msgid,
            seq,
            kernel_usec,
            caller,
            release,
            message,
            field_ends,
            keys,
            values,
            format,
            flags,
            parts,
            names,
        } = self;
        for texts in [app, pid, msgid, caller, release, message, keys, values] {
            texts.clear();
        }
        for numbers in [src_ip, dst_ip, host, field_ends, parts] {
            numbers.clear();
        }
        for numbers in [seq, kernel_usec] {
            numbers.clear();
        }
        for numbers in [facility, severity] {
            numbers.clear();
        }
        time_ns.clear();
        event_ns.clear();
        event_error_ns.clear();
        ports.clear();
        format.clear();
        flags.clear();
        if names.texts.len() > 10_000 {
            *names = Names::default();
        }
    }
}
