from __future__ import annotations

import pytest
from configurations import make

from recbole_cdsr.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("load_col", {"inter": 5}),
        ("load_col", {"inter": [1]}),
        ("unload_col", {"inter": "rating"}),
        ("unused_col", {"inter": 5}),
        ("additional_feat_suffix", 5),
        ("additional_feat_suffix", [1]),
        ("user_inter_num_interval", "abc"),
        ("user_inter_num_interval", "5"),
        ("item_inter_num_interval", "[5,1]"),
        ("item_inter_num_interval", "[a,b]"),
        ("item_inter_num_interval", "[1,2];[3"),
        ("item_inter_num_interval", "''"),
        ("val_interval", "abc"),
        ("val_interval", ["timestamp"]),
        ("val_interval", {"timestamp": "[1,"}),
        ("val_interval", {"timestamp": 5}),
        ("threshold", {"timestamp": "x"}),
    ],
)
def test_a_value_that_recbole_trips_over_or_passes_over_is_refused(key, value):
    with pytest.raises(ConfigError, match=f"^{key} is .* from config_dict; it must be a"):
        make("SASRec", settings={key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("load_col", {"inter": "*"}),
        ("load_col", None),
        ("unload_col", {"inter": ["rating"]}),
        ("additional_feat_suffix", ["useremb"]),
        ("additional_feat_suffix", "useremb"),
        ("user_inter_num_interval", "[3,inf)"),
        ("user_inter_num_interval", "[3,5]; (7,9)"),
        ("user_inter_num_interval", None),
        ("val_interval", {"timestamp": "(-inf,5]", "domain": ["book"]}),
        ("threshold", {"rating": 3.5}),
        ("rm_dup_inter", "first"),
        ("normalize_all", True),
        ("clip_grad_norm", {"max_norm": 0.5, "norm_type": "inf"}),
    ],
)
def test_what_recbole_takes_is_taken(key, value):
    assert key in make("SASRec", settings={key: value}).given
