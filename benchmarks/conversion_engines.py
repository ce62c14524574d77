"""What reading four fields of gzipped reviews costs with each candidate engine; those not installed are left out.

    python benchmarks/conversion_engines.py FILE.json.gz

`FILE` holds reviews of 2014 or 2018 as JSON lines, such as `benchmarks/conversion.py --folder` generates. Each engine
reads it in a process of its own on one thread. What an engine does with a broken line matters as much: `lines` says
whether the number of a malformed row can be told.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time

from measuring import Stopwatch, peak_mib

FIELDS = ("reviewerID", "asin", "overall", "unixReviewTime")
BLOCK = 2 << 20


def blocks(path: Path, opener: Callable) -> Iterator[bytes]:
    """Yield whole lines of a gzip file, some megabytes at a time."""
    rest = b""
    with opener(path, "rb") as stream:
        while chunk := stream.read(BLOCK):
            end = chunk.rfind(b"\n") + 1
            yield rest + chunk[:end]
            rest = chunk[end:]


def isal_blocks(path: Path) -> Iterator[bytes]:
    from isal import igzip

    return blocks(path, igzip.open)


def zlib_only(path: Path) -> int:
    return sum(block.count(b"\n") for block in blocks(path, gzip.open))


def isal_only(path: Path) -> int:
    return sum(block.count(b"\n") for block in isal_blocks(path))


def line_by_line(path: Path, loads: Callable) -> int:
    rows = 0
    for block in isal_blocks(path):
        columns = [[] for _ in FIELDS]
        for line in block.splitlines():
            row = loads(line)
            for column, name in zip(columns, FIELDS, strict=True):
                column.append(row[name])
        rows += len(columns[0])
    return rows


def standard_json(path: Path) -> int:
    return line_by_line(path, json.loads)


def orjson_lines(path: Path) -> int:
    import orjson

    return line_by_line(path, orjson.loads)


def msgspec_blocks(path: Path) -> int:
    import msgspec

    types = zip(FIELDS, (str, str, float, float), strict=True)
    decoder = msgspec.json.Decoder(msgspec.defstruct("Review", list(types), gc=False))
    rows = 0
    for block in isal_blocks(path):
        found = decoder.decode_lines(block)
        columns = [[getattr(row, name) for row in found] for name in FIELDS]
        rows += len(columns[0])
    return rows


def polars_whole(path: Path) -> int:
    import polars

    types = dict(zip(FIELDS, (polars.String, polars.String, polars.Float64, polars.Float64), strict=True))
    return len(polars.read_ndjson(path, schema=types))


def duckdb_whole(path: Path) -> int:
    import duckdb

    kinds = ("VARCHAR", "VARCHAR", "DOUBLE", "DOUBLE")
    types = ", ".join(f"{name}: '{kind}'" for name, kind in zip(FIELDS, kinds, strict=True))
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    query = f"SELECT * FROM read_json(?, format = 'newline_delimited', columns = {{{types}}}, ignore_errors = true)"
    return len(connection.execute(query, [str(path)]).fetchnumpy()["asin"])


def pandas_whole(path: Path) -> int:
    import pandas

    return len(pandas.read_json(path, lines=True)[list(FIELDS)])


def pandas_chunks(path: Path) -> int:
    import pandas

    chunks = pandas.read_json(path, lines=True, chunksize=50_000)
    return len(pandas.concat([chunk[list(FIELDS)] for chunk in chunks]))


# Name: function, package it needs, whether the line of a malformed row can be told.
ENGINES = {
    "gzip alone (zlib)": (zlib_only, "gzip", ""),
    "gzip alone (isal)": (isal_only, "isal", ""),
    "json": (standard_json, "isal", "yes"),
    "orjson": (orjson_lines, "orjson", "yes"),
    "msgspec, typed blocks": (msgspec_blocks, "msgspec", "yes"),
    "polars, whole file": (polars_whole, "polars", "no"),
    "duckdb, whole file": (duckdb_whole, "duckdb", "no"),
    "pandas, whole file": (pandas_whole, "pandas", "no"),
    "pandas, in chunks": (pandas_chunks, "pandas", "no"),
}


def measure(engine: str, path: Path) -> dict[str, float]:
    """Read the file in this process; rows, seconds and MiB."""
    with Stopwatch() as seconds:
        rows = ENGINES[engine][0](path)
    return {"rows": rows, "wall": seconds.wall, "cpu": process_time(), "peak_mib": peak_mib()}


def main() -> None:
    """Measure every engine in a process of its own and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--engine", choices=ENGINES, help="measure this one only, in this process, and print JSON")
    options = parser.parse_args()
    if options.engine:
        print(json.dumps(measure(options.engine, options.file)))
        return
    print(f"{'':24}{'wall s':>8}{'CPU s':>8}{'rows/CPU s':>12}{'peak MiB':>10}  lines")
    for engine, (_, package, lines) in ENGINES.items():
        if importlib.util.find_spec(package) is None:
            print(f"{engine:24}not installed")
            continue
        command = [sys.executable, __file__, str(options.file), "--engine", engine]
        environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            sys.exit(f"{engine} failed:\n{done.stderr}")
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{engine:24}{found['wall']:8.1f}{found['cpu']:8.1f}{found['rows'] / found['cpu']:12,.0f}"
            f"{found['peak_mib']:10,.0f}  {lines}",
            flush=True,
        )


if __name__ == "__main__":
    main()
