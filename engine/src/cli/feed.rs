//! Lines from files, FIFOs and standard input, to clients that send them.
//!
//! ```text
//! reader thread -- blocks of lines --> one thread a client -> Netpoll::send
//! ```
//! The reader may be stuck in a read for ever: nobody waits for it. It hands lines out through the [`Desk`], which is
//! closed at the end; what was handed out is then sent or counted as left, to the line.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    ops::ControlFlow,
    os::unix::fs::FileTypeExt as _,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use netpoll::{
    config::Input,
    netpoll::{Netpoll, Port},
};

use super::{
    ledger::Ledger,
    pace::{self, Pace, Rate},
    session::Sent,
    stop::Stop,
    style::Style,
};

/// Longest line that is read as one; UDP takes less.
const LONGEST_LINE: usize = 1 << 16;
/// Blocks that wait for a client's thread.
const BLOCKS: usize = 4;
/// What was submitted must leave within this time: longer than ARP takes to give up.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// A client with how it writes its lines.
pub(super) struct Sender {
    pub(super) client: Netpoll,
    pub(super) port: Arc<Port>,
    pub(super) style: Style,
    /// Waits for room in its ring of so many frames, as long as that takes. `None`: the client's drop policy decides.
    pub(super) waits: Option<usize>,
    /// The CPU that its thread is pinned to.
    pub(super) cpu: Option<u32>,
}

/// What of the input is sent, and how fast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) rate: Rate,
    pub(super) count: Option<u64>,
    /// A FIFO is read for ever, whoever closes it.
    pub(super) forever: bool,
}

/// Lines on their way.
pub(super) struct Feed {
    desk: Arc<Mutex<Desk>>,
    threads: Vec<JoinHandle<Done>>,
    targets: usize,
    stop: Stop,
}

/// What is left of a client's thread.
struct Done {
    sender: Sender,
    /// Lines that it was given and did not submit, as the end was asked for.
    left: u64,
}

/// What a feed came to.
pub(super) struct Fed {
    pub(super) sent: Vec<Sent>,
    /// Lines read, times the targets that each goes to.
    pub(super) read: u64,
    /// Lines that were not submitted, as the end was asked for.
    pub(super) left: u64,
    /// Why the input ended early.
    pub(super) error: Option<String>,
}

type Block = Arc<[u8]>;

/// Where the reader hands lines out. Closed: no channels.
#[derive(Default)]
struct Desk {
    /// By target, then by client.
    channels: Vec<Vec<SyncSender<Block>>>,
    next: usize,
    read: u64,
    /// Handed out to a thread that is gone.
    left: u64,
    error: Option<String>,
}

impl Feed {
    /// Starts reading `inputs`, one after another. Each line goes to every target: to one of its clients, in turn.
    pub(super) fn start(
        inputs: Vec<Input>,
        targets: Vec<Vec<Sender>>,
        limits: Limits,
        stop: &Stop,
    ) -> io::Result<Feed> {
        let mut desk = Desk::default();
        let mut threads = Vec::new();
        let count = targets.len();
        for senders in targets {
            let mut channels = Vec::new();
            for sender in senders {
                let (channel, blocks) = sync_channel(BLOCKS);
                let (name, stop) = (sender.client.name().to_owned(), stop.clone());
                threads.push(std::thread::Builder::new().name(name).spawn(move || sender.run(&blocks, &stop))?);
                channels.push(channel);
            }
            desk.channels.push(channels);
        }
        let desk = Arc::new(Mutex::new(desk));
        let mut reader = Reader {
            desk: desk.clone(),
            pace: limits.rate.start(Instant::now(), Duration::MAX),
            left: limits.count.unwrap_or(u64::MAX),
            stop: stop.clone(),
        };
        std::thread::Builder::new().name("reader".into()).spawn(move || {
            let result = inputs.iter().try_for_each(|input| reader.read_input(input, limits.forever));
            if let (Err(error), true) = (&result, limits.forever) {
                tracing::error!("the input of a client has ended: {error}");
            }
            let mut desk = lock(&reader.desk);
            desk.error = result.err();
            // The clients' threads end once they have sent what they were given.
            desk.channels.clear();
        })?;
        Ok(Feed { desk, threads, targets: count, stop: stop.clone() })
    }

    /// Whether everything was read and submitted.
    pub(super) fn is_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Ends it, with what is still to be read left unread, and cleans the clients up.
    pub(super) fn finish(self) -> anyhow::Result<Fed> {
        lock(&self.desk).channels.clear();
        let mut done = Vec::new();
        for thread in self.threads {
            done.push(thread.join().map_err(|_| anyhow::anyhow!("a client's thread panicked"))?);
        }
        // What waits for ARP, or for a slow port, has some time.
        let deadline = Instant::now() + DRAIN_LIMIT;
        let queued = |done: &Done| done.sender.client.stats().queued > 0;
        while done.iter().any(queued) && Instant::now() < deadline && !self.stop.wait(Duration::from_millis(1)) {}
        let desk = lock(&self.desk);
        let mut fed = Fed {
            sent: Vec::new(),
            read: desk.read * self.targets as u64,
            left: desk.left + done.iter().map(|done| done.left).sum::<u64>(),
            error: desk.error.clone(),
        };
        for Done { sender: Sender { client, port, .. }, .. } in done {
            let name = client.name().to_owned();
            fed.sent.push(Sent { port, name, stats: client.cleanup()? });
        }
        Ok(fed)
    }
}

