"""What a search space file means, and what it is refused for."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from optuna import create_study
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.tune.space import Space, read_space

# In the form of RecBole's example of hyper-parameter tuning.
RECBOLE = """\
learning_rate loguniform -8,0
embedding_size choice [64,96,128]
train_batch_size choice [512,1024,2048]
mlp_hidden_size choice ['[64, 64, 64]', '[128,128]']
weight_decay uniform 0,0.01
n_layers quniform 1,4,1
dropout_prob quniform 0.1,0.5,0.2
"""


@pytest.fixture
def read(tmp_path):
    def read(text: str, name: str = "hyper.test") -> Space:
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return read_space(file)

    return read


def distributions(space: Space) -> dict:
    return {parameter.name: parameter.distribution for parameter in space.parameters}


def test_recboles_lines_mean_what_they_mean_there(read):
    found = distributions(read(RECBOLE))
    assert list(found) == [line.split()[0] for line in RECBOLE.splitlines()]
    assert found["learning_rate"] == FloatDistribution(math.exp(-8), 1.0, log=True)  # exponents of e
    assert found["embedding_size"] == CategoricalDistribution([64, 96, 128])
    assert found["train_batch_size"] == CategoricalDistribution([512, 1024, 2048])
    assert found["mlp_hidden_size"] == CategoricalDistribution(["[64,64,64]", "[128,128]"])
    assert found["weight_decay"] == FloatDistribution(0, 0.01)
    assert found["n_layers"] == IntDistribution(1, 4)
    assert found["dropout_prob"] == FloatDistribution(0.0, 0.4, step=0.2)  # multiples of q, halves to the even one


@pytest.mark.parametrize(
    ("low", "high", "q"), [(1, 10, 4), (64, 512, 64), (100, 600, 64), (0.1, 0.5, 0.2), (0, 1, 0.3), (-2, 3, 1.5)]
)
def test_quniform_reaches_what_the_formula_of_hyperopt_reaches(read, low, high, q):
    (parameter,) = read(f"x quniform {low},{high},{q}").parameters
    between = [low + (high - low) * part / 9999 for part in range(10_000)]
    assert parameter.grid() == pytest.approx(sorted({round(value / q) * q for value in between}))
    kind = int if isinstance(q, int) else float
    assert {type(value) for value in parameter.grid()} == {kind}


def test_blank_lines_comments_and_wide_spaces_are_passed_over(read):
    space = read("\ufeff# rates\n\n  learning_rate   loguniform  -8, 0 \n\t\nembedding_size choice [64,\t96]\n")
    assert distributions(space) == {
        "learning_rate": FloatDistribution(math.exp(-8), 1.0, log=True),
        "embedding_size": CategoricalDistribution([64, 96]),
    }
    assert [parameter.origin.rpartition(", ")[2] for parameter in space.parameters] == ["line 3", "line 5"]


YAML = """\
learning_rate: {log_uniform: [1e-4, 1.0e-2]}
alpha: [0, 0.1, 1]
tau: {uniform: [1, 3]}
dropout: {uniform: [0.1, 0.5], step: 0.1}
n_layers: {int_uniform: [1, 3]}
n_negatives: {int_uniform: [10, 99], step: 20}
hidden_size: {int_log_uniform: [16, 256]}
use_fusion: {choice: [true, false]}
adam_betas: [[0.9, 0.98], [0.9, 0.999]]
clip_grad_norm: [null, {max_norm: 5}]
"""


def test_yaml(read):
    space = read(YAML, "space.yaml")
    assert distributions(space) == {
        "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "alpha": CategoricalDistribution([0, 0.1, 1]),
        "tau": FloatDistribution(1.0, 3.0),
        "dropout": FloatDistribution(0.1, 0.5, step=0.1),
        "n_layers": IntDistribution(1, 3),
        "n_negatives": IntDistribution(10, 90, step=20),
        "hidden_size": IntDistribution(16, 256, log=True),
        "use_fusion": CategoricalDistribution([True, False]),
        "adam_betas": CategoricalDistribution(["[0.9, 0.98]", "[0.9, 0.999]"]),
        "clip_grad_norm": CategoricalDistribution([None, '{"max_norm": 5}']),
    }
    by_name = {parameter.name: parameter for parameter in space.parameters}
    assert by_name["dropout"].grid() == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert by_name["adam_betas"].extremes() == [[0.9, 0.98], [0.9, 0.999]]
    assert by_name["tau"].extremes() == [1.0, 3.0]


def test_what_is_drawn_is_what_the_file_says(read):
    space = read(YAML, "space.yml")
    study = create_study(sampler=RandomSampler(seed=0))
    drawn = []
    for _ in range(60):
        trial = study.ask()
        values = {parameter.name: parameter.draw(trial) for parameter in space.parameters}
        assert values == space.settings(trial.params)
        drawn.append(values)
    seen = {name: [values[name] for values in drawn] for name in drawn[0]}
    assert all(1e-4 <= value <= 1e-2 for value in seen["learning_rate"])
    assert sum(value < 1e-3 for value in seen["learning_rate"]) in range(20, 41)  # half of the logarithms
    assert {type(value) for value in seen["n_layers"]} == {int}
    assert set(seen["n_negatives"]) == {10, 30, 50, 70, 90}
    assert {str(value) for value in seen["adam_betas"]} == {"[0.9, 0.98]", "[0.9, 0.999]"}
    assert {str(value) for value in seen["clip_grad_norm"]} == {"None", "{'max_norm': 5}"}
    assert {True, False} == set(seen["use_fusion"])


def test_one_and_true_are_two_choices_and_repeated_ones_are_one(read):
    (parameter,) = read("x choice [1, True, 1.0, 1, 'a', 'a', [1], [1]]").parameters
    assert [(type(value), value) for value in parameter.extremes()] == [
        (int, 1),
        (bool, True),
        (float, 1.0),
        (str, "a"),
        (list, [1]),
    ]
    assert len(parameter.grid()) == parameter.grid_length() == 5


@pytest.mark.parametrize(
    "text", ["[1, True, 0, False]", "[True, 1, 1.0, 0.0, False, None, '1']", "[2, 2.0, [1], [True]]"]
)
def test_of_values_that_equal_each_other_the_one_drawn_is_kept(read, text):
    space = read(f"x choice {text}\n")
    (parameter,) = space.parameters
    study = create_study(sampler=RandomSampler(seed=0))
    drawn = []
    for _ in range(60):
        trial = study.ask()
        drawn.append(repr(parameter.draw(trial)))
        assert repr(space.settings(study.trials[-1].params)["x"]) == drawn[-1]
    assert set(drawn) == {repr(value) for value in parameter.extremes()}
    assert len(set(drawn)) == len(parameter.extremes()) == parameter.grid_length()


def test_a_study_that_kept_equal_values_for_one_is_another_space(read):
    (parameter,) = read("x choice [1, True, 'a', [1]]\n").parameters
    assert parameter.description() == {"choice": [1, "true", "a", [1]]}
    (parameter,) = read("x choice [1, False, 'a', [1]]\n").parameters
    assert parameter.description() == {"choice": [1, False, "a", [1]]}


@pytest.mark.parametrize("name", ["hyper.test", "space.yaml"])
def test_of_a_key_given_twice_the_later_line_counts_and_that_is_said(read, name):
    text = "x choice [1]\ny choice [1]\nx choice [2]\n" if name == "hyper.test" else "x: [1]\ny: [1]\nx: [2]\n"
    space = read(text, name)
    assert distributions(space)["x"] == CategoricalDistribution([2])
    (remark,) = space.remarks
    assert f"{name}, line 3: x" in remark
    assert "line 1" in remark


@pytest.mark.parametrize(
    "attack",
    [
        "__import__('pathlib').Path('hacked').touch()",
        "[__import__('pathlib').Path('hacked').touch()]",
        "[open('hacked','w')]",
        "(lambda:open('hacked','w'))()",
        "[x for x in [open('hacked','w')]]",
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [hacked]]",
        "range(3)",
        "[2**10]",
    ],
)
def test_a_hostile_line_runs_nothing(read, tmp_path, monkeypatch, attack):
    monkeypatch.chdir(tmp_path)
    for kind in ("choice", "uniform", "loguniform", "quniform"):
        with pytest.raises(ConfigError, match=r"hyper\.test, line 2: x "):
            read(f"y choice [1]\nx {kind} {attack}\n")
    with pytest.raises(ConfigError, match=r"space\.yaml, line 1"):
        read(f"x: {attack}\n" if "[" not in attack[:1] else f'x: {{choice: "{attack}"}}\n', "space.yaml")
    assert not Path("hacked").exists()


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("learning_rate", "a parameter is `<key> <kind> <values>`"),
        ("learning_rate loguniform", "a parameter is `<key> <kind> <values>`"),
        ("learning_rate loguniforn -8,0", "did you mean loguniform?"),
        ("learning_rate loguniform -8", "write low,high as numbers"),
        ("learning_rate loguniform -8,zero", "write low,high as numbers"),
        ("learning_rate loguniform 0,-8", "write the smaller bound first"),
        ("learning_rate loguniform 0.0001,900", "exponents of e"),
        ("x uniform 2,1", "runs from 2 to 1"),
        ("x uniform nan,1", "write low,high as numbers"),
        ("x uniform 0,inf", "write low,high as numbers"),
        ("x uniform 0,1e400", "write low,high as numbers"),
        ("x quniform 0,1", "write low,high,q as numbers"),
        ("x quniform 0,1,0", "has the step 0; it must be more than 0"),
        ("x quniform 0,1e14,1e-20", "has the step 1e-20, too small for a range from 0 to 1e+14"),
        ("x choice 64", "write a list of plain values"),
        ("x choice {64}", "write a list of plain values"),
        ("x choice []", "no value to choose from"),
        ("x choice [1e999]", "write finite numbers"),
    ],
)
def test_a_line_that_is_wrong_is_named(read, line, answer):
    with pytest.raises(ConfigError, match=r"hyper\.test, line 2: ") as refused:
        read(f"# comment\n{line}\n")
    assert answer in str(refused.value)


@pytest.mark.parametrize(
    ("entry", "answer"),
    [
        ("0.1", "x is 0.1; write a list of values"),
        ("{}", "write a list of values"),
        ("{loguniform: [-8, 0]}", "did you mean log_uniform?"),
        ("{uniform: [0, 1], choice: [1]}", "exactly one of"),
        ("{step: 1}", "exactly one of"),
        ("{uniform: 1}", "write two numbers, [low, high]"),
        ("{uniform: [a, b]}", "write two numbers"),
        ("{uniform: [true, 1]}", "write two numbers"),
        ("{uniform: [1, .inf]}", "write the smaller bound first"),
        ("{int_uniform: [1, 2.5]}", "write two whole numbers"),
        ("{uniform: [0, 1], step: 0}", "more than 0"),
        ("{uniform: [0, 1e+30], step: 1e-5}", "has the step 1e-05, too small for a range from 0 to 1e+30"),
        ("{int_uniform: [0, 10], step: 0.5}", "whole numbers, more than 0"),
        ("{log_uniform: [0, 1]}", "a logarithmic range begins above 0"),
        ("{log_uniform: [1e-4, 1e-2], step: 1e-4}", "goes with uniform and int_uniform only"),
        ("{choice: 3}", "write a list of values"),
        ("[.nan]", "write finite numbers"),
    ],
)
def test_an_entry_that_is_wrong_is_named(read, entry, answer):
    with pytest.raises(ConfigError, match=r"space\.yaml, line 2: ") as refused:
        read(f"y: [1]\nx: {entry}\n", "space.yaml")
    assert answer in str(refused.value)


def test_files_that_are_none(read, tmp_path):
    with pytest.raises(ConfigError, match=r"The search space .*nowhere\.yaml does not exist; name a file with --space"):
        read_space(tmp_path / "nowhere.yaml")
    for name in ("hyper.test", "space.yaml"):
        with pytest.raises(ConfigError, match="holds no parameter"):
            read("# nothing\n", name)
        (tmp_path / name).write_bytes(b"x: [\xff\xfe]\n")
        with pytest.raises(ConfigError, match="is not UTF-8"):
            read_space(tmp_path / name)


def test_a_grid_counts_values_and_refuses_what_cannot_be_counted(read):
    space = read("a: {uniform: [0, 1]}\nb: {uniform: [0, 0.3], step: 0.1}\n", "space.yaml")
    endless, counted = space.parameters
    assert counted.grid() == [0.0, 0.1, 0.2, 0.3]
    with pytest.raises(ConfigError, match=r"space\.yaml, line 1: a grid needs values to count, and a may be any"):
        endless.grid()
