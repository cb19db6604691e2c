//! What ports need after start-up, found by tracing the system calls of each virtual device from ready to the end.
//!
//! | driver | while it runs and when it closes |
//! |---|---|
//! | net_null, net_ring, net_pcap | nothing |
//! | net_tap | nothing: its interface goes with its descriptor |
//! | net_af_packet | nothing |
//! | net_af_xdp | takes its program off the interface: bpf, a netlink socket, net_admin, bpf, sys_admin, and dac_read_search for libxdp's lock in root's /run/xdp |
//! | net_memif, net_vhost, virtio_user | unix sockets, the folder of theirs |
//! | PCI by vfio | /dev/vfio, sysfs, ipc_lock; of mlx4, mlx5 (the kernel keeps those) net_admin, net_raw, netlink |
//!
//! The last row is from DPDK's documentation: there is no NIC on the machines that this was made on.

use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;

/// What stays allowed.
#[derive(Debug)]
pub(super) struct Needs {
    pub(super) capabilities: CapabilitySet,
    /// Address families of new sockets.
    pub(super) sockets: Vec<i32>,
    /// bpf(2), but for loading programs and making maps.
    pub(super) bpf: bool,
    /// Those too.
    pub(super) bpf_load: bool,
    /// Written, and executed never.
    pub(super) writable: Vec<PathBuf>,
    pub(super) readable: Vec<PathBuf>,
}

impl Default for Needs {
    fn default() -> Needs {
        Needs {
            capabilities: CapabilitySet::empty(),
            sockets: Vec::new(),
            bpf: false,
            bpf_load: false,
            writable: Vec::new(),
            readable: Vec::new(),
        }
    }
}

impl Needs {
    /// For a port that runs: its driver's name and its device's arguments.
    pub(super) fn run(&mut self, driver: &str, devargs: &str) {
        match kind(driver) {
            Kind::Nothing => {}
            Kind::Xdp => {
                self.capabilities |= CapabilitySet::NET_ADMIN
                    | CapabilitySet::BPF
                    | CapabilitySet::SYS_ADMIN
                    | CapabilitySet::DAC_READ_SEARCH;
                self.sockets(&[libc::AF_NETLINK]);
                self.bpf = true;
                self.write(&["/run/xdp", "/sys/fs/bpf"]);
            }
            Kind::UnixSocket => {
                self.sockets(&[libc::AF_UNIX]);
                self.folders_of(devargs);
            }
            Kind::Bifurcated => {
                self.capabilities |= CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW | CapabilitySet::IPC_LOCK;
                self.sockets(&[libc::AF_NETLINK, libc::AF_INET]);
                self.write(&["/dev/infiniband"]);
                self.read(&["/sys"]);
            }
            Kind::Pci => {
                self.capabilities |= CapabilitySet::IPC_LOCK;
                self.write(&["/dev/vfio", "/dev/hugepages"]);
                self.read(&["/sys"]);
            }
        }
    }

    /// For a device that is attached later.
    pub(super) fn attach(&mut self, device: &str) {
        let (name, devargs) = device.split_once(',').unwrap_or((device, ""));
        let driver = name.trim_end_matches(|c: char| c.is_ascii_digit());
        self.run(driver, devargs);
        self.folders_of(devargs);
        self.read(&["/sys", "/proc"]);
        match driver {
            "net_tap" => {
                self.capabilities |= CapabilitySet::NET_ADMIN;
                self.sockets(&[libc::AF_INET, libc::AF_NETLINK]);
                self.write(&["/dev/net/tun"]);
            }
            "net_af_packet" | "net_pcap" => {
                self.capabilities |= CapabilitySet::NET_RAW | CapabilitySet::NET_ADMIN;
                self.sockets(&[libc::AF_PACKET, libc::AF_INET, libc::AF_NETLINK, libc::AF_UNIX]);
            }
            "net_af_xdp" => {
                self.capabilities |= CapabilitySet::NET_RAW | CapabilitySet::IPC_LOCK;
                self.sockets(&[libc::AF_XDP, libc::AF_INET]);
                self.bpf_load = true;
            }
            _ => {}
        }
    }

    fn sockets(&mut self, families: &[i32]) {
        self.sockets.extend(families);
        self.sockets.sort_unstable();
        self.sockets.dedup();
    }

    fn write(&mut self, paths: &[&str]) {
        self.writable.extend(paths.iter().map(PathBuf::from));
    }

    fn read(&mut self, paths: &[&str]) {
        self.readable.extend(paths.iter().map(PathBuf::from));
    }

    /// The folders of the files that a device's arguments name: `socket=/run/memif.sock`.
    fn folders_of(&mut self, devargs: &str) {
        let values = devargs.split(',').filter_map(|arg| Some(Path::new(arg.split_once('=')?.1)));
        self.writable
            .extend(values.filter(|path| path.is_absolute()).filter_map(|path| Some(path.parent()?.to_owned())));
    }
}

enum Kind {
    Nothing,
    Xdp,
    UnixSocket,
    Bifurcated,
    Pci,
}

fn kind(driver: &str) -> Kind {
    match driver {
        "net_null" | "net_ring" | "net_pcap" | "net_tap" | "net_af_packet" => Kind::Nothing,
        "net_af_xdp" => Kind::Xdp,
        "net_memif" | "net_vhost" | "net_virtio_user" | "virtio_user" => Kind::UnixSocket,
        driver if driver.contains("mlx") => Kind::Bifurcated,
        _ => Kind::Pci,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_the_process_itself_keep_nothing() {
        let mut needs = Needs::default();
        for driver in ["net_null", "net_ring", "net_pcap", "net_tap", "net_af_packet"] {
            needs.run(driver, "iface=np0,rx_pcap=/tmp/x.pcap");
        }
        needs.attach("net_null3,copy=1");
        assert!(needs.capabilities.is_empty() && needs.sockets.is_empty() && needs.writable.is_empty() && !needs.bpf);
    }

    #[test]
    fn what_is_attached_later_keeps_its_rights_and_folders() {
        let mut needs = Needs::default();
        needs.attach("net_tap12,iface=np0");
        assert_eq!(needs.capabilities, CapabilitySet::NET_ADMIN);
        assert_eq!(needs.writable, [PathBuf::from("/dev/net/tun")]);
        needs.attach("net_memif0,role=server,socket=/run/np/m.sock");
        assert!(needs.sockets.contains(&libc::AF_UNIX) && needs.writable.contains(&"/run/np".into()));
        assert!(!needs.bpf_load);
        needs.attach("net_af_xdp0,iface=e0");
        assert!(needs.bpf && needs.bpf_load);
    }
}
