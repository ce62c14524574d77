"""LeCDSR against a loop over its specification, and what it does at the edges."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from in_memory import InMemoryDataset, random_dataset, settings
from naive_lecdsr import NaiveRow, naive_losses
from recbole.data.interaction import Interaction

from recbole_cdsr.errors import CheckpointError, ConfigError
from recbole_cdsr.model.lecdsr import LeCDSR
from recbole_cdsr.trainer.checkpoint import restore_model

SIZES = [11, 7, 9]
SMALL = {"hidden_size": 6, "adapter_size": 5, "MAX_ITEM_LIST_LENGTH": 5, "n_negatives": 4}
LENGTHS = [1, 5, 3, 2, 5, 1]


def build(n_domains: int = 2, double: bool = True, **overrides) -> tuple[LeCDSR, InMemoryDataset]:
    """Every parameter random, so that biases and affine terms count; users 1 and 2 have no profile."""
    dataset = random_dataset(SIZES[:n_domains], n_users=10)
    dataset.llm_features.profiles[1:3] = 0
    torch.manual_seed(0)
    model = LeCDSR(settings("LeCDSR", **{**SMALL, **overrides}), dataset)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embedding" in name and model.mask_padding:
                parameter[1:].normal_()
            else:
                parameter.normal_()
    return (model.double() if double else model), dataset


def random_batch(dataset: InMemoryDataset, lengths: list[int], n_negatives: int = 4, seed: int = 0) -> Interaction:
    random = np.random.default_rng(seed)
    n_rows, n_items = len(lengths), len(dataset.item_domain)
    real = np.arange(max(*lengths, 1)) < np.array(lengths)[:, None]
    targets = random.integers(1, n_items, size=n_rows)
    low, high = (dataset.domain_offsets[dataset.item_domain[targets] + k] for k in (0, 1))
    negatives = random.integers(low[:, None], high[:, None], size=(n_rows, n_negatives))
    return Interaction(
        {
            "user_id": torch.arange(1, n_rows + 1),
            "item_id_list": torch.from_numpy(np.where(real, random.integers(1, n_items, size=real.shape), 0)),
            "item_length": torch.tensor(lengths),
            "item_id": torch.from_numpy(targets),
            "neg_item_id": torch.from_numpy(negatives),
        }
    )


def naive_rows(model: LeCDSR, batch: Interaction) -> list[NaiveRow]:
    columns = (batch[name].tolist() for name in ("item_id_list", "item_length", "user_id"))
    return [NaiveRow(model, items[:length], user) for items, length, user in zip(*columns, strict=True)]


SWITCHES = [
    {},
    {"mask_padding": False},
    {"mask_padding": False, "official_positions": True, "loss_reduction": "sum"},
    {"official_positions": True},
    {"use_fusion": False},
    {"use_fusion": False, "mask_padding": False},
    {"use_text": False},
    {"use_profiles": False},
    {"use_text": False, "use_profiles": False, "mask_padding": False},
    {"missing_profile": "learnt"},
]


@pytest.mark.parametrize("switches", SWITCHES, ids=[",".join(s) or "default" for s in SWITCHES])
@pytest.mark.parametrize(("window", "n_domains"), [(5, 2), (4, 3), (1, 2), (2, 2)])
def test_losses_scores_and_gradients_are_those_of_a_loop(switches: dict, window: int, n_domains: int) -> None:
    model, dataset = build(n_domains, MAX_ITEM_LIST_LENGTH=window, **switches)
    batch = random_batch(dataset, LENGTHS)
    candidates = torch.cat([batch["item_id"][:, None], batch["neg_item_id"]], dim=1)
    rows = naive_rows(model, batch)
    expected = naive_losses(model, rows, candidates)
    losses = model.calculate_loss(batch)
    assert len(losses) == (2 if model.use_text else 1)
    for loss, value in zip(losses, expected, strict=False):
        assert abs(loss - value) < 1e-9 * max(1, abs(value))
    parameters = dict(model.named_parameters())
    ours = torch.autograd.grad(sum(losses), list(parameters.values()), allow_unused=True)
    theirs = torch.autograd.grad(sum(expected), list(parameters.values()), allow_unused=True)
    for name, a, b in zip(parameters, ours, theirs, strict=True):
        a, b = (torch.zeros_like(parameters[name]) if g is None else g.clone() for g in (a, b))
        if name in ("item_embedding.weight", "position_embedding.weight"):
            assert not a[0].any(), name  # padding's row is never learnt
            b[0] = 0
        assert (a - b).abs().max() < 1e-8 * max(1, b.abs().max()), name

    model.eval()
    with torch.no_grad():
        scores = model.full_sort_predict(batch)
        queries = torch.stack([row.query() for row in rows])
        naive = queries @ model.output_embedding.weight.T + model.output_bias
        assert torch.allclose(scores[:, 1:], naive[:, 1:], atol=1e-9)
        assert (scores[:, 0] == -torch.inf).all()
        assert torch.allclose(model.predict(batch), naive.gather(1, batch["item_id"][:, None])[:, 0], atol=1e-9)
        domains = model.item_domain[batch["item_id"]]
        inside = model.full_sort_predict(Interaction({**batch.interaction, "target_domain": domains}))
        wanted = model.item_domain[None] == domains[:, None]
        assert torch.equal(torch.isfinite(inside), wanted)
        assert torch.allclose(inside[wanted], naive[wanted], atol=1e-9)


def test_the_width_of_the_batch_does_not_matter() -> None:
    model, dataset = build()
    batch = random_batch(dataset, LENGTHS)
    wider = torch.cat([batch["item_id_list"], torch.zeros(len(LENGTHS), 9, dtype=torch.long)], dim=1)
    losses = zip(
        model.calculate_loss(batch),
        model.calculate_loss(Interaction({**batch.interaction, "item_id_list": wider})),
        strict=True,
    )
    assert all(torch.equal(a, b) for a, b in losses)


def test_masked_scores_do_not_see_padding() -> None:
    """Whatever stands in the rows of padding, and whatever its text adapter makes of it."""
    model, dataset = build()
    batch = random_batch(dataset, [1, 2, 3])
    with torch.no_grad():
        before = model.full_sort_predict(batch)
        for table in (model.item_embedding, model.position_embedding, model.text_table):
            (table if isinstance(table, torch.Tensor) else table.weight)[0] = 7.0
        assert torch.equal(model.full_sort_predict(batch), before)


def test_a_longer_history_counts_by_its_latest_items() -> None:
    model, dataset = build()
    batch = random_batch(dataset, [9, 9, 9])
    cut = Interaction(
        {
            **batch.interaction,
            "item_id_list": batch["item_id_list"][:, 4:],
            "item_length": torch.full((3,), 5),
        }
    )
    with torch.no_grad():
        assert torch.equal(model.full_sort_predict(batch), model.full_sort_predict(cut))


@pytest.mark.parametrize("mask_padding", [True, False])
def test_rows_without_history_and_a_batch_of_one(mask_padding: bool) -> None:
    model, dataset = build(mask_padding=mask_padding)
    batch = random_batch(dataset, [0])
    loss = sum(model.calculate_loss(batch))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        scores = model.full_sort_predict(batch)
        if mask_padding:  # nothing but the profile is left
            user = model.user_vectors(batch["user_id"])
            expected = user @ model.output_embedding.weight.T + model.output_bias
            assert torch.allclose(scores[:, 1:], expected[:, 1:])
        together = model.full_sort_predict(random_batch(dataset, [4, 0]))
    assert torch.isfinite(together[:, 1:]).all()


def test_a_score_stays_finite_when_every_instance_gate_closes() -> None:
    model, dataset = build(double=False)
    batch = random_batch(dataset, LENGTHS)
    with torch.no_grad():
        model.instance_gate.user.fill_(-1e4)
        model.user_adapter[3].bias.fill_(1.0)
        model.user_adapter[3].weight.zero_()  # u = 1: every gate's logit is below −10,000
        assert torch.isfinite(model.full_sort_predict(batch)[:, 1:]).all()


def test_users_without_a_profile_share_a_vector_that_can_be_learnt() -> None:
    model, dataset = build(missing_profile="learnt")
    with torch.no_grad():
        vectors = model.user_vectors(torch.tensor([1, 2, 3]))
        assert torch.allclose(vectors[0], vectors[1])
        assert torch.allclose(vectors[0], model.user_adapter(model.default_profile))
        assert torch.allclose(vectors[2], model.user_adapter(model.profile_table[3]))
    batch = random_batch(dataset, LENGTHS)
    model.calculate_loss(batch)[0].backward()
    assert model.default_profile.grad.any()


def test_without_profiles_at_all_it_says_so_and_does_without(caplog) -> None:
    dataset = random_dataset(SIZES[:2], n_users=10)
    dataset.llm_features = dataset.llm_features._replace(profiles=None)
    with caplog.at_level(logging.WARNING):
        model = LeCDSR(settings("LeCDSR", **SMALL), dataset)
    assert any("no user profiles" in message for message in caplog.messages)
    assert not any("user" in name for name, _ in model.named_parameters())
    loss = sum(model.calculate_loss(random_batch(dataset, LENGTHS)))
    loss.backward()
    assert torch.isfinite(loss)


def test_text_tables_are_what_the_features_are_and_stay_so() -> None:
    """The official `main.py` gives them to its initialiser, which replaces them with noise."""
    dataset = random_dataset(SIZES[:2], n_users=10)
    items, profiles = (table.copy() for table in dataset.llm_features[:2])
    model = LeCDSR(settings("LeCDSR", **SMALL), dataset)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    learnt = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for seed in range(3):
        np.testing.assert_array_equal(model.text_table.numpy(), items)
        np.testing.assert_array_equal(model.profile_table.numpy(), profiles)
        optimiser.zero_grad()
        sum(model.calculate_loss(random_batch(dataset, LENGTHS, seed=seed))).backward()
        optimiser.step()
    np.testing.assert_array_equal(model.text_table.numpy(), items)
    np.testing.assert_array_equal(model.profile_table.numpy(), profiles)
    assert all(not torch.equal(parameter, learnt[name]) for name, parameter in model.named_parameters())
    assert not {"text_table", "profile_table"} & ({n for n, _ in model.named_parameters()} | model.state_dict().keys())


def test_the_adapter_sees_each_item_of_a_batch_once() -> None:
    model, dataset = build()
    seen = []
    model.item_adapter.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    batch = random_batch(dataset, [5, 5, 5, 5, 5, 5])
    model.calculate_loss(batch)
    assert seen == [len(batch["item_id_list"].unique())]


@torch.no_grad()
def test_judging_adapts_each_item_once_and_anew_after_a_change() -> None:
    model, dataset = build()
    model.eval()
    batch = random_batch(dataset, [3, 5, 1])
    rows: list[int] = []
    model.item_adapter.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    first = model.full_sort_predict(batch)
    assert torch.equal(model.full_sort_predict(batch), first)
    n_distinct = int((batch["item_id_list"].unique() > 0).sum())
    assert sum(rows) == n_distinct
    model.item_adapter[0].weight.mul_(1.5)
    changed = model.full_sort_predict(batch)
    assert not torch.equal(changed, first)
    model.train()
    model.eval()
    assert torch.equal(model.full_sort_predict(batch), changed)


def test_features_of_another_width_are_refused_by_a_checkpoint() -> None:
    narrow, _ = build()
    wide = LeCDSR(settings("LeCDSR", **SMALL), random_dataset(SIZES[:2], n_users=10, width=30))
    with pytest.raises(CheckpointError, match="item_adapter"):
        restore_model(wide, {"state_dict": narrow.state_dict(), "other_parameter": None}, "best.pth")


def test_items_and_profiles_may_have_widths_of_their_own() -> None:
    model, _ = build()
    assert model.text_table.shape[1] != model.profile_table.shape[1]


def test_mixed_precision_trains() -> None:
    model, dataset = build(double=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sum(model.calculate_loss(random_batch(dataset, LENGTHS)))
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"hidden_size": 0}, "hidden_size"),
        ({"adapter_size": "wide"}, "adapter_size"),
        ({"MAX_ITEM_LIST_LENGTH": 0}, "MAX_ITEM_LIST_LENGTH"),
        ({"n_negatives": 0}, "n_negatives"),
        ({"tau": 0}, "tau"),
        ({"tau_align": -1.0}, "tau_align"),
        ({"align_weight": -0.1}, "align_weight"),
        ({"loss_reduction": "max"}, "loss_reduction"),
        ({"missing_profile": "none"}, "missing_profile"),
        ({"mask_padding": "no"}, "mask_padding"),
        ({"shared_negatives": 1}, "shared_negatives"),
    ],
)
def test_a_wrong_key_is_named(overrides: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        build(**overrides)
