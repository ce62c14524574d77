from __future__ import annotations

import csv
import io
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recbole_cdsr.convert import quoted_table
from recbole_cdsr.convert.quoted_table import QuotedTable, unquoted

HEADER = ["user", "item", "rating", "labels", "comment", "time", "ID"]
PATTERNS = {"user": r'[^\s"]+', "item": r'[^\s"]+', "rating": "[1-5]?", "time": r"[0-9]{4}-[0-9]{2}-[0-9]{2}"}
TIME = '"2016-01-02"\t"1"'


def read(text: str, wanted: tuple[str, ...] = ("user", "item", "rating", "labels", "comment", "time")):
    table = QuotedTable(HEADER, wanted, PATTERNS, "comment")
    return list(table.rows(io.StringIO(text, newline="\n")))


@pytest.mark.parametrize(
    ("row", "comment"),
    [
        (f'"u"\t"i"\t"4"\t"a|b"\t"fine"\t{TIME}', "fine"),
        ("u\ti\t4\ta|b\tfine\t2016-01-02\t1", "fine"),
        (f'"u"\t"i"\t"4"\t"a|b"\t""\t{TIME}', ""),
        ("u\ti\t4\ta|b\t\t2016-01-02\t1", ""),
        (f'"u"\t"i"\t"4"\t"a|b"\t"a\ttab\t"\t{TIME}', "a\ttab\t"),
        (f'"u"\t"i"\t"4"\t"a|b"\t"first\n\nthird"\t{TIME}', "first\n\nthird"),
        (f'"u"\t"i"\t"4"\t"a|b"\t"a\tb\tc\nd\te"\t{TIME}', "a\tb\tc\nd\te"),
        (f'"u"\t"i"\t"4"\t"a|b"\t"he said "no", twice"\t{TIME}', 'he said "no", twice'),
        (f'"u"\t"i"\t"4"\t"a|b"\t"he said ""no"""\t{TIME}', 'he said "no"'),
        (f'"u"\t"i"\t"4"\t"a|b"\t"he said \\"no\\""\t{TIME}', 'he said "no"'),
        (f'"u"\t"i"\t"4"\t"a|b"\t"one quote " here"\t{TIME}', 'one quote " here'),
        (f'"u"\t"i"\t"4"\t"a|b"\t"茶 🍵\u2028\x85"\t{TIME}', "茶 🍵\u2028\x85"),
        (f'"u"\t"i"\t"4"\t"a|b"\t"lone \r return"\t{TIME}\r', "lone \r return"),
        (f' "u" \t "i"\t"4" \t"a|b"\t"spaces"\t{TIME} ', "spaces"),
    ],
)
def test_rows_survive_what_comments_hold(row: str, comment: str) -> None:
    expected = ["u", "i", "4", "a|b", comment, "2016-01-02"]
    other = f'"v"\t"j"\t""\t""\t"next"\t{TIME}'
    assert read(f"{row}\n{other}\n") == [(2, expected), (row.count("\n") + 3, ["v", "j", "", "", "next", "2016-01-02"])]


@pytest.mark.parametrize(
    ("broken", "faults"),
    [
        ('"u"\t"i"\t"4"\t"cut off', ["4 of 7 columns"]),
        ('"u"\t"i"\t"4"\t"a"\t"cut off\nin the third line\n', ["5 of 7 columns"]),
        (f'""\t"i"\t"4"\t"a"\t"no user"\t{TIME}', ["user is ''"]),
        (f'"u"\t"i"\t"great"\t"a"\t"no rating"\t{TIME}', ["rating is 'great'"]),
        ('"u"\t"i"\t"4"\t"a"\t"no time"\t"yesterday"\t"1"', ["time is 'yesterday'"]),
        ("neither here\nnor there", ["1 of 7 columns", "1 of 7 columns"]),
        (f'"u"\t"i"\t"4"\t{TIME}', ["5 of 7 columns"]),
        (f'"u"\t"i"\t"4"\t"cut off\n""\t"i"\t"4"\t""\t"no user"\t{TIME}', ["its quotes do not fit its columns"]),
    ],
)
def test_a_broken_row_costs_itself_and_nothing_after_it(broken: str, faults: list[str]) -> None:
    good = f'"v"\t"j"\t"5"\t"l"\t"two\nlines"\t{TIME}'
    rows = read(f"{good}\n{broken}\n{good}\n{good}\n")
    assert [isinstance(cells, str) for _, cells in rows] == [False] + [True] * len(faults) + [False, False]
    assert rows[1:-2] == [(4 + place, fault) for place, fault in enumerate(faults)]


def test_a_broken_last_row_is_told() -> None:
    assert read('"u"\t"i"\t"4"\t"a"\t"the file ends') == [(2, "5 of 7 columns")]
    assert read("\n\n") == []


def test_newlines_in_another_column_are_read_where_its_quotes_are_right() -> None:
    row = f'"u"\t"i"\t"4"\t"a\nb"\t"c"\t{TIME}\n'
    assert read(row, ("labels", "comment")) == [(2, ["a\nb", "c"])]


def test_tabs_in_another_column_are_read_where_its_quotes_are_right() -> None:
    row = f'"u"\t"i"\t"4"\t"a\tb"\t"he said ""no"""\t{TIME}\n'
    assert read(row, ("labels", "comment", "user")) == [(2, ["a\tb", 'he said "no"', "u"])]


