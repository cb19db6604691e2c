#!/usr/bin/env python3
"""testpmd's txonly as the sender, on one core of its own, to the sink over a veth: what it offers, and what is stored.

    bench/testpmd_sender.py [--driver net_af_xdp] [--size 200] [--rounds N] [--seconds S] [--netpoll PROGRAM]

Frames of 200 bytes to one UDP port; their payload is whatever testpmd's buffers hold, so they are counted, not read: sent
by testpmd's own count, stored by the sink's ledger, lost by the kernel's counters of the veth. As root; what is made for it
goes back however it ends.
"""

import argparse
import json
import pathlib
import re
import sys
import tempfile
import time

import compare
import receivers

PORT = receivers.PORT


class Testpmd(compare.Party):
    """testpmd in the sender's namespace."""

    def __init__(self, link, size):
        command = ["ip", "netns", "exec", link.names["tx"], "dpdk-testpmd", "-l", compare.LCORES, "--main-lcore=0", "--no-huge",
                   "--no-shconf", "-m", compare.MEGABYTES, "--no-telemetry", "--no-pci", "--iova-mode=va",
                   "--vdev=net_af_xdp0,iface=tx0", "--", "-i", "--forward-mode=txonly", "--burst=32", "--mbcache=256",
                   "--total-num-mbufs=8192", "--nb-cores=1", "--no-flush-rx", f"--txpkts={size}",
                   "--tx-ip=10.99.0.2,10.99.0.1", f"--tx-udp={PORT},{PORT}", f"--eth-peer=0,{link.mac}"]
        super().__init__("testpmd txonly", command, r"testpmd> ")

    def send(self, seconds):
        """Frames sent, and nanoseconds."""
        start = time.monotonic_ns()
        self.tell("start")
        time.sleep(seconds)
        self.tell("stop")
        sent = self.wait_for(r"Accumulated[^$]*?\n *TX-packets: (\d+)")
        wall_ns = time.monotonic_ns() - start
        self.wait_for(r"Done\.\n")
        return int(sent.group(1)), wall_ns

    def say_goodbye(self):
        self.tell("quit")
        self.wait_for(r"Bye")


def stolen_ns():
    """How long the machine below has kept the sink's CPU from it (`steal` in /proc/stat, in hundredths of a second)."""
    line = next(line for line in pathlib.Path("/proc/stat").read_text().splitlines()
                if line.startswith(f"cpu{receivers.SINK_LCORE} "))
    return int(line.split()[8]) * 10_000_000


def dropped(link):
    """What the kernel dropped of the veth's frames, at either end."""
    total = 0
    for end in link.names:
        stats = json.loads(link.inside(end, "ip", "-j", "-s", "link", "show", f"{end}0"))[0]["stats64"]
        total += stats["rx"]["dropped"] + stats["tx"]["dropped"]
    return total


def trial(sink, link, size, seconds):
    with tempfile.TemporaryDirectory(prefix="netpoll-bench-", dir=receivers.ROOT / "target") as scratch:
        scratch = pathlib.Path(scratch)
        with receivers.Running(sink, link, scratch) as running:
            running.rest()
            testpmd = Testpmd(link, size)
            try:
                before, cpu_before, stolen_before = dropped(link), running.cpu_ns(), stolen_ns()
                sent, wall_ns = testpmd.send(seconds)
                cpu_ns = running.rest() - cpu_before
                lost, stolen = dropped(link) - before, stolen_ns() - stolen_before
                testpmd.end()
            finally:
                testpmd.kill()
            running.stop()
            said = running.said()
    if "balanced: every frame" not in said:
        raise receivers.Failed(f"{sink.name}: the ledger does not balance:\n{said}")
    to_disk = said[said.index("from the NIC to the disk"):]
    arrived, stored, missed = (int((re.search(rf"\n +{word} +(\d+)", to_disk) or [0, 0])[1])
                               for word in ("arrived", "stored", "nic_missed"))
    # What the veth drops is what the driver says it missed, where it can say so.
    if sent != arrived + max(0, lost - missed):
        raise receivers.Failed(f"{sent} sent, {arrived} arrived, {lost} dropped by the veth, {missed} missed:\n{said}")
    return sent, wall_ns, cpu_ns, stored, stolen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", default="net_af_xdp", help="the sink's driver (net_af_xdp)")
    parser.add_argument("--size", type=int, default=200, help="bytes of a frame (200)")
    parser.add_argument("--rounds", type=int, default=3, help="trials (3)")
    parser.add_argument("--seconds", type=float, default=2, help="length of a trial (2)")
    parser.add_argument("--netpoll", type=pathlib.Path, help="the program (built where it is not given)")
    options = parser.parse_args()
    program = options.netpoll or pathlib.Path(compare.build()["netpoll"])
    sink = receivers.Sink(options.driver, program, "--no-huge", "parquet")
    with receivers.Link() as link:
        for _ in range(options.rounds):
            sent, wall_ns, cpu_ns, stored, stolen = trial(sink, link, options.size, options.seconds)
            print(f"{sink.name}: {sent / wall_ns * 1e3:.3f} M frames/s by testpmd, {sent - stored} of {sent} not stored, all of them "
                  f"counted; {cpu_ns / stored:.0f} ns CPU a line; {stolen // 1_000_000} ms stolen from its CPU", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (receivers.Failed, compare.Failed) as failure:
        sys.exit(f"bench: {failure}")
