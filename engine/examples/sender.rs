//! A sender: one client that sends syslog lines through a DPDK port.
//!
//! ```text
//! cargo run --example sender                                     # net_null: any machine, no rights needed
//! cargo run --example sender -- net_tap0,iface=np0 10.99.0.2     # to the kernel, as root
//! ```

use std::{net::Ipv4Addr, time::Duration};

use netpoll::{
    dpdk::PortSetup,
    engine::{Engine, EngineConfig},
    netpoll::{ClientOptions, OnFull, PortOptions},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let device = args.next().unwrap_or_else(|| "net_null0".into());
    let remote: Ipv4Addr = args.next().as_deref().unwrap_or("10.99.0.2").parse()?;

    let engine = Engine::start(EngineConfig::default())?;
    let options = PortOptions::new("port0").ip([10, 99, 0, 1].into(), 24);
    let port = engine.attach(&device, &PortSetup::default(), options, &[])?;

    // A full ring makes `send` wait for the port, at most a second.
    let wait = OnFull::Wait(Duration::from_secs(1));
    let mut client = port.setup(ClientOptions::new("sender").remote(remote, 514).on_full(wait))?;
    for n in 1..=1000 {
        client.send(format!("<14>sender: line {n}").as_bytes())?;
    }
    // Lets the port take what is queued, then says where every frame went.
    print!("{}", client.cleanup()?);
    engine.stop()?;
    Ok(())
}
