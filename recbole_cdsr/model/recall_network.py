"""The recall network of LLMCDSR: from generated texts to real items of another domain.

LLMCDSR, ACM TOIS 43(5), 2025, Relevance-Aware Meta Recall Network.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RecallNetwork(nn.Module):
    r"""Pools a user's generated texts and recalls the items of a domain o that are nearest to them.

    .. math::
        Z &= T P_o^\top, \qquad z = \sum_j \mathrm{softmax}_j(w_o \cdot Z_j)\, Z_j \\
        R &= \text{top-}k_{v \in V_o} \cos(z, e_o(v))

    :math:`P_o` and :math:`e_o` come from the contrastive pre-training of domain o and stay fixed; :math:`w_o` is all
    that the meta-learning trains. Pooling and recall never run in half precision, so that the shadow step and the real
    one, which autocast may surround, recall the same items.

    Parameters
    ----------
    domain_offsets : np.ndarray
        int64 ``[K + 1]``, items of domain k are ``offsets[k] .. offsets[k + 1] - 1``.
    text_width : int
        D, width of the text features.
    width : int
        Width in which is pooled and compared: d; D when texts are compared as they are.
    n_recalled : int
        k, items recalled at most; a domain with fewer items gives them all.
    aligned : bool
        False compares raw texts: no projection, the items' own text vectors as their table.
    """

    def __init__(
        self, domain_offsets: np.ndarray, text_width: int, width: int, n_recalled: int, aligned: bool = True
    ) -> None:
        super().__init__()
        n_domains, n_items = len(domain_offsets) - 1, int(domain_offsets[-1])
        self.domain_offsets = [int(offset) for offset in domain_offsets]
        self.recall_sizes = [min(n_recalled, size) for size in np.diff(domain_offsets).tolist()]
        self.n_recalled = n_recalled
        self.aligned = aligned
        self.pooling = nn.Parameter(torch.zeros(n_domains, width))  # w_o, [K, width]
        if aligned:
            # Kept in checkpoints: what was recalled in training can be explained from a checkpoint alone.
            self.register_buffer("projections", torch.zeros(n_domains, width, text_width))  # P_o
            self.register_buffer("item_table", torch.zeros(n_items, width))  # e_o(v) of every domain, row 0 is padding
        else:
            self.register_buffer("item_table", torch.zeros(n_items, width), persistent=False)
        self._directions: tuple[tuple[int, int], Tensor] | None = None

    @torch.no_grad()
    def set_domain(self, domain: int, projection: Tensor, items: Tensor) -> None:
        """Take what the pre-training of a domain gave.

        Parameters
        ----------
        domain : int
            o.
        projection : Tensor
            ``[d, D]``, P_o.
        items : Tensor
            ``[n_o, d]``, e_o, a row per item of the domain in the order of ids, no padding row.
        """
        start, stop = self.domain_offsets[domain : domain + 2]
        self.projections[domain].copy_(projection)
        self.item_table[start:stop].copy_(items)

    def project(self, texts: Tensor, into: int) -> Tensor:
        """Z = T P_oᵀ: ``[..., D]`` to ``[..., d]``; texts that are compared raw pass as they are."""
        return texts @ self.projections[into].T if self.aligned else texts

    @torch.no_grad()
    def project_into_all(self, texts: Tensor) -> Tensor:
        """Z of every text for every domain that it may be recalled into: ``[V, D]`` to ``[K, V, d]``."""
        n_domains = len(self.recall_sizes)
        if not self.aligned:
            return texts.expand(n_domains, -1, -1)  # the same for all, not copied
        return torch.stack([self.project(texts, domain) for domain in range(n_domains)])

    def pool(self, projected: Tensor, counts: Tensor, into: Tensor) -> tuple[Tensor, Tensor]:
        """Attention pooling with the pooling vector of the domain that is recalled into.

        Parameters
        ----------
        projected : Tensor
            ``[E, m, d]``, Z of E users, rows beyond a user's count are padding.
        counts : Tensor
            int64 ``[E]``, generated texts of each, ≥ 1.
        into : Tensor
            int64 ``[E]``, domain o of each.

        Returns
        -------
        tuple[Tensor, Tensor]
            z ``[E, d]`` and the weights of the texts ``[E, m]``, which add up to 1.
        """
        with torch.autocast(projected.device.type, enabled=False):
            scores = torch.einsum("emd,ed->em", projected, self.pooling[into])  # w_o · Z_j
            padding = torch.arange(projected.shape[1], device=counts.device) >= counts[:, None]  # [E, m]
            weights = scores.masked_fill(padding, -torch.inf).softmax(dim=1)  # [E, m]
            return torch.einsum("em,emd->ed", weights, projected), weights

    @torch.no_grad()
    def recall(self, pooled: Tensor, into: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest items of domain o by cosine.

        Parameters
        ----------
        pooled : Tensor
            ``[E, d]``, z.
        into : Tensor
            int64 ``[E]``.

        Returns
        -------
        tuple[Tensor, Tensor]
            Item ids, int64 ``[E, k]``, by descending cosine, and the cosines. Where the domain has fewer than k items
            the columns beyond them hold 0 and −∞.
        """
        with torch.autocast(pooled.device.type, enabled=False):
            items = torch.zeros(len(pooled), self.n_recalled, dtype=torch.long, device=pooled.device)
            cosines = pooled.new_full(items.shape, -torch.inf)
            directions = self._item_directions()
            pooled = F.normalize(pooled.detach(), dim=1)
            for domain, size in enumerate(self.recall_sizes):
                rows = (into == domain).nonzero().squeeze(1)
                if not len(rows):
                    continue
                start, stop = self.domain_offsets[domain : domain + 2]
                found, places = largest(pooled[rows] @ directions[start:stop].T, size)  # [r, n_o] -> [r, k_o]
                items[rows, :size] = start + places
                cosines[rows, :size] = found
        return items, cosines

    def recalled_at_random(self, into: Tensor) -> Tensor:
        """Items of domain o drawn uniformly (with replacement) in place of recalled ones, int64 ``[E, k]``."""
        offsets = torch.tensor(self.domain_offsets, device=into.device)
        sizes = torch.tensor(self.recall_sizes, device=into.device)[into]  # [E]
        start, n_items = offsets[into], offsets[into + 1] - offsets[into]  # [E]
        uniform = torch.rand(len(into), self.n_recalled, device=into.device, dtype=torch.float64)
        drawn = start[:, None] + (uniform * n_items[:, None]).long()  # [E, k]
        beyond = torch.arange(self.n_recalled, device=into.device) >= sizes[:, None]
        return drawn.masked_fill_(beyond, 0)

    def _item_directions(self) -> Tensor:
        """e_o(v) at length 1, ``[n_items, d]``; the table is fixed in stage 3, so once is enough."""
        key = (self.item_table.data_ptr(), self.item_table._version)
        if self._directions is None or self._directions[0] != key:
            self._directions = (key, F.normalize(self.item_table, dim=1))
        return self._directions[1]


