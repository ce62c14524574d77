"""RecBole's models on windows without their padding compute what they compute with it."""

from __future__ import annotations

import copy

import pytest
import torch

from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.data.loaders import prepare_loaders
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.model.item_softmax import item_cross_entropy
from recbole_cdsr.model.trimmed_windows import TRIMMABLE, group_sizes, trim
from recbole_cdsr.quick_start import create_dataset

NO_DROPOUT = {
    "SASRec": {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0},
    "GRU4Rec": {"dropout_prob": 0.0},
    "NARM": {"dropout_probs": [0.0, 0.0]},
    "BERT4Rec": {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0},
}


@pytest.fixture
def model_and_loaders(make_dataset):
    """`(model, dataset, loaders)`, RecBole's own model of a name in a state with large parameters."""

    def build(name: str, **settings):
        dataset = make_dataset(n_users=80, n_per_user=9)
        config = CDSRConfig(
            name, dataset.name, config_dict=dataset.settings | NO_DROPOUT.get(name, {}) | settings, command_line=[]
        )
        loaders = prepare_loaders(config, create_dataset(config))
        torch.manual_seed(3)
        model = config.model_class(config, loaders[0]._dataset)
        with torch.no_grad():
            for parameter in model.parameters():  # padding rows included: they must not matter
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return model, loaders

    return build


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("loss_type", ["CE", "BPR"])
@pytest.mark.parametrize("name", sorted(TRIMMABLE))
def test_loss_gradients_and_scores_are_those_with_padding(model_and_loaders, name, loss_type):
    negatives = {"distribution": "uniform", "sample_num": 1} if loss_type == "BPR" else None
    model, (train, valid, _) = model_and_loaders(name, loss_type=loss_type, train_neg_sample_args=negatives)
    batch = next(iter(train))
    assert len(set(batch["item_length"].tolist())) > 5
    rows = next(iter(valid))[0]

    model.calculate_loss(batch).backward()
    loss, expected = model.calculate_loss(batch).item(), gradients(model)
    model.eval()
    scores, single = model.full_sort_predict(rows), model.predict(rows)
    model.train()
    model.zero_grad()

    trim(model)
    model.calculate_loss(batch).backward()
    assert model.calculate_loss(batch).item() == pytest.approx(loss, rel=1e-6)
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for key, gradient in gradients(model).items():
        # A softmax does not change when all keys move alike: what is left of that gradient is rounding.
        scale = largest if key.endswith("key.bias") else float(expected[key].abs().max())
        torch.testing.assert_close(gradient, expected[key], rtol=0, atol=2e-6 * scale + 1e-9, msg=key)
    model.eval()
    torch.testing.assert_close(model.full_sort_predict(rows), scores, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.predict(rows), single, rtol=1e-5, atol=1e-5)


def test_positions_without_an_item_are_not_computed(model_and_loaders):
    model, (train, _, _) = model_and_loaders("SASRec", MAX_ITEM_LIST_LENGTH=50)
    batch = next(iter(train))
    computed = []
    model.trm_encoder.register_forward_pre_hook(lambda module, given: computed.append(given[0].shape[:2].numel()))
    trim(model)
    model.calculate_loss(batch)
    real = int(batch["item_length"].sum())
    assert real <= sum(computed) < 1.5 * real
    assert batch["item_id_list"].numel() > 4 * real


def test_only_masked_items_that_count_are_scored(model_and_loaders, monkeypatch):
    model, (train, _, _) = model_and_loaders("BERT4Rec", MAX_ITEM_LIST_LENGTH=50)
    batch = next(iter(train))
    counting = int((batch["MASK_INDEX"] > 0).sum())
    assert 0 < counting < batch["MASK_INDEX"].numel() / 3
    trim(model)
    scored = []

    def recorded(states, table, *others):
        scored.append((len(states), len(table)))
        return item_cross_entropy(states, table, *others)

    monkeypatch.setattr("recbole_cdsr.model.trimmed_windows.item_cross_entropy", recorded)
    model.calculate_loss(batch)
    assert scored == [(counting, model.n_items)]


@pytest.mark.parametrize("name", sorted(TRIMMABLE))
def test_a_copy_computes_with_parameters_of_its_own(model_and_loaders, name):
    model, (train, valid, _) = model_and_loaders(name)
    trim(model)
    model.eval()
    batch, rows = next(iter(train)), next(iter(valid))[0]
    copied = copy.deepcopy(model)
    with torch.no_grad():
        loss, scores = model.calculate_loss(batch), model.full_sort_predict(rows)
        for parameter in model.parameters():
            parameter.zero_()
        assert torch.equal(copied.calculate_loss(batch), loss)
        assert torch.equal(copied.full_sort_predict(rows), scores)


@pytest.mark.parametrize("name", ["SASRec", "BERT4Rec"])
def test_operations_are_counted(tiny, run, caplog, name):
    caplog.set_level("INFO")
    counted = []
    for trimmed in (False, True):
        caplog.clear()
        run(name, tiny, epochs=1, trim_windows=trimmed)
        counted += [float(line.rsplit(" ", 1)[1]) for line in caplog.messages if "FLOPs" in line]
    padded, trimmed = counted
    assert padded / 20 < trimmed <= padded


def test_groups_hold_rows_of_like_length():
    lengths = torch.arange(1, 201).repeat_interleave(3)
    sizes = group_sizes(lengths)
    assert sum(sizes) == 600
    for rows in lengths.split(sizes):
        assert rows[-1] < 1.5 * rows[0] + 1
    assert len(sizes) <= 14  # powers of 1.5 up to 200


@pytest.mark.parametrize("name", ["SASRec", "BERT4Rec"])
def test_a_run_without_dropout_ends_where_it_ends_with_padding(tiny, run, name):
    padded = run(name, tiny, **NO_DROPOUT[name])
    trimmed = run(name, tiny, **NO_DROPOUT[name], trim_windows=True)
    assert trimmed["train_losses"] == pytest.approx(padded["train_losses"], rel=1e-5)
    assert trimmed["test"]["overall"] == padded["test"]["overall"]
    assert trimmed["config"]["trim_windows"] is True


def test_injected_features_go_through(tiny, run, item_features):
    result = run(
        "GRU4Rec", tiny, llm_injection="concat", item_features_file=str(item_features(tiny)), trim_windows=True
    )
    assert result["variant"] == "GRU4Rec+llm-concat"


def test_a_model_that_depends_on_the_padded_width_is_refused_before_anything_is_made(tiny, run):
    with pytest.raises(ConfigError, match=r"trim_windows: Caser is not known .* takes BERT4Rec, GRU4Rec, NARM, SASRec"):
        run("Caser", tiny, trim_windows=True)
