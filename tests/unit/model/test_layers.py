"""The packed thread against a dense one, leaks, empty rows, dropout."""

from __future__ import annotations

import pytest
import torch
from dense_thread import dense_states

from recbole_cdsr.model.layers import AttentionMasks, SASRecBlock, SASRecThread, dropout
from recbole_cdsr.model.packed_windows import PackedWindows

WINDOW, WIDTH = 12, 8
LENGTHS = [0, 1, WINDOW, 5, 0, 9, 2, 8, 1, 0]


def random_thread(seed: int = 0, dropout: float = 0.0, window: int = WINDOW, **settings) -> SASRecThread:
    """A thread in float64 whose every parameter is random, biases and norms included."""
    torch.manual_seed(seed)
    thread = SASRecThread(
        WIDTH,
        2,
        settings.pop("n_heads", 2),
        window,
        dropout,
        settings.pop("attn_dropout", dropout),
        **settings,
    )
    with torch.no_grad():
        for parameter in thread.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return thread.double()


def random_rows(lengths: list[int], seed: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, WIDTH, generator=generator, dtype=torch.float64) for n in lengths]


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("mask_padding", [True, False])
def test_states_that_are_not_wanted_are_left_out(attention, mask_padding) -> None:
    thread = random_thread(attention=attention, mask_padding=mask_padding)
    vectors = torch.cat(random_rows(LENGTHS)).requires_grad_()
    packed = PackedWindows.from_lengths(torch.tensor(LENGTHS))
    wanted = torch.tensor([3, 0, 20, 21, 37])
    every, some = thread(packed, vectors)[wanted], thread(packed, vectors, wanted)
    assert torch.allclose(some, every, rtol=1e-12)
    of_every, of_some = (torch.autograd.grad((s**2).sum(), [vectors, *thread.parameters()]) for s in (every, some))
    for one, other in zip(of_every, of_some, strict=True):
        assert (one - other).abs().max() < 1e-9
    assert thread(packed, vectors, wanted[:0]).shape == (0, WIDTH)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("mask_padding", [True, False])
@pytest.mark.parametrize("positions", ["count", "column"])
@pytest.mark.parametrize("n_heads", [1, 2, 4])
def test_states_are_those_of_the_dense_thread(attention, mask_padding, positions, n_heads) -> None:
    thread = random_thread(attention=attention, mask_padding=mask_padding, positions=positions, n_heads=n_heads)
    rows = random_rows(LENGTHS)
    packed = PackedWindows.from_lengths(torch.tensor(LENGTHS))
    states = thread(packed, torch.cat(rows))
    dense = dense_states(thread, rows)
    expected = torch.cat([state[WINDOW - n :] for state, n in zip(dense, LENGTHS, strict=True)])
    assert (states - expected).abs().max() < 1e-9
    last = torch.stack([state[-1] for state in dense])  # an empty row's is the last norm's bias
    assert (thread.last_state(packed, states) - last).abs().max() < 1e-9


