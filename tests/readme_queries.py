#!/usr/bin/env python3
"""Runs README.md's DuckDB and polars queries, as they stand there, in the folder that holds `logs`.

    tests/readme_queries.py FOLDER      prints {"duckdb": [row, ...], "polars": [row, ...]}
"""
import ast
import json
import os
import pathlib
import re
import sys

from parquet_readback import in_venv

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"


def blocks(language, mark):
    """The one fenced block of that language with `mark` in it."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    found = [block for block in found if mark in block]
    if len(found) != 1:
        sys.exit(f"readme_queries: {len(found)} blocks of {language} with {mark!r} in README.md, expected one")
    return found[0]


def value_of(code):
    """Runs Python code; the value of its last expression."""
    *before, last = ast.parse(code).body
    names = {}
    exec(compile(ast.Module(before, []), str(README), "exec"), names)
    return eval(compile(ast.Expression(last.value), str(README), "eval"), names)


def main():
    # pytz: without it DuckDB hands no time with a zone to Python.
    in_venv("duckdb", "polars", "pytz")
    import duckdb

    os.chdir(sys.argv[1])
    result = duckdb.sql(blocks("sql", "-- DuckDB"))
    columns = [name for name, *_ in result.description]
    by_duckdb = [dict(zip(columns, row)) for row in result.fetchall()]
    by_polars = value_of(blocks("python", "import polars")).to_dicts()
    print(json.dumps({"duckdb": by_duckdb, "polars": by_polars}, default=str))


if __name__ == "__main__":
    main()
