from __future__ import annotations

import json
import math
import pickle
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recbole_cdsr.config_values import (
    parse_command_line,
    parse_text,
    plain_copy,
    read_config_file,
    split_config_files,
)
from recbole_cdsr.errors import ConfigError


def refused(call, *arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-3", -3),
        ("1e-3", 0.001),
        ("0.5", 0.5),
        ("1E3", 1000.0),
        ("None", None),
        ("null", None),
        ("~", None),
        ("true", True),
        ("FALSE", False),
        ("[5, 10]", [5, 10]),
        ("5,10", [5, 10]),
        ("[Hit, NDCG]", ["Hit", "NDCG"]),
        ("['Hit', \"NDCG\"]", ["Hit", "NDCG"]),
        ("{'LS': 'valid_and_test'}", {"LS": "valid_and_test"}),
        ("{mode: {valid: full, test: uni100}}", {"mode": {"valid": "full", "test": "uni100"}}),
        ("[]", []),
        ("'5'", "5"),
    ],
)
def test_a_text_becomes_the_value_it_spells(text, value):
    parsed = parse_text(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "douban",
        "yes",
        "no",
        "on",
        "off",
        "2020-01-01",
        "12:30",
        "010",
        "a: b",
        "- a",
        "5 apples",
        "[1, 2",
        "{1, 2}",
        "b'bytes'",
        "3+4j",
        "1 + 1",
        "{1: 2}",
        "&a [*a]",
        "[&x [1], *x]",
        "!!python/object/apply:os.getcwd []",
        "print",
        "...",
        "nan",
        "\x00",
        "'unclosed",
    ],
)
def test_everything_else_stays_the_text_it_is(text):
    assert parse_text(text) == text
    assert isinstance(parse_text(text), str)


@pytest.mark.parametrize("unit", ["[", "{", "(", "-", "~", "{a: ", "[1,", "not ", "lambda: ", "x="])
def test_deep_nesting_is_no_value_and_no_crash(unit):
    for length in (500, 9_000, 200_000):
        text = (unit * length)[:length]
        assert parse_text(text) == text


@given(st.text(max_size=60))
def test_no_text_raises_and_every_value_is_plain(text):
    value = parse_text(text)
    again = json.loads(json.dumps(value))
    assert again == value or (isinstance(value, float) and math.isnan(value))


@pytest.mark.parametrize(
    "attack",
    [
        "__import__('os').system('touch {}')",
        "open('{}', 'w')",
        "[].__class__.__base__.__subclasses__()[0]('{}')",
        "!!python/object/apply:os.system ['touch {}']",
        "!!python/object/apply:pathlib.Path.touch [{}]",
        "[!!python/object/new:os.system ['touch {}']]",
    ],
)
def test_a_hostile_text_stays_a_text_and_runs_nothing(attack, tmp_path):
    trace = tmp_path / "trace"
    text = attack.format(trace)
    assert parse_text(text) == text
    assert not trace.exists()


def test_plain_copy_leaves_plain_data_only():
    value = {"a": (1, np.float32(0.5)), "b": Path("x") / "y", "c": [np.int64(3), np.bool_(True), None]}
    assert plain_copy(value) == {"a": [1, 0.5], "b": "x/y", "c": [3, True, None]}
    assert type(plain_copy(np.int64(3))) is int

    class Colour(Enum):
        RED = 1

    recursive: list = []
    recursive.append(recursive)
    many = ["x"]
    for _ in range(30):
        many = [many, many]  # 2^30 values, though 30 lists only
    for other in (Colour.RED, {1: 2}, object(), {1, 2}, recursive, many, int):
        with pytest.raises(ValueError):
            plain_copy(other)


