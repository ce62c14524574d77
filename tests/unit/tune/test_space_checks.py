"""What a configuration says of a search space before anything is trained."""

from __future__ import annotations

import math

import pytest
from optuna import create_study
from optuna.samplers import RandomSampler

from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.config_names import props_folder
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.tune.space import read_space
from recbole_cdsr.tune.space_checks import check_space

SPACES = sorted((props_folder() / "tune").glob("*.yaml"))


@pytest.mark.parametrize("file", SPACES, ids=lambda file: file.stem)
def test_bundled_spaces_are_of_their_models(file):
    config = CDSRConfig(file.stem, "douban", command_line=[])
    space = read_space(file)
    assert check_space(space, config, []) == space
    assert {parameter.name for parameter in space.parameters} <= set(config.internal_config_dict)
    assert not space.remarks


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("n_layer choice [1]", "line 2: n_layer is not a known setting; did you mean n_layers?"),
        ("hidden_dropout_prob choice [0,1]", "hidden_dropout_prob is 1 in .*line 2; it must be at least 0 and less"),
        ("hidden_dropout_prob uniform 0,1.5", "hidden_dropout_prob is 1.5 in .*line 2; it must be at least 0 and less"),
        ("hidden_dropout_prob uniform -1,1", "hidden_dropout_prob is -1.0 in .*line 2; it must be at least 0 and"),
        ("hidden_dropout_prob uniform 1,1", "hidden_dropout_prob is 1.0 in .*line 2; it must be at least 0 and less"),
        ("hidden_dropout_prob quniform 0,1,0.5", "hidden_dropout_prob is 1.0 in .*line 2; it must be at least 0 and"),
        ("n_layers uniform 1,3", "n_layers is 1.0 in .*line 2; it must be a whole number"),
        ("n_layers choice [1,'two']", "n_layers is 'two' in .*line 2; it must be a whole number"),
        ("train_batch_size quniform 0,512,64", "train_batch_size is 0 in .*line 2; it must be 1 or more"),
        ("save_dataset choice [True]", "save_dataset .*line 2.* cannot be used"),
        ("rm_dup_inter choice ['first','last']", "line 2: rm_dup_inter is the same for all trials"),
        ("eval_candidates choice [['full'],['uni99']]", "line 2: eval_candidates is the same for all trials"),
        ("result_file choice ['a']", "line 2: result_file is nothing to tune"),
        ("alpha choice [0.1,-1]", "alpha is -1.0 in .*line 2; it must be a finite number, 0 or more"),
        ("attention choice ['foo']", "attention is 'foo' in .*line 2; it must be one of causal, bidirectional"),
        ("hidden_size choice [64,65]", "hidden_size is 65 in .*line 2; it must be a multiple of n_heads, 2"),
        ("use_global choice [False]", "use_global and use_local are False"),
        ("epochs choice [3]", "line 2: epochs is fixed on the command line too"),
    ],
)
def test_what_cannot_be_drawn_is_named_with_its_line(tmp_path, line, answer):
    (tmp_path / "hyper.test").write_text(f"learning_rate loguniform -8,-2\n{line}\n", encoding="utf-8")
    config = CDSRConfig("LLM4CDSR", "douban", command_line=["--epochs=3", "--n_heads=2", "--use_local=False"])
    with pytest.raises(ConfigError, match=answer):
        check_space(read_space(tmp_path / "hyper.test"), config, ["epochs"])


@pytest.mark.parametrize(
    ("line", "low", "high", "never"),
    [
        ("hidden_dropout_prob uniform 0,1", 0.0, math.nextafter(1, 0), "1"),
        ("tau uniform 0,0.01", math.nextafter(0, 1), 0.01, "0"),
        ("hidden_dropout_prob loguniform -3,0", math.exp(-3), math.nextafter(1, 0), "1"),
    ],
)
def test_a_bound_that_cannot_be_drawn_itself_is_left_out_and_that_is_said(tmp_path, line, low, high, never):
    (tmp_path / "hyper.test").write_text(f"alpha choice [1]\nalpha choice [2]\n{line}\n", encoding="utf-8")
    config = CDSRConfig("LLM4CDSR", "douban", command_line=[])
    space = check_space(read_space(tmp_path / "hyper.test"), config, [])
    distribution = space.parameters[1].distribution
    assert (distribution.low, distribution.high, distribution.log) == (low, high, "log" in line)
    twice, moved = space.remarks
    assert "stands in" in twice
    assert moved.endswith(
        f"hyper.test, line 3: {line.split()[0]} is never drawn as {never}, which it cannot be; all else counts."
    )
    study = create_study(sampler=RandomSampler(seed=0))
    assert all(low <= space.parameters[1].draw(study.ask()) <= high for _ in range(20))
    assert check_space(space, config, []) == space  # which is allowed as it is


def test_a_name_within_another_is_not_taken_for_it(tmp_path):
    (tmp_path / "hyper.test").write_text("tau choice [1.0]\ntau_reg choice [0]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"tau_reg is 0\.0 in .*line 2; it must be more than 0"):
        check_space(read_space(tmp_path / "hyper.test"), CDSRConfig("LLM4CDSR", "douban", command_line=[]), [])


def test_values_that_fit_together_may_be_drawn(tmp_path):
    lines = "hidden_size choice [64,65]\nn_heads choice [2,5]\nn_layers choice [1,2]\n"
    (tmp_path / "hyper.test").write_text(lines, encoding="utf-8")
    check_space(read_space(tmp_path / "hyper.test"), CDSRConfig("LLM4CDSR", "douban", command_line=[]), [])
