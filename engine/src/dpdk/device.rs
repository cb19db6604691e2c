//! Devices: made or probed, found by name, and taken away again.

use std::{
    collections::BTreeSet,
    ffi::{CStr, CString, c_char},
    fs,
    mem::MaybeUninit,
    path::Path,
    sync::Arc,
};

use dpdk_sys::{rte_device, rte_eth_dev_info};

use super::{
    eal::{Claims, Eal},
    error::{DpdkError, Errno, Result},
    log,
    ring::RingLink,
};
use crate::ids::PortId;

/// A port that this process owns. Closed, and its device removed, when dropped.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) id: PortId,
    pub(super) name: String,
    pub(super) driver: String,
    /// For a port joined to another by rings.
    pub(super) link: Option<RingLink>,
    pub(super) eal: Arc<Eal>,
}

impl Device {
    /// Makes (virtual) or probes (PCI) the device that `devargs` names, at run time.
    pub(super) fn attach(eal: &Arc<Eal>, devargs: &str) -> Result<Device> {
        let asked = Asked::parse(devargs)?;
        asked.check()?;
        let mut claims = eal.control();
        if port_by_name(asked.name).is_some() {
            return Err(DpdkError::AlreadyExists { device: asked.name.into() });
        }
        let name = c_string(asked.name)?;
        let start = log::mark();
        let (call, rc) = if asked.is_pci {
            let devargs = c_string(asked.full)?;
            // SAFETY: EAL runs, the string is one.
            ("rte_dev_probe", unsafe { dpdk_sys::rte_dev_probe(devargs.as_ptr()) })
        } else {
            let args = c_string(asked.args)?;
            // SAFETY: as above. Of all ways to make a virtual device this one tells "no driver" (> 0) from the driver's
            // own code, and leaves nothing behind when it fails.
            ("rte_vdev_init", unsafe { dpdk_sys::rte_vdev_init(name.as_ptr(), args.as_ptr()) })
        };
        if rc != 0 {
            return Err(asked.failed(call, rc, start));
        }
        match port_by_name(asked.name).or_else(|| port_of_device(asked.name, &claims)) {
            Some(port) => Device::claim(eal, &mut claims, port),
            None => Err(DpdkError::BadDevice {
                device: devargs.into(),
                problem: "it was probed, but is not an Ethernet device; netpoll needs a net_* driver".into(),
            }),
        }
    }

    /// Takes a port that is there already, by its name, PCI address or number.
    pub(super) fn open(eal: &Arc<Eal>, port: &str) -> Result<Device> {
        let mut claims = eal.control();
        let found = port_by_name(port)
            .or_else(|| port_of_device(port, &claims))
            .or_else(|| port.parse().ok().map(PortId).filter(|id| ports().any(|port| port == *id)));
        match found {
            Some(found) => Device::claim(eal, &mut claims, found),
            None => {
                let known: Vec<_> = ports().filter_map(name_of).collect();
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                Err(DpdkError::NoSuchPort { port: port.into(), known })
            }
        }
    }

    /// Makes `port` ours.
    pub(super) fn claim(eal: &Arc<Eal>, claims: &mut Claims, port: PortId) -> Result<Device> {
        let name = name_of(port).unwrap_or_else(|| port.to_string());
        let info = info(port)?;
        if !claims.0.insert(port) {
            return Err(DpdkError::PortInUse { port: name });
        }
        Ok(Device { id: port, name, driver: text(info.driver_name), link: None, eal: eal.clone() })
    }

    /// `Ok` if `rc`, the result of `call`, is not negative.
    pub(super) fn check(&self, call: &'static str, rc: i32, start: log::Mark, advice: &str) -> Result<()> {
        if rc >= 0 {
            return Ok(());
        }
        let asked = Asked::parse(&self.name)?;
        let denied = asked.denied(call, Errno::from_code(rc), start);
        Err(denied.unwrap_or_else(|| call_error(call, &self.name, rc, start, advice)))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let mut claims = self.eal.control();
        claims.0.remove(&self.id);
        let start = log::mark();
        let Ok(info) = info(self.id) else { return };
        let is_virtual = bus_of(info.device) == "vdev";
        // A PCI device may have more ports than this one; then it stays.
        let shared = ports().any(|port| port != self.id && device_of(port) == Some(info.device));
        let name = c_string(&self.name).unwrap_or_default();
        // SAFETY: nobody uses the port any more: its queues hold this device. Close and remove run once.
        let rc = unsafe {
            let closed = dpdk_sys::rte_eth_dev_close(self.id.0);
            let removed = match (shared, is_virtual) {
                (true, _) => 0,
                (false, true) => dpdk_sys::rte_vdev_uninit(name.as_ptr()),
                (false, false) => dpdk_sys::rte_dev_remove(info.device),
            };
            closed.min(removed)
        };
        if rc < 0 {
            tracing::warn!(port = self.name, "closing the port: {}{}", Errno::from_code(rc), start.quote());
        }
    }
}

