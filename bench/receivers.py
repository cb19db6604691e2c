#!/usr/bin/env python3
"""The sink beside other receivers of syslog over UDP, on one veth, with one sender: rows of bench/compare.py.

    bench/receivers.py [--rounds N] [--seconds S] [--netpoll PROGRAM] [--side PROGRAM]

A trial: one receiver is started in a network namespace of its own, the sender (`side offer`, bench/side/offer.rs) sends
numbered lines from its own core in another one, at a rate or as many as the link takes; when the receiver is at rest it
is stopped, and what it wrote is read: each number at most once, and lost is what is not there. The CPU time is that of the
receiver's process, all threads, from the first line to rest. What the kernel does for a receiver in the sender's context
(its softirq) is in nobody's account. Trials of all receivers take turns.

A rate counts as lossless if one of three trials lost nothing: what else the machine does takes lines away, and never adds any.

As root. Namespaces, processes, folders and the changed sysctl go back however it ends. syslog-ng, whose packages conflict
with rsyslog's, is fetched by `apt-get download` and unpacked into target/syslog-ng.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RMEM_MAX = pathlib.Path("/proc/sys/net/core/rmem_max")
BUFFER = 64 << 20
PORT = 514
SENDER = "side offer"
NAME = "receivers on a veth: sink, rsyslog, syslog-ng"
# The lcore that `side` sends from is 1; 0 is the sink's. Others may use both, as the sink's writer does.
SINK_LCORE = "0"
NUMBER = re.compile(rb" line (\d{10}) a?")
SYSLOG_NG = ["syslog-ng-core", "libivykis0", "libnet1", "libpcre3", "libwrap0"]
# First guess of the search for the highest lossless rate, and how far it goes.
STEPS = 7
TRIES = 3
FAVOURED = ["nice", "-n", "-20"]
FLOOR = 20_000
# More than the sender reaches.
CEILING = 1_200_000


class Failed(Exception):
    """A receiver or the sender did not do what it should: the run is worth nothing."""


def run(*command, **more):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          **more)
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{text}")
    return text


def favour(process):
    """Little of what else the machine does comes between: its session's share of the CPUs is the largest there is."""
    try:
        pathlib.Path(f"/proc/{process.pid}/autogroup").write_text("-20")
    except OSError:  # Not in this kernel: then the priority alone has to do.
        pass


