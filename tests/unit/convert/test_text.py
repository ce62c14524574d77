"""Text survives: nothing but markup and encoding is touched."""

from __future__ import annotations

import pytest

from recbole_cdsr.convert.text import decode, plain_text, writable
from recbole_cdsr.data.atomic import LONGEST_CELL


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("Tom &amp; Jerry&#39;s &quot;best&quot;", 'Tom & Jerry\'s "best"'),
        ("<p>One.</p> <p>Two<br/>three</p>", "One.\nTwo\nthree"),
        ("<ul><li>a</li><li>b</li></ul>", "a\nb"),
        ('<b>bold</b> <a href="x.html">link</a>, <I>it</I>', "bold link, it"),
        ("<table><tr><td>a</td><td>b</td></tr></table>", "a  b"),
        ("<script type='x'>var a = 1 < 2;</script>left<style>.p{color:red}</style><!-- gone -->", "left"),
        ("I <3 it, 2 < 3 > 1, a <b and c> d, <Emphasis>", "I <3 it, 2 < 3 > 1, a <b and c> d, <Emphasis>"),
        ("&lt;b&gt; is literal", "<b> is literal"),
        ("AT&T, R&D;, &copy 2014, &notanentity;", "AT&T, R&D;, &copy 2014, &notanentity;"),
        ("5&nbsp;oz &#x1F375; &eacute;", "5 oz 🍵 é"),
        ('tab\tnewline\nquote" 中文 🍜', 'tab\tnewline\nquote" 中文 🍜'),
        ("</span></span></span>", ""),
        ("  spaces around  ", "spaces around"),
    ],
)
def test_html_becomes_what_a_reader_sees(html: str, text: str) -> None:
    assert plain_text(html) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("café 中文 🍜".encode(), "café 中文 🍜"),
        (b"caf\xe9", "café"),
        (b"\x93quoted\x94 \x80", "“quoted” €"),
        (b"\x81\x9d", "\x81\x9d"),
        (b"caf\xc3\xa9 and caf\xe9", "café and café"),
        (b"cut \xf0\x9f\x8d", "cut ðŸ\x8d"),
    ],
)
def test_bytes_that_are_not_utf8_are_not_lost(data: bytes, text: str) -> None:
    assert decode(data) == text


def test_what_no_file_can_hold_is_replaced_or_cut() -> None:
    assert writable("a\0b\ud83cc\udf75") == "a�b�c�"
    assert writable("plain\ttext\n中文") == "plain\ttext\n中文"
    assert len(writable("x" * (LONGEST_CELL + 5))) == LONGEST_CELL
