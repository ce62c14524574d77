"""Names out of answers as models write them."""

from __future__ import annotations

import re
import signal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from recbole_cdsr.llm.name_parsing import LONGEST_NAME, item_names

NAMES = ["Lodge Skillet, 10 Inch", "KitchenAid - 5 Quart Mixer", "Lock & Lock: Box (Set of 3)"]

MARKERS = {
    "1.": "{n}. {name}",
    "1)": "{n}) {name}",
    "(1)": "({n}) {name}",
    "1:": "{n}: {name}",
    "no space": "{n}.{name}",
    "tight ideographic": "{n}、{name}",
    "full width": "{n}．{name}",
    "brackets": "[{n}] {name}",
    "ideographic brackets": "【{n}】{name}",
    "dash": "{n} - {name}",
    "No.": "No. {n}: {name}",
    "Item": "Item {n}: {name}",
    "hash": "#{n}. {name}",
    "bold number": "**{n}.** {name}",
    "bold line": "**{n}. {name}**",
    "heading": "### {n}. {name}",
    "quoted line": "> {n}. {name}",
    "bulleted number": "- {n}. {name}",
    "indented": "   {n}. {name}",
    "hyphen": "- {name}",
    "asterisk": "* {name}",
    "bullet": "• {name}",
    "dash bullet": "– {name}",
    "check": "✓ {name}",
    "plain": "{name}",
}
WRAPPERS = {
    "as it is": "{name}",
    "quotes": '"{name}"',
    "typographic quotes": "“{name}”",
    "bold": "**{name}**",
    "italics": "*{name}*",
    "code": "`{name}`",
    "bold quotes": '**"{name}"**',
    "label": "Name: {name}",
    "bold label": "**Title:** {name}",
    "link": "[{name}](https://example.org/x)",
    "explained bold": "**{name}** - it goes well with the rest",
    "explained quotes": '"{name}": because it is good',
    "trailing comma": "{name},",
}
TALK = [
    "",
    "Sure! Here are some suggestions:\n\n",
    "Based on the history, I would recommend:\n",
    "好的，以下是推荐：\n",
]


def render(marker: str, wrapper: str, names: list[str]) -> str:
    return "\n".join(
        MARKERS[marker].format(n=n, name=WRAPPERS[wrapper].format(name=name)) for n, name in enumerate(names, start=1)
    )


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("marker", MARKERS)
def test_every_marker_with_every_wrapper(marker, wrapper):
    assert item_names(render(marker, wrapper, NAMES)) == NAMES


@pytest.mark.parametrize("talk", TALK)
@pytest.mark.parametrize("marker", MARKERS)
def test_talk_around_a_list_is_no_name(marker, talk):
    answer = f"{talk}{render(marker, 'as it is', NAMES)}\n\nI hope this helps!\nLet me know if you need more."
    assert item_names(answer) == NAMES


WORDS = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789éüß茶书", min_size=1, max_size=9),
    min_size=1,
    max_size=6,
).map(" ".join)


