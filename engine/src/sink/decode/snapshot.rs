//! A decoder's state between two datagrams, to go on from after a restart as if there had been none.
//!
//! Its size follows what is held, which the decoder's limits bound. The counters are not part of it: who
//! keeps snapshots keeps their sums too.

use serde::{Deserialize, Serialize};

use crate::sink::loss::Loss;

use super::{DecodeConfig, Decoder, Flow, Output, netconsole::FLUSH_NS, table::Place};

/// The state, to be serialised.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    seed: u64,
    clk_ns: u64,
    time_ns: u64,
    swept_ns: u64,
    flows: Vec<Flow>,
    here: (Vec<Loss>, Vec<(u64, u64)>),
}

impl Snapshot {
    /// Datagrams that wait in it.
    pub fn pending_datagrams(&self) -> u64 {
        self.flows.iter().map(Flow::parts).sum()
    }

    /// Receive time of the last datagram, nanoseconds since the Unix epoch; 0 before the first.
    pub fn time_ns(&self) -> u64 {
        self.time_ns
    }
}

impl Decoder {
    /// The state now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            seed: self.table.seed(),
            clk_ns: self.clk_ns,
            time_ns: self.time_ns,
            swept_ns: self.swept_ns,
            flows: self.table.iter().map(|(_, flow)| flow.clone()).collect(),
            here: self.here.snapshot(),
        }
    }

    /// A decoder in that state. `out` takes what has no room any more, where `config` has a smaller flow
    /// table or smaller limits than the one that the snapshot is of. The seed is the snapshot's.
    pub fn restore(config: DecodeConfig, snapshot: Snapshot, out: &mut dyn Output) -> Decoder {
        let mut decoder = Decoder::new(DecodeConfig { seed: snapshot.seed, ..config });
        decoder.clk_ns = snapshot.clk_ns;
        decoder.time_ns = snapshot.time_ns;
        decoder.swept_ns = snapshot.swept_ns;
        decoder.here = super::gap::Here::restore(snapshot.here);
        for flow in snapshot.flows {
            let (Place::Found(slot) | Place::Claim(slot)) = decoder.table.find(&flow.key);
            if let Some(holder) = decoder.table.take(slot) {
                decoder.counters.flows_evicted.add(1);
                decoder.work(slot, holder, out, |flow, exit| exit.release(flow, FLUSH_NS, true));
            }
            decoder.held_bytes += flow.held_bytes();
            // Puts it in its place, with its deadline.
            decoder.work(slot, Box::new(flow), out, |_, _| {});
        }
        if decoder.held_bytes > decoder.config.total_bytes {
            decoder.relieve(out);
        }
        decoder
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::sink::{RawDatagram, record::Record};

    #[derive(Default, PartialEq, Debug)]
    struct Kept(Vec<Record>);

    impl Output for Kept {
        fn record(&mut self, record: &Record) {
            self.0.push(record.clone());
        }
    }

    /// Some of everything that can wait: fragments, early messages, basic beginnings, crash groups.
    fn push(decoder: &mut Decoder, at: u64, out: &mut Kept) {
        let payloads = [
            format!("6,{at},{at},-,ncfrag={}/2000;{}", at % 4 * 500, "f".repeat(500)),
            format!("6,{},{at},-,caller=T1;early\n", at ^ 3),
            "b".repeat(1000),
            "------------[ cut here ]------------\n".to_owned(),
            format!("{at} short line\n"),
        ];
        let datagram = RawDatagram {
            time_ns: 1_700_000_000_000_000_000 + at * 1_000_000,
            src_ip: IpAddr::V4(Ipv4Addr::from_bits((at % 7) as u32)),
            src_port: 6665,
            dst_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            dst_port: 6666,
            payload: payloads[(at % 5) as usize].as_bytes(),
        };
        decoder.push(&datagram, out);
    }

    #[test]
    fn a_decoder_goes_on_where_it_was() {
        let (mut whole, mut cut) = (Kept::default(), Kept::default());
        let config = DecodeConfig { seed: 5, ..DecodeConfig::default() };
        let mut steady = Decoder::new(config.clone());
        let mut stopped = Decoder::new(config.clone());
        for at in 0..2000 {
            push(&mut steady, at, &mut whole);
            push(&mut stopped, at, &mut cut);
            if at % 97 == 0 {
                let pending = stopped.pending_datagrams();
                let bytes = postcard::to_stdvec(&stopped.snapshot()).unwrap();
                let snapshot: Snapshot = postcard::from_bytes(&bytes).unwrap();
                assert_eq!(snapshot.pending_datagrams(), pending);
                // Another seed in the config makes no difference.
                stopped = Decoder::restore(DecodeConfig { seed: 6, ..config.clone() }, snapshot, &mut cut);
                assert_eq!(stopped.pending_datagrams(), pending);
                assert_eq!(stopped.held_bytes(), steady.held_bytes());
            }
        }
        steady.flush(&mut whole);
        stopped.flush(&mut cut);
        let sorted = |mut kept: Kept| {
            // Flows that are due at one moment go out in the order of their places.
            kept.0.sort_by_key(|record| (record.src_ip, record.time_ns, record.seq, record.message.clone()));
            kept
        };
        assert_eq!(sorted(whole), sorted(cut));
    }

    #[test]
    fn a_smaller_table_lets_go_what_has_no_room() {
        let mut out = Kept::default();
        let config = DecodeConfig { flows: 4096, ..DecodeConfig::default() };
        let mut decoder = Decoder::new(config.clone());
        for ip in 0..1000 {
            let datagram = RawDatagram {
                time_ns: 1,
                src_ip: IpAddr::V4(Ipv4Addr::from_bits(ip)),
                src_port: 1,
                dst_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
                dst_port: 6666,
                payload: b"6,1,1,-;text\n",
            };
            decoder.push(&datagram, &mut out);
        }
        let mut decoder = Decoder::restore(DecodeConfig { flows: 16, ..config }, decoder.snapshot(), &mut out);
        assert_eq!((out.0.len(), decoder.pending_datagrams()), (984, 16));
        decoder.flush(&mut out);
        assert_eq!(out.0.len(), 1000);
    }
}
