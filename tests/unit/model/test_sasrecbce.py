"""The SASRec backbone alone."""

from __future__ import annotations

import pytest
import torch
from dense_thread import dense_states
from in_memory import random_dataset, random_training_batch, settings
from recbole.data.interaction import Interaction

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.model.sasrecbce import SASRecBCE

SMALL = {"hidden_size": 8, "MAX_ITEM_LIST_LENGTH": 12, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}
LENGTHS = [1, 6, 3, 12]


def build(**overrides) -> tuple[SASRecBCE, object]:
    dataset = random_dataset([11, 7, 9], n_users=10)
    torch.manual_seed(0)
    return SASRecBCE(settings("SASRecBCE", **{**SMALL, **overrides}), dataset), dataset


@pytest.mark.parametrize("positions", ["column", "count"])
@pytest.mark.parametrize("mask_padding", [True, False])
def test_loss_and_gradients_are_those_of_a_loop(positions: str, mask_padding: bool) -> None:
    model, dataset = build(positions=positions, mask_padding=mask_padding, n_heads=2)
    model.double()
    batch = random_training_batch(dataset, LENGTHS)
    batch["target_id_list"][3, 4] = 0  # a position that is not to be learnt
    table, terms = model.item_embedding.weight, []
    for row, length in enumerate(LENGTHS):
        vectors = table[batch["item_id_list"][row, :length]] * 8**0.5
        states = dense_states(model.thread, [vectors])[0][-length:]
        for place in range(length):
            target, negative = (batch[name][row, place].item() for name in ("target_id_list", "neg_item_id_list"))
            if target:
                h = states[place]
                terms.append(torch.log1p(torch.exp(-h @ table[target])) + torch.log1p(torch.exp(h @ table[negative])))
    expected = torch.stack(terms).mean()
    loss = model.calculate_loss(batch)
    assert abs(loss - expected) < 1e-9
    ours = torch.autograd.grad(loss, list(model.parameters()))
    theirs = torch.autograd.grad(expected, list(model.parameters()))
    assert all((a - b).abs().max() < 1e-9 for a, b in zip(ours, theirs, strict=True))


def test_predict_and_full_sort_agree_inside_the_target_domain() -> None:
    model, dataset = build()
    model.eval()
    batch = random_training_batch(dataset, LENGTHS)
    fields = {name: batch[name] for name in ("item_id_list", "item_length")}
    domains = torch.tensor([0, 2, 1, 2])
    with torch.no_grad():
        scores = model.full_sort_predict(Interaction({**fields, "target_domain": domains}))
        everywhere = model.full_sort_predict(Interaction(fields))
        inside = model.item_domain[None] == domains[:, None]
        assert torch.equal(torch.isfinite(scores), inside)
        assert torch.allclose(scores[inside], everywhere[inside], atol=1e-6)
        for item in range(1, model.n_items):
            alone = model.predict(Interaction({**fields, "item_id": torch.full((4,), item)}))
            assert torch.allclose(alone, everywhere[:, item], atol=1e-6)


def test_padding_stays_zero_and_outside_the_scores() -> None:
    model, dataset = build()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.calculate_loss(random_training_batch(dataset, LENGTHS)).backward()
    optimiser.step()
    assert not model.item_embedding.weight[0].any()


def test_a_batch_without_any_target_is_worth_zero() -> None:
    model, dataset = build()
    batch = random_training_batch(dataset, LENGTHS)
    batch["target_id_list"].zero_()
    loss = model.calculate_loss(batch)
    loss.backward()
    assert loss.item() == 0
    assert not model.item_embedding.weight.grad.any()


def test_unknown_positions_are_refused() -> None:
    with pytest.raises(ConfigError, match="positions"):
        build(positions="left")