def _is_plain_name(name: str) -> bool:
    return name.casefold() not in {"name", "item", "title", "none", "null", "nil", "na", "unknown", "无", "没有"}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    names=st.lists(WORDS.filter(_is_plain_name), min_size=2, max_size=12, unique_by=str.casefold),
    marker=st.sampled_from(sorted(set(MARKERS) - {"plain"})),
    wrapper=st.sampled_from(sorted(WRAPPERS)),
    talk=st.sampled_from(TALK),
)
def test_whatever_is_listed_comes_back_in_order(names, marker, wrapper, talk):
    assume(marker != "no space" or not any(name[0].isdigit() for name in names))  # "1.5 l" is no number five
    assert item_names(talk + render(marker, wrapper, names)) == names


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=400), st.integers(1, 5))
def test_any_text_gives_names_that_a_file_can_hold(answer, most):
    names = item_names(answer, most)
    assert len(names) <= most
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert 0 < len(name) <= LONGEST_NAME
        assert not re.search(r"[\n\r\x00]", name)
        assert name == name.strip()
        assert any(character.isalnum() for character in name)
        name.encode("utf-8")


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (None, []),
        ("", []),
        ("   \n ", []),
        ("None", []),
        ("N/A\n-\n...", []),
        ("I'm sorry, but I can't help with that.", []),
        ("As an AI language model, I do not know this person.", []),
        ("<think>1. Wrong\n2. Also wrong</think>\n1. Right\n2. Right too", ["Right", "Right too"]),
        ("thinking about it\n</think>\n1. Right\n2. Too", ["Right", "Too"]),
        ("<think>1. cut off in the middle of", []),
        ("1. A\n2. a\n3. Ａ\n4.  A ", ["A"]),
        ("1. 2001: A Space Odyssey\n2. 1984\n3. 300", ["2001: A Space Odyssey", "1984", "300"]),
        ("- 2001: A Space Odyssey\n- 1984", ["2001: A Space Odyssey", "1984"]),
        ("1.5 Quart Pan\n3 Ring Binder", ["1.5 Quart Pan", "3 Ring Binder"]),
        ("1. 1.5 Quart Pan\n2. 7-Piece Set", ["1.5 Quart Pan", "7-Piece Set"]),
        ("1. 'Tis a gift\n2. 8' rope", ["'Tis a gift", "8' rope"]),
        ("Here are: 1. Foo bar 2. Baz 3. Qux", ["Foo bar", "Baz", "Qux"]),
        ("①苹果\n②梨", ["苹果", "梨"]),
        ("1. 《三体》\n2. 「活着」——余华", ["三体", "活着"]),
        ("1. **A**\n   - Reason: good\n2. **B**\n   - Reason: fine", ["A", "B"]),
        ("1. **Pots:**\n   - Pan\n   - Pot\n2. **Cutlery**:\n   - Knife", ["Pan", "Pot", "Knife"]),
        ("**Kitchen:**\n- Pan\n- Pot\n**Garden:**\n- Rake", ["Pan", "Pot", "Rake"]),
        ("a) Foo\nb) Bar\nc) Baz", ["Foo", "Bar", "Baz"]),
        ("I. Foo\nII. Bar\nIII. Baz", ["Foo", "Bar", "Baz"]),
        ("1 Foo\n2 Bar\n3 Baz", ["Foo", "Bar", "Baz"]),
        ("- [ ] Foo\n- [x] Bar", ["Foo", "Bar"]),
        ("<ol><li>Foo</li><li><b>Bar</b></li></ol>", ["Foo", "Bar"]),
        ("- [0](https://example.org/0)\n- [1](https://example.org/1)", ["0", "1"]),
        ("Foo<br>Bar<br/>Baz", ["Foo", "Bar", "Baz"]),
        ("Foo; Bar, red; Baz", ["Foo", "Bar, red", "Baz"]),
        ("Lodge Skillet, 10 Inch, Black", ["Lodge Skillet, 10 Inch, Black"]),
        ('["a", "b"]', ["a", "b"]),
        ('```json\n{"items": [{"name": "a", "reason": "r"}, {"title": "b"}]}\n```', ["a", "b"]),
        ('{"1": "a", "2": "b"}', ["a", "b"]),
        ('Sure: ["a", "b"] - enjoy', ["a", "b"]),
        ("| # | Item | Why |\n|---|---|---|\n| 1 | A | x |\n| 2 | **B** | y |", ["A", "B"]),
        ('"A", "B" and "C"', ["A", "B", "C"]),
        ("1. A\r\n2. B\r\n", ["A", "B"]),
        ("1. \n2. B\n3.", ["B"]),
        ("1. half\ud800 a character", ["half a character"]),
        ("1. zero\u200bwidth", ["zerowidth"]),
    ],
)
def test_answers_as_they_come(answer, names):
    assert item_names(answer) == names


def test_a_truncated_answer_loses_its_last_half_name():
    assert item_names("1. Red Lamp\n2. Blue Lamp\n3. Gre", truncated=True) == ["Red Lamp", "Blue Lamp"]
    assert item_names("1. Red Lamp", truncated=True) == ["Red Lamp"]