@pytest.mark.parametrize("mask_padding", [True, False])
@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_gradients_are_those_of_the_dense_thread(attention, mask_padding) -> None:
    thread = random_thread(attention=attention, mask_padding=mask_padding)
    rows = random_rows(LENGTHS)
    packed = PackedWindows.from_lengths(torch.tensor(LENGTHS))
    direction = torch.randn(sum(LENGTHS), WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def gradients(states: torch.Tensor) -> list[torch.Tensor]:
        return torch.autograd.grad((states * direction).sum(), list(thread.parameters()))

    packed_gradients = gradients(thread(packed, torch.cat(rows)))
    dense = dense_states(thread, rows)
    dense_gradients = gradients(torch.cat([s[WINDOW - n :] for s, n in zip(dense, LENGTHS, strict=True)]))
    for (name, _), ours, theirs in zip(thread.named_parameters(), packed_gradients, dense_gradients, strict=True):
        assert (ours - theirs).abs().max() < 1e-9, name
    assert all(gradient.abs().max() > 0 for gradient in packed_gradients)


@pytest.mark.parametrize("mask_padding", [True, False])
@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_only_bidirectional_attention_sees_later_items(attention, mask_padding) -> None:
    thread = random_thread(attention=attention, mask_padding=mask_padding)
    packed = PackedWindows.from_lengths(torch.tensor([9, 4]))
    vectors = torch.cat(random_rows([9, 4]))
    changed = vectors.clone()
    changed[6] += 1.0
    before, after = thread(packed, vectors), thread(packed, changed)
    earlier_differ = (before[:6] - after[:6]).abs().max() > 1e-6
    assert earlier_differ == (attention == "bidirectional")
    assert (before[6:9] - after[6:9]).abs().max() > 1e-6
    assert torch.equal(before[9:], after[9:])  # the other row


def test_a_batch_of_empty_rows_yields_the_bias_of_the_last_norm() -> None:
    thread = random_thread()
    packed = PackedWindows.from_lengths(torch.zeros(3, dtype=torch.long))
    states = thread(packed, torch.zeros(0, WIDTH, dtype=torch.float64))
    assert states.shape == (0, WIDTH)
    last = thread.last_state(packed, states)
    assert torch.equal(last, thread.last_norm.bias.expand(3, -1))
    last.sum().backward()
    assert torch.equal(thread.last_norm.bias.grad, torch.full((WIDTH,), 3.0, dtype=torch.float64))


def test_dropout_acts_in_training_only() -> None:
    thread = random_thread(dropout=0.5)
    packed = PackedWindows.from_lengths(torch.tensor([5, 3]))
    vectors = torch.cat(random_rows([5, 3]))
    assert not torch.equal(thread(packed, vectors), thread(packed, vectors))
    thread.eval()
    assert torch.equal(thread(packed, vectors), thread(packed, vectors))


def test_dropped_padding_keys_are_dropped_one_by_one() -> None:
    """The joint weight of P padding keys under dropout has the mean and variance of P separate keys."""
    torch.manual_seed(0)
    p, n_padding, n_draws = 0.5, 9, 4000
    block = random_thread(attn_dropout=p, mask_padding=False).blocks[0].train()
    # One query whose real key and the padding key have logit 0 and log 9: weights 0.1 and 9 × 0.1.
    q = torch.zeros(n_draws, 1, 1, 4, dtype=torch.float64)
    k = torch.zeros(n_draws, 1, 2, 4, dtype=torch.float64)
    v = torch.zeros(n_draws, 1, 2, 4, dtype=torch.float64)
    v[:, :, 1] = 1.0  # only padding carries value
    count = torch.full((n_draws,), float(n_padding), dtype=torch.float64)
    bias = torch.stack([torch.zeros_like(count), count.log()], dim=1)[:, None, None]
    out = block._attention(q, k, v, bias, False, count)[:, 0, 0, 0]
    each = 1 / (n_padding + 1)
    expected_std = (n_padding * (each / (1 - p)) ** 2 * p * (1 - p)) ** 0.5
    assert abs(out.mean() - 0.9) < 4 * expected_std / n_draws**0.5
    assert abs(out.std() / expected_std - 1) < 0.06


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5])
def test_dropout_keeps_the_mean_and_the_share(p: float) -> None:
    torch.manual_seed(0)
    x = torch.full((400, 500), 2.0, dtype=torch.float64, requires_grad=True)
    dropped = dropout(x, p)
    kept = dropped != 0
    assert abs(kept.double().mean().item() - (1 - p)) < 0.005
    assert torch.allclose(dropped[kept], torch.tensor(2 / (1 - p), dtype=torch.float64))
    (gradient,) = torch.autograd.grad(dropped.sum(), x)
    assert torch.allclose(gradient, dropped / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_is_drawn_for_each_entry_on_its_own(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    kept = (dropout(torch.ones(4001, 25, dtype=dtype), 0.2) != 0).double().flatten()
    for lag in (1, 2, 3, 4, 25):  # four entries share a draw
        both = (kept[lag:] * kept[:-lag]).mean().item()
        assert abs(both - 0.64) < 0.008
    for place in range(4):
        assert abs(kept[place::4].mean().item() - 0.8) < 0.01
    assert not torch.equal(*dropout(torch.ones(2, 64, dtype=dtype), 0.2))


@pytest.mark.parametrize("mask_padding", [True, False])
def test_attention_dropout_keeps_the_mean_of_what_is_attended(mask_padding: bool) -> None:
    torch.manual_seed(0)
    block = SASRecBlock(8, 2, 0.0, 0.4).double()
    packed = PackedWindows.from_lengths(torch.tensor([3, 9]))
    masks = AttentionMasks(packed, True, None if mask_padding else 12, torch.float64)
    x = torch.randn(12, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = block.eval()._attend(x, x, masks)
        block.train()
        mean = torch.stack([block._attend(x, x, masks) for _ in range(4000)]).mean(0)
    assert (mean - expected).abs().max() < 0.06 * expected.abs().max()
