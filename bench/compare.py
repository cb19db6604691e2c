#!/usr/bin/env python3
"""Runs every row of the table: two or more parties on one device, core and burst, in turns.

    bench/compare.py [--slices N] [--slice-ms MS] [--rows WORD] [--out DIR] [--no-huge]

A party is `dpdk-testpmd` or our own `side` (bench/side). All parties of a row are started, idle, and then work one
after the other, a slice each, many times. So whatever else the machine does meets all of them. What counts is frames
per second of CPU time that the measured lcore's thread used (/proc/.../schedstat): a slice in which the thread had
to wait for its core is as good as any. Rows with more than one busy thread are by the clock instead, and say so.

Standard library only. Results: table.md, raw.csv, plot.svg in bench/runs/DATE-HOST/.
"""

import argparse
import csv
import datetime
import json
import os
import pathlib
import platform
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import time

import receivers
import report
import rows
import stored

ROOT = pathlib.Path(__file__).resolve().parent.parent
LCORES = "0,1"
MEGABYTES = 256
# Of 2 MB each, for five parties at most, which are there at the same time.
HUGEPAGES = 700
# Trials of each receiver at saturation, and their length.
RECEIVERS = {"rounds": 5, "seconds": 2}
NR_HUGEPAGES = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")


class Failed(Exception):
    """A party did not do what it was told: the run is worth nothing."""


class Party:
    """A process that works when it is told to."""

    def __init__(self, label, command, ready):
        # A terminal for its output: DPDK's applications buffer what goes to a pipe.
        self.master, slave = pty.openpty()
        self.label, self.text = label, ""
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=slave, stderr=slave, cwd=ROOT)
        os.close(slave)
        self.wait_for(ready, 60)

    def tell(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def wait_for(self, pattern, seconds=30):
        """Reads up to `pattern`, and gives back the match."""
        end = time.monotonic() + seconds
        while True:
            match = re.search(pattern, self.text)
            if match:
                self.text = self.text[match.end():]
                return match
            try:
                part = os.read(self.master, 65536)
            except OSError:  # How a terminal says that its other side is gone.
                part = b""
            if not part or time.monotonic() > end:
                raise Failed(f"{self.label}: no {pattern!r} in:\n{self.text}")
            self.text += part.decode(errors="replace").replace("\r", "")

    def cpu_ns(self):
        """CPU time of the measured lcore's thread, which rests now."""
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            if re.search(r"(worker-?|poll-|lcore-)1$", (task / "comm").read_text().strip()):
                return int((task / "schedstat").read_text().split()[0])
        raise Failed(f"{self.label}: no thread of lcore 1")

    def slice(self, milliseconds):
        """One slice; again where the thread hardly got to run."""
        for _ in range(20):
            before = self.cpu_ns()
            values = self.work(milliseconds)
            time.sleep(0.002)
            # A side that knows better says so itself.
            values.setdefault("cpu_ns", self.cpu_ns() - before)
            if values["cpu_ns"] >= milliseconds * 50_000:
                break
        if values["frames"] <= 0:
            raise Failed(f"{self.label}: a slice without a frame")
        return values

    def end(self):
        """Ends well, or raises."""
        try:
            self.say_goodbye()
            if self.process.wait(30) != 0:
                raise Failed(f"{self.label}: exit code {self.process.returncode}\n{self.text}")
        finally:
            self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.master is not None:
            os.close(self.master)
            self.master = None


class Side(Party):
    def __init__(self, label, arguments, binary, memory):
        super().__init__(label, [binary, *arguments, f"memory={memory}"], r"ready\n")

    def work(self, milliseconds):
        self.tell(f"run {milliseconds}")
        line = self.wait_for(r"(frames=.*)\n").group(1)
        return {key: float(value) for key, value in (pair.split("=") for pair in line.split())}

    def say_goodbye(self):
        self.tell("quit")
        self.wait_for(r"exact\n")


class Testpmd(Party):
    def __init__(self, label, party, memory):
        eal = ["--no-huge", "--no-shconf"] if memory == "none" else ["--in-memory"]
        command = ["dpdk-testpmd", "-l", LCORES, "--main-lcore=0", *eal, "-m", MEGABYTES, "--no-telemetry", "--no-pci",
                   "--iova-mode=va"]
        command += [f"--vdev={device}" for device in party["devices"]]
        command += ["--", "-i", f"--forward-mode={party.get('first', party['mode'])}", "--burst=32", "--mbcache=256",
                    "--total-num-mbufs=8192", "--nb-cores=1", "--no-flush-rx", f"--txpkts={party.get('size', 64)}"]
        super().__init__(label, command, r"testpmd> ")
        self.count = party.get("count", "RX")
        if "first" in party:
            # Leaves real frames in the buffers that are used next.
            self.work(50)
            self.tell(f"set fwd {party['mode']}")
            self.wait_for(r"testpmd> ")

    def work(self, milliseconds):
        start = time.monotonic_ns()
        self.tell("start")
        time.sleep(milliseconds / 1000)
        self.tell("stop")
        totals = self.wait_for(rf"Accumulated[^$]*?\n *RX-packets: (\d+)[^\n]*\n *TX-packets: (\d+)")
        wall_ns = time.monotonic_ns() - start
        self.wait_for(r"Done\.\n")
        frames = int(totals.group(1 if self.count == "RX" else 2))
        return {"frames": float(frames), "wall_ns": float(wall_ns)}

    def say_goodbye(self):
        self.tell("quit")
        self.wait_for(r"Bye")


def start(label, party, binary, memory, scratch):
    if "mode" in party:
        party = {**party, "devices": [device.format(scratch=scratch) for device in party["devices"]]}
        return Testpmd(label, party, memory)
    return Side(label, [word.format(scratch=scratch) for word in party["side"]], binary, memory)


def measure(row, options, binary, scratch):
    """All slices of a row: {label: [values]}."""
    parties, slices = [], {}
    try:
        for label, party in row["parties"].items():
            parties.append(start(label, party, binary, options.memory, scratch))
        for party in parties:  # Caches, page tables, clock.
            party.slice(options.slice_ms)
        for turn in range(options.slices):
            # Back and forth, so that nobody always follows the same neighbour.
            for party in parties if turn % 2 == 0 else reversed(parties):
                slices.setdefault(party.label, []).append(party.slice(options.slice_ms))
        for party in parties:
            party.end()
    finally:
        for party in parties:
            party.kill()
    return {label: slices[label] for label in row["parties"]}


def build():
    """The program and the benches that take part: {name: executable}."""
    command = ["cargo", "build", "--release", "-p", "netpoll", "--bin", "netpoll", "--bench", "side", "--bench", "store",
               "--message-format=json"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    built = {}
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message.get("executable"):
            built[message["target"]["name"]] = message["executable"]
    return built


def reserve_hugepages():
    """Adds what two parties need, where that is allowed; gives back what there was before, if that was changed."""
    try:
        before = NR_HUGEPAGES.read_text()
        NR_HUGEPAGES.write_text(str(int(before) + HUGEPAGES))
        return before
    except OSError:
        return None


def output(*command):
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode().strip()


def machine(options):
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    dirty = "" if output("git", "status", "--porcelain", "--untracked-files=no") == "" else ", with changes"
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{cpu.group(1) if cpu else platform.machine()}, {os.cpu_count()} CPUs"
                   + (", virtual" if "hypervisor" in pathlib.Path("/proc/cpuinfo").read_text() else ""),
        "kernel": platform.release(),
        "DPDK": output("pkg-config", "--modversion", "libdpdk"),
        "compiler": output("rustc", "--version"),
        "flags": "release profile: " + ", ".join(release_profile()) + "; RUSTFLAGS=" + os.environ.get("RUSTFLAGS", ""),
        "commit": output("git", "rev-parse", "--short", "HEAD") + dirty,
        "memory": "hugepages" if options.memory == "huge" else "ordinary pages (--no-huge) on both sides",
        "slices": f"{options.slices} of {options.slice_ms} ms a party, burst 32, lcore 1",
        "load": f"{os.getloadavg()[0]:.1f} at the start (1 is our own)",
    }


def release_profile():
    text = (ROOT / "Cargo.toml").read_text()
    section = re.search(r"\[profile\.release\]\n(.*?)(\n\n|\Z)", text, re.S)
    return section.group(1).splitlines() if section else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=12, help="slices of each party in a row (12)")
    parser.add_argument("--slice-ms", type=int, default=400, help="length of a slice in milliseconds (400)")
    parser.add_argument("--rows", default="", help="only rows whose name contains this")
    parser.add_argument("--out", type=pathlib.Path, help="where the results go (bench/runs/DATE-HOST)")
    parser.add_argument("--no-huge", action="store_true", help="ordinary pages on both sides, although there are hugepages")
    options = parser.parse_args()
    if not shutil.which("dpdk-testpmd"):
        sys.exit("bench: dpdk-testpmd is missing: apt install dpdk-dev")
    if (os.cpu_count() or 1) < 2:
        sys.exit("bench: two CPUs are needed, one that works and one that watches")
    before = reserve_hugepages()
    try:
        run(options)
    finally:
        if before is not None:
            NR_HUGEPAGES.write_text(before)