/// A device as it was asked for.
struct Asked<'a> {
    full: &'a str,
    name: &'a str,
    args: &'a str,
    is_pci: bool,
}

impl<'a> Asked<'a> {
    fn parse(devargs: &'a str) -> Result<Asked<'a>> {
        let full = devargs.trim();
        let bare = full.strip_prefix("vdev:").or_else(|| full.strip_prefix("pci:")).unwrap_or(full);
        let (name, args) = bare.split_once(',').unwrap_or((bare, ""));
        // RTE_DEV_NAME_MAX_LEN, with its end.
        if name.is_empty() || name.len() > 63 || full.contains('\0') {
            let problem = "expected a device such as `net_tap0,iface=np0` or `0000:03:00.0`".into();
            return Err(DpdkError::BadDevice { device: devargs.into(), problem });
        }
        Ok(Asked { full, name, args, is_pci: is_pci_address(name) })
    }

    /// What can be known before DPDK is asked, and be said more clearly.
    fn check(&self) -> Result<()> {
        if self.is_pci {
            return self.check_pci();
        }
        let Some((driver, keys)) = INTERFACE_KEYS.iter().find(|(driver, _)| self.is_driver(driver)) else {
            return Ok(());
        };
        for (key, interface) in self.args.split(',').filter_map(|arg| arg.split_once('=')) {
            if !keys.contains(&key) {
                continue;
            }
            if *driver == "net_tap" && key == "iface" {
                // A new name: net_tap makes the interface. IFNAMSIZ, with its end.
                if interface.is_empty() || interface.len() > 15 {
                    let problem = format!("the interface name `{interface}` must have 1 to 15 characters");
                    return Err(DpdkError::BadDevice { device: self.full.into(), problem });
                }
            } else if !Path::new("/sys/class/net").join(interface).exists() {
                return Err(DpdkError::NoSuchInterface {
                    device: self.full.into(),
                    interface: interface.into(),
                    known: interfaces(),
                });
            } else if is_down(interface) {
                tracing::warn!(
                    device = self.full,
                    "the interface {interface} is down: `ip link set {interface} up`; what is sent first after that may be lost"
                );
            }
        }
        Ok(())
    }

    fn check_pci(&self) -> Result<()> {
        let address =
            if self.name.matches(':').count() == 1 { format!("0000:{}", self.name) } else { self.name.into() };
        let device = Path::new("/sys/bus/pci/devices").join(&address);
        let problem = if !device.exists() {
            "there is no PCI device at this address; `dpdk-devbind.py --status-dev net` or `lspci` lists them".into()
        } else {
            match fs::read_link(device.join("driver")) {
                Err(_) => {
                    format!("no kernel driver holds it; `dpdk-devbind.py --bind=vfio-pci {address}` gives it to DPDK")
                }
                _ => return Ok(()),
            }
        };
        Err(DpdkError::BadDevice { device: self.full.into(), problem })
    }

    fn is_driver(&self, driver: &str) -> bool {
        // `eth_` is DPDK's older prefix for the same drivers.
        let name = self.name.strip_prefix("eth_").map_or(self.name.to_owned(), |rest| format!("net_{rest}"));
        name.starts_with(driver) || name.starts_with("virtio_user") && driver == "net_virtio"
    }

    /// The error for a failed probe, from its code and from what the driver logged.
    fn failed(&self, call: &'static str, rc: i32, start: log::Mark) -> DpdkError {
        let device = self.full.to_owned();
        let errno = Errno::from_code(rc);
        let loaded = loaded_drivers();
        let known_driver = loaded.is_empty() || loaded.iter().any(|driver| self.is_driver(driver));
        if !self.is_pci && (rc > 0 || !known_driver) {
            // The others drive PCI devices, which have no name to mistype.
            let named: Vec<_> = loaded.iter().filter(|driver| VIRTUAL.contains(&driver.as_str())).cloned().collect();
            let advice = format!(
                "is the name right? Drivers of virtual devices that are loaded: {}; others may be in a package: \
                 `apt install librte-meta-net`",
                named.join(", ")
            );
            return DpdkError::UnknownDriver { device, advice, log: start.quote() };
        }
        if errno == Errno::EEXIST {
            return DpdkError::AlreadyExists { device };
        }
        if let Some(error) = self.denied(call, errno, start) {
            return error;
        }
        call_error(call, &device, rc, start, self.hint())
    }

    /// The error for a missing right, if that is what it was. Drivers seldom pass the reason on, so a capability that
    /// the driver needs and the process lacks is taken for it.
    fn denied(&self, call: &'static str, errno: Errno, start: log::Mark) -> Option<DpdkError> {
        let (right, capabilities): (_, &[u32]) = if self.is_pci {
            ("write access to its /dev/vfio group, and a memlock limit that covers DPDK's memory", &[])
        } else if self.is_driver("net_tap") {
            ("CAP_NET_ADMIN, and access to /dev/net/tun", &[CAP_NET_ADMIN])
        } else if self.is_driver("net_af_packet") {
            ("CAP_NET_RAW", &[CAP_NET_RAW])
        } else if self.is_driver("net_pcap") {
            // Not for files.
            ("CAP_NET_RAW", &[])
        } else if self.is_driver("net_af_xdp") {
            ("CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF", &[CAP_NET_RAW, CAP_NET_ADMIN])
        } else {
            ("more rights than this process has", &[])
        };
        let held = effective_capabilities();
        let lacks = capabilities.iter().any(|bit| held >> bit & 1 == 0);
        let said = start.says(&["peration not permitted", "ermission denied", "have permission"]);
        let told = matches!(errno, Errno::EACCES | Errno::EPERM);
        (lacks || said || told).then(|| DpdkError::Permission {
            call,
            device: self.full.to_owned(),
            errno: if errno == Errno::EACCES { errno } else { Errno::EPERM },
            advice: format!(
                "this device needs {right}: run as root, or give the program the capability (setcap, systemd \
                 AmbientCapabilities)"
            ),
            log: start.quote(),
        })
    }

    /// What to try when the driver says no and does not say why.
    fn hint(&self) -> &'static str {
        if self.is_pci {
            "is it bound to vfio-pci (`dpdk-devbind.py --status`) and the driver for it installed (`apt install librte-meta-net`)?"
        } else if self.is_driver("net_tap") {
            "is /dev/net/tun there (`modprobe tun`), and no other program holding an interface of that name?"
        } else if self.is_driver("net_af_xdp") {
            "the interface must be no TAP, up, and free of another XDP program; and have as many queues as are asked for"
        } else {
            "check the device's arguments, as in DPDK's guide \"Network Interface Controller Drivers\""
        }
    }
}

