//! What takes rolled text files away, as a log shipper does, and looks at each line.

use std::{fs, path::Path};

use super::traffic::STREAMS;

#[derive(Default)]
pub struct Shipped {
    /// Lines that were taken away.
    pub lines: u64,
    /// The numbers that have come, a bit each, by stream.
    seen: [Vec<u64>; STREAMS],
}

impl Shipped {
    /// Takes the rolled files, and where nobody writes any more the live one, too.
    pub fn take(&mut self, dir: &Path, live_too: bool) {
        for name in names(dir, live_too) {
            let path = dir.join(name);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.is_empty() || text.ends_with('\n'), "{}: its last line is torn", path.display());
            text.lines().for_each(|line| self.line(line));
            fs::remove_file(&path).unwrap();
        }
    }

    /// Lines that are there and were not taken.
    pub fn left(dir: &Path) -> u64 {
        let lines = |name: String| fs::read(dir.join(name)).unwrap().iter().filter(|byte| **byte == b'\n').count();
        names(dir, true).into_iter().map(lines).sum::<usize>() as u64
    }

    /// One of ours, whole, and there only once. Not always in order: while the kernel still sends what has waited for ARP,
    /// later ones overtake.
    fn line(&mut self, line: &str) {
        self.lines += 1;
        let mut words = line.rsplit(' ');
        let mut number = || words.next().and_then(|word| word.parse::<usize>().ok());
        let (Some(number), Some(stream)) = (number(), number()) else { panic!("not a line of ours: {line}") };
        let (seen, at, bit) = (&mut self.seen[stream], number / 64, 1 << (number % 64));
        seen.resize(seen.len().max(at + 1), 0);
        assert!(seen[at] & bit == 0, "twice: {line}");
        seen[at] |= bit;
    }
}

/// Rolled ones by time, the live one last.
fn names(dir: &Path, live_too: bool) -> Vec<String> {
    let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = all.filter(|name| name.starts_with("netpoll.log")).collect();
    names.sort_by_key(|name| (name == "netpoll.log", name.clone()));
    names.retain(|name| live_too || name != "netpoll.log");
    names
}
