//! Frames from a capture file.

use std::{fs::File, io::Read, path::Path, time::Duration};

use anyhow::{Context as _, bail, ensure};
use pcap_parser::{
    Block, InterfaceDescriptionBlock, Linktype, PcapBlockOwned, PcapError, create_reader,
    traits::PcapNGPacketBlock as _,
};

/// A file's frames, in its order.
#[derive(Clone, Debug, Default)]
pub(super) struct Replay {
    bytes: Vec<u8>,
    frames: Vec<Recorded>,
    /// From the first frame to the last.
    span: Duration,
    /// Frames that the capture cut short.
    pub(super) cut: u64,
}

#[derive(Clone, Copy, Debug)]
struct Recorded {
    /// After the first frame.
    at: Duration,
    /// Where in `bytes` it ends; it begins where the one before ends.
    end: usize,
}

/// Bytes of frames in one file at most: they are all in memory.
const MOST_BYTES: usize = 1 << 30;
/// Larger than any frame, and enough for blocks of pcapng.
const BUFFER: usize = 1 << 20;

impl Replay {
    /// Reads a file of libpcap's or in pcapng, captured on Ethernet.
    pub(super) fn read(path: &Path) -> anyhow::Result<Replay> {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
        let replay = Replay::from(file).with_context(|| format!("{shown}"))?;
        ensure!(!replay.frames.is_empty(), "{shown}: it holds no frame");
        Ok(replay)
    }

    fn from(file: impl Read + Send) -> anyhow::Result<Replay> {
        let mut reader = create_reader(BUFFER, file).map_err(|error| match error {
            PcapError::ReadError => anyhow::anyhow!("cannot be read"),
            _ => anyhow::anyhow!("neither pcap nor pcapng; expected a file as tcpdump -w or Wireshark write them"),
        })?;
        let mut replay = Replay::default();
        let mut form = Form::default();
        loop {
            let cut = match reader.next() {
                Ok((len, block)) => {
                    replay.block(block, &mut form)?;
                    reader.consume(len);
                    continue;
                }
                Err(PcapError::Eof) => break,
                Err(PcapError::Incomplete(_) | PcapError::UnexpectedEof) => true,
                Err(_) => false,
            };
            ensure!(cut, "damaged after frame {}", replay.frames.len());
            let number = replay.frames.len() + 1;
            ensure!(!reader.reader_exhausted(), "it ends in the middle of frame {number}; is it still being written?");
            reader.refill().map_err(|error| anyhow::anyhow!("cannot be read: {error}"))?;
        }
        Ok(replay)
    }

    fn block(&mut self, block: PcapBlockOwned<'_>, form: &mut Form) -> anyhow::Result<()> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                ethernet(header.network)?;
                form.unit_ns = if header.is_nanosecond_precision() { 1 } else { 1000 };
                Ok(())
            }
            PcapBlockOwned::Legacy(frame) => {
                let ns = u64::from(frame.ts_sec) * 1_000_000_000 + u64::from(frame.ts_usec) * form.unit_ns;
                self.push(frame.data, frame.origlen, Some(ns), form)
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                form.interfaces.clear();
                Ok(())
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                ethernet(interface.linktype)?;
                form.interfaces.push(Units::new(&interface));
                Ok(())
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(frame)) => {
                let Some(units) = form.interfaces.get(frame.if_id as usize) else {
                    bail!("frame {} is of an interface that is not described", self.frames.len() + 1)
                };
                let ns = units.ns(u64::from(frame.ts_high) << 32 | u64::from(frame.ts_low));
                self.push(frame.packet_data(), frame.orig_len(), Some(ns), form)
            }
            // It has no time: that of the one before.
            PcapBlockOwned::NG(Block::SimplePacket(frame)) => {
                self.push(frame.packet_data(), frame.orig_len(), None, form)
            }
            // Names, statistics, comments.
            PcapBlockOwned::NG(_) => Ok(()),
        }
    }

    fn push(&mut self, data: &[u8], origlen: u32, ns: Option<u64>, form: &mut Form) -> anyhow::Result<()> {
        ensure!(self.bytes.len() + data.len() <= MOST_BYTES, "more than {} MiB of frames", MOST_BYTES >> 20);
        let before = self.frames.last().map_or(Duration::ZERO, |frame| frame.at);
        let first_ns = match (form.first_ns, ns) {
            (None, Some(ns)) => *form.first_ns.insert(ns),
            (first, _) => first.unwrap_or_default(),
        };
        // Captures on several queues are not quite in order; frames leave in the file's order all the same.
        let at = ns.map_or(before, |ns| Duration::from_nanos(ns.saturating_sub(first_ns))).max(before);
        self.bytes.extend_from_slice(data);
        self.frames.push(Recorded { at, end: self.bytes.len() });
        self.span = at;
        self.cut += u64::from((data.len() as u64) < u64::from(origlen));
        Ok(())
    }

    pub(super) fn count(&self) -> u64 {
        self.frames.len() as u64
    }

    /// The longest frame, in bytes.
    pub(super) fn longest(&self) -> usize {
        (0..self.frames.len()).map(|number| self.bytes_of(number).len()).max().unwrap_or_default()
    }

    /// Frame number `number`, round and round, and its time after the first one. The next round starts as long after the
    /// last frame as frames are apart on average.
    pub(super) fn frame(&self, number: u64) -> (&[u8], Duration) {
        let (round, place) = (number / self.count(), (number % self.count()) as usize);
        let gap = self.span / (self.frames.len() as u32 - 1).max(1);
        let rounds = (self.span + gap).as_nanos().saturating_mul(round.into());
        let start = Duration::from_nanos(u64::try_from(rounds).unwrap_or(u64::MAX));
        (self.bytes_of(place), start.saturating_add(self.frames[place].at))
    }

    fn bytes_of(&self, place: usize) -> &[u8] {
        let start = place.checked_sub(1).map_or(0, |before| self.frames[before].end);
        &self.bytes[start..self.frames[place].end]
    }
}

