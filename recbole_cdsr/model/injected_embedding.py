"""Embeddings whose rows come from frozen text features: what takes the place of a model's `nn.Embedding`.

A model sees an embedding still: it looks rows up, reads ``weight`` to score all items at once, and asks for
``num_embeddings`` or ``embedding_dim``. So one table serves look-ups and scores alike, as it did before.

Rows without features (padding, mask tokens, users without a history) stay the model's own trainable vectors. The
features are buffers outside the state dict: a checkpoint holds what was trained.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class InjectedEmbedding(nn.Embedding):
    """The common part: rows by id, the whole table, and what a model reads of an embedding.

    Subclasses say what the rows with features are made of.

    Parameters
    ----------
    table : nn.Embedding
        The embedding this one takes the place of.
    known : Tensor
        bool ``[n_rows]``, the rows that have features.
    """

    mode: str

    def __init__(self, table: nn.Embedding, known: Tensor) -> None:
        nn.Module.__init__(self)  # nn.Embedding's own would make a table
        self.num_embeddings, self.embedding_dim = table.num_embeddings, table.embedding_dim
        self.padding_idx = table.padding_idx
        self.max_norm, self.norm_type = None, 2.0
        self.scale_grad_by_freq, self.sparse = False, False
        for name in vars(table).keys() - vars(nn.Embedding(1, 1)).keys():
            setattr(self, name, getattr(table, name))  # what a model hung on it (GRU4RecCPR: a bias of None)
        self.register_buffer("known", known, persistent=False)
        self._whole: tuple[tuple[tuple[int, int], ...], Tensor] | None = None

    def reset_parameters(self) -> None:
        """Refused: what the rows start from is decided when the features are injected."""
        raise NotImplementedError("An injected embedding is not initialised anew; build the model and inject again.")

    def rows(self, ids: Tensor | None) -> Tensor:
        """Rows of the given ids ``[m]``, all of them for None: ``[m, width]``."""
        raise NotImplementedError

    @property
    def weight(self) -> Tensor:
        """The whole table, ``[n_rows, width]``, differentiable; kept between calls when judging."""
        kept = self._kept()
        if kept is not None:
            return kept
        whole = self.rows(None)
        if not self.training and not torch.is_grad_enabled():
            self._whole = (self._state(), whole)
        return whole

    def _kept(self) -> Tensor | None:
        if torch.is_grad_enabled():
            self._whole = None  # a step may follow, and fused optimisers leave no trace of theirs
        if self._whole is not None and self._whole[0] != self._state():
            self._whole = None
        return None if self._whole is None else self._whole[1]

    def _state(self) -> tuple[tuple[int, int], ...]:
        """Changes when a parameter is replaced or written to in place."""
        return tuple((parameter.data_ptr(), parameter._version) for parameter in self.parameters())

    def forward(self, input: Tensor) -> Tensor:  # nn.Embedding's name of the argument
        """Rows of ids of any shape, ``[..., width]``; each distinct id is computed once."""
        kept = self._kept()
        if kept is not None:
            return F.embedding(input, kept)
        distinct, places = torch.unique(input, return_inverse=True)
        return F.embedding(places, self.rows(distinct))

    def train(self, mode: bool = True) -> InjectedEmbedding:
        """Switch between training and judging; what was computed for judging is dropped."""
        self._whole = None
        return super().train(mode)

    def _apply(self, fn: object, recurse: bool = True) -> InjectedEmbedding:
        self._whole = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_whole": None}

    def extra_repr(self) -> str:
        """As `nn.Embedding`, with the mode and the number of rows that have features."""
        return f"{super().extra_repr()}, llm_injection={self.mode}, rows with features={int(self.known.sum())}"


class _OwnRows(InjectedEmbedding):
    """Keeps trainable vectors for the rows without features only; the others are made of a buffer, `_described`."""

    _described: str

    def __init__(self, table: nn.Embedding, known: Tensor) -> None:
        super().__init__(table, known)
        unknown = (~known).nonzero().squeeze(1)  # [n_own]
        places = torch.zeros(len(known), dtype=torch.int64, device=known.device)  # [n_rows]
        places[unknown] = torch.arange(len(unknown), device=known.device)
        self.register_buffer("_places", places, persistent=False)
        self._own_padding: int | None = None
        if table.padding_idx is not None and not known[table.padding_idx]:
            self._own_padding = int(places[table.padding_idx])
        self.own = nn.Parameter(table.weight.detach()[unknown].clone())  # [n_own, width]
        # Features [m, D] -> rows [m, ...] of what `_described` keeps, as they were brought into it; None where the
        # embedding was made of rows that nobody says the origin of.
        self.described_by: Callable[[np.ndarray], np.ndarray] | None = None

    def append(self, features: np.ndarray) -> None:
        """Give the table rows of further items behind its own, made of features alone.

        Parameters
        ----------
        features : np.ndarray
            float32 ``[m, D]``, from where the features of the other rows come.
        """
        buffer = getattr(self, self._described)
        rows = torch.from_numpy(self.described_by(features)).to(buffer)  # [m, ...]
        more = len(rows)
        setattr(self, self._described, torch.cat([buffer, F.pad(rows, (0, buffer.shape[1] - rows.shape[1]))]))
        self.known = torch.cat([self.known, self.known.new_ones(more)])
        self._places = torch.cat([self._places, self._places.new_zeros(more)])
        self.num_embeddings += more
        self._whole = None

    def _with_own(self, vectors: Tensor, ids: Tensor | None) -> Tensor:
        """`vectors` ``[m, width]`` with the model's own rows where there are no features."""
        if not len(self.own):
            return vectors
        known, places = self.known, self._places
        padding = None  # the whole table passes a gradient to the padding row, as `nn.Embedding.weight` does
        if ids is not None:
            known, places, padding = known[ids], places[ids], self._own_padding
        own = F.embedding(places, self.own, padding_idx=padding)
        return torch.where(known.unsqueeze(1), vectors.to(own.dtype), own)


