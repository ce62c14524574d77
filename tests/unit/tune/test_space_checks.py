"""What a configuration says of a search space before anything is trained."""

from __future__ import annotations

import pytest

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
    check_space(space, config, [])
    assert {parameter.name for parameter in space.parameters} <= set(config.internal_config_dict)
    assert not space.remarks


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("n_layer choice [1]", "line 2: n_layer is not a known setting; did you mean n_layers?"),
        ("hidden_dropout_prob uniform 0,1", "hidden_dropout_prob is 1.0 in .*line 2; it must be at least 0 and less"),
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


def test_a_name_within_another_is_not_taken_for_it(tmp_path):
    (tmp_path / "hyper.test").write_text("tau choice [1.0]\ntau_reg choice [0]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"tau_reg is 0\.0 in .*line 2; it must be more than 0"):
        check_space(read_space(tmp_path / "hyper.test"), CDSRConfig("LLM4CDSR", "douban", command_line=[]), [])


def test_values_that_fit_together_may_be_drawn(tmp_path):
    lines = "hidden_size choice [64,65]\nn_heads choice [2,5]\nn_layers choice [1,2]\n"
    (tmp_path / "hyper.test").write_text(lines, encoding="utf-8")
    check_space(read_space(tmp_path / "hyper.test"), CDSRConfig("LLM4CDSR", "douban", command_line=[]), [])