class TestFiles:
    def test_numbers_are_read_as_recbole_reads_them(self, tmp_path):
        text = "a: 1e-12\nb: 1.5e3\nc: .5\nd: 5\ne: 1E+4\nf: 2020-01-01\ng: yes\nh: ~\ni: 'x'\nj: '1e-3'\n"
        (tmp_path / "a.yaml").write_text(text)
        values = {key: found.value for key, found in read_config_file(tmp_path / "a.yaml").settings.items()}
        assert values == {
            "a": 1e-12,
            "b": 1500.0,
            "c": 0.5,
            "d": 5,
            "e": 10000.0,
            "f": "2020-01-01",
            "g": True,
            "h": None,
            "i": "x",
            "j": "1e-3",
        }

    def test_recboles_own_files_read_the_same(self):
        from recbole.config import Config

        from recbole_cdsr.config_names import recbole_folder

        before = {first: list(found) for first, found in yaml.FullLoader.yaml_implicit_resolvers.items()}
        paths = sorted((recbole_folder() / "properties").rglob("*.yaml"))[::4]
        ours = [{k: s.value for k, s in read_config_file(path).settings.items()} for path in paths]
        assert {first: list(found) for first, found in yaml.FullLoader.yaml_implicit_resolvers.items()} == before

        loader = Config._build_yaml_loader(Config.__new__(Config))
        theirs = [yaml.load(path.read_text(encoding="utf-8"), Loader=loader) or {} for path in paths]
        assert len(paths) > 20
        assert ours == theirs

    def test_a_tag_that_does_not_fit_its_value_is_refused(self, tmp_path):
        (tmp_path / "a.yaml").write_text("epochs: !!int many\n")
        with pytest.raises(ConfigError, match=r"a\.yaml: this is not plain YAML"):
            read_config_file(tmp_path / "a.yaml")

    def test_lines_are_kept(self, tmp_path):
        (tmp_path / "a.yaml").write_text("# one\nepochs: 5\n\nload_col:\n  inter: [user_id]\n")
        settings = read_config_file(tmp_path / "a.yaml").settings
        assert settings["epochs"].origin.endswith("a.yaml, line 2")
        assert settings["load_col"].origin.endswith("a.yaml, line 4")

    @pytest.mark.parametrize(
        ("text", "line", "said"),
        [
            ("epochs: 5\n  seed: 1\n", 2, "not plain YAML"),
            ("epochs: [1, 2\nseed: 3\n", 2, "not plain YAML"),
            ("a: 1\nb: !!python/name:os.system\n", 2, "not plain YAML"),
            ("a: 1\n---\nb: 2\n", 2, "not plain YAML"),
            ("- a\n- b\n", 1, "not a list"),
            ("\njust text\n", 2, "not a single value"),
            ("a: 1\n5: 6\n", 2, "the key 5"),
            ("a: 1\nb: {5: 6}\n", 2, "the key 5"),
            ("a: 1\nb: !!set {x}\n", 2, "type set"),
            ("a: 1\nb: &x [*x]\n", 2, "nested deeper"),
        ],
    )
    def test_a_broken_file_is_refused_with_its_line(self, text, line, said, tmp_path):
        (tmp_path / "a.yaml").write_text(text)
        message = refused(read_config_file, tmp_path / "a.yaml")
        assert f"a.yaml, line {line}" in message
        assert said in message

    def test_what_is_no_text_file_is_refused(self, tmp_path):
        assert "does not exist" in refused(read_config_file, tmp_path / "none.yaml")
        assert "cannot be read" in refused(read_config_file, tmp_path)
        (tmp_path / "a.yaml").write_bytes(b"a: \xff\xfe\n")
        assert "UTF-8" in refused(read_config_file, tmp_path / "a.yaml")
        (tmp_path / "b.yaml").write_bytes(pickle.dumps({"a": 1}, protocol=0))
        assert "b.yaml" in refused(read_config_file, tmp_path / "b.yaml")
        (tmp_path / "c.yaml").write_text("a: " + "[" * 20_000)
        assert "too deeply" in refused(read_config_file, tmp_path / "c.yaml")

    def test_a_python_tag_runs_nothing(self, tmp_path):
        trace = tmp_path / "trace"
        (tmp_path / "a.yaml").write_text(f"epochs: !!python/object/apply:os.system ['touch {trace}']\n")
        assert "line 1" in refused(read_config_file, tmp_path / "a.yaml")
        assert not trace.exists()

    def test_empty_files_and_repeated_keys_are_remarked_upon(self, tmp_path):
        (tmp_path / "a.yaml").write_text("# nothing\n")
        found = read_config_file(tmp_path / "a.yaml")
        assert found.settings == {}
        assert "sets nothing" in found.remarks[0]
        (tmp_path / "b.yaml").write_text("epochs: 1\nseed: 2\nepochs: 3\n")
        found = read_config_file(tmp_path / "b.yaml")
        assert found.settings["epochs"].value == 3
        assert "line 3: epochs was set in line 1" in found.remarks[0]


class TestCommandLine:
    def test_the_value_may_hold_an_equals_sign(self):
        values, faults = parse_command_line(["--data_path=/a=b/c", "--note=", "--epochs=5", "--epochs=5"])
        assert values == {"data_path": "/a=b/c", "note": "", "epochs": "5"}
        assert faults == []

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--epochs", "5"], "--epochs 5 is not understood: write --epochs=5"),
            (["--resume"], "--resume has no value: write --resume=True"),
            (["--resume", "--epochs=5"], "--resume has no value"),
            (["epochs=5"], "epochs=5 is not understood: write --epochs=5"),
            (["-epochs=5"], "-epochs=5 is not understood: write --epochs=5"),
            (["douban"], "douban is not understood: settings are written as --key=value"),
            (["--=5"], "--=5 is not understood"),
            (["--a b=5"], "--a b=5 is not understood"),
        ],
    )
    def test_a_malformed_argument_is_named_with_the_right_form(self, arguments, said):
        _, faults = parse_command_line(arguments)
        assert len(faults) == 1
        assert faults[0].startswith(said)

    def test_a_key_given_twice_with_different_values_is_refused(self):
        message = refused(parse_command_line, ["--epochs=5", "--seed=1", "--epochs=6"])
        assert "--epochs" in message
        assert "'5'" in message
        assert "'6'" in message


def test_config_files_are_split_at_blanks(tmp_path):
    assert split_config_files(None) == []
    assert split_config_files(" a.yaml   b.yaml ") == ["a.yaml", "b.yaml"]
    assert split_config_files("'my own.yaml' b.yaml") == ["my own.yaml", "b.yaml"]
    assert split_config_files(["a b.yaml"]) == ["a b.yaml"]
    (tmp_path / "my own.yaml").write_text("a: 1\n")
    assert split_config_files(str(tmp_path / "my own.yaml")) == [str(tmp_path / "my own.yaml")]
    assert "quotation" in refused(split_config_files, "'a.yaml")
