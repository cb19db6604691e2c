//! The sections `[[client]]`: each sends the lines of a file, a FIFO or standard input.

use super::{
    eal::starved,
    plan::{ClientPlan, Idle, Input, OnFull, PortPlan},
    port::{self, NAME, RawPort},
    section::{At, Report, Section, Value, quoted},
    target::RawTarget,
    value,
};
use crate::LcoreId;
use std::path::PathBuf;

/// `[[client]]` as read. A field that could not be read is `None`, and that is noted already.
pub(super) struct RawClient {
    section: At<&'static str>,
    name: Option<At<String>>,
    port: Option<At<String>>,
    /// An option string that names no port means the first one; otherwise one of several must be named.
    first_port: bool,
    target: Option<RawTarget>,
    input: Option<At<Input>>,
    on_full: OnFull,
    ring_frames: u32,
    urgent: bool,
    cpu: Option<At<u32>>,
}

impl RawClient {
    pub fn read(mut s: Section) -> RawClient {
        let name = s.require("name", NAME).and_then(|v| v.text(NAME, value::name));
        let mut port = s.get("port").and_then(|v| v.text(NAME, value::name));
        let first_port = s.has("target");
        let mut target = RawTarget::read(&mut s);
        if let Some(dev) = target.as_mut().and_then(|t| t.dev.take()) {
            if let Some(port) = &port {
                port.wrong(s.report, "`target` says that already, expected one or the other");
            }
            port = Some(dev);
        }
        let client = RawClient {
            section: At { value: "client", key: s.path("port"), span: s.span.clone() },
            name,
            port,
            first_port,
            target,
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
        Some(ClientPlan {
            name: self.name?.value,
            port,
            target: self.target?.resolve(ports.get(port)?)?,
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
        let place = match &client.port {
            None if client.first_port => (!ports.is_empty()).then_some(0),
            port => port::find(report, ports, port.as_ref(), &client.section),
        };
        if let (Some(place), Some(target)) = (place, &client.target) {
            target.check(report, &ports[place]);
        }
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
