//! The sections `[[client]]`: each sends the lines of a file, a FIFO or standard input.

use super::{
    eal::starved,
    plan::{ClientPlan, Idle, Input, OnFull, PortPlan, RemoteMac, Target},
    port::{self, NAME, RawPort},
    section::{At, Report, Section, Value, quoted},
    value,
};
use crate::LcoreId;
use std::{net::Ipv4Addr, path::PathBuf};

/// Longest netconsole option string.
const OPTIONS_CHARS: usize = 256;
/// What says whom to send to, for messages.
const TARGET: &str = "a netconsole option string like \"6665@10.99.0.1/np0,6666@10.99.0.2/\"";

/// `[[client]]` as read. A field that could not be read is `None`, and that is noted already.
pub(super) struct RawClient {
    section: At<&'static str>,
    name: Option<At<String>>,
    port: Option<At<String>>,
    target: Option<RawTarget>,
    input: Option<At<Input>>,
    on_full: OnFull,
    ring_frames: u32,
    urgent: bool,
    cpu: Option<At<u32>>,
}

enum RawTarget {
    Options(At<String>),
    Address {
        local_ip: Option<Ipv4Addr>,
        local_port: u16,
        remote_ip: At<Ipv4Addr>,
        remote_port: u16,
        mac: At<RemoteMac>,
    },
}

impl RawClient {
    pub fn read(mut s: Section) -> RawClient {
        let client = RawClient {
            section: At { value: "client", key: s.path("port"), span: s.span.clone() },
            name: s.require("name", NAME).and_then(|v| v.text(NAME, value::name)),
            port: s.get("port").and_then(|v| v.text(NAME, value::name)),
            target: target(&mut s),
            input: s.require("input", INPUT).and_then(|v| v.text(INPUT, input)),
            on_full: s.get("on_full").and_then(|v| on_full(&v)).unwrap_or(OnFull::Drop),
            ring_frames: s.number("ring_frames", 2..=65_536, 512),
            urgent: s.flag("urgent", false),
            cpu: s.get("cpu").and_then(|v| v.number(0..=8191)),
        };
        s.finish();
        client
    }

    /// `None` only where a mistake was noted.
    pub fn resolve(self, ports: &[PortPlan]) -> Option<ClientPlan> {
        let port = match &self.port {
            Some(name) => ports.iter().position(|p| p.name == name.value)?,
            None => 0,
        };
        let target = match self.target? {
            RawTarget::Options(text) => Target::Options(text.value),
            RawTarget::Address { local_ip, local_port, remote_ip, remote_port, mac } => Target::Address {
                local_ip: local_ip.or(ports.get(port)?.ip.map(|net| net.ip))?,
                local_port,
                remote_ip: remote_ip.value,
                remote_port,
                remote_mac: mac.value,
            },
        };
        Some(ClientPlan {
            name: self.name?.value,
            port,
            target,
            input: self.input?.value,
            on_full: self.on_full,
            ring_frames: self.ring_frames,
            urgent: self.urgent,
            cpu: self.cpu.map(|at| at.value),
        })
    }
}

/// Compares the clients' keys with each other and with the ports'.
pub(super) fn check(report: &Report, clients: &[RawClient], ports: &[RawPort], idle: Idle, lcores: &[LcoreId]) {
    for (i, client) in clients.iter().enumerate() {
        let before = &clients[..i];
        port::unique(report, before.iter().map(|c| &c.name), &client.name, |name| quoted(name));
        if let Some(at) = client.input.as_ref().filter(|at| at.value == Input::Stdin)
            && before.iter().any(|c| c.input.as_ref().is_some_and(|other| other.value == Input::Stdin))
        {
            at.wrong(report, "standard input is another client's already, expected a file or FIFO");
        }
        if let Some(at) = client.cpu.as_ref().filter(|at| starved(at.value, idle, lcores)) {
            at.wrong(report, format_args!("CPU {} polls and never sleeps, expected another", at.value));
        }
        // An option string may name its port itself.
        let names_itself = matches!(client.target, Some(RawTarget::Options(_))) && client.port.is_none();
        let place = if names_itself { None } else { port::find(report, ports, client.port.as_ref(), &client.section) };
        if let (Some(place), Some(target)) = (place, &client.target) {
            check_target(report, target, &ports[place]);
        }
    }
}

