"""Cross-domain data for RecBole: its sequential and its general dataset, under what `cross_domain` says of both.

What differs between models is only how training rows are laid out (one per user, one per prefix, one per interaction).
RecBole's dataloaders call `dataset[index]`: there windows are cut, negatives drawn and fields named.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.interaction import Interaction
from scipy.sparse import coo_matrix, csr_matrix

from recbole_cdsr.config_data import ROW_ID, TARGET_DOMAIN
from recbole_cdsr.data.cross_domain import CrossDomainMixin
from recbole_cdsr.data.negatives import InDomainNegatives
from recbole_cdsr.data.sequences import Rows, recbole_order
from recbole_cdsr.data.training_draws import PrefixDraws, UserDraws
from recbole_cdsr.data.windows import RowTable, WindowColumn, WindowCutter, row_numbers
from recbole_cdsr.errors import DataError
from recbole_cdsr.llm.prefix_profiles import USER_PROFILE


class CrossDomainGeneralDataset(CrossDomainMixin, Dataset):
    """Interactions for RecBole's general models: every training interaction, each user's first included."""

    def build(self) -> list[CrossDomainGeneralDataset]:
        """Training interactions in RecBole's order, and one row per judged user."""
        self._change_feat_format()
        self._drop_unused_col()
        log = self.log
        positions = log.training_positions(self.fold_in)
        # RecBole orders by time from file order; the log's own order breaks ties by user.
        in_file_order = positions[np.argsort(log.order[positions], kind="stable")]
        train = in_file_order[recbole_order(log.users[in_file_order], log.times[in_file_order])]
        return [
            self._split("train", train, {}),
            *(
                self._split(phase, rows.targets, {ROW_ID: torch.arange(len(rows))})
                for phase, (rows, _) in ((phase, self._judged(phase)) for phase in ("valid", "test"))
            ),
        ]

    def _split(self, phase: str, positions: np.ndarray, fields: dict[str, torch.Tensor]) -> CrossDomainGeneralDataset:
        places = torch.from_numpy(self.log.order[positions])
        table = {field: column[places] for field, column in self.inter_feat.interaction.items()}
        domains = torch.from_numpy(self.item_domain[self.log.items[positions]])
        split = self.copy(Interaction(table | {TARGET_DOMAIN: domains} | fields))
        split.phase = phase
        return split

    def _recbole_user_order(self, rows: Rows) -> np.ndarray:
        # RecBole splits user by user, users in the order of their first interaction.
        return np.lexsort((self.log.order[rows.starts], self.log.times[rows.starts]))


class CrossDomainSequentialDataset(CrossDomainMixin, SequentialDataset):
    """Windows for sequential models: a row per prefix (RecBole's, and ours that ask for it) or a row per user."""

    def data_augmentation(self) -> None:
        """Take the place of RecBole's augmentation: remember where windows are instead of storing them."""
        self._aug_presets()
        order = torch.from_numpy(self.log.order)
        self._columns = {field: column[order] for field, column in self.inter_feat.interaction.items()}
        self._list_fields = {
            field: getattr(self, f"{field}_list_field") for field in self._columns if field != self.uid_field
        }
        rows_per = getattr(self.config.model_class, "rows_per", None)
        self.per_user = rows_per == "user"
        self.for_ours = rows_per is not None  # a model of this package: windows of items only, negatives from us
        self._cutter = WindowCutter(self._columns, self.max_item_list_len, fixed_length=not self.for_ours)
        self._take_rows(self.log.all_rows())

    def _take_rows(self, rows: Rows) -> None:
        self.rows = rows
        targets = torch.from_numpy(rows.targets)
        table = {field: column[targets] for field, column in self._columns.items() if field in self.inter_feat}
        lengths = np.minimum(rows.targets - rows.starts, self.max_item_list_len)
        table[self.item_list_length_field] = torch.from_numpy(lengths)
        windows = {name: WindowColumn(self._cutter, rows, field) for field, name in self._list_fields.items()}
        self.inter_feat = RowTable(table, windows)

    def _view(self, rows: Rows, phase: str) -> CrossDomainSequentialDataset:
        view = copy.copy(self)
        view.phase = phase
        view._take_rows(rows)
        return view

    def _recbole_user_order(self, rows: Rows) -> np.ndarray:
        # RecBole splits user by user, users in the order of their first row, whose target is the second interaction.
        return np.argsort(self.log.times[rows.starts + 1], kind="stable")

    def build(self) -> list[CrossDomainSequentialDataset]:
        """Training rows as the model wants them, and the judged rows, the same for every model.

        Raises
        ------
        DataError
            No user has two training interactions.
        """
        self._change_feat_format()
        self._drop_unused_col()
        rows = self.log.user_rows(self.fold_in) if self.per_user else self.log.prefix_rows(self.fold_in)
        if not len(rows):
            raise DataError(
                f"'{self.dataset_name}' has no user with two training interactions; there is nothing to train on."
            )
        train = self._view(rows, "train")
        if self.for_ours:
            train._prepare_draws()
        return [train, *(self._view(self._judged(phase)[0], phase) for phase in ("valid", "test"))]

    def _prepare_draws(self) -> None:
        log = self.log
        trained = log.training_positions(self.fold_in)
        self.negatives = InDomainNegatives(log.users[trained], log.items[trained], self.user_num, self.domain_offsets)
        drawn_from = (self.config, log, self.item_domain, self.negatives)
        if self.per_user:
            pairs = getattr(self.config.model_class, "needs_domain_pairs", False)
            self._draws = UserDraws(*drawn_from, self.rows, self.domain_offsets if pairs else None)
        else:
            self._draws = PrefixDraws(*drawn_from)

    def __getitem__(self, index: int | slice | list[int] | np.ndarray | torch.Tensor, join: bool = True) -> Interaction:
        """A batch of rows with their windows.

        Parameters
        ----------
        index
            Row numbers of this dataset.
        join
            Add user and item features, as RecBole does; our models take none.

        Returns
        -------
        Interaction
            Fields as in `docs/architecture.md`.
        """
        index = np.atleast_1d(row_numbers(index, len(self)))
        rows, chosen = self.rows.take(index), torch.from_numpy(index)
        windows = self._cutter.cut(rows)
        fields = {field: column[chosen] for field, column in self.inter_feat.interaction.items()}
        for field, name in self._list_fields.items():
            if field == self.iid_field or not self.for_ours:
                fields[name] = windows.values(field)
        fields[TARGET_DOMAIN] = torch.from_numpy(self.item_domain[self.log.items[rows.targets]])
        if self.phase in ("valid", "test"):
            fields[ROW_ID] = chosen
        elif self.phase == "train" and self.for_ours:
            fields.update(self._draws.fields(index, rows, windows))
            if self.config["training_profiles"] == "prefix" and self.prefix_profiler is not None:
                fields[USER_PROFILE] = torch.from_numpy(self.prefix_profiler.profiles(self.log.items, rows))
        batch = Interaction(fields)
        return self.join(batch) if join and not self.for_ours else batch

    def inter_matrix(self, form: str = "coo", value_field: str | None = None) -> coo_matrix | csr_matrix:
        """Sparse matrix of the training interactions (`[n_users, n_items]`), as RecBole's method of this name."""
        flat = torch.from_numpy(self.log.training_positions(self.fold_in))
        table = Interaction({field: column[flat] for field, column in self._columns.items()})
        return self._create_sparse_matrix(table, self.uid_field, self.iid_field, form, value_field)


CrossDomainDataset = CrossDomainSequentialDataset | CrossDomainGeneralDataset
