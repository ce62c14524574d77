"""Grids from YAML and from names: what they hold, and what is refused, all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_cdsr.benchmark.cell import Cell, as_text
from recbole_cdsr.benchmark.grid import Grid, read_grid, read_overrides
from recbole_cdsr.config_values import parse_text
from recbole_cdsr.errors import ConfigError

GRID = """
models:
  - LLM4CDSR
  - SASRec+llm
  - {name: SASRec, settings: {trim_windows: True, learning_rate: 1e-3}}
  - {name: wide, model: SASRec, settings: {hidden_size: 128}}
datasets:
  - books
  - {name: shop, settings: {topk: [5, 10], learning_rate: 0.1}}
seeds: [1, 2]
settings: {epochs: 50, learning_rate: 0.5}
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "grid.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def settings_of(grid: Grid, label: str, dataset: str) -> dict:
    return dict(next(cell for cell in grid.cells() if (cell.label, cell.dataset) == (label, dataset)).settings)


def test_cells_are_every_combination_with_the_nearest_settings(write):
    grid = read_grid(write(GRID))
    cells = list(grid.cells())
    assert len(cells) == len(set(cells)) == 4 * 2 * 2
    assert [cell.seed for cell in cells] == [1] * 8 + [2] * 8  # every model once before any a second time
    assert settings_of(grid, "LLM4CDSR", "books") == {"epochs": 50, "learning_rate": 0.5}
    assert settings_of(grid, "LLM4CDSR", "shop") == {"epochs": 50, "learning_rate": 0.1, "topk": [5, 10]}
    assert settings_of(grid, "SASRec", "shop")["learning_rate"] == 0.001
    assert settings_of(grid, "wide", "books") == {"epochs": 50, "learning_rate": 0.5, "hidden_size": 128}
    assert {cell.label: cell.model for cell in cells}["wide"] == "SASRec"


def test_a_part_is_added_to_what_was_asked_for_before(write):
    former = read_grid(write(GRID))
    part = read_grid(write(GRID), models=["SASRec", "BPR"], datasets=["shop"], seeds=["2", "3"])
    part = part.with_overrides(read_overrides(["learning_rate=0.3"]))
    both = part.added_to(former)
    assert [entry.label for entry in both.models] == ["LLM4CDSR", "SASRec+llm", "SASRec", "wide", "BPR"]
    assert [entry.name for entry in both.datasets] == ["books", "shop"]
    assert both.seeds == (1, 2, 3)
    assert settings_of(both, "wide", "books") == settings_of(former, "wide", "books")
    assert settings_of(both, "SASRec", "shop") == settings_of(part, "SASRec", "shop")
    assert settings_of(both, "BPR", "shop")["learning_rate"] == 0.3


def test_common_settings_that_differ_stay_with_the_datasets_they_were_given_for(write):
    former = read_grid(write(GRID))
    part = read_grid(write("models: [BPR]\ndatasets: [shop, games]\nseeds: [1]\nsettings: {epochs: 9}"))
    both = part.added_to(former)
    assert settings_of(both, "wide", "books") == settings_of(former, "wide", "books")
    assert settings_of(both, "BPR", "games") == {"epochs": 9}
    assert settings_of(both, "BPR", "shop") == {"epochs": 9}
    reread = write("")
    both.write(reread)
    assert read_grid(reread).plain() == both.plain()


def test_a_part_that_would_lie_where_another_entry_does_is_refused(write):
    with pytest.raises(ConfigError, match="'SASRec' and 'sasrec' would lie in folders of one name"):
        read_grid(write("models: [{name: sasrec, model: BPR}]\ndatasets: [shop]\nseeds: [1]")).added_to(
            read_grid(write(GRID))
        )


def test_a_dataset_whose_name_yaml_takes_for_a_number(write):
    grid = read_grid(write("models: [BPR]\ndatasets: [2021, {name: 2022, settings: {epochs: 3}}]\nseeds: [1]"))
    assert [entry.name for entry in grid.datasets] == ["2021", "2022"]


@pytest.mark.parametrize("text", ["models: 5\n", "models: [BPR]\nseeds: 3\n"])
def test_names_replace_lists_that_are_none(write, text):
    grid = read_grid(write(text), models=["BPR"], datasets=["shop"], seeds=["1", "2"])
    assert (grid.models[0].label, grid.seeds) == ("BPR", (1, 2))


def test_overrides_win_over_everything(write):
    grid = read_grid(write(GRID)).with_overrides(read_overrides(["learning_rate=1e-4", "topk=[1, 5]"]))
    for label in ("LLM4CDSR", "SASRec"):
        for dataset in ("books", "shop"):
            found = settings_of(grid, label, dataset)
            assert (found["learning_rate"], found["topk"], found["epochs"]) == (0.0001, [1, 5], 50)


@pytest.mark.parametrize(
    ("label", "mode"), [("SASRec+llm", "adapter"), ("BPR+llm-init", "init"), ("SASRec+llm-frozen", "frozen")]
)
def test_the_name_of_a_variant_says_what_is_injected(label, mode):
    (cell,) = read_grid(None, [label], ["books"], ["1"]).cells()
    assert (cell.label, cell.model) == (label, label.partition("+")[0])
    assert cell.settings == {"llm_injection": mode}


