//! Sending from inside a hook.

use std::{net::IpAddr, sync::Arc};

use super::{ClientShared, Headers, SharedRing};
use crate::{
    netpoll::{
        SendError,
        hook::{Datagram, HookSend},
    },
    port::Frame,
    wire::template::{UdpFlow, UdpTemplate},
};

/// A client's sending side inside its own rx hook.
pub(crate) struct HookSender<B> {
    pub(crate) shared: Arc<ClientShared>,
    pub(crate) ring: Arc<SharedRing<B>>,
}

impl<B: Frame> HookSend for HookSender<B> {
    fn send(&self, payload: &[u8]) -> Result<(), SendError> {
        self.shared.submit_shared(&self.ring, self.shared.headers(), payload, |_| None)
    }

    fn reply(&self, to: &Datagram<'_>, payload: &[u8]) -> Result<(), SendError> {
        let template = match (to.src_ip(), to.dst_ip()) {
            (IpAddr::V4(dst_ip), IpAddr::V4(asked)) => Some(UdpTemplate::new(&UdpFlow {
                src_mac: self.shared.port.mac,
                dst_mac: to.src_mac(),
                // A group was asked: answered from our own address.
                src_ip: if asked.is_broadcast() || asked.is_multicast() { self.shared.local_ip } else { asked },
                dst_ip,
                src_port: to.dst_port(),
                dst_port: to.src_port(),
            })),
            _ => None,
        };
        let headers = template.as_ref().map_or(Headers::Unknown, Headers::Template);
        self.shared.submit_shared(&self.ring, headers, payload, |_| None)
    }
}
