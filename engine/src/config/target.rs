//! Whom a client sends to: a netconsole option string, or the same key by key.

use super::{
    plan::{PortPlan, RemoteMac, Target},
    port::RawPort,
    section::{At, Report, Section, Value},
    value,
};
use crate::netpoll::options::{DEFAULT_DST_PORT, DEFAULT_SRC_PORT, DevSel, NetconsoleTarget, parse_targets};
use std::net::{IpAddr, Ipv4Addr};

const OPTIONS: &str = "a netconsole option string like \"6665@10.99.0.1/np0,6666@10.99.0.2/\"";
const ADDRESS: &str = "an address like \"10.99.0.2\"";
const MAC: &str = "\"arp\", \"broadcast\" or a MAC address like \"02:00:00:00:00:01\"";

/// A target as read: what it leaves to the port is `None`.
pub(super) struct RawTarget {
    extended: bool,
    release: bool,
    local_ip: Option<Ipv4Addr>,
    local_port: u16,
    remote_ip: At<Ipv4Addr>,
    remote_port: u16,
    mac: At<RemoteMac>,
    /// The port that an option string names.
    pub dev: Option<At<String>>,
}

impl RawTarget {
    /// `target = "..."`, or the addresses key by key. `remote_mac` goes with both, as the option string
    /// cannot say "arp".
    pub fn read(s: &mut Section) -> Option<RawTarget> {
        let mac = s.get("remote_mac");
        if let Some(options) = s.get("target") {
            for key in ["local_ip", "local_port", "remote_ip", "remote_port"] {
                if let Some(key) = s.get(key) {
                    key.wrong("`target` says that already, expected one or the other");
                }
            }
            return from_options(&options, mac.as_ref());
        }
        let local_ip = match s.get("local_ip") {
            Some(v) => v.text(ADDRESS, value::unicast).map(|at| Some(at.value)),
            None => Some(None),
        };
        let local_port = s.number("local_port", 1..=65_535, DEFAULT_SRC_PORT);
        let remote_port = s.number("remote_port", 1..=65_535, DEFAULT_DST_PORT);
        let Some(remote_ip) = s.get("remote_ip") else {
            let message = "missing, expected `target` or `remote_ip` to say whom to send to";
            s.report.mistake(s.span.clone(), s.path("target"), message);
            return None;
        };
        let remote_ip = remote_ip.text(ADDRESS, |text| text.parse().ok().filter(reachable));
        let mac = match &mac {
            Some(v) => v.text(MAC, parse_mac)?,
            None => At { value: RemoteMac::Broadcast, key: s.path("remote_mac"), span: s.span.clone() },
        };
        Some(RawTarget {
            extended: false,
            release: false,
            local_ip: local_ip?,
            local_port,
            remote_ip: remote_ip?,
            remote_port,
            mac,
            dev: None,
        })
    }

    /// Whether the addresses can work on `port`.
    pub fn check(&self, report: &Report, port: &RawPort) {
        let net = port.ip.as_ref().map(|at| at.value);
        if self.local_ip.is_none() && net.is_none() {
            self.remote_ip.wrong(report, "the port has no `ip`, expected the client to say its own address");
        }
        let (mac, to) = (&self.mac, self.remote_ip.value);
        if mac.value != RemoteMac::Arp {
            return;
        }
        if to.is_multicast() || to.is_broadcast() {
            mac.wrong(report, format_args!("{to} is not one host's address, expected \"broadcast\" or a MAC address"));
        } else if port.gateway.is_none() && !net.is_some_and(|net| net.is_host(to)) {
            mac.wrong(report, format_args!("{to} is not on the port's network, expected the port to have a `gateway`"));
        }
    }

    /// `None` only where a mistake was noted.
    pub fn resolve(self, port: &PortPlan) -> Option<Target> {
        Some(Target {
            extended: self.extended,
            release: self.release,
            local_ip: self.local_ip.or(port.ip.map(|net| net.ip))?,
            local_port: self.local_port,
            remote_ip: self.remote_ip.value,
            remote_port: self.remote_port,
            remote_mac: self.mac.value,
        })
    }
}

fn from_options(options: &Value, mac: Option<&Value>) -> Option<RawTarget> {
    let text = options.text(OPTIONS, |text| Some(text.to_owned()))?.value;
    let targets = match parse_targets(&text) {
        Ok(targets) => targets,
        Err(e) => {
            let found = if e.found.is_empty() { "the end".to_owned() } else { super::section::quoted(&e.found) };
            options.wrong_within(&text, e.at, e.found.len(), format_args!("found {found}, expected {}", e.expected));
            return None;
        }
    };
    let [target] = &targets[..] else {
        options.wrong(format_args!("found {} targets, expected one: a client has one", targets.len()));
        return None;
    };
    let NetconsoleTarget { extended, release, src_port, src_ip, dev, dst_port, dst_ip, dst_mac } = target.clone();
    let v4 = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    };
    let local_ip = src_ip.map(|ip| v4(ip).filter(|ip| value::is_unicast(*ip)));
    let (Some(remote_ip), None | Some(Some(_))) = (v4(dst_ip).filter(reachable), local_ip) else {
        options.wrong("expected the IPv4 addresses of hosts, neither 0.0.0.0/8 nor 127.0.0.0/8");
        return None;
    };
    let dev = match dev {
        Some(DevSel::Mac(_)) => {
            options.wrong("found a port's MAC address, expected the `name` of a [[port]]");
            return None;
        }
        Some(DevSel::Name(name)) => Some(options.at(name)),
        None => None,
    };
    let mac = match (dst_mac, mac) {
        (Some(_), Some(key)) => {
            key.wrong("`target` says that already, expected one or the other");
            return None;
        }
        (Some(mac), None) => options.at(RemoteMac::Given(mac)),
        (None, Some(key)) => key.text(MAC, parse_mac)?,
        (None, None) => options.at(RemoteMac::Broadcast),
    };
    Some(RawTarget {
        extended,
        release,
        local_ip: local_ip.flatten(),
        local_port: src_port,
        remote_ip: options.at(remote_ip),
        remote_port: dst_port,
        mac,
        dev,
    })
}

/// An address that something can be sent to: a host's, a group's, or broadcast.
fn reachable(ip: &Ipv4Addr) -> bool {
    ip.octets()[0] != 0 && !ip.is_loopback()
}

fn parse_mac(text: &str) -> Option<RemoteMac> {
    match text {
        "arp" => Some(RemoteMac::Arp),
        "broadcast" => Some(RemoteMac::Broadcast),
        mac => mac.parse().ok().map(RemoteMac::Given),
    }
}