def test_names_replace_the_lists_of_a_file_and_take_its_entries(write):
    grid = read_grid(write(GRID), models=["wide", "BPR"], seeds=["7"])
    assert [(entry.label, entry.model) for entry in grid.models] == [("wide", "SASRec"), ("BPR", "BPR")]
    assert settings_of(grid, "wide", "shop") == {
        "epochs": 50,
        "learning_rate": 0.1,
        "topk": [5, 10],
        "hidden_size": 128,
    }
    assert grid.seeds == (7,)


def test_a_grid_is_read_back_as_it_was_written(write, tmp_path):
    grid = read_grid(write(GRID)).with_overrides(read_overrides(["epochs=3", "note=some text", "clip_grad_norm=None"]))
    grid.write(tmp_path / "again.yaml")
    again = read_grid(tmp_path / "again.yaml")
    assert list(again.cells()) == list(grid.cells())
    assert again.plain() == grid.plain()


@pytest.mark.parametrize("value", [True, None, 3, -1, 1e-05, 0.5, [5, 10], {"max_norm": 5}, ["full", "uni99"], "text"])
def test_a_value_survives_the_command_line(value):
    assert parse_text(as_text(value)) == value
    (argument,) = [text for text in Cell("m", "m", "d", 1, {"key": value}).arguments() if text.startswith("--key=")]
    assert parse_text(argument.partition("=")[2]) == value


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("modles: [BPR]\n", r"line 1: a grid has no key 'modles'; did you mean models\?"),
        ("models: [BPR]\nmodels: [Pop]\n", "line 2: models was set in line 1 already"),
        ("models: [BPR]\ndatasets: [a]\n", r"no seeds are named; list them under `seeds:`"),
        ("models: BPR\ndatasets: [a]\nseeds: [1]\n", "models is 'BPR'; it must be a list"),
        ("models: []\ndatasets: [a]\nseeds: [1]\n", r"models is \[\]; it must be a list"),
        ("models: [3]\ndatasets: [a]\nseeds: [1]\n", "models, entry 1 is 3; write a name, or a mapping"),
        ("models: [{settings: {}}]\ndatasets: [a]\nseeds: [1]\n", "models, entry 1 has no name"),
        ("models: [{name: a, modle: BPR}]\ndatasets: [a]\nseeds: [1]\n", "entry 1 has the key 'modle'; did you mean"),
        ("models: [{name: a, settings: 3}]\ndatasets: [a]\nseeds: [1]\n", r"\(a\): settings are 3; write a mapping"),
        (
            "models: [{name: BPR, settings: {seed: 3}}]\ndatasets: [a]\nseeds: [1]\n",
            "seed cannot be set here, for seeds",
        ),
        (
            "models: [BPR]\ndatasets: [a]\nseeds: [1]\nsettings: {run_dir: x}\n",
            "run_dir cannot be set here, for --output",
        ),
        ("models: [BPR]\ndatasets: [a]\nseeds: [1.5]\n", r"seeds hold 1\.5; a seed is a whole number"),
        ("models: [BPR]\ndatasets: [a]\nseeds: [4294967296]\n", "seeds hold 4294967296"),
        ("models: [BPR]\ndatasets: [a]\nseeds: [1, 1]\n", "seeds hold 1 twice"),
        ("models: [BPR, {name: BPR, model: Pop}]\ndatasets: [a]\nseeds: [1]\n", "models hold BPR twice"),
        (
            "models: [{name: a b, model: BPR}, {name: A-B, model: Pop}]\ndatasets: [a]\nseeds: [1]\n",
            "'a b' and 'A-B' would lie in folders of one name",
        ),
        ("models: [SASRec+llm-adaptor]\ndatasets: [a]\nseeds: [1]\n", "there is no injection 'adaptor'"),
        (
            "models: [{name: SASRec+llm-init, model: GRU4Rec}]\ndatasets: [a]\nseeds: [1]\n",
            "the name says SASRec with init, but it is GRU4Rec with init",
        ),
        (
            "models: [{name: SASRec+llm-init, settings: {llm_injection: concat}}]\ndatasets: [a]\nseeds: [1]\n",
            "the name says SASRec with init, but it is SASRec with concat",
        ),
    ],
)
def test_a_mistake_in_a_grid_is_named(write, text, answer):
    with pytest.raises(ConfigError, match=answer):
        read_grid(write(text))


def test_all_mistakes_are_told_at_once(write):
    with pytest.raises(ConfigError) as caught:
        read_grid(write("models: [BPR, BPR]\ndatasets: [{name: 3.5}]\nseeds: [-1]\n"))
    message = str(caught.value)
    assert "has 3 mistakes" in message
    assert all(part in message for part in ("BPR twice", "datasets, entry 1 has no name", "seeds hold -1"))


@pytest.mark.parametrize(
    ("pairs", "answer"),
    [
        (["epochs"], "'epochs' is not understood; write key=value"),
        (["epochs=3", "epochs=4"], "epochs is given twice, as '3' and as '4'"),
        (["dataset=x"], "dataset cannot be set here, for datasets decides it"),
    ],
)
def test_a_mistake_in_an_override_is_named(pairs, answer):
    with pytest.raises(ConfigError, match=answer):
        read_overrides(pairs)


def test_a_missing_grid_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"There is no grid .*none\.yaml"):
        read_grid(tmp_path / "none.yaml")
