"""What a report needs of a benchmark as one small file.

`python tools/pack_cells.py runs/NAME docs/results/NAME.tar.xz`

Of every finished cell its record, configuration, result and ranks of test rows; neither checkpoints nor logs. Unpacked
(`tar -xJf FILE -C runs`), the same benchmark takes these cells for done and reports on them without training anything.
The same cells give the same bytes.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from recbole_cdsr.benchmark.cell import RECORD
from recbole_cdsr.benchmark.collect import DONE, GRID_FILE, NOT_APPLICABLE, RANKS_FILE, RESULT_FILE, load_cells
from recbole_cdsr.errors import DataError
from recbole_cdsr.files import replacing

FILES = (RECORD, "config.yaml", RESULT_FILE, RANKS_FILE)


def contents(benchmark: Path) -> Iterator[tuple[str, bytes]]:
    """Name, below the folder that holds the benchmark, and content of each file."""
    yield f"{benchmark.name}/{GRID_FILE}", (benchmark / GRID_FILE).read_bytes()
    for cell in sorted(load_cells(benchmark), key=lambda cell: str(cell.folder)):
        if cell.state not in (DONE, NOT_APPLICABLE):
            continue
        for path in (cell.folder / name for name in FILES):
            if path.is_file():
                content = path.read_bytes()
                if path.name == RECORD:  # where it ran is nobody's business
                    content = json.dumps(json.loads(content) | {"host": None}, indent=2).encode()
                yield f"{benchmark.name}/{path.relative_to(benchmark)}", content


def pack(benchmark: Path, archive: Path) -> int:
    """Write the archive and return the number of its files."""
    files = list(contents(benchmark))
    here = str(Path.cwd()).encode()
    told = next((name for name, content in files if here in content), None)
    if told is not None:
        sys.exit(f"{told} names folders of this machine; run benchmarks with an --output below the current folder.")
    # Alike things beside each other: the ranks of all cells compress best together.
    files.sort(key=lambda file: (Path(file[0]).name, file[0]))
    with (
        replacing(archive) as part,
        lzma.open(part, "wb", preset=9) as stream,
        tarfile.open(fileobj=stream, mode="w") as tar,
    ):
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return len(files)


def main() -> None:
    """Pack what is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", type=Path, help="the --output of a benchmark")
    parser.add_argument("archive", type=Path, help="file to write, .tar.xz")
    args = parser.parse_args()
    try:
        count = pack(args.benchmark, args.archive)
    except (OSError, DataError) as error:
        sys.exit(f"{args.benchmark} cannot be packed: {error}")
    print(f"{count} files in {args.archive}, {args.archive.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