def all_rows(options, built, scratch):
    """Every row that was asked for, with its slices."""
    for row in rows.ROWS:
        if options.rows in row["name"]:
            try:
                yield row, measure(row, options, built["side"], scratch)
            except Failed as failure:
                sys.exit(f"bench: {row['name']}: {failure}")
    if options.rows in stored.NAME:
        yield from stored.rows(built["store"])
    if options.rows in receivers.NAME:
        try:
            # The other parties are gone: their hugepages are free.
            yield from receivers.rows(built["netpoll"], built["side"], options.memory, **RECEIVERS)
        except receivers.Failed as failure:
            sys.exit(f"bench: {receivers.NAME}: {failure}")


def run(options):
    free = int(re.search(r"HugePages_Free: *(\d+)", pathlib.Path("/proc/meminfo").read_text()).group(1))
    options.memory = "none" if options.no_huge or free < HUGEPAGES else "huge"
    facts, built = machine(options), build()
    binary = built["side"]
    out = options.out or ROOT / "bench/runs" / f"{datetime.date.today()}-{platform.node() or 'host'}"
    out.mkdir(parents=True, exist_ok=True)
    results, raw = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for size in (64, 256, 1024):
            subprocess.run([binary, "pcap", f"file={scratch}/{size}.pcap", f"size={size}"], check=True)
        subprocess.run([binary, "pcap", f"file={scratch}/line.pcap", "payload=line"], check=True)
        for row, slices in all_rows(options, built, scratch):
            result = report.judge(row, slices)
            print(report.line(result), flush=True)
            results.append(result)
            for label, values in slices.items():
                raw += [{"row": row["name"], "party": label, "slice": number, **value}
                        for number, value in enumerate(values)]
    report.write(out, facts, results)
    keys = list(dict.fromkeys(key for line in raw for key in line))
    with open(out / "raw.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, keys)
        writer.writeheader()
        writer.writerows(raw)
    print(f"{out}/table.md")
    missed = [result["name"] for result in results if result["met"] is False]
    print(f"{len(results)} rows, {len(missed)} not met" + "".join(f"\n  {name}" for name in missed))


if __name__ == "__main__":
    main()
