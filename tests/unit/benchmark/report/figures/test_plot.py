"""The drawing kit."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from recbole_cdsr.benchmark.report.figures.palette import MARKERS, styles
from recbole_cdsr.benchmark.report.figures.plot import Plot, Scale, apart, stretched_points, ticks


@pytest.mark.parametrize(
    ("high", "expected"),
    [
        (0.0719, [0, 0.02, 0.04, 0.06, 0.08]),
        (0.1, [0, 0.02, 0.04, 0.06, 0.08, 0.1]),
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (137, [0, 50, 100, 150]),
        (0, [0, 1]),
    ],
)
def test_ticks_are_round_and_reach_the_highest(high, expected):
    assert ticks(high) == expected


def test_scales():
    assert Scale(0, 4, 100, 0)(1) == 75
    assert Scale(1, 100, 0, 100, logarithmic=True)(10) == pytest.approx(50)
    assert Scale(2, 2, 0, 100)(2) == 50


def test_labels_are_moved_apart_as_little_as_needed():
    assert apart([10, 50, 12, 11], 10) == [1, 50, 21, 11]
    assert apart([], 10) == []
    assert apart([3.0], 10) == [3.0]


def test_points_are_stretched_over_the_box():
    assert stretched_points([(0, 5), (50, 2.25), (100, 0)]) == "0,5.0 500,2.2 1000,0.0"


def test_marks_take_the_focus_and_speak():
    plot = Plot(100, "a figure")
    mark = plot.mark("A & B", '0.5 <"best">', styles(["A & B"])["A & B"])
    plot.marker(50, 10, styles(["A & B"])["A & B"], mark)
    root = ElementTree.fromstring(str(plot.markup()))
    assert (root.get("role"), root.get("aria-label")) == ("group", "a figure")
    (found,) = [each for each in root.iter("g") if each.get("tabindex") == "0"]
    assert (found.get("role"), found.get("aria-label")) == ("img", 'A & B: 0.5 <"best">')
    assert [text.text for text in found.iter("text")] == ["A & B", '0.5 <"best">']
    assert found.find("use").get("href").removeprefix("#") in MARKERS


def test_a_label_keeps_its_look_and_forty_differ():
    labels = [f"m{place}" for place in range(40)]
    looks = styles(labels)
    assert len({(look.css, look.marker) for look in looks.values()}) == 40
    assert styles(labels[:3])["m2"] == looks["m2"]
