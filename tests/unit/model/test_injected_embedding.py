"""Embeddings made of frozen features behave as `nn.Embedding` does towards the model that holds them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from recbole_cdsr.model.injected_embedding import AdaptedEmbedding, ConcatenatedEmbedding, FrozenEmbedding

N_ROWS, WIDTH, FEATURES = 9, 4, 6
MASK_TOKEN = N_ROWS - 1
KNOWN = torch.tensor([False, *[True] * (N_ROWS - 2), False])  # padding first, a mask token last
KINDS = ["frozen", "adapter", "hidden", "concat"]


def features(width: int = FEATURES) -> torch.Tensor:
    values = torch.randn(N_ROWS, width, generator=torch.Generator().manual_seed(1))
    return values * KNOWN.unsqueeze(1)


def make(kind: str, padding_idx: int | None = 0):
    """A table and what takes its place."""
    torch.manual_seed(0)
    table = nn.Embedding(N_ROWS, WIDTH, padding_idx=padding_idx)
    nn.init.normal_(table.weight)  # as RecBole's models do, padding included
    if kind == "frozen":
        return table, FrozenEmbedding(table, KNOWN, features(WIDTH))
    if kind == "concat":
        return table, ConcatenatedEmbedding(table, KNOWN, features(), 0.02)
    return table, AdaptedEmbedding(table, KNOWN, features(), 5 if kind == "hidden" else None, 0.02)


@pytest.mark.parametrize("kind", KINDS)
class TestAsAnEmbedding:
    def test_a_lookup_is_a_row_of_the_weight(self, kind):
        _, injected = make(kind)
        ids = torch.tensor([[3, 0, 8], [3, 1, 7]])
        for judging in (False, True):
            injected.train(not judging)
            with torch.set_grad_enabled(not judging):
                torch.testing.assert_close(injected(ids), injected.weight[ids], rtol=0, atol=1e-7)
                assert injected(ids).shape == (2, 3, WIDTH)
                assert injected(ids[:, :0]).shape == (2, 0, WIDTH)

    def test_rows_without_features_stay_the_models_own(self, kind):
        table, injected = make(kind)
        torch.testing.assert_close(injected.weight[[0, MASK_TOKEN]], table.weight[[0, MASK_TOKEN]], rtol=0, atol=0)

    def test_it_looks_like_one(self, kind):
        table, injected = make(kind)
        assert isinstance(injected, nn.Embedding)
        assert (injected.num_embeddings, injected.embedding_dim, injected.padding_idx) == (N_ROWS, WIDTH, 0)
        assert injected.weight.shape == table.weight.shape
        assert injected.weight.dtype == table.weight.dtype

    def test_what_a_model_hung_on_its_table_is_there(self, kind):
        table, _ = make(kind)
        table.bias = None  # GRU4RecCPR
        copied = FrozenEmbedding(table, KNOWN, features(WIDTH))
        assert copied.bias is None

    @pytest.mark.parametrize("padding_idx", [0, None])
    def test_the_padding_row_learns_when_a_plain_table_would(self, kind, padding_idx):
        _, injected = make(kind, padding_idx)
        injected(torch.tensor([0, 0, MASK_TOKEN])).sum().backward()
        looked_up = injected.own.grad[0]
        assert bool(looked_up.any()) is (padding_idx is None)
        assert (injected.own.grad[-1] == 1).all()  # the mask token's row

        injected.own.grad = None
        injected.weight.sum().backward()  # a plain weight passes a gradient to every row
        assert (injected.own.grad[0] == 1).all()

    def test_features_are_not_in_the_state(self, kind):
        _, injected = make(kind)
        assert not {"features", "vectors", "known", "_places"} & injected.state_dict().keys()

    def test_a_state_restores_the_rows(self, kind):
        _, injected = make(kind)
        _, other = make(kind)
        with torch.no_grad():
            for parameter in injected.parameters():
                parameter.add_(torch.randn_like(parameter))
        other.eval()
        with torch.no_grad():
            assert not torch.equal(other.weight, injected.weight)
            other.load_state_dict(injected.state_dict())
            assert torch.equal(other.weight, injected.weight)

    def test_training_moves_what_may_move_and_nothing_else(self, kind):
        _, injected = make(kind)
        before = {name: buffer.clone() for name, buffer in injected.named_buffers()}
        vectors = injected.weight.detach().clone()
        optimizer = torch.optim.Adam(injected.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            (injected.weight - 1).square().sum().backward()
            optimizer.step()
        for name, buffer in injected.named_buffers():
            assert torch.equal(buffer, before[name]), name
        moved = (injected.weight != vectors).any(dim=1)
        assert moved[~KNOWN].all()
        assert moved[KNOWN].any() == (kind != "frozen")


@pytest.mark.parametrize("kind", KINDS)
class TestKeptWhileJudging:
    def test_the_whole_table_is_computed_once(self, kind, monkeypatch):
        _, injected = make(kind)
        calls = []
        monkeypatch.setattr(injected, "rows", lambda ids, rows=injected.rows: calls.append(ids) or rows(ids))
        injected.eval()
        with torch.no_grad():
            first = injected.weight
            assert injected.weight is first
            assert torch.equal(injected(torch.tensor([2, 5])), first[[2, 5]])
        assert calls == [None]

    @pytest.mark.parametrize("optimizer", ["adam", "fused adam", "sgd", "by hand", "load_state_dict"])
    def test_a_changed_parameter_is_seen(self, kind, optimizer):
        _, injected = make(kind)
        injected.eval()
        with torch.no_grad():
            before = injected.weight.clone()
        if optimizer == "by hand":
            with torch.no_grad():
                injected.own[0] += 1
        elif optimizer == "load_state_dict":
            injected.load_state_dict({name: value + 1 for name, value in injected.state_dict().items()})
        else:
            make_optimizer = torch.optim.SGD if optimizer == "sgd" else torch.optim.Adam
            fused = {"fused": True} if optimizer == "fused adam" else {}
            (injected.weight + 1).square().sum().backward()
            make_optimizer(injected.parameters(), lr=0.1, **fused).step()
        with torch.no_grad():
            assert not torch.equal(injected.weight, before)

    def test_gradients_flow_although_something_was_kept(self, kind):
        _, injected = make(kind)
        injected.eval()
        with torch.no_grad():
            _ = injected.weight
        assert injected.weight.requires_grad
        assert injected(torch.tensor([1])).requires_grad

    def test_a_copy_and_another_precision_start_afresh(self, kind):
        _, injected = make(kind)
        injected.eval()
        with torch.no_grad():
            _ = injected.weight
            assert copy.deepcopy(injected)._whole is None
            assert injected.double().weight.dtype == torch.float64


class TestStart:
    @pytest.mark.parametrize("kind", ["adapter", "hidden"])
    def test_an_adapter_starts_with_the_given_spread(self, kind):
        _, injected = make(kind)
        assert float(injected.weight[KNOWN].detach().std()) == pytest.approx(0.02, rel=1e-4)

    def test_concatenation_starts_as_half_table_and_half_text(self):
        table, injected = make("concat")
        text = injected.weight[KNOWN] * 2**0.5 - table.weight[KNOWN]
        assert float(text.detach().std()) == pytest.approx(0.02, rel=1e-3)

    def test_the_formulas(self):
        _, injected = make("hidden")
        first, _, second = injected.adapter
        hidden = F.gelu(features() @ first.weight.T + first.bias)
        torch.testing.assert_close(injected.weight[KNOWN], (hidden @ second.weight.T + second.bias)[KNOWN])

        _, injected = make("concat")
        both = torch.cat([injected.own, features()], dim=1)
        expected = both @ injected.projection.weight.T + injected.projection.bias
        torch.testing.assert_close(injected.weight[KNOWN], expected[KNOWN])

    def test_each_distinct_id_is_computed_once(self, monkeypatch):
        _, injected = make("adapter")
        sizes = []
        monkeypatch.setattr(injected, "rows", lambda ids, rows=injected.rows: sizes.append(len(ids)) or rows(ids))
        injected(torch.zeros(64, 50, dtype=torch.int64))
        assert sizes == [1]

    def test_initialising_anew_is_refused(self):
        _, injected = make("adapter")
        with pytest.raises(NotImplementedError, match="inject again"):
            injected.reset_parameters()
