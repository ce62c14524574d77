"""LLMCDSR: the meta step against whole-model differentiation, and what its gradient does."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from in_memory import random_dataset, settings
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.model.llmcdsr import LLMCDSR
from recbole_cdsr.model.noisy_sequences import NoisySequences
from recbole_cdsr.model.training_sequences import TrainingSequences

SIZES = [9, 6, 8]
K_RECALLED = 3
SMALL = {
    "hidden_size": 8,
    "n_heads": 2,
    "MAX_ITEM_LIST_LENGTH": 12,
    "hidden_dropout_prob": 0.0,
    "attn_dropout_prob": 0.0,
    "n_recalled": K_RECALLED,
}


def build(sizes: list[int] = SIZES, seed: int = 0, spread: float = 0.2, **overrides) -> LLMCDSR:
    """A model whose biases and layer norms differ from their start by normal numbers of that spread."""
    dataset = random_dataset(sizes, n_users=4, width=10)
    torch.manual_seed(seed)
    model = LLMCDSR(settings("LLMCDSR", **{**SMALL, **overrides}), dataset).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
        model.item_embedding.weight[0] = 0
        if model.aligned:
            model.recall_network.projections.normal_()
            model.recall_network.item_table[1:].normal_()
    return model


def random_rows(lengths: list[int], n_items: int, generator: torch.Generator) -> TrainingSequences:
    total = sum(lengths)
    items, targets, negatives = (torch.randint(1, n_items + 1, (total,), generator=generator) for _ in range(3))
    targets[torch.rand(total, generator=generator) < 0.2] = 0
    return TrainingSequences(torch.tensor(lengths), items, targets, negatives.masked_fill(targets == 0, 0))


def random_case(model: LLMCDSR, seed: int = 0) -> tuple[TrainingSequences, NoisySequences, TrainingSequences]:
    """Real rows, two noisy users with two entries each (three domains), overlapped rows."""
    generator = torch.Generator().manual_seed(seed)
    n_items = sum(SIZES)
    layout = random_rows([8, 9], n_items, generator)
    sources = torch.full((17,), -1)
    sources[[0, 2, 3, 6]] = torch.tensor([0, K_RECALLED + 1, 2, 1])  # entries 0 and 1 belong to the first row
    sources[[9, 12, 13]] = torch.tensor([2 * K_RECALLED, 3 * K_RECALLED + 2, 2 * K_RECALLED + 1])
    items = layout.items.masked_fill(sources >= 0, 0)
    into = torch.tensor([1, 2, 0, 1])
    texts = torch.randn(4, 5, 10, generator=generator).double()
    projected = torch.stack([model.recall_network.project(t, o) for t, o in zip(texts, into.tolist(), strict=True)])
    noisy = NoisySequences(
        layout.with_items(items), sources, projected, torch.tensor([5, 3, 2, 4]), into, torch.full((4,), K_RECALLED)
    )
    return random_rows([3, 7], n_items, generator), noisy, random_rows([5, 2, 6], n_items, generator)


def meta_gradient_of_the_whole_model(
    model: LLMCDSR, real: TrainingSequences, noisy: NoisySequences, overlapped: TrainingSequences
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Shadow loss, meta loss and gradient by `torch.func` on all parameters, dense table and all."""
    pooling = model.recall_network.pooling
    theta = {name: p.detach() for name, p in model.named_parameters() if p is not pooling}

    def loss(parameters: dict, batches: list[tuple[TrainingSequences, torch.Tensor | None]]) -> torch.Tensor:
        table, terms = parameters["item_embedding.weight"], []
        thread = {n.removeprefix("thread."): p for n, p in parameters.items() if n.startswith("thread.")}
        for rows, inputs in batches:
            vectors = table[rows.items] if inputs is None else inputs
            h = functional_call(model.thread, thread, (rows.packed, 8**0.5 * vectors))
            for t in rows.learnt.tolist():
                positive, negative = h[t] @ table[rows.targets[t]], h[t] @ table[rows.negatives[t]]
                terms.append(torch.log1p(torch.exp(-positive)) + torch.log1p(torch.exp(negative)))
        return torch.stack(terms).mean()

    def shadow(parameters: dict, w: torch.Tensor) -> torch.Tensor:
        network, size = model.recall_network, K_RECALLED
        z = []
        for e, count in enumerate(noisy.counts.tolist()):
            texts = noisy.projected[e, :count]
            z.append(torch.softmax(texts @ w[noisy.into[e]], dim=0) @ texts)
        with torch.no_grad():
            recalled, _ = network.recall(torch.stack([v.detach() for v in z]), noisy.into)
        filled = noisy.filled(recalled)
        inputs = list(parameters["item_embedding.weight"].detach()[filled.items])
        for t, source in enumerate(noisy.sources.tolist()):
            if source >= 0:
                entry = z[source // size]
                inputs[t] = inputs[t] + (entry - entry.detach()) / size
        return loss(parameters, [(real, None), (filled, torch.stack(inputs))])

    w = pooling.detach().clone().requires_grad_()
    leaves = {name: p.clone().requires_grad_() for name, p in theta.items()}
    with sdpa_kernel(SDPBackend.MATH):
        shadow_loss = shadow(leaves, w)
        gradients = torch.autograd.grad(shadow_loss, list(leaves.values()), create_graph=True, materialize_grads=True)
        after = {
            name: p - model.inner_step.update(g)
            for (name, p), g in zip(leaves.items(), gradients, strict=True)
        }  # fmt: skip
        meta_loss = loss(after, [(overlapped, None)])
    return shadow_loss, meta_loss, torch.autograd.grad(meta_loss, w)[0]


@pytest.mark.parametrize("inner", [{}, {"inner_optimizer": "adam", "inner_learning_rate": 1e-3}])
@pytest.mark.parametrize("mask_padding", [True, False])
def test_the_meta_step_is_that_of_the_whole_model_in_three_domains(inner: dict, mask_padding: bool) -> None:
    model = build(mask_padding=mask_padding, **inner)
    batches = random_case(model)
    shadow_loss, meta_loss, expected = meta_gradient_of_the_whole_model(model, *batches)
    step = model.meta_step(*batches)
    assert torch.allclose(step.shadow_loss, shadow_loss, rtol=1e-12)
    assert torch.allclose(step.meta_loss, meta_loss, rtol=1e-12)
    (gradient,) = torch.autograd.grad(step.meta_loss, [model.recall_network.pooling])
    assert gradient.abs().amax(dim=1).min() > 0  # every domain is recalled into
    # Adam's update divides by gradients near zero, in another order of summation here.
    tolerance = 1e-5 if inner else 1e-10
    assert (gradient - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize("learnt", [True, False])
@pytest.mark.parametrize("mask_padding", [True, False])
def test_noisy_rows_without_pseudo_items_or_targets_have_no_meta_gradient(learnt: bool, mask_padding: bool) -> None:
    model = build(mask_padding=mask_padding)
    real, noisy, overlapped = random_case(model)
    layout = noisy.layout
    if learnt:  # no pseudo item is left
        layout, sources = layout.with_items(layout.items.clamp(min=1)), torch.full_like(noisy.sources, -1)
    else:
        nothing = torch.zeros_like(layout.targets)
        layout, sources = TrainingSequences(layout.lengths, layout.items, nothing, nothing), noisy.sources
    step = model.meta_step(real, replace(noisy, layout=layout, sources=sources), overlapped)
    (gradient,) = torch.autograd.grad(step.meta_loss, [model.recall_network.pooling])
    assert step.meta_loss > 0
    assert not gradient.any()


def test_only_items_of_the_batch_take_part() -> None:
    small, large = build([40, 40, 40]), build([4000, 4000, 4000])
    assert len(small.item_embedding.weight) < len(large.item_embedding.weight)
    sizes = [len(model.meta_step(*random_case(model)).known.items) for model in (small, large)]
    assert max(sizes) < 100


def test_the_real_step_takes_over_the_gradient_of_the_real_rows() -> None:
    model = build()
    real, noisy, overlapped = random_case(model)
    known = model.meta_step(real, noisy, overlapped).known
    parameters = [p for p in model.parameters() if p is not model.recall_network.pooling]
    plain = model.joint_loss(real, noisy)
    shared = model.joint_loss(real, noisy, known)
    assert torch.allclose(plain, shared, rtol=1e-12)
    for one, other in zip(*(torch.autograd.grad(loss, parameters) for loss in (plain, shared)), strict=True):
        assert torch.allclose(one, other, atol=1e-13)
    # One mean over all positions, real and noisy.
    filled = noisy.filled(model.recalled_items(noisy))
    parts = [(model.sequence_loss(rows), len(rows.learnt)) for rows in (real, filled)]
    expected = sum(loss * count for loss, count in parts) / sum(count for _, count in parts)
    assert torch.allclose(plain, expected, rtol=1e-12)


def test_a_recalled_item_sends_no_gradient_to_the_table_in_the_shadow_step_and_does_in_the_real_one() -> None:
    model = build()
    _, noisy, _ = random_case(model)
    recalled = model.recalled_items(noisy)
    filled = noisy.filled(recalled)
    table = model.item_embedding.weight
    pooled = torch.zeros(4, 8, dtype=torch.float64, requires_grad=True)
    inputs = noisy.straight_through(table[filled.items], pooled, recalled.shape[1])
    assert torch.equal(inputs, table[filled.items])
    of_table, of_pooled = torch.autograd.grad(inputs.sum(), [table, pooled], materialize_grads=True)
    assert not of_table.any()
    surviving = torch.bincount(noisy.sources[noisy.pseudo_positions] // K_RECALLED, minlength=4)
    assert torch.allclose(of_pooled, (surviving[:, None] / K_RECALLED).expand(4, 8).double())
    (of_table,) = torch.autograd.grad(model.joint_loss(random_case(model)[0], noisy), [table])
    assert of_table[filled.items[noisy.pseudo_positions]].any(dim=1).all()


# ---- what the meta-gradient does

USEFUL, AFTER, N_NAMES, N_USERS, N_FIRST = 16, 5, 4, 32, 12


def constructed_case(
    model: LLMCDSR, generator: torch.Generator
) -> tuple[TrainingSequences, NoisySequences, TrainingSequences]:
    """Overlapped users who consumed USEFUL of the second domain go on to AFTER; one of four names means USEFUL.

    Noisy users also go on to AFTER, with two recalled items before it. The other three names are noise.
    """
    table = model.item_embedding.weight.detach()

    def draw(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high + 1, shape, generator=generator)

    noise = draw(N_FIRST + 1, 2 * N_FIRST - 1, N_USERS, N_NAMES - 1)
    names = torch.cat([torch.full((N_USERS, 1), USEFUL), noise + (noise >= USEFUL)], dim=1)
    first, zero, after = (
        draw(6, N_FIRST, N_USERS),
        torch.zeros(N_USERS, dtype=torch.long),
        torch.full((N_USERS,), AFTER),
    )
    negatives = draw(6, N_FIRST, 2, N_USERS)

    def rows(*columns: torch.Tensor) -> torch.Tensor:
        return torch.stack(columns, dim=1).flatten()

    layout = TrainingSequences(
        torch.full((N_USERS,), 3), rows(first, zero, zero), rows(zero, zero, after), rows(zero, zero, negatives[0])
    )
    entry = torch.arange(N_USERS) * 2
    noisy = NoisySequences(
        layout,
        rows(zero - 1, entry, entry + 1),
        table[names],
        torch.full((N_USERS,), N_NAMES),
        torch.ones(N_USERS, dtype=torch.long),
        torch.full((N_USERS,), 2),
    )
    overlapped = TrainingSequences(
        torch.full((N_USERS,), 2),
        rows(draw(6, N_FIRST, N_USERS), torch.full((N_USERS,), USEFUL)),
        rows(zero, after),
        rows(zero, negatives[1]),
    )
    items, targets, others = (draw(1, N_FIRST, 2 * N_USERS) for _ in range(3))
    return TrainingSequences(torch.full((N_USERS,), 2), items, targets, others), noisy, overlapped


@cache
def learn_pooling(inner: str, seed: int, steps: int = 40) -> tuple[float, float]:
    """Cosine of the mean step with the useful item's direction, and the useful name's weight at the end."""
    rate = {"sgd": 0.5, "adam": 1e-3}[inner]
    settings_of_case = {"n_layers": 1, "n_heads": 1, "n_recalled": 2, "inner_eps": "torch"}
    model = build([N_FIRST, N_FIRST], seed, 0.0, inner_optimizer=inner, inner_learning_rate=rate, **settings_of_case)
    with torch.no_grad():  # names, recalled items and inputs live in one space
        model.recall_network.pooling.zero_()
        model.item_embedding.weight[1:].normal_(std=0.2)
        model.recall_network.item_table.copy_(model.item_embedding.weight)
    pooling = model.recall_network.pooling
    optimizer = torch.optim.Adam([pooling], lr=0.1)
    generator = torch.Generator().manual_seed(seed)
    steps_taken, weight = [], 0.0
    for _ in range(steps):
        real, noisy, overlapped = constructed_case(model, generator)
        (pooling.grad,) = torch.autograd.grad(model.meta_step(real, noisy, overlapped).meta_loss, [pooling])
        optimizer.step()
        steps_taken.append(-pooling.grad[1])
        weight = model.recall_network.pool(noisy.projected, noisy.counts, noisy.into)[1][:, 0].mean().item()
    direction = model.item_embedding.weight[USEFUL].detach()
    return torch.cosine_similarity(torch.stack(steps_taken).mean(0), direction, dim=0).item(), weight


def test_with_sgd_the_meta_gradient_moves_the_pooling_towards_the_useful_name() -> None:
    cosines, weights = zip(*(learn_pooling("sgd", seed) for seed in range(5)), strict=True)
    assert min(cosines) > 0.5
    assert sum(weights) / 5 > 0.6  # 0.25 is uniform


def test_with_adam_the_meta_gradient_often_points_elsewhere() -> None:
    """Its first update is ± the learning rate wherever |g| is not tiny, so it hardly depends on what was recalled."""
    (sgd, sgd_weights), (adam, adam_weights) = (
        zip(*(learn_pooling(inner, seed) for seed in range(5)), strict=True) for inner in ("sgd", "adam")
    )
    assert min(adam) < 0
    assert sum(adam) / 5 < sum(sgd) / 5 - 0.3
    assert sum(adam_weights) < sum(sgd_weights)


# ---- ablations


def test_without_alignment_raw_texts_recall_and_nothing_is_learnt_of_pooling() -> None:
    model = build(alignment=False)
    assert not model.learns_pooling
    assert not model.recall_network.pooling.requires_grad
    texts = model.recall_network.item_table[3:4].clone()  # the text of item 3 recalls item 3
    pooled, _ = model.recall_network.pool(texts[:, None], torch.tensor([1]), torch.tensor([0]))
    assert model.recall_network.recall(pooled, torch.tensor([0]))[0][0, 0] == 3


def test_random_insertion_stays_in_the_domain_and_is_not_learnt_from() -> None:
    model = build(augmentation="random")
    assert not model.learns_pooling
    _, noisy, _ = random_case(model)
    items = model.recalled_items(noisy)
    assert (model.item_domain[items] == noisy.into[:, None]).all()
    assert not torch.equal(items, model.recalled_items(noisy))


def test_without_meta_learning_pooling_stays_uniform() -> None:
    model = build(meta_learning=False)
    assert not model.learns_pooling
    fresh = LLMCDSR(settings("LLMCDSR", meta_learning=False), random_dataset(SIZES, n_users=4))
    _, weights = fresh.recall_network.pool(torch.randn(1, 4, 64), torch.tensor([4]), torch.tensor([0]))
    assert torch.allclose(weights, torch.full((1, 4), 0.25))


@pytest.mark.parametrize(
    ("key", "value"),
    [("augmentation", "some"), ("n_recalled", 0), ("meta_interval", 0), ("alignment", 1), ("meta_learning_rate", -1)],
)
def test_settings_that_cannot_be_are_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        LLMCDSR.check_settings(settings("LLMCDSR", **{key: value}))
