"""Rows of bench/compare.py: decode and Parquet, lines a second of one core, by bench/store.rs."""

import re
import subprocess

NAME = "decode + Parquet"
LINES = 300_000
AT_LEAST = 400_000
# Format, bytes, and then best and median of: lines/s and ns of decoding, lines/s and ns of decoding and storing.
ROW = re.compile(r"^(\S.*?) +(\d+) +\S+ / \S+ +\S+ / \S+ +(\d+) / (\d+) +\S+ / \S+ +[\d.]+$", re.M)


def rows(program):
    """[(row, slices)], the best run and the median one of each format."""
    said = subprocess.run([program, str(LINES)], stdout=subprocess.PIPE, check=True).stdout.decode()
    for name, size, *rates in ROW.findall(said):
        row = {"name": f"{NAME}, {name}, {size} B, one core", "by": "cpu", "show": ["lines_per_s"],
               "at_least": {"lines_per_s": AT_LEAST}, "parties": {"netpoll": None}}
        yield row, {"netpoll": [{"frames": float(LINES), "cpu_ns": LINES / int(rate) * 1e9, "lines_per_s": float(rate)}
                                for rate in rates]}
