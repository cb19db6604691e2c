#!/usr/bin/env python3
"""Counts and hashes, with pyarrow, the lines that a sink has stored: what tests/ten_million.rs compares.

    tests/ten_million.py spool DIR      the payloads in DIR's Arrow streams
    tests/ten_million.py parquet DIR    the records in the Parquet files of the sink in DIR

Prints the number of lines and the sum of their 64-bit xxHashes, modulo 2**64; a hash's seed is the destination port.
"""
import multiprocessing
import os
import pathlib
import sys

from parquet_readback import in_venv

# What a record says, in this order; what is between them in no column is a unit separator.
COLUMNS = ("facility", "severity", "host", "app", "pid", "msgid", "seq", "message")
SEPARATOR = "\x1f"


def content(lines, ports):
    import xxhash

    return sum(map(xxhash.xxh64_intdigest, lines.to_pylist(), ports.to_pylist()))


def in_stream(path):
    import pyarrow as pa

    count, total = 0, 0
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream:
            count += batch.num_rows
            total += content(batch.column("payload"), batch.column("dst_port"))
    return count, total


def in_parquet(path):
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    count, total = 0, 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1 << 16, columns=[*COLUMNS, "dst_port"]):
            texts = [batch.column(name).cast(pa.string()) for name in COLUMNS]
            rows = pc.binary_join_element_wise(*texts, SEPARATOR, null_handling="replace", null_replacement="")
            count += batch.num_rows
            total += content(rows.cast(pa.binary()), batch.column("dst_port"))
    return count, total


def main():
    in_venv("xxhash")
    mode, where = sys.argv[1], pathlib.Path(sys.argv[2])
    read, pattern = {"spool": (in_stream, "*.arrows"), "parquet": (in_parquet, "store/date=*/hour=*/*.parquet")}[mode]
    paths = sorted(where.glob(pattern))
    with multiprocessing.Pool(len(os.sched_getaffinity(0))) as pool:
        found = pool.map(read, paths, chunksize=1)
    print(sum(count for count, _ in found), sum(total for _, total in found) % 2**64)


if __name__ == "__main__":
    main()