def largest(values: Tensor, k: int, block: int = 64) -> tuple[Tensor, Tensor]:
    """The k largest of each row of ``[r, n]`` and their columns, in descending order, each ``[r, k]``.

    They lie in the k blocks of columns whose largest values are largest, so that only those are sorted.
    """
    n_blocks = values.shape[1] // block
    if n_blocks < 4 * k:
        return values.topk(k, dim=1)
    whole = values[:, : n_blocks * block].unflatten(1, (n_blocks, block))
    chosen = whole.amax(dim=2).topk(k, dim=1).indices  # [r, k]
    columns = (chosen[:, :, None] * block + torch.arange(block, device=values.device)).flatten(1)
    rest = torch.arange(n_blocks * block, values.shape[1], device=values.device).expand(len(values), -1)
    columns = torch.cat([columns, rest], dim=1)  # [r, c]
    found = values.gather(1, columns).topk(k, dim=1)
    return found.values, columns.gather(1, found.indices)


def padded_names(name_ids: np.ndarray, pointers: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The names of some users as one block.

    Parameters
    ----------
    name_ids : np.ndarray
        int64 ``[M]``, of all users.
    pointers : np.ndarray
        int64 ``[P + 1]``, user p owns ``name_ids[pointers[p]:pointers[p + 1]]``.
    chosen : np.ndarray
        int64 ``[E]``, which users.

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        int64 ``[E, m]`` with 0 for padding, m the longest, and the counts int64 ``[E]``.
    """
    counts = pointers[chosen + 1] - pointers[chosen]  # [E]
    columns = np.arange(max(int(counts.max(initial=0)), 1))
    real = columns < counts[:, None]  # [E, m]
    block = np.zeros(real.shape, dtype=np.int64)
    block[real] = name_ids[(pointers[chosen][:, None] + columns)[real]]
    return block, counts
