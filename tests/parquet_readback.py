#!/usr/bin/env python3
"""Reads a store back with pyarrow and compares every row with what was meant.

    tests/parquet_readback.py [PROGRAM]

PROGRAM is the example `parquet_readback`, which writes the store (built by cargo if not given). pyarrow
comes from PyPI, into target/parquet-readback/venv.
"""
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "parquet-readback"


PACKAGES = {"pyarrow": "pyarrow==22.0.0", "xxhash": "xxhash==4.1.0", "duckdb": "duckdb==1.4.4", "polars": "polars==1.35.2", "pytz": "pytz==2025.2"}


def in_venv(*more):
    """Goes on in a venv that has pyarrow, and what else is named."""
    needed = ["pyarrow", *more]
    load = "import " + ", ".join(needed)
    try:
        exec(load)
        return
    except ImportError:
        pass
    python = WORK / "venv" / "bin" / "python"
    if os.environ.get("NETPOLL_IN_VENV"):
        sys.exit(f"{pathlib.Path(sys.argv[0]).stem}: not all of {needed} load from {python}")
    WORK.mkdir(parents=True, exist_ok=True)
    # Tests that run at the same time make it once.
    with open(WORK / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", WORK / "venv"], check=True)
        if subprocess.run([python, "-c", load], stderr=subprocess.DEVNULL).returncode != 0:
            install = [python, "-m", "pip", "install", "--quiet", *(PACKAGES[name] for name in needed)]
            if subprocess.run(install).returncode != 0:
                print(f"skipped {pathlib.Path(sys.argv[0]).stem}: not all of {needed} can be installed from PyPI here")
                sys.exit(0)
    os.environ["NETPOLL_IN_VENV"] = "1"
    os.execv(python, [str(python), *sys.argv])


def build():
    command = ["cargo", "build", "-p", "netpoll", "--no-default-features", "--features", "store"]
    subprocess.run([*command, "--example", "parquet_readback"], check=True, cwd=ROOT)
    return ROOT / "target" / "debug" / "examples" / "parquet_readback"


def check(condition, *what):
    if not condition:
        sys.exit("parquet_readback: " + " ".join(str(part) for part in what))


def check_file(path, pq, pa):
    """Types, partition, order of one file; gives its rows."""
    table = pq.ParquetFile(path).read()
    types = {field.name: str(field.type) for field in table.schema}
    check(types["time"] == "timestamp[ns, tz=UTC]", types["time"])
    check(types["event_time"] == "timestamp[ns, tz=UTC]", types["event_time"])
    check(types["fields"].startswith("map<string, string"), types["fields"])
    check((types["severity"], types["seq"], types["dst_port"]) == ("uint8", "uint64", "uint16"), types)
    codecs = {pq.ParquetFile(path).metadata.row_group(0).column(i).compression for i in range(len(types))}
    check(codecs == {"ZSTD"}, path, codecs)
    columns = {name: table[name] for name in types}
    for name in ("time", "event_time"):
        columns[name] = columns[name].cast(pa.int64())
    rows = [dict(zip(columns, values)) for values in zip(*(column.to_pylist() for column in columns.values()))]
    keys = [(row["host"].encode(), row["time"]) for row in rows]
    check(keys == sorted(keys), path, "is not sorted by host and time")
    hour = pa.scalar(rows[0]["time"] // 3_600_000_000_000 * 3600, pa.timestamp("s")).as_py()
    where = path.parent.parent.name, path.parent.name
    check(where == (f"date={hour:%Y-%m-%d}", f"hour={hour:%H}"), path, "is in the wrong hour")
    check(len({row["time"] // 3_600_000_000_000 for row in rows}) == 1, path, "has rows of several hours")
    return rows


def compare(row, expected):
    """`row` is what was meant; gives its kernel-clock error, where it has one."""
    got = {name: row[name] for name in expected if name not in ("time_ns", "event_ns", "fields")}
    got["time_ns"], got["event_ns"], got["fields"] = row["time"], row["event_time"], dict(row["fields"])
    if expected["event_ns"] == "near":
        check(row["event_time"] is not None and row["event_error_ns"] > 0, "no kernel time:", row)
        got["event_ns"] = "near"
    check(got == expected, "\n got     ", got, "\n expected", expected)


def main():
    in_venv()
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    program = sys.argv[1] if len(sys.argv) > 1 else build()
    WORK.mkdir(parents=True, exist_ok=True)
    where = pathlib.Path(tempfile.mkdtemp(dir=WORK))
    try:
        subprocess.run([program, where], check=True)
        files = sorted(where.glob("store/date=*/hour=*/*.parquet"))
        rows = [row for path in files for row in check_file(path, pq, pa)]
        with open(where / "expected.jsonl", encoding="utf-8") as lines:
            expected = [json.loads(line) for line in lines]
        check(len(rows) == len(expected), len(rows), "rows,", len(expected), "expected")
        rows.sort(key=lambda row: row["time"])
        for row, meant in zip(rows, expected):
            compare(row, meant)
        hive = ds.dataset(files, partitioning="hive").to_table(filter=ds.field("severity") <= 3, columns=["seq"])
        severe = sum(meant["severity"] is not None and meant["severity"] <= 3 for meant in expected)
        check(hive.num_rows == severe, hive.num_rows, "rows by a dataset filter,", severe, "expected")
        check(not list(where.glob("spool/*")), "segments are left in the spool")
        print(f"parquet_readback: {len(rows)} rows in {len(files)} files are as meant (pyarrow {pa.__version__})")
    finally:
        shutil.rmtree(where)


if __name__ == "__main__":
    main()