impl Fed {
    /// `read = submitted + left`.
    pub(super) fn tell(&self, ledger: &mut Ledger, key: &str, title: &str) {
        let submitted: u64 = self.sent.iter().map(|sent| sent.stats.submit.submitted).sum();
        let right = format!("{submitted} submitted + {} left when the end was asked for", self.left);
        ledger.equal(key, (&format!("{title}: {}", self.read), self.read), (&right, submitted + self.left));
    }
}

impl Sender {
    /// The client's thread.
    fn run(mut self, blocks: &Receiver<Block>, stop: &Stop) -> Done {
        if let Some(cpu) = self.cpu {
            pin(cpu, self.client.name());
        }
        let mut datagram = Vec::new();
        let (mut left, mut room) = (0, 0);
        for block in blocks {
            for line in lines(&block) {
                if room == 0 && !stop.asked() {
                    room = self.waits.map_or(1, |frames| pace::room(&self.client, frames, stop).unwrap_or(0));
                }
                if stop.asked() {
                    left += 1;
                    continue;
                }
                room -= 1;
                self.style.write(line, &mut datagram);
                // A refusal is counted by the client, and told at the end.
                let _ = self.client.send(&datagram);
            }
        }
        Done { sender: self, left }
    }
}

/// The lines of a block, without their ends.
fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    block.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line))
}

fn pin(cpu: u32, client: &str) {
    let id = cpu as usize;
    // Asked first: core_affinity 0.8 aborts the process on an id that its CPU set has no bit for.
    let known = core_affinity::get_core_ids().is_some_and(|cores| cores.iter().any(|core| core.id == id));
    if !known || !core_affinity::set_for_current(core_affinity::CoreId { id }) {
        tracing::warn!(client, cpu, "cannot pin the client's thread; it runs on any CPU");
    }
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The reading thread.
struct Reader {
    desk: Arc<Mutex<Desk>>,
    pace: Pace,
    left: u64,
    stop: Stop,
}

impl Reader {
    fn read_input(&mut self, input: &Input, forever: bool) -> Result<(), String> {
        let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
        match input {
            Input::Stdin => self.read(io::stdin().lock()).map_err(|error| format!("standard input: {error}")),
            Input::Path(path) => {
                let file = open(path, forever).map_err(|error| failed(path, error))?;
                self.read(file).map_err(|error| failed(path, error))
            }
        }
    }

    /// Whole lines at once; the last one may lack its end.
    fn read(&mut self, mut input: impl Read) -> io::Result<()> {
        let mut buffer = vec![0; LONGEST_LINE];
        let mut filled = 0;
        loop {
            let read = match input.read(&mut buffer[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            filled += read;
            let ends = read == 0 || filled == buffer.len();
            let whole = match buffer[..filled].iter().rposition(|byte| *byte == b'\n') {
                Some(last) => last + 1,
                // Too long for a datagram anyhow: it goes on as it is, and is refused and counted.
                None if ends => filled,
                None => continue,
            };
            let whole = if read == 0 { filled } else { whole };
            if self.deal(&buffer[..whole]).is_break() || read == 0 {
                return Ok(());
            }
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
        }
    }

    /// Hands lines out as fast as the rate allows.
    fn deal(&mut self, mut block: &[u8]) -> ControlFlow<()> {
        self.pace.forgive();
        while !block.is_empty() && self.left > 0 {
            let Some(due) = self.pace.due(&self.stop) else { return ControlFlow::Break(()) };
            let mut count = 0;
            let mut end = 0;
            for line in block.split_inclusive(|byte| *byte == b'\n').take(due.min(self.left) as usize) {
                count += 1;
                end += line.len();
            }
            self.pace.done(count);
            self.left -= count;
            lock(&self.desk).hand_out(&block[..end], count)?;
            block = &block[end..];
        }
        if self.left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Desk {
    /// Each line to one client of each target. Waits while that client has enough.
    fn hand_out(&mut self, block: &[u8], count: u64) -> ControlFlow<()> {
        let Some(clients) = self.channels.first().map(Vec::len) else { return ControlFlow::Break(()) };
        self.read += count;
        let mut shares = vec![Vec::new(); clients];
        if clients == 1 {
            shares[0] = block.to_vec();
        } else {
            for line in block.split_inclusive(|byte| *byte == b'\n') {
                shares[self.next % clients].extend_from_slice(line);
                self.next += 1;
            }
        }
        let mut flow = ControlFlow::Continue(());
        for (client, share) in shares.into_iter().enumerate().filter(|(_, share)| !share.is_empty()) {
            let share: Block = share.into();
            for target in &self.channels {
                if target[client].send(share.clone()).is_err() {
                    self.left += lines(&share).count() as u64;
                    flow = ControlFlow::Break(());
                }
            }
        }
        flow
    }
}

/// A FIFO that is read for ever is opened for writing too, so that it never ends.
fn open(path: &Path, forever: bool) -> io::Result<File> {
    let is_fifo = path.metadata()?.file_type().is_fifo();
    OpenOptions::new().read(true).write(is_fifo && forever).open(path)
}