class Link:
    """A veth between two namespaces: `rx0` and `tx0`, the kernel's address on rx only where it is asked for."""

    def __init__(self):
        self.names = {end: f"netpoll-bench-{end}-{os.getpid()}" for end in ("rx", "tx")}

    def __enter__(self):
        try:
            for name in self.names.values():
                run("ip", "netns", "add", name)
                self.inside_name(name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
                self.inside_name(name, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
                self.inside_name(name, "ip", "link", "set", "lo", "up")
            run("ip", "link", "add", "rx0", "netns", self.names["rx"], "type", "veth", "peer", "name", "tx0", "netns",
                self.names["tx"])
            for end in self.names:
                self.inside(end, "ip", "link", "set", f"{end}0", "up")
            self.mac = json.loads(self.inside("rx", "ip", "-j", "link", "show", "rx0"))[0]["address"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, check=False)

    def inside(self, end, *command):
        return self.inside_name(self.names[end], *command)

    @staticmethod
    def inside_name(name, *command):
        return run("ip", "netns", "exec", name, *command)

    def address(self, wanted):
        """Whether the kernel has the receiver's address."""
        self.inside("rx", "ip", "addr", "flush", "dev", "rx0")
        if wanted:
            self.inside("rx", "ip", "addr", "add", "10.99.0.1/24", "dev", "rx0")
            # Who sends has no address to ask for.
            self.inside("rx", "ip", "neigh", "replace", "10.99.0.2", "lladdr", "02:00:00:00:00:02", "dev", "rx0")


class Receiver:
    """One receiver: how it is started, when it is ready, where its lines are."""

    def __init__(self, name, kernel):
        self.name, self.kernel = name, kernel

    def command(self, scratch):
        raise NotImplementedError

    def environment(self):
        return None

    def written(self, scratch):
        return [scratch / "lines"]


class Sink(Receiver):
    def __init__(self, driver, program, memory, output):
        label = f"netpoll sink, {driver}" + ("" if output == "text" else f", {output}")
        super().__init__(label, kernel=False)
        self.driver, self.program, self.memory, self.output = driver, program, memory, output

    def command(self, scratch):
        # Its own choice of arguments: 64 MiB for the packet socket's ring, as much as the others have in their sockets.
        return [self.program, "sink", self.memory, "--vdev", f"{self.driver}0,iface=rx0", "--ip", "10.99.0.1/24",
                "--listen", PORT, "--out", scratch / "out", "--output", self.output, "--lcores", SINK_LCORE, "--stats", "0"]

    def written(self, scratch):
        return sorted((scratch / "out").glob("netpoll.log*"))


class Rsyslog(Receiver):
    def __init__(self):
        super().__init__("rsyslog imudp", kernel=True)

    def command(self, scratch):
        (scratch / "rsyslog.conf").write_text(f"""
global(workDirectory="{scratch}")
module(load="imudp" batchSize="1024" timeRequery="8")
main_queue(queue.type="FixedArray" queue.size="2000000" queue.dequeueBatchSize="4096" queue.workerThreads="1")
input(type="imudp" port="{PORT}" rcvbufSize="64m")
action(type="omfile" file="{scratch}/lines" ioBufferSize="256k" flushOnTXEnd="off" template="RSYSLOG_FileFormat")
""", encoding="utf-8")
        return ["rsyslogd", "-n", "-x", "-i", scratch / "pid", "-f", scratch / "rsyslog.conf"]


class SyslogNg(Receiver):
    def __init__(self, root):
        super().__init__("syslog-ng", kernel=True)
        self.root = root

    def command(self, scratch):
        (scratch / "syslog-ng.conf").write_text(f"""@version: 3.38
options {{ use-dns(no); keep-hostname(yes); stats-freq(0); threaded(yes); create-dirs(no); }};
source s {{ network(ip("10.99.0.1") port({PORT}) transport("udp") so-rcvbuf({BUFFER}) log-fetch-limit(1000)
    log-iw-size(100000)); }};
destination d {{ file("{scratch}/lines" log-fifo-size(2000000) flush-lines(1000)); }};
log {{ source(s); destination(d); }};
""", encoding="utf-8")
        return [self.root / "usr/sbin/syslog-ng", "-F", "--no-caps", "-f", scratch / "syslog-ng.conf", "--module-path",
                self.root / "usr/lib/syslog-ng/3.38", "-R", scratch / "persist", "-p", scratch / "pid", "-c",
                scratch / "control"]

    def environment(self):
        places = ("usr/lib/syslog-ng", "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(str(self.root / place) for place in places)}


def syslog_ng():
    """Where syslog-ng is unpacked; fetches it the first time. None, and it is said, where that is not possible."""
    root = ROOT / "target/syslog-ng"
    if not (root / "usr/sbin/syslog-ng").exists():
        root.mkdir(parents=True, exist_ok=True)
        try:
            run("apt-get", "download", *SYSLOG_NG, cwd=root)
            for package in root.glob("*.deb"):
                run("dpkg", "-x", package, root)
                package.unlink()
        except (Failed, OSError) as failure:
            print(f"bench: SKIPPED syslog-ng, its packages cannot be had: {failure}", file=sys.stderr)
            return None
    return root


class Running:
    """A started receiver."""

    def __init__(self, receiver, link, scratch):
        link.address(receiver.kernel)
        self.receiver, self.scratch = receiver, scratch
        self.log = open(scratch / "log", "w+b")
        command = [*FAVOURED, "ip", "netns", "exec", link.names["rx"], *map(str, receiver.command(scratch))]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env=receiver.environment(), start_new_session=True)
        favour(self.process)

    def __enter__(self):
        try:
            end = time.monotonic() + 30
            while not self.is_ready():
                if self.process.poll() is not None or time.monotonic() > end:
                    raise Failed(f"{self.receiver.name} does not start:\n{self.said()}")
                time.sleep(0.05)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def said(self):
        return (self.scratch / "log").read_text(errors="replace")[-3000:]

    def is_ready(self):
        if not self.receiver.kernel:
            return "\nready" in "\n" + self.said()
        try:
            return f":{PORT:04X} " in pathlib.Path(f"/proc/{self.process.pid}/net/udp").read_text()
        except OSError:
            return False

    def cpu_ns(self):
        """CPU time of all its threads."""
        total = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except OSError:  # It has just ended.
                pass
        return total

    def rest(self):
        """Waits until it has nothing to do: a twelfth of a core at most, twice in a row."""
        quiet, last, end = 0, self.cpu_ns(), time.monotonic() + 120
        while quiet < 2:
            time.sleep(0.3)
            now = self.cpu_ns()
            quiet, last = (quiet + 1 if now - last < 25_000_000 else 0), now
            if time.monotonic() > end:
                raise Failed(f"{self.receiver.name} does not come to rest")
        return last

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(60) != 0:
            raise Failed(f"{self.receiver.name}: exit code {self.process.returncode}\n{self.said()}")

    def lines(self):
        """How many lines it wrote: each whole and once, or it raises."""
        seen = set()
        count = 0
        for path in self.receiver.written(self.scratch):
            data = path.read_bytes()
            numbers = NUMBER.findall(data)
            if len(numbers) != data.count(b"\n"):
                raise Failed(f"{self.receiver.name}: {path.name} has other lines than those that were sent")
            count += len(numbers)
            seen.update(numbers)
        if len(seen) != count:
            raise Failed(f"{self.receiver.name}: wrote a line twice")
        return count


def offer(side, link, seconds, rate):
    """Sends; how many lines, and nanoseconds."""
    command = [*FAVOURED, "ip", "netns", "exec", link.names["tx"], side, "offer", "device=net_af_xdp0,iface=tx0",
               f"to={link.mac}", f"rate={rate}", "memory=none"]
    with subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, start_new_session=True) as process:
        favour(process)
        try:
            said, _ = process.communicate(f"run {round(seconds * 1000)}\nquit\n".encode(), timeout=seconds + 60)
        finally:
            process.kill()
    found = re.search(rb"frames=(\d+) wall_ns=(\d+)", said)
    if not found or b"exact" not in said:
        raise Failed(f"{SENDER}: {said.decode(errors='replace')}")
    return int(found.group(1)), int(found.group(2))


def trial(receiver, side, link, seconds, rate):
    with tempfile.TemporaryDirectory(prefix="netpoll-bench-", dir=ROOT / "target") as scratch:
        scratch = pathlib.Path(scratch)
        with Running(receiver, link, scratch) as running:
            running.rest()
            before = running.cpu_ns()
            sent, wall_ns = offer(side, link, seconds, rate)
            cpu_ns = running.rest() - before
            running.stop()
            lines = running.lines()
    if lines > sent or lines == 0:
        raise Failed(f"{receiver.name}: {sent} lines sent, {lines} written")
    return {"frames": float(lines), "cpu_ns": float(cpu_ns), "wall_ns": float(wall_ns), "sent": float(sent),
            "lost": float(sent - lines), "rate": float(rate)}


def measure(receivers, side, rounds, seconds, tell=print):
    """Trials at saturation, and the highest rate without a loss, of each: ({name: [values]}, {name: values})."""
    with Link() as link:
        saturated = {receiver.name: [] for receiver in receivers}
        for turn in range(rounds):
            for receiver in receivers if turn % 2 == 0 else reversed(receivers):
                values = trial(receiver, side, link, seconds, 0)
                saturated[receiver.name].append(values)
                tell(f"  {receiver.name}: {values['sent'] / values['wall_ns'] * 1e3:.3f} M/s offered, {values['lost']:.0f} of "
                     f"{values['sent']:.0f} lost, {values['cpu_ns'] / values['frames']:.0f} ns CPU a line")
        # Bisection, everybody's step after everybody's last: rates are in steps of a ratio.
        low, lossless = dict.fromkeys((receiver.name for receiver in receivers), FLOOR), {}
        high = dict.fromkeys(low, CEILING)
        for _ in range(STEPS):
            for receiver in receivers:
                name = receiver.name
                rate = round((low[name] * high[name]) ** 0.5)
                for _ in range(TRIES):
                    values = trial(receiver, side, link, seconds, rate)
                    tell(f"  {name}: {rate / 1e6:.3f} M/s wanted, {values['sent'] / values['wall_ns'] * 1e3:.3f} sent, "
                         f"{values['lost']:.0f} lost")
                    if values["lost"] == 0:
                        break
                if values["lost"] > 0:
                    high[name] = rate
                    continue
                # Where the sender came no further, neither does the search.
                sent = values["sent"] / values["wall_ns"] * 1e9
                low[name] = min(rate, max(sent, FLOOR))
                if name not in lossless or sent > lossless[name]["sent"] / lossless[name]["wall_ns"] * 1e9:
                    lossless[name] = values
                if sent < rate * 0.97:
                    high[name] = rate
        return saturated, lossless


def rows(netpoll, side, memory, rounds, seconds, tell=print):
    """The rows for bench/report.py: [(row, slices)]."""
    memory = "--hugepages" if memory == "huge" else "--no-huge"
    sinks = [Sink(driver, netpoll, memory, "text") for driver in ("net_af_xdp", "net_af_packet")]
    others = [Rsyslog()]
    root = syslog_ng()
    others += [SyslogNg(root)] if root else []
    before = RMEM_MAX.read_text()
    try:
        if int(before) < BUFFER:
            RMEM_MAX.write_text(str(BUFFER))
        saturated, lossless = measure([*sinks, *others], side, rounds, seconds, tell)
    finally:
        RMEM_MAX.write_text(before)
    result = []
    for sink in sinks:
        for other in others:
            pair = (other.name, sink.name)
            lost = {name: min(value["lost"] / value["sent"] for value in saturated[name]) for name in pair}
            notes = [f"{name} lost {share:.1%}" for name, share in lost.items()]
            row = {"name": f"receivers on a veth, text file, as many lines as one core sends: {sink.name} beside {other.name}", "by": "cpu",
                   "bound": 4.0, "parties": dict.fromkeys(pair), "notes": notes}
            result.append((row, {name: saturated[name] for name in pair}))
            if all(name in lossless for name in pair):
                row = {"name": f"receivers on a veth, text file, highest rate without a loss: {sink.name} beside {other.name}", "by": "wall",
                       "bound": 1.0, "parties": dict.fromkeys(pair)}
                result.append((row, {name: [lossless[name]] for name in pair}))
            else:
                tell(f"bench: no lossless rate above {FLOOR} for one of {pair}")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="trials of each at saturation (3)")
    parser.add_argument("--seconds", type=float, default=2, help="length of a trial (2)")
    parser.add_argument("--netpoll", type=pathlib.Path, default=ROOT / "target/release/netpoll")
    parser.add_argument("--side", type=pathlib.Path, required=True, help="the bench `side`, as cargo built it")
    parser.add_argument("--memory", default="none", choices=("none", "huge"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    import report

    for row, slices in rows(options.netpoll, options.side, options.memory, options.rounds, options.seconds):
        print(report.line(report.judge(row, slices)))


if __name__ == "__main__":
    main()