/// Drivers whose arguments name kernel interfaces, and in which keys.
const INTERFACE_KEYS: &[(&str, &[&str])] = &[
    ("net_tap", &["iface", "remote"]),
    ("net_af_packet", &["iface"]),
    ("net_af_xdp", &["iface"]),
    ("net_pcap", &["iface", "rx_iface", "rx_iface_in", "tx_iface"]),
];

/// Drivers of devices that are made by name.
const VIRTUAL: &[&str] = &[
    "net_af_packet",
    "net_af_xdp",
    "net_bond",
    "net_failsafe",
    "net_memif",
    "net_null",
    "net_pcap",
    "net_ring",
    "net_tap",
    "net_vhost",
    "net_virtio",
];

/// An error if the device that EAL was to make at start (`--vdev`) is not there. Other kinds than Ethernet
/// are not ours to judge.
pub(super) fn check_probed(devargs: &str, start: log::Mark) -> Result<()> {
    let asked = Asked::parse(devargs)?;
    let ethernet = ["net_", "eth_", "virtio_user"].iter().any(|prefix| asked.name.starts_with(prefix));
    if !ethernet || port_by_name(asked.name).is_some() {
        return Ok(());
    }
    asked.check()?;
    Err(asked.failed("rte_eal_init", -Errno::EINVAL.0, start))
}

/// The numbers of all ports.
pub(super) fn ports() -> impl Iterator<Item = PortId> {
    let mut next = 0;
    std::iter::from_fn(move || {
        // SAFETY: reads the table of ports; past its end it answers with RTE_MAX_ETHPORTS.
        let found = unsafe { dpdk_sys::rte_eth_find_next(next) };
        next = found.saturating_add(1);
        (u32::from(found) < dpdk_sys::DPDK_MAX_ETHPORTS).then_some(PortId(found))
    })
}

pub(super) fn name_of(port: PortId) -> Option<String> {
    // RTE_ETH_NAME_MAX_LEN is 64.
    let mut name = [0 as c_char; 64];
    // SAFETY: the buffer has the length that the call asks for.
    let rc = unsafe { dpdk_sys::rte_eth_dev_get_name_by_port(port.0, name.as_mut_ptr()) };
    (rc == 0).then(|| text(name.as_ptr()))
}