class FrozenEmbedding(_OwnRows):
    """``e(v)`` is a fixed vector.

    Parameters
    ----------
    table, known
        As `InjectedEmbedding`.
    vectors : Tensor
        float32 ``[n_rows, width]``, anything where `known` is False.
    """

    mode = "frozen"
    _described = "vectors"

    def __init__(self, table: nn.Embedding, known: Tensor, vectors: Tensor) -> None:
        super().__init__(table, known)
        self.register_buffer("vectors", vectors, persistent=False)

    def rows(self, ids: Tensor | None) -> Tensor:
        """Rows of the given ids ``[m]``, all of them for None: ``[m, width]``."""
        return self._with_own(self.vectors if ids is None else self.vectors[ids], ids)


class AdaptedEmbedding(_OwnRows):
    """``e(v) = adapter(x_v)`` with the frozen features x.

    Parameters
    ----------
    table, known
        As `InjectedEmbedding`.
    features : Tensor
        float32 ``[n_rows, D]``, zero where `known` is False.
    hidden : int or None
        Width of a hidden layer, ``adapter(x) = W2 GELU(W1 x + b1) + b2``; None: ``adapter(x) = W x + b``.
    std : float
        Standard deviation of the entries of the rows with features, at the start.
    """

    mode = "adapter"
    _described = "features"

    def __init__(self, table: nn.Embedding, known: Tensor, features: Tensor, hidden: int | None, std: float) -> None:
        super().__init__(table, known)
        self.register_buffer("features", features, persistent=False)
        sizes = [features.shape[1], *([] if hidden is None else [hidden]), table.embedding_dim]
        layers = [nn.Linear(size, following) for size, following in pairwise(sizes)]
        for layer in layers:
            nn.init.normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.adapter = layers[0] if hidden is None else nn.Sequential(layers[0], nn.GELU(), layers[1])
        self.adapter.to(features.device)
        with torch.no_grad():
            layers[-1].weight.mul_(std / self.adapter(features[known]).std())

    def rows(self, ids: Tensor | None) -> Tensor:
        """Rows of the given ids ``[m]``, all of them for None: ``[m, width]``."""
        return self._with_own(self.adapter(self.features if ids is None else self.features[ids]), ids)


class ConcatenatedEmbedding(InjectedEmbedding):
    """``e(v) = W [t_v ; x_v] + b`` with the model's own table t and the frozen features x.

    It starts as ``(t_v + P x_v) / sqrt(2)``, P random; where ``P x`` has as much spread as t, so have the rows.

    Parameters
    ----------
    table, known
        As `InjectedEmbedding`.
    features : Tensor
        float32 ``[n_rows, D]``, zero where `known` is False.
    std : float
        Standard deviation of the entries of ``P x_v``, at the start.
    own_factor : float
        What the rows of `table` that have features are multiplied with to become t_v.
    """

    mode = "concat"

    def __init__(
        self, table: nn.Embedding, known: Tensor, features: Tensor, std: float, own_factor: float = 1.0
    ) -> None:
        super().__init__(table, known)
        width = table.embedding_dim
        self.register_buffer("features", features, persistent=False)
        self.own = nn.Parameter(table.weight.detach().clone())  # [n_rows, width]
        self.projection = nn.Linear(width + features.shape[1], width, device=features.device)
        with torch.no_grad():
            self.own[known] *= own_factor
            text = torch.randn(width, features.shape[1]).to(features.device)  # [width, D], the same on every device
            text *= std / (features[known] @ text.T).std()
            self.projection.weight.copy_(torch.cat([torch.eye(width, device=text.device), text], dim=1) / 2**0.5)
            self.projection.bias.zero_()

    def rows(self, ids: Tensor | None) -> Tensor:
        """Rows of the given ids ``[m]``, all of them for None: ``[m, width]``."""
        known, own, features = self.known, self.own, self.features
        if ids is not None:
            known, features = known[ids], features[ids]
            own = F.embedding(ids, own, padding_idx=self.padding_idx)
        vectors = self.projection(torch.cat([own, features], dim=1))  # [m, width]
        return torch.where(known.unsqueeze(1), vectors.to(own.dtype), own)
