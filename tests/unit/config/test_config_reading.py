"""Single keys of a configuration, as models, evaluator and feature builder read them."""

from __future__ import annotations

import re

import pytest

from recbole_cdsr.config_reading import choice, number, setting, switch, temperature, whole_number
from recbole_cdsr.errors import ConfigError


def test_an_absent_key_and_none_take_the_default():
    assert setting({}, "a", 3) == setting({"a": None}, "a", 3) == 3
    assert setting({"a": 0}, "a", 3) == 0
    assert setting({}, "a") is None
    assert whole_number({}, "a", default=7) == 7
    assert choice({"a": None}, "a", ("x", "y"), default="y") == "y"


def test_what_is_allowed_comes_back():
    assert whole_number({"a": 1}, "a") == 1
    assert whole_number({"a": -5}, "a", least=None) == -5
    assert number({"a": 2}, "a", 0) == 2.0
    assert isinstance(number({"a": 2}, "a", 0), float)
    assert temperature({"a": 0.5}, "a") == 0.5
    assert switch({"a": False}, "a") is False


@pytest.mark.parametrize(
    ("read", "value", "sentence"),
    [
        (whole_number, 0, "a is 0; it must be a whole number, 1 or more."),
        (whole_number, True, "a is True; it must be a whole number, 1 or more."),
        (whole_number, 2.0, "a is 2.0; it must be a whole number, 1 or more."),
        (whole_number, None, "a is None; it must be a whole number, 1 or more."),
        (lambda config, key: whole_number(config, key, None), "x", "a is 'x'; it must be a whole number."),
        (lambda config, key: number(config, key, 0), -0.1, "a is -0.1; it must be a finite number, 0 or more."),
        (lambda config, key: number(config, key, 0), float("nan"), "a is nan; it must be a finite number, 0 or more."),
        (lambda config, key: number(config, key, 0), float("inf"), "a is inf; it must be a finite number, 0 or more."),
        (lambda config, key: number(config, key, 0), True, "a is True; it must be a finite number, 0 or more."),
        (
            lambda config, key: number(config, key, 0, 1),
            1,
            "a is 1; it must be a finite number, 0 or more and less than 1.",
        ),
        (temperature, 0, "a is 0.0; it must be more than 0, for it is a temperature."),
        (switch, 1, "a is 1; it must be True or False."),
        (lambda config, key: choice(config, key, ("x", "y")), "z", "a is 'z'; it must be one of x, y."),
        (lambda config, key: choice(config, key, ("x", "y")), None, "a is None; it must be one of x, y."),
    ],
)
def test_a_mistake_is_one_sentence(read, value, sentence):
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        read({"a": value}, "a")
