"""LLM4CDSR on small random data sets of two and three domains."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch
from dense_thread import dense_states
from in_memory import Settings, random_dataset, random_training_batch, settings
from recbole.data.interaction import Interaction
from recbole.utils import get_flops

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.llm.reduction import pca_over_all, pca_per_domain
from recbole_cdsr.model.llm4cdsr import LLM4CDSR
from recbole_cdsr.model.losses import soft_clip

SIZES = [11, 7, 9]
LENGTHS = [1, 6, 3, 12, 2, 9]
SMALL = {"hidden_size": 8, "global_dim": 16, "MAX_ITEM_LIST_LENGTH": 12, "n_heads": 2}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}


def build(n_domains: int = 2, seed: int = 0, **overrides) -> tuple[LLM4CDSR, object]:
    dataset = random_dataset(SIZES[:n_domains], n_users=10)
    torch.manual_seed(seed)
    return LLM4CDSR(settings("LLM4CDSR", **{**SMALL, **overrides}), dataset), dataset


def evaluation_rows(batch: Interaction, n_domains: int, items: torch.Tensor | None = None) -> Interaction:
    n_rows = len(batch["item_length"])
    fields = {name: batch[name] for name in ("user_id", "item_id_list", "item_length")}
    fields["target_domain"] = torch.arange(n_rows) % n_domains
    if items is not None:
        fields["item_id"] = items
    return Interaction(fields)


def naive_losses(model: LLM4CDSR, batch: Interaction) -> list[torch.Tensor]:
    """L_rec, α·L_reg and β·L_user row by row, each thread run on one row alone."""
    d, width = model.hidden_size, model.text_table.shape[1]
    item_domain = model.item_domain.tolist()

    def g(ids):
        return model.adapter(model.text_table[ids])

    def local(ids):
        return model.local_embedding.weight[ids]

    per_domain = [[] for _ in range(model.n_domains)]
    last_states = []
    for row, length in enumerate(batch["item_length"].tolist()):
        window = [
            *batch["item_id_list"][row, :length].tolist(),
            batch["target_id_list"][row, length - 1].item(),
        ]
        mixed = dense_states(model.mixed_thread, [width**0.5 * g(window[:-1])])[0][-length:]
        last_states.append(mixed[-1])
        for domain in range(model.n_domains):
            places = [place for place, item in enumerate(window) if item_domain[item] == domain]
            if len(places) < 2:
                continue
            inputs = [window[place] for place in places[:-1]]
            thread = dense_states(model.domain_threads[domain], [d**0.5 * local(inputs)])[0][-len(inputs) :]
            for position, place in enumerate(places[1:]):
                negative = batch["neg_item_id_list"][row, place - 1].item()
                score_of = {
                    sign: mixed[place - 1] @ g(item) + thread[position] @ local(item)
                    for sign, item in ((-1, window[place]), (1, negative))
                }
                per_domain[domain].append(sum(torch.log1p(torch.exp(s * v)) for s, v in score_of.items()))
    rec = sum(torch.stack(losses).mean() for losses in per_domain if losses)

    pairs, contrasts = batch["domain_item_id"], []
    for a in range(model.n_domains):
        for b in range(a + 1, model.n_domains):
            rows = [row for row in range(len(pairs)) if pairs[row, a] and pairs[row, b]]
            if rows:
                contrasts.append(soft_clip(g(pairs[rows, a]), g(pairs[rows, b]), model.tau_reg))
    profiles = model.user_adapter(model.profile_table[batch["user_id"]])
    user = soft_clip(profiles, torch.stack(last_states), model.tau)
    return [rec, model.alpha * torch.stack(contrasts).mean(), model.beta * user]


@pytest.mark.parametrize("n_domains", [2, 3])
@pytest.mark.parametrize("official", [False, True])
def test_losses_and_gradients_are_those_of_the_loops(n_domains: int, official: bool) -> None:
    switches = {"attention": "bidirectional", "mask_padding": False} if official else {}
    model, dataset = build(n_domains, tau=0.6, tau_reg=1.7, alpha=0.3, beta=0.8, **NO_DROPOUT, **switches)
    model.double()
    batch = random_training_batch(dataset, LENGTHS)
    losses, expected = model.calculate_loss(batch), naive_losses(model, batch)
    for loss, value in zip(losses, expected, strict=True):
        assert abs(loss - value) < 1e-9
    parameters = dict(model.named_parameters())
    ours = torch.autograd.grad(sum(losses), list(parameters.values()))
    theirs = torch.autograd.grad(sum(expected), list(parameters.values()))
    for name, a, b in zip(parameters, ours, theirs, strict=True):
        assert (a - b).abs().max() < 1e-9, name


@pytest.mark.parametrize("n_domains", [2, 3])
def test_full_sort_scores_are_the_formula_inside_the_target_domain(n_domains: int) -> None:
    model, dataset = build(n_domains)
    model.eval()
    batch = evaluation_rows(random_training_batch(dataset, LENGTHS), n_domains)
    with torch.no_grad():
        scores = model.full_sort_predict(batch)
        everywhere = model.full_sort_predict(
            Interaction({k: batch[k] for k in ("user_id", "item_id_list", "item_length")})
        )
    inside = model.item_domain[None] == batch["target_domain"][:, None]
    assert scores.shape == (len(LENGTHS), model.n_items)
    assert torch.equal(torch.isfinite(scores), inside)
    assert torch.equal(torch.isfinite(everywhere), (model.item_domain >= 0).expand_as(everywhere))
    assert torch.allclose(scores[inside], everywhere[inside], atol=1e-5)

    for candidate in range(1, model.n_items):
        rows = evaluation_rows(batch, n_domains, torch.full((len(LENGTHS),), candidate))
        with torch.no_grad():
            alone = model.predict(rows)
        assert torch.allclose(alone, everywhere[:, candidate], atol=1e-5)


def test_predict_gives_the_same_with_and_without_cached_item_vectors() -> None:
    model, dataset = build()
    model.eval()
    rows = evaluation_rows(random_training_batch(dataset, LENGTHS), 2, torch.tensor([1, 3, 17, 5, 12, 2]))
    with torch.no_grad():
        fresh = model.predict(rows)
        model.full_sort_predict(rows)
        cached = model.predict(rows)
    assert torch.allclose(fresh, cached, atol=1e-6)


@pytest.mark.parametrize("change", ["step in evaluation mode", "training mode", "load_state_dict"])
def test_cached_item_vectors_follow_the_parameters(change: str) -> None:
    model, dataset = build(seed=0)
    other, _ = build(seed=1)
    rows = evaluation_rows(random_training_batch(dataset, LENGTHS), 2)
    model.eval()
    with torch.no_grad():
        before = model.full_sort_predict(rows)
        if change == "load_state_dict":
            model.load_state_dict(other.state_dict())
        else:
            model.train(change == "training mode")
            for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
                mine.copy_(theirs)
            model.eval()
        after = model.full_sort_predict(rows)
        expected = other.eval().full_sort_predict(rows)
    assert not torch.equal(before, after)
    assert torch.equal(after, expected)


def test_a_fused_step_in_evaluation_mode_leaves_nothing_stale() -> None:
    model, dataset = build()
    batch = random_training_batch(dataset, LENGTHS)
    rows = evaluation_rows(batch, 2)
    model.eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)  # moves no version counter
    with torch.inference_mode():
        before = model.full_sort_predict(rows)
    losses = model.calculate_loss(batch)
    (sum(losses) if isinstance(losses, tuple) else losses).backward()
    optimizer.step()
    with torch.no_grad():
        after = model.full_sort_predict(rows)
        model.train().eval()
        assert torch.equal(after, model.full_sort_predict(rows))
    assert not torch.equal(before, after)


def test_local_tables_begin_with_a_share_of_the_reduced_text() -> None:
    whole, dataset = build()
    tenth, _ = build(local_init_scale=0.1)
    assert torch.allclose(tenth.local_embedding.weight, 0.1 * whole.local_embedding.weight)
    expected = pca_per_domain(dataset.llm_features.items, dataset.domain_offsets, SMALL["hidden_size"])
    assert torch.allclose(whole.local_embedding.weight, torch.from_numpy(expected).to(whole.local_embedding.weight))


@pytest.mark.parametrize("freeze_local", [False, True])
def test_a_training_step_moves_what_is_trainable_and_nothing_else(freeze_local: bool) -> None:
    model, dataset = build(freeze_local=freeze_local)
    text, local = model.text_table.clone(), model.local_embedding.weight.detach().clone()
    frozen_profiles, others = model.profile_table.clone(), copy.deepcopy(dict(model.named_parameters()))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    sum(model.calculate_loss(random_training_batch(dataset, LENGTHS))).backward()
    optimiser.step()
    assert torch.equal(model.text_table, text)
    assert torch.equal(model.profile_table, frozen_profiles)
    assert torch.equal(model.local_embedding.weight, local) == freeze_local
    assert torch.equal(model.local_embedding.weight[0], local[0])
    for name in ("adapter.0.weight", "user_adapter.1.weight", "mixed_thread.blocks.1.in_proj_weight"):
        assert not torch.equal(dict(model.named_parameters())[name], others[name])


def test_text_tables_hold_what_the_features_give() -> None:
    model, dataset = build()
    items = dataset.llm_features.items
    assert np.array_equal(model.text_table.numpy(), pca_over_all(items, SMALL["global_dim"]))
    local = pca_per_domain(items, dataset.domain_offsets, SMALL["hidden_size"])
    assert np.array_equal(model.local_embedding.weight.detach().numpy(), local)
    as_they_are, _ = build(global_dim=None)
    assert np.array_equal(as_they_are.text_table.numpy(), items)


def test_a_trainable_global_table_leaves_the_feature_store_alone() -> None:
    model, dataset = build(freeze_emb=False, global_dim=None)
    items = dataset.llm_features.items.copy()
    sum(model.calculate_loss(random_training_batch(dataset, LENGTHS))).backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert not np.array_equal(model.text_table.detach().numpy(), items)
    assert np.array_equal(dataset.llm_features.items, items)
    assert "text_table" in model.state_dict()


def test_checkpoints_carry_no_frozen_text_table() -> None:
    model, _ = build()
    names = model.state_dict().keys()
    assert not {"text_table", "profile_table", "item_domain"} & names
    assert "local_embedding.weight" in names


@pytest.mark.parametrize(
    ("overrides", "n_parts"),
    [
        ({}, 3),
        ({"alpha": 0}, 2),
        ({"beta": 0}, 2),
        ({"use_profiles": False}, 2),
        ({"alpha": 0.0, "beta": 0.0}, 1),
        ({"use_global": False}, 1),
        ({"use_local": False}, 3),
    ],
)
def test_parts_that_are_off_are_left_out(overrides: dict, n_parts: int) -> None:
    model, dataset = build(**overrides)
    batch = random_training_batch(dataset, LENGTHS)
    losses = model.calculate_loss(batch)
    assert len(losses) == n_parts
    sum(losses).backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if p.requires_grad)
    model.eval()
    with torch.no_grad():
        scores = model.full_sort_predict(evaluation_rows(batch, 2))
    assert torch.isfinite(scores).any(dim=1).all()


def test_the_score_without_one_part_is_the_other_part() -> None:
    both, dataset = build()
    rows = evaluation_rows(random_training_batch(dataset, LENGTHS), 2)
    total = torch.zeros(())
    for off in ("use_global", "use_local"):
        part, _ = build(**{off: False})
        part.load_state_dict({k: both.state_dict()[k] for k in part.state_dict()})
        with torch.no_grad():
            total = total + part.eval().full_sort_predict(rows)
    with torch.no_grad():
        expected = both.eval().full_sort_predict(rows)
    assert torch.allclose(total, expected, atol=1e-5)


def test_without_profiles_there_is_no_guidance() -> None:
    dataset = random_dataset(SIZES[:2], n_users=10)
    dataset.llm_features = dataset.llm_features._replace(profiles=None)
    model = LLM4CDSR(settings("LLM4CDSR", **SMALL), dataset)
    assert not model.guides
    assert not any("user_adapter" in name for name, _ in model.named_parameters())


def test_regularisation_uses_only_rows_with_both_items() -> None:
    model, _ = build(n_domains=2)
    pairs = torch.tensor([[1, 12], [0, 13], [4, 0], [0, 0], [2, 15], [3, 18]])
    vectors = model.adapter(model.text_table[pairs])
    full = [0, 4, 5]
    expected = soft_clip(vectors[full, 0], vectors[full, 1], model.tau_reg)
    assert torch.equal(model.item_regularisation(pairs, vectors), expected)
    none = torch.zeros_like(pairs)
    assert model.item_regularisation(none, model.adapter(model.text_table[none])).item() == 0


def test_batches_without_pairs_train_without_regularisation_and_say_so(caplog) -> None:
    model, dataset = build()
    batch = random_training_batch(dataset, LENGTHS)
    del batch.interaction["domain_item_id"]
    with caplog.at_level(logging.WARNING):
        assert len(model.calculate_loss(batch)) == 2
        model.calculate_loss(batch)
    assert sum("domain_item_id" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("length", [1, 12])
def test_a_batch_of_one(length: int) -> None:
    model, dataset = build()
    batch = random_training_batch(dataset, [length])
    loss = sum(model.calculate_loss(batch))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_rows_without_history_are_scored_by_the_norms_biases() -> None:
    model, _ = build()
    model.eval()
    rows = Interaction(
        {
            "item_id_list": torch.tensor([[0, 0], [3, 5]]),
            "item_length": torch.tensor([0, 2]),
            "target_domain": torch.tensor([0, 1]),  # row 1 has no item of its target's domain
        }
    )
    with torch.no_grad():
        scores = model.full_sort_predict(rows)
        g, local = model.adapter(model.text_table), model.local_embedding.weight
        h, h_0 = model.mixed_thread.last_norm.bias, model.domain_threads[0].last_norm.bias
        expected = (g @ h + local @ h_0)[1:12]
    assert torch.allclose(scores[0, 1:12], expected, atol=1e-6)
    assert torch.isfinite(scores[1, 12:]).all()


def test_several_negatives_per_position() -> None:
    model, dataset = build(**NO_DROPOUT)
    model.double()
    batch = random_training_batch(dataset, LENGTHS, n_negatives=3)
    together = model.calculate_loss(batch)[0]
    singles = []
    for j in range(3):
        one = Interaction({**batch.interaction, "neg_item_id_list": batch["neg_item_id_list"][:, :, j]})
        singles.append(model.calculate_loss(one)[0])
    assert abs(together - sum(singles) / 3) < 1e-9


def test_the_width_of_the_batch_does_not_matter() -> None:
    model, dataset = build(**NO_DROPOUT)
    batch = random_training_batch(dataset, [1, 6, 3])
    wider = {
        name: torch.cat([values, torch.zeros_like(values)], dim=1) if name.endswith("_list") else values
        for name, values in batch.interaction.items()
    }
    for a, b in zip(model.calculate_loss(batch), model.calculate_loss(Interaction(wider)), strict=True):
        assert a.item() == b.item()


class ProbedDataset:
    """What RecBole's FLOPs probe asks of a data set: one interaction."""

    def __init__(self, row: Interaction) -> None:
        self.row = row

    def __getitem__(self, index: torch.Tensor) -> Interaction:
        return self.row[index - 1]


