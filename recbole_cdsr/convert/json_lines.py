"""JSON lines into typed rows, with the number of every line that is broken."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import msgspec

from recbole_cdsr.convert.raw_file import LineBlock, RawFile
from recbole_cdsr.convert.text import HALF_CHARACTER, decode

Row = TypeVar("Row", bound=msgspec.Struct)


class JsonLines(Generic[Row]):
    """Reads the fields of `row_type` out of JSON lines and skips over all others without making strings of them.

    A block is decoded at once; only a block with something wrong in it is taken line by line. What a strict reader
    refuses but a person can read is read: bytes that are not UTF-8 (as Windows-1252), half an emoji (as U+FFFD),
    control characters.

    Parameters
    ----------
    row_type : type
        A `msgspec.Struct`: fields without a default must be there and of their type.
    complete : callable
        Whether all rows of a block hold what they must, beyond their types.
    fault : callable
        What is wrong with a row that does not, in a few words, None where nothing is; it is malformed then.
    """

    def __init__(
        self, row_type: type[Row], complete: Callable[[list[Row]], bool], fault: Callable[[Row], str | None]
    ) -> None:
        self._type = row_type
        self._decoder = msgspec.json.Decoder(row_type)
        self._complete = complete
        self._fault = fault

    def read(self, file: RawFile) -> Iterator[list[Row]]:
        """Yield the rows of `file` block by block, in order; counts rows and reports malformed ones to it."""
        for block in file.blocks():
            yield self._block(file, block)

    def _block(self, file: RawFile, block: LineBlock) -> list[Row]:
        try:
            rows = self._decoder.decode_lines(block.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._line_by_line(file, block)
        # The decoder takes a row over two lines, or two rows on one: a file of lines has neither.
        if len(rows) != block.n_lines or not self._complete(rows):
            return self._line_by_line(file, block)
        file.rows += block.n_lines
        return rows

    def _line_by_line(self, file: RawFile, block: LineBlock) -> list[Row]:
        rows = []
        for number, line in block.lines():
            file.rows += 1
            try:
                row = self._line(line)
            except (msgspec.DecodeError, ValueError, RecursionError) as error:
                file.report_malformed(number, str(error))
                continue
            if fault := self._fault(row):
                file.report_malformed(number, fault)
            else:
                rows.append(row)
        return rows

    def _line(self, line: bytes) -> Row:
        try:
            return self._decoder.decode(line)
        except msgspec.ValidationError:
            raise
        except (msgspec.DecodeError, UnicodeDecodeError) as strict:
            try:
                content = json.loads(decode(line), strict=False, parse_constant=_refuse, parse_float=_finite)
                whole = HALF_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", json.dumps(content, ensure_ascii=False))
                return self._decoder.decode(whole)
            except (ValueError, RecursionError):
                raise strict from None


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits} is out of range")
    return number