/// What the file says of itself.
#[derive(Default)]
struct Form {
    /// Of libpcap's files.
    unit_ns: u64,
    /// Of pcapng's.
    interfaces: Vec<Units>,
    first_ns: Option<u64>,
}

/// An interface's unit of time.
struct Units {
    per_second: u64,
}

impl Units {
    fn new(interface: &InterfaceDescriptionBlock<'_>) -> Units {
        Units { per_second: interface.ts_resolution().filter(|units| *units > 0).unwrap_or(1_000_000) }
    }

    fn ns(&self, units: u64) -> u64 {
        u64::try_from(u128::from(units) * 1_000_000_000 / u128::from(self.per_second)).unwrap_or(u64::MAX)
    }
}

fn ethernet(linktype: Linktype) -> anyhow::Result<()> {
    ensure!(
        linktype == Linktype::ETHERNET,
        "captured on link type {}; expected Ethernet (1): capture on one interface, not on `any`",
        linktype.0
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: [u8; 4] = 0xa1b2_c3d4_u32.to_le_bytes();

    fn header(magic: [u8; 4], linktype: u32) -> Vec<u8> {
        let mut file = magic.to_vec();
        file.extend([2, 0, 4, 0]);
        [0, 0, 65535, linktype].iter().for_each(|word: &u32| file.extend(word.to_le_bytes()));
        file
    }

    fn record(file: &mut Vec<u8>, (s, fraction): (u32, u32), data: &[u8], origlen: u32) {
        [s, fraction, data.len() as u32, origlen].iter().for_each(|word| file.extend(word.to_le_bytes()));
        file.extend(data);
    }

    #[test]
    fn libpcap_files_in_both_resolutions() {
        for (magic, unit) in [(US, 1000), (0xa1b2_3c4d_u32.to_le_bytes(), 1)] {
            let mut file = header(magic, 1);
            record(&mut file, (5, 100), b"first", 5);
            record(&mut file, (5, 300), b"second, cut", 1500);
            record(&mut file, (5, 200), b"earlier", 7);
            let replay = Replay::from(&file[..]).unwrap();
            let at = |units: u64| Duration::from_nanos(units * unit);
            assert_eq!(replay.frame(0), (&b"first"[..], at(0)));
            assert_eq!(replay.frame(1), (&b"second, cut"[..], at(200)));
            assert_eq!(replay.frame(2), (&b"earlier"[..], at(200)), "in the file's order");
            assert_eq!(replay.frame(4), (&b"second, cut"[..], at(300 + 200)));
            assert_eq!((replay.count(), replay.cut, replay.longest()), (3, 1, 11));
        }
    }

    #[test]
    fn the_kernels_capture() {
        let replay = Replay::from(&include_bytes!("../../../../tests/data/kernel_frames.pcap")[..]).unwrap();
        assert_eq!((replay.count(), replay.cut), (13, 0));
        assert!((0..13).all(|number| replay.frame(number).0.len() >= 28));
    }

    #[test]
    fn pcapng_with_its_units() {
        let block = |kind: u32, body: &[u8]| {
            let len = 12 + body.len() as u32;
            [&kind.to_le_bytes()[..], &len.to_le_bytes(), body, &len.to_le_bytes()].concat()
        };
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
        let section = block(0x0a0d_0d0a, &words(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]));
        // Ethernet, no snap length, if_tsresol 9 (nanoseconds), end of options.
        let interface = block(1, &words(&[1, 0, 9 | 1 << 16, 9, 0]));
        let frame = |ns: u32| block(6, &[words(&[0, 1, ns, 6, 6]), b"abcdef\0\0".to_vec()].concat());
        let simple = block(3, &[words(&[4]), b"wxyz".to_vec()].concat());
        let file = [section, interface, frame(1000), simple, frame(1700)].concat();
        let replay = Replay::from(&file[..]).unwrap();
        assert_eq!(replay.frame(0), (&b"abcdef"[..], Duration::ZERO));
        assert_eq!(replay.frame(1), (&b"wxyz"[..], Duration::ZERO));
        assert_eq!(replay.frame(2), (&b"abcdef"[..], Duration::from_nanos(700)));
    }

    #[test]
    fn what_cannot_be_replayed_is_told() {
        let error = |file: &[u8]| format!("{:#}", Replay::from(file).unwrap_err());
        assert!(error(b"no capture, but text and more of it").contains("neither pcap nor pcapng"));
        assert!(error(b"").contains("neither"), "{}", error(b""));
        assert!(error(&header(US, 113)).contains("link type 113; expected Ethernet"));
        let mut cut = header(US, 1);
        record(&mut cut, (0, 0), b"whole", 5);
        record(&mut cut, (0, 0), b"not whole", 9);
        cut.truncate(cut.len() - 3);
        assert!(error(&cut).contains("in the middle of frame 2"), "{}", error(&cut));
    }
}
