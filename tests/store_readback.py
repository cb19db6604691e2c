#!/usr/bin/env python3
"""Reads a sink's Parquet files with pyarrow.

    tests/store_readback.py rows DIR    each row as a JSON object a line
    tests/store_readback.py demo DIR    compares the rows with the text file that `netpoll demo --parquet` wrote
"""
import collections
import json
import pathlib
import re
import sys

from parquet_readback import check, in_venv

# A text line of the demo: time, address:port, payload; and what of a payload is before the message.
LINE = re.compile(r"^\S+ [\d.]+:(\d+) (.*)$")
HEADERS = (
    re.compile(r"^\d+,\d+,\d+,-,caller=T\d+;"),
    re.compile(r"^<38>1 \S+ machine\d+ sshd \d+ - \[demo@32473 line=\"(\d+)\"\] "),
    re.compile(r"^<38>\w{3} [ \d]\d [\d:]{8} machine\d+ sshd\[\d+\]: "),
)


def meant(text):
    """(source port, number in the structured data, message) of a line."""
    port, payload = LINE.match(text).groups()
    for header in HEADERS:
        found = header.match(payload)
        if found:
            number = found.group(1) if header.groups else None
            return int(port), number, payload[found.end() :].split("\\n ")[0]
    return int(port), None, payload


def main():
    in_venv()
    import pyarrow as pa
    import pyarrow.parquet as pq

    mode, where = sys.argv[1], pathlib.Path(sys.argv[2])
    tables = [pq.ParquetFile(path).read() for path in sorted(where.glob("store/date=*/hour=*/*.parquet"))]
    if mode == "rows":
        for table in tables:
            for name in ("time", "event_time"):
                at = table.schema.get_field_index(name)
                table = table.set_column(at, name, table[name].cast(pa.int64()))
            for row in table.to_pylist():
                print(json.dumps({**row, "fields": dict(row["fields"])}))
        return
    got = collections.Counter()
    for table in tables:
        columns = (table[name].to_pylist() for name in ("src_port", "fields", "message"))
        got.update((port, dict(fields).get("demo@32473.line"), message) for port, fields, message in zip(*columns))
    with open(where / "netpoll.log", encoding="utf-8", newline="\n") as lines:
        expected = collections.Counter(meant(line.rstrip("\n")) for line in lines)
    check(got == expected, "missing", list((expected - got).items())[:3], "too many", list((got - expected).items())[:3])
    check(max(expected.values(), default=1) == 1, "a line that is there twice")
    print(f"store_readback: {sum(got.values())} rows are the {sum(expected.values())} lines")


if __name__ == "__main__":
    main()