@pytest.mark.parametrize(
    "title", ["300: Rise of an Empire", "12 - Pack Blueberry Muffins", "24) Hours to Live", "7. Dream"]
)
@pytest.mark.parametrize("mark", ["", "- "])
def test_a_title_that_begins_with_a_number_does_not_make_a_list_of_one(title, mark):
    names = ["The Matrix", title, "Inception", "Gladiator"]
    assert item_names("\n".join(mark + name for name in names)) == names
    assert item_names("\n".join(f"{n}. {name}" for n, name in enumerate(names, start=1))) == names
    assert item_names(f"Here they are:\n3. {names[0]}\n7. {title}\n9. {names[2]}") == [names[0], title, names[2]]


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        ('["Red Lamp", "Blue Lamp", "Gre', ["Red Lamp", "Blue Lamp"]),
        ('Sure!\n```json\n["Red Lamp", "Blue [12 Pack] Lamp", "Gre [2', ["Red Lamp", "Blue [12 Pack] Lamp"]),
        ('{"items": [{"name": "Red Lamp", "why": "x"}, {"name": "Bl', ["Red Lamp"]),
        ('[{"name": "Red Lamp", "why": "x"}, {"name": "Blue Lamp", "wh', ["Red Lamp", "Blue Lamp"]),
        ('["Red \\"Lamp\\"", "Blue Lamp",', ['Red "Lamp"', "Blue Lamp"]),
        ('["Red Lamp", "Blue Lamp",]\nI hope it helps!', ["Red Lamp", "Blue Lamp"]),
        ('["Red Lamp", "Blue Lamp"]', ["Red Lamp", "Blue Lamp"]),
    ],
)
@pytest.mark.parametrize("truncated", [False, True])
def test_json_that_breaks_off_gives_the_names_that_are_complete(answer, names, truncated):
    assert item_names(answer, truncated=truncated) == names


def test_several_json_values_are_lines():
    assert len(item_names('["Red Lamp"]\n["Blue Lamp"]')) == 2


def test_a_title_with_a_sentence_behind_it_is_the_title():
    sentence = "because people who choose good things for their kitchen tend to like this one " * 3
    assert item_names(f"1. Red Lamp - {sentence}\n2. Blue Lamp") == ["Red Lamp", "Blue Lamp"]
    assert len(item_names("1. " + "x" * 1000)[0]) == LONGEST_NAME


@pytest.mark.parametrize("mark", ["", ", ", "、", " and ", "; "])
def test_a_row_of_quoted_names_is_divided(mark):
    assert item_names(f'"Kettle"{mark} "Teapot"{mark}"Cup".') == ["Kettle", "Teapot", "Cup"]


STUCK = {
    "quoted row": '"Kettle" ' * 60 + '"Ket',
    "titles": "《茶》 " * 60 + "等等",
    "blanks": f"Kettle\n{' ' * 50_000}Teapot",
    "blanks behind a number": f"1{' ' * 50_000}Kettle",
    "lines": "Kettle" + "\n" * 50_000 + "Teapot",
    "blank lines": " \n" * 50_000 + "Kettle",
    "brackets": f"1. {'[' * 50_000}\n2. Kettle",
    "links": f"1. {'[a](' * 50_000}\n2. Kettle",
    "tags": "<li " * 50_000,
    "other tags": "</p " * 50_000,
    "quotes in JSON": '["Kettle", "' + '\\"' * 50_000,
    "lists in JSON": '["Kettle"' * 50_000,
    "lists in lists in JSON": "[" * 50_000 + '"Kettle"' * 50_000,
    "objects in JSON": '{"name":' * 50_000,
}


def _too_slow(*_: object) -> None:
    raise TimeoutError


@pytest.mark.parametrize("answer", STUCK.values(), ids=STUCK)
def test_an_answer_of_a_model_that_got_stuck_is_read_in_no_time(answer):
    former = signal.signal(signal.SIGVTALRM, _too_slow)
    signal.setitimer(signal.ITIMER_VIRTUAL, 1.5)  # seconds of this process: what else the machine does is not counted
    try:
        item_names(answer)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, former)
