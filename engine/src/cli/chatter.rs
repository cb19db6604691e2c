//! Log lines as machines send them, for `netpoll demo`.

use std::{
    io::Write,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use netpoll::{
    netpoll::options::{DEFAULT_DST_PORT, DEFAULT_SRC_PORT},
    sink::record::civil::Utc,
};

/// UDP port of syslog (RFC 5426).
pub(super) const SYSLOG_PORT: u16 = 514;
/// UDP port of netconsole.
pub(super) const NETCONSOLE_PORT: u16 = DEFAULT_DST_PORT;

/// How a machine sends its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// Kernel text without a header.
    Netconsole,
    /// Kernel text with priority, sequence number and time.
    NetconsoleExtended,
    /// BSD syslog.
    Rfc3164,
    /// Structured syslog.
    Rfc5424,
}

const STYLES: [Style; 4] = [Style::Netconsole, Style::NetconsoleExtended, Style::Rfc3164, Style::Rfc5424];

const KERNEL: [&str; 4] = [
    "e1000e 0000:00:1f.6 eth0: NIC Link is Up 1000 Mbps Full Duplex, Flow Control: Rx/Tx",
    "usb 1-2: new high-speed USB device number 7 using xhci_hcd",
    "EXT4-fs (nvme0n1p2): mounted filesystem with ordered data mode. Quota mode: none.",
    "perf: interrupt took too long (2509 > 2500), lowering kernel.perf_event_max_sample_rate to 79500",
];
const DAEMON: [&str; 4] = [
    "Accepted publickey for root from 10.99.0.77 port 40112 ssh2: ED25519",
    "pam_unix(sshd:session): session opened for user root(uid=0) by (uid=0)",
    "Connection closed by authenticating user admin 10.99.0.78 port 51234 [preauth]",
    "Received disconnect from 10.99.0.77 port 40112:11: disconnected by user",
];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// One machine's lines.
#[derive(Debug)]
pub(super) struct Chatter {
    machine: usize,
    style: Style,
    lines: u64,
    booted: Instant,
}

impl Chatter {
    /// Machine number `machine`; the styles take turns.
    pub(super) fn new(machine: usize) -> Chatter {
        Chatter { machine, style: STYLES[machine % STYLES.len()], lines: 0, booted: Instant::now() }
    }

    /// The UDP port that it sends to.
    pub(super) fn remote_port(&self) -> u16 {
        match self.style {
            Style::Netconsole | Style::NetconsoleExtended => NETCONSOLE_PORT,
            Style::Rfc3164 | Style::Rfc5424 => SYSLOG_PORT,
        }
    }

    /// The UDP port that it sends from: one a machine.
    pub(super) fn local_port(&self) -> u16 {
        DEFAULT_SRC_PORT + 10_000 + self.machine as u16
    }

    /// Writes the next line into `to`, which is cleared first.
    pub(super) fn next(&mut self, to: &mut Vec<u8>) {
        to.clear();
        let (machine, number) = (self.machine, self.lines);
        self.lines += 1;
        let pick = (number % 4) as usize;
        let up = self.booted.elapsed();
        // Writing to a vector does not fail.
        let _ = match self.style {
            Style::Netconsole => {
                let (s, us) = (up.as_secs(), up.subsec_micros());
                writeln!(to, "[{s:5}.{us:06}] {} (machine {machine}, line {number})", KERNEL[pick])
            }
            Style::NetconsoleExtended => writeln!(
                to,
                "6,{number},{},-,caller=T{};{} (machine {machine}, line {number})\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:1f.6",
                up.as_micros(),
                300 + machine,
                KERNEL[pick]
            ),
            Style::Rfc3164 => {
                let Utc { month, day, hour, minute, second, .. } = now();
                let month = MONTHS[(month - 1) as usize % 12];
                write!(
                    to,
                    "<38>{month} {day:2} {hour:02}:{minute:02}:{second:02} machine{machine} sshd[{}]: {} (line {number})",
                    1000 + machine,
                    DAEMON[pick]
                )
            }
            Style::Rfc5424 => {
                let Utc { year, month, day, hour, minute, second, nanos } = now();
                write!(
                    to,
                    "<38>1 {year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z machine{machine} sshd {} - \
                     [demo@32473 line=\"{number}\"] {}",
                    nanos / 1000,
                    1000 + machine,
                    DAEMON[pick]
                )
            }
        };
    }
}

fn now() -> Utc {
    let ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
    Utc::from_ns(ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_style_is_what_its_readers_expect() {
        let mut line = Vec::new();
        let mut of = |machine| {
            let mut chatter = Chatter::new(machine);
            chatter.next(&mut line);
            chatter.next(&mut line);
            (chatter.remote_port(), String::from_utf8(line.clone()).expect("text"))
        };
        let (port, text) = of(0);
        assert!(port == 6666 && text.starts_with("[    0.0") && text.ends_with("line 1)\n"), "{text:?}");
        let (port, text) = of(1);
        assert!(port == 6666 && text.starts_with("6,1,") && text.contains(",-,caller=T301;usb 1-2"), "{text:?}");
        let (port, text) = of(6);
        assert!(port == 514 && text.starts_with("<38>") && text.contains(" machine6 sshd[1006]: pam"), "{text:?}");
        let (port, text) = of(7);
        assert!(port == 514 && text.starts_with("<38>1 2") && text.contains("[demo@32473 line=\"1\"]"), "{text:?}");
    }
}