/// Whether the addresses of `target` can work on `port`.
fn check_target(report: &Report, target: &RawTarget, port: &RawPort) {
    let RawTarget::Address { local_ip, remote_ip, mac, .. } = target else { return };
    let net = port.ip.as_ref().map(|at| at.value);
    if local_ip.is_none() && net.is_none() {
        remote_ip.wrong(report, "the port has no `ip`, expected `local_ip` beside `remote_ip`");
    }
    if mac.value != RemoteMac::Arp {
        return;
    }
    let to = remote_ip.value;
    if to.is_multicast() || to.is_broadcast() {
        mac.wrong(report, format_args!("{to} is not one host's address, expected \"broadcast\" or a MAC address"));
    } else if port.gateway.is_none() && !net.is_some_and(|net| net.is_host(to)) {
        mac.wrong(report, format_args!("{to} is not on the port's network, expected the port to have a `gateway`"));
    }
}

/// `target = "..."`, or the addresses key by key.
fn target(s: &mut Section) -> Option<RawTarget> {
    let options = s.get("target");
    let local_ip = s.get("local_ip");
    let local_port = s.get("local_port");
    let remote_ip = s.get("remote_ip");
    let remote_port = s.get("remote_port");
    let remote_mac = s.get("remote_mac");
    if let Some(options) = options {
        for key in [local_ip, local_port, remote_ip, remote_port, remote_mac].into_iter().flatten() {
            key.wrong("`target` says that already, expected one or the other");
        }
        let plain = |t: &str| {
            (!t.is_empty() && t.len() <= OPTIONS_CHARS && t.bytes().all(|b| b.is_ascii_graphic())).then(|| t.to_owned())
        };
        return options.text(TARGET, plain).map(RawTarget::Options);
    }
    let address = "an address like \"10.99.0.2\"";
    let udp_port = |v: Option<Value>, default| match v {
        Some(v) => v.number(1..=65_535).map(|at| at.value),
        None => Some(default),
    };
    let local_port = udp_port(local_port, 6665);
    let remote_port = udp_port(remote_port, 6666);
    let mac = match &remote_mac {
        Some(v) => v.text("\"arp\", \"broadcast\" or a MAC address like \"02:00:00:00:00:01\"", mac),
        None => Some(At { value: RemoteMac::Broadcast, key: s.path("remote_mac"), span: s.span.clone() }),
    };
    let local_ip = match local_ip {
        Some(v) => Some(v.text(address, value::unicast)?.value),
        None => None,
    };
    let Some(remote_ip) = remote_ip else {
        let message = "missing, expected `target` or `remote_ip` to say whom to send to";
        s.report.mistake(s.span.clone(), s.path("target"), message);
        return None;
    };
    let reachable = |t: &str| t.parse::<Ipv4Addr>().ok().filter(|ip| ip.octets()[0] != 0 && !ip.is_loopback());
    let remote_ip = remote_ip.text(address, reachable);
    Some(RawTarget::Address {
        local_ip,
        local_port: local_port?,
        remote_ip: remote_ip?,
        remote_port: remote_port?,
        mac: mac?,
    })
}

fn mac(text: &str) -> Option<RemoteMac> {
    match text {
        "arp" => Some(RemoteMac::Arp),
        "broadcast" => Some(RemoteMac::Broadcast),
        mac => mac.parse().ok().map(RemoteMac::Given),
    }
}

/// What `input` may be, for messages.
const INPUT: &str = "a file or FIFO to read lines from, or \"-\" for standard input";

fn input(text: &str) -> Option<Input> {
    match text {
        "-" => Some(Input::Stdin),
        _ => path(text).map(Input::Path),
    }
}

/// A path that the system can take.
pub(super) fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
}

/// `"drop"` or `{ wait_us = 100 }`.
fn on_full(value: &Value) -> Option<OnFull> {
    if let Some(mut s) = value.as_section() {
        let wait = s.require("wait_us", "the longest wait in microseconds").and_then(|v| v.number(1..=1_000_000));
        s.finish();
        return wait.map(|at| OnFull::Wait { us: at.value });
    }
    if value.as_str() != Some("drop") {
        value.expected("\"drop\" or { wait_us = 100 }");
        return None;
    }
    Some(OnFull::Drop)
}
