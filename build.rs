//! The one DPDK probe: pkg-config -> bindgen -> cc. It is the build script of `ffi/` (crate dpdk-sys).
//!
//! Every flag comes from `pkg-config libdpdk`, taken raw: the pkg-config crate drops `-include rte_config.h`
//! and `-march`, without which DPDK's headers do not compile. Whatever is missing on the machine ends
//! as one line that says what to install.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    path::{Path, PathBuf},
    process::Command,
};

const OLDEST: (u32, u32) = (22, 11);
const PACKAGES: &str = "install them: `apt install dpdk-dev libdpdk-dev libclang-dev pkg-config gcc` \
    (Debian 12+, Ubuntu 24.04+); or build without DPDK: `cargo build -p netpoll --no-default-features`";

/// What is bound. Anything else of DPDK's several thousand declarations stays out.
const FUNCTIONS: &[&str] = &[
    "shim_.*",
    "rte_version(_year|_month|_minor)?",
    "rte_strerror",
    "rte_eal_(init|cleanup|remote_launch|wait_lcore|has_hugepages)",
    "rte_get_(main|next)_lcore",
    "rte_lcore_to_(cpu_id|socket_id)",
    "rte_thread_(un)?register",
    "rte_openlog_stream",
    "rte_dev_(probe|remove|name|driver|devargs|numa_node|bus)",
    "rte_(driver|bus)_name",
    "rte_vdev_(un)?init",
    "rte_malloc_get_socket_stats",
    "rte_mempool_(free|avail_count|in_use_count|lookup)",
    "rte_pktmbuf_pool_create",
    "rte_ring_(create|free|count)",
    "rte_eth_from_rings",
    "rte_eth_(find_next|dev_get_port_by_name|dev_get_name_by_port|dev_info_get|macaddr_get|dev_socket_id)",
    "rte_eth_(dev_adjust_nb_rx_tx_desc|rx_queue_setup|tx_queue_setup|dev_get_mtu|dev_set_mtu)",
    "rte_eth_(promiscuous_enable|allmulticast_enable|dev_set_mc_addr_list)",
    "rte_eth_dev_(start|stop|close|rx_offload_name|tx_offload_name)",
    "rte_eth_stats_(get|reset)",
];
const TYPES: &[&str] =
    &["rte_eth_(dev_info|stats|rxconf|txconf|desc_lim)", "rte_ether_addr", "rte_malloc_socket_stats"];
const VARS: &[&str] = &["DPDK_.*"];
/// Only ever held by pointer, or read through offsets.
const OPAQUE: &[&str] =
    &["rte_(mbuf|mempool|ring|device|driver|bus|devargs)", "rte_eth_(rxseg|rxseg_capa|switch_info)", "_IO_.*"];

fn main() {
    println!("cargo::rerun-if-changed=../build.rs");
    for file in ["wrapper.h", "shim.h", "shim.c"] {
        println!("cargo::rerun-if-changed={file}");
    }
    for var in ["PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR", "PKG_CONFIG_SYSROOT_DIR"] {
        println!("cargo::rerun-if-env-changed={var}");
    }
    if let Err(message) = build() {
        // One line, whatever a tool had to say.
        println!("cargo::error={}", message.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

fn build() -> Result<(), String> {
    let version = probe()?;
    let cflags = pkg_config(&["--cflags"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?);
    bind(&cflags, &out.join("bindings.rs"))?;
    compile(&cflags)?;
    link(&pkg_config(&["--libs"])?);
    println!("cargo::metadata=version={version}");
    Ok(())
}

/// The version of the DPDK that pkg-config knows, if it is one that we support.
fn probe() -> Result<String, String> {
    let version = pkg_config(&["--modversion"])?.concat();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found < OLDEST {
        return Err(format!("DPDK {version} is too old, {}.{} or later is needed; {PACKAGES}", OLDEST.0, OLDEST.1));
    }
    Ok(version)
}

fn pkg_config(what: &[&str]) -> Result<Vec<String>, String> {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = Command::new(&program)
        .args(what)
        .arg("libdpdk")
        .output()
        .map_err(|e| format!("DPDK was not looked for, because `{program}` does not run ({e}); {PACKAGES}"))?;
    if !output.status.success() {
        return Err(format!("DPDK was not found (`{program} {} libdpdk` failed); {PACKAGES}", what.join(" ")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).split_whitespace().map(String::from).collect())
}

fn bind(cflags: &[String], to: &Path) -> Result<(), String> {
    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(cflags)
        .rust_target(bindgen::RustTarget::stable(82, 0).map_err(|_| "bindgen does not know Rust 1.82")?)
        .use_core()
        .derive_default(false)
        .derive_debug(false)
        .generate_comments(false)
        .layout_tests(true)
        .prepend_enum_name(false)
        .default_enum_style(bindgen::EnumVariation::Consts);
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for name in VARS {
        builder = builder.allowlist_var(name);
    }
    for name in OPAQUE {
        builder = builder.opaque_type(name);
    }
    // Without libclang, bindgen panics with a page of advice.
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let generated = catch_unwind(AssertUnwindSafe(|| builder.generate()));
    set_hook(hook);
    match generated {
        Ok(Ok(bindings)) => bindings.write_to_file(to).map_err(|e| format!("{}: {e}", to.display())),
        Ok(Err(e)) => Err(format!("bindgen cannot read DPDK's headers: {e}; if a header is missing, {PACKAGES}")),
        Err(_) => Err(format!("libclang was not found, which bindgen reads DPDK's headers with; {PACKAGES}")),
    }
}

fn compile(cflags: &[String]) -> Result<(), String> {
    let mut cc = cc::Build::new();
    for flag in cflags {
        cc.flag(flag);
    }
    // Always optimised: it is the hot path's inline functions.
    cc.file("shim.c").opt_level(3).warnings(true).extra_warnings(false).flag_if_supported("-std=gnu11");
    cc.try_compile("dpdk_shim")
        .map_err(|e| format!("shim.c does not compile: {e}; if there is no C compiler, {PACKAGES}"))
}

/// Dynamic: EAL loads the drivers from DPDK's plugin directory. rustc links `--as-needed`, so what we do
/// not call is not loaded.
fn link(libs: &[String]) {
    for flag in libs {
        if let Some(dir) = flag.strip_prefix("-L") {
            println!("cargo::rustc-link-search=native={dir}");
        } else if let Some(lib) = flag.strip_prefix("-l") {
            println!("cargo::rustc-link-lib=dylib={lib}");
        }
    }
    // pkg-config lists neither drivers nor buses: rte_eth_from_rings() is in the one, rte_vdev_init() in the other.
    println!("cargo::rustc-link-lib=dylib=rte_net_ring");
    println!("cargo::rustc-link-lib=dylib=rte_bus_vdev");
}