def test_recbole_can_count_the_operations_of_predict() -> None:
    model, dataset = build()
    batch = random_training_batch(dataset, [5])
    row = Interaction(
        {
            "user_id": torch.tensor([1]),
            "item_id": torch.tensor([4]),
            "item_id_list": batch["item_id_list"],
            "item_length": batch["item_length"],
        }
    )
    operations = get_flops(model, ProbedDataset(row), torch.device("cpu"), logging.getLogger(), lambda _, inter: inter)
    # At least the projections of five tokens in two threads of two blocks, 6 d² each.
    assert operations >= 5 * 2 * 2 * 6 * SMALL["hidden_size"] ** 2 / 2
    assert not any("total_ops" in name for name, _ in model.named_buffers())


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"hidden_size": 9}, "hidden_size"),
        ({"attention": "both"}, "attention"),
        ({"tau": 0}, "tau"),
        ({"alpha": -1}, "alpha"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob"),
        ({"n_layers": "two"}, "n_layers"),
        ({"mask_padding": "no"}, "mask_padding"),
        ({"use_global": False, "use_local": False}, "use_global"),
        ({"global_dim": 0}, "global_dim"),
    ],
)
def test_a_wrong_key_is_named(overrides: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        build(**overrides)


def test_settings_stand_in_reads_missing_keys_as_recbole_does() -> None:
    assert Settings()["no_such_key"] is None
