"""Raw files, plain or gzip, as blocks of whole lines; hashed, counted and shown as they are read, in one pass."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from isal import igzip
from tqdm import tqdm

from recbole_cdsr.errors import DataError

BLOCK_BYTES = 2 << 20
# Nothing we convert has such a line; a file that does is not text.
LONGEST_LINE = 64 << 20
# Malformed rows whose line number and fault the card shows, per file.
SHOWN_MALFORMED = 5
# A file whose first rows are all malformed is another file than it was taken for: no reason to read 30 GB of it.
HOPELESS_ROWS = 1000
_PACKED_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class LineBlock:
    """Some whole lines of a file.

    Parameters
    ----------
    number : int
        1-based number of its first line.
    data : bytes
        The lines with their `\\n` (the last line of a file may have none).
    n_lines : int
        How many lines these are, blank ones included.
    """

    number: int
    data: bytes
    n_lines: int

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield (line number, line without its end) of every line that is not blank."""
        for number, line in enumerate(self.data.split(b"\n"), start=self.number):
            line = line.removesuffix(b"\r")
            if line and not line.isspace():
                yield number, line


@dataclass
class RawFile:
    """One source file and what came of reading it.

    Parameters
    ----------
    path : Path
        Where it lies; gzip is told by its content, not by its name.
    domain : str
        The domain its rows belong to; "" for a file of all domains.
    rows : int
        Rows read so far, malformed ones included; counted by who parses them.
    malformed : int
        Rows of them that could not be understood.
    malformed_lines : list[tuple[int, str]]
        Line number and fault of the first `SHOWN_MALFORMED` of those.
    counted : dict[str, int]
        What else who parses them counted for the card, by its name there.
    sha256, size : str, int
        Of the file as it lies there (compressed, if it is), known once it has been read to its end.
    """

    path: Path
    domain: str = ""
    rows: int = 0
    malformed: int = 0
    malformed_lines: list[tuple[int, str]] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=dict)
    sha256: str = ""
    size: int = 0

    def blocks(self, size: int = BLOCK_BYTES) -> Iterator[LineBlock]:
        """Yield the file's lines in blocks of about `size` bytes, with a progress bar on a terminal.

        Raises
        ------
        DataError
            A file that cannot be read, a gzip file that is cut short or damaged, a line beyond `LONGEST_LINE`.
        """
        number = 1
        rest: list[bytes] = []
        waiting = 0  # bytes of a line whose end has not been read yet
        for chunk in self._chunks(size):
            end = chunk.rfind(b"\n") + 1
            if not end:
                rest.append(chunk)
                waiting += len(chunk)
                if waiting > LONGEST_LINE:
                    raise DataError(
                        f"{self.path}, line {number}: longer than {LONGEST_LINE >> 20} MiB, so this is no file of "
                        "text rows; check that it is the file you mean."
                    )
                continue
            data = b"".join([*rest, memoryview(chunk)[:end]])
            rest, waiting = [chunk[end:]], len(chunk) - end
            n_lines = data.count(b"\n")
            yield LineBlock(number, data, n_lines)
            number += n_lines
        if data := b"".join(rest):
            yield LineBlock(number, data, 1)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield (line number, line without its end) of every line that is not blank."""
        for block in self.blocks():
            yield from block.lines()

    def report_malformed(self, number: int, fault: str) -> None:
        """Count one malformed row; a file of which the first `HOPELESS_ROWS` are all so is given up (`DataError`).

        Parameters
        ----------
        number : int
            Its line.
        fault : str
            What is wrong with it, in a few words.
        """
        self.malformed += 1
        if len(self.malformed_lines) < SHOWN_MALFORMED:
            self.malformed_lines.append((number, fault[:200]))
        if self.malformed == HOPELESS_ROWS and self.rows <= HOPELESS_ROWS:
            first, fault = self.malformed_lines[0]
            raise DataError(
                f"{self.path}: the first {HOPELESS_ROWS:,} rows are all malformed (line {first}: {fault}); check that "
                "this is the file and the release you mean."
            )

    def describe(self) -> dict[str, Any]:
        """Return what the card says of the file; its name carries no folder, which says nothing to others."""
        described: dict[str, Any] = {"name": self.path.name, "sha256": self.sha256, "bytes": self.size}
        if self.rows:
            described["rows"] = self.rows
        if self.malformed:
            described["malformed"] = self.malformed
            described["malformed_lines"] = [f"{number}: {fault}" for number, fault in self.malformed_lines]
        return described | self.counted

    def _chunks(self, size: int) -> Iterator[bytes]:
        """Read, decompress and hash; what the caller gets has no byte order mark."""
        try:
            with self.path.open("rb") as file, self._progress() as bar:
                source = _HashingReader(file, bar.update)
                packed = io.BufferedReader(source, buffer_size=_PACKED_BYTES)
                unpacked = _unpacked(packed)
                yield unpacked.read(size).removeprefix(_BYTE_ORDER_MARK)
                while chunk := unpacked.read(size):
                    yield chunk
                while packed.read(_PACKED_BYTES):  # what a decompressor may have left unread belongs to the hash
                    pass
                self.sha256, self.size = source.hexdigest(), source.count
        except (EOFError, zlib.error, igzip.BadGzipFile) as error:
            reason = "is cut short" if isinstance(error, EOFError) else f"is damaged ({error})"
            raise DataError(f"{self.path}: the gzip file {reason}; download it again.") from error
        except igzip.isal_zlib.error as error:
            raise DataError(f"{self.path}: the gzip file is damaged ({error}); download it again.") from error
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror or error}).") from error

    def _progress(self) -> tqdm:
        return tqdm(
            total=self.path.stat().st_size,
            desc=self.path.name,
            unit="B",
            unit_scale=True,
            disable=None,  # silent where nobody watches
            leave=False,
        )


class _HashingReader(io.RawIOBase):
    """Passes bytes on from a file and remembers their hash and number."""

    def __init__(self, file: BinaryIO, seen: Callable[[int], Any]) -> None:
        self._file = file
        self._seen = seen
        self._hash = hashlib.sha256()
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self._hash.update(memoryview(buffer)[:count])
        self.count += count
        self._seen(count)
        return count

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _unpacked(packed: io.BufferedReader) -> BinaryIO:
    if packed.peek(2).startswith(_GZIP_MAGIC):
        return igzip.IGzipFile(fileobj=packed, mode="rb")  # type: ignore[return-value]
    return packed  # type: ignore[return-value]


def find_raw_file(raw_dir: Path, names: Sequence[str], published: str, option: str = "--raw") -> Path:
    """Return the first of `names`, plain or with `.gz`, that lies in `raw_dir`.

    Parameters
    ----------
    raw_dir : Path
        The folder given as `option`.
    names : Sequence[str]
        File names to look for, best first; each also stands for itself with `.gz`.
    published : str
        Under which name and in which collection the file is published, for the error.
    option : str
        The option that names the folder, for the error.

    Raises
    ------
    DataError
        When none is there, or `raw_dir` is no folder.
    """
    if not raw_dir.is_dir():
        raise DataError(f"{raw_dir}: no such folder; {option} takes the folder that holds the raw files.")
    for name in names:
        for candidate in (name, f"{name}.gz"):
            if (path := raw_dir / candidate).is_file():
                return path
    raise DataError(f"{raw_dir}: there is no {' or '.join(names)} (plain or .gz); it is published as {published}.")