fn port_by_name(name: &str) -> Option<PortId> {
    let name = CString::new(name).ok()?;
    let mut port = 0;
    // SAFETY: a string, and a place for the answer.
    let rc = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut port) };
    (rc == 0).then_some(PortId(port))
}

/// The first free port of a device with several (some NICs have two ports on one PCI address).
fn port_of_device(device: &str, claims: &Claims) -> Option<PortId> {
    ports().filter(|port| !claims.0.contains(port)).find(|port| {
        // SAFETY: a device's name lives as long as it does, which is while it has ports.
        device_of(*port).is_some_and(|d| unsafe { text(dpdk_sys::rte_dev_name(d)) } == device)
    })
}

fn device_of(port: PortId) -> Option<*mut rte_device> {
    info(port).ok().map(|info| info.device).filter(|device| !device.is_null())
}

pub(super) fn info(port: PortId) -> Result<rte_eth_dev_info> {
    let start = log::mark();
    let mut info = MaybeUninit::zeroed();
    // SAFETY: fills in the structure, or refuses.
    let rc = unsafe { dpdk_sys::rte_eth_dev_info_get(port.0, info.as_mut_ptr()) };
    if rc != 0 {
        return Err(call_error(
            "rte_eth_dev_info_get",
            &format!("port {port}"),
            rc,
            start,
            "is the device still there?",
        ));
    }
    // SAFETY: filled in, and all zeros are a valid value before that.
    Ok(unsafe { info.assume_init() })
}

fn bus_of(device: *const rte_device) -> String {
    if device.is_null() {
        return String::new();
    }
    // SAFETY: a device of a port that exists.
    unsafe { text(dpdk_sys::rte_bus_name(dpdk_sys::rte_dev_bus(device))) }
}

/// The device's arguments, as it was made.
pub(super) fn devargs_of(device: *const rte_device) -> String {
    if device.is_null() {
        return String::new();
    }
    // SAFETY: a device of a port that exists; its arguments live with it.
    unsafe {
        let devargs = dpdk_sys::rte_dev_devargs(device);
        if devargs.is_null() { String::new() } else { text(dpdk_sys::shim_devargs_args(devargs)) }
    }
}

/// A C string, or the empty one for NULL.
pub(super) fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: callers pass DPDK's strings, which end and outlive the call.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text)
        .map_err(|_| DpdkError::BadDevice { device: text.into(), problem: "a name cannot hold a NUL".into() })
}

pub(super) fn call_error(call: &'static str, device: &str, rc: i32, start: log::Mark, advice: &str) -> DpdkError {
    DpdkError::Call {
        call,
        device: device.into(),
        errno: Errno::from_code(rc),
        advice: advice.into(),
        log: start.quote(),
    }
}

/// Names of the Ethernet drivers in this process, as far as they are shared libraries.
fn loaded_drivers() -> BTreeSet<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let driver = |line: &str| {
        let (_, rest) = line.split_once("librte_net_")?;
        Some(format!("net_{}", rest.split_once(".so")?.0))
    };
    maps.lines().filter_map(driver).collect()
}

fn interfaces() -> String {
    let mut names: Vec<_> = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.join(", ")
}

/// Whether the interface is switched off (no IFF_UP).
fn is_down(interface: &str) -> bool {
    let flags = fs::read_to_string(Path::new("/sys/class/net").join(interface).join("flags")).unwrap_or_default();
    u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).is_ok_and(|flags| flags & 1 == 0)
}

// Bits of capabilities(7).
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;

fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    // Where /proc does not tell, nothing is known to be missing.
    mask.unwrap_or(u64::MAX)
}

/// `0000:03:00.0` or `03:00.0`.
fn is_pci_address(name: &str) -> bool {
    let hex = |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
    let Some((head, function)) = name.rsplit_once('.') else { return false };
    let mut parts = head.rsplit(':');
    let (slot, bus, domain) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next());
    hex(function, 1) && hex(slot, 2) && hex(bus, 2) && domain.is_none_or(|d| hex(d, 4)) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses() {
        for good in ["0000:03:00.0", "03:00.1", "abcd:ef:1f.7"] {
            assert!(is_pci_address(good), "{good}");
        }
        for bad in ["net_tap0", "3:0.0", "0000:03:00", "0:0000:03:00.0", "eth0.100", ""] {
            assert!(!is_pci_address(bad), "{bad}");
        }
    }
}
