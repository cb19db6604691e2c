#!/usr/bin/env python3
"""What an idle policy of the sink costs: how long a datagram waits for the poll that takes it, and CPU time.

    bench/idle.py [--netpoll PROGRAM] [--rate N] [--seconds S] [POLICY ...]

A socket in one network namespace sends lines that say when they were sent, `rate` a second, over a veth to a sink by
net_af_packet in another; the sink's text has the time at which each was polled. The difference is the wait, plus some
microseconds of kernel on the way. Both read one clock. As root; beside other work the scheduler's delays are in it, so the
median says more than the tail.
"""

import argparse
import pathlib
import re
import sys
import tempfile

import receivers

SEND = """
import socket, sys, time
rate, count = float(sys.argv[1]), int(sys.argv[2])
to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
start = time.monotonic()
for number in range(count):
    time.sleep(max(0, start + number / rate - time.monotonic()))
    to.sendto(b"<14>sent %d" % time.time_ns(), ("10.99.0.1", 514))
"""
LINE = re.compile(rb"T(\d\d):(\d\d):(\d\d)\.(\d{6})Z \S+ <14>sent (\d+)")
DAY_NS = 86_400 * 10**9


class Idle(receivers.Sink):
    def __init__(self, program, policy):
        super().__init__("net_af_packet", program, "--no-huge", "text")
        self.policy = policy

    def command(self, scratch):
        return [*super().command(scratch), "--idle", self.policy]


def waits_ns(files):
    """Of every line: received less sent. The text has microseconds, rounded down."""
    for found in LINE.finditer(b"".join(path.read_bytes() for path in files)):
        hour, minute, second, micros, sent = map(int, found.groups())
        received = ((hour * 60 + minute) * 60 + second) * 10**9 + micros * 1000 + 500
        yield (received - sent + DAY_NS // 2) % DAY_NS - DAY_NS // 2


def measure(program, policy, rate, count):
    with receivers.Link() as link, tempfile.TemporaryDirectory(prefix="netpoll-idle-") as scratch:
        scratch = pathlib.Path(scratch)
        link.inside("tx", "ip", "addr", "add", "10.99.0.2/24", "dev", "tx0")
        with receivers.Running(Idle(program, policy), link, scratch) as running:
            before = running.cpu_ns()
            receivers.run("ip", "netns", "exec", link.names["tx"], sys.executable, "-c", SEND, rate, count)
            cpu_ns = running.cpu_ns() - before
            running.stop()
        waits = sorted(waits_ns(running.receiver.written(scratch)))
    if len(waits) != count:
        raise receivers.Failed(f"{count} lines sent, {len(waits)} written")
    at = lambda share: waits[min(count - 1, int(count * share))] / 1e3
    print(f"{policy:>12}  {rate:>7.0f}/s  {at(0.5):8.0f} {at(0.9):8.0f} {at(0.99):8.0f} {cpu_ns / (count / rate) / 1e7:8.1f} %",
          flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--netpoll", type=pathlib.Path, default=receivers.ROOT / "target/release/netpoll")
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("policies", nargs="*", default=["sleep", "sleep:200", "sleep:50", "pause", "busy"])
    options = parser.parse_args()
    print(f"{'policy':>12}  {'lines':>9}  {'p50 us':>8} {'p90 us':>8} {'p99 us':>8} {'CPU of a core':>10}")
    for policy in options.policies:
        measure(options.netpoll, policy, options.rate, round(options.rate * options.seconds))


if __name__ == "__main__":
    main()