def test_a_row_without_end_does_not_eat_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quoted_table, "MOST_LINES", 5)
    table = QuotedTable(["text", "id"], ["id"], {"id": "[0-9]+"}, "text")
    rows = list(table.rows(['"endless', *["more"] * 5, "a\t7", '"b\nc"\t8']))
    assert rows == [(2, "1 of 2 columns"), (8, ["7"]), (9, ["8"])]


@pytest.mark.parametrize("filler", [" ", '"', '" ', "\t", "\t ", '"\t"', '\n\t\t"'])
def test_odd_rows_take_no_odd_time(filler: str) -> None:
    """A pattern that tries a row in more ways than one would not come back from these."""
    broken = f'"u"\t"i"\t"4"\t{filler * 2000}\t{filler * 2000}\t"no time"\t{filler * 2000}'
    good = f'"v"\t"j"\t"5"\t"l"\t"c"\t{TIME}'
    started = time.process_time()
    rows = read(f"{broken}\n{good}\n")
    assert time.process_time() - started < 5
    assert rows[-1][1] == ["v", "j", "5", "l", "c", "2016-01-02"]
    assert all(isinstance(cells, str) for _, cells in rows[:-1])


@example([("", "\na\ta\t")])
@example([("", "\na\ta\t\t")])
@example([("", "\na\ta\t\t\t")])
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="\t\n\r\x00", exclude_categories=["Cs"]), max_size=8),
            st.text(st.sampled_from('ab"\t\n|é茶'), max_size=12),
        ),
        max_size=6,
    )
)
def test_properly_quoted_rows_are_read_as_csv_does(texts: list[tuple[str, str]]) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
    for number, (labels, comment) in enumerate(texts):
        writer.writerow([f"u{number}", "i", "3", labels, comment, "2016-01-02", number])
    rows = read(stream.getvalue(), ("user", "labels", "comment"))
    # A backslash before a quote is R's way to write one.
    assert [cells for _, cells in rows] == [
        [f"u{number}", labels.replace('\\"', '"'), comment] for number, (labels, comment) in enumerate(texts)
    ]


COMMENTS = ["", "fine", "a\ttab", 'a "quote" inside', "two\nlines", '"\t\n"', "茶 🍵\n\n\tend"]
DEBRIS = ['"u"\t"i"\t"4"\t"cut', '"u"\t"i"\t"4"\t"l"\t"cut', f'""\t"i"\t"4"\t"l"\t"c"\t{TIME}', '"', "\t\t\t", "line\n"]


@settings(max_examples=500)
@example([(False, DEBRIS[1]), (False, DEBRIS[2]), (True, "fine")])
@example([(False, "\t\t\t")])
@given(
    st.lists(
        st.one_of(
            st.sampled_from(COMMENTS).map(lambda c: (True, c)), st.sampled_from(DEBRIS).map(lambda d: (False, d))
        ),
        max_size=8,
    )
)
def test_whole_rows_survive_whatever_stands_between_them(parts: list[tuple[bool, str]]) -> None:
    lines, expected = [], []
    for number, (whole, text) in enumerate(parts):
        lines.append(f'"ok{number}"\t"i"\t"4"\t"l"\t"{text}"\t{TIME}' if whole else text)
        expected += [[f"ok{number}", text]] * whole
    rows = read("\n".join(lines) + "\n", ("user", "comment"))
    assert [cells for _, cells in rows if cells[0].startswith("ok")] == expected
    # What is broken is told, if not piece by piece.
    assert len(rows) > len(expected) or len(expected) == len(parts)


@pytest.mark.parametrize(
    ("cell", "text"),
    [("", ""), ('"', '"'), ('""', ""), ('"a"', "a"), ('a"b', 'a"b'), (' "a ""b"" c" ', 'a "b" c'), ('"a', '"a')],
)
def test_unquoted(cell: str, text: str) -> None:
    assert unquoted(cell) == text


@pytest.mark.parametrize(
    ("last", "text", "lines"),
    [
        ('"first\n\nthird"', "first\n\nthird", 3),
        ('"he said ""no""\nand left"', 'he said "no"\nand left', 2),
        ('"stray\ttab and "quotes"\nto the end"', 'stray\ttab and "quotes"\nto the end', 2),
        ('"never closed', '"never closed', 1),
        ('no quotes, 5" wide', 'no quotes, 5" wide', 1),
    ],
)
def test_text_in_the_last_column_may_go_on_in_further_lines(last: str, text: str, lines: int) -> None:
    table = QuotedTable(["UID", "name", "summary"], ["UID", "summary"], {"UID": r'[^\s"]+'}, "summary")
    rows = f'"1"\t"a name"\t{last}\n"2"\t"another"\t"next"\n'
    assert list(table.rows(io.StringIO(rows, newline="\n"))) == [(2, ["1", text]), (2 + lines, ["2", "next"])]
    if lines == 1:  # and at the end of the file
        assert list(table.rows([f'"1"\t"a name"\t{last}'])) == [(2, ["1", text])]


def test_the_end_of_a_row_is_not_taken_for_a_beginning() -> None:
    header = ["user", "item", "rating", "comment", "time", "labels"]
    table = QuotedTable(header, ["user", "comment", "labels"], PATTERNS, "comment")
    # Read by itself, the second line has a user, an item and no rating.
    rows = '"u"\t"i"\t"4"\t"so-called "\n"art"\t"2016-01-02"\t""\n"v"\t"j"\t""\t"next"\t"2016-01-02"\t""\n'
    first, *others = table.rows(io.StringIO(rows, newline="\n"))
    assert first == (2, ["u", 'so-called "\n"art', ""])
    assert others == [(4, ["v", "next", ""])]
